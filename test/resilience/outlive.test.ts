/** The process outlives every input: each is sent to a proxy in a process of its own, which has to live and serve afterwards. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { type ChildProxy, startChildProxy } from '../support/child-proxy.ts';
import { type Draft, ECO, labCertificates, startUpstream, type Upstream } from '../support/lab.ts';
import { OWN } from '../support/tls-lab.ts';
import { sumOf } from '../support/prometheus.ts';
import { openWire } from '../support/wire.ts';

t.setTimeout(300_000);

interface Place {
  readonly proxy: ChildProxy;
  readonly upstream: Upstream;
  readonly authority: string;
}

/** The client is 127.0.0.1; every other address is a stranger's. */
async function start(t: Test, configure?: (draft: Draft) => void): Promise<Place> {
  const { certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, (req, res) => {
    req.resume();
    if (req.url === '/slow') setTimeout(() => res.end('slow'), 400);
    else if (req.url === '/large') res.end(Buffer.alloc(16 * 1024 * 1024));
    else if (req.url !== '/never') res.end('ok');
  });
  const proxy = await startChildProxy({
    directory: t.testdir(),
    ports: { https: upstream.httpsPort, http: upstream.httpPort },
    configure: (draft) => {
      draft.clients['pods'] = { addresses: ['127.0.0.1/32'] };
      Object.assign(draft.timeouts, { body: '500ms', requestHeaders: '2s' });
      configure?.(draft);
    },
  });
  t.teardown(() => proxy.close());
  return { proxy, upstream, authority: `${ECO}:${upstream.httpPort}` };
}

type Ending = 'fin' | 'reset' | 'wait';

/** Sends the pieces, each when the one before has left, and ends. @returns what came back until the end, or within `patience` ms */
async function send(port: number, pieces: readonly string[], { from = '127.0.0.1', ending = 'wait', tls = false, patience = 1000 }: { from?: string; ending?: Ending; tls?: boolean; patience?: number } = {}): Promise<string> {
  const tcp = connect({ host: '127.0.0.1', port, localAddress: from, noDelay: true });
  tcp.on('error', () => {});
  await once(tcp, 'connect');
  let socket: Socket = tcp;
  if (tls) {
    const { authority } = await labCertificates();
    socket = connectTls({ socket: tcp, servername: OWN, ca: authority.certPem });
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
  }
  let heard = '';
  socket.on('data', (chunk: Buffer) => {
    if (heard.length < 10_000) heard += chunk.toString('latin1');
  });
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      resolve();
    });
  });
  for (const piece of pieces) await new Promise<void>((resolve) => socket.write(piece, 'latin1', () => { resolve(); }));
  if (ending === 'fin') socket.end();
  if (ending === 'reset') tcp.resetAndDestroy();
  await Promise.race([closed, delay(patience)]);
  socket.destroy();
  return heard;
}

/** It lives, it serves, and nothing was a surprise. */
async function lives(t: Test, { proxy, authority }: Place, what: string): Promise<boolean> {
  if (proxy.death === null) {
    const heard = await send(proxy.port, [`GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`], { patience: 15_000 }).catch(() => '');
    t.match(heard, /^HTTP\/1\.1 200 /, `${what}: it serves`);
  }
  t.equal(proxy.death, null, `${what}: it lives`);
  t.same(proxy.log.filter(({ code }) => code === 'internal'), [], `${what}: nothing internal`);
  return proxy.death === null;
}

const UPGRADES: Readonly<Record<string, string>> = {
  'websocket with a length': 'Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n',
  'websocket with a length and half of it': 'Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhe',
  'websocket with a length and all of it': 'Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello',
  'websocket, chunked': 'Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n',
  'websocket, chunked, with a chunk': 'Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
  'websocket, chunked, complete': 'Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'websocket, chunked, malformed': 'Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n',
  'websocket that expects': 'Connection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
  'h2c with a length': 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\n',
  'foo, chunked': 'Connection: Upgrade\r\nUpgrade: foo\r\nTransfer-Encoding: chunked\r\n\r\n',
  'a length of nothing': 'Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n',
  'HTTP/2 preface': 'Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 24\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
};

