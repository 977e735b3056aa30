/** From a client's place: what answers at the proxy's address, and what the partner looks like through it. */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { ClientExaminationOptions } from '../../src/doctor/examine-client.ts';
import { examineClient } from '../../src/doctor/examine-client.ts';
import type { DoctorReport } from '../../src/doctor/finding.ts';
import { readProxyUrl } from '../../src/doctor/proxy-address.ts';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { faultsOf, findingsOf, lookupOf, type Patient, wordsOf } from '../support/doctor-lab.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { ECO, type Lab, labCertificates, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { startFullListener } from '../support/full-listener.ts';

interface Place extends Partial<Pick<ClientExaminationOptions, 'ca' | 'timeout' | 'only'>> {
  readonly proxy?: string | null;
  readonly url?: string;
  readonly env?: Record<string, string>;
  readonly names?: Patient['names'];
  readonly now?: () => number;
}

async function look(lab: Lab, { proxy = lab.url, url = `https://${ECO}:${lab.upstream.httpsPort}/`, env = {}, names = {}, now = Date.now, ...options }: Place = {}): Promise<DoctorReport> {
  const { protocol, hostname, port, pathname } = new URL(url);
  const read = proxy === null ? null : readProxyUrl(proxy);
  if (typeof read === 'string') throw new Error(read);
  return examineClient({
    target: { scheme: protocol === 'https:' ? 'https' : 'http', host: hostname, port: Number(port), path: pathname, where: `${hostname}:${port}` },
    proxy: read,
    host: { env, openFiles: null, now },
    ca: lab.authority.certPem,
    timeout: 5_000,
    only: [],
    lookup: lookupOf(names),
    emptyAddress: '127.0.0.9',
    ...options,
  });
}

const answering = (t: Test, text: string): Promise<number> => listen(t, createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(text))));

t.test('all is well: a tunnel, a plain URL, and a way that is steered', async (t) => {
  const lab = await startLab(t);
  const tunnel = await look(lab);
  t.strictSame(faultsOf(tunnel), []);
  t.strictSame(tunnel.checks.map(({ name }) => name), ['environment', 'names', 'way', 'past-proxy', 'tls', 'http', 'clock']);
  t.match(findingsOf(tunnel, 'http'), [{ state: 'ok', seen: 'HEAD / is answered 200' }]);

  const plain = await look(lab, { url: `http://${ECO}:${lab.upstream.httpPort}/x` });
  t.strictSame(faultsOf(plain), []);
  t.match(findingsOf(plain, 'http'), [{ state: 'ok', seen: 'HEAD /x is answered 200' }]);
  t.equal(lab.upstream.requests.at(-1)?.headers.via, '1.1 eco-egress', 'by the proxy');

  const steered = await look(lab, { proxy: null });
  t.strictSame(faultsOf(steered), []);
  t.match(findingsOf(steered, 'way'), [{ state: 'ok', seen: '127.0.0.1 accepted the connection' }]);
});

t.test('a resolver that fails: the advice names what a client has, not a key of the proxy', async (t) => {
  const lab = await startLab(t);
  for (const [proxy, name] of [[null, ECO], ['http://proxy.example:3128', 'proxy.example']] as const) {
    const report = await look(lab, { proxy, names: { [name]: 'ESERVFAIL' }, only: ['names'] });
    t.strictSame(faultsOf(report), [`names resolver-failed ${name}`]);
    t.match(findingsOf(report, 'names').find(({ state }) => state === 'fail'), { advice: /^Check that the DNS server of this host answers: \/etc\/resolv\.conf/ });
  }
});

