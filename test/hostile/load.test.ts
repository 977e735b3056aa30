/** Life under load: many that come and go at every moment, names that hang, and nothing left behind. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { accessLines, httpAuthority, lastRequest, stillServes } from '../support/hostile.ts';
import { startFullListener } from '../support/full-listener.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { countSockets, untilDeserted, untilSockets } from '../support/open-sockets.ts';
import { askRaw, openWire } from '../support/wire.ts';

const get = (authority: string, fields = ''): string => `GET http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`;

/** What a client has said when it goes. The upstream answers nothing but /alive and the head of /begun. */
const PHASES: Record<string, (lab: Lab) => string> = {
  'says nothing': () => '',
  'in the request line': () => 'GET http://',
  'in the headers': (lab) => get(httpAuthority(lab)).slice(0, -2),
  'in the body': (lab) => get(httpAuthority(lab), 'Content-Length: 10\r\n') + 'half',
  'waiting for the answer': (lab) => get(httpAuthority(lab)),
  'in the answer': (lab) => get(httpAuthority(lab)).replace('/x', '/begun'),
  refused: () => get('evil.example'),
  'CONNECT, at once': (lab) => `CONNECT ${httpAuthority(lab)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  WebSocket: (lab) => get(httpAuthority(lab), 'Connection: Upgrade\r\nUpgrade: websocket\r\n'),
  garbage: () => '\x16\x03\x01',
};

/** Connects, says this, and goes: at once, or when the first byte has come back or the loop has turned. */
function comeAndGo(port: number, text: string, { reset, wait }: { reset: boolean; wait: boolean }): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const go = (): void => {
      if (reset) socket.resetAndDestroy();
      else socket.destroy();
    };
    socket.on('error', () => {});
    socket.once('close', () => {
      resolve();
    });
    socket.once('connect', () => {
      if (text !== '') socket.write(text, 'latin1');
      if (!wait) go();
      else if (text.includes('/begun')) socket.once('data', go);
      else globalThis.setImmediate(go);
    });
  });
}

const TIMES = 1000;
/** Of each kind. */
const AT_ONCE = 5;
/** Between two of one kind, ms: a backlog that overflows would make the system itself wait for a second. */
const PACE = 1;

t.test('a thousand that go, in each phase, every second one by a reset', async (t) => {
  const lab = await startLab(t, {
    configure: ({ limits }) => Object.assign(limits, { upstreamConnections: 100, upstreamQueue: 100 }),
    onRequest: (req, res) => {
      if (req.url === '/alive') res.end('alive');
      else if (req.url === '/begun') res.write('begun');
    },
  });
  await stillServes(t, lab);
  await Promise.all(
    Object.entries(PHASES).map(async ([phase, say]) => {
      let left = TIMES;
      const one = async (): Promise<void> => {
        while (left > 0) {
          left -= 1;
          await comeAndGo(lab.port, say(lab), { reset: left % 2 === 0, wait: phase === 'in the answer' || left % 3 === 0 });
          await delay(PACE);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, one));
    }),
  );
  await stillServes(t, lab);
  // Everything under way has ended: what is counted as open is open no more.
  const settled = async (): Promise<boolean> => {
    const { samples } = await lab.scrape();
    const open = ['eco_egress_client_connections', 'eco_egress_tunnels_active{form="connect",destination="eco"}', 'eco_egress_upstream_connections{destination="eco",state="active"}'];
    return open.every((name) => (samples.get(name) ?? 0) === 0);
  };
  while (!(await settled())) await setImmediate();
  t.ok(accessLines(lab).every((line) => line.code !== 'internal'), 'none of them was a surprise');
  const ids = accessLines(lab).map((line) => line['requestId']);
  t.equal(ids.length, new Set(ids).size, 'one line each');
});

t.test('no socket is left when the service ends in the middle of it', async (t) => {
  const before = countSockets();
  const lab = await startLab(t, { onRequest: () => {} });
  const wires = await Promise.all(Object.values(PHASES).map(async (say) => {
    const wire = await openWire(t, lab.port);
    const text = say(lab);
    if (text !== '') wire.send(text);
    return wire;
  }));
  await lab.logged((line) => line.code === 'host-not-allowed');
  await lab.service.close();
  await Promise.all(wires.map((wire) => wire.ended));
  await untilDeserted(lab.upstream.http);
  await untilDeserted(lab.upstream.https);
  await untilSockets(before);
  t.pass();
});

t.test('a name that hangs delays no other', async (t) => {
  const lab = await startLab(t, {
    configure: ({ destinations: { eco }, timeouts }) => {
      eco['hosts'] = [ECO, '*.hangs.example'];
      timeouts['resolve'] = '3s';
    },
    lookup: (host) => (host === ECO ? Promise.resolve({ addresses: ['127.0.0.1'], ttl: null }) : new Promise(() => {})),
  });
  const port = lab.upstream.httpPort;
  const hanging = Array.from({ length: 100 }, (_, i) => {
    const authority = `n${i % 10}.hangs.example:${port}`;
    return askRaw(t, lab.port, i % 2 === 0 ? get(authority, 'Connection: close\r\n') : `CONNECT ${authority} HTTP/1.1\r\nHost: x\r\n\r\n`);
  });
  for (let i = 0; i < 20; i += 1) await stillServes(t, lab);
  t.equal(accessLines(lab).filter((line) => line['path'] !== '/alive').length, 0, 'good requests did not wait for the clock of the bad ones');
  for (const heard of await Promise.all(hanging)) t.match(heard, /^HTTP\/1\.1 504 Upstream failed: resolver-timeout\r\n[\s\S]*error=dns_timeout/);
});

t.test('a partner that accepts, or does not even, and says nothing', async (t) => {
  const [black, mute] = [await startFullListener(t), await listen(t, createServer(() => {}))];
  const lab = await startLab(t, {
    configure: ({ destinations: { eco }, timeouts }, { http }) => {
      eco['ports'] = [http, black, mute];
      eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${mute}` };
      Object.assign(timeouts, { connect: '300ms', tls: '300ms', responseHeaders: '300ms', tunnelIdle: '300ms' });
    },
  });
  const cases: [name: string, request: string, expected: RegExp][] = [
    ['no connection', get(`${ECO}:${black}`, 'Connection: close\r\n'), /^HTTP\/1\.1 504 Upstream failed: connect-timeout\r\n[\s\S]*error=connection_timeout/],
    ['no connection for a tunnel', `CONNECT ${ECO}:${black} HTTP/1.1\r\nHost: x\r\n\r\n`, /^HTTP\/1\.1 504 Upstream failed: connect-timeout\r\n/],
    ['no TLS', 'GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 504 Upstream failed: tls-timeout\r\n[\s\S]*error=connection_timeout/],
    ['no answer', get(`${ECO}:${mute}`, 'Connection: close\r\n'), /^HTTP\/1\.1 504 Upstream failed: upstream-silent\r\n[\s\S]*error=http_response_timeout/],
    ['a tunnel in which nobody answers', `CONNECT ${ECO}:${mute} HTTP/1.1\r\nHost: x\r\n\r\nhello`, /^HTTP\/1\.1 200 Connection Established\r\n/],
  ];
  await Promise.all(cases.map(async ([name, request, expected]) => t.match(await askRaw(t, lab.port, request), expected, name)));
  await stillServes(t, lab);
});

