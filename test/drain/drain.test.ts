/** How tunnels and exchanges end when the proxy shuts down: real sockets, and a time that the test moves. */
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { DrainView } from '../../src/drain/drain-view.ts';
import { ask } from '../support/ask.ts';
import { ManualDrainClock } from '../support/drain-clock.ts';
import { startHeldLab } from '../support/held-lab.ts';
import type { Draft, Lab } from '../support/lab.ts';
import { follow, openTunnel, startTunnelLab, type TunnelLab } from '../support/tunnel-lab.ts';
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

/** Open tunnels that are all seen to be idle; each end closes when it sees the end of the other. */
async function openIdle(t: Test, lab: TunnelLab, count: number): Promise<Ends[]> {
  const tunnels: Ends[] = [];
  while (tunnels.length < count) tunnels.push(await openTunnel(t, lab));
  for (const { client, upstream } of tunnels) for (const wire of [client, upstream]) void follow(wire);
  await untilView(lab, ({ tunnels: { idle } }) => idle === count);
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
    client.send('x');
    await upstream.until('x');
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
  await loaded.client.until(/(?:content ){8}$/);
  while (loaded.client.heard.length < content.length) await once(loaded.client.socket, 'data');
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
