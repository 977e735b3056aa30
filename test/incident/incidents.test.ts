/** A running proxy is asked what is wrong, while partners refuse, are silent, show bad certificates, answer 500: gathered from its own state and from real tries. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import type { IncidentVerdict } from '../../src/incident/judge.ts';
import { EVIL } from '../support/status-scene.ts';
import { startEchoEndpoint } from '../support/echo-endpoint.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';
import { type Draft, ECO, type Lab, labCertificates, type LabOptions, startLab, startUpstream } from '../support/lab.ts';
import { schemaFaults } from '../support/schemas.ts';
import { openWire } from '../support/wire.ts';

/** A lab whose questions need no pause between them, since its clock is far ahead each time. */
async function start(t: Test, options: LabOptions = {}): Promise<Lab> {
  let passed = 0;
  return startLab(t, { monotonic: () => performance.now() + (passed += 10_000), ...options });
}

async function ask(lab: Lab, query = '', init: RequestInit = {}): Promise<{ readonly status: number; readonly text: string }> {
  const response = await fetch(`${lab.adminUrl}/incident${query}`, { method: 'POST', ...init });
  return { status: response.status, text: await response.text() };
}

/** The counters of segments are those of the machine, on which other tests make some that have to be sent again: then it is asked once more. */
async function verdictOf(t: Test, lab: Lab, query = ''): Promise<IncidentVerdict> {
  for (;;) {
    const { status, text } = await ask(lab, query);
    t.equal(status, 200, text);
    const verdict = JSON.parse(text) as IncidentVerdict;
    t.strictSame(schemaFaults('incident', verdict), []);
    if (!verdict.sentence.includes('packets are lost')) return verdict;
  }
}

/** A destination beside the lab's own, and proof of the source address. */
function point(draft: Draft, port: number, change: object = {}, echo: string | null = null): void {
  Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `https://${ECO}:${port}` } }, change);
  Object.assign(draft.timeouts, { connect: '200ms', tls: '200ms' });
  if (echo !== null) draft.sourceIp = { expected: '192.0.2.1', probe: { url: echo, addresses: ['127.0.0.0/8'], every: '1h' } };
}

t.test('nothing is wrong: each address with its port, the certificate, the answer', async (t) => {
  const lab = await start(t);
  const verdict = await verdictOf(t, lab);
  t.match(verdict, { state: 'ok', part: null, letter: null, sentence: 'Nothing is wrong now: eco answers at every address.' });
  t.match(verdict.evidence[0]?.text, new RegExp(`^${ECO}:\\d+ at 127\\.0\\.0\\.1:\\d+ from 127\\.0\\.0\\.1:\\d+: connected in \\d+ ms`));
  t.match(verdict.ruledOut.map(({ part }) => part), ['pod', 'proxy', 'resolver', 'parent', 'route', 'partner-firewall']);
});

t.test('the partner refuses: since the first failure, with what requests met', async (t) => {
  const unused = await findUnusedPort();
  const echo = await startEchoEndpoint(t, '192.0.2.1');
  const lab = await start(t, { configure: (draft) => { point(draft, unused, {}, echo.url); } });
  const before = Date.now();
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 502);
  const verdict = await verdictOf(t, lab, '?destination=eco');
  t.match(verdict, { asked: 'eco', state: 'broken', part: 'partner-application', confidence: 'likely', alternatives: [{ part: 'partner-firewall' }], letter: /from the source address 192\.0\.2\.1 \(seen from outside/ });
  t.ok(Date.parse(verdict.since ?? '') >= before - 1000);
  t.match(verdict.evidence.map(({ text }) => text).join('\n'), new RegExp(`TCP to 127\\.0\\.0\\.1:${unused} from 127\\.0\\.0\\.1:\\d+: refused \\(ECONNREFUSED\\)[^]*A request met at 127\\.0\\.0\\.1:${unused}: ECONNREFUSED`));
});

t.test('the partner accepts one connection, and refuses the next', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {}).resume();
    server.close();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const lab = await start(t, { configure: (draft) => { point(draft, port); } });
  const verdict = await verdictOf(t, lab, '?destination=eco');
  t.match(verdict, { state: 'broken', part: 'partner-application', sentence: /refused the connection/ });
  t.match(verdict.evidence.map(({ text }) => text).join('\n'), /connected in \d+ ms\nTCP to 127\.0\.0\.1:\d+: refused \(.*ECONNREFUSED.*\), second try/);
});

