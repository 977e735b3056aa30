/** The life of a proxy: start, readiness, drain, end. */
import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect, createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { Service } from '../../src/service.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { answerOf, ask, beginAsk, TERMINATED } from '../support/ask.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { baseDraft, type Draft, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';
import { follow, openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { openWire } from '../support/wire.ts';

/** A service that is not started, of no particular destination. */
function createBare(change: (draft: Draft) => void): Service {
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {} });
  change(draft);
  const loaded = loadConfig({ file: 'egress.yaml', env: {}, readFile: () => stringify(draft) });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  return new Service(loaded.config, { logDestination: new PassThrough().resume() });
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  const open = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return open;
}

async function readiness({ adminUrl }: Lab): Promise<number> {
  return (await fetch(`${adminUrl}/readyz`)).status;
}

t.test('a started service is ready and listens where it says', async (t) => {
  const service = createBare((draft) => (draft.listeners['http'] = ['127.0.0.1:0', '127.0.0.1:0']));
  t.throws(() => service.addresses, /not been started/);
  await service.start();
  const { http, admin } = service.addresses;
  t.equal(http.length, 2);
  for (const { port } of [...http, admin]) t.ok(await isOpen(port));
  for (const path of ['/healthz', '/readyz', '/metrics', '/']) t.equal((await fetch(`http://127.0.0.1:${admin.port}${path}`)).status, 200, path);
  await service.close();
  for (const { port } of [...http, admin]) t.notOk(await isOpen(port), 'closed');
  await service.close();
  await service.drain();
  t.pass('further ends are no errors');
});

t.test('a part that fails to end is logged, and keeps no other part from its end', async (t) => {
  const output = new PassThrough();
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {} });
  const loaded = loadConfig({ file: 'egress.yaml', env: {}, readFile: () => stringify(draft) });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  let log = '';
  output.setEncoding('utf8').on('data', (text: string) => (log += text));
  const service = new Service(loaded.config, { logDestination: output });
  await service.start();
  const { admin } = service.addresses;
  Object.assign(service.sourceProof, { close: () => Promise.reject(new Error('no end')) });
  await t.rejects(service.close(), { message: 'no end' });
  t.notOk(await isOpen(admin.port), 'what comes after it has ended');
  const lines = log.trim().split('\n').map((line) => JSON.parse(line) as { level: string; msg: string; reason?: string });
  t.match(lines.find(({ level }) => level === 'error'), { msg: 'a part of the proxy did not end as it should', reason: 'Error: no end' });
  t.equal(lines.at(-1)?.msg, 'eco-egress has ended');
});

t.test('a port in use: the start fails with the system’s error, and nothing stays bound', async (t) => {
  const taken = await listen(t, createServer());
  for (const [what, change] of [
    ['the second HTTP port', (port: number) => ({ http: [`127.0.0.1:${port}`, `127.0.0.1:${taken}`], admin: '127.0.0.1:0' })],
    ['the admin port', (port: number) => ({ http: [`127.0.0.1:${port}`], admin: `127.0.0.1:${taken}` })],
  ] as const) {
    const port = await findUnusedPort();
    const service = createBare((draft) => Object.assign(draft.listeners, change(port)));
    await t.rejects(service.start(), { code: 'EADDRINUSE', port: taken }, what);
    t.notOk(await isOpen(port), 'the port that could be bound was given back');
    t.throws(() => service.addresses);
  }
});

t.test('drain: not ready at once, still served during the delay, then nothing new', async (t) => {
  const lab = await startHeldLab(t, { configure: (draft) => Object.assign(draft.timeouts, { drainDelay: '800ms', drain: '10s' }) });
  t.equal(await readiness(lab), 200);
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => {
    agent.destroy();
  });
  const idle = answerOf(beginAsk(lab, 'gateway', { agent }).end());
  (await lab.next()).res.end('before');
  t.equal((await idle).headers.connection, 'keep-alive');
  const early = ask(lab, 'gateway', { agent });
  const held = await lab.next();

  const drained = lab.service.drain();
  t.equal(await readiness(lab), 503, 'not ready at once');
  t.equal((await fetch(`${lab.adminUrl}/healthz`)).status, 200, 'and alive');
  const late = ask(lab, 'forward');
  (await lab.next()).res.end('during the delay');
  t.match(await late, { status: 200, text: 'during the delay', headers: { connection: 'close' } }, 'a new connection is still served, for one request');

  while (await isOpen(lab.port)) await setImmediate();
  t.pass('after the delay no connection is taken');
  held.res.end('in flight when it began');
  t.match(await early, { status: 200, text: 'in flight when it began', headers: { connection: 'close' } });
  await drained;
  t.same(lab.log.filter((line) => 'durationMs' in line).map(({ code }) => code), ['ok', 'ok', 'ok']);
  t.equal(lab.log.at(-1)?.msg, 'eco-egress has ended');
  await t.rejects(fetch(`${lab.adminUrl}/healthz`), 'the admin listener goes last');
});

