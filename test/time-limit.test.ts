/** A pause of the process uses up nobody's time: what came meanwhile is read first. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { createConnectRequest } from '../src/dial/connect-request.ts';
import { createDialler } from '../src/dial/dialler.ts';
import { converse, type HopHandshake } from '../src/dial/handshake.ts';
import { dnsLookup } from '../src/dial/lookup.ts';
import { createResolver } from '../src/dial/resolver.ts';
import { createSocks5 } from '../src/dial/socks5.ts';
import { tryConnect } from '../src/dial/try-connect.ts';
import { receiveFirstBytes } from '../src/listeners/first-bytes.ts';
import { askListener } from '../src/self-test/ask-listener.ts';
import { askEndpoint } from '../src/source-ip/ask-endpoint.ts';
import { lookEvery, TimeLimit } from '../src/time-limit.ts';
import { listen } from './support/listen.ts';

const never = new AbortController().signal;

/** As the kernel does with a stopped process. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** A server in a thread of its own: it answers while this one stands still. @param code has `parentPort` and `given`; posts its port */
async function startElsewhere(t: Test, code: string, given: unknown): Promise<number> {
  const worker = new Worker(`const { parentPort, workerData: given } = require('node:worker_threads'); ${code}`, { eval: true, workerData: given });
  t.teardown(() => worker.terminate());
  const [port] = (await once(worker, 'message')) as [number];
  return port;
}

/** Answers each piece that comes with the next of these. */
const ANSWERING = `require('node:net').createServer((socket) => {
  const answers = [...given];
  socket.on('error', () => {}).on('data', () => socket.write(answers.shift()));
}).listen(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port); });`;

/** Answers what comes with this, after a moment. */
const THINKING = `require('node:net').createServer((socket) => {
  socket.on('error', () => {}).on('data', () => setTimeout(() => socket.end(given), 50));
}).listen(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port); });`;

/** Answers every question for A. */
const NAMING = `const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (question, { port, address }) => {
  const isA = question.at(-3) === 1 || question.includes(Buffer.from([4, 116, 101, 115, 116, 0, 0, 1]));
  const end = question.indexOf(Buffer.from([0, 0, isA ? 1 : 28, 0, 1])) + 5;
  const head = Buffer.from([question[0], question[1], 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  const record = isA ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]) : Buffer.alloc(0);
  socket.send(Buffer.concat([head, question.subarray(12, end), record]), port, address);
}).bind(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port); });`;

t.test('it is over once, when its time is, and not at all when it has been cleared', async (t) => {
  let calls = 0;
  const limit = new TimeLimit(10, () => { calls += 1; });
  const cleared = new TimeLimit(10, () => t.fail('it was cleared'));
  const between = new TimeLimit(10, () => t.fail('it was cleared between its timer and the look at the sockets'));
  setTimeout(() => { between.clear(); }, 10);
  cleared.clear();
  // Until all are due in one turn, even if a millisecond began between two of them.
  pause(20);
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.equal(calls, 1);
  limit.clear();
});

t.test('one that looks at intervals does so after what came has been read, and not after its end', async (t) => {
  const port = await startElsewhere(t, THINKING, 'late');
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let read = '';
  socket.on('data', (chunk) => { read += String(chunk); }).write('?');
  const seen: string[] = [];
  const stop = lookEvery(100, () => { seen.push(read); });
  // Once the question has left.
  await new Promise((resolve) => setImmediate(resolve));
  pause(300);
  await once(socket, 'close');
  stop();
  t.equal(seen[0], 'late');
  // A look that is due in this turn is called off too.
  await new Promise<void>((resolve) => {
    const end = lookEvery(10, () => t.fail('it has ended'));
    setTimeout(() => { end(); setTimeout(resolve, 30); }, 10);
    pause(20);
  });
});

