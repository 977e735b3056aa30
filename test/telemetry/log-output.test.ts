/** What an output says of a batch: how much of it was taken, and why no more. */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { PassThrough, Writable } from 'node:stream';
import t from 'tap';
import { HeldOutput, LogOutput, openLogOutput, type OnWritten } from '../../src/telemetry/log-output.ts';
import { LogSink, type Loss } from '../../src/telemetry/log-sink.ts';

const lostBy = (sink: LogSink): number => Object.values(sink.losses()).reduce((sum, count) => sum + count, 0);

/** Says of each batch what the test wants. */
class Scripted extends LogOutput {
  readonly isTTY = false;
  readonly batches: string[] = [];
  #done: OnWritten | null = null;

  write(batch: Buffer, done: OnWritten): void {
    this.batches.push(batch.toString());
    this.#done = done;
  }

  /** Of the batch under way: so many bytes were taken, and then this happened. */
  answer(written: number | 'all', code?: string): void {
    const done = this.#done;
    this.#done = null;
    done?.(written === 'all' ? Buffer.byteLength(this.batches.at(-1) ?? '') : written, code === undefined ? null : Object.assign(new Error(code), { code }));
  }

  writeLast(batch: Buffer): void {
    this.batches.push(batch.toString());
  }

  close(): void {
    // Nothing was opened.
  }
}

const describeLoss = ({ lines, reasons, error }: Loss): string => `lost ${lines} ${JSON.stringify(reasons)} ${error ?? 'no error'}\n`;

t.test('each error has its reason', async (t) => {
  for (const [code, reason] of [
    ['ENOSPC', 'full'],
    ['EDQUOT', 'full'],
    ['EFBIG', 'full'],
    ['EPIPE', 'gone'],
    ['ECONNRESET', 'gone'],
    ['EIO', 'failed'],
    ['EBADF', 'failed'],
    ['EROFS', 'failed'],
    ['ENOTHEARDOF', 'failed'],
  ] as const) {
    const output = new Scripted();
    const sink = new LogSink(output, { batchLength: 1, closeTimeout: 0 });
    sink.write('one\n');
    output.answer(0, code);
    t.strictSame({ ...sink.losses() }, { slow: 0, full: 0, gone: 0, failed: 0, unwritable: 0, [reason]: 1 }, code);
    t.match(sink.trouble(), { lines: 1, error: code }, code);
    await sink.close();
  }
});

t.test('of a batch that was taken in part, whole lines count as written, and a torn one is ended', async (t) => {
  const output = new Scripted();
  const sink = new LogSink(output, { batchLength: 12, closeTimeout: 0, describeLoss });
  for (const line of ['one\n', 'two\n', 'three\n']) sink.write(line);
  output.answer(6, 'ENOSPC');
  t.equal(lostBy(sink), 2, 'one of three was whole');
  sink.write('four\n');
  sink.flush();
  t.equal(output.batches[1], '\nlost 2 {"full":2} ENOSPC\nfour\n');
  output.answer('all');
  t.equal(sink.trouble(), null);
  sink.write('five\n');
  sink.flush();
  t.equal(output.batches[2], 'five\n', 'said once');
  output.answer('all');
  await sink.close();
});

t.test('a loss is reported as soon as possible, and summed up until then', async (t) => {
  const output = new Scripted();
  const sink = new LogSink(output, { batchLength: 1, closeTimeout: 0, describeLoss });
  sink.write('one\n');
  output.answer(0, 'EPIPE');
  sink.write('two\n');
  t.equal(output.batches[1], 'lost 1 {"gone":1} EPIPE\ntwo\n');
  output.answer(0, 'ENOSPC');
  t.match(sink.trouble(), { lines: 2, reasons: { gone: 1, full: 1 }, error: 'ENOSPC' });
  sink.flush();
  t.equal(output.batches[2], 'lost 2 {"gone":1,"full":1} ENOSPC\n', 'also when no further line comes');
  output.answer('all');
  t.equal(sink.trouble(), null);
  sink.flush();
  t.equal(output.batches.length, 3);
  // The words about the loss got out, the line behind them did not.
  sink.write('three\n');
  output.answer(0, 'EIO');
  sink.write('four\n');
  output.answer(Buffer.byteLength('lost 1 {"failed":1} EIO\n'), 'EIO');
  t.match(sink.trouble(), { lines: 1, reasons: { failed: 1 } }, 'what was told is not told again');
  await sink.close();
});

t.test('while the output takes nothing, what waits is bounded, also across many failures', async (t) => {
  const output = new Scripted();
  const sink = new LogSink(output, { maxLength: 1_000, batchLength: 100, closeTimeout: 0, describeLoss });
  const line = `${'x'.repeat(99)}\n`;
  for (let count = 0; count < 100; count += 1) sink.write(line);
  t.strictSame([output.batches.length, lostBy(sink)], [1, 90]);
  output.answer(0, 'ENOSPC');
  t.equal(output.batches.length, 2);
  t.equal(output.batches[1]?.length, 'lost 91 {"slow":90,"full":1} ENOSPC\n'.length + 900);
  output.answer('all');
  await sink.close();
});

