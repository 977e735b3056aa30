/** WebSocket through every form, and what happens when an upgrade does not come about. */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { addressOf, ask, FORMS, TERMINATED, tunnelAgent, valuesOf } from '../support/ask.ts';
import { ECO, type Lab, type LabOptions, startLab } from '../support/lab.ts';
import { countSockets, untilDeserted, untilSockets } from '../support/open-sockets.ts';
import { openWire, wireOf } from '../support/wire.ts';

type Form = (typeof FORMS)[number];

/** A lab whose upstream echoes WebSocket messages on both ports. */
async function startEcho(t: Test, options: LabOptions = {}): Promise<Lab & { sockets: WebSocketServer }> {
  const lab = await startLab(t, options);
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 2 ** 26, perMessageDeflate: { threshold: 0 }, handleProtocols: (offered) => (offered.has('v2.eco') ? 'v2.eco' : false) });
  sockets.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => {
      socket.send(data, { binary: isBinary });
    });
  });
  for (const server of [lab.upstream.https, lab.upstream.http]) {
    server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
      lab.upstream.requests.push(request);
      sockets.handleUpgrade(request, socket, head, (ws) => sockets.emit('connection', ws, request));
    });
  }
  return { ...lab, sockets };
}

function openSocket(t: Test, lab: Lab, form: Form, options: { protocols?: string[]; deflate?: boolean; path?: string } = {}): WebSocket {
  const { protocols = [], deflate = false, path = '/socket' } = options;
  const common = { perMessageDeflate: deflate, maxPayload: 2 ** 26 };
  let socket: WebSocket;
  if (form === 'connect') {
    socket = new WebSocket(`wss://${ECO}:${lab.upstream.httpsPort}${path}`, protocols, { ...common, agent: tunnelAgent(lab) });
  } else {
    const { target, host } = addressOf(lab, form, path);
    socket = new WebSocket(`ws://127.0.0.1:${lab.port}/`, protocols, {
      ...common,
      headers: { Host: host },
      finishRequest: (request) => {
        request.path = target;
        request.end();
      },
    });
  }
  t.teardown(() => {
    socket.terminate();
  });
  return socket;
}

/** The messages that come, in order. */
async function exchangeMessages(socket: WebSocket, messages: readonly (string | Buffer)[]): Promise<(string | Buffer)[]> {
  const heard: (string | Buffer)[] = [];
  const all = new EventEmitter();
  socket.on('message', (data: Buffer, isBinary) => {
    heard.push(isBinary ? data : data.toString());
    if (heard.length === messages.length) all.emit('done');
  });
  const done = once(all, 'done');
  for (const message of messages) socket.send(message);
  await done;
  return heard;
}

t.test('messages of every size, in order, in both directions', async (t) => {
  const lab = await startEcho(t);
  const messages = ['hello', '', 'ä☃', randomBytes(1), randomBytes(65_536), randomBytes(8 * 1024 * 1024), 'last'];
  for (const form of FORMS) {
    const socket = openSocket(t, lab, form);
    await once(socket, 'open');
    t.same(await exchangeMessages(socket, messages), messages, form);
    const { rawHeaders, url } = lab.upstream.requests.at(-1) ?? { rawHeaders: [] };
    t.equal(url, '/socket');
    t.same(valuesOf(rawHeaders, 'upgrade'), ['websocket']);
    t.match(valuesOf(rawHeaders, 'connection').join(), /^upgrade$/i);
    t.same(valuesOf(rawHeaders, 'via'), form === 'connect' ? [] : ['1.1 eco-egress']);
    const { samples } = await lab.scrape();
    t.equal(samples.get(`eco_egress_tunnels_active{form="${form}",destination="eco"}`), 1);
    socket.close(4321, 'enough');
    t.same((await once(socket, 'close')).map(String), ['4321', 'enough'], 'close code and reason');
    const line = await lab.logged((line) => line['form'] === form);
    t.match(line, { code: 'ok', status: form === 'connect' ? 200 : 101, msg: 'tunnel ok' });
    t.ok(Number(line['bytesReceived']) > 8 * 1024 * 1024 && Number(line['bytesSent']) > 8 * 1024 * 1024);
  }
  await untilDeserted(lab.upstream.https);
  await untilDeserted(lab.upstream.http);
});

