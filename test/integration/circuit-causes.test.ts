/** Which failures open a circuit, in a whole proxy with real sockets, and for whom. */
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer } from 'node:net';
import t from 'tap';
import { answerOf } from '../support/ask.ts';
import { ask, askOften, CLOSED, codeOf, ONE, OPENED, opened, OTHER, THIRD } from '../support/circuits.ts';
import { startFullListener } from '../support/full-listener.ts';
import { startHopLab } from '../support/hop-lab.ts';
import { accessLines } from '../support/hostile.ts';
import { createPartnerAddress, QUICK, startIllPartner, toPartner } from '../support/ill-partner.ts';
import { ECO, startLab } from '../support/lab.ts';
import { startParent } from '../support/parents.ts';

t.test('no answer: it concerns the client whose requests have none, until another finds the same', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { first } = partner;
  const at = { lab: await startLab(t, toPartner(partner, clock)), port: partner.port };
  first.manners = 'cuts';
  t.strictSame(await askOften(at, QUICK.failures, 'gateway', ONE), ['upstream-cut']);
  t.match(await at.lab.logged(({ msg }) => msg === OPENED), { reason: /^upstream-cut: / });
  t.strictSame(await askOften(at, 3, 'gateway', ONE), ['circuit-open']);
  t.equal((await at.lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}'), 1, 'not everybody is refused');
  first.manners = 'answers';
  t.strictSame(await askOften(at, 1, 'connect', ONE), ['ok'], 'of a tunnel nothing is known but that it can be opened');
  t.strictSame(await askOften(at, 1, 'gateway', ONE), ['circuit-open']);
  t.strictSame(await askOften(at, 1, 'gateway', OTHER), ['ok'], 'another client is not refused');
  t.match(await at.lab.logged(({ msg }) => msg === CLOSED), { why: 'it works again' });
  t.strictSame(await askOften(at, 1, 'gateway', ONE), ['ok'], 'and its success closes the circuit');

  first.manners = 'cuts';
  t.strictSame(await askOften(at, QUICK.failures, 'gateway', ONE), ['upstream-cut']);
  t.strictSame(await askOften(at, 1, 'gateway', OTHER), ['upstream-cut']);
  t.strictSame(await askOften(at, 1, 'gateway', THIRD), ['circuit-open']);
  t.equal((await at.lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}'), 2);
});

t.test('answers of the application are answers, unless their status is listed', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { first } = partner;
  const at = { lab: await startLab(t, toPartner(partner, clock)), port: partner.port };
  for (const status of [404, 429, 500, 502, 503, 504]) {
    first.status = status;
    for (let i = 0; i < 2 * QUICK.failures; i += 1) t.equal((await ask(at, 'gateway', i % 2 === 0 ? ONE : OTHER)).status, status);
  }
  t.equal(opened(at.lab), 0);
  const { configure } = toPartner(partner, clock, { circuitBreaker: { ...QUICK, statuses: [502, 503] } });
  await at.lab.reload((draft) => configure?.(draft, { https: 0, http: 0 }));
  first.status = 504;
  for (let i = 0; i < 2 * QUICK.failures; i += 1) await ask(at, 'gateway', i % 2 === 0 ? ONE : OTHER);
  t.equal(opened(at.lab), 0);
  first.status = 503;
  for (let i = 0; i < QUICK.failures; i += 1) t.notMatch((await ask(at, 'gateway', i % 2 === 0 ? ONE : OTHER)).headers, { 'retry-after': '1' });
  t.match(await at.lab.logged(({ msg }) => msg === OPENED), { reason: 'status 503' });
  t.strictSame(await askOften(at, 1, 'gateway', THIRD), ['circuit-open']);
  first.status = 200;
  clock.now += 1100;
  t.strictSame(await askOften(at, 1, 'gateway', THIRD), ['ok']);
});

