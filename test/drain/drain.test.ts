/** How tunnels and exchanges end when the proxy shuts down: real sockets, and a time that the test moves. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import type { DrainView } from '../../src/drain/drain-view.ts';
import { ask } from '../support/ask.ts';
import { ManualDrainClock } from '../support/drain-clock.ts';
import { hello, serverName } from '../support/hello.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { ECO, type Draft, type Lab } from '../support/lab.ts';
import { ESTABLISHED, follow, openTunnel, startTunnelLab, type TunnelLab } from '../support/tunnel-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';

/** Ms; a step of the drain takes 40, and what is silent for 200 is quiet. */
const WINDOW = 10_000;
const SPREAD = 9500;
/** A short keep-alive makes the clock of the connections tick often. */
const inWindow = (draft: Draft): object => Object.assign(draft.timeouts, { drain: `${WINDOW}ms`, keepAlive: '200ms' });

interface Ends {
  readonly client: Wire;
  readonly upstream: Wire;
}

async function viewOf(lab: Pick<Lab, 'adminUrl'>): Promise<DrainView> {
  return (await (await fetch(`${lab.adminUrl}/drain`)).json()) as DrainView;
}

/** A ClientHello of its own for the lab's host: what follows is taken for TLS. */
function makeHello(): Buffer {
  const bytes = hello({ extensions: [serverName(ECO)] });
  // Behind the heads of record and message, and the version (RFC 8446 §4.1.2).
  randomBytes(32).copy(bytes, 11);
  return bytes;
}

/** An open tunnel whose client has begun TLS. */
async function openTls(t: Test, lab: TunnelLab): Promise<Ends> {
  const ends = await openTunnel(t, lab);
  ends.client.send(makeHello());
  await once(ends.upstream.socket, 'data');
  return ends;
}

/** Open tunnels, which carry TLS and are all seen to be idle; each end closes when it sees the end of the other. */
async function openIdle(t: Test, lab: TunnelLab, count: number): Promise<Ends[]> {
  const tunnels: Ends[] = [];
  while (tunnels.length < count) tunnels.push(await openTls(t, lab));
  for (const { client, upstream } of tunnels) for (const wire of [client, upstream]) void follow(wire);
  await untilView(lab, ({ tunnels: { idle } }) => idle >= count);
  return tunnels;
}

async function untilView(lab: Pick<Lab, 'adminUrl'>, fits: (view: DrainView) => boolean): Promise<DrainView> {
  for (;;) {
    const view = await viewOf(lab);
    if (fits(view)) return view;
    await setImmediate();
  }
}

/** Begins a drain; returns when its window has, and its time stands still. */
async function beginDrain(lab: Lab, clock: ManualDrainClock): Promise<{ readonly drained: Promise<void> }> {
  clock.stop(1000);
  const drained = lab.service.drain();
  await clock.armed;
  return { drained };
}

t.test('200 tunnels: they end at an even rate, those that are idle longest first, in order on both sides', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const tunnels = await openIdle(t, lab, 200);
  t.match(await viewOf(lab), { state: 'running', deadline: null, secondsLeft: null, tunnels: { open: 200, idle: 200, busy: 0, endsPerSecond: 21.1, byClient: [{ client: 'pods', tunnels: 200 }], byDestination: [{ destination: 'eco', tunnels: 200 }] } }, 'a forecast before there is a drain');

  const order: number[] = [];
  tunnels.forEach(({ client }, place) => client.socket.once('end', () => order.push(place)));
  const { drained } = await beginDrain(lab, clock);
  t.match(await viewOf(lab), { state: 'draining', secondsLeft: 10, tunnels: { open: 200, idle: 200, endsPerSecond: 21.1 }, ended: { quiet: 0 } });
  t.match(lab.log.find(({ msg }) => msg?.startsWith('draining') === true), { tunnels: 200, idle: 200, busy: 0, endsPerSecond: 21.1, exchanges: 0 });
  // These have moved something lately: the first that were opened would otherwise be the first to end.
  const lately = tunnels.slice(0, 20);
  clock.pass(40);
  for (const { client, upstream } of lately) {
    upstream.send('x');
    await client.until('x');
  }
  clock.pass(40);

  const ended: number[] = [];
  let elapsed = 80;
  for (let tenth = 1; tenth <= 10; tenth += 1) {
    clock.pass((SPREAD / 10) * tenth - elapsed);
    elapsed = (SPREAD / 10) * tenth;
    const { ended: { quiet, busy } } = await viewOf(lab);
    t.equal(busy, 0);
    ended.push(quiet - ended.reduce((sum, count) => sum + count, 0));
    await untilView(lab, () => order.length >= quiet);
  }
  // The last step of the timer comes a little before the last moment.
  clock.pass(40);
  for (const count of ended) t.ok(count >= 19 && count <= 21, `an even part in each tenth: ${ended.join(' ')}`);
  for (const { client, upstream } of tunnels) t.same([(await client.ended).how, (await upstream.ended).how], ['fin', 'fin']);
  t.same(new Set(order.slice(-20)), new Set(lately.map((_ends, place) => place)), 'what moved lately ends last');
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 200, busy: 0, cut: 0, exchangesCut: 0, byThemselves: 0 });
  const lines = lab.log.filter(({ form }) => form === 'connect');
  t.equal(lines.length, 200);
  for (const line of lines) t.match(line, { code: 'draining', closedBy: 'proxy', status: 200 });
});