t.test('subprotocols and compression are agreed end to end', async (t) => {
  const lab = await startEcho(t);
  for (const form of FORMS) {
    const socket = openSocket(t, lab, form, { protocols: ['v1.eco', 'v2.eco'], deflate: true });
    await once(socket, 'open');
    t.equal(socket.protocol, 'v2.eco', form);
    t.match(socket.extensions, /^permessage-deflate/);
    const text = 'squeeze me '.repeat(100_000);
    t.same(await exchangeMessages(socket, [text]), [text]);
    socket.close();
    await once(socket, 'close');
    const line = await lab.logged((line) => line['form'] === form);
    if (form !== 'connect') t.ok(Number(line['bytesReceived']) < text.length / 50, 'it stays compressed on the way');
  }
});

t.test('a cookie of the answer that upgrades is for the gateway, below its prefix', async (t) => {
  const lab = await startEcho(t);
  lab.sockets.on('headers', (headers) => headers.push('Set-Cookie: route=1; Domain=telus.internal; Path=/'));
  for (const form of TERMINATED) {
    const socket = openSocket(t, lab, form);
    const [{ headers }] = (await once(socket, 'upgrade')) as [IncomingMessage];
    t.same(headers['set-cookie'], [form === 'gateway' ? 'route=1; Path=/eco' : 'route=1; Domain=telus.internal; Path=/'], form);
  }
});

t.test('pings, pongs and a close by the upstream pass', async (t) => {
  const lab = await startEcho(t);
  for (const form of TERMINATED) {
    const accepted = once(lab.sockets, 'connection') as Promise<[WebSocket]>;
    const socket = openSocket(t, lab, form);
    const [[peer]] = await Promise.all([accepted, once(socket, 'open')]);
    peer.ping('there?');
    t.equal(String((await once(socket, 'ping'))[0]), 'there?');
    socket.ping('and you?');
    t.equal(String((await once(socket, 'pong'))[0]), 'and you?');
    peer.close(1013, 'later');
    t.same((await once(socket, 'close')).map(String), ['1013', 'later'], form);
  }
});

t.test('an abrupt end on one side is one on the other', async (t) => {
  const lab = await startEcho(t);
  for (const form of TERMINATED) {
    for (const side of ['client', 'upstream'] as const) {
      const accepted = once(lab.sockets, 'connection') as Promise<[WebSocket]>;
      const socket = openSocket(t, lab, form);
      const [[peer]] = await Promise.all([accepted, once(socket, 'open')]);
      const [broken, other] = side === 'client' ? [socket, peer] : [peer, socket];
      const closed = once(other, 'close');
      other.on('error', () => {});
      broken.terminate();
      t.equal((await closed)[0], 1006, `${form}: the ${side} goes without a word`);
    }
  }
  await untilDeserted(lab.upstream.https);
  await untilDeserted(lab.upstream.http);
});

t.test('a refused WebSocket gets the refusal as a plain response', async (t) => {
  const lab = await startEcho(t, { configure: (draft) => (draft.destinations.eco['http'] = { paths: ['/open/*'] }) });
  for (const form of TERMINATED) {
    const socket = openSocket(t, lab, form);
    const [error] = (await once(socket, 'error')) as [Error];
    t.equal(error.message, 'Unexpected server response: 403', form);
    t.match(await lab.logged((line) => line['form'] === form), { code: 'path-not-allowed', status: 403 });
  }
  t.equal(lab.upstream.requests.length, 0);
});

t.test('an upstream that does not upgrade: its answer is a plain one, and no connection is left in tunnel mode', async (t) => {
  const lab = await startLab(t);
  for (const server of [lab.upstream.https, lab.upstream.http]) {
    server.removeAllListeners('request');
    server.on('request', (req, res) => {
      lab.upstream.requests.push(req);
      if (req.url === '/unauthorised') res.writeHead(401, { 'WWW-Authenticate': 'Bearer' }).end('who are you?');
      else if (req.url === '/redirect') res.writeHead(302, { Location: '/elsewhere' }).end();
      else res.end('plain');
    });
  }
  const before = countSockets();
  for (const form of TERMINATED) {
    for (const [path, status, text] of [
      ['/unauthorised', 401, 'who are you?'],
      ['/redirect', 302, ''],
      ['/plain', 200, 'plain'],
    ] as const) {
      const { target, host } = addressOf(lab, form, path);
      const wire = await openWire(t, lab.port);
      wire.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      const { heard, how } = await wire.ended;
      t.match(heard, new RegExp(`^HTTP/1\\.1 ${status} [^]*\\r\\n\\r\\n[^]*${text}`), `${form} ${path}`);
      t.match(heard, /\r\nconnection: close\r\n/i, 'what followed the request can no longer be told apart');
      t.equal(heard.match(/HTTP\/1\.1/g)?.length, 1);
      t.equal(how, 'fin');
      t.match(await lab.logged((line) => line['form'] === form && line['path'] === path), { code: 'ok', status, msg: 'exchange ok' });
      t.equal((await ask(lab, form, { path: '/after' })).text, 'plain', 'the next request is answered as itself');
    }
  }
  t.notOk(lab.upstream.requests.some(({ url }) => url === '/smuggled'));
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco",state="active"}'), 0);
  // The two pooled connections may stay, with both ends in this process.
  t.ok(countSockets() <= before + 6);
});

