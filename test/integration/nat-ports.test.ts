/** The port budget of a whole proxy: what is refused, what goes on meanwhile, and that nothing is lost. */
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { startFullListener } from '../support/full-listener.ts';
import { type Draft, ECO, type Lab, startLab } from '../support/lab.ts';
import { ESTABLISHED, follow } from '../support/tunnel-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';

type Section = Record<string, unknown>;

const nat = (section: Section) => (draft: Draft) => {
  draft.nat = section;
};

/** A CONNECT, its answer yet to come. */
async function connect(t: Test, lab: Lab, port = lab.upstream.httpsPort): Promise<Wire> {
  const wire = await openWire(t, lab.port, { halfOpen: true });
  wire.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`);
  return wire;
}

/** All that the proxy says to a CONNECT that it refuses. */
async function refusal(t: Test, lab: Lab, port?: number): Promise<string> {
  return (await follow(await connect(t, lab, port))).heard;
}

const answerOf = (wire: Wire): Promise<string> => wire.until('\r\n\r\n');

async function openTunnel(t: Test, lab: Lab): Promise<Wire> {
  const wire = await connect(t, lab);
  await wire.until(ESTABLISHED);
  return wire;
}

async function close(wire: Wire): Promise<void> {
  wire.socket.end();
  await follow(wire);
}

const sample = async (lab: Lab, name: string, destination = 'eco'): Promise<number | undefined> => (await lab.scrape()).samples.get(`eco_egress_${name}{destination="${destination}"}`);

async function untilUsed(lab: Lab, expected: number): Promise<void> {
  while ((await sample(lab, 'nat_ports_used')) !== expected) await setImmediate();
}

t.test('at the limit a new connection is refused with the time to come again, and pooled ones go on', async (t) => {
  const lab = await startLab(t, { configure: nat({ ports: 6, replicasPerNode: 2, timeWait: '400ms' }) });
  const viaGateway = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  t.equal(await viaGateway(), 200);
  const [first, second] = [await openTunnel(t, lab), await openTunnel(t, lab)];

  const heard = await refusal(t, lab);
  t.match(heard, /^HTTP\/1\.1 503 Egress unavailable: limit-reached\r\n[^]*Proxy-Status: eco-egress;error=connection_limit_reached;[^]*Retry-After: 1\r\n/i);
  t.match(heard, 'no NAT port is free');
  t.match(heard, 'raise nat.ports');
  t.equal(lab.upstream.connections, 3, 'no packet of it left');
  for (let i = 0; i < 3; i += 1) t.equal(await viaGateway(), 200, 'over the connection that is there');
  t.equal(lab.upstream.connections, 3);

  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_nat_ports_limit'), 3);
  t.equal(samples.get('eco_egress_nat_ports_used{destination="eco"}'), 3);
  t.equal(samples.get('eco_egress_nat_ports_high_water{destination="eco"}'), 3);
  t.equal(samples.get('eco_egress_nat_ports_refused_total{destination="eco"}'), 1);
  const place = `127.0.0.1:${lab.upstream.httpsPort}`;
  const { status, warnings } = (await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { status: string; warnings: string[] };
  t.equal(status, 'ready');
  t.ok(warnings.includes(`NAT ports towards ${place} (eco): 3 of 3 in use, and new connections were refused or had to wait.`), warnings.join(' '));
  t.match(await lab.status(), { destinations: [{ name: 'eco', nat: { used: 3, highWater: 3, refused: 1 } }] });
  t.match(await lab.logged(({ msg }) => msg === 'NAT ports are running out'), { level: 'warn', upstream: place, destinations: ['eco'], used: 3, limit: 3 });
  t.match(await lab.logged(({ msg }) => msg?.startsWith('NAT ports are exhausted') === true), { level: 'error', upstream: place });

  const began = performance.now();
  await close(first);
  await close(second);
  t.match(await refusal(t, lab), /^HTTP\/1\.1 503 /, 'the NAT keeps them a while');
  for (;;) {
    const answer = await answerOf(await connect(t, lab));
    if (ESTABLISHED.test(answer)) break;
  }
  t.ok(performance.now() - began >= 400, 'not before it lets go');
});

t.test('in the queue, a connection waits for its port', async (t) => {
  const lab = await startLab(t, { configure: nat({ ports: 1, timeWait: '100ms', whenExhausted: 'queue', queueFor: '10s' }) });
  const first = await openTunnel(t, lab);
  const [second, gone] = [await connect(t, lab), await connect(t, lab)];
  await lab.logged(({ msg }) => msg?.startsWith('NAT ports are exhausted') === true);
  gone.socket.resetAndDestroy();
  await close(first);
  await second.until(ESTABLISHED);
  await close(second);
  await untilUsed(lab, 0);
  await lab.reload(nat({ ports: 1, timeWait: '100ms', whenExhausted: 'queue', queueFor: '1ms' }));
  await openTunnel(t, lab);
  t.match(await refusal(t, lab), /^HTTP\/1\.1 503 /, 'no longer than it may');
});

t.test('a reload counts on, with the new limits', async (t) => {
  const lab = await startLab(t, { configure: nat({ ports: 1 }) });
  const tunnel = await openTunnel(t, lab);
  t.match(await refusal(t, lab), /^HTTP\/1\.1 503 [^]*Retry-After: 120\r\n/);
  await lab.reload((draft) => {
    draft.nat = { ports: 2 };
    // Another dialler, too.
    draft.timeouts['connect'] = '7s';
  });
  const other = await openTunnel(t, lab);
  t.match(await refusal(t, lab), /^HTTP\/1\.1 503 /);
  await lab.reload(nat({ ports: 1, timeWait: '0s' }));
  t.equal(await sample(lab, 'nat_ports_used'), 2, 'what is open stays open');
  await close(tunnel);
  t.match(await refusal(t, lab), /^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n/, 'one is one too many still');
  await close(other);
  await openTunnel(t, lab);
  await lab.reload(() => {});
  const { samples } = await lab.scrape();
  t.notOk(samples.has('eco_egress_nat_ports_limit'), 'without nat.ports there is no limit to tell');
  t.equal(samples.get('eco_egress_nat_ports_used{destination="eco"}'), 1, 'but the count goes on');
  t.equal(samples.get('eco_egress_nat_ports_refused_total{destination="eco"}'), 3);
});

t.test('no port is lost to what fails', async (t) => {
  const silent = await startFullListener(t);
  const lab = await startLab(t, {
    configure: (draft, { http }) => {
      draft.nat = { ports: 3, timeWait: '0s' };
      draft.destinations.eco['ports'] = [...(draft.destinations.eco['ports'] as number[]), silent, 1];
      // TLS to a port that speaks none.
      draft.destinations.eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${http}` };
    },
  });
  for (let i = 0; i < 6; i += 1) {
    t.match(await refusal(t, lab, 1), /^HTTP\/1\.1 502 [^]*connection_refused/, 'refused');
    const response = await fetch(`${lab.url}/eco/x`);
    t.match(await response.json(), { code: 'tls-failed' });
    const leaving = await connect(t, lab, silent);
    await untilUsed(lab, 1);
    leaving.socket.resetAndDestroy();
    await untilUsed(lab, 0);
  }
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      const wire = await connect(t, lab);
      wire.socket.destroy();
    }),
  );
  await untilUsed(lab, 0);
});

