/**
 * A client's connection with a real socket, and a request under way that does
 * what the test says. Longer than 400 lines: one bench serves all of it.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { Fault } from '../../src/errors.ts';
import type { RequestHead } from '../../src/http1/request-head.ts';
import { readResponseHead } from '../../src/http1/response-head.ts';
import { ClientConnection, type ConnectionTerms, LINGER, type RequestUnderWay } from '../../src/listeners/client-connection.ts';
import { ConnectionClock } from '../../src/listeners/connection-clock.ts';
import { listen } from '../support/listen.ts';

const TERMS: ConnectionTerms = { limits: { headerBytes: 2048, headerFields: 10 }, timeouts: { requestHeaders: 1000, keepAlive: 4000, body: 2000 } };
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** Of a busy machine, ms. */
const LONGEST = 60_000;

async function until(holds: () => boolean): Promise<void> {
  const began = performance.now();
  while (!holds()) {
    if (performance.now() - began > LONGEST) throw new Error(`never so: ${String(holds)}`);
    await turn();
  }
}

/** A request that is served by the test. */
class Served implements RequestUnderWay {
  stamp = 0;
  patience = 3000;
  due = Infinity;
  readonly head: RequestHead;
  readonly connection: ClientConnection;
  readonly told: string[] = [];
  content_ = '';
  /** What `clientEnded` says. */
  goesOn = false;
  constructor(connection: ClientConnection, head: RequestHead) {
    this.connection = connection;
    this.head = head;
  }
  content(content: Buffer): void {
    this.content_ += content.toString('latin1');
  }
  contentEnd(trailers: readonly string[]): void {
    this.told.push(['contentEnd', ...trailers].join(' '));
  }
  drained(): void {
    this.told.push('drained');
  }
  clientEnded(): boolean {
    this.told.push('clientEnded');
    return this.goesOn;
  }
  clientClosed(): void {
    this.told.push('clientClosed');
  }
  broke(fault: Fault): void {
    this.told.push(`broke ${fault.code}`);
    this.connection.closeAfter();
    this.answer(fault.kind.status);
  }
  stalled(): void {
    this.told.push('stalled');
  }
  onDue(now: number): void {
    this.told.push(`due ${now}`);
  }
  revoked(fault: Fault): boolean {
    this.told.push(`revoked ${fault.code}`);
    return false;
  }
  crashed(fault: Fault): void {
    this.told.push(`crashed ${fault.code}`);
  }
  answer(status: number, body = ''): void {
    this.connection.request = null;
    this.connection.answer(status, 'x', ['Content-Length', String(body.length)], Buffer.from(body));
  }
}

interface Bench {
  readonly clock: ConnectionClock;
  readonly connections: ClientConnection[];
  /** The one that came as number `at`; it has come. */
  connection(at: number): ClientConnection;
  readonly requests: Served[];
  readonly refused: string[];
  readonly crashes: unknown[];
  /** Called for each request; by default it is answered at once with its target. */
  serve: (request: Served) => void;
  now: number;
  open(): Promise<Client>;
}

class Client {
  heard = '';
  readonly socket: Socket;
  ended = false;
  readonly closed: Promise<unknown>;
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => (this.heard += chunk.toString('latin1')));
    socket.on('error', () => {});
    socket.on('end', () => (this.ended = true));
    this.closed = once(socket, 'close');
  }
  statuses(): string[] {
    return [...this.heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status = '']) => status);
  }
}