t.test('a range in NO_PROXY that covers the partner: Ruby goes by the address', async (t) => {
  const lab = await startLab(t);
  const right = { HTTPS_PROXY: lab.url, https_proxy: lab.url, NODE_USE_ENV_PROXY: '1', JAVA_TOOL_OPTIONS: '-Dhttps.proxyHost=a -Dhttps.proxyPort=1' };
  const usual = 'localhost,.svc,.cluster.local,169.254.169.254,metadata.google.internal';
  const say = async (list: string, names: Place['names'] = { [ECO]: ['10.40.1.9'] }, env: Record<string, string> = right): Promise<string[]> =>
    faultsOf(await look(lab, { env: { ...env, NO_PROXY: list, no_proxy: list }, names, only: ['environment'] }));
  const both = ['NO_PROXY', 'no_proxy'].map((name) => `environment no-proxy-address-hides-partner ${name}`);
  for (const entry of ['10.0.0.0/8', '10.40.1.9', '10.40.1.8/31', 'fd40::/16']) t.strictSame(await say(`${usual},${entry}`, { [ECO]: ['192.0.2.1', '10.40.1.9', 'fd40::1'] }), both, entry);
  for (const entry of ['10.40.1.10', '10.40.0.0/24', 'fd40::/16', '10.0.0.0/99', '10.0.0.0/', '/8']) t.strictSame(await say(`${usual},${entry}`), [], entry);
  t.strictSame(await say(`${usual},10.0.0.0/8`, { [ECO]: 'ENOTFOUND' }), [], 'no address is known here');
  t.strictSame(await say('10.0.0.0/8', { [ECO]: ['10.40.1.9'] }, {}), [], 'no proxy to go past');
  const report = await look(lab, { env: { ...right, NO_PROXY: `${usual},10.0.0.0/8`, no_proxy: `${usual},10.0.0.0/8` }, names: { [ECO]: ['10.40.1.9'] }, only: ['environment'] });
  t.match(wordsOf(report), /its entry 10\.0\.0\.0\/8 covers 10\.40\.1\.9, an address of eco-sit\.telus\.internal: Ruby looks the name up first/);
});

t.test('a plain URL by a proxy that takes no CONNECT for it, or wants credentials', async (t) => {
  const hash = await hashPassword('correct horse battery');
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { forms: ['forward'], gateway: undefined });
      draft.clients['pods'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'pod', hash }] };
    },
  });
  const url = `http://${ECO}:${lab.upstream.httpPort}/x`;
  const right = await look(lab, { url, proxy: `http://pod:correct%20horse%20battery@127.0.0.1:${lab.port}` });
  t.strictSame(faultsOf(right), []);
  t.match(findingsOf(right, 'http'), [{ state: 'ok', seen: 'HEAD /x is answered 200' }]);
  t.strictSame(faultsOf(await look(lab, { url })), [`http credentials-missing ${ECO}:${lab.upstream.httpPort}`]);
  t.strictSame(faultsOf(await look(lab, { url, proxy: `http://pod:wrong@127.0.0.1:${lab.port}` })), [`http credentials-wrong ${ECO}:${lab.upstream.httpPort}`]);
});

t.test('a partner that asks for a client certificate: no advice about a configuration that a client does not have', async (t) => {
  const { certPem, keyPem, authority } = await labCertificates();
  const lab = await startLab(t);
  const asking = await listen(t, createHttpsServer({ cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: true, maxVersion: 'TLSv1.2' }));
  const report = await look(lab, { proxy: null, url: `https://${ECO}:${asking}/` });
  t.strictSame(faultsOf(report), [`tls tls-failed ${ECO}:${asking}`]);
  t.match(findingsOf(report, 'tls'), [{ seen: /refused the handshake/, advice: /the doctor shows none/ }]);
  t.notMatch(wordsOf(report), /certFile/);
});

t.test('names', async (t) => {
  const lab = await startLab(t);
  const by = `http://eco-egress.svc:${lab.port}`;
  t.strictSame(faultsOf(await look(lab, { proxy: by, names: { [ECO]: 'ENOTFOUND' } })), [], 'the proxy resolves the partner');
  t.strictSame(faultsOf(await look(lab, { proxy: by, names: { 'eco-egress.svc': 'ENOTFOUND' } })), ['names name-not-found eco-egress.svc']);
  t.strictSame(faultsOf(await look(lab, { proxy: null, names: { [ECO]: 'ENOTFOUND' } })), [`names name-not-found ${ECO}`]);
});

t.test('what answers at the address of the proxy', async (t) => {
  const lab = await startLab(t);
  const { certPem, keyPem } = await labCertificates();
  const tlsPort = await listen(t, createHttpsServer({ cert: certPem, key: keyPem }));
  const refusing = await findUnusedPort();
  for (const [code, proxy, words] of [
    ['connect-answered-by-sidecar', `http://127.0.0.1:${await answering(t, 'HTTP/1.1 404 Not Found\r\nserver: envoy\r\n\r\n')}`, /appProtocol: tcp/],
    ['proxy-speaks-tls', `http://127.0.0.1:${tlsPort}`, /speaks TLS/],
    ['https-proxy-on-plain-port', `https://127.0.0.1:${lab.port}`, new RegExp(`Write http://127\\.0\\.0\\.1:${lab.port}: also for https:// destinations`)],
    ['proxy-not-ours', `http://127.0.0.1:${await answering(t, 'HTTP/1.1 405 No\r\n\r\n')}`, /405 No/],
    ['connection-refused', `http://127.0.0.1:${refusing}`, /ECONNREFUSED/],
    ['connect-timeout', `http://127.0.0.1:${await startFullListener(t)}`, /network policies/],
  ] as const) {
    const report = await look(lab, { proxy, timeout: 3000 });
    t.strictSame(faultsOf(report), [`way ${code} ${proxy}`], code);
    t.match(wordsOf(report), words, code);
    t.match(findingsOf(report, 'tls'), [{ state: 'skipped' }]);
  }
});

