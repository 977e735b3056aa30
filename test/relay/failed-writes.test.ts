/** A write that fails while the other side's last words are still to be read. */
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { mock } from 'node:test';
import t from 'tap';
import { readOnAfterFailedWrites } from '../../src/relay/failed-writes.ts';

const EPIPE = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });

/** A connection whose other side reads no more, and has said something. */
class Broken extends Duplex {
  failing = true;
  constructor(vectored: boolean) {
    super({ allowHalfOpen: true, emitClose: true });
    if (!vectored) Object.defineProperty(this, '_writev', { value: undefined, writable: true });
  }
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    process.nextTick(done, this.failing ? EPIPE : null);
  }
  override _writev(_chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    process.nextTick(done, this.failing ? EPIPE : null);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

function open(vectored = true): { socket: Broken; errors: string[]; heard: () => string } {
  const socket = new Broken(vectored);
  const errors: string[] = [];
  let heard = '';
  socket.on('error', (error) => errors.push(error.message));
  socket.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  readOnAfterFailedWrites(socket);
  return { socket, errors, heard: () => heard };
}

t.test('what comes after it is read to its end, and then the failure is reported', async (t) => {
  for (const [what, vectored, writes] of [
    ['one write', true, 1],
    ['several', true, 3],
    ['several, of a stream that writes one by one', false, 3],
  ] as const) {
    const { socket, errors, heard } = open(vectored);
    socket.cork();
    for (let i = 0; i < writes; i += 1) socket.write('upload');
    socket.uncork();
    await turn();
    t.strictSame([errors, socket.destroyed], [[], false], what);
    socket.push('HTTP/1.1 413 ');
    await turn();
    socket.push('Content Too Large\r\n\r\n');
    await turn();
    t.equal(heard(), 'HTTP/1.1 413 Content Too Large\r\n\r\n', what);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.push(null);
    await closed;
    t.strictSame(errors, ['write EPIPE'], what);
  }
});

t.test('without an end, after a second; destroyed meanwhile, at once', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
  const { socket, errors } = open();
  socket.write('upload');
  await turn();
  mock.timers.tick(999);
  await turn();
  t.strictSame(errors, []);
  mock.timers.tick(1);
  await turn();
  await turn();
  t.strictSame([errors, socket.destroyed], [['write EPIPE'], true]);

  const other = open();
  other.socket.write('upload');
  await turn();
  other.socket.destroy();
  await turn();
  t.strictSame([other.errors, other.socket.destroyed], [[], true]);
});

t.test('after the end of the other side, and where nothing fails, nothing waits', async (t) => {
  const { socket, errors } = open();
  socket.push(null);
  await once(socket, 'end');
  socket.write('late');
  await turn();
  t.strictSame(errors, ['write EPIPE']);

  const fine = open();
  fine.socket.failing = false;
  await new Promise<void>((resolve, reject) => {
    fine.socket.write('upload', (error) => {
      if (error === null || error === undefined) resolve();
      else reject(error);
    });
  });
  t.equal(fine.socket.listenerCount('end') + fine.socket.listenerCount('close'), new Broken(true).listenerCount('end'));
});
