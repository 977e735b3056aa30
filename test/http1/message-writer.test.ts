/** What is written: the bytes, how few system calls carry them, and that both ends agree where the content ends. */
import { once } from 'node:events';
import { Duplex, PassThrough } from 'node:stream';
import t from 'tap';
import { headText, MessageWriter } from '../../src/http1/message-writer.ts';

/** Takes what is written, and notes what comes in one go. */
class Wire extends Duplex {
  /** Each of what the system would be given at once. */
  readonly sent: string[] = [];
  #held: (() => void) | null = null;
  readonly slow: boolean;

  constructor(slow = false) {
    super({ highWaterMark: 16_384, decodeStrings: true });
    this.slow = slow;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#take(chunks.map(({ chunk }) => chunk), done);
  }

  /** The other side reads. */
  proceed(): void {
    const held = this.#held;
    this.#held = null;
    held?.();
  }

  #take(chunks: readonly Buffer[], done: () => void): void {
    this.sent.push(Buffer.concat(chunks).toString('latin1'));
    if (this.slow) this.#held = done;
    else done();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });
const HEAD = 'HTTP/1.1 200 OK\r\nA: 1\r\n\r\n';
const large = (character: string, length = 4097): string => character.repeat(length);

t.test('the bytes, in one go for each turn', async (t) => {
  const rows: readonly (readonly [what: string, chunked: boolean, content: readonly string[], trailers: readonly string[], expected: string])[] = [
    ['no content', false, [], [], HEAD],
    ['a little', false, ['abc'], [], `${HEAD}abc`],
    ['more', false, ['abc', 'def'], [], `${HEAD}abcdef`],
    ['much', false, [large('x')], [], `${HEAD}${large('x')}`],
    ['trailers without chunks', false, ['abc'], ['A', '1'], `${HEAD}abc`],
    ['chunked, no content', true, [], [], `${HEAD}0\r\n\r\n`],
    ['chunked', true, ['abc'], [], `${HEAD}3\r\nabc\r\n0\r\n\r\n`],
    ['chunks', true, ['abc', 'd'.repeat(16)], [], `${HEAD}3\r\nabc\r\n10\r\n${'d'.repeat(16)}\r\n0\r\n\r\n`],
    ['chunked, as much as is copied', true, [large('x', 4096)], [], `${HEAD}1000\r\n${large('x', 4096)}\r\n0\r\n\r\n`],
    ['chunked, one byte more', true, [large('x')], [], `${HEAD}1001\r\n${large('x')}\r\n0\r\n\r\n`],
    ['trailers', true, ['a'], ['X-Sum', '1', 'Y', '\xe9'], `${HEAD}1\r\na\r\n0\r\nX-Sum: 1\r\nY: \xe9\r\n\r\n`],
    // A chunk of no bytes is the last one (RFC 9112 §7.1): whatever follows would be another message.
    ['chunked, content of no bytes', true, ['', 'abc', ''], [], `${HEAD}3\r\nabc\r\n0\r\n\r\n`],
    ['content of no bytes', false, ['', 'abc'], [], `${HEAD}abc`],
    ['bytes beyond ASCII', true, ['\xe9\xff'], [], `${HEAD}2\r\n\xe9\xff\r\n0\r\n\r\n`],
  ];
  for (const [what, chunked, content, trailers, expected] of rows) {
    const wire = new Wire();
    const writer = new MessageWriter(wire);
    writer.begin(HEAD, chunked);
    for (const part of content) writer.write(Buffer.from(part, 'latin1'));
    writer.end(trailers);
    await turn();
    t.equal(wire.sent.join(''), expected, what);
    if (chunked || content.length < 2) t.equal(wire.sent.length, 1, `${what}: in one go`);
  }
});