t.test('what our proxy refuses, in its own words', async (t) => {
  const strangers = await startLab(t, { configure: (draft) => Object.assign(draft.clients['pods'] as object, { addresses: ['10.8.0.0/14'] }) });
  const refused = await look(strangers);
  t.strictSame(faultsOf(refused), [`way client-not-allowed ${strangers.url}`]);
  t.match(wordsOf(refused), /403 Egress denied: client-not-allowed.* → .*clients/);

  const lab = await startLab(t);
  t.strictSame(faultsOf(await look(lab, { url: 'https://evil.example:8443/' }).then(({ checks, ...rest }) => ({ ...rest, checks: checks.filter(({ name }) => name === 'way') }))), [`way host-not-allowed ${lab.url}`]);
  t.strictSame(faultsOf(await look(lab, { url: `http://${ECO}:${lab.port}/` })), [`http port-not-allowed ${ECO}:${lab.port}`]);
  const gone = await startLab(t, { lookup: lookupOf({ [ECO]: 'ENOTFOUND' }) });
  t.strictSame(faultsOf(await look(gone)), [`way name-not-found ${gone.url}`], 'the proxy does not find it either');
});

t.test('the partner behind it', async (t) => {
  const lab = await startLab(t);
  const unknown = await look(lab, { ca: null });
  t.strictSame(faultsOf(unknown), [`tls tls-certificate ${ECO}:${lab.upstream.httpsPort}`]);
  t.match(wordsOf(unknown), /signed by CN=test CA.*--ca FILE, or NODE_EXTRA_CA_CERTS/);
  const late = await look(lab, { now: () => Date.now() + 120_000 });
  t.strictSame(faultsOf(late), ['clock clock-skew']);
});

t.test('the environment is looked at, TLS with a plain port included', async (t) => {
  const lab = await startLab(t);
  const https = `https://127.0.0.1:${lab.port}`;
  const env = { HTTPS_PROXY: https, https_proxy: https, NODE_USE_ENV_PROXY: '1', JAVA_TOOL_OPTIONS: '-Dhttps.proxyHost=a -Dhttps.proxyPort=1', NO_PROXY: '.telus.internal,localhost,.svc,.cluster.local,169.254.169.254,metadata.google.internal', no_proxy: '' };
  const report = await look(lab, { env, only: ['environment'] });
  t.strictSame(faultsOf(report), ['environment variable-in-one-case NO_PROXY', 'environment no-proxy-hides-partner NO_PROXY', 'environment https-proxy-on-plain-port HTTPS_PROXY, https_proxy']);
  const { certPem, keyPem } = await labCertificates();
  const tls = `https://127.0.0.1:${await listen(t, createHttpsServer({ cert: certPem, key: keyPem }))}`;
  for (const [change, names] of [
    [{ HTTPS_PROXY: '', https_proxy: '', ALL_PROXY: https, all_proxy: https }, 'ALL_PROXY, all_proxy'],
    [{ HTTPS_PROXY: tls, https_proxy: tls, HTTP_PROXY: https, http_proxy: https }, 'HTTP_PROXY, http_proxy'],
    [{ HTTP_PROXY: tls, http_proxy: tls }, 'HTTPS_PROXY, https_proxy'],
  ] as const) {
    const found = faultsOf(await look(lab, { env: { ...env, ...change }, only: ['environment'] })).filter((fault) => fault.includes('plain-port'));
    t.strictSame(found, [`environment https-proxy-on-plain-port ${names}`]);
  }
  t.notMatch(faultsOf(await look(lab, { env: { ...env, HTTPS_PROXY: tls, https_proxy: tls }, only: ['environment'] })).join(), /plain-port/, 'TLS with the proxy is meant, and spoken');
});