t.test('drain: idle connections are closed, a busy one after its response', async (t) => {
  const lab = await startHeldLab(t);
  const idle = await openWire(t, lab.port);
  const used = await openWire(t, lab.port);
  used.send('GET /eco/ HTTP/1.1\r\nHost: x\r\n\r\n');
  (await lab.next()).res.end('used');
  await used.until('used');
  const busy = await openWire(t, lab.port);
  busy.send('GET /eco/ HTTP/1.1\r\nHost: x\r\n\r\n');
  const { res } = await lab.next();
  res.write('first, ');
  await busy.until('first');
  const started = performance.now();
  const drained = lab.service.drain();
  t.equal((await used.ended).how, 'fin');
  t.equal((await idle.ended).how, 'fin');
  res.end('last');
  t.match((await busy.ended).heard, /last\r\n0\r\n\r\n$/, 'whole');
  await drained;
  t.ok(performance.now() - started < 10_000, 'a connection that never asked does not hold the drain up');
});

t.test('drain: what is not done at the deadline is cut, answered and logged', async (t) => {
  const lab = await startHeldLab(t, { configure: (draft) => Object.assign(draft.timeouts, { drain: '200ms' }) });
  const unanswered = ask(lab, 'gateway');
  const answered = await openWire(t, lab.port);
  await lab.next();
  answered.send('GET /eco/half HTTP/1.1\r\nHost: x\r\n\r\n');
  (await lab.next()).res.write('half of it');
  await answered.until('half of it');
  const started = performance.now();
  await lab.service.drain();
  t.ok(performance.now() - started >= 195, 'the deadline was waited for');
  const { status, reason, headers } = await unanswered;
  t.equal(`${status} ${reason}`, '503 Egress unavailable: draining');
  t.match(headers, { 'retry-after': '1', connection: 'close' });
  t.notMatch((await answered.ended).heard, /\r\n0\r\n\r\n$/, 'half a response does not look whole');
  const lines = lab.log.filter(({ code }) => code === 'draining');
  t.match(lines, [
    { form: 'gateway', status: 503, closedBy: 'proxy' },
    { form: 'gateway', status: 200, closedBy: 'proxy', path: '/half', msg: 'closed: draining' },
  ]);
});

t.test('drain: tunnels may go on until shortly before the deadline, and are then ended and logged', async (t) => {
  const lab = await startTunnelLab(t, (draft) => Object.assign(draft.timeouts, { drain: '1s' }));
  const quick = await openTunnel(t, lab);
  const long = await openTunnel(t, lab);
  const drained = lab.service.drain();
  while (await isOpen(lab.port)) await setImmediate();
  for (const { client, upstream } of [quick, long]) {
    client.send('still ');
    await upstream.until('still ');
    upstream.send('here');
    await client.until('here');
  }
  quick.client.socket.end();
  quick.upstream.socket.end();
  t.equal((await quick.client.ended).how, 'fin');
  t.same([(await follow(long.client)).how, (await follow(long.upstream)).how], ['reset', 'reset'], 'what is in it may have no end of its own');
  await drained;
  t.match(lab.log.filter((line) => line['form'] === 'connect'), [
    { code: 'ok', status: 200 },
    { code: 'draining', status: 200, closedBy: 'proxy', msg: 'closed: draining', level: 'warn', bytesSent: 6, bytesReceived: 4 },
  ]);
});

t.test('close ends a drain, and everything else, at once', async (t) => {
  const lab = await startTunnelLab(t, (draft) => Object.assign(draft.timeouts, { drainDelay: '1h', drain: '1h' }));
  const { client, upstream } = await openTunnel(t, lab);
  const drained = lab.service.drain();
  await lab.service.close();
  await drained;
  t.same([(await client.ended).how, (await upstream.ended).how], ['reset', 'reset']);
  t.match(lab.log.filter((line) => line['form'] === 'connect'), [{ code: 'draining', closedBy: 'proxy' }]);
});

t.test('an upgrade, a dial and an upload under way do not hold an end up', async (t) => {
  const before = countSockets();
  await t.test('in flight', async (t) => {
    const lab = await startHeldLab(t);
    const closed = TERMINATED.map((form) => {
      const request = beginAsk(lab, form, { method: 'POST', headers: ['Content-Length', '1000'] });
      request.on('error', () => {});
      request.write('some');
      return answerOf(request).then(
        ({ status }) => status,
        () => 'broken',
      );
    });
    await Promise.all(TERMINATED.map(() => lab.next()));
    await lab.service.close();
    t.same(await Promise.all(closed), [503, 503, 503]);
    t.equal(lab.log.filter(({ code }) => code === 'draining').length, 3);
  });
  await t.test('a dial', async (t) => {
    const asked = Promise.withResolvers<undefined>();
    const lab = await startLab(t, {
      lookup: () => {
        asked.resolve(undefined);
        return new Promise(() => {});
      },
    });
    const wire = await openWire(t, lab.port);
    wire.send(`CONNECT eco-sit.telus.internal:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await asked.promise;
    await lab.service.close();
    await wire.ended;
    t.equal(lab.log.filter(({ code }) => code === 'draining').length, 1);
  });
  await untilSockets(before);
});
