/** What a partner says of its own place, said of the place below the prefix: by itself, and with the cookie jars of real clients. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { GatewayConfig } from '../../src/config/config.ts';
import { createResponseFields } from '../../src/gateway/response-fields.ts';
import { startLab } from '../support/lab.ts';

const ROOT: GatewayConfig = { prefix: '/eco', scheme: 'https', host: 'eco.example', port: 443, basePath: '', rewrite: ['locations', 'cookies', 'cookie-security'], encodedSlashes: 'refuse' };
const BASE: GatewayConfig = { ...ROOT, basePath: '/base' };

interface Asked {
  readonly gateway?: GatewayConfig;
  readonly target?: string;
  readonly secure?: boolean;
}

const map = (name: string, value: string, { gateway = BASE, target = '/base/a/b', secure = true }: Asked = {}): string | null => createResponseFields(gateway)(target, secure)(name, value);

t.test('redirects of the partner stay inside the prefix, others are left alone', async (t) => {
  const cases: [value: string, expected: string][] = [
    ['/base/login', '/eco/login'],
    ['/base', '/eco'],
    ['/base?x', '/eco?x'],
    ['/base#f', '/eco#f'],
    ['/basement', '/basement'],
    ['/other', '/other'],
    ['https://eco.example/base/a?b#c', '/eco/a?b#c'],
    ['HTTPS://ECO.example:443/base/a', '/eco/a'],
    ['https://eco.example./base/a', '/eco/a'],
    ['https://eco.example:/base/a', '/eco/a'],
    ['https://eco.example:444/base/a', 'https://eco.example:444/base/a'],
    ['https://eco.example.evil/base/a', 'https://eco.example.evil/base/a'],
    ['https://eco.example@evil/base/a', 'https://eco.example@evil/base/a'],
    ['https://other.example/base', 'https://other.example/base'],
    // From behind a TLS offload.
    ['http://eco.example/base/a', '/eco/a'],
    ['http://eco.example:80/base/a', '/eco/a'],
    ['http://eco.example:443/base/a', '/eco/a'],
    ['http://eco.example:8080/base/a', 'http://eco.example:8080/base/a'],
    // The partner's name, by whatever scheme the client asks.
    ['//eco.example/base', '/eco'],
    ['//eco.example:444/base', '//eco.example:444/base'],
    ['//evil.example/base', '//evil.example/base'],
    // Relative: the same below the prefix, unless they climb.
    ['next', 'next'],
    ['?page=2', '?page=2'],
    ['#f', '#f'],
    ['', ''],
    ['../c', '/eco/c'],
    ['../../x', '../../x'],
    ['../../base/x', '/eco/x'],
    ['./c?d=..', '/eco/a/c?d=..'],
    ['c?d=/../x', 'c?d=/../x'],
    ['/base/../base/x', '/eco/x'],
    ['/base/%2e%2e/x', '/base/%2e%2e/x'],
    ['/base/../../x', '/base/../../x'],
    ['/base/..//evil.example', '/base/..//evil.example'],
    ['mailto:a@eco.example', 'mailto:a@eco.example'],
    ['javascript:/base', 'javascript:/base'],
  ];
  for (const [value, expected] of cases) {
    t.equal(map('location', value), expected, value);
    t.equal(map('content-location', value), expected, value);
  }
  t.equal(map('location', '/x', { gateway: ROOT, target: '/a' }), '/eco/x');
  // Asked for the prefix itself, the client takes another directory than the partner.
  for (const [value, expected] of [['login', '/eco/login'], ['?page=2', '?page=2'], ['#f', '#f'], ['', ''], ['mailto:a', 'mailto:a']] as const) t.equal(map('location', value, { gateway: ROOT, target: '/' }), expected, `${value} of the root`);
  for (const [value, expected] of [['base/', '/eco/'], ['login', 'login']] as const) t.equal(map('location', value, { target: '/base' }), expected, `${value} of the base path`);
  t.equal(map('location', 'https://eco.example', { gateway: ROOT }), '/eco/');
  t.equal(map('location', '../../../x', { gateway: ROOT, target: '/a/b' }), '/eco/x', 'above the root there is only the root');
  t.equal(map('location', '//evil.example', { gateway: ROOT }), '//evil.example');
  const café = Buffer.from('café').toString('latin1');
  t.equal(map('location', `/base/${café}`), `/eco/${café}`, 'as it came');
  t.equal(map('location', `../${café}?${café}`), '/eco/caf%C3%A9?caf%C3%A9', 'its bytes, and no others');
  t.equal(map('x-other', '/base/x'), '/base/x', 'no other field is touched');
});

t.test('a partner that is asked in clear and wants TLS is not sent round in a circle', async (t) => {
  const gateway: GatewayConfig = { ...ROOT, scheme: 'http', port: 80 };
  t.equal(map('location', 'https://eco.example/x', { gateway, target: '/x' }), 'https://eco.example/x');
  t.equal(map('location', 'http://eco.example/x', { gateway, target: '/x' }), '/eco/x');
});

t.test('an address is an origin too', async (t) => {
  const gateway: GatewayConfig = { ...ROOT, host: 'fd00::1', port: 8443 };
  t.equal(map('location', 'https://[fd00:0::1]:8443/x', { gateway }), '/eco/x');
  t.equal(map('location', 'http://[fd00::1]:8443/x', { gateway }), '/eco/x');
  t.equal(map('location', '//[fd00::1]/x', { gateway }), '/eco/x');
});

t.test('Refresh leads back too, however it is written', async (t) => {
  for (const [value, expected] of [
    ['5; url=/base/x', '5; url=/eco/x'],
    ['0;URL=/base/x', '0;URL=/eco/x'],
    ["5; url='/base/x' ", "5; url='/eco/x' "],
    ['5; url="http://eco.example/base/x"', '5; url="/eco/x"'],
    ['5; url = /base/x', '5; url = /eco/x'],
    ['5, /base/x', '5, /eco/x'],
    ['5; https://other.example/', '5; https://other.example/'],
    ['5', '5'],
    ['5; url="/base/x', '5; url="/eco/x'],
    ['nonsense', 'nonsense'],
  ] as const) {
    t.equal(map('refresh', value), expected, value);
  }
});

t.test('the targets of links lead back, and nothing else of them is touched', async (t) => {
  for (const [value, expected] of [
    ['</base/items?page=2>; rel="next"', '</eco/items?page=2>; rel="next"'],
    ['<https://eco.example/base/1>; rel=prev, </base/3>; rel=next, <https://cdn.example/x.css>; rel=preload', '</eco/1>; rel=prev, </eco/3>; rel=next, <https://cdn.example/x.css>; rel=preload'],
    ['</base/x>; title="a < b, </base/y> \\" </base/z>"; rel=x', '</eco/x>; title="a < b, </base/y> \\" </base/z>"; rel=x'],
    ['</base/x', '</base/x'],
    ['"</base/x>', '"</base/x>'],
    ['', ''],
  ] as const) {
    t.equal(map('link', value), expected, value);
  }
});

t.test('a cookie comes back below the prefix, and nowhere else', async (t) => {
  for (const [value, expected] of [
    ['a=1', 'a=1'],
    ['a=1; Path=/base', 'a=1; Path=/eco'],
    ['a=1; path=/base/api; HttpOnly', 'a=1; HttpOnly; Path=/eco/api'],
    ['a=1; Path=/base/; Secure', 'a=1; Secure; Path=/eco/'],
    ['a=1; Path=/', 'a=1; Path=/eco'],
    ['a=1; Path=', 'a=1'],
    ['a=1; Path=/x; Path=/base', 'a=1; Path=/eco'],
    // curl takes these for the root, Java the one in quotes, and Python the first of two.
    ['a=1; Path=x', 'a=1'],
    ['a=1; Path="/"', 'a=1'],
    ['a=1; Path=/; Path=x', 'a=1'],
    ['a=1; Path=/base; Path="/"', 'a=1'],
    // Spaces that Python skips, and an attribute that it ends there.
    ['a=1; \x85Path=/', 'a=1'],
    ['a=1; Path=/base; \xa0Path=x', 'a=1'],
    ['a=1; Path=/base path=/', 'a=1'],
    ['a=1; HttpOnly path=/', 'a=1'],
    ['a=1; \x85Domain=example', 'a=1'],
    ['a=1 path=/', null],
    ['a=1\tdomain = example', null],
    ['a=/path=/; Path=/base', 'a=/path=/; Path=/eco'],
    // Below another prefix it would be somebody else's.
    ['a=1; Path=/other', null],
    ['a=1; Path=/basement', null],
    ['a=1; Domain=eco.example; Path=/base', 'a=1; Path=/eco'],
    ['a=1; Domain=.Example', 'a=1'],
    ['a=1; Domain=', 'a=1'],
    // A client of the partner itself would not have taken these.
    ['a=1; Domain=other.example', null],
    ['a=1; Domain=x.eco.example', null],
    ['a=1; Domain=co.example', null],
    ['a="x"; Expires=Thu, 01 Jan 2037 00:00:00 GMT; Max-Age=5; Priority=High', 'a="x"; Expires=Thu, 01 Jan 2037 00:00:00 GMT; Max-Age=5; Priority=High'],
    // Quotes mean nothing to clients (RFC 6265 §5.2): this has a Path.
    ['a="; Path=/base"', null],
    ['a', 'a'],
    ['', ''],
    // Of these names for the root alone, by the rules of clients.
    ['__Host-a=1; Path=/; Secure', '__Host-a=1; Secure; Path=/'],
    ['__host-a=1; Path=/; Secure', '__host-a=1; Secure; Path=/'],
    ['__Secure-a=1; Path=/base; Secure', '__Secure-a=1; Secure; Path=/eco'],
  ] as const) {
    t.equal(map('set-cookie', value), expected, value);
  }
  t.equal(map('set-cookie', 'a=1; Path=/api', { gateway: ROOT }), 'a=1; Path=/eco/api');
  t.equal(map('set-cookie', 'a=1; Path=/', { gateway: ROOT }), 'a=1; Path=/eco');
  // The directory of the prefix itself is above it: other partners' prefixes are there.
  for (const asked of [{ gateway: ROOT, target: '/' }, { target: '/base' }]) {
    for (const path of ['', '; Path=', '; Path=x', '; Path=/base; Path']) t.equal(map('set-cookie', `a=1${path}; Secure`, asked), 'a=1; Secure; Path=/eco', path);
    t.equal(map('set-cookie', '__Host-a=1; Secure', asked), '__Host-a=1; Secure; Path=/');
  }
  t.equal(map('set-cookie2', 'a=1; Version=1; Path=/'), null, 'which Java obeys');
  t.equal(map('set-cookie', 'a=1; Domain=1.2.3.4', { gateway: { ...ROOT, host: '1.2.3.4' } }), 'a=1');
  t.equal(map('set-cookie', 'a=1; Domain=3.4', { gateway: { ...ROOT, host: '1.2.3.4' } }), null);
});

t.test('a client that asks in clear gets cookies that it sends in clear', async (t) => {
  for (const [value, expected] of [
    ['a=1; Path=/base; Secure; HttpOnly', 'a=1; HttpOnly; Path=/eco'],
    ['a=1; SameSite=None; Secure; Partitioned', 'a=1'],
    ['a=1; SameSite=Strict; secure', 'a=1; SameSite=Strict'],
  ] as const) {
    t.equal(map('set-cookie', value, { secure: false }), expected, value);
  }
  t.equal(map('set-cookie', 'a=1; SameSite=None; Secure; Partitioned'), 'a=1; SameSite=None; Secure; Partitioned', 'inside TLS they stay');
});

t.test('each kind can be switched off', async (t) => {
  const off = (...rewrite: GatewayConfig['rewrite']): Asked => ({ gateway: { ...BASE, rewrite }, secure: false });
  t.equal(map('location', '/base/x', off('cookies')), '/base/x');
  t.equal(map('link', '</base/x>', off()), '</base/x>');
  t.equal(map('set-cookie', 'a=1; Path=/base; Secure', off('locations')), 'a=1; Path=/base; Secure');
  t.equal(map('set-cookie', 'a=1; Path=x; Path="/"; Domain=other', off('cookie-security')), 'a=1; Path=x; Path="/"; Domain=other');
  t.equal(map('set-cookie2', 'a=1; Version=1; Path=/', off('locations')), 'a=1; Version=1; Path=/');
  t.equal(map('set-cookie', 'a=1; Path=/base; Secure', off('cookies')), 'a=1; Secure; Path=/eco');
  t.equal(map('set-cookie', 'a=1; Path=/other; Secure', off('cookie-security')), 'a=1; Path=/other');
});

/** Processor time of ten readings, µs. */
function cost(name: string, value: string): number {
  const before = process.cpuUsage();
  for (let i = 0; i < 10; i += 1) map(name, value);
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

t.test('the time for a value grows with its length, not faster', async (t) => {
  const values: [name: string, of: (length: number) => string][] = [
    ['location', (n) => `/${'../'.repeat(n)}`],
    ['location', (n) => `//${'x'.repeat(n)}`],
    ['refresh', (n) => `5${' '.repeat(n)}`],
    ['refresh', (n) => `${'5'.repeat(n)}x`],
    ['refresh', (n) => `5; url="${'x'.repeat(n)}`],
    ['link', (n) => '<'.repeat(n)],
    ['link', (n) => '"\\'.repeat(n)],
    ['link', (n) => '<>'.repeat(n)],
    ['set-cookie', (n) => `a=1${'; Path=/base'.repeat(n)}`],
    ['set-cookie', (n) => `a=1${' path '.repeat(n)}`],
    ['set-cookie', (n) => `a=1; Domain=${'.'.repeat(n)}`],
  ];
  for (const [name, of] of values) {
    // A quadratic reader would take 256 times as long for sixteen times as much.
    const least = (n: number): number => Math.min(...[1, 2, 3].map(() => cost(name, of(n))));
    t.ok(least(32_000) < 500 + 100 * least(2_000), `${name}: ${of(4)}`);
  }
});

t.test('thousands of relative links, in the answer to a long path: the response grows by little, and the first are right', async (t) => {
  const links = '<.>,'.repeat(16_000);
  for (const length of [10, 1_000, 60_000]) {
    const mapped = map('link', links, { target: `/base/${'x'.repeat(length)}/` }) ?? '';
    t.match(mapped.slice(0, length + 10), `</eco/${'x'.repeat(length)}/>`);
    t.ok(mapped.length < links.length + 3 * 65_536, `${length}: ${mapped.length} characters`);
  }
});

const source = (name: string): string => fileURLToPath(new URL(`../support/programs/${name}`, import.meta.url));

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { env, timeout: 50_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 127, output: stdout + stderr });
    });
  });
}