async function start(t: Test): Promise<Bench> {
  const bench: Bench = {
    clock: new ConnectionClock({ tick: 3_600_000, now: () => bench.now }),
    connections: [],
    connection: (at) => {
      const connection = bench.connections[at];
      if (connection === undefined) throw new Error(`connection ${at} has not come`);
      return connection;
    },
    requests: [],
    refused: [],
    crashes: [],
    now: 0,
    serve: (request) => {
      request.answer(200, request.head.target);
    },
    open: async () => {
      const before = bench.connections.length;
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      await once(socket, 'connect');
      t.teardown(() => socket.destroy());
      await until(() => bench.connections.length > before);
      return new Client(socket);
    },
  };
  const port = await listen(
    t,
    createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const connection = new ClientConnection(socket, {
        listener: { forms: ['forward'], proxyProtocol: 'off' },
        environment: { config: TERMS },
        clock: bench.clock,
        onRequest: (connection, head) => {
          const request = new Served(connection, head);
          connection.request = request;
          bench.requests.push(request);
          bench.serve(request);
        },
        refusalFor: (_connection, fault) => {
          bench.refused.push(fault.code);
          return `HTTP/1.1 ${fault.kind.status} x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
        },
        onLeft: (_connection, what) => {
          bench.refused.push(`left ${what}`);
        },
        onCrash: (_connection, error) => {
          bench.crashes.push(error);
        },
      });
      bench.connections.push(connection);
      connection.serve();
    }),
  );
  t.teardown(() => {
    bench.clock.close();
  });
  return bench;
}

const get = (target: string, fields = ''): string => `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields}\r\n`;
const post = (target: string, body: string, fields = ''): string => `POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n${fields}\r\n${body}`;
function wait(bench: Bench, ms: number): void {
  bench.clock.tick();
  bench.now += ms;
  bench.clock.tick();
}

const targets = ({ requests }: Bench): string[] => requests.map(({ head }) => head.target);

t.test('one request at a time, in order, whatever the pieces', async (t) => {
  const bytes = get('/1') + post('/2', 'abc') + get('/3') + 'POST /4 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nA: 1\r\n\r\n' + get('/5', 'Connection: close\r\n') + get('/6');
  const pieces = [[bytes], ...[1, 30, 61, 62, 63, 100, 101, 180, 250].map((at) => [bytes.slice(0, at), bytes.slice(at)])];
  for (const parts of pieces) {
    const bench = await start(t);
    let atOnce = 0;
    bench.serve = (request) => {
      atOnce += 1;
      if (atOnce > 1) t.fail(`${request.head.target} while another was served`);
      setImmediate(() => {
        atOnce -= 1;
        request.answer(200, request.head.target);
      });
    };
    const client = await bench.open();
    for (const part of parts) {
      client.socket.write(part, 'latin1');
      await turn();
      await turn();
    }
    await until(() => client.ended);
    t.strictSame(targets(bench), ['/1', '/2', '/3', '/4', '/5'], `cut behind ${parts[0]?.length ?? 0}; nothing behind the last one`);
    t.match(client.heard, /\/1HTTP[^]*\/2HTTP[^]*\/3HTTP[^]*\/4HTTP[^]*\r\nConnection: close\r\n[^]*\/5$/);
    t.strictSame(bench.crashes, []);
  }
});

t.test('requests that are answered at once are answered one a turn', async (t) => {
  const bench = await start(t);
  const turns = new Map<number, number>();
  let now = 0;
  let counting = true;
  const count = (): void => {
    now += 1;
    if (counting) setImmediate(count);
  };
  count();
  bench.serve = (request) => {
    turns.set(now, (turns.get(now) ?? 0) + 1);
    request.answer(403);
  };
  const client = await bench.open();
  client.socket.write(get('/').repeat(500));
  await until(() => bench.requests.length === 500);
  counting = false;
  t.ok(Math.max(...turns.values()) <= 2, `at most ${Math.max(...turns.values())} in a turn`);
});

t.test('while a request is served, no more is read than has come with it', async (t) => {
  const bench = await start(t);
  bench.serve = () => {};
  const client = await bench.open();
  client.socket.write(get('/1'));
  await until(() => bench.requests.length === 1);
  const much = Buffer.from(get('/2').repeat(400_000));
  client.socket.write(much);
  const connection = bench.connections[0];
  await until(() => connection?.socket.isPaused() === true);
  for (let i = 0; i < 50; i += 1) await turn();
  t.ok((connection?.socket.bytesRead ?? Infinity) < 512 * 1024, `${connection?.socket.bytesRead} of ${much.length} bytes have been read`);
  t.equal(bench.requests.length, 1);
  const before = connection?.socket.bytesRead;
  for (let i = 0; i < 20; i += 1) await turn();
  t.equal(connection?.socket.bytesRead, before, 'and it stays so');
});

t.test('answers that the client does not read stop the reading', async (t) => {
  const bench = await start(t);
  bench.serve = (request) => {
    request.answer(200, 'x'.repeat(64 * 1024));
  };
  const client = await bench.open();
  client.socket.pause();
  client.socket.write(get('/').repeat(400));
  let stands = -1;
  while (stands !== bench.requests.length) {
    stands = bench.requests.length;
    for (let i = 0; i < 200; i += 1) await turn();
  }
  t.ok(stands < 300, `${stands} of 400 have been answered`);
  t.ok((bench.connections[0]?.socket.writableLength ?? Infinity) < 512 * 1024, 'unsent');
  client.socket.resume();
  await until(() => bench.requests.length === 400);
});

t.test('paused before its content, a request gets all of it later, and nothing before', async (t) => {
  for (const [what, bytes, content, told] of [
    ['a length', post('/', 'abc'), 'abc', 'contentEnd'],
    ['chunks', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nA: 1\r\n\r\n', 'abc', 'contentEnd A 1'],
  ] as const) {
    for (const behind of ['', get('/next')]) {
      const bench = await start(t);
      bench.serve = (request) => {
        if (request.head.target === '/next') request.answer(200);
        else request.connection.pause();
      };
      const client = await bench.open();
      client.socket.write(bytes + behind);
      await until(() => bench.requests.length === 1);
      for (let i = 0; i < 10; i += 1) await turn();
      const [request] = bench.requests;
      t.strictSame([request?.content_, request?.told], ['', []], `${what}: nothing while it is decided`);
      request?.connection.resume();
      await until(() => (request?.told.length ?? 0) > 0);
      t.strictSame([request?.content_, request?.told], [content, [told]], what);
      request?.answer(200);
      await until(() => client.statuses().length === (behind === '' ? 1 : 2));
      t.equal(bench.requests.length, behind === '' ? 1 : 2);
    }
  }
});

t.test('an answer before the content is complete: the rest is thrown away, and the next request served', async (t) => {
  const bench = await start(t);
  const client = await bench.open();
  client.socket.write('POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345');
  await until(() => client.statuses().length === 1);
  client.socket.write(`67890${get('/2')}`);
  await until(() => client.statuses().length === 2);
  t.strictSame(targets(bench), ['/1', '/2']);
  t.equal(bench.requests[0]?.content_, '');
});

t.test('what is no request is refused, and the connection closed when the client has the answer', async (t) => {
  for (const [bytes, code] of [
    ['GET / HTTP/1.1\nHost: x\n\n', 'request-malformed'],
    ['\x16\x03\x01', 'tls-on-http-port'],
    [get('/', `A: ${'x'.repeat(3000)}\r\n`), 'headers-too-large'],
    [get(`/${'x'.repeat(3000)}`), 'target-too-long'],
    [get('/', 'A: 1\r\n'.repeat(11)), 'headers-too-large'],
    [post('/', 'abc', 'Transfer-Encoding: chunked\r\n'), 'framing-forbidden'],
  ] as const) {
    const bench = await start(t);
    const client = await bench.open();
    client.socket.write(`${bytes}${'more '.repeat(10_000)}`, 'latin1');
    await until(() => client.ended);
    t.strictSame(bench.refused, [code]);
    t.equal(client.statuses().length, 1);
    client.socket.end();
    await client.closed;
    t.strictSame(bench.requests, []);
  }
});

t.test('broken content is reported to the request, and the answer is the last', async (t) => {
  for (const rest of ['x\r\n', '1\r\nab\r\n', '0\r\nContent-Length: 1\r\n\r\n']) {
    const bench = await start(t);
    bench.serve = () => {};
    const client = await bench.open();
    client.socket.write(`POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${rest}${get('/2')}`);
    await until(() => client.ended);
    t.strictSame(bench.requests[0]?.told, ['broke framing-forbidden']);
    t.match(client.heard, /^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n/);
    t.equal(bench.requests.length, 1);
  }
});

t.test('a client that ends its direction', async (t) => {
  for (const goesOn of [false, true]) {
    const bench = await start(t);
    bench.serve = (request) => {
      request.goesOn = goesOn;
    };
    const client = await bench.open();
    client.socket.end(get('/1'));
    await until(() => bench.requests[0]?.told.includes('clientEnded') === true);
    if (goesOn) {
      bench.requests[0]?.answer(200, 'late');
      await until(() => client.ended);
      t.match(client.heard, /late$/);
      await client.closed;
    } else {
      await client.closed;
      t.strictSame(bench.requests[0]?.told, ['clientEnded', 'clientClosed']);
    }
  }
  const idle = await start(t);
  const client = await idle.open();
  client.socket.write(get('/1'));
  await until(() => client.statuses().length === 1);
  client.socket.end();
  await client.closed;
  t.equal(client.ended, true);
});

t.test('a client that resets is reported to the request, once', async (t) => {
  const bench = await start(t);
  bench.serve = () => {};
  const client = await bench.open();
  let closed = 0;
  bench.connection(0).onClosed = () => (closed += 1);
  client.socket.write(get('/1'));
  await until(() => bench.requests.length === 1);
  client.socket.resetAndDestroy();
  await until(() => closed > 0);
  await turn();
  t.strictSame(bench.requests[0]?.told, ['clientClosed']);
  t.equal(closed, 1);
});

t.test('the clocks', async (t) => {
  const rows: readonly (readonly [what: string, patience: number, bytes: string, heard: RegExp])[] = [
    ['silent', 1000, '', /^$/],
    ['in the head', 1000, 'GET / HT', /^HTTP\/1\.1 408 /],
    ['idle', 4000, get('/'), /^HTTP\/1\.1 200 [^]*\/$/],
    ['behind an empty line', 1000, '\r\n', /^$/],
    ['content that nobody wants', LINGER, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1', /^HTTP\/1\.1 200 /],
    ['after the last answer', LINGER, get('/', 'Connection: close\r\n'), /^HTTP\/1\.1 200 /],
  ];
  for (const [what, patience, bytes, heard] of rows) {
    const bench = await start(t);
    const client = await bench.open();
    const connection = bench.connection(0);
    if (bytes !== '') client.socket.write(bytes);
    await until(() => connection.socket.bytesRead >= bytes.length);
    await until(() => bytes !== get('/') || client.heard !== '');
    for (let i = 0; i < 5; i += 1) await turn();
    wait(bench, patience - 1);
    for (let i = 0; i < 5; i += 1) await turn();
    t.notOk(connection.socket.writableEnded && what !== 'after the last answer', `${what}: not before`);
    t.equal(connection.socket.destroyed, false, `${what}: not before`);
    bench.now += 1;
    bench.clock.tick();
    // Who is in the middle of a header section is told why first.
    t.equal(connection.socket.destroyed, what !== 'in the head', `${what}: then`);
    await until(() => client.ended || client.socket.destroyed);
    t.match(client.heard, heard, what);
  }
  const bench = await start(t);
  bench.serve = () => {};
  const client = await bench.open();
  client.socket.write(get('/'));
  await until(() => bench.requests.length === 1);
  wait(bench, 2999);
  t.strictSame(bench.requests[0]?.told, []);
  const [request] = bench.requests;
  if (request !== undefined) request.stamp += 1;
  wait(bench, 2999);
  t.strictSame(request?.told, [], 'something has moved');
  bench.now += 1;
  bench.clock.tick();
  t.strictSame(request?.told, ['stalled']);
});

t.test('a client that uploads on behind its answer keeps its connection meanwhile, and not without end', async (t) => {
  for (const last of ['', 'Connection: close\r\n']) {
    for (const [bytes, rounds] of [[16_384, 6], [16_383, 1]] as const) {
      const bench = await start(t);
      const client = await bench.open();
      const connection = bench.connection(0);
      client.socket.write(`POST / HTTP/1.1\r\nHost: x\r\n${last}Content-Length: 1000000\r\n\r\n`);
      await until(() => client.heard !== '');
      for (let round = 1; round <= rounds; round += 1) {
        t.equal(connection.socket.destroyed, false, `${bytes} bytes, ${last}round ${round}`);
        const before = connection.socket.bytesRead;
        client.socket.write('x'.repeat(bytes));
        await until(() => connection.socket.bytesRead === before + bytes);
        wait(bench, LINGER);
      }
      t.equal(connection.socket.destroyed, true, `${bytes} bytes, ${last}then no longer`);
      client.socket.destroy();
    }
  }
});

t.test('a client that does not read its answer has no more time because it uploaded before', async (t) => {
  for (const bytes of [0, 100_000]) {
    const bench = await start(t);
    bench.serve = (request) => {
      request.answer(200, 'x'.repeat(16 * 1024 * 1024));
    };
    const client = await bench.open();
    client.socket.pause();
    const connection = bench.connection(0);
    client.socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`);
    await until(() => bench.requests.length === 1);
    client.socket.write('x'.repeat(bytes));
    await until(() => connection.socket.bytesRead > bytes);
    for (let i = 0; i < 200; i += 1) await turn();
    wait(bench, 2000);
    t.equal(connection.socket.destroyed, true, `${bytes} bytes`);
    client.socket.destroy();
  }
});

