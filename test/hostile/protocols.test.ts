/** What is not HTTP/1.1, on the proxy port and on the admin port: one clear answer, then the end, and the process lives. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { accessLines, attack, httpAuthority, refuses, stillServes } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { captureNode } from '../support/hello.ts';
import { listen } from '../support/listen.ts';
import { between, bytes, seeded } from '../support/random.ts';
import { openOwn, startTlsLab } from '../support/tls-lab.ts';
import { openWire } from '../support/wire.ts';

/** What a TLS client says first. */
async function clientHello(t: Test): Promise<Buffer> {
  const server = createServer();
  const port = await listen(t, server);
  const client = tlsConnect({ port, host: '127.0.0.1', servername: ECO, ALPNProtocols: ['h2', 'http/1.1'] });
  client.on('error', () => {});
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [hello] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  return hello;
}

const adminPort = (lab: Lab): number => lab.service.addresses.admin.port;

async function adminAnswer(t: Test, lab: Lab, sent: readonly (string | Buffer)[]): Promise<string> {
  const wire = await openWire(t, adminPort(lab));
  for (const part of sent) wire.send(part);
  return (await wire.ended).heard;
}

async function adminServes(t: Test, lab: Lab): Promise<void> {
  const response = await fetch(`${lab.adminUrl}/healthz`);
  t.same([response.status, await response.json()], [200, { status: 'alive' }]);
}

const H2_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';
const SOCKS4 = '\x04\x01\x01\xbb\x7f\0\0\x01user\0';
const SOCKS5 = '\x05\x01\0';

t.test('another protocol gets one answer that names the mistake', async (t) => {
  const lab = await startLab(t);
  const hello = await clientHello(t);
  await refuses(t, lab, 'TLS', hello, { code: 'tls-on-http-port', then: 'closed' });
  await refuses(t, lab, 'HTTP/2', H2_PREFACE, { code: 'http2-on-http-port', then: 'closed' });
  await refuses(t, lab, 'SOCKS 4', SOCKS4, { code: 'socks-on-http-port', then: 'closed' });
  await refuses(t, lab, 'SOCKS 5', SOCKS5, { code: 'socks-on-http-port', then: 'closed' });
  for (const [name, greeting] of Object.entries({ SSH: 'SSH-2.0-OpenSSH_9.9\r\n', SMTP: 'EHLO me\r\n', Redis: '*1\r\n$4\r\nPING\r\n', memcached: '\x80\0\0\0', NULs: '\0'.repeat(5000), 'a lone CR': '\rGET', 'high bytes': '\xff'.repeat(100), 'a line without end': 'a'.repeat(200_000), 'a method without end': 'GET'.repeat(60_000) })) {
    await refuses(t, lab, name, greeting, { code: name.endsWith('without end') ? 'target-too-long' : 'request-malformed', then: 'closed' });
  }
  await stillServes(t, lab);
});

t.test('the same in pieces: byte by byte, each in a segment of its own', async (t) => {
  const lab = await startLab(t);
  const hello = await clientHello(t);
  for (const [name, whole, code] of [['TLS', hello, 'tls-on-http-port'], ['HTTP/2', Buffer.from(H2_PREFACE, 'latin1'), 'http2-on-http-port'], ['SOCKS 5', Buffer.from(SOCKS5, 'latin1'), 'socks-on-http-port']] as const) {
    const before = accessLines(lab).length;
    const wire = await openWire(t, lab.port);
    for (const byte of whole) {
      if (wire.socket.destroyed) break;
      await new Promise((resolve) => wire.socket.write(Buffer.of(byte), resolve));
    }
    const { heard, how } = await wire.ended;
    t.match(heard, new RegExp(`^HTTP/1\\.1 400 Bad request: ${code === 'http2-on-http-port' ? '(http2-on-http-port|request-malformed)' : code}\r\n`), name);
    t.equal(how, 'fin', `${name}: the answer is not lost to a reset`);
    t.equal(heard.match(/HTTP\/1\.1 400/g)?.length, 1);
    t.equal(accessLines(lab).length, before + 1, `${name}: one line`);
  }
  await stillServes(t, lab);
});

