/** Each usual mistake in a client's variables by itself, beside what is right. */
import t from 'tap';
import { entryWithAddress, hidingEntry, hidingJavaEntry } from '../../src/doctor/answers.ts';
import { findMistakes } from '../../src/doctor/environment.ts';
import { readProxyUrl } from '../../src/doctor/proxy-address.ts';
import { clientEnvironment } from '../../src/manifests/render.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { parse } from 'yaml';

const ECO = 'eco-sit.telus.internal';
const PARTNERS = [{ host: ECO, port: 443 }];
const PROXY = 'http://eco-egress.eco-egress.svc:3128';
const NO_PROXY = 'localhost,127.0.0.1,.svc,.cluster.local,169.254.169.254,metadata.google.internal';
const JAVA = '-Dhttps.proxyHost=eco-egress.eco-egress.svc -Dhttps.proxyPort=3128 -Dhttp.nonProxyHosts=localhost|127.*|*.svc';

type Env = Record<string, string | undefined>;

const RIGHT: Env = {
  HTTPS_PROXY: PROXY,
  https_proxy: PROXY,
  HTTP_PROXY: PROXY,
  http_proxy: PROXY,
  NO_PROXY,
  no_proxy: NO_PROXY,
  NODE_USE_ENV_PROXY: '1',
  JAVA_TOOL_OPTIONS: JAVA,
};

const codesOf = (env: Env): string[] => findMistakes({ env, partners: PARTNERS }).map(({ state, code, subject }) => `${state} ${code ?? ''} ${subject}`);
const both = (name: string, value: string): Env => ({ [name]: value, [name.toLowerCase()]: value });

t.test('what is right, and nothing at all', async (t) => {
  t.strictSame(codesOf(RIGHT), []);
  t.strictSame(codesOf({}), []);
  t.strictSame(codesOf({ JAVA_TOOL_OPTIONS: '-Xmx1g' }), [], 'Java without any proxy');
});

t.test('what we give to pods is right', async (t) => {
  const { env } = parse(readDocBlocks('README.md').find(({ language }) => language === 'yaml')?.text ?? '') as { env: { name: string; value: string }[] };
  const pods = Object.entries(clientEnvironment({ namespace: 'eco-egress', clientNamespace: 'dynatrace-sit' }).data ?? {});
  // The component writes proxies in lower case too, and what Node wants besides.
  t.strictSame(codesOf({ NODE_USE_ENV_PROXY: '1', ...Object.fromEntries(pods.flatMap(([name, value]) => (name.endsWith('_PROXY') ? Object.entries(both(name, value)) : [[name, value]]))) }), []);
  t.strictSame(codesOf({ ...RIGHT, ...Object.fromEntries(env.map(({ name, value }) => [name, value])) }), []);
});

t.test('each mistake is named, and no other', async (t) => {
  for (const [change, ...expected] of [
    [both('HTTPS_PROXY', 'http://eco-egress:99999'), 'fail proxy-url-malformed HTTPS_PROXY', 'fail proxy-url-malformed https_proxy'],
    [both('HTTPS_PROXY', 'socks5://eco-egress:1080'), 'fail proxy-url-malformed HTTPS_PROXY', 'fail proxy-url-malformed https_proxy'],
    [both('HTTPS_PROXY', 'eco-egress:3128'), 'warn proxy-scheme-missing HTTPS_PROXY', 'warn proxy-scheme-missing https_proxy'],
    [{ https_proxy: 'http://other:3128' }, 'fail variables-differ HTTPS_PROXY, https_proxy'],
    [{ no_proxy: 'localhost' }, 'fail variables-differ NO_PROXY, no_proxy'],
    [{ https_proxy: undefined }, 'warn variable-in-one-case HTTPS_PROXY'],
    [{ HTTP_PROXY: '' }, 'warn variable-in-one-case http_proxy'],
    [both('NO_PROXY', `${NO_PROXY},.telus.internal`), 'fail no-proxy-hides-partner NO_PROXY', 'fail no-proxy-hides-partner no_proxy'],
    [both('NO_PROXY', '*'), 'fail no-proxy-hides-partner NO_PROXY', 'fail no-proxy-hides-partner no_proxy'],
    [both('NO_PROXY', NO_PROXY.replace(',169.254.169.254', '')), 'warn no-proxy-incomplete NO_PROXY'],
    [{ NO_PROXY: undefined, no_proxy: undefined }, 'warn no-proxy-incomplete NO_PROXY'],
    [{ JAVA_TOOL_OPTIONS: undefined }, 'warn java-ignores-proxy JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: '-Xmx1g -Dhttp.proxyHost=a -Dhttp.proxyPort=1' }, 'fail java-ignores-proxy JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: JAVA.replace(/proxyHost=\S+/, 'proxyHost=') }, 'fail java-ignores-proxy JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: JAVA, _JAVA_OPTIONS: '-Dhttps.proxyHost=' }, 'fail java-ignores-proxy JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: JAVA.replace('proxyHost=', 'proxyHost=http://') }, 'fail java-proxy-malformed JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: JAVA.replace(/ -Dhttps.proxyPort=\d+/, '') }, 'fail java-proxy-malformed JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: `${JAVA}|*.internal` }, 'fail java-hides-partner JAVA_TOOL_OPTIONS'],
    [{ JAVA_TOOL_OPTIONS: `${JAVA.replace(/=(?=localhost)/, "='")}|*.internal'` }, 'fail java-hides-partner JAVA_TOOL_OPTIONS'],
    [{ NODE_USE_ENV_PROXY: undefined }, 'warn node-ignores-proxy NODE_USE_ENV_PROXY'],
    [{ NODE_USE_ENV_PROXY: undefined, NODE_OPTIONS: '--use-env-proxy' }],
  ] as readonly (readonly [Env, ...string[]])[]) {
    t.strictSame(codesOf({ ...RIGHT, ...change }), expected, JSON.stringify(change));
  }
});