t.test('a busy tunnel is not torn in the middle of what it moves; one that never rests ends by a reset, before the deadline', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const [loaded, restless] = await openIdle(t, lab, 2);
  if (loaded === undefined || restless === undefined) throw new Error('two were opened');
  const content = Buffer.alloc(32 * 1024 * 1024, 'content ');
  loaded.client.socket.pause();
  loaded.upstream.send(content);
  await untilView(lab, ({ tunnels: { busy } }) => busy === 1);
  // Until the proxy holds what its client does not take: before that, reading may rest for some ms, which the clock here would pass at once.
  for (let before = -1; before !== loaded.upstream.socket.writableLength; ) {
    before = loaded.upstream.socket.writableLength;
    await delay(100);
  }
  const { drained } = await beginDrain(lab, clock);
  const say = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 120) {
      restless.client.send('.');
      await once(restless.upstream.socket, 'data');
      clock.pass(120);
    }
  };
  await say(7800);
  t.match(await viewOf(lab), { tunnels: { open: 2, idle: 0 }, ended: { quiet: 0, busy: 0 } });

  loaded.client.socket.resume();
  while (loaded.client.socket.bytesRead < content.length) await once(loaded.client.socket, 'data');
  await say(480);
  t.match(await viewOf(lab), { ended: { quiet: 1, busy: 0 } }, 'ended when it had come to rest');
  const { heard, how } = await loaded.client.ended;
  t.equal(how, 'fin');
  t.ok(heard.endsWith('content content '), 'with all that it was sent');

  await say(1600);
  t.match((await restless.client.ended).how, 'reset');
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 1, busy: 1, cut: 0 });
});

t.test('plain bytes that pause: the end of a tunnel is not the end of a response', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const { client, upstream } = await openTunnel(t, lab);
  client.send('GET / HTTP/1.0\r\n\r\n');
  await upstream.until('\r\n\r\n');
  upstream.send('HTTP/1.0 200 OK\r\n\r\nhalf of');
  await client.until('half of');
  await untilView(lab, ({ tunnels: { idle } }) => idle === 1);
  const { drained } = await beginDrain(lab, clock);
  clock.pass(WINDOW);
  t.same([(await follow(client)).how, (await follow(upstream)).how], ['reset', 'reset']);
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 1, busy: 0, cut: 0 });
});

t.test('a client that waits for an answer is left alone for longer', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const [asking, answered] = await openIdle(t, lab, 2);
  if (asking === undefined || answered === undefined) throw new Error('two were opened');
  const { drained } = await beginDrain(lab, clock);
  clock.pass(4000);
  answered.client.send('question');
  await answered.upstream.until('question');
  answered.upstream.send('answer');
  await answered.client.until('answer');
  clock.pass(40);
  asking.client.send('question');
  await asking.upstream.until('question');
  clock.pass(760);
  t.equal((await answered.client.ended).how, 'fin', 'the one that has its answer, although it moved earlier than the other');
  clock.pass(40);
  asking.upstream.send('late answer');
  await asking.client.until('late answer');
  clock.pass(SPREAD - 4800);
  t.match(await asking.client.ended, { how: 'fin', heard: /late answer$/ });
  await drained;
});

