/** A whole proxy that proves its source address: an endpoint whose answer changes stands for a NAT whose address does. */
import { setTimeout as delay } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { type Draft, ECO, type Lab, labCertificates, type LogLine, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { type EchoEndpoint, startEchoEndpoint } from '../support/echo-endpoint.ts';
import { startFullListener } from '../support/full-listener.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';
import { startParent } from '../support/parents.ts';
import { askRaw, openWire } from '../support/wire.ts';

const RIGHT = '34.123.45.67';
const WRONG = '35.203.1.9';

function proving(endpoint: EchoEndpoint, more: Record<string, unknown> = {}) {
  return (draft: Draft): void => {
    draft.sourceIp = { expected: RIGHT, probe: { url: endpoint.url, every: '20ms', timeout: '5s', addresses: ['127.0.0.0/8'] }, ...more };
  };
}

const json = async (lab: Lab, path: string): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await fetch(`${lab.adminUrl}${path}`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

/** Asks until the answer fits; a test that waits for nothing runs into its own time limit. */
async function until<T>(ask: () => Promise<T>, fits: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (fits(answer)) return answer;
    await delay(5);
  }
}

const showing = (lab: Lab, result: string) => until(() => json(lab, '/source-ip'), ({ body }) => body['result'] === result);
const aboutSource = ({ msg }: LogLine): boolean => msg?.startsWith('the source address') === true;

t.test('a NAT that changes its address is logged once, and again when it is right', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const lab = await startLab(t, { configure: proving(endpoint) });
  t.match((await showing(lab, 'match')).body, { expected: [RIGHT], seen: RIGHT, reason: null, remark: null, silentPartners: { length: 0 } });
  let { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_source_ip_match'), 1);
  t.equal(samples.get(`eco_egress_source_ip_info{ip="${RIGHT}"}`), 1);
  t.ok((samples.get('eco_egress_source_ip_probes_total{result="match"}') ?? 0) >= 1);
  t.ok(Math.abs((samples.get('eco_egress_source_ip_last_success_timestamp_seconds') ?? 0) * 1000 - Date.now()) < 60_000);
  t.match(await json(lab, '/readyz'), { status: 200, body: { status: 'ready', warnings: { length: 0 } } });

  endpoint.answer = WRONG;
  await showing(lab, 'mismatch');
  const asked = endpoint.questions.length;
  await until(async () => endpoint.questions.length, (count) => count >= asked + 3);
  ({ samples } = await lab.scrape());
  t.equal(samples.get('eco_egress_source_ip_match'), 0);
  t.strictSame([...samples.keys()].filter((name) => name.startsWith('eco_egress_source_ip_info')), [`eco_egress_source_ip_info{ip="${WRONG}"}`], 'the present one alone');
  t.match(await json(lab, '/readyz'), { status: 200, body: { status: 'ready', warnings: [`The source address is ${WRONG}, and not ${RIGHT}.`] } });
  t.match(await lab.status(), { source: { result: 'mismatch', seen: WRONG, expected: [RIGHT], history: [{ result: 'mismatch', seen: WRONG }] }, band: { state: 'degraded' } });

  endpoint.answer = (_request, response) => response.writeHead(503).end();
  t.match((await showing(lab, 'unknown')).body, { seen: null, code: 'upstream-malformed', reason: /answered 503/, lastSeen: { address: WRONG } });
  ({ samples } = await lab.scrape());
  t.notOk([...samples.keys()].some((name) => /source_ip_(?:match|info)/.test(name)), 'unknown is absent');

  endpoint.answer = RIGHT;
  await showing(lab, 'match');
  t.match(lab.log.filter(aboutSource), [
    { level: 'info', msg: /is right/, seen: RIGHT },
    { level: 'error', msg: /WRONG/, seen: WRONG, expected: [RIGHT] },
    { level: 'warn', msg: /not known/, code: 'upstream-malformed' },
    { level: 'info', msg: /is right/ },
  ]);
  t.equal(lab.log.filter(aboutSource).length, 4);
  t.equal(endpoint.connections, endpoint.questions.length, 'each on a connection of its own');
  await until(async () => endpoint.open, (open) => open <= 1);
});

t.test('readiness, where it depends on the address', async (t) => {
  const held = Promise.withResolvers<undefined>();
  const endpoint = await startEchoEndpoint(t, (_request, response) => void held.promise.then(() => response.end(RIGHT)));
  const lab = await startLab(t, { configure: proving(endpoint, { gateReadiness: true }) });
  const readyz = () => json(lab, '/readyz');
  t.match(await readyz(), { status: 503, body: { reasons: ['The source address is not known yet.'] } });
  held.resolve(undefined);
  await until(readyz, ({ status }) => status === 200);
  const down: EchoEndpoint['answer'] = (request) => request.socket.destroy();
  endpoint.answer = down;
  await showing(lab, 'unknown');
  t.match(await readyz(), { status: 200, body: { warnings: [/^The source address is not known: /] } }, 'an endpoint that is down stops nothing');
  endpoint.answer = WRONG;
  await showing(lab, 'mismatch');
  t.match(await readyz(), { status: 503, body: { reasons: [new RegExp(WRONG)] } });
  t.equal((await fetch(`${lab.adminUrl}/healthz`)).status, 200);
  endpoint.answer = down;
  await showing(lab, 'unknown');
  t.match(await readyz(), { status: 503 }, 'it was last seen wrong');
  endpoint.answer = RIGHT;
  await until(readyz, ({ status }) => status === 200);
});

t.test('a reload takes another proof over, or none', async (t) => {
  const endpoint = await startEchoEndpoint(t, JSON.stringify({ client: { ip: WRONG } }));
  const lab = await startLab(t, { configure: proving(endpoint) });
  t.match((await showing(lab, 'unknown')).body, { reason: /Name the member/ });
  const probe = { url: endpoint.url, every: '20ms', field: 'client.ip', addresses: ['127.0.0.1'] };
  await lab.reload((draft) => (draft.sourceIp = { expected: [RIGHT, WRONG], probe }));
  await showing(lab, 'match');
  t.equal(endpoint.questions.at(-1)?.headers.accept, 'application/json');
  await lab.reload((draft) => (draft.sourceIp = { probe }));
  t.match((await showing(lab, 'unjudged')).body, { seen: WRONG, expected: { length: 0 } });
  t.match(await json(lab, '/readyz'), { status: 200, body: { warnings: { length: 1, 0: /compared with nothing/ } } });
  await lab.reload(() => {});
  t.match((await json(lab, '/source-ip')).body, { result: 'off', seen: null });
  const asked = endpoint.questions.length;
  const { samples } = await lab.scrape();
  t.notOk([...samples.keys()].some((name) => /source_ip_(?:match|info|last)/.test(name)));
  await delay(60);
  t.equal(endpoint.questions.length, asked, 'no probe is sent any more');
});

t.test('the end does not wait for an answer, and leaves no socket', async (t) => {
  const before = countSockets();
  const endpoint = await startEchoEndpoint(t, () => {});
  const lab = await startLab(t, { configure: proving(endpoint) });
  await until(async () => endpoint.questions.length, (count) => count === 1);
  await lab.service.close();
  await untilSockets(before);
  t.notOk(lab.log.some(aboutSource), 'what was given up tells nothing');
});

t.test('what is no answer', async (t) => {
  const endpoint = await startEchoEndpoint(t, '');
  const full = await startFullListener(t);
  const lab = await startLab(t, { configure: proving(endpoint, { probe: { url: endpoint.url, every: '1h', timeout: '300ms', addresses: ['127.0.0.0/8'] } }) });
  const loaded = lab.load(proving(endpoint));
  const probe = loaded.ok ? loaded.config.sourceIp?.probe : null;
  if (probe === null || probe === undefined) throw new Error('no probe');
  type Change = Partial<typeof probe>;
  const cases: readonly (readonly [what: string, answer: EchoEndpoint['answer'], change: Change, code: string, reason: RegExp])[] = [
    ['a redirect', (_request, response) => response.writeHead(302, { location: 'https://other.example/ip?key=secret' }).end(RIGHT), {}, 'upstream-malformed', /302, a redirect to \"https:\/\/other\.example\/ip\?\*\*\*\", which is not followed/],
    ['another status', (_request, response) => response.writeHead(404).end(RIGHT), {}, 'upstream-malformed', /answered 404/],
    ['a page', '<html></html>', {}, 'upstream-malformed', /is not one IP address/],
    ['nothing', '', {}, 'upstream-malformed', /"" is not one IP address/],
    ['too much', RIGHT.padEnd(4097), {}, 'upstream-malformed', /longer than 4096 bytes/],
    ['too much, in chunks', (_request, response) => { response.write(RIGHT); response.end(' '.repeat(5000)); }, {}, 'upstream-malformed', /longer than 4096 bytes/],
    ['headers without end', (_request, response) => response.writeHead(200, { x: 'x'.repeat(20_000) }).end(RIGHT), {}, 'upstream-malformed', /./],
    ['hints without end', (_request, response) => { const more = setInterval(() => { response.writeEarlyHints({ link: '</x>; rel=preload' }); }, 1); response.once('close', () => { clearInterval(more); }); }, { timeout: 100 }, 'upstream-silent', /no whole answer/],
    ['cut off', (request, response) => { response.writeHead(200, { 'content-length': 100 }); response.write(RIGHT, () => request.socket.destroy()); }, {}, 'upstream-cut', /in the middle/],
    ['no HTTP', (request) => request.socket.end('SSH-2.0-x\r\n'), {}, 'upstream-malformed', /./],
    ['silence', () => {}, { timeout: 100 }, 'upstream-silent', /no whole answer in 100 ms/],
    ['half of it', (_request, response) => void response.write('34.'), { timeout: 100 }, 'upstream-silent', /no whole answer in 100 ms/],
    ['no SYN answered', RIGHT, { timeout: 100, port: full }, 'connect-timeout', /no connection in 100 ms/],
    ['TLS where there is none', RIGHT, { scheme: 'https' }, 'tls-failed', /./],
    ['a private address', RIGHT, { addresses: null }, 'address-not-allowed', /127\.0\.0\.1 .*only public addresses/],
    ['an address outside the list', RIGHT, { addresses: ['127.0.0.2/32'] }, 'address-not-allowed', /sourceIp\.probe\.addresses/],
    ['ourselves', RIGHT, { port: lab.port }, 'loop', /this proxy itself/],
  ];
  for (const [what, answer, change, code, reason] of cases) {
    endpoint.answer = answer;
    const { result, observations, causes } = await lab.service.sourceProof.verify({ probe: { ...probe, timeout: 5_000, ...change }, expected: [RIGHT], times: 1 });
    t.equal(result, 'unknown', what);
    t.match(observations, [{ result: 'unknown', seen: null, code, reason }], what);
    t.ok(causes.length > 0, `${what} has a cause`);
  }
  endpoint.answer = `\n${RIGHT}`.padEnd(4096);
  t.match(await lab.service.sourceProof.verify({ probe, expected: [RIGHT], times: 1 }), { result: 'match' }, 'and the longest that is taken');
  await until(async () => endpoint.open, (open) => open === 0);
});

t.test('an endpoint over TLS', async (t) => {
  const lab = await startLab(t, {
    onRequest: (_request, response) => response.end(RIGHT),
    configure: (draft, { https }) => {
      draft.sourceIp = { expected: RIGHT, probe: { url: `https://${ECO}:${https}/ip`, addresses: ['127.0.0.0/8'], tls: { caFile: 'ca.pem' } } };
    },
  });
  await showing(lab, 'match');
  t.match(lab.upstream.requests[0], { method: 'GET', url: '/ip', headers: { host: `${ECO}:${lab.upstream.httpsPort}`, connection: 'close', accept: /^text\/plain/ } });
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_upstream_connections_opened_total{destination="eco"}'), 0, 'it is no request of a client');
});

t.test('an endpoint whose TLS fails: the keys of the probe are named, not those of a destination', async (t) => {
  const { certPem, keyPem, authority } = await labCertificates();
  const asking = await listen(t, createTlsServer({ cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: true }));
  const configure = (draft: Draft): void => {
    draft.sourceIp = { expected: RIGHT, probe: { url: `https://${ECO}:${asking}/ip`, every: '1h', addresses: ['127.0.0.0/8'], tls: { caFile: 'ca.pem' } } };
  };
  const lab = await startLab(t, { configure });
  const loaded = lab.load(configure);
  const probe = loaded.ok ? loaded.config.sourceIp?.probe : null;
  if (probe === null || probe === undefined) throw new Error('no probe');
  for (const [tls, code, reason] of [
    [probe.tls, 'tls-failed', /^eco-sit\.telus\.internal:\d+: the upstream refused the handshake \(ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED\); .* sourceIp\.probe\.tls\.certFile/],
    [{ ...probe.tls, ca: null }, 'tls-certificate', /sourceIp\.probe\.tls\.caFile/],
  ] as const) {
    t.match(await lab.service.sourceProof.verify({ probe: { ...probe, tls }, expected: [RIGHT], times: 1 }), { observations: [{ code, reason }], causes: [{ cause: 'TLS with the endpoint fails' }] }, code);
  }
});

t.test('the probe goes by the hops of requests', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const parent = await startParent(t);
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.hops = { gate: { url: `http://127.0.0.1:${parent.port}`, addresses: ['127.0.0.0/8'] } };
      proving(endpoint)(draft);
      Object.assign(draft.sourceIp?.['probe'] as object, { via: 'gate' });
    },
  });
  await showing(lab, 'match');
  t.equal(parent.asked[0], `127.0.0.1:${endpoint.port}`);
});