t.test('101 is the only way out of HTTP: other upgrades are served plain, without Upgrade, and the connection is kept', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    for (const upgrade of ['h2c', 'foo/2', 'websocket, h2c', 'TLS/1.0', 'WebSockets']) {
      const { target, host } = addressOf(lab, form, '/u');
      const wire = await openWire(t, lab.port);
      wire.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`);
      t.match(await wire.until(/"method":[^]*}$/), /^HTTP\/1\.1 200 [^]*\r\nConnection: keep-alive\r\n/i, `${form} ${upgrade}`);
      const raw = lab.upstream.requests.at(-1)?.rawHeaders ?? [];
      t.same([valuesOf(raw, 'upgrade'), valuesOf(raw, 'http2-settings'), valuesOf(raw, 'connection')], [[], [], ['keep-alive']]);
      // RFC 9110 §7.8: a server may ignore Upgrade (Java's HttpClient asks each new server for h2c).
      wire.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      t.equal((await wire.ended).heard.match(/HTTP\/1\.1 200 /g)?.length, 2);
    }
    const { target, host } = addressOf(lab, form, '/u');
    const old = await openWire(t, lab.port);
    old.send(`GET ${target} HTTP/1.0\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`);
    t.match((await old.ended).heard, /^HTTP\/1\.1 200 [^]*"method":"GET"/, 'RFC 9110 §7.8: Upgrade of an HTTP/1.0 request is ignored');
    t.same(valuesOf(lab.upstream.requests.at(-1)?.rawHeaders ?? [], 'upgrade'), []);
    const post = await openWire(t, lab.port);
    post.send(`POST ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok`);
    t.match((await post.ended).heard, /^HTTP\/1\.1 200 [^]*"method":"POST"/, 'WebSocket begins with GET (RFC 6455 §4.1)');
  }
});

t.test('a 101 that was not asked for is a broken upstream', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req) => {
      req.socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbogus');
    },
  });
  for (const form of TERMINATED) {
    const { status, reason } = await ask(lab, form);
    t.equal(status, 502, form);
    t.match(reason, /^Upstream failed: upstream-(cut|malformed)$/);
  }
});

t.test('nothing is left of many WebSockets', async (t) => {
  const lab = await startEcho(t);
  const before = countSockets();
  const sockets = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const socket = openSocket(t, lab, TERMINATED[i % 3] ?? 'gateway');
      await once(socket, 'open');
      return socket;
    }),
  );
  await Promise.all(
    sockets.map(async (socket, i) => {
      const closed = once(socket, 'close');
      if (i % 2 === 0) socket.close();
      else socket.terminate();
      await closed;
    }),
  );
  await untilSockets(before);
  const { samples } = await lab.scrape();
  for (const form of TERMINATED) t.equal(samples.get(`eco_egress_tunnels_active{form="${form}",destination="eco"}`), 0);
});

t.test('one on a connection that NTLM authenticated ends as any other', async (t) => {
  const lab = await startLab(t, { onRequest: (_, res) => void res.writeHead(401, { 'WWW-Authenticate': 'NTLM' }).end('who are you?') });
  const begin = `GET http://${ECO}:${lab.upstream.httpPort}/ HTTP/1.1\r\nHost: x\r\n`;
  for (const login of [false, true]) {
    const wire = await openWire(t, lab.port);
    if (login) {
      wire.send(`${begin}\r\n`);
      await wire.until('who are you?');
    }
    const upgraded = once(lab.upstream.http, 'upgrade');
    wire.send(`${begin}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
    const [, socket] = (await upgraded) as [unknown, Socket];
    const upstream = wireOf(socket.on('end', () => socket.end()));
    upstream.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    await wire.until('101');
    wire.send('half of a mess');
    await upstream.until('half of a mess');
    wire.socket.resetAndDestroy();
    t.equal((await upstream.ended).how, 'reset', login ? 'with' : 'without');
  }
});