t.test('past the proxy', async (t) => {
  const lab = await startLab(t);
  const { certPem, keyPem } = await labCertificates();
  const partner = await listenAt(t, '127.0.0.2', createHttpsServer({ cert: certPem, key: keyPem }), 0);
  const url = `https://${ECO}:${partner}/`;
  const where = `${ECO}:${partner}`;
  const past = async (place: Place & { emptyAddress?: string }): Promise<unknown[]> => [...findingsOf(await look(lab, { url, only: ['past-proxy'], ...place }), 'past-proxy')];

  t.match(await past({ names: { [ECO]: ['127.0.0.3'] } }), [{ state: 'ok', subject: where, seen: 'cannot be reached past the proxy (127.0.0.3: connection-refused)' }]);
  t.match(await past({ names: { [ECO]: ['127.0.0.3', '127.0.0.2'] } }), [{ state: 'warn', code: 'reached-past-proxy', seen: /^127\.0\.0\.2 accepted a connection that was made without the proxy/, advice: /no-direct-egress/ }]);
  t.match(await past({ names: { [ECO]: 'ENOTFOUND' } }), [{ state: 'skipped', seen: /does not resolve here/ }]);
  t.match(await past({ names: { [ECO]: ['127.0.0.1'] } }), [{ state: 'skipped', seen: /leads to the proxy/ }]);
  t.match(await past({ names: { [ECO]: ['127.0.0.2'] }, proxy: null }), [{ state: 'skipped', seen: /the doctor needs the address of the proxy: --proxy URL/ }]);
  t.match(await past({ names: {}, url: `https://127.0.0.2:${partner}/` }), [{ state: 'warn', code: 'reached-past-proxy' }], 'an address as the target');

  const silent = await startFullListener(t);
  t.match(await past({ url: `https://${ECO}:${silent}/`, proxy: 'http://127.0.0.4:1', names: { [ECO]: ['127.0.0.1'] }, timeout: 300 }), [{ state: 'ok', seen: 'cannot be reached past the proxy (127.0.0.1: connect-timeout)' }]);
});

t.test('past the proxy, where a sidecar accepts everything', async (t) => {
  const lab = await startLab(t);
  const { certPem, keyPem } = await labCertificates();
  const carried = await listenAt(t, '127.0.0.2', createHttpsServer({ cert: certPem, key: keyPem }), 0);
  await listenAt(t, '127.0.0.9', createServer((socket) => socket.destroy()), carried);
  const closing = await listenAt(t, '127.0.0.2', createServer((socket) => socket.on('error', () => {}).once('data', () => socket.destroy())), 0);
  await listenAt(t, '127.0.0.9', createServer((socket) => socket.destroy()), closing);
  const past = async (url: string, place: Place = {}): Promise<unknown[]> => [...findingsOf(await look(lab, { url, only: ['past-proxy'], names: { [ECO]: ['127.0.0.2'] }, ...place }), 'past-proxy')];

  t.match(await past(`https://${ECO}:${carried}/`), [{ state: 'warn', code: 'reached-through-sidecar', seen: /even to 127\.0\.0\.9, and carried TLS/, advice: /log of the proxy/ }]);
  t.match(await past(`https://${ECO}:${carried}/`, { ca: null }), [{ state: 'warn', code: 'reached-through-sidecar' }], 'whatever certificate it is');
  t.match(await past(`https://${ECO}:${closing}/`), [{ state: 'ok', seen: /TLS through it fails \(tls-failed\)/ }], 'a sidecar that permits only what is registered');
  t.match(await past(`http://${ECO}:${carried}/`), [{ state: 'skipped', seen: /so that a connection shows nothing/, advice: /log of the proxy/ }]);
  t.match(await past(`https://${ECO}:${carried}/`, { proxy: null }), [{ state: 'warn', code: 'reached-through-sidecar' }], 'also where no proxy is set, as in a mesh');
});

t.test('past the proxy: a connection that is reset while others are tried', async (t) => {
  const lab = await startLab(t);
  const silent = await startFullListener(t);
  await listenAt(t, '127.0.0.2', createServer((socket) => setTimeout(() => socket.resetAndDestroy(), 50)), silent);
  const report = await look(lab, { url: `https://${ECO}:${silent}/`, only: ['past-proxy'], proxy: 'http://127.0.0.4:1', names: { [ECO]: ['127.0.0.2', '127.0.0.1'] }, timeout: 300 });
  t.match(findingsOf(report, 'past-proxy'), [{ state: 'warn', code: 'reached-past-proxy', seen: /^127\.0\.0\.2 accepted/ }]);
});

/** On one address of loopback, so that each can be another host. */
async function listenAt(t: Test, host: string, server: Server, port: number): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}
