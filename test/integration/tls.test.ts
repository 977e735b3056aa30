/** The TLS listener in a whole proxy with real clients: steered TLS, and every form inside TLS that ends there. */
import t from 'tap';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent, request } from 'node:https';
import { createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { dirname, join } from 'node:path';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { fetch, ProxyAgent } from 'undici';
import { WebSocket, WebSocketServer } from 'ws';
import { answerOf } from '../support/ask.ts';
import { captureNode, records, unwrap } from '../support/hello.ts';
import { accessLines, readAnswers } from '../support/hostile.ts';
import { ECO } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { openOwn, openSteered, openTls, OWN, speak, startCutter, startTlsLab, type TlsLab } from '../support/tls-lab.ts';
import { openWire } from '../support/wire.ts';

interface Ran {
  readonly code: number;
  readonly output: string;
}

/** Code 127 where the program is not here. */
function run(command: string, args: readonly string[], input = '', env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { env: { PATH: process.env['PATH'], LANG: 'C', ...env }, timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 127, output: stdout + stderr });
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

function caFile(t: Test, lab: TlsLab): string {
  const file = join(t.testdir(), 'ca.pem');
  writeFileSync(file, lab.authority.certPem);
  return file;
}

const page = (host: string, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;

t.test('Node, steered: TLS is with the partner, whatever its version and however it was cut', async (t) => {
  const lab = await startTlsLab(t);
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = await openSteered(t, lab, { maxVersion, ALPNProtocols: ['h2', 'http/1.1'] });
    t.match(socket.getPeerCertificate().subjectaltname, /DNS:eco-sit\.telus\.internal/, "the partner's own certificate");
    t.equal(socket.alpnProtocol, 'http/1.1', 'and its choice of protocol');
    t.match(await speak(socket, page(ECO, `/${maxVersion}`)), /^HTTP\/1\.1 200 [^]*"url":"\/TLSv1\.[23]"/);
  }
  const cuts: [what: string, cut: (flight: Buffer) => Iterable<Buffer>][] = [
    ['byte by byte', (flight) => Array.from(flight, (byte) => Buffer.of(byte))],
    ['in records of 1, 5 and 100 bytes', (flight) => [records(unwrap(flight), [1, 5, 100])]],
    ['both', (flight) => Array.from(records(unwrap(flight), [40]), (byte) => Buffer.of(byte))],
  ];
  for (const [what, cut] of cuts) {
    const port = await startCutter(t, lab.tlsPort, cut);
    t.match(await speak(await openTls(t, port, { servername: ECO }), page(ECO)), /^HTTP\/1\.1 200 /, `${what}, steered`);
    t.match(await speak(await openTls(t, port, { servername: OWN }), page(OWN, '/eco/')), /^HTTP\/1\.1 200 /, `${what}, ended here`);
  }
  t.equal(lab.upstream.requests.every(({ headers }) => headers.via === undefined || headers.host?.startsWith(ECO) === true), true);
});

t.test('OpenSSL', async (t) => {
  const lab = await startTlsLab(t);
  const ca = caFile(t, lab);
  const client = (name: string, host: string, path: string): Promise<Ran> =>
    run('openssl', ['s_client', '-quiet', '-verify_return_error', '-verify_hostname', name, '-CAfile', ca, '-servername', name, '-connect', `127.0.0.1:${lab.tlsPort}`], page(host, path));
  const [steered, ended, refused] = await Promise.all([client(ECO, ECO, '/steered'), client(OWN, OWN, '/eco/ended'), client('evil.example', 'evil.example', '/')]);
  if (steered.code === 127) {
    t.comment('openssl is not here, so it was not tried');
    return;
  }
  t.match(steered.output, /HTTP\/1\.1 200 [^]*"url":"\/steered"/);
  t.match(ended.output, /HTTP\/1\.1 200 [^]*"url":"\/ended"/);
  t.match(refused.output, /alert unrecognized name|SSL alert number 112/);
});

t.test('curl', async (t) => {
  const lab = await startTlsLab(t);
  const { httpPort, httpsPort } = lab.upstream;
  const curl = (...args: string[]): Promise<Ran> =>
    // The partner ends the tunnel first: curl resets it otherwise, now and then.
    run('curl', ['-sS', '-i', '-H', 'Connection: close', '--noproxy', '', '--cacert', caFile(t, lab), '--proxy-cacert', caFile(t, lab), '--resolve', `${OWN}:${lab.tlsPort}:127.0.0.1`, ...args]);
  if ((await curl('--version')).code === 127) {
    t.comment('curl is not here, so it was not tried');
    return;
  }
  const own = `https://${OWN}:${lab.tlsPort}`;
  const table: [what: string, args: string[], seen: RegExp, line: Record<string, unknown>][] = [
    ['steered', ['--connect-to', `::127.0.0.1:${lab.tlsPort}`, `https://${ECO}/steered`], /200 OK[^]*"url":"\/steered"/, { form: 'sni', port: httpsPort }],
    ['CONNECT', ['--proxy', own, `https://${ECO}:${httpsPort}/tunnel`], /200 Connection Established[^]*"url":"\/tunnel"/, { form: 'connect', port: httpsPort }],
    ['forward', ['--proxy', own, `http://${ECO}:${httpPort}/forward`], /200 OK[^]*"url":"\/forward"/, { form: 'forward', port: httpPort }],
    ['gateway', [`${own}/eco/gateway`], /200 OK[^]*"url":"\/gateway"/, { form: 'gateway', port: httpsPort }],
    ['host-routed', ['-H', `Host: ${ECO}:${httpsPort}`, `${own}/routed`], /200 OK[^]*"url":"\/routed"/, { form: 'host-routed', port: httpsPort }],
    ['refused CONNECT', ['--proxy', own, 'https://evil.example/'], /403 Egress denied: host-not-allowed/, { form: 'connect', code: 'host-not-allowed' }],
    ['refused', ['--connect-to', `::127.0.0.1:${lab.tlsPort}`, 'https://evil.example/'], /unrecognized name/, { form: 'sni', code: 'host-not-allowed' }],
    ['plain HTTP to the port', [`http://127.0.0.1:${lab.tlsPort}/eco/`], /400 Bad request: http-on-tls-port/, { code: 'http-on-tls-port' }],
  ];
  for (const [what, args, seen, line] of table) {
    const logged = lab.log.length;
    t.match((await curl(...args)).output, seen, what);
    t.match(await lab.logged((entry) => 'requestId' in entry && lab.log.indexOf(entry) >= logged), { code: 'ok', client: 'pods', ...line }, what);
  }
});

t.test("Java's HttpClient, with no setting but where the names lead", async (t) => {
  const lab = await startTlsLab(t);
  const source = fileURLToPath(new URL('../support/programs/Fetch.java', import.meta.url));
  const ca = caFile(t, lab);
  const hosts = join(dirname(ca), 'hosts');
  writeFileSync(hosts, [ECO, OWN, 'evil.example'].map((name) => `127.0.0.1 ${name}\n`).join(''));
  if (!/^jdk\.compiler@/m.test((await run('java', ['--list-modules'])).output)) {
    t.comment('there is no JDK here, so Java was not tried');
    return;
  }
  const urls = [`https://${ECO}:${lab.tlsPort}/steered`, `https://${OWN}:${lab.tlsPort}/eco/ended`, `https://evil.example:${lab.tlsPort}/`];
  const { output } = await run('java', ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', `-Djdk.net.hosts.file=${hosts}`, source, ca, '-', ...urls]);
  const [steered, ended, refused] = output.split('\n');
  t.match(steered, /^200 .*"url":"\/steered"/);
  t.match(ended, /^200 .*"url":"\/ended"/);
  t.match(refused, /unrecognized_name/);
  t.equal(lab.upstream.requests.length, 2);
});

t.test('Node through the proxy over TLS: fetch, bodies both ways, one connection for many requests', async (t) => {
  const lab = await startTlsLab(t, {
    onRequest: (req, res) => {
      res.setHeader('x-seen', String(req.headers['x-forwarded-proto'] ?? '-'));
      req.pipe(res);
    },
    configure: (draft) => Object.assign(draft.headers, { xForwarded: 'append' }),
  });
  const body = randomBytes(3 << 20);
  const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const { httpPort, httpsPort } = lab.upstream;
  const trust = { ca: lab.authority.certPem };

  const dispatcher = new ProxyAgent({ uri: `https://127.0.0.1:${lab.tlsPort}`, proxyTls: { ...trust, servername: OWN }, requestTls: trust });
  t.teardown(() => dispatcher.close());
  for (const [url, proto] of [[`https://${ECO}:${httpsPort}/`, '-'], [`http://${ECO}:${httpPort}/`, 'https']] as const) {
    const response = await fetch(url, { dispatcher, method: 'POST', body });
    t.equal(response.headers.get('x-seen'), proto);
    t.equal(sha(new Uint8Array(await response.arrayBuffer())), sha(body), url);
  }

  const agent = new Agent({ keepAlive: true, maxSockets: 1, ...trust, servername: OWN });
  t.teardown(() => {
    agent.destroy();
  });
  const ports = new Set<number | undefined>();
  for (const [target, host] of [['/eco/x', OWN], ['/x', `${ECO}:${httpsPort}`], [`http://${ECO}:${httpPort}/x`, `${ECO}:${httpPort}`]] as const) {
    const outgoing = request({ host: '127.0.0.1', port: lab.tlsPort, agent, method: 'PUT', path: target, headers: ['Host', host] });
    outgoing.on('socket', (socket) => ports.add(socket.localPort));
    const answer = answerOf(outgoing);
    outgoing.end(body);
    const { status, headers, body: back } = await answer;
    t.match({ status, proto: headers['x-seen'] }, { status: 200, proto: 'https' }, target);
    t.equal(sha(back), sha(body), target);
  }
  t.equal(ports.size, 1, 'all on one connection');
});

t.test('a request with the Host of a destination goes on by the scheme it came by', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft, { https }) => Object.assign(draft.destinations.eco, { ports: [443, 80, https] }) });
  const heard = await speak(await openOwn(t, lab), page(ECO));
  t.match(readAnswers(heard)[0], { status: 502 }, 'nobody listens on 443 here');
  t.match(await lab.logged((line) => line['form'] === 'host-routed'), { port: 443, code: 'connection-refused' });
  const plain = httpRequest({ host: '127.0.0.1', port: lab.port, path: '/', headers: ['Host', ECO] });
  plain.end();
  t.match(await answerOf(plain), { status: 502 });
  t.match(await lab.logged((line) => line['port'] === 80), { form: 'host-routed' });
});

