import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { PassThrough, Writable } from 'node:stream';
import t from 'tap';
import { type Loss, LogSink } from '../../src/telemetry/log-sink.ts';

const lostBy = (sink: LogSink): number => Object.values(sink.losses()).reduce((sum, count) => sum + count, 0);

/** An output that takes a write only when told to, as a reader that has stalled. */
class Gate extends Writable {
  readonly written: string[] = [];
  #release: ((error?: Error) => void) | null = null;

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.written.push(chunk.toString());
    this.#release = done;
  }

  release(error?: Error): void {
    const release = this.#release;
    this.#release = null;
    release?.(error);
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

t.test('lines are gathered, and written when there are enough of them', async (t) => {
  const output = new Gate();
  const sink = new LogSink(output, { batchLength: 10, closeTimeout: 0 });
  sink.write('one\n');
  sink.write('two\n');
  t.strictSame(output.written, []);
  sink.write('three\n');
  t.strictSame(output.written, ['one\ntwo\nthree\n']);
  sink.write('four\n');
  output.release();
  await nextTurn();
  t.strictSame(output.written.slice(1), [], 'not yet enough again');
  const closed = sink.close();
  t.strictSame(output.written.slice(1), ['four\n'], 'close writes the rest');
  output.release();
  await closed;
  t.equal(lostBy(sink), 0);
  t.equal(output.writable, true, 'the output stays open');
});

t.test('a loss that cannot be written to the log is reported when the sink is closed', async (t) => {
  const output = new Gate();
  const told: Loss[] = [];
  const sink = new LogSink(output, { closeTimeout: 0, onUntold: (loss) => told.push(loss) });
  sink.write('one\n');
  sink.flush();
  sink.write('two\n');
  await sink.close();
  t.match(told, [{ lines: 2, reasons: { slow: 2 }, error: null }]);
  const taken = new LogSink(new PassThrough(), { onUntold: (loss) => told.push(loss) });
  taken.write('three\n');
  await taken.close();
  t.equal(told.length, 1, 'nothing, where every line was written');
});

t.test('a line does not wait longer than the clock says', async (t) => {
  const output = new Gate();
  const sink = new LogSink(output, { flushEvery: 5, closeTimeout: 0 });
  t.teardown(() => sink.close());
  sink.write('alone\n');
  t.strictSame(output.written, []);
  while (output.written.length === 0) await nextTurn();
  t.strictSame(output.written, ['alone\n']);
});

t.test('a stalled reader costs lines, not memory, and they are counted', async (t) => {
  const output = new Gate();
  const sink = new LogSink(output, { batchLength: 100, maxLength: 1000, closeTimeout: 0 });
  const line = `${'x'.repeat(99)}\n`;
  for (let count = 0; count < 10; count += 1) sink.write(line);
  t.equal(lostBy(sink), 0, 'up to the limit all wait');
  sink.write('y\n');
  t.equal(lostBy(sink), 1, 'the very next one does not');
  for (let count = 0; count < 10_000; count += 1) sink.write(line);
  t.equal(lostBy(sink), 10_001);
  t.equal(output.written.length, 1, 'one write at a time');

  output.release();
  await nextTurn();
  t.strictSame(output.written[1], line.repeat(9), 'what waited is whole');
  sink.write('late\n');
  t.equal(lostBy(sink), 10_001, 'there is room again');
  const closed = sink.close();
  output.release();
  await nextTurn();
  output.release();
  await closed;
  t.equal(output.written.at(-1), 'late\n');
});

t.test('close waits for a stalled reader no longer than allowed', async (t) => {
  const output = new Gate();
  const sink = new LogSink(output, { closeTimeout: 1 });
  sink.write('one\n');
  sink.write('two\n');
  await sink.close();
  t.equal(lostBy(sink), 2);
  sink.write('after the end\n');
  t.equal(lostBy(sink), 3);
  await sink.close();
});

t.test('a reader that went away is no error of ours', async (t) => {
  const output = new Gate();
  const sink = new LogSink(output, { batchLength: 1, closeTimeout: 0 });
  sink.write('one\n');
  sink.write('two\n');
  output.release(new Error('EPIPE'));
  await nextTurn();
  sink.write('three\n');
  t.equal(lostBy(sink), 3);
  await sink.close();
});

const SINK = new URL('../../src/telemetry/log-sink.ts', import.meta.url).href;

/** A process that logs 4 MiB to its standard output, says so on standard error, and then runs `ending`. */
const logger = (ending: string): string => `
  import { LogSink } from ${JSON.stringify(SINK)};
  const sink = new LogSink(process.stdout);
  const line = 'x'.repeat(1023) + '\\n';
  for (let count = 0; count < 4096; count += 1) sink.write(line);
  process.stderr.write('waiting ' + (process.stdout.writableLength <= 1048576) + ' dropped ' + (Object.values(sink.losses()).reduce((sum, count) => sum + count, 0) > 3000));
  ${ending}
`;

for (const [how, ending] of [
  ['process.exit', 'process.exit(7)'],
  ['close', 'await sink.close(); process.exit(7)'],
] as const) {
  t.test(`a pipe without a reader blocks neither the process nor its end by ${how}`, async (t) => {
    // A real pipe, whose reading end this process holds open; what spawn calls a pipe is a socket.
    const path = `${t.testdir()}/pipe`;
    execFileSync('mkfifo', [path]);
    const pipe = openSync(path, constants.O_RDWR);
    t.teardown(() => {
      closeSync(pipe);
    });
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', logger(ending)], { stdio: ['ignore', pipe, 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    if (child.stderr === null) throw new Error('no standard error');
    const said = text(child.stderr);
    const [code] = (await once(child, 'exit')) as [number | null];
    t.equal(code, 7);
    t.equal(await said, 'waiting true dropped true');
  });
}

t.test('what waits at process.exit is written', async (t) => {
  const script = `
    import { LogSink } from ${JSON.stringify(SINK)};
    new LogSink(process.stdout).write('last words\\n');
    process.exit(0);
  `;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.equal(await text(child.stdout), 'last words\n');
});

t.test('many sinks wait for one exit, and closed ones for none', async (t) => {
  const script = `
    import { LogSink } from ${JSON.stringify(SINK)};
    const before = process.listenerCount('exit');
    const sinks = Array.from({ length: 30 }, () => new LogSink(process.stdout));
    process.stdout.setMaxListeners(0);
    const during = process.listenerCount('exit') - before;
    for (const sink of sinks.slice(1)) await sink.close();
    const one = process.listenerCount('exit') - before;
    await sinks[0].close();
    const none = process.listenerCount('exit') - before;
    new LogSink(process.stdout).write([during, one, none].join(' ') + '\\n');
    new LogSink(process.stdout).write('and another\\n');
    process.exit(0);
  `;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  t.equal(out, '1 1 0\nand another\n');
  t.equal(errors, '', 'no warning');
});