t.test('TLS that fails opens the circuit of what is sent over TLS, and of no tunnel', async (t) => {
  const clock = { now: 0 };
  const lab = await startLab(t, {
    monotonic: () => clock.now,
    configure: (draft) => void Object.assign(draft.destinations.eco, { tls: {}, circuitBreaker: QUICK }),
  });
  const at = { lab, port: lab.upstream.httpsPort };
  t.strictSame(await askOften(at, QUICK.failures), ['tls-certificate']);
  t.match(await lab.logged(({ msg }) => msg === OPENED), { carries: 'https', reason: /^tls-certificate: / });
  t.strictSame(await askOften(at, 2), ['circuit-open']);
  t.strictSame(await askOften(at, 2, 'connect'), ['ok']);
  const { upstream } = lab;
  const { connections } = upstream;
  clock.now += 1100;
  t.strictSame(await askOften(at, 2), ['tls-certificate', 'circuit-open']);
  t.equal(upstream.connections, connections + 1, 'one trial');
});

t.test('of two addresses one cuts every handshake: it is avoided, and each request is served', async (t) => {
  const clock = { now: 0 };
  let cut = 0;
  const cutting = createServer((socket) => {
    cut += 1;
    socket.on('error', () => {}).destroy();
  });
  const lab = await startLab(t, {
    monotonic: () => clock.now,
    onRequest: (_req, res) => void res.writeHead(200, { connection: 'close' }).end('x'),
    lookup: async () => ({ addresses: ['127.0.0.2', '127.0.0.1'], ttl: null }),
    configure: (draft) => void Object.assign(draft.destinations.eco, { circuitBreaker: QUICK }),
  });
  cutting.listen(lab.upstream.httpsPort, '127.0.0.2');
  await once(cutting, 'listening');
  t.teardown(() => cutting.close());
  const at = { lab, port: lab.upstream.httpsPort };
  t.strictSame(await askOften(at, QUICK.failures), ['ok']);
  t.match(await lab.logged(({ msg }) => msg === OPENED), { carries: 'https', address: '127.0.0.2', reason: /^tls-failed: / });
  t.equal(cut, QUICK.failures);
  t.strictSame(await askOften(at, 5), ['ok']);
  t.equal(cut, QUICK.failures, 'not tried again');
  clock.now += 1100;
  t.strictSame(await askOften(at, 2), ['ok'], 'who has the trial is served by the other');
  t.equal(cut, QUICK.failures + 1);
});