t.test('WebSocket inside TLS, and a tunnel with TLS inside TLS', async (t) => {
  const lab = await startTlsLab(t);
  const sockets = new WebSocketServer({ noServer: true });
  lab.upstream.https.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    sockets.handleUpgrade(req, socket, head, (ws) => ws.on('message', (data, binary) => { ws.send(data, { binary }); }));
  });
  const ws = new WebSocket(`wss://127.0.0.1:${lab.tlsPort}/eco/socket`, { agent: new Agent({ servername: OWN, ca: lab.authority.certPem }), headers: { Host: OWN } });
  await once(ws, 'open');
  ws.send('through TLS');
  const [data] = (await once(ws, 'message')) as [Buffer];
  t.equal(data.toString(), 'through TLS');
  ws.close();
  await once(ws, 'close');
  t.match(await lab.logged((line) => line['form'] === 'gateway'), { status: 101, code: 'ok' });

  const outer = await openOwn(t, lab);
  outer.write(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  const [answer] = (await once(outer, 'data')) as [Buffer];
  t.match(answer.toString(), /^HTTP\/1\.1 200 Connection Established\r\n/);
  const inner = connectTls({ socket: outer, servername: ECO, ca: lab.authority.certPem });
  await once(inner, 'secureConnect');
  t.match(await speak(inner, page(ECO, '/inner')), /^HTTP\/1\.1 200 [^]*"url":"\/inner"/);
  t.match(await lab.logged((line) => line['form'] === 'connect'), { status: 200, code: 'ok', detail: undefined });
});