t.test('empty lines are no progress', async (t) => {
  for (const [first, patience] of [['', 1000], [get('/'), 4000]] as const) {
    for (const piece of ['\r\n', '\r\n\r\n', '\r', '\n']) {
      // A single byte is half of an empty line: its other half comes first, or next.
      const pieces = piece === '\r' ? ['\r', '\n'] : piece === '\n' ? ['\r', '\n\r'] : [piece, piece];
      const bench = await start(t);
      const client = await bench.open();
      const { socket } = bench.connection(0);
      client.socket.write(first);
      await until(() => socket.bytesRead === first.length && (first === '' || client.heard !== ''));
      wait(bench, 0);
      for (const next of pieces) {
        const before = socket.bytesRead;
        client.socket.write(next);
        await until(() => socket.bytesRead === before + next.length);
        wait(bench, patience / 2 - 1);
      }
      t.equal(socket.destroyed, false, 'not before');
      bench.now += 2;
      bench.clock.tick();
      t.equal(socket.destroyed, true, JSON.stringify([first, ...pieces]));
    }
  }
});

t.test('a tunnel is watched by the clock of its connection', async (t) => {
  const bench = await start(t);
  bench.serve = ({ connection }) => {
    connection.detach();
  };
  const client = await bench.open();
  client.socket.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => bench.requests.length === 1);
  const [request] = bench.requests;
  bench.clock.tick();
  bench.now += 3000;
  bench.clock.tick();
  t.strictSame(request?.told, ['stalled'], 'silent');
  if (request !== undefined) request.due = bench.now + 1;
  bench.now += 1;
  bench.clock.tick();
  t.strictSame(request?.told, ['stalled', 'due 3001'], 'and due');
});