t.test('the partner wants a certificate of ours, and says so with its answer (TLS 1.3): its application is not blamed', async (t) => {
  const { certPem, keyPem, authority } = await labCertificates();
  const port = await listen(t, createTlsServer({ cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: true }));
  const lab = await start(t, { configure: (draft) => { point(draft, port); } });
  const verdict = await verdictOf(t, lab, '?destination=eco');
  t.match(verdict, { state: 'broken', part: 'proxy', sentence: /the partner does not accept our client certificate, or asks for one/ });
});

t.test('the partner is silent: only with the source address proven is it named', async (t) => {
  const full = await startFullListener(t);
  const echo = await startEchoEndpoint(t, '192.0.2.1');
  const lab = await start(t, { configure: (draft) => { point(draft, full, {}, echo.url); } });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 504);
  const proven = await verdictOf(t, lab);
  t.match(proven, { state: 'broken', part: 'partner-firewall', confidence: 'likely' });
  t.match(proven.evidence.map(({ text }) => text).join('\n'), new RegExp(`A request met at 127\\.0\\.0\\.1:${full} from 127\\.0\\.0\\.1:\\d+: no answer in 200 ms`), 'with the source port of the request that failed');

  echo.answer = '192.0.2.99';
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'nat', confidence: 'certain', letter: null, sentence: /leave from 192\.0\.2\.99, and partners expect 192\.0\.2\.1/ });

  await lab.reload((draft) => { point(draft, full); });
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'route', confidence: 'unsure', letter: null });
});

t.test('a certificate that has expired, one that ends in the thirteenth month, and one of another name', async (t) => {
  const { authority } = await labCertificates();
  const day = 86_400_000;
  const expired = await authority.issue({ names: [ECO], notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) });
  const undated = await authority.issue({ names: [ECO], notAfter: Object.assign(new Date(), { toISOString: () => '2039-13-31T23:59:59Z' }) });
  const other = await authority.issue({ names: ['other.example'] });
  for (const [{ certPem, keyPem }, says] of [[expired, /has expired \(valid from .* to .*\)/], [undated, /NOT_AFTER_FIELD/], [other, /for another name \(DNS:other\.example\)/]] as const) {
    const upstream = await startUpstream(t, certPem, keyPem, (_request, response) => void response.end());
    const lab = await start(t, { configure: (draft) => { point(draft, upstream.httpsPort); } });
    t.match(await verdictOf(t, lab), { state: 'broken', part: 'partner-tls', sentence: says, evidence: [{}, { text: /TLS with .*tls-certificate/ }], letter: String });
  }
});

t.test('a clock that was ahead and is set back: what was denied before is not of the last minute, and what is denied since is', async (t) => {
  const { now } = Date;
  let ahead = 3_600_000;
  t.intercept(Date, 'now', { value: () => now() + ahead });
  const lab = await start(t, { configure: (draft) => void draft.rules.splice(0, 1, { clients: ['pods'], destinations: ['eco'], methods: ['GET'] }) });
  const deny = async (): Promise<void> => {
    for (let count = 0; count < 20; count += 1) t.equal((await fetch(`${lab.url}/eco/x`, { method: 'PUT', body: 'x' })).status, 403);
  };
  await deny();
  ahead = 0;
  t.match(await verdictOf(t, lab), { state: 'ok' });
  await deny();
  t.match(await verdictOf(t, lab), { part: 'pod', sentence: /asks for what the policy does not permit: method-not-allowed/ });
});

t.test('500 for clients, too', async (t) => {
  const lab = await start(t, { onRequest: (_request, response) => void response.writeHead(500).end() });
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'partner-application', confidence: 'likely', sentence: /answered with status 500/ }, 'nothing has been asked of it yet that could say otherwise');
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 500);
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'partner-application', confidence: 'certain', since: null, evidence: [{}, {}, {}] });
});

t.test('names: those that do not exist, and those that lead where we may not go', async (t) => {
  let answer: readonly string[] | Error = [];
  const lab = await start(t, {
    lookup: async () => {
      if (answer instanceof Error) throw answer;
      return { addresses: answer, ttl: null };
    },
  });
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'resolver', sentence: /does not exist/ });
  answer = ['169.254.169.254'];
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'resolver', sentence: /eco-sit\.telus\.internal is led to 169\.254\.169\.254/ });
  answer = Object.assign(new Error('x'), { code: 'ESERVFAIL' });
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'resolver', sentence: /resolver-failed|name-not-found|does not exist/ });
});