t.test('TLS in a quiet tunnel: neither side sees an error', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startHeldLab(t, { configure: inWindow, drainClock: clock });
  const wire = await openWire(t, lab.port);
  const target = `${ECO}:${lab.upstream.httpsPort}`;
  wire.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  await wire.until(ESTABLISHED);
  const server = once(lab.upstream.https, 'secureConnection') as Promise<[TLSSocket]>;
  wire.socket.removeAllListeners('data');
  const client = connectTls({ socket: wire.socket, servername: ECO, ca: lab.authority.certPem });
  await once(client, 'secureConnect');
  client.write(`GET / HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  (await lab.next()).res.end('an answer');
  let heard = '';
  client.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  while (!heard.includes('an answer')) await once(client, 'data');
  const closed = Promise.all([client, (await server)[0]].map((socket) => once(socket, 'close')));
  await untilView(lab, ({ tunnels: { idle } }) => idle === 1);
  const { drained } = await beginDrain(lab, clock);
  clock.pass(SPREAD + 40);
  t.same(await closed, [[false], [false]], 'closed without one');
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 1, cut: 0 });
});

t.test('what ends by itself is left out: the rest is spread anew over what is left', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const tunnels = await openIdle(t, lab, 10);
  const { drained } = await beginDrain(lab, clock);
  clock.pass(40);
  for (const { client, upstream } of tunnels.slice(0, 6)) {
    client.socket.end();
    await Promise.all([client.ended, upstream.ended]);
  }
  await untilView(lab, ({ tunnels: { open } }) => open === 4);
  const endsAt = async (ms: number): Promise<number> => {
    clock.pass(ms);
    return (await viewOf(lab)).ended.quiet;
  };
  t.same([await endsAt(2300), await endsAt(80), await endsAt(2280), await endsAt(80), await endsAt(2280), await endsAt(100)], [0, 1, 1, 2, 2, 3], 'a quarter of the window each');
  t.match(await viewOf(lab), { ended: { byThemselves: 6, quiet: 3 }, tunnels: { open: 1 } });
  clock.pass(2400);
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { byThemselves: 6, quiet: 4, busy: 0, cut: 0 });
});

t.test('a side that does not close when it sees the end is reset after a while', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const { client, upstream } = await openTls(t, lab);
  await untilView(lab, ({ tunnels: { idle } }) => idle === 1);
  await openIdle(t, lab, 1);
  await untilView(lab, ({ tunnels: { idle } }) => idle === 2);
  const seen = Promise.all([once(client.socket, 'end'), once(upstream.socket, 'end')]);
  const { drained } = await beginDrain(lab, clock);
  clock.pass(4800);
  await seen;
  t.match(await viewOf(lab), { tunnels: { open: 1 }, ended: { quiet: 1 } });
  t.notOk(client.socket.destroyed, 'its own direction is open');
  clock.pass(4680);
  t.notOk(lab.log.some(({ form }) => form === 'connect'), 'nor is it over');
  clock.pass(400);
  await drained;
  t.equal(lab.log.filter(({ code, closedBy }) => code === 'draining' && closedBy === 'proxy').length, 2);
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 2, cut: 0 });
});

t.test('exchanges: one under way ends whole, an event stream lives until the deadline, no connection is promised to be kept', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startHeldLab(t, { configure: inWindow, drainClock: clock });
  const answer = ask(lab, 'gateway');
  const { res } = await lab.next();
  const events = await openWire(t, lab.port);
  events.send('GET /eco/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n');
  const stream = (await lab.next()).res;
  stream.setHeader('content-type', 'text/event-stream');
  stream.write('data: 1\n\n');
  await events.until('data: 1');
  const { drained } = await beginDrain(lab, clock);
  t.match(await viewOf(lab), { state: 'draining', tunnels: { open: 0, medianAge: null }, exchanges: 2 });
  clock.pass(5000);
  res.end('late, and whole');
  t.match(await answer, { status: 200, text: 'late, and whole', headers: { connection: 'close' } });
  clock.pass(4960);
  stream.write('data: 2\n\n');
  await events.until('data: 2');
  clock.pass(40);
  t.notMatch((await events.ended).heard, /\r\n0\r\n\r\n$/, 'cut, and it does not look whole');
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { exchangesCut: 1, cut: 0, quiet: 0 });
});

t.test('tunnels that were accepted in the delay are part of the plan, as is a WebSocket', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, (draft) => {
    inWindow(draft);
    Object.assign(draft.timeouts, { drainDelay: '500ms' });
  }, {}, { drainClock: clock });
  const [first] = await openIdle(t, lab, 1);
  clock.stop(1000);
  const drained = lab.service.drain();
  t.match(await viewOf(lab), { state: 'delay', secondsLeft: 10.5, tunnels: { open: 1, endsPerSecond: 0.1 } });
  const second = await openTunnel(t, lab);
  const socket = await openWire(t, lab.port, { halfOpen: true });
  socket.send(`GET http://${lab.target}/ HTTP/1.1\r\nHost: ${lab.target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
  const server = await lab.accept();
  await server.until('\r\n\r\n');
  server.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n');
  await socket.until(/101 [^]*\r\n\r\n/);
  for (const wire of [second.client, second.upstream, socket, server]) void follow(wire);
  await clock.armed;
  t.match(await viewOf(lab), { state: 'draining', tunnels: { open: 3 }, exchanges: 0 });
  clock.pass(SPREAD + 40);
  t.same(await Promise.all([first?.client, second.client, socket, server].map(async (wire) => (await wire?.ended)?.how)), ['fin', 'reset', 'reset', 'reset']);
  await drained;
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 3, busy: 0, cut: 0 });
});

t.test('a second signal cuts what is left, and says how much', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, inWindow, {}, { drainClock: clock });
  const tunnels = await openIdle(t, lab, 3);
  const { drained } = await beginDrain(lab, clock);
  clock.pass(SPREAD / 3 + 40);
  await untilView(lab, ({ ended: { quiet } }) => quiet === 1);
  t.match((await lab.scrape()).samples.get('eco_egress_drain_tunnels_ended_total{result="quiet"}'), 1);
  t.equal((await lab.scrape()).samples.get('eco_egress_draining'), 1);
  await lab.service.close();
  await drained;
  t.same((await Promise.all(tunnels.map(({ client }) => client.ended))).map(({ how }) => how).toSorted(), ['fin', 'reset', 'reset']);
  t.match(lab.log.find(({ msg }) => msg === 'the drain is over'), { quiet: 1, cut: 2 });
});
