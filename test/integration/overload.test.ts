/** A whole proxy that has more to do than it can, as its probes say: what is refused, how, and what goes on. */
import t, { type Test } from 'tap';
import type { LoopUse } from '../../src/overload/overload.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { ECO, type LabOptions } from '../support/lab.ts';
import { hello, serverName } from '../support/hello.ts';
import { sumOf } from '../support/prometheus.ts';
import { openWire, type Wire } from '../support/wire.ts';

/** Probes that the test turns. The loop is busy with one turn in every look while it is `slow`, `worked` ms of it, and no turn ends: what comes after the first millisecond is refused. */
function makeProbes() {
  const state = { slow: false, worked: 100, share: 0 };
  const use = { busy: 0, worked: 0, idle: 0, turns: 0 };
  const overload: NonNullable<LabOptions['overload']> = {
    loop: (): LoopUse => {
      use.busy += state.slow ? 100 : 1;
      use.worked += state.slow ? state.worked : 1;
      use.idle += state.slow ? 0 : 99;
      use.turns += state.slow ? 1 : 100;
      return { ...use };
    },
    memory: { read: () => ({ of: 'cgroup', used: state.share * 1000, limit: 1000, share: state.share }), close: () => {} },
    atTurnEnd: () => {},
  };
  return { state, overload };
}

const REFUSED = /^HTTP\/1\.1 503 Egress unavailable: overloaded\r\n[^]*Proxy-Status: eco-egress;error=proxy_internal_response;details="overloaded: [^]*Retry-After: [123]\r\n[^]*"code":"overloaded"[^]*\}\n$/;
/** TLS: fatal, internal_error. */
const ALERT = '\x15\x03\x03\x00\x02\x02\x50';
const ended = (line: { msg?: string }): boolean => line.msg === 'no longer overloaded: every new request is let in';
const begun = (line: { msg?: string }): boolean => line.msg === 'overloaded: new requests are refused';