t.test('a partner that drops us', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const silent = await startFullListener(t);
  let now = 1_000_000;
  const lab = await startLab(t, {
    now: () => now,
    configure: (draft) => {
      proving(endpoint)(draft);
      (draft.destinations.eco['ports'] as number[]).push(silent);
      draft.timeouts['connect'] = '50ms';
    },
  });
  await showing(lab, 'match');
  const suspect = async () => (await lab.scrape()).samples.get('eco_egress_whitelist_suspect{destination="eco"}');
  t.equal(await suspect(), 0);
  const dial = (port: number) => `CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: x\r\n\r\n`;
  for (let i = 0; i < 3; i += 1) {
    t.match(await askRaw(t, lab.port, dial(silent)), /^HTTP\/1\.1 504 .*connect-timeout/);
    now += 10_000;
  }
  t.match(await lab.logged(({ msg }) => msg?.startsWith('the partner does not answer') === true), { level: 'error', destination: 'eco', cause: 'whitelist', timeouts: 3, sourceIp: 'match', check: /permits our address/ });
  t.equal(await suspect(), 1);
  t.match(await json(lab, '/readyz'), { status: 200, body: { warnings: [/^eco has not answered since .*: its whitelist probably lacks our source address\.$/] } });
  t.match((await json(lab, '/source-ip')).body, { silentPartners: [{ destination: 'eco', cause: 'whitelist', timeouts: 3 }] });

  endpoint.answer = WRONG;
  t.match(await lab.logged(({ cause }) => cause === 'source-address'), { level: 'error', sourceIp: 'mismatch' });
  t.equal(await suspect(), 0, 'then it is not the whitelist');

  const wire = await openWire(t, lab.port);
  wire.send(dial(lab.upstream.httpPort));
  await wire.until(/ 200 /);
  t.match(await lab.logged(({ msg }) => msg === 'the partner answers again'), { level: 'info', was: 'source-address' });
  t.match((await json(lab, '/source-ip')).body, { silentPartners: { length: 0 } });
});