t.test('with a parent on the way, its ports are counted', async (t) => {
  const far = await startLab(t, {
    configure: (draft) => {
      draft.name = 'parent';
    },
  });
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.nat = { ports: 2, timeWait: '1h' };
      draft.hops = { parent: { url: far.url, addresses: ['127.0.0.0/8'] } };
      draft.destinations.eco['ports'] = [far.upstream.httpsPort, far.upstream.httpPort];
      draft.destinations.eco['gateway'] = undefined;
      draft.destinations.eco['via'] = 'parent';
      Object.assign(draft.destinations.eco, { resolve: 'parent', addresses: undefined });
    },
  });
  for (const port of [far.upstream.httpsPort, far.upstream.httpPort]) t.match(await answerOf(await connect(t, lab, port)), ESTABLISHED);
  const heard = await refusal(t, lab, far.upstream.httpsPort);
  t.match(heard, /^HTTP\/1\.1 503 Egress unavailable: limit-reached/, 'two ports of the partner, but one of the parent');
  t.match(heard, `127.0.0.1:${far.port}: 127.0.0.1: no NAT port is free`);
  t.equal(await sample(lab, 'nat_ports_used'), 2);
});

t.test('a client that leaves its requests, or has the partner close, takes no more ports than its share', async (t) => {
  for (const path of ['/left', '/closed', '/websocket']) {
    const lab = await startLab(t, {
      configure: (draft) => {
        nat({ ports: 10 })(draft);
      },
      onRequest: (req, res) => {
        if (req.url === '/closed') res.setHeader('Connection', 'close');
        if (req.url !== '/left') res.end();
      },
    });
    lab.upstream.http.on('upgrade', (_req, socket: Duplex) => {
      socket.on('error', () => {}).write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    });
    const host = `${ECO}:${lab.upstream.httpPort}`;
    const upgrade = path === '/websocket' ? 'Connection: Upgrade\r\nUpgrade: websocket\r\n' : '';
    let refused = '';
    for (let asked = 1; refused === '' && asked <= 20; asked += 1) {
      const before = lab.upstream.connections;
      const wire = await openWire(t, lab.port, { from: '127.0.0.2' });
      wire.send(`GET http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\n${upgrade}\r\n`);
      if (path === '/left') while (lab.upstream.connections === before && wire.heard === '') await setImmediate();
      else await answerOf(wire);
      if (wire.heard.includes(' 503 ')) refused = wire.heard;
      else if (path === '/left') {
        wire.socket.resetAndDestroy();
        while (lab.log.filter(({ code }) => code === 'client-closed').length < asked) await setImmediate();
      }
    }
    t.match(refused, /limit-reached[^]*this client has its share of them/, path);
    t.equal(await sample(lab, 'nat_ports_used'), 8, 'four fifths');
    const other = await openWire(t, lab.port, { from: '127.0.0.3' });
    other.send(`GET http://${host}/x HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    t.match(await answerOf(other), /^HTTP\/1\.1 200 /, 'another client');
  }
});

t.test('clients that open a tunnel for each request are named', async (t) => {
  const lab = await startLab(t);
  const ask = async (bytes: string): Promise<void> => {
    const wire = await connect(t, lab, lab.upstream.httpPort);
    await wire.until(ESTABLISHED);
    if (bytes !== '') {
      wire.send(bytes);
      await wire.until('200 OK');
    }
    await close(wire);
  };
  for (let i = 0; i < 3; i += 1) await ask('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await ask('');
  const series = 'eco_egress_port_per_request_total{client="pods"}';
  while ((await lab.scrape()).samples.get(series) !== 3) await setImmediate();
  t.match(await lab.status(), { shortTunnels: [{ client: 'pods', tunnels: 3 }] });
});