t.test('a port of the proxy itself is refused, and the others of that name are not', async (t) => {
  for (const order of [1, -1]) {
    const own = await findUnusedPort();
    const lab = await start(t, {
      configure: (draft, { https }) => {
        point(draft, https);
        draft.destinations.eco['ports'] = [https, own].toSorted((one, other) => order * (one - other));
        draft.listeners['http'] = [`127.0.0.1:${own}`];
      },
    });
    t.match(await verdictOf(t, lab), { state: 'ok', part: null });
  }
});

t.test('one question to the resolver that is lost is no fault of the resolver', async (t) => {
  let lose = false;
  const lab = await start(t, {
    configure: (draft, { https }) => { draft.destinations.eco['ports'] = [https]; },
    lookup: async () => {
      if (lose) {
        lose = false;
        throw Object.assign(new Error('x'), { code: 'ETIMEOUT' });
      }
      return { addresses: ['127.0.0.1'], ttl: 60 };
    },
  });
  // What requests use is known: the question of the autopsy is the next one.
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  lose = true;
  t.match(await verdictOf(t, lab), { state: 'ok', part: null });
  t.notOk(lose, 'it was lost');
});

t.test('an IPv6 address of the partner is no finding on a host without IPv6', async (t) => {
  const lab = await start(t, {
    configure: (draft, { https }) => { Object.assign(draft.destinations.eco, { ports: [https], addresses: ['127.0.0.0/8', 'ff02::/16'] }); },
    // No route leads to it, for TCP.
    lookup: async () => ({ addresses: ['127.0.0.1', 'ff02::1'], ttl: 60 }),
  });
  t.match(await verdictOf(t, lab), { state: 'ok', part: null });
});

t.test('a host of a pattern is tried, whatever other hosts have failed since', async (t) => {
  const unused = await findUnusedPort();
  const lab = await start(t, {
    configure: (draft) => {
      point(draft, unused);
      for (const [name, host] of [['other', 'other.example'], ['wild', '*.wild.example']] as const) draft.destinations[name] = { ...structuredClone(draft.destinations.eco), hosts: [host], gateway: undefined };
      draft.rules.push({ clients: ['pods'], destinations: ['other', 'wild'] });
    },
  });
  for (const host of ['a.wild.example', 'other.example', ECO]) {
    const wire = await openWire(t, lab.port);
    wire.send(`CONNECT ${host}:${unused} HTTP/1.1\r\nHost: ${host}:${unused}\r\n\r\n`);
    await wire.until(/^HTTP\/1\.1 502 /);
  }
  t.match(await verdictOf(t, lab, '?destination=wild'), { state: 'broken', part: 'partner-application', destination: 'wild', sentence: /refused the connection/ });
});

