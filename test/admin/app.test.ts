import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { type AdminOptions, listenAdmin } from '../../src/admin/app.ts';
import type { AdminInfo, Readiness } from '../../src/admin/status-sources.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { StatusView } from '../../src/admin/status-view.ts';
import type { ReloadOutcome } from '../../src/reload/outcome.ts';
import { createExposition } from '../support/exposition.ts';
import { NO_CONFIGURATION, NO_TRAFFIC } from '../support/no-configuration.ts';
import { NO_EXPLAINING } from '../support/no-explaining.ts';
import { noSource } from '../support/no-source.ts';
import { schemaFaults } from '../support/schemas.ts';
import { openScene, SCENE_INFO } from '../support/status-scene.ts';

const READY: Readiness = { ready: true, reasons: [], warnings: [] };
const INFO: AdminInfo = {
  version: '1.2.3',
  instance: 'pod-1',
  configFile: '/etc/egress.yaml',
  configHash: 'abc123',
  loadedAt: 1_000,
  config: {
    mode: 'enforce',
    listeners: { http: [{ host: '0.0.0.0', port: 3128, forms: ['connect'], trustedPeers: [], proxyProtocol: 'off', believe: [] }], tls: [], admin: { host: '::', port: 9090, hosts: [] } },
    destinations: [{ name: 'eco-sit', hosts: ['eco-sit.telus.internal'], ports: [443, 80], report: false, via: [] }],
    rules: [],
  },
  enforcement: { words: 'the allowlist is <in> force' },
  ruleEnds: [
    { rule: 'rules[0]', clients: ['pods', 'b', 'c', 'd', 'e', 'f'], destinations: ['eco-sit'], owner: '<b>payments', reason: '"old" & gone', ticket: "CHG-'1'", until: 0, state: 'ended' },
    { rule: 'rules[1]', clients: ['pods'], destinations: ['eco-sit'], owner: null, reason: null, ticket: null, until: 1_000, state: 'soon' },
  ],
  limits: [{ name: 'tunnels', used: 7, limit: 2000 }, { name: 'exchanges', used: 8, limit: 4000 }],
  certificates: new Map(),
  ports: { limit: 8192, destinations: new Map([['eco-sit', { used: 6000, highWater: 6100, refused: 3 }]]), shortTunnels: [['<pods>', 77]] },
};

async function openAdmin(test: Test, parts: Partial<AdminOptions> = {}): Promise<{ url: string; port: number }> {
  const admin = await listenAdmin({ exposition: createExposition(), readiness: () => READY, info: () => INFO, explainer: NO_EXPLAINING, configuration: NO_CONFIGURATION, traffic: NO_TRAFFIC, sourceIp: noSource, ...parts }, { host: '127.0.0.1', port: 0 });
  test.teardown(() => admin.close());
  const { port } = admin.address;
  return { url: `http://127.0.0.1:${port}`, port };
}

/** Sends bytes, and returns everything received until the end. */
async function speak(port: number, bytes: string | Buffer): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let received = '';
  socket.setEncoding('latin1').on('data', (text: string) => {
    received += text;
  });
  socket.write(bytes);
  await once(socket, 'close');
  return received;
}

t.test('metrics come from the registry with the type scrapers expect', async (t) => {
  const metrics = createMetrics({ policy: { hash: 'abc123', file: '/etc/egress.yaml', loadedAt: 1_000, warnings: new Map(), clients: [], destinations: ['eco-sit'], limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] }, version: '1.2.3' });
  const { url } = await openAdmin(t, { exposition: metrics.exposition });
  const response = await fetch(`${url}/metrics`);
  t.equal(response.status, 200);
  t.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  t.equal(response.headers.get('cache-control'), 'no-store');
  t.match(await response.text(), 'eco_egress_policy_info{hash="abc123"} 1');
});

t.test('an answer that cannot be made is reported, also when its beginning has been sent', async (t) => {
  const told: string[] = [];
  const exposition = {
    contentType: 'text/plain',
    async *slices() {
      yield 'beginning\n';
      await Promise.resolve();
      throw new Error('no more');
    },
  };
  const { url } = await openAdmin(t, {
    exposition,
    info: () => {
      throw new Error('no page');
    },
    onFailed: ({ message }) => told.push(message),
  });
  await t.rejects(fetch(`${url}/metrics`).then((response) => response.text()), 'it does not look complete');
  t.equal((await fetch(`${url}/`)).status, 500);
  t.strictSame(told, ['no more', 'no page']);
});