for (const tls of [false, true]) {
  t.test(`an upgrade with content, ${tls ? 'inside TLS that ends here' : 'plain'}`, async (t) => {
    let place = await start(t);
    for (const [name, rest] of Object.entries(UPGRADES)) {
      for (const line of ['GET / HTTP/1.1\r\nHost: p\r\n', `GET http://${place.authority}/ HTTP/1.1\r\nHost: ${place.authority}\r\n`, 'GET /eco/ HTTP/1.1\r\nHost: p\r\n', `POST http://${place.authority}/ HTTP/1.1\r\nHost: ${place.authority}\r\n`]) {
        for (const from of ['127.0.0.1', '127.0.0.2']) {
          for (const ending of ['fin', 'reset'] as const) await send(tls ? place.proxy.tlsPort : place.proxy.port, [line + rest], { from, ending, tls }).catch(() => {});
        }
      }
      // The next one is tried on a living one.
      if (!(await lives(t, place, name))) place = await start(t);
    }
    const heard = await send(tls ? place.proxy.tlsPort : place.proxy.port, [`GET http://${place.authority}/ HTTP/1.1\r\nHost: ${place.authority}\r\n${UPGRADES['websocket with a length'] ?? ''}`], { tls });
    t.match(heard, /^HTTP\/1\.1 400 /, 'refused');
  });
}

/** What follows the head of a POST; all of it in one segment. */
const BODIES: Readonly<Record<string, string>> = {
  'a chunk size that is none': 'Transfer-Encoding: chunked\r\n\r\nZ\r\n',
  'a negative chunk size': 'Transfer-Encoding: chunked\r\n\r\n-1\r\n',
  'a chunk size beyond counting': 'Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n',
  'a chunk longer than it says': 'Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n',
  'a trailer that is none': 'Transfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n',
  'more than its length': 'Content-Length: 3\r\n\r\nabc\0garbage',
  'more than its length, and it looks like a request': 'Content-Length: 3\r\n\r\nabcGET',
  'less than its length': 'Content-Length: 30\r\n\r\nabc',
  'less than its length, reset': 'Content-Length: 300000\r\n\r\nabc',
};

t.test('malformed content in the segment of its head, while a pooled connection is idle: nothing is left that ends the process later', async (t) => {
  let place = await start(t);
  for (const [name, rest] of Object.entries(BODIES)) {
    for (const target of [`http://${place.authority}/`, '/eco/', '/']) {
      const host = place.authority;
      await send(place.proxy.port, [`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`]).catch(() => {});
      for (const ending of ['wait', 'fin', 'reset'] as const) await send(place.proxy.port, [`POST ${target} HTTP/1.1\r\nHost: ${host}\r\n${rest}`], { ending }).catch(() => {});
    }
    // Past timeouts.body.
    await delay(700);
    if (!(await lives(t, place, name))) place = await start(t);
  }
});

t.test('sockets that are handed over: Expect, then CONNECT, then a reset; and their like', async (t) => {
  let place = await start(t);
  const connects = (authority: string): string => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
  const upgrade = 'GET /eco/ HTTP/1.1\r\nHost: p\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const openings: Readonly<Record<string, string>> = {
    'Expect: x': 'GET / HTTP/1.1\r\nHost: p\r\nExpect: x\r\n\r\n',
    'Expect: x with content': 'POST / HTTP/1.1\r\nHost: p\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc',
    'Expect: 100-continue': 'POST / HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n',
    'a denied request': 'GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n',
    'a good request': `GET http://${place.authority}/ HTTP/1.1\r\nHost: ${place.authority}\r\n\r\n`,
    'a slow request': `GET http://${place.authority}/slow HTTP/1.1\r\nHost: ${place.authority}\r\n\r\n`,
    'a request that is never answered': `GET http://${place.authority}/never HTTP/1.1\r\nHost: ${place.authority}\r\n\r\n`,
    'another CONNECT': connects('a:443'),
    'an upgrade': upgrade,
  };
  for (const [name, opening] of Object.entries(openings)) {
    for (const [next, bytes] of Object.entries({ 'CONNECT, denied': connects('a:443'), CONNECT: connects(place.authority), 'CONNECT and bytes': `${connects(place.authority)}early bytes`, 'an upgrade': upgrade, 'an upgrade, denied': upgrade.replace('/eco/', '/x/') })) {
      for (const from of ['127.0.0.1', '127.0.0.2']) {
        await Promise.all(
          Array.from({ length: 6 }, async (_, i) => {
            const tcp = connect({ host: '127.0.0.1', port: place.proxy.port, localAddress: from, noDelay: true });
            tcp.on('error', () => {});
            tcp.write(i % 2 === 0 ? opening + bytes : opening, 'latin1');
            if (i % 2 === 1) tcp.write(bytes, 'latin1');
            // Refused where the process is dead already: that is seen below.
            await once(tcp, 'connect').catch(() => {});
            if (i % 3 > 0) await delay(i * 2);
            tcp.resetAndDestroy();
          }),
        );
      }
      await delay(30);
      if (!(await lives(t, place, `${name}, then ${next}`))) place = await start(t);
    }
  }
});