t.test('of more hosts than are tried, those that fail come first', async (t) => {
  let port = 0;
  const lab = await start(t, {
    lookup: async (host) => ({ addresses: [host === 'h16.example' ? '127.0.0.2' : '127.0.0.1'], ttl: 60 }),
    configure: (draft, { https }) => {
      port = https;
      const add = (name: string, hosts: string[]): void => { draft.destinations[name] = { hosts, ports: [https], addresses: ['127.0.0.0/8'] }; };
      for (let i = 0; i < 16; i += 1) add(`d${i}`, [`d${i}.example`]);
      add('last', Array.from({ length: 17 }, (_, i) => `h${i}.example`));
      draft.rules.push({ clients: ['pods'], destinations: ['last'] });
    },
  });
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT h16.example:${port} HTTP/1.1\r\nHost: h16.example:${port}\r\n\r\n`);
  await wire.until(/^HTTP\/1\.1 502 /);
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'partner-application', destination: 'last', sentence: /127\.0\.0\.2 \(h16\.example:\d+\) refused the connection/ });
});

t.test('of a range of ports, those that requests failed at are tried, and no verdict is made of the first', async (t) => {
  const lab = await start(t, {
    configure: (draft, { https }) => {
      Object.assign(draft.destinations.eco, { ports: [`1-${https}`] });
      draft.destinations['ranged'] = { hosts: ['ranged.example'], ports: [`1-${https}`], addresses: ['127.0.0.0/8'] };
      draft.rules.push({ clients: ['pods'], destinations: ['ranged'] });
    },
  });
  t.match(await verdictOf(t, lab), { state: 'ok', part: null }, 'nothing listens at port 1');
  const wire = await openWire(t, lab.port);
  wire.send('CONNECT ranged.example:2 HTTP/1.1\r\nHost: ranged.example:2\r\n\r\n');
  await wire.until(/^HTTP\/1\.1 502 /);
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'partner-application', destination: 'ranged', sentence: /ranged\.example:2\) refused the connection/ });
});

t.test('a draining proxy says so', async (t) => {
  const lab = await start(t, { configure: (draft) => { draft.timeouts['drainDelay'] = '60s'; } });
  void lab.service.drain();
  t.match(await verdictOf(t, lab), { state: 'broken', part: 'proxy', sentence: /shutting down/ });
});

t.test('one question at a time, with a pause between them, and by POST alone', async (t) => {
  let now = 0;
  const lab = await startLab(t, { monotonic: () => now });
  const both = await Promise.all([ask(lab), ask(lab)]);
  t.strictSame(both.map(({ status }) => status).toSorted(), [200, 503]);
  t.equal((await ask(lab)).text, both.find(({ status }) => status === 200)?.text, 'soon after, the same answer');
  t.equal((await ask(lab, '?destination=eco')).status, 503, 'and none to another question');
  now = 5_001;
  t.equal((await ask(lab, '?destination=eco')).status, 200);
  now = 10_002;
  t.equal((await ask(lab, '?destination=')).status, 200, 'an empty name is none, as in the form');
  t.match(await ask(lab, '?destination=other'), { status: 400, text: /There are: eco\./ });
  t.match(await ask(lab, '?dest=eco'), { status: 400, text: /Unknown parameter dest\. The parameter is destination/ }, 'not an answer about all');
  t.match(await ask(lab, '?destination=eco&destination=other'), { status: 400, text: /more than once/ });
  for (const method of ['GET', 'HEAD']) {
    const refused = await fetch(`${lab.adminUrl}/incident?destination=eco`, { method });
    t.equal(refused.status, 405, method);
    t.equal(refused.headers.get('allow'), 'POST');
    await refused.arrayBuffer();
  }
});

t.test('a page of another site cannot ask', async (t) => {
  const lab = await start(t);
  for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }]) t.equal((await ask(lab, '', { headers })).status, 403, JSON.stringify(headers));
  t.equal(lab.upstream.connections, 0, 'nothing was tried');
});

t.test('hostile names are harmless: asked for, sent by a client, shown by a partner', async (t) => {
  const lab = await start(t, { onRequest: (_request, response) => void response.writeHead(500, EVIL.replaceAll(/[^\x20-\x7e]/g, '')).end() });
  const asked = await ask(lab, `?destination=${encodeURIComponent(EVIL)}`, { headers: { accept: 'text/html' } });
  t.equal(asked.status, 400);
  t.notMatch(asked.text, '<img');
  await fetch(`${lab.url}/eco/${encodeURIComponent(EVIL)}`);
  const page = await ask(lab, '', { headers: { accept: 'text/html' } });
  t.notMatch(page.text, /<img|\u202e/);
  t.match(page.text, '<h1>What is wrong?</h1>');
  const plain = await ask(lab, '', { headers: { accept: 'text/plain' } });
  t.match(plain.text, /^Most likely the partner's application: requests are answered with status 500/);
  t.notMatch(plain.text, /[\0-\x09\x0b-\x1f\x7f-\u009f\u202a-\u202e]/);
});

t.test('a form of the page, without scripts', async (t) => {
  const lab = await start(t);
  t.equal((await ask(lab, '', { body: new URLSearchParams({ destination: 'eco' }), headers: { origin: lab.adminUrl } })).status, 200);
  t.equal((await ask(lab, '', { body: new URLSearchParams({ destination: '' }) })).status, 200);
  t.equal((await fetch(`${lab.adminUrl}/reload`, { method: 'POST', body: new URLSearchParams({ a: 'b' }) })).status, 400, 'nothing else reads forms');
});

t.test('requests are not disturbed by a question', async (t) => {
  const lab = await start(t);
  const question = ask(lab);
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  await question;
  lab.upstream.https.closeAllConnections();
  lab.upstream.https.close();
  await once(lab.upstream.https, 'close');
  await ask(lab);
  t.strictSame((await lab.status()).destinations[0]?.circuits, [], 'tries count for no circuit');
});