/** A partner behind a TLS offload: logs in, redirects to itself by its own name and http, and knows its visitor by a cookie. */
async function startApplication(t: Test): Promise<{ url: string; cookies: () => (string | undefined)[] }> {
  const cookies: (string | undefined)[] = [];
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      if (req.url === '/login') {
        const secure = 'Secure; HttpOnly';
        res.setHeader('Set-Cookie', [`session=s1; Path=/api; Domain=eco-sit.telus.internal; ${secure}`, `theme=t1; Path=/; ${secure}; SameSite=None`, 'wide=w1; Path=/api; Domain=telus.internal', 'not-ours=n1; Path=/']);
        res.writeHead(302, { Location: `http://${req.headers.host ?? ''}/api/page` });
        res.end();
        return;
      }
      if (req.url === '/api/page') {
        cookies.push(req.headers.cookie);
        // A page of its own for a browser: it asks again by script.
        res.setHeader('Content-Type', 'text/html');
        res.end('<title>seen</title><p>hello-from-eco</p>');
        return;
      }
      res.statusCode = 404;
      res.end();
    },
  });
  return { url: `${lab.url}/eco/login`, cookies: () => cookies };
}

/** How each client is asked to log in, and follow. */
const CLIENTS: readonly { readonly name: string; readonly probe: readonly [string, readonly string[]]; readonly visit: (url: string, home: string) => readonly [string, readonly string[]] }[] = [
  { name: 'curl', probe: ['curl', ['--version']], visit: (url, home) => ['curl', ['--silent', '--show-error', '--location', '--max-redirs', '3', '--cookie-jar', join(home, 'jar'), '--cookie', join(home, 'jar'), url]] },
  { name: 'Python requests', probe: ['python3', ['-c', 'import requests']], visit: (url) => ['python3', [source('visit.py'), url]] },
  {
    name: 'a browser (Chromium)',
    probe: ['chromium', ['--version']],
    visit: (url, home) => ['chromium', ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--proxy-server=direct://', `--user-data-dir=${join(home, 'profile')}`, '--virtual-time-budget=10000', '--dump-dom', url]],
  },
];

for (const { name, probe, visit } of CLIENTS) {
  t.test(`${name} logs in below the prefix and is known there`, { timeout: 120_000 }, async (t) => {
    if ((await run(...probe)).code !== 0) {
      t.comment(`${name} is absent here, so it was not tried`);
      return;
    }
    const { url, cookies } = await startApplication(t);
    const home = t.testdir({});
    const { code, output } = await run(...visit(url, home), { PATH: process.env['PATH'], HOME: home, LANG: 'C' });
    t.match({ code, output }, { code: 0, output: /hello-from-eco/ }, 'the redirect led to the page');
    t.same(cookies().map((cookie) => cookie?.split('; ').toSorted()), [['not-ours=n1', 'session=s1', 'theme=t1', 'wide=w1']], 'and every cookie came along');
  });
}