t.test('health and readiness', async (t) => {
  let state = READY;
  const { url } = await openAdmin(t, { readiness: () => state });
  const health = await fetch(`${url}/healthz`);
  t.equal(health.status, 200);
  t.strictSame(await health.json(), { status: 'alive' });

  const ready = await fetch(`${url}/readyz`);
  t.equal(ready.status, 200);
  t.strictSame(await ready.json(), { status: 'ready', reasons: [], warnings: [] });

  state = { ready: false, reasons: ['draining'], warnings: ['the resolver fails'] };
  const draining = await fetch(`${url}/readyz`);
  t.equal(draining.status, 503);
  t.strictSame(await draining.json(), { status: 'not ready', reasons: ['draining'], warnings: ['the resolver fails'] });
  t.equal((await fetch(`${url}/healthz`)).status, 200, 'alive while draining');

  const head = await fetch(`${url}/readyz`, { method: 'HEAD' });
  t.equal(head.status, 503);
  t.equal(await head.text(), '');
});

t.test('the status page shows what runs, escaped, and loads from this port alone', async (t) => {
  const evil = `<script>alert("1")</script>'&`;
  const { url } = await openAdmin(t, {
    readiness: () => ({ ready: false, reasons: [evil], warnings: [evil] }),
    info: () => ({
      ...INFO,
      version: evil,
      instance: evil,
      configHash: evil,
      configFile: evil,
      config: { ...INFO.config, destinations: [{ name: evil, hosts: [evil], ports: [443], report: false, via: [] }] },
    }),
  });
  const response = await fetch(`${url}/`);
  const page = await response.text();
  t.equal(response.status, 200);
  t.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
  t.equal(page.split('<script').length - 1, 2, 'the two of the page itself');
  t.ok(page.split('&lt;script>alert(&quot;1&quot;)&lt;/script>').length > 7);
  t.notMatch(page, / (?:src|href|action)="(?!\/|#)/, 'no link leads away');
  t.notMatch(page, / on\w+=| style=/, 'no handler, no style in the markup');
  for (const text of ['>7<', '>8<', '0.0.0.0:3128', '[::]:9090', 'has ended', 'ends soon', '&lt;b>payments']) t.match(page, text);
  const policy = response.headers.get('content-security-policy') ?? '';
  t.match(policy, /^default-src 'none'; script-src 'self' 'sha256-[^']+'; style-src 'self'; /);
  t.notMatch(policy, /unsafe|http:|\*/);
  const map = /<script type="importmap">(.*?)<\/script>/.exec(page)?.[1] ?? '';
  const digest = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(map))).toString('base64');
  t.match(policy, `'sha256-${digest}'`);
  for (const [, path = ''] of [...page.matchAll(/ (?:src|href)="(\/page\/[^"]+)"/g), ...map.matchAll(/"(\/page\/[^"]+)"/g)]) {
    const part = await fetch(`${url}${path}`);
    t.equal(part.status, 200, path);
    t.equal(part.headers.get('x-content-type-options'), 'nosniff');
    await part.text();
  }
  t.equal((await fetch(`${url}/page/server.js`)).status, 404, 'what runs here alone');
  t.equal((await fetch(`${url}/page/..%2fapp.ts`)).status, 404);
});

t.test('a certificate that has expired has no days left', async (t) => {
  const { url } = await openAdmin(t, { info: () => ({ ...INFO, certificates: new Map([['tlsServer.certFile', Date.now() / 1000 - 3_600]]) }) });
  t.match(await (await fetch(`${url}/`)).text(), /<th scope="row">tlsServer\.certFile<\/th><td><span class="bad">has expired, on \d{4}-\d\d-\d\d</);
});