t.test('a connection without a word is a health check, and is not worth a line', async (t) => {
  const lab = await startLab(t);
  for (const port of [lab.port, adminPort(lab)]) {
    for (let i = 0; i < 20; i += 1) {
      const wire = await openWire(t, port);
      if (i % 2 === 0) wire.socket.end();
      else wire.socket.resetAndDestroy();
      t.equal((await wire.ended).heard, '');
    }
  }
  const wire = await openWire(t, lab.port);
  wire.send('\r\n\r\n');
  wire.socket.end();
  await wire.ended;
  await stillServes(t, lab);
  t.same(accessLines(lab).map((line) => line['path']), ['/alive']);
});

t.test('who goes in the middle of a request that is not whole is logged once, and not answered', async (t) => {
  const lab = await startTlsLab(t);
  const hello = await captureNode(t, { servername: ECO });
  const waysOut = { fin: (socket: Socket) => socket.end(), reset: (socket: Socket) => socket.resetAndDestroy(), cut: (socket: Socket) => socket.destroy() };
  const table: [what: string, open: () => Promise<Socket>, sent: string | Buffer, how: keyof typeof waysOut, line: object][] = [
    ['half a head', async () => (await openWire(t, lab.port)).socket, 'GET / HTTP/1.1\r\nHo', 'fin', { code: 'client-closed', detail: /middle of a request$/ }],
    ['half a head, reset', async () => (await openWire(t, lab.port)).socket, 'GET / HTTP/1.1\r\nHo', 'reset', { code: 'client-closed' }],
    ['half a head inside TLS', () => openOwn(t, lab), 'GET / HTTP/1.1\r\nHo', 'fin', { code: 'client-closed' }],
    ['half a head inside TLS, without the end of TLS', () => openOwn(t, lab), 'GET / HTTP/1.1\r\nHo', 'cut', { code: 'client-closed' }],
    ['half a ClientHello', async () => (await openWire(t, lab.tlsPort)).socket, hello.subarray(0, 90), 'reset', { code: 'client-closed', detail: /middle of the ClientHello$/ }],
    // It can still read the alert.
    ['half a ClientHello, ended', async () => (await openWire(t, lab.tlsPort)).socket, hello.subarray(0, 90), 'fin', { code: 'tls-hello-malformed' }],
  ];
  for (const [what, open, sent, how, line] of table) {
    const before = accessLines(lab).length;
    const socket = await open();
    socket.on('error', () => {});
    await new Promise((resolve) => socket.write(sent, resolve));
    // The proxy has it before the reset, which would discard it.
    await delay(20);
    waysOut[how](socket);
    await lab.logged((entry) => accessLines(lab).indexOf(entry) >= before);
    await stillServes(t, lab);
    t.match(accessLines(lab).slice(before), [{ form: '-', status: 0, clientAddress: '127.0.0.1', ...line }, { path: '/alive' }], what);
    t.equal(accessLines(lab).length, before + 2, `${what}: one line`);
  }
  const { samples } = await lab.scrape();
  t.equal([...samples].filter(([name]) => name.startsWith('eco_egress_requests_total{') && name.includes('form="-"') && name.includes('outcome="aborted",code="client-closed"')).reduce((sum, [, count]) => sum + count, 0), 5);
});