t.test('a client that leaves while its connection is being made', async (t) => {
  const clock = { now: 0 };
  const port = await startFullListener(t);
  const lab = await startLab(t, toPartner({ port, at: [createPartnerAddress(t, '127.0.0.1', port)] }, clock));
  for (let i = 0; i < 3 * QUICK.failures; i += 1) {
    const asked = request({ host: '127.0.0.1', port: lab.port, method: 'CONNECT', path: `${ECO}:${port}`, agent: false });
    asked.on('error', () => {}).end();
    // Each attempt takes a port, which the NAT keeps for a while.
    while ((await lab.scrape()).samples.get('eco_egress_nat_ports_used{destination="eco"}') !== i + 1);
    // The end of what it sends would not be the end of a tunnel.
    asked.socket?.resetAndDestroy();
    await lab.logged((line) => accessLines(lab).indexOf(line) === i);
  }
  t.strictSame([...new Set(accessLines(lab).map(({ code }) => code))], ['client-closed']);
  t.equal(opened(lab), 0);
  t.equal((await lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}'), 0);
});

t.test('what is ours is no failure of the upstream', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { configure, ...rest } = toPartner(partner, clock);
  const lab = await startLab(t, {
    ...rest,
    lookup: async (host) => ({ addresses: [host === ECO ? '127.0.0.1' : '10.0.0.1'], ttl: null }),
    configure: (draft, ports) => {
      configure?.(draft, ports);
      draft.destinations.eco['hosts'] = [ECO, 'other.telus.internal'];
      draft.nat = { ports: 1, timeWait: '1h' };
    },
  });
  const at = { lab, port: partner.port };
  t.strictSame(await askOften(at, 1, 'connect'), ['ok']);
  t.strictSame(await askOften(at, 3 * QUICK.failures, 'connect'), ['limit-reached']);
  for (let i = 0; i < 3 * QUICK.failures; i += 1) {
    const asked = request({ host: '127.0.0.1', port: lab.port, path: `http://other.telus.internal:${partner.port}/`, agent: false });
    asked.end();
    t.equal(codeOf(await answerOf(asked)), 'address-not-allowed');
  }
  t.equal(opened(lab), 0);
  t.equal((await lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}'), 0);
});

t.test('an address that swallows packets is avoided too, once another was faster often enough', async (t) => {
  const clock = { now: 0 };
  const port = await startFullListener(t, '127.0.0.2');
  const well = createPartnerAddress(t, '127.0.0.1', port);
  await well.begin();
  const at = { lab: await startLab(t, toPartner({ port, at: [{ ...well, address: '127.0.0.2' }, well] }, clock)), port };
  t.strictSame(await askOften(at, QUICK.failures, 'connect'), ['ok']);
  t.match(await at.lab.logged(({ msg }) => msg === OPENED), { address: '127.0.0.2', reason: 'no answer, while another address answered' });
  t.strictSame(await askOften(at, 3, 'connect'), ['ok']);
  await at.lab.logged((line) => accessLines(at.lab).indexOf(line) === 5);
  t.strictSame(accessLines(at.lab).map(({ dials }) => dials), [2, 2, 2, undefined, undefined, undefined]);
});

t.test('by parents: the circuit is that of the host, for what they cannot reach or do not answer, and not for what they refuse', async (t) => {
  const table: [answer: string, code: string, opens: boolean][] = [
    ['HTTP/1.1 502 no\r\n\r\n', 'hop-upstream-failed', true],
    ['HTTP/1.1 503 no\r\n\r\n', 'hop-failed', true],
    ['HTTP/1.1 403 no\r\n\r\n', 'hop-refused', false],
    ['HTTP/1.1 407 no\r\n\r\n', 'hop-credentials', false],
  ];
  for (const [answer, code, opens] of table) {
    for (const resolve of ['here', 'parent']) {
      const clock = { now: 0 };
      let refuses = true;
      const parent = await startParent(t, { refuse: () => (refuses ? answer : null) });
      const lab = await startHopLab(t, { hops: { edge: { url: `http://127.0.0.1:${parent.port}`, coolDown: '0s' } }, monotonic: () => clock.now, configure: (draft) => void Object.assign(draft.destinations.eco, { circuitBreaker: QUICK, resolve, ...(resolve === 'parent' ? { addresses: undefined } : {}) }) });
      const at = { lab, port: lab.upstream.httpPort };
      t.strictSame(await askOften(at, QUICK.failures, 'connect'), [code]);
      const { length } = parent.asked;
      t.strictSame(await askOften(at, 1, 'connect'), [opens ? 'circuit-open' : code]);
      if (!opens) continue;
      t.equal(parent.asked.length, length);
      t.match(await lab.logged(({ msg }) => msg === OPENED), { host: ECO, address: ECO });
      refuses = false;
      clock.now += 1100;
      t.strictSame(await askOften(at, 2, 'connect'), ['ok']);
    }
  }
});

t.test('an open circuit takes nothing of a rate, in any form', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  await partner.first.end();
  const { configure, ...rest } = toPartner(partner, clock);
  const lab = await startLab(t, { ...rest, configure: (draft, ports) => { configure?.(draft, ports); draft.rules[0] = { clients: ['pods'], destinations: ['eco'], rate: { perAddress: { requests: '6/h', tunnels: '6/h' }, perClient: { requests: '6/h' } } }; } });
  const at = { lab, port: partner.port };
  for (const form of ['connect', 'gateway'] as const) t.strictSame(await askOften(at, 3, form), ['connection-refused']);
  for (const form of ['connect', 'gateway', 'forward'] as const) t.strictSame(await askOften(at, 9, form), ['circuit-open'], form);
  await partner.first.begin();
  clock.now += 10_000;
  for (const form of ['connect', 'gateway'] as const) t.strictSame([await askOften(at, 3, form), await askOften(at, 1, form)], [['ok'], ['rate-limited']], `${form}: what was dialled is counted`);
});