t.test('what the page shows, as JSON', async (t) => {
  const scene = await openScene(t);
  const status = (await (await fetch(`${scene}/status.json`)).json()) as StatusView;
  t.strictSame(schemaFaults('status', status), []);
  t.match(status, { instance: SCENE_INFO.instance, band: { state: 'degraded' }, clientsLeftOut: 0, denials: 16, failures: 183, errors: 31 });
  t.strictSame(status.destinations.map(({ name, state }) => [name, state]), [['billing', 'failed'], ['tickets', 'error'], ['eco-sit', 'ok'], ['archive', 'unused']], 'those that fail first');
  t.notMatch(JSON.stringify(status), /\u202e/, 'nothing that turns text around');
});

t.test('an answer to why comes as it is asked for', async (t) => {
  const { url } = await openAdmin(t, { explainer: { ...NO_EXPLAINING, explain: async () => 'the client <x> is not known' } });
  const ask = async (accept: string | null): Promise<[number, string | null, string]> => {
    const response = await fetch(`${url}/explain?client=%3Cx%3E&target=y:1`, { headers: accept === null ? {} : { accept } });
    return [response.status, response.headers.get('content-type'), await response.text()];
  };
  for (const accept of [null, '*/*', 'application/json', 'application/xml', 'application/json, text/html;q=0.1', 'application/json, text/plain, */*', 'text/html;q=0', 'text/html;q=x', 'text/plain;q=0, */*', 'text/html;q=0.5, application/json;q=0.9']) t.match(await ask(accept), [400, 'application/problem+json; charset=utf-8', /^\{.*"detail":"the client <x> is not known"/]);
  for (const accept of ['TEXT/HTML', 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2', 'application/json;q=0.5, text/html']) t.match(await ask(accept), [400, 'text/html; charset=utf-8'], accept);
  t.match(await ask('text/html;q=0.2, text/plain'), [400, 'text/plain; charset=utf-8']);
  t.strictSame(await ask('text/plain'), [400, 'text/plain; charset=utf-8', 'the client <x> is not known']);
  const [status, type, page] = await ask('text/html,application/xhtml+xml,*/*;q=0.8');
  t.strictSame([status, type], [400, 'text/html; charset=utf-8']);
  t.match(page, 'the client &lt;x> is not known');
  t.match(page, 'value="&lt;x>"', 'and what was asked can be asked again');
});

t.test('unknown paths and methods are refused with the list of paths', async (t) => {
  const { url } = await openAdmin(t);
  for (const [method, path, status] of [
    ['GET', '/metrics/', 404],
    ['GET', '/metricsx', 404],
    ['GET', '//metrics', 404],
    ['GET', '/%zz', 400],
    ['POST', '/metrics', 405],
    ['POST', '/nothing', 405],
    ['DELETE', '/healthz', 405],
    ['OPTIONS', '/', 405],
    ['PROPFIND', '/', 405],
  ] as const) {
    const body = method === 'POST' ? '<x/>' : null;
    const response = await fetch(`${url}${path}`, { method, body, headers: { 'content-type': 'text/xml' } });
    t.equal(response.status, status, `${method} ${path}`);
    t.equal(response.headers.get('content-type'), 'application/problem+json; charset=utf-8', `${method} ${path}`);
    t.equal(response.headers.get('allow'), status === 405 ? 'GET, HEAD' : null, `${method} ${path}`);
    t.match(await response.json(), { status, title: String, detail: String, paths: { '/metrics': String, '/readyz': String } });
  }
});

t.test('what is to be posted says so to other methods, however its path is written', async (t) => {
  const { url } = await openAdmin(t, { incidents: { ask: async () => 'busy', destinations: [] } });
  for (const [path, word] of [['/reload', 'eco-egress reload'], ['/incident', 'doctor --incident']] as const) {
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
      for (const more of ['', '?', '?x=1']) {
        const response = await fetch(`${url}${path}${more}`, { method });
        t.equal(response.status, 405, `${method} ${path}${more}`);
        t.equal(response.headers.get('allow'), 'POST');
        if (method !== 'HEAD') t.match(await response.json(), { detail: new RegExp(word) });
      }
    }
  }
});

t.test('of two reloads at once the second is asked to come again', async (t) => {
  const begun = Promise.withResolvers<undefined>();
  const end = Promise.withResolvers<undefined>();
  const reload = async (): Promise<ReloadOutcome> => {
    begun.resolve(undefined);
    await end.promise;
    return { result: 'refused', reasons: [], changes: null };
  };
  const { url } = await openAdmin(t, { configuration: { ...NO_CONFIGURATION, reload } });
  const first = fetch(`${url}/reload`, { method: 'POST' });
  await begun.promise;
  const second = await fetch(`${url}/reload`, { method: 'POST' });
  t.strictSame([second.status, second.headers.get('retry-after')], [503, '1']);
  t.match(await second.json(), { title: 'A reload is under way' });
  end.resolve(undefined);
  t.equal((await first).status, 422);
});

t.test('what is no request gets one clear answer, and the listener lives', async (t) => {
  const { url, port } = await openAdmin(t);
  const hello = Buffer.from('160301020001fc0303', 'hex');
  for (const [name, bytes, status, words] of [
    ['TLS hello', hello, 400, 'use http://'],
    ['garbage', '\0\0\0\0\r\n\r\n', 400, 'not an HTTP/1.1 request'],
    ['SOCKS', Buffer.from([5, 1, 0]), 400, 'not an HTTP/1.1 request'],
    ['HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'not an HTTP/1.1 request'],
    ['both framings', 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', 400, 'not an HTTP/1.1 request'],
    ['CONNECT', 'CONNECT eco-sit.telus.internal:443 HTTP/1.1\r\nHost: eco-sit.telus.internal:443\r\n\r\n', 405, 'proxy ports'],
    ['large header', `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`, 431, 'At most 16384 bytes'],
  ] as const) {
    const answer = await speak(port, bytes);
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), name);
    t.match(answer, words, name);
    t.match(answer, /Connection: close/i, name);
    t.equal(answer.match(/HTTP\/1\.1 \d/g)?.length, 1, `${name}: one answer`);
  }
  t.equal((await fetch(`${url}/healthz`)).status, 200);
});

t.test('a fault of ours is answered, and shows nothing of itself', async (t) => {
  const { url } = await openAdmin(t, {
    info: () => {
      throw new Error('secret');
    },
  });
  const response = await fetch(url);
  t.equal(response.status, 500);
  t.notMatch(await response.text(), 'secret');
});

t.test('content that no request here has is the fault of who sends it', async (t) => {
  const failed: string[] = [];
  const { url } = await openAdmin(t, { onFailed: ({ message }) => failed.push(message) });
  for (const [type, body] of [['text/x', 'x'], ['application/json', '{'], ['application/json', '{}'], ['text/plain', 'x'], ['text/plain', 'x'.repeat(10_000)]] as const) {
    const response = await fetch(`${url}/reload`, { method: 'POST', headers: { 'content-type': type }, body });
    t.equal(response.status, 400, type);
    t.match(await response.json(), { title: 'The content of the request is not read here', detail: /^Send it without content/ });
  }
  t.strictSame(failed, [], 'and no error of ours');
});

t.test('no content is no content, whatever type it is said to have', async (t) => {
  const { port } = await openAdmin(t);
  for (const fields of ['', 'Content-Length: 0\r\n', 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n', 'Content-Type: application/json\r\nContent-Length: 0\r\n', 'Content-Type: application/json\r\n']) {
    t.match(await speak(port, `POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${fields}\r\n`), /^HTTP\/1\.1 404 .*There is no file to load/s, fields);
  }
  for (const type of ['', 'Content-Type: application/json\r\n']) {
    t.match(await speak(port, `POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${type}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`), /^HTTP\/1\.1 404 .*There is no file to load/s, `${type}chunked`);
  }
});

t.test('an address in use is an error, and close does not wait for idle connections', async (t) => {
  const { port } = await openAdmin(t);
  const options: AdminOptions = { exposition: createExposition(), readiness: () => READY, info: () => INFO, explainer: NO_EXPLAINING, configuration: NO_CONFIGURATION, traffic: NO_TRAFFIC, sourceIp: noSource };
  await t.rejects(listenAdmin(options, { host: '127.0.0.1', port }), { code: 'EADDRINUSE' });

  const third = await listenAdmin(options, { host: '127.0.0.1', port: 0 });
  const idle = connect(third.address.port, '127.0.0.1');
  await once(idle, 'connect');
  const closed = once(idle, 'close');
  idle.resume();
  await third.close();
  await closed;
});