t.test('a stream that throws is one that fails', async (t) => {
  const stream = new PassThrough();
  stream.write = (): boolean => {
    throw new Error('broken');
  };
  const sink = new LogSink(stream, { batchLength: 1, closeTimeout: 0 });
  sink.write('one\n');
  t.equal(lostBy(sink), 1);
  t.match(sink.trouble(), { error: 'broken' });
  await sink.close();
});

t.test('a stream that answers twice is heard once', async (t) => {
  const stream = new PassThrough();
  stream.write = ((_chunk: unknown, done: (error: Error | null) => void): boolean => {
    done(null);
    done(new Error('and then'));
    return true;
  }) as typeof stream.write;
  const sink = new LogSink(stream, { batchLength: 1, closeTimeout: 0 });
  sink.write('one\n');
  sink.write('two\n');
  t.equal(lostBy(sink), 0);
  await sink.close();
});

t.test('a pipe that is full is tried again until it takes the rest', async (t) => {
  const path = `${t.testdir()}/fifo`;
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  // The way of process.stdout, with a pipe of this test's as its descriptor.
  const script = `
    import { LogSink } from ${JSON.stringify(new URL('../../src/telemetry/log-sink.ts', import.meta.url).href)};
    const sink = new LogSink(process.stdout, { maxLength: 10_000_000 });
    for (let count = 0; count < 3_000; count += 1) sink.write(String(count).padStart(99, '.') + '\\n');
    await sink.close();
    process.stderr.write(String(Object.values(sink.losses()).reduce((sum, count) => sum + count, 0)));
  `;
  const writer = openSync(path, constants.O_WRONLY);
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', writer, 'pipe'] });
  closeSync(writer);
  t.teardown(() => {
    child.kill('SIGKILL');
    closeSync(reader);
  });
  let heard = '';
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const buffer = Buffer.alloc(5_000);
  const writing = { over: false };
  child.once('close', () => (writing.over = true));
  for (;;) {
    let count = 0;
    try {
      count = readSync(reader, buffer);
    } catch {
      // Nothing is in it now.
    }
    heard += buffer.toString('latin1', 0, count);
    if (count === 0 && writing.over) break;
    await new Promise((resolve) => setTimeout(resolve, count === 0 ? 5 : 0));
  }
  t.equal(said, '0');
  t.equal(heard, Array.from({ length: 3_000 }, (_, count) => `${String(count).padStart(99, '.')}\n`).join(''));
});

t.test('a process that ends while a file is written: the lines behind that are written, too', async (t) => {
  const path = `${t.testdir()}/log`;
  const script = `
    import { LogSink } from ${JSON.stringify(new URL('../../src/telemetry/log-sink.ts', import.meta.url).href)};
    const sink = new LogSink(process.stdout);
    sink.write('one\\n');
    sink.flush();
    sink.write('two\\n');
    process.exit();
  `;
  const file = openSync(path, 'w');
  execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', file, 'inherit'] });
  closeSync(file);
  // Either may be first.
  t.strictSame(readFileSync(path, 'utf8').split('\n').toSorted(), ['', 'one', 'two']);
});

t.test('a file that is emptied while it is written, as by copytruncate: appended to, it begins with the next line', async (t) => {
  const path = `${t.testdir()}/log`;
  const script = `
    import { statSync, truncateSync } from 'node:fs';
    import { LogSink } from ${JSON.stringify(new URL('../../src/telemetry/log-sink.ts', import.meta.url).href)};
    const sink = new LogSink(process.stdout);
    sink.write('one\\n');
    sink.flush();
    while (statSync(process.argv[1]).size === 0) await new Promise(setImmediate);
    truncateSync(process.argv[1]);
    sink.write('two\\n');
    await sink.close();
  `;
  for (const [flags, content] of [['a', 'two\n'], ['w', '\0\0\0\0two\n']] as const) {
    const file = openSync(path, flags);
    execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script, path], { stdio: ['ignore', file, 'inherit'] });
    closeSync(file);
    t.equal(readFileSync(path, 'utf8'), content, flags);
  }
});

t.test('held output begins when it is let go', async (t) => {
  const inner = new Scripted();
  const held = new HeldOutput(inner);
  const sink = new LogSink(held, { batchLength: 1, closeTimeout: 0 });
  sink.write('one\n');
  sink.write('two\n');
  t.strictSame(inner.batches, []);
  held.release();
  t.strictSame(inner.batches, ['one\n']);
  inner.answer('all');
  t.strictSame(inner.batches, ['one\n', 'two\n']);
  inner.answer('all');
  await sink.close();
});

t.test('a stream that is not standard output is written as one', async (t) => {
  const written: string[] = [];
  const stream = Object.assign(new Writable({ write: (chunk: Buffer, _encoding, done) => { written.push(chunk.toString()); done(); } }), { isTTY: true, fd: 7 });
  const output = openLogOutput(stream);
  t.equal(output.isTTY, true);
  t.strictSame(await new Promise((resolve) => {
    output.write(Buffer.from('x'), (...answer) => {
      resolve(answer);
    });
  }), [1, null]);
  t.strictSame(written, ['x']);
});