t.test('a connection that the partner closes just as it is taken again', async (t) => {
  // It closes after every answer, without having said so: the next request meets a connection that is going.
  const port = await listen(
    t,
    createServer({ noDelay: true }, (socket: Socket) => {
      let asked = '';
      socket.on('data', (chunk) => {
        asked += chunk.toString();
        if (!asked.includes('\r\n\r\n')) return;
        asked = '';
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', () => socket.end());
      });
    }),
  );
  const lab = await startLab(t, { configure: ({ destinations: { eco } }, { http }) => Object.assign(eco, { ports: [port, http], gateway: undefined }) });
  const answers = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const wire = await openWire(t, lab.port);
      for (let i = 1; i <= 10; i += 1) {
        wire.send(get(`${ECO}:${port}`));
        await wire.until(new RegExp(`(?:HTTP/1\\.1 [\\s\\S]*?\r\n\r\nok){${i}}`));
      }
      wire.socket.destroy();
      await wire.ended;
      return wire.heard.match(/HTTP\/1\.1 \d+/g) ?? [];
    }),
  );
  t.same([...new Set(answers.flat())], ['HTTP/1.1 200'], 'what is safe to repeat is repeated');
  await stillServes(t, lab);
});

t.test('beyond the limit a connection gets an answer that says so, is not served, and is no longer counted when it goes', async (t) => {
  const lab = await startLab(t, { configure: ({ limits }) => Object.assign(limits, { connections: 5 }) });
  const held = await Promise.all(Array.from({ length: 5 }, () => openWire(t, lab.port)));
  for (const wire of held) wire.send('GET /');
  for (let i = 0; i < 20; i += 1) {
    const heard = await askRaw(t, lab.port, lastRequest(lab));
    t.match(heard, /^HTTP\/1\.1 503 Egress unavailable: limit-reached\r\n[\s\S]*error=connection_limit_reached[\s\S]*Retry-After: 1\r\n/);
  }
  t.same(lab.upstream.requests, []);
  t.same(accessLines(lab).map((line) => line.code), Array(20).fill('limit-reached'));
  for (const wire of held) {
    wire.socket.destroy();
    await once(wire.socket, 'close');
  }
  while ((await lab.scrape()).samples.get('eco_egress_client_connections') !== 0) await setImmediate();
  await stillServes(t, lab);
});

t.test('places of one client are its own', async (t) => {
  const lab = await startLab(t, {
    configure: ({ limits }) => Object.assign(limits, { exchangesPerClient: 2, tunnelsPerClient: 2 }),
    onRequest: (req, res) => {
      if (req.url === '/alive') res.end();
    },
  });
  for (const request of [get(httpAuthority(lab), 'Connection: close\r\n'), `CONNECT ${httpAuthority(lab)} HTTP/1.1\r\nHost: x\r\n\r\n`]) {
    const held = await Promise.all(Array.from({ length: 2 }, () => openWire(t, lab.port, { from: '127.0.0.7' })));
    const before = accessLines(lab).length;
    for (const wire of held) wire.send(request);
    while ((await underWay(lab)) < 2) await setImmediate();
    t.match(await askRaw(t, lab.port, request, '127.0.0.7'), /^HTTP\/1\.1 503 Egress unavailable: limit-reached\r\n/);
    t.match(accessLines(lab)[before], { code: 'limit-reached', clientAddress: '127.0.0.7' });
    await stillServes(t, lab);
    for (const wire of held) wire.socket.destroy();
    while ((await underWay(lab)) > 0) await setImmediate();
  }
});

/** Tunnels and active exchanges, by the metrics. */
async function underWay(lab: Lab): Promise<number> {
  const { samples } = await lab.scrape();
  return (samples.get('eco_egress_tunnels_active{form="connect",destination="eco"}') ?? 0) + (samples.get('eco_egress_upstream_connections{destination="eco",state="active"}') ?? 0);
}
