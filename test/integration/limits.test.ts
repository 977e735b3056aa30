/** Every limit: what is within passes, the next is told 503 or 431, and a place that is given back can be taken again. */
import type { Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { addressOf, ask, TERMINATED } from '../support/ask.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { type Draft, type Lab, startLab } from '../support/lab.ts';
import { POD, startPeerLab, STRANGER, TRUSTED } from '../support/peer-lab.ts';
import { startTlsLab } from '../support/tls-lab.ts';
import { openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';

const limit = (limits: Record<string, unknown>) => (draft: Draft) => {
  Object.assign(draft.limits, limits);
};
/** All of 503: what it is, when to come again, and that the connection ends. */
const FULL = /^HTTP\/1\.1 503 Egress unavailable: limit-reached\r\n[^]*Proxy-Status: eco-egress;error=connection_limit_reached;[^]*Retry-After: 1\r\n[^]*Connection: close\r\n/i;

/** One answer of the status page's numbers, as the metrics tell them. */
async function untilSample(lab: Lab, series: string, value: number): Promise<void> {
  while ((await lab.scrape()).samples.get(series) !== value) await setImmediate();
}

async function askFrom(t: Parameters<typeof openWire>[0], lab: Lab, request: string, from = '127.0.0.1'): Promise<Wire> {
  const wire = await openWire(t, lab.port, { from });
  wire.send(request);
  return wire;
}

t.test('tunnels, in all and for one client', async (t) => {
  for (const [limits, key, fromAnother] of [
    [{ tunnels: 2 }, 'tunnels', 'refused'],
    [{ tunnelsPerClient: 2 }, 'tunnelsPerClient', 'taken'],
  ] as const) {
    const lab = await startTunnelLab(t, limit(limits));
    const connect = `CONNECT ${lab.target} HTTP/1.1\r\nHost: x\r\n\r\nearly`;
    const open = [await openTunnel(t, lab), await openTunnel(t, lab)];
    const { heard } = await (await askFrom(t, lab, connect)).ended;
    t.match(heard, FULL, key);
    t.match(heard, `raise limits.${key}`);
    t.match(await lab.logged(({ code }) => code === 'limit-reached'), { form: 'connect', status: 503, destination: 'eco', msg: 'denied: limit-reached' });
    const other = await askFrom(t, lab, connect, '127.0.0.2');
    if (fromAnother === 'refused') t.match((await other.ended).heard, FULL);
    else t.match(await other.until('\r\n\r\n'), /^HTTP\/1\.1 200 /);
    other.socket.resetAndDestroy();
    t.equal(lab.accepted.length, fromAnother === 'refused' ? 2 : 3, 'nothing was dialled for who was refused');
    open[0]?.client.socket.resetAndDestroy();
    await untilSample(lab, 'eco_egress_tunnels_active{form="connect",destination="eco"}', 1);
    const again = await askFrom(t, lab, connect);
    t.match(await again.until('\r\n\r\n'), /^HTTP\/1\.1 200 /, 'a place that is free again is given away');
  }
});

t.test('a request for a WebSocket counts as a tunnel, from its beginning', async (t) => {
  const lab = await startTunnelLab(t, limit({ tunnels: 1, exchanges: 1 }));
  const socket = `GET http://${lab.target}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
  const first = await askFrom(t, lab, socket);
  const upstream = await lab.accept();
  await upstream.until('\r\n\r\n');
  for (const request of [socket, `CONNECT ${lab.target} HTTP/1.1\r\nHost: x\r\n\r\n`]) {
    const { heard } = await (await askFrom(t, lab, request)).ended;
    t.match(heard, FULL);
    t.match(heard, 'raise limits.tunnels');
  }
  t.equal(lab.accepted.length, 1, 'nothing was dialled for who was refused');
  upstream.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n');
  await first.until(/101 [^]*\r\n\r\n/);
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_tunnels_active{form="forward",destination="eco"}'), 1);
  t.equal(samples.get('eco_egress_exchanges_active'), 0);
  await askFrom(t, lab, `GET http://${lab.target}/x HTTP/1.1\r\nHost: x\r\n\r\n`);
  await (await lab.accept()).until('\r\n\r\n');
  t.equal((await lab.scrape()).samples.get('eco_egress_exchanges_active'), 1, 'the place of an exchange is free');
  first.socket.resetAndDestroy();
  await untilSample(lab, 'eco_egress_tunnels_active{form="forward",destination="eco"}', 0);
  t.match(await (await askFrom(t, lab, `CONNECT ${lab.target} HTTP/1.1\r\nHost: x\r\n\r\n`)).until('\r\n\r\n'), /^HTTP\/1\.1 200 /, 'a place that is free again is given away');
});

t.test('exchanges, in all and for one client, over all forms together', async (t) => {
  for (const [limits, key, fromAnother] of [
    [{ exchanges: 3 }, 'exchanges', 503],
    [{ exchangesPerClient: 3 }, 'exchangesPerClient', 200],
  ] as const) {
    const lab = await startHeldLab(t, { configure: limit(limits) });
    const request = (form: (typeof TERMINATED)[number]): string => {
      const { target, host } = addressOf(lab, form, '/x');
      return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    };
    const busy: Wire[] = [];
    const held = [];
    for (const form of TERMINATED) {
      busy.push(await askFrom(t, lab, request(form)));
      held.push(await lab.next());
    }
    for (const form of TERMINATED) {
      const { heard } = await (await askFrom(t, lab, request(form))).ended;
      t.match(heard, FULL, `${key}: ${form}`);
      t.match(heard, `raise limits.${key}`);
    }
    const other = await askFrom(t, lab, request('gateway'), '127.0.0.2');
    if (fromAnother === 200) (await lab.next()).res.end();
    t.match((await other.ended).heard, new RegExp(`^HTTP/1\\.1 ${fromAnother} `));
    held[0]?.res.end('done');
    t.match((await busy[0]?.ended)?.heard, /done/);
    const again = await askFrom(t, lab, request('forward'));
    (await lab.next()).res.end('again');
    t.match((await again.ended).heard, /again/);
    for (const { res } of held.slice(1)) res.end();
    for (const wire of busy) t.match((await wire.ended).heard, /^HTTP\/1\.1 200 /, 'who was in was not disturbed');
  }
});

t.test('client connections: the next one is refused at once, before its request', async (t) => {
  const lab = await startLab(t, { configure: limit({ connections: 2 }) });
  const open = [await openWire(t, lab.port), await openWire(t, lab.port)];
  for (const wire of open) {
    wire.send('GET /eco/ HTTP/1.1\r\nHost: x\r\n\r\n');
    await wire.until('}');
  }
  const beyond = await openWire(t, lab.port);
  const { heard, how } = await beyond.ended;
  t.match(heard, FULL);
  t.equal(how, 'fin');
  t.match(await lab.logged(({ code }) => code === 'limit-reached'), { form: '-', client: 'pods', clientAddress: '127.0.0.1', status: 503 });
  t.equal((await lab.scrape()).samples.get('eco_egress_client_connections'), 2);
  open[0]?.socket.destroy();
  await untilSample(lab, 'eco_egress_client_connections', 1);
  t.equal((await ask(lab, 'gateway')).status, 200);
});

t.test('connections of one client: others have their places, on every listener', async (t) => {
  const lab = await startTlsLab(t, { configure: limit({ connectionsPerClient: 2 }) });
  const wires = [await openWire(t, lab.port), await openWire(t, lab.tlsPort)];
  t.match((await (await openWire(t, lab.port)).ended).heard, FULL);
  t.match(await lab.logged(({ code }) => code === 'limit-reached'), { clientAddress: '127.0.0.1', status: 503, detail: /^2 connections from 127\.0\.0\.1 are open.*limits\.connectionsPerClient/ });
  // internal_error: an alert in a record of its own.
  t.equal(Buffer.from((await (await openWire(t, lab.tlsPort)).ended).heard, 'latin1').toString('hex'), '15030300020250');
  for (const port of [lab.port, lab.tlsPort]) wires.push(await openWire(t, port, { from: '127.0.0.2' }));
  t.match((await (await openWire(t, lab.port, { from: '127.0.0.2' })).ended).heard, FULL);
  await untilSample(lab, 'eco_egress_client_connections', 4);
  wires[1]?.socket.destroy();
  await untilSample(lab, 'eco_egress_client_connections', 3);
  t.equal((await ask(lab, 'gateway')).status, 200, 'a place that is free again is given away');
  await untilSample(lab, 'eco_egress_client_connections', 3);

  t.match(await lab.reload(limit({ connectionsPerClient: 3 })), { result: 'applied' });
  wires.push(await openWire(t, lab.port), await openWire(t, lab.port));
  t.match((await (await openWire(t, lab.port)).ended).heard, FULL);
  await untilSample(lab, 'eco_egress_client_connections', 5);
});

t.test('a load balancer may have all the places, and who only says that it is one may not', async (t) => {
  const lab = await startPeerLab(t, { listener: { proxyProtocol: 'from-trusted' }, configure: limit({ connections: 6, connectionsPerClient: 2 }) });
  const header = Buffer.from(`PROXY TCP4 ${POD} 10.0.0.1 56324 8080\r\n`);
  const ours = await Promise.all(Array.from({ length: 4 }, async () => openWire(t, lab.port)));
  for (const [i, wire] of ours.entries()) wire.send(i < 2 ? header : `PROXY TCP4 10.8.0.${i} 10.0.0.1 56324 8080\r\n`);
  for (let i = 0; i < 2; i += 1) await openWire(t, lab.port, { from: STRANGER });
  const beyond = await openWire(t, lab.port, { from: STRANGER });
  t.match((await beyond.ended).heard, /6 client connections are open/, 'the limit in all counts everybody');
  await lab.reload((draft) => {
    draft.listeners['http'] = [{ address: '127.0.0.1:0', trustedPeers: [`${TRUSTED}/32`, '10.9.0.0/16'], proxyProtocol: 'from-trusted' }];
    limit({ connections: 100, connectionsPerClient: 2 })(draft);
  });
  const another = await openWire(t, lab.port);
  another.send(header);
  t.match((await another.ended).heard, new RegExp(`2 connections from ${POD} are open`), 'nor may one client behind it');
  const others = await Promise.all([1, 2, 3].map(async () => openWire(t, lab.port)));
  for (const wire of others) wire.send('PROXY UNKNOWN\r\n');
  const after = 'GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  for (const wire of others) {
    wire.send(after);
    t.match((await wire.ended).heard, /^HTTP\/1\.1 200 /, 'who speaks for itself is not counted');
  }
  ours[0]?.socket.destroy();
  await untilSample(lab, 'eco_egress_client_connections', 5);
  const next = await openWire(t, lab.port);
  next.send(header);
  next.send(after);
  t.match((await next.ended).heard, /^HTTP\/1\.1 403 [^]*client-not-allowed/, 'its place is free again, and what it asks is looked at');
  const stranger = await openWire(t, lab.port, { from: STRANGER });
  stranger.send(header);
  t.match((await stranger.ended).heard, /2 connections from 127\.0\.0\.2 are open/);
});

t.test('a request header section: bytes and fields, the last that fits and the first that does not', async (t) => {
  const lab = await startLab(t, { configure: limit({ headerBytes: '4KiB', headerFields: 20 }) });
  const before = lab.upstream.requests.length;
  for (const [what, more, status] of [
    ['20 fields', Array.from({ length: 18 }, (_, i) => `X-${i}: 1\r\n`).join(''), 200],
    ['21 fields', Array.from({ length: 19 }, (_, i) => `X-${i}: 1\r\n`).join(''), 431],
    ['below 4 KiB', `X: ${'x'.repeat(3900)}\r\n`, 200],
    ['above 4 KiB', `X: ${'x'.repeat(4200)}\r\n`, 431],
    ['a target above 4 KiB', null, 414],
  ] as const) {
    const path = more === null ? `/eco/${'x'.repeat(4200)}` : '/eco/';
    const wire = await askFrom(t, lab, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${more ?? ''}\r\n`);
    const { heard } = await wire.ended;
    t.match(heard, new RegExp(`^HTTP/1\\.1 ${status} `), what);
  }
  t.equal(lab.upstream.requests.length - before, 2);
  const tunnel = await askFrom(t, lab, `CONNECT eco-sit.telus.internal:443 HTTP/1.1\r\nHost: x\r\n${Array.from({ length: 20 }, (_, i) => `X-${i}: 1\r\n`).join('')}\r\n`);
  t.match((await tunnel.ended).heard, /^HTTP\/1\.1 431 /, 'CONNECT is no exception');
});

t.test('an upstream whose head is too large', async (t) => {
  const lab = await startLab(t, { configure: limit({ headerBytes: '4KiB' }), onRequest: (_req, res) => res.writeHead(200, { 'X-Long': 'x'.repeat(5000) }).end() });
  for (const form of TERMINATED) t.match(await ask(lab, form), { status: 502, reason: 'Upstream failed: upstream-malformed' }, form);
});

t.test('requests to the limit, many at once, and no place is lost', async (t) => {
  const sockets = new Set<Socket>();
  const lab = await startLab(t, {
    configure: limit({ exchanges: 5, upstreamConnections: 3 }),
    onRequest: (req, res) => {
      sockets.add(req.socket);
      setTimeout(() => res.end('ok'), 5);
    },
  });
  const statuses = await Promise.all(Array.from({ length: 60 }, async (_, i) => (await ask(lab, TERMINATED[i % 3] ?? 'gateway')).status));
  t.ok(statuses.includes(200) && statuses.every((status) => status === 200 || status === 503));
  const later = await Promise.all(Array.from({ length: 5 }, async () => (await ask(lab, 'gateway')).status));
  t.same(later, [200, 200, 200, 200, 200]);
  t.ok(sockets.size <= 6, 'three connections for each of two origins');
});