t.test('a header section waits for its content until the end of the turn, and no longer', async (t) => {
  for (const chunked of [false, true]) {
    const wire = new Wire();
    const writer = new MessageWriter(wire);
    writer.begin(HEAD, chunked);
    t.equal(wire.sent.length, 0);
    await turn();
    t.strictSame(wire.sent, [HEAD]);
    writer.write(Buffer.from('abc'));
    await turn();
    t.equal(wire.sent.join(''), `${HEAD}${chunked ? '3\r\nabc\r\n' : 'abc'}`);
    writer.end([]);
    await turn();
    t.equal(wire.sent.join(''), `${HEAD}${chunked ? '3\r\nabc\r\n0\r\n\r\n' : 'abc'}`);
    t.equal(wire.writableCorked, 0, 'nothing stays corked');
  }
});

t.test('messages follow one another', async (t) => {
  const wire = new Wire();
  const writer = new MessageWriter(wire);
  for (let i = 0; i < 3; i += 1) {
    writer.begin(HEAD, i % 2 === 0);
    writer.write(Buffer.from('abc'));
    writer.end([]);
  }
  await turn();
  t.equal(wire.sent.join(''), `${HEAD}3\r\nabc\r\n0\r\n\r\n${HEAD}abc${HEAD}3\r\nabc\r\n0\r\n\r\n`);
});

t.test('flushed, what waits leaves now', async (t) => {
  const wire = new Wire();
  const writer = new MessageWriter(wire);
  writer.begin(HEAD, true);
  writer.flush();
  t.strictSame(wire.sent, [HEAD]);
  writer.write(Buffer.from('abc'));
  t.equal(wire.sent.length, 1);
  writer.flush();
  t.equal(wire.sent.join(''), `${HEAD}3\r\nabc\r\n`);
  writer.flush();
  await turn();
  t.equal(wire.sent.length, 2, 'once');
});

t.test('says when enough is waiting, and drain follows', async (t) => {
  for (const chunked of [false, true]) {
    const wire = new Wire(true);
    const writer = new MessageWriter(wire);
    writer.begin(HEAD, chunked);
    let writes = 0;
    while (writer.write(Buffer.alloc(4000, 'x'))) {
      writes += 1;
      if (writes > 100) break;
      await turn();
    }
    t.ok(writes < 10, `${writes} writes until it was said`);
    const drained = once(wire, 'drain');
    for (let i = 0; i < 20; i += 1) {
      wire.proceed();
      await turn();
    }
    await drained;
    t.equal(wire.writableNeedDrain, false);
  }
});

t.test('while the other side does not read, few writes wait however small they are', async (t) => {
  for (const late of [false, true]) {
    const wire = new Wire(true);
    const writer = new MessageWriter(wire, late);
    const other = new Wire();
    const besides = new MessageWriter(other);
    const content: string[] = [];
    let writes = 0;
    const write = wire.write.bind(wire) as (...given: unknown[]) => boolean;
    wire.write = ((...given: unknown[]) => {
      writes += 1;
      return write(...given);
    }) as typeof wire.write;
    writer.begin(HEAD, true);
    const piece = (): boolean => {
      const part = String(content.length);
      content.push(part);
      return writer.write(Buffer.from(part));
    };
    while (piece() && content.length < 10_000) {
      // The outbox goes round, and the other side reads a little now and then.
      if (content.length % 3 === 0) besides.begin('x', false);
      if (content.length % 7 !== 0) await turn();
      if (content.length < 100 && content.length % 10 === 0) wire.proceed();
    }
    t.ok(content.length > 1_000 && content.length < 10_000 && writes < 60, `${content.length} pieces in ${writes} writes`);
    const drained = once(wire, 'drain');
    for (let i = 0; i < 20; i += 1) {
      wire.proceed();
      await turn();
    }
    await drained;
    piece();
    await turn();
    piece();
    writer.end([]);
    for (let i = 0; i < 20; i += 1) {
      wire.proceed();
      await turn();
    }
    t.equal(wire.sent.join(''), `${HEAD}${content.map((part) => `${part.length}\r\n${part}\r\n`).join('')}0\r\n\r\n`, 'all of it, in order');
  }
});