t.test('a response that breaks off never ends like a whole one', async (t) => {
  const lab = await startTlsLab(t, {
    onRequest: (req, res) => {
      res.writeHead(200, { connection: 'close' });
      res.write('the beginning', () => {
        if (req.url === '/cut') setImmediate(() => res.socket?.destroy());
        else res.end(', the end');
      });
    },
  });
  for (const version of ['1.0', '1.1']) {
    for (const path of ['/whole', '/cut']) {
      const socket = await openOwn(t, lab);
      const errors: string[] = [];
      socket.on('error', ({ message }) => errors.push(message));
      const heard = await speak(socket, `GET /eco${path} HTTP/${version}\r\nHost: ${OWN}\r\nConnection: close\r\n\r\n`);
      const whole = version === '1.0' ? errors.length === 0 : heard.endsWith('\r\n0\r\n\r\n');
      t.equal(whole, path === '/whole', `HTTP/${version} ${path}`);
    }
  }
});

/** An option of every Duplex, that the types of TLS leave out. */
const HALF_OPEN: ConnectionOptions & { allowHalfOpen: boolean } = { allowHalfOpen: true };

t.test('a tunnel inside TLS ends in one direction before the other', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let asked = '';
    socket.on('data', (chunk: Buffer) => (asked += chunk.toString()));
    socket.on('end', () => socket.end(`all of ${asked}`));
  });
  const port = await listen(t, server);
  const lab = await startTlsLab(t, { configure: (draft, { https }) => Object.assign(draft.destinations.eco, { ports: [https, port] }) });
  const socket = await openOwn(t, lab, HALF_OPEN);
  socket.write(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  await once(socket, 'data');
  socket.end('what was asked');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.equal(answer.toString(), 'all of what was asked');
  t.match(await lab.logged((line) => line['form'] === 'connect'), { code: 'ok', closedBy: 'client', bytesSent: 14, bytesReceived: 21 });
});