t.test('the answer of a parent', async (t) => {
  const talk = async (handshake: HopHandshake, answers: readonly Buffer[], pauseMs: number): Promise<unknown> => {
    const socket = connect(await startElsewhere(t, ANSWERING, answers), '127.0.0.1');
    await once(socket, 'connect');
    const conversation = converse({ socket, handshake, timeout: 300, signal: never });
    // Once the opening has left.
    await new Promise((resolve) => setImmediate(resolve));
    pause(pauseMs);
    const failure = await conversation;
    socket.destroy();
    return failure;
  };
  t.equal(await talk(createConnectRequest({ host: 'eco.test', port: 443, credentials: null, via: null }), [Buffer.from('HTTP/1.1 200 OK\r\n\r\n')], 500), null);
  const socks = [Buffer.of(5, 0), Buffer.of(5, 0, 0, 1, 127, 0, 0, 1, 0, 80)];
  t.equal(await talk(createSocks5({ host: 'eco.test', port: 443, credentials: null }), socks, 1_500), null, 'what is asked after a long pause has its own time');
});

t.test('a connection that is tried', async (t) => {
  const port = await listen(t, createServer());
  const tried = tryConnect('127.0.0.1', port, 20, never);
  pause(200);
  t.match(await tried, { outcome: 'open' });
});

t.test('a name', async (t) => {
  const port = await startElsewhere(t, NAMING, null);
  const resolver = createResolver({ lookup: dnsLookup([`127.0.0.1:${port}`]), dns: { ttl: 30_000, staleFor: 0 }, timeout: 500 });
  const resolved = resolver.resolve('eco.test');
  await new Promise((resolve) => setImmediate(resolve));
  pause(1_600);
  t.strictSame(await resolved, ['192.0.2.1'], 'c-ares gives its server up as well, and asks again');
});

t.test('the first bytes of a client', async (t) => {
  const server = createServer((socket) => {
    receiveFirstBytes(socket, {
      timeout: 20,
      onBytes: (chunk) => () => {
        t.equal(chunk.toString(), 'hello');
        socket.end();
      },
      onGiveUp: (why) => t.fail(why),
    });
    pause(200);
  });
  const client = connect(await listen(t, server), '127.0.0.1');
  client.write('hello');
  let ended = false;
  client.on('end', () => { ended = true; }).resume();
  await once(client, 'close');
  t.ok(ended, 'it was not reset');
});

t.test('the endpoint that sees the source address', async (t) => {
  const port = await startElsewhere(t, THINKING, 'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n34.123.45.67');
  const names = { lookup: () => Promise.resolve({ addresses: [], ttl: null }), dns: { ttl: 0, staleFor: 0 }, timeout: 5_000 };
  const dialler = createDialler({ resolver: createResolver(names), timeouts: { connect: 5_000, tls: 5_000 } });
  const probe = { scheme: 'http', host: '127.0.0.1', port, path: '/', every: 60_000, timeout: 300, field: null, via: [], addresses: ['127.0.0.1/32'], tls: { ca: null, cert: null, key: null, serverName: null } } as const;
  const seen = askEndpoint(probe, { dialler, isSelf: () => false, signal: never });
  await new Promise((resolve) => setImmediate(resolve));
  pause(1_600);
  t.match(await seen, { address: '34.123.45.67' });
});

t.test('a request of the self-test', async (t) => {
  const port = await startElsewhere(t, THINKING, 'HTTP/1.1 403 Egress denied\r\n\r\n{"code":"host-not-allowed"}');
  const answered = askListener({ what: 'connect', host: '127.0.0.1', port, preface: '', serverName: null, request: 'CONNECT x.invalid:443 HTTP/1.1\r\n\r\n', asker: null, expected: [] }, ({ arrived }) => { arrived(); }, 300, never);
  await new Promise((resolve) => setImmediate(resolve));
  pause(1_600);
  t.strictSame(await answered, { kind: 'refused', code: 'host-not-allowed' });
});
