/**
 * One exchange after another on a connection to a real server that sends what
 * the table says.
 */
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import { createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { Fault } from '../../src/errors.ts';
import { CHUNKED, NO_CONTENT } from '../../src/http1/body-reader.ts';
import type { ResponseHead } from '../../src/http1/response-head.ts';
import { type UpstreamConnectionOptions, type ResponseHandler, UpstreamConnection } from '../../src/relay/upstream-connection.ts';
import { labCertificates, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { dialLocally } from '../support/pool-options.ts';

const OPTIONS: UpstreamConnectionOptions = { keepAlive: 10_000, age: 60_000, headerBytes: 1024, headerFields: 10 };
const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

/** Writes down what it is told, in order. */
class Scribe implements ResponseHandler {
  readonly told: string[] = [];
  content = '';
  head: ResponseHead | null = null;
  fault: Fault | null = null;
  readonly #ended = Promise.withResolvers<undefined>();
  /** Answered, broken, switched or crashed. */
  readonly ended: Promise<undefined> = this.#ended.promise;
  onInformational(head: ResponseHead): void {
    this.told.push(String(head.status));
  }
  onHead(head: ResponseHead): void {
    this.head = head;
    this.told.push(`head ${head.status}`);
  }
  onContent(content: Buffer): void {
    this.content += content.toString('latin1');
  }
  onEnd(trailers: readonly string[]): void {
    this.#end(['end', ...trailers].join(' '));
  }
  onSwitch(head: ResponseHead): void {
    this.#end(`switch ${head.upgrade}`);
  }
  onDrain(): void {
    this.told.push('drain');
  }
  onBroken(fault: Fault): void {
    this.fault = fault;
    this.#end(`broken ${fault.code}`);
  }
  onCrash(error: unknown): void {
    this.#end(`crash ${String(error)}`);
  }
  #end(how: string): void {
    this.told.push(how);
    this.#ended.resolve(undefined);
  }
}

interface Bench {
  readonly connection: UpstreamConnection;
  /** The upstream's end of it. */
  readonly upstream: Socket;
}

async function start(t: Test, options: Partial<UpstreamConnectionOptions> = {}): Promise<Bench> {
  const server = createServer({ allowHalfOpen: true });
  const port = await listen(t, server);
  const accepted = once(server, 'connection');
  const connection = new UpstreamConnection(await dialLocally(port, new AbortController().signal), { ...OPTIONS, ...options });
  t.teardown(() => {
    connection.destroy();
  });
  const [upstream] = (await accepted) as [Socket];
  return { connection, upstream };
}

/** The request has arrived. */
async function asked(upstream: Socket): Promise<string> {
  const [chunk] = (await once(upstream, 'data')) as [Buffer];
  return chunk.toString('latin1');
}

/** Sends a request, has it answered so, and waits for the end of it. */
async function exchange({ connection, upstream }: Bench, answer: string, { method = 'GET', end = false } = {}): Promise<Scribe> {
  const scribe = new Scribe();
  connection.begin(scribe, method, GET.replace('GET', method), NO_CONTENT);
  connection.finish([]);
  await asked(upstream);
  upstream.write(answer, 'latin1');
  if (end) upstream.end();
  await scribe.ended;
  return scribe;
}

const LENGTH = 'Content-Length: 3\r\n\r\nabc';

t.test('what is answered, and whether the connection can be used again', async (t) => {
  const rows: readonly (readonly [what: string, answer: string, told: readonly string[], content: string, reusable: boolean, options?: { method?: string; end?: boolean }])[] = [
    ['a length', `HTTP/1.1 200 OK\r\n${LENGTH}`, ['head 200', 'end'], 'abc', true],
    ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: 1\r\n\r\n', ['head 200', 'end A 1'], 'abc', true],
    ['lines that end in LF', 'HTTP/1.1 200 OK\nContent-Length: 3\n\nabc', ['head 200', 'end'], 'abc', true],
    ['no content', 'HTTP/1.1 204 No Content\r\n\r\n', ['head 204', 'end'], '', true],
    ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n', ['head 304', 'end'], '', true],
    ['HEAD with a length', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n', ['head 200', 'end'], '', true, { method: 'HEAD' }],
    ['HEAD with chunks announced', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', ['head 200', 'end'], '', true, { method: 'HEAD' }],
    ['DELETE', `HTTP/1.1 200 OK\r\n${LENGTH}`, ['head 200', 'end'], 'abc', true, { method: 'DELETE' }],
    ['until the end', 'HTTP/1.1 200 OK\r\n\r\nabc', ['head 200', 'end'], 'abc', false, { end: true }],
    ['nothing until the end', 'HTTP/1.1 200 OK\r\n\r\n', ['head 200', 'end'], '', false, { end: true }],
    ['HTTP/1.0', `HTTP/1.0 200 OK\r\n${LENGTH}`, ['head 200', 'end'], 'abc', false],
    ['HTTP/1.0 that is kept', `HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n${LENGTH}`, ['head 200', 'end'], 'abc', true],
    ['close', `HTTP/1.1 200 OK\r\nConnection: close\r\n${LENGTH}`, ['head 200', 'end'], 'abc', false],
    ['kept for no time', `HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\n${LENGTH}`, ['head 200', 'end'], 'abc', false],
    ['something behind it', `HTTP/1.1 200 OK\r\n${LENGTH}d`, ['head 200', 'end'], 'abc', false],
    ['something behind HEAD', `HTTP/1.1 200 OK\r\n${LENGTH}`, ['head 200', 'end'], '', false, { method: 'HEAD' }],
    ['something behind 204', 'HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n', ['head 204', 'end'], '', false],
    ['informational first', `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n${LENGTH}`, ['100', '103', 'head 200', 'end'], 'abc', true],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n', ['switch websocket'], '', false],

    ['another protocol spoken', 'SSH-2.0-OpenSSH\r\n', ['broken upstream-malformed'], '', false],
    ['its first byte', 'S', ['broken upstream-malformed'], '', false],
    ['TLS', '\x15\x03\x01\x00\x02\x02F', ['broken upstream-malformed'], '', false],
    ['HTTP/2', 'HTTP/2.0 200 OK\r\n\r\n', ['broken upstream-malformed'], '', false],
    ['both framings', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n', ['broken upstream-malformed'], '', false],
    ['broken chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd', ['head 200', 'broken upstream-malformed'], 'abc', false],
    ['a head that is too large', `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(2000)}`, ['broken upstream-malformed'], '', false],
    ['too many fields', `HTTP/1.1 200 OK\r\n${'A: 1\r\n'.repeat(11)}\r\n`, ['broken upstream-malformed'], '', false],
    ['a trailer section that is too large', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ${'x'.repeat(2000)}`, ['head 200', 'broken upstream-malformed'], '', false],
    ['closed before an answer', '', ['broken upstream-cut'], '', false, { end: true }],
    ['closed in the head', 'HTTP/1.1 200 OK\r\n', ['broken upstream-cut'], '', false, { end: true }],
    ['closed behind 100', 'HTTP/1.1 100 Continue\r\n\r\n', ['100', 'broken upstream-cut'], '', false, { end: true }],
    ['closed in the content', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab', ['head 200', 'broken upstream-cut'], 'ab', false, { end: true }],
    ['closed between chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', ['head 200', 'broken upstream-cut'], 'abc', false, { end: true }],
    ['closed in the trailers', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: 1\r\n', ['head 200', 'broken upstream-cut'], '', false, { end: true }],
  ];
  for (const [what, answer, told, content, reusable, options] of rows) {
    await t.test(what, async (t) => {
      const bench = await start(t);
      const scribe = await exchange(bench, answer, options);
      t.strictSame(scribe.told, told);
      t.equal(scribe.content, content);
      if (told.at(-1)?.startsWith('end') === true) t.equal(bench.connection.reusable, reusable);
      if (told.at(-1)?.startsWith('broken') === true) t.notOk(bench.connection.open, 'closed');
      if (/too (large|many)/.test(what)) t.match(scribe.fault?.remedy, 'raise limits.headerBytes');
      if (!reusable) return;
      t.match(await exchange(bench, `HTTP/1.1 404 Not Found\r\n${LENGTH}`), { told: ['head 404', 'end'], content: 'abc' }, 'and another one');
    });
  }
});

t.test('a reset in the middle is no end, also where the end of the connection is that of the content', async (t) => {
  for (const head of ['', 'HTTP/1.1 200 OK\r\n\r\nabc', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc']) {
    const { connection, upstream } = await start(t);
    const scribe = new Scribe();
    connection.begin(scribe, 'GET', GET, NO_CONTENT);
    connection.finish([]);
    await asked(upstream);
    upstream.write(head);
    while (scribe.content === '' && head !== '') await new Promise(setImmediate);
    upstream.resetAndDestroy();
    await scribe.ended;
    t.equal(scribe.told.at(-1), 'broken upstream-cut', JSON.stringify(head));
    t.match(scribe.fault?.message, head === '' ? /before it answered$/ : /in the middle of the response$/);
    t.equal((scribe.fault?.cause as NodeJS.ErrnoException).code, 'ECONNRESET', 'the cause is kept');
  }
});

t.test('a connection that the system gave up was lost: nobody has closed it', async (t) => {
  for (const [code, head] of [['ETIMEDOUT', ''], ['EHOSTUNREACH', 'HTTP/1.1 200 OK\r\n\r\nabc'], ['ENETUNREACH', '']] as const) {
    const { connection, upstream } = await start(t);
    const scribe = new Scribe();
    connection.begin(scribe, 'GET', GET, NO_CONTENT);
    upstream.write(head);
    while (scribe.content === '' && head !== '') await new Promise(setImmediate);
    connection.dialled.socket.destroy(Object.assign(new Error(`read ${code}`), { code }));
    await scribe.ended;
    t.match(scribe.fault, { code: 'upstream-silent', detail: `the connection to the upstream was lost: its host no longer answers (${code})`, remedy: /route.*firewall or NAT/ });
  }
});

t.test('an error before the end makes the end an error', async (t) => {
  const { connection, upstream } = await start(t);
  const scribe = new Scribe();
  connection.begin(scribe, 'GET', GET, NO_CONTENT);
  connection.finish([]);
  await asked(upstream);
  upstream.write('HTTP/1.1 200 OK\r\n\r\nabc');
  while (scribe.content === '') await new Promise(setImmediate);
  connection.error = Object.assign(new Error('reset'), { code: 'ECONNRESET' });
  upstream.end();
  await scribe.ended;
  t.equal(scribe.told.at(-1), 'broken upstream-cut');
});

t.test('nor is an end behind a reset that a write has met', async (t) => {
  const { connection, upstream } = await start(t);
  const scribe = new Scribe();
  connection.begin(scribe, 'POST', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', CHUNKED);
  await asked(upstream);
  upstream.write('HTTP/1.1 200 OK\r\n\r\nabc');
  while (scribe.content === '') await new Promise(setImmediate);
  upstream.resetAndDestroy();
  // Now: the system tells a reset once, and then an end.
  connection.finish([]);
  await scribe.ended;
  t.equal(scribe.told.at(-1), 'broken upstream-cut');
});

t.test('paused with the last of an answer, the connection is read again: for the next answer, and to notice its close', async (t) => {
  const bench = await start(t);
  const { connection, upstream } = bench;
  const scribe = new Scribe();
  scribe.onContent = () => {
    connection.pause();
  };
  connection.begin(scribe, 'GET', GET, NO_CONTENT);
  connection.finish([]);
  await asked(upstream);
  upstream.write(`HTTP/1.1 200 OK\r\n${LENGTH}`);
  await scribe.ended;
  t.equal(connection.reusable, true);
  t.notOk(connection.dialled.socket.isPaused());
  t.match(await exchange(bench, `HTTP/1.1 200 OK\r\n${LENGTH}`), { told: ['head 200', 'end'], content: 'abc' });
  const closed = Promise.withResolvers<undefined>();
  connection.onIdleClose = () => {
    closed.resolve(undefined);
  };
  upstream.end();
  await closed.promise;
  t.notOk(connection.open);
});

t.test('how long it lies idle is what the upstream says, less a margin, and never longer than configured', async (t) => {
  for (const [hint, keepFor] of [
    ['timeout=1', 500],
    ['timeout=5', 4500],
    ['timeout=60', 10_000],
    ['max=5', 10_000],
  ] as const) {
    const bench = await start(t);
    t.equal(bench.connection.keepFor, 10_000);
    await exchange(bench, `HTTP/1.1 200 OK\r\nKeep-Alive: ${hint}\r\n${LENGTH}`);
    t.equal(bench.connection.keepFor, keepFor, hint);
    t.equal(bench.connection.reusable, true, hint);
  }
});

t.test('it carries as many exchanges as the upstream lets it', async (t) => {
  for (const [hints, carried] of [
    [['max=0'], 1],
    [['max=1'], 1],
    [['max=2', 'max=2', 'max=2'], 2],
    [['max=3', 'max=2', 'max=1', 'max=0'], 3],
    [['timeout=9', 'max=1', 'max=1', 'max=1'], 3],
    [['max=5', 'max=1', 'timeout=9', 'timeout=9'], 3],
    [['max=9', 'max=9', 'max=9'], 3],
  ] as const) {
    const bench = await start(t);
    let count = 0;
    for (const hint of hints) {
      bench.connection.uses = count;
      await exchange(bench, `HTTP/1.1 200 OK\r\nKeep-Alive: ${hint}\r\n${LENGTH}`);
      count += 1;
      if (!bench.connection.reusable) break;
    }
    t.equal(count, carried, hints.join(', '));
  }
});

t.test('what comes when nothing was asked ends the connection', async (t) => {
  const { connection, upstream } = await start(t);
  const closed = once(connection.dialled.socket, 'close');
  upstream.write('HTTP/1.1 408 Request Timeout\r\n\r\n');
  await closed;
  t.equal(connection.reusable, false);
});

t.test('an answer before the request is complete is the last on the connection', async (t) => {
  const { connection, upstream } = await start(t);
  const scribe = new Scribe();
  connection.begin(scribe, 'POST', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', CHUNKED);
  connection.write(Buffer.from('abc'));
  t.match(await asked(upstream), /\r\n\r\n3\r\nabc\r\n$/, 'head and content leave as they come');
  upstream.write(`HTTP/1.1 413 Content Too Large\r\n${LENGTH}`);
  await scribe.ended;
  t.strictSame(scribe.told, ['head 413', 'end']);
  t.equal(connection.reusable, false);
});

t.test('the header section leaves without its content', async (t) => {
  const { connection, upstream } = await start(t);
  connection.begin(new Scribe(), 'POST', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', CHUNKED);
  t.equal(await asked(upstream), 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  connection.write(Buffer.from('a'));
  t.equal(await asked(upstream), '1\r\na\r\n');
  connection.finish(['X-Sum', '1']);
  t.equal(await asked(upstream), '0\r\nX-Sum: 1\r\n\r\n');
});

t.test('abandoned, nothing more is reported and the connection is closed', async (t) => {
  const { connection, upstream } = await start(t);
  const scribe = new Scribe();
  connection.begin(scribe, 'GET', GET, NO_CONTENT);
  connection.finish([]);
  await asked(upstream);
  const closed = once(connection.dialled.socket, 'close');
  connection.abandon();
  upstream.write(`HTTP/1.1 200 OK\r\n${LENGTH}`);
  await closed;
  t.strictSame(scribe.told, []);
  t.equal(connection.reusable, false);
});

t.test('what a handler throws ends its exchange and its connection, in each callback', async (t) => {
  const answers: Record<string, string> = {
    onInformational: 'HTTP/1.1 103 Early Hints\r\n\r\n',
    onHead: `HTTP/1.1 200 OK\r\n${LENGTH}`,
    onContent: `HTTP/1.1 200 OK\r\n${LENGTH}`,
    onEnd: `HTTP/1.1 200 OK\r\n${LENGTH}`,
    onSwitch: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n',
    onBroken: 'SSH-2.0\r\n',
  };
  for (const [callback, answer] of Object.entries(answers)) {
    const { connection, upstream } = await start(t);
    const scribe = new Scribe();
    const crashed = Promise.withResolvers<unknown>();
    const handler = Object.assign(scribe, {
      [callback]: () => {
        throw new Error(`in ${callback}`);
      },
      onCrash: crashed.resolve,
    });
    connection.begin(handler, 'GET', GET, NO_CONTENT);
    connection.finish([]);
    await asked(upstream);
    upstream.write(answer);
    t.match(await crashed.promise, { message: `in ${callback}` });
    t.notOk(connection.open, callback);
  }
});

t.test('detached, the socket is the caller’s, with what came behind the head', async (t) => {
  const { connection, upstream } = await start(t);
  const scribe = new Scribe();
  const taken = Promise.withResolvers<Socket>();
  scribe.onSwitch = () => {
    taken.resolve(connection.detach());
  };
  connection.begin(scribe, 'GET', GET, NO_CONTENT);
  connection.finish([]);
  await asked(upstream);
  upstream.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nearly');
  const socket = await taken.promise;
  t.ok(socket.isPaused());
  const early = once(socket, 'data');
  socket.resume();
  const [first] = (await early) as [Buffer];
  t.equal(first.toString(), 'early');
  upstream.write(' and late');
  const [second] = (await once(socket, 'data')) as [Buffer];
  t.equal(second.toString(), ' and late');
  t.strictSame(scribe.told, []);
});

t.test('of age, it is old, and not all at once', async (t) => {
  const { connection: young } = await start(t);
  t.equal(young.isOld, false);
  const { connection: old } = await start(t, { age: 0 });
  t.equal(old.isOld, true);
});

t.test('an upstream that asks for a client certificate we do not have is distinguished from one that cuts', async (t) => {
  const { certPem, keyPem, authority } = await labCertificates();
  const port = await listen(t, createTlsServer({ cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: true }));
  const lab = await startLab(t, {
    configure: ({ destinations: { eco } }) => {
      eco['ports'] = [port];
      eco['gateway'] = { prefix: '/eco', url: `https://eco-sit.telus.internal:${port}` };
    },
  });
  const res = await fetch(`${lab.url}/eco/x`);
  t.equal(res.status, 502);
  t.match(res.headers.get('proxy-status'), /;alert-id=116;alert-message="certificate_required"/);
  t.match(await res.json(), { code: 'tls-failed', detail: `eco-sit.telus.internal:${port}: the upstream refused the handshake (ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED)`, remedy: /tls\.certFile/ });
});

t.test('empty lines before an answer are skipped, however they come', async (t) => {
  for (const pieces of [['\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx'], ['\r', '\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx']]) {
    const bench = await start(t);
    const scribe = new Scribe();
    bench.connection.begin(scribe, 'GET', GET, NO_CONTENT);
    bench.connection.finish([]);
    await asked(bench.upstream);
    for (const piece of pieces) bench.connection.received(Buffer.from(piece));
    await scribe.ended;
    t.same(scribe.told, ['head 200', 'end'], JSON.stringify(pieces));
  }
});