t.test('a drain does not wait for what has not begun', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => Object.assign(draft.timeouts, { drain: '30s', tls: '30s' }) });
  const hello = await captureNode(t, { servername: OWN });
  const [part, silent, handshake] = [await openWire(t, lab.tlsPort), await openWire(t, lab.tlsPort), await openWire(t, lab.tlsPort)];
  part.send(hello.subarray(0, 100));
  handshake.send(hello);
  await once(handshake.socket, 'data');
  await lab.service.drain();
  await Promise.all([part.ended, silent.ended, handshake.ended]);
  t.strictSame(accessLines(lab), [], 'and has nothing to tell of it');
});

/** In order or not. */
function untilClosed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on('error', () => {}).once('close', () => { resolve(); }));
}

t.test('reload and drain reach steered tunnels', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => Object.assign(draft.timeouts, { drain: '200ms' }) });
  const revoked = await openSteered(t, lab);
  const closed = untilClosed(revoked);
  t.match(await lab.reload((draft) => void (draft.rules[0] = { clients: ['pods'], destinations: ['eco'], until: '2020-01-01T00:00:00Z' })), { result: 'applied', tunnelsCut: 1 });
  await closed;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'sni', closedBy: 'proxy' });
  await t.rejects(openSteered(t, lab), /access denied/);

  await lab.reload((draft) => Object.assign(draft.timeouts, { drain: '200ms' }));
  const drained = await openSteered(t, lab);
  const idle = await openOwn(t, lab);
  const handshake = await openWire(t, lab.tlsPort);
  handshake.send(await captureNode(t, { servername: OWN }));
  await once(handshake.socket, 'data');
  const ended = Promise.all([untilClosed(drained), untilClosed(idle)]);
  await lab.service.drain();
  await ended;
  t.match(await lab.logged((line) => line.code === 'draining'), { form: 'sni', closedBy: 'proxy' });
  t.notOk(lab.log.some(({ code }) => code === 'client-closed'), 'who closed a handshake was not the client');
  await t.rejects(openSteered(t, lab), /ECONNREFUSED/);
});

t.test('drain: steered TLS may go on until the deadline, like any tunnel', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => Object.assign(draft.timeouts, { drain: '10s' }) });
  const socket = await openTls(t, lab.tlsPort, { servername: ECO });
  const drained = lab.service.drain();
  await lab.logged(({ msg }) => msg?.startsWith('draining') === true);
  // The listener has stopped once the turns behind the delay are over.
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  t.match(await speak(socket, `GET /late HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /);
  await drained;
  t.match(await lab.logged((line) => line['form'] === 'sni'), { code: 'ok', host: ECO });
});