t.test('something slow, something large, then CONNECT, and cut: no connection to the partner stays taken', async (t) => {
  const place = await start(t, (draft) => Object.assign(draft.limits, { upstreamConnections: 8 }));
  const ask = (path: string): string => `GET http://${place.authority}${path} HTTP/1.1\r\nHost: ${place.authority}\r\n\r\n`;
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const tcp = connect({ host: '127.0.0.1', port: place.proxy.port, noDelay: true });
        tcp.on('error', () => {});
        tcp.write(`${ask('/slow')}${ask('/large')}CONNECT ${place.authority} HTTP/1.1\r\nHost: x\r\n\r\n`, 'latin1');
        await once(tcp, 'connect').catch(() => {});
        tcp.pause();
        // The half of them when the large one has begun, and waits for its reader.
        await delay(20 + i * 120);
        tcp.resetAndDestroy();
      }),
    );
  }
  await delay(1000);
  t.equal(sumOf(await place.proxy.scrape(), 'eco_egress_upstream_connections', { state: 'active' }), 0, 'none is in use');
  // All eight at once: each gets a connection, or one is held.
  const answers = await Promise.all(Array.from({ length: 8 }, () => send(place.proxy.port, [ask('/slow').replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')], { patience: 15_000 }).catch(() => 'nothing')));
  t.same(answers.map((heard) => heard.slice(0, 12)), Array(8).fill('HTTP/1.1 200'));
  await lives(t, place, 'afterwards');
});

t.test('gone before the first byte of an answer, 300 times: the client closed it, and its address is known', async (t) => {
  const place = await start(t);
  for (let i = 0; i < 300; i += 1) {
    const tcp = connect({ host: '127.0.0.1', port: place.proxy.port, noDelay: true });
    tcp.on('error', () => {});
    tcp.write(`GET http://${place.authority}/never HTTP/1.1\r\nHost: ${place.authority}\r\n\r\n`);
    await once(tcp, 'connect');
    tcp.resetAndDestroy();
  }
  // The proxy reads on in order: when this one is answered, those before were seen.
  await lives(t, place, 'afterwards');
  await delay(500);
  const lines = place.proxy.log.filter((line) => 'requestId' in line && line.code !== 'ok');
  t.same([...new Set(lines.map(({ code }) => code))].filter((code) => code !== 'client-closed'), [], 'no policy denied anything');
  t.same([...new Set(lines.map((line) => line['clientAddress']))].filter((address) => address !== '127.0.0.1'), [], 'the address is that of the connection');
});

t.test('the log cannot be written: the data path goes on', async (t) => {
  const place = await start(t);
  // A reader that went away: every further write fails.
  place.proxy.child.stdout?.destroy();
  for (let i = 0; i < 20; i += 1) {
    const wire = await openWire(t, place.proxy.port).catch(() => null);
    t.ok(wire !== null, 'it accepts');
    if (wire === null) break;
    wire.send(`GET http://${place.authority}/ HTTP/1.1\r\nHost: ${place.authority}\r\nConnection: close\r\n\r\n`);
    t.match((await wire.ended).heard, /^HTTP\/1\.1 200 /);
  }
  t.equal(place.proxy.child.exitCode, null, 'it lives');
});