t.test('the admin port', async (t) => {
  const lab = await startLab(t);
  const hello = await clientHello(t);
  t.match(await adminAnswer(t, lab, [hello]), /^HTTP\/1\.1 400 [\s\S]*TLS was spoken to the admin port/);
  t.match(await adminAnswer(t, lab, [...hello].map((byte) => Buffer.of(byte))), /^HTTP\/1\.1 400 [\s\S]*TLS was spoken to the admin port/);
  for (const greeting of [H2_PREFACE, SOCKS4, SOCKS5, '\0'.repeat(5000), '\r\0', 'a'.repeat(200_000)]) t.match(await adminAnswer(t, lab, [greeting]), /^HTTP\/1\.1 400 [\s\S]*application\/problem\+json/, JSON.stringify(greeting.slice(0, 10)));
  const refused: [request: string, status: number][] = [
    ['CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc', 405],
    ['POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
    ['TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 405],
    ['DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 405],
    ['GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 404],
    ['GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 404],
    ['GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400],
    [`GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nConnection: close\r\n\r\n`, 404],
    [`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(100_000)}\r\n\r\n`, 431],
  ];
  for (const [request, status] of refused) t.match(await adminAnswer(t, lab, [request]), new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(request.slice(0, 40)));
  t.equal(lab.upstream.connections, 0, 'nothing leaves by the admin port');
  t.same(accessLines(lab), [], 'nothing of it is an exchange');
  // Whatever it was asked to become, it answers as HTTP.
  t.match(await adminAnswer(t, lab, ['GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n']), /^HTTP\/1\.1 200 /);
  await adminServes(t, lab);
});

const CONNECTIONS = 200;
const BUFFERS = 50;
const AT_ONCE = 25;

/** 10,000 buffers, fifty on each of two hundred connections. */
async function pelt(t: Test, port: number, buffer: () => Buffer): Promise<void> {
  let left = CONNECTIONS;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const wire = await openWire(t, port);
      for (let i = 0; i < BUFFERS && wire.socket.writable; i += 1) wire.send(buffer());
      wire.socket.end();
      await wire.ended;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

t.test('10,000 random buffers', async (t) => {
  const lab = await startLab(t);
  const random = seeded(1);
  const noise = (): Buffer => bytes(random, between(random, 1, 300));
  await pelt(t, lab.port, noise);
  await stillServes(t, lab);
  t.equal(lab.upstream.requests.length, 1, 'the good one');
  t.ok(accessLines(lab).length <= CONNECTIONS + 1, 'one line for each at most');
  await pelt(t, adminPort(lab), noise);
  await adminServes(t, lab);
});

t.test('10,000 requests with something wrong in them', async (t) => {
  const lab = await startLab(t);
  const random = seeded(2);
  const authority = httpAuthority(lab);
  const seeds = [
    `GET http://${authority}/x?y=z HTTP/1.1\r\nHost: ${authority}\r\nX-Some: thing\r\n\r\n`,
    `POST /eco/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello`,
    `POST /x HTTP/1.1\r\nHost: ${authority}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\nT: t\r\n\r\n`,
    `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /eco/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
  ].map((text) => Buffer.from(text));
  const damaged = (): Buffer => {
    const request = Buffer.from(seeds[between(random, 0, seeds.length - 1)] ?? []);
    for (let i = between(random, 0, 4); i > 0; i -= 1) request[between(random, 0, request.length - 1)] = between(random, 0, 255);
    return random() < 0.3 ? request.subarray(0, between(random, 0, request.length)) : request;
  };
  await pelt(t, lab.port, damaged);
  await stillServes(t, lab);
  await adminServes(t, lab);
  const ids = accessLines(lab).map((line) => line['requestId']);
  t.equal(ids.length, new Set(ids).size, 'no line twice');
  t.notOk(accessLines(lab).some((line) => line.code === 'internal'), 'nothing we had not thought of');
  t.ok(accessLines(lab).every((line) => line['host'] === '-' || line['verdict'] !== 'allow' || line['host'] === ECO), 'nothing but the allowed host was allowed');
});

t.test('a refusal does not wait: a client that goes on talking is cut', async (t) => {
  const lab = await startLab(t);
  const { answers, inStep } = await attack(t, lab, Buffer.alloc(4 * 1024 * 1024, '\x16'));
  t.match({ answers: answers.length, inStep }, { answers: 1, inStep: false });
  await stillServes(t, lab);
});