t.test('a partner that is silent where a failing resolver last saw it; what fails for another is no reason', async (t) => {
  const silent = await startFullListener(t);
  for (const [failsFor, cause] of [[ECO, 'stale-name'], ['other.test', 'unproven']]) {
    let now = 1_000_000;
    let failing = false;
    const lab = await startLab(t, {
      now: () => now,
      lookup: (host) => (failing && host === failsFor ? Promise.reject(new Fault('resolver-failed', 'no server answers')) : Promise.resolve({ addresses: ['127.0.0.1'], ttl: null })),
      configure: (draft) => {
        (draft.destinations.eco['ports'] as number[]).push(silent);
        draft.destinations['other'] = { hosts: ['other.test'], ports: [silent], addresses: ['127.0.0.0/8'] };
        (draft.rules[0]?.['destinations'] as string[]).push('other');
        draft.timeouts['connect'] = '50ms';
        draft.dns['ttl'] = '0s';
      },
    });
    for (let i = 0; i < 3; i += 1) {
      for (const host of [ECO, 'other.test']) t.match(await askRaw(t, lab.port, `CONNECT ${host}:${silent} HTTP/1.1\r\nHost: x\r\n\r\n`), / 504 .*connect-timeout/);
      now += 10_000;
      failing = true;
    }
    t.match(await lab.logged(({ destination, cause: found }) => destination === 'eco' && found !== undefined), { cause, sourceIp: 'off' });
    t.equal((await lab.scrape()).samples.get('eco_egress_whitelist_suspect{destination="eco"}'), 0);
  }
});
