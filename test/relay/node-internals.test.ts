/** What we use of Node without its documentation saying so: a Node that changes it fails here. */
import t from 'tap';
import { once } from 'node:events';
import { createServer, connect, Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { interceptWrites, rebuildSocket } from '../../src/relay/node-internals.ts';
import { listen } from '../support/listen.ts';

t.test('a socket can be put on the connection of another, and reads into a buffer of ours', async (t) => {
  const buffer = Buffer.alloc(64);
  let asked = 0;
  const server = createServer((accepted) => {
    const rebuilt = rebuildSocket(accepted, {
      buffer: () => {
        asked += 1;
        return buffer;
      },
      callback: (length, read) => {
        t.equal(read, buffer, 'the very buffer');
        rebuilt?.end(Buffer.from(read.subarray(0, length)));
        return true;
      },
    });
    t.not(rebuilt, null);
    t.equal((accepted as unknown as { _handle: unknown })._handle, null, 'the first one has nothing any more');
    rebuilt?.resume();
    rebuilt?.once('close', () => accepted.destroy());
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  socket.write('as it came');
  t.equal(String((await once(socket, 'data'))[0]), 'as it came');
  await once(socket, 'close');
  t.ok(asked >= 1);
});

t.test('what is not at rest is left as it is', async (t) => {
  const never = { buffer: () => Buffer.alloc(1), callback: () => true };
  t.equal(rebuildSocket(new PassThrough(), never), null, 'no socket');
  t.equal(rebuildSocket(new Socket(), never), null, 'not connected');
});

t.test('every write of a socket ends through the one who asked for it, single and gathered', async (t) => {
  const server = createServer((accepted) => accepted.resume().on('end', () => accepted.end()));
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  await once(socket, 'connect');
  const ended: unknown[] = [];
  interceptWrites(socket, (error, done) => {
    ended.push(error ?? null);
    setImmediate(done);
  });
  let told = 0;
  const tell = (): void => {
    told += 1;
  };
  socket.write('a', tell);
  t.equal(told, 0, 'not before it is settled');
  socket.cork();
  socket.write('b', tell);
  socket.write('c', tell);
  socket.uncork();
  socket.end();
  await once(socket.resume(), 'close');
  t.strictSame(ended, [null, null], 'one for the first, one for the two that were gathered');
  t.equal(told, 3);
});