t.test('a password in a variable is not shown', async (t) => {
  const found = findMistakes({ env: both('HTTPS_PROXY', 'ftp://user:secret@eco-egress:3128'), partners: PARTNERS });
  t.ok(found.length > 0);
  t.notMatch(JSON.stringify(found), /secret/);
});

t.test('which entry of NO_PROXY hides the partner', async (t) => {
  for (const [list, host, hides] of [
    ['internal', ECO, true],
    ['.internal', ECO, true],
    ['*.telus.internal', ECO, true],
    ['ECO-SIT.telus.internal', ECO, true],
    ['eco-sit.telus.internal:443', ECO, true],
    ['eco-sit.telus.internal:80', ECO, false],
    ['sit.telus.internal', ECO, false],
    ['nternal', ECO, false],
    ['a, b  telus.internal', ECO, true],
    ['', ECO, false],
    ['.', ECO, false],
    ['10.0.0.0/8', ECO, false],
    ['10.0.0.0/8', '10.1.2.3', true],
    ['10.0.0.0/8', '11.1.2.3', false],
    ['10.0.0.0/99', '10.1.2.3', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['fd00::/8', 'fd00::1', true],
    ['::1', '::1', true],
    ['[::1]', '::1', true],
    ['[::1]:443', '::1', true],
    ['[::1]:80', '::1', false],
    ['FD00:0::1', 'fd00::1', true],
    ['::ffff:10.1.2.3', '10.1.2.3', true],
    ['10.0.0.0/08,fe80::1%eth0,fe80::1%eth0/64,fd00::/8/8', 'fd00::1', false],
  ] as const) {
    t.equal(hidingEntry(list, host, 443) !== null, hides, `${list} ${host}`);
  }
  t.equal(entryWithAddress('10.0.0.0/08,fe80::1%eth0,10.1.0.0/16', '10.1.2.3'), '10.1.0.0/16', 'what is no address or range covers none');
  for (const [list, hides] of [['*.internal', true], ['eco-*', true], [ECO, true], ['telus.internal', false], ['a|b|*internal', true], ['*telus*', true], ['*partner*', false], ['*', true], ['', false]] as const) {
    t.equal(hidingJavaEntry(list, ECO) !== null, hides, list);
  }
});

t.test('URLs of proxies', async (t) => {
  t.match(readProxyUrl('http://eco-egress:3128'), { scheme: 'http', host: 'eco-egress', port: 3128, credentials: null });
  t.match(readProxyUrl('HTTPS://Eco-Egress/'), { scheme: 'https', host: 'eco-egress', port: 443 });
  t.match(readProxyUrl('eco-egress'), { scheme: 'http', port: 80, written: null });
  t.match(readProxyUrl('http://a:b%40c@[::1]:8'), { host: '::1', port: 8, credentials: { kind: 'basic', user: 'a', password: 'b@c' } });
  for (const wrong of ['', 'http://', 'http://a:b:c', 'ftp://a', 'http://a/x', 'http://%zz:x@a', 'http://a:0']) t.type(readProxyUrl(wrong), 'string', wrong);
});