/** Requests of every form that HTTP has, as a client writes them. */
function requests({ upstream, port }: Awaited<ReturnType<typeof startHeldLab>>): Record<string, string> {
  return {
    gateway: `GET /eco/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
    forward: `GET http://${ECO}:${upstream.httpPort}/ HTTP/1.1\r\nHost: x\r\n\r\n`,
    'host-routed': `GET / HTTP/1.1\r\nHost: ${ECO}:${upstream.httpPort}\r\n\r\n`,
    connect: `CONNECT ${ECO}:${upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`,
    websocket: `GET /eco/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
  };
}

/** One that has been let in before, as a connection that is kept. */
async function openKept(t: Test, lab: Awaited<ReturnType<typeof startHeldLab>>): Promise<Wire> {
  const wire = await openWire(t, lab.port);
  wire.send(requests(lab)['gateway'] ?? '');
  (await lab.next()).res.end('before');
  await wire.until('before');
  return wire;
}

function wireFor(kept: readonly { readonly name: string; readonly wire: Wire }[], wanted: string): Wire {
  const found = kept.find(({ name }) => name === wanted);
  if (found === undefined) throw new Error(`there is no connection for ${wanted}`);
  return found.wire;
}

const after = (wire: Wire, from: number): string => wire.heard.slice(from);

t.test('the loop cannot follow: every form is refused, on kept and on new connections, and what is under way goes on', async (t) => {
  const { state, overload } = makeProbes();
  const lab = await startHeldLab(t, { overload, configure: (draft) => Object.assign(draft, { limits: { loopDelay: '1ms' }, listeners: { ...draft.listeners, tls: ['127.0.0.1:0'] } }) });
  const all = requests(lab);
  const kept = await Promise.all(Object.keys(all).map(async (name) => ({ name, wire: await openKept(t, lab) })));
  const running = await openWire(t, lab.port);
  running.send(all['gateway'] ?? '');
  const held = await lab.next();
  const steered = await openWire(t, lab.service.addresses.tls[0]?.port ?? 0);
  // Its first record has been begun, so that it has been accepted.
  const clientHello = hello({ extensions: [serverName(ECO)] });
  steered.send(clientHello.subarray(0, 20));
  state.slow = true;
  t.match(await lab.logged(begun), { level: 'error', cause: 'loop', turnMs: 100 });
  steered.send(clientHello.subarray(20));
  // One of the first, which are logged.
  t.match(await lab.logged(({ form, code }) => form === 'sni' && code === 'overloaded'), { host: ECO, form: 'sni' });
  await steered.until(ALERT);

  for (const { name, wire } of kept) {
    const from = wire.heard.length;
    wire.send(all[name] ?? '');
    await wire.until(/"code":"overloaded"[^]*\}\n$/);
    t.match(after(wire, from), REFUSED, name);
    t.match(after(wire, from), name === 'connect' ? /\r\nConnection: close\r\n/ : /\r\nConnection: keep-alive\r\n/, `${name}: whether the connection is kept`);
  }
  for (const name of Object.keys(all)) {
    const { heard } = await (await openWire(t, lab.port)).ended;
    t.match(heard, REFUSED, `${name}: a new connection, before it has asked`);
    t.match(heard, /\r\nConnection: close\r\n/);
  }
  const tls = await openWire(t, lab.service.addresses.tls[0]?.port ?? 0);
  t.equal((await tls.ended).heard, ALERT, 'TLS, before its ClientHello');

  const head = wireFor(kept, 'forward');
  const before = head.heard.length;
  head.send((all['forward'] ?? '').replace('GET', 'HEAD'));
  await head.until(/(?:HTTP[^]*){3}\r\n\r\n$/);
  t.notMatch(after(head, before), /\{/, 'HEAD has no content');
  t.match(await (await fetch(`${lab.adminUrl}/readyz`)).json(), { warnings: [/more to do than it can/] });
  t.equal((await fetch(`${lab.adminUrl}/healthz`)).status, 200);
  t.match((await lab.status()).band, { state: 'degraded', reasons: [/more to do than it can/] });
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_overloaded{reason="loop"}'), 1);
  t.match(await lab.logged(({ form, code }) => form !== 'sni' && code === 'overloaded'), { status: 503, client: 'pods' });
  held.res.end('done');
  await running.until('done');

  state.slow = false;
  // A kept connection that was refused is as good as before.
  t.match(await lab.logged(ended), { level: 'info', refused: 13 });
  const again = wireFor(kept, 'forward');
  again.send(all['gateway'] ?? '');
  (await lab.next()).res.end('after');
  await again.until('after');
});

t.test('steered TLS that is refused together is counted, and ten of it are logged', async (t) => {
  const { state, overload } = makeProbes();
  const lab = await startHeldLab(t, { overload, configure: (draft) => Object.assign(draft, { limits: { loopDelay: '1ms' }, listeners: { ...draft.listeners, tls: ['127.0.0.1:0'] } }) });
  const clientHello = hello({ extensions: [serverName(ECO)] });
  const wires = await Promise.all(Array.from({ length: 60 }, () => openWire(t, lab.service.addresses.tls[0]?.port ?? 0)));
  for (const wire of wires) wire.send(clientHello.subarray(0, 20));
  state.slow = true;
  await lab.logged(begun);
  for (const wire of wires) wire.send(clientHello.subarray(20));
  await Promise.all(wires.map((wire) => wire.until(ALERT)));
  state.slow = false;
  t.match(await lab.logged(ended), { refused: 60 });
  const lines = lab.log.filter(({ code }) => code === 'overloaded');
  t.ok(lines.length >= 1 && lines.length < 60, `${lines.length} lines`);
  t.equal(sumOf(await lab.scrape(), 'eco_egress_requests_total', { code: 'overloaded' }), 60);
  t.strictSame(await (await fetch(`${lab.adminUrl}/denials`)).json().then((answer: unknown) => (answer as { latest: unknown[] }).latest), []);
});

t.test('a new connection in every turn, in a loop that never rests', async (t) => {
  const { state, overload } = makeProbes();
  const lab = await startHeldLab(t, { overload, configure: (draft) => Object.assign(draft, { limits: { loopDelay: '1ms' } }) });
  Object.assign(state, { slow: true, worked: 0.5 });
  const begins = lab.logged(begun);
  let heard = '';
  while (!heard.includes('overloaded')) {
    const wire = await openWire(t, lab.port);
    // Refused by the proxy itself in any case.
    wire.send('GET / HTTP/1.1\r\nHost: nowhere.example\r\nConnection: close\r\n\r\n');
    ({ heard } = await wire.ended);
  }
  t.match(heard, REFUSED);
  const line = await begins;
  t.match(line, { cause: 'loop', turnMs: 0.5 });
  t.ok(Number(line['acceptsPerTurn']) >= 1);
  state.slow = false;
  t.ok(await lab.logged(ended));
});

t.test('no memory: everything is refused until there is some; and it can be turned off', async (t) => {
  const { state, overload } = makeProbes();
  const lab = await startHeldLab(t, { overload });
  const wire = await openKept(t, lab);
  state.share = 0.95;
  t.match(await lab.logged(begun), { cause: 'memory', memoryOf: 'cgroup', memoryUsed: 950, memoryLimit: 1000 });
  const from = wire.heard.length;
  wire.send(requests(lab)['gateway'] ?? '');
  await wire.until(/\}\n$/);
  t.match(after(wire, from), REFUSED);
  t.match(await (await fetch(`${lab.adminUrl}/readyz`)).json(), { warnings: [/almost out of memory/] });
  t.match(await lab.reload((draft) => Object.assign(draft.limits, { memoryPercent: 100 })), { result: 'applied' });
  t.match(await lab.logged(ended), { refused: 1 });
  wire.send(requests(lab)['gateway'] ?? '');
  (await lab.next()).res.end('after');
  await wire.until('after');
});