t.test('what is thrown on behalf of a connection, by whomever, ends that connection alone', async (t) => {
  const bench = await start(t);
  const [one, other] = [await bench.open(), await bench.open()];
  t.doesNotThrow(() => {
    bench.connection(0).guard(() => {
      throw new Error('on purpose');
    });
  });
  t.match(bench.crashes, [{ message: 'on purpose' }]);
  await until(() => one.ended || one.socket.destroyed);
  bench.serve = (request) => { request.answer(200); };
  other.socket.write(get('/after'));
  await until(() => other.statuses().length === 1);
});

t.test('what is thrown ends that connection alone', async (t) => {
  const throwing = (): never => {
    throw new Error('on purpose');
  };
  const rows: readonly (readonly [what: string, provoke: (bench: Bench, client: Client) => Promise<void> | void])[] = [
    ['onRequest', (bench) => { bench.serve = throwing; }],
    ['content', (bench) => { bench.serve = (request) => { request.content = throwing; }; }],
    ['contentEnd', (bench) => { bench.serve = (request) => { request.contentEnd = throwing; }; }],
    ['clientEnded', (bench) => { bench.serve = (request) => { request.clientEnded = throwing; }; }],
    ['clientClosed', (bench, client) => { bench.serve = (request) => { request.clientClosed = throwing; client.socket.resetAndDestroy(); }; }],
    ['stalled', (bench) => { bench.serve = (request) => { request.stalled = throwing; setImmediate(() => { bench.clock.tick(); bench.now += request.patience; bench.clock.tick(); }); }; }],
    ['onDue', (bench) => { bench.serve = (request) => { request.due = bench.now; request.onDue = throwing; setImmediate(() => { bench.clock.tick(); }); }; }],
    ['broke', (bench, client) => { bench.serve = (request) => { request.broke = throwing; client.socket.write('x\r\n'); }; }],
    ['drained', (bench, client) => {
      bench.serve = (request) => {
        request.drained = throwing;
        client.socket.pause();
        while (request.connection.write(Buffer.alloc(65_536)));
        setImmediate(() => client.socket.resume());
      };
    }],
  ];
  for (const [what, provoke] of rows) {
    const bench = await start(t);
    const other = await bench.open();
    other.socket.write(get('/before'));
    await until(() => other.statuses().length === 1);
    const client = await bench.open();
    let closed = 0;
    bench.connection(1).onClosed = () => (closed += 1);
    await provoke(bench, client);
    client.socket.write(what === 'broke' ? 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n' : post('/', 'abc'));
    if (what === 'clientEnded') {
      await until(() => bench.requests.length === 2);
      client.socket.end();
    }
    await until(() => bench.crashes.length > 0);
    t.match(bench.crashes, [{ message: 'on purpose' }], what);
    await until(() => client.ended || client.socket.destroyed);
    await until(() => closed > 0);
    t.strictSame([closed, bench.crashes.length], [1, 1], `${what}: once`);
    t.equal(bench.requests.at(-1)?.told.at(-1), 'crashed internal', `${what}: the request is told`);
    bench.serve = (request) => { request.answer(200); };
    other.socket.write(get('/after'));
    await until(() => other.statuses().length === 2);
  }
});

t.test('an answer from the upstream: its framing for each version and method', async (t) => {
  const rows: readonly (readonly [what: string, request: string, head: string, expected: RegExp])[] = [
    ['a length', get('/'), 'HTTP/1.1 200 OK\r\nContent-Length: 3', /^HTTP\/1\.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\nKeep-Alive: timeout=4\r\n\r\nabc$/],
    ['chunks', get('/'), 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked', /^HTTP\/1\.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nKeep-Alive: timeout=4\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n$/],
    ['until the close', get('/'), 'HTTP/1.1 200 OK', /\r\nTransfer-Encoding: chunked\r\n[^]*\r\n\r\n3\r\nabc\r\n0\r\n/],
    ['chunks for HTTP/1.0', 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked', /^HTTP\/1\.1 200 OK\r\nConnection: close\r\n\r\nabc$/],
    ['the last one', get('/', 'Connection: close\r\n'), 'HTTP/1.1 200 OK\r\nContent-Length: 3', /^HTTP\/1\.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc$/],
    // The content comes, or the next request instead.
    ['before the content', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na', 'HTTP/1.1 413 No\r\nContent-Length: 3', /^HTTP\/1\.1 413 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc$/],
    ['instead of 100', 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n', 'HTTP/1.1 417 No\r\nContent-Length: 3', /^HTTP\/1\.1 417 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc$/],
    ['behind the content', 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc', 'HTTP/1.1 200 OK\r\nContent-Length: 3', /^HTTP\/1\.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n/],
    ['a reason that cannot be passed on', get('/'), 'HTTP/1.1 404 \x01\r\nContent-Length: 3', /^HTTP\/1\.1 404 Not Found\r\n/],
  ];
  for (const [what, request, head, expected] of rows) {
    const bench = await start(t);
    const respond = (connection: ClientConnection): void => {
      const response = readResponseHead(head, 'GET', 10);
      connection.request = null;
      connection.respond(response, response.framing.kind === 'length' ? ['Content-Length', String(response.framing.length)] : []);
      connection.write(Buffer.from('abc'));
      connection.complete(['X', '1']);
    };
    bench.serve = (served) => {
      if (!request.endsWith('abc')) respond(served.connection);
      else {
        served.contentEnd = () => {
          respond(served.connection);
        };
      }
    };
    const client = await bench.open();
    client.socket.write(request);
    await until(() => expected.test(client.heard) || client.ended);
    t.match(client.heard, expected, what);
  }
});

t.test('closed while some of an answer waits that only the end would complete, it is reset', async (t) => {
  const bench = await start(t);
  bench.serve = ({ connection }) => {
    connection.respond(readResponseHead('HTTP/1.1 200 OK', 'GET', 10), []);
    while (connection.socket.writableLength === 0) connection.write(Buffer.alloc(100_000));
    connection.complete([]);
  };
  const client = await bench.open();
  client.closed.catch(() => {});
  client.socket.pause().write('GET / HTTP/1.0\r\n\r\n');
  await until(() => bench.requests.length === 1);
  bench.connection(0).destroy();
  client.socket.resume();
  await until(() => client.ended || client.socket.destroyed);
  t.notOk(client.ended);
});

t.test('no more requests, and the client has yet to read the end of its answer: closed behind that', async (t) => {
  const bench = await start(t);
  bench.serve = (request) => {
    const { socket } = request.connection;
    // As much as the system takes for a client that does not read, and little more: it does not have to wait for 'drain'.
    while (socket.writableLength === 0) socket.write(Buffer.alloc(16_384));
    request.answer(200, 'the end');
  };
  const client = await bench.open();
  client.socket.pause().write(get('/'));
  await until(() => bench.requests.length === 1);
  bench.connection(0).closeWhenIdle();
  client.socket.resume();
  await until(() => client.ended || client.socket.destroyed);
  t.match(client.heard.slice(-10), 'the end');
  t.ok(client.ended);
});

t.test('no more requests: closed at once where none is served, else behind the answer', async (t) => {
  const bench = await start(t);
  bench.serve = (request) => {
    if (request.head.target === '/1') request.answer(200);
  };
  const [silent, idle, busy] = [await bench.open(), await bench.open(), await bench.open()];
  idle.socket.write(get('/1'));
  busy.socket.write(get('/2'));
  await until(() => bench.requests.length === 2 && idle.statuses().length === 1);
  for (const connection of bench.connections) connection.closeWhenIdle();
  await Promise.all([until(() => silent.ended), until(() => idle.ended)]);
  bench.requests.find(({ head }) => head.target === '/2')?.answer(200);
  await until(() => busy.ended);
  t.match(busy.heard, /\r\nConnection: close\r\n/);
});

/** Answers the client's request until the system takes no more: what is left of the answer is pending, and little. @returns the length of its content */
async function answerMoreThanIsRead(connection: ClientConnection): Promise<number> {
  connection.request = null;
  connection.respond(readResponseHead('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked', 'GET', 10), []);
  let length = 0;
  for (; connection.socket.writableLength === 0; length += 8192) {
    connection.write(Buffer.alloc(8192, 'x'));
    await turn();
  }
  connection.complete([]);
  return length;
}

t.test('an answer that its client still reads is sent to its end before the connection closes', async (t) => {
  const ends: readonly (readonly [what: string, end: (bench: Bench) => void])[] = [
    ['no more requests', (bench) => { bench.connection(0).closeWhenIdle(); }],
    ['idle for long enough', (bench) => { wait(bench, 4000); }],
  ];
  for (const [what, end] of ends) {
    const bench = await start(t);
    bench.serve = () => {};
    const client = await bench.open();
    client.socket.pause();
    client.socket.write(get('/'));
    await until(() => bench.requests.length === 1);
    const { socket } = bench.connection(0);
    const length = await answerMoreThanIsRead(bench.connection(0));
    t.strictSame([socket.writableLength > 0, socket.writableNeedDrain], [true, false], `${what}: nothing tells when it has been sent`);
    end(bench);
    client.socket.resume();
    await until(() => client.ended);
    t.equal(client.heard.split('x').length - 1, length, `${what}: all of it`);
    t.match(client.heard.slice(-7), '\r\n0\r\n\r\n', `${what}: and its end`);
  }
});

t.test('an answer that a client has not read does not look whole', async (t) => {
  const ends: readonly (readonly [what: string, end: (bench: Bench) => void])[] = [
    ['its time is over', (bench) => { wait(bench, 2000); }],
    ['all connections are closed', (bench) => { bench.connection(0).destroy(); }],
  ];
  const asking = ['GET / HTTP/1.0\r\n\r\n', get('/', 'Connection: close\r\n')];
  for (const [what, end, request] of ends.flatMap(([what, end]) => asking.map((request) => [`${what}: ${request.slice(6, 14)}`, end, request] as const))) {
    const bench = await start(t);
    bench.serve = () => {};
    const client = await bench.open();
    client.socket.pause();
    client.socket.write(request);
    await until(() => bench.requests.length === 1);
    await answerMoreThanIsRead(bench.connection(0));
    end(bench);
    t.equal(bench.connection(0).socket.destroyed, true, what);
    client.socket.resume();
    client.closed.catch(() => {});
    await until(() => client.ended || client.socket.destroyed);
    t.equal(client.ended, false, `${what}: a reset, not an end`);
  }
});