t.test('on a connection that is gone, nothing is thrown and nothing is heard', async (t) => {
  const wire = new PassThrough();
  wire.on('error', (error) => {
    t.fail(error.message);
  });
  const writer = new MessageWriter(wire);
  writer.begin(HEAD, true);
  wire.destroy();
  writer.write(Buffer.from('abc'));
  writer.write(Buffer.alloc(5000));
  writer.end([]);
  await turn();
  t.ok(wire.destroyed);
});

t.test('a header section', async (t) => {
  t.equal(headText('HTTP/1.1 200 OK', []), 'HTTP/1.1 200 OK\r\n\r\n');
  t.equal(headText('GET / HTTP/1.1', ['Host', 'a', 'x', '']), 'GET / HTTP/1.1\r\nHost: a\r\nx: \r\n\r\n');
  t.equal(headText('HTTP/1.1 200 OK', ['A', '1'], 'Connection: close\r\n'), 'HTTP/1.1 200 OK\r\nA: 1\r\nConnection: close\r\n\r\n');
});

t.test('no writer waits for what the system takes at once, however much comes in one turn', async (t) => {
  for (const chunked of [false, true]) {
    const wire = new Wire();
    const writer = new MessageWriter(wire);
    writer.begin(HEAD, chunked);
    for (let piece = 0; piece < 10; piece += 1) t.equal(writer.write(Buffer.alloc(8_000, 'x')), true);
    t.ok(wire.sent.length > 1 && wire.sent.length <= 5, `${wire.sent.length} writes of 80,000 bytes`);
    const slow = new MessageWriter(new Wire(true));
    slow.begin(HEAD, chunked);
    t.equal(slow.write(Buffer.alloc(8_000, 'x')), true);
    t.equal(slow.write(Buffer.alloc(16_384, 'x')), false, 'it has not taken the first yet');
  }
});

/** Keeps what it is given, as the system may, and looks at it again when it has been sent. */
class Keeper extends Duplex {
  readonly memories: Set<ArrayBufferLike>;
  readonly sent: Buffer[] = [];
  #kept: { readonly chunk: Buffer; readonly done: () => void } | null = null;

  constructor(memories: Set<ArrayBufferLike>) {
    super({ highWaterMark: 65_536 });
    this.memories = memories;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.memories.add(chunk.buffer);
    this.#kept = { chunk, done };
  }

  proceed(): void {
    const kept = this.#kept;
    if (kept === null) return;
    this.#kept = null;
    this.sent.push(Buffer.from(kept.chunk));
    kept.done();
  }
}

t.test('memory is used again once what was written from it has been sent, and no sooner', async (t) => {
  for (const [late, most] of [
    [true, 16],
    [false, Infinity],
  ] as const) {
    const memories = new Set<ArrayBufferLike>();
    const places = Array.from({ length: 4 }, () => {
      const wire = new Keeper(memories);
      return { wire, writer: new MessageWriter(wire, late), expected: [] as Buffer[] };
    });
    for (let round = 0; round < 400; round += 1) {
      const place = places[(round * 7) % 4];
      if (place === undefined) throw new Error('no such place');
      const content = Buffer.alloc([60_000, 200, 3_000][round % 3] ?? 0, 97 + (round % 26));
      place.expected.push(content);
      place.writer.begin('', false);
      place.writer.write(content);
      place.writer.end([]);
      if (round % 5 === 0) await turn();
      places[(round * 3 + 1) % 4]?.wire.proceed();
      if (round % 40 === 39) for (const { wire } of places) for (let more = 0; more < 30; more += 1) wire.proceed();
    }
    for (const { wire, expected } of places) {
      for (let more = 0; more < 400; more += 1) wire.proceed();
      t.ok(Buffer.concat(wire.sent).equals(Buffer.concat(expected)), 'every byte as it was written');
    }
    t.ok(memories.size <= most, `${memories.size} blocks of memory`);
  }
});
