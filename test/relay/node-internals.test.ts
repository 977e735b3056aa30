/** What we use of Node without its documentation saying so: a Node that changes it fails here. */
import t from 'tap';
import { once } from 'node:events';
import { createServer, connect, Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls';
import { createAuthority } from '../../src/demo/authority.ts';
import { type Batch, currentBatch, interceptWrites, isCurrent, isBeingRead, keepBytes, readBuffer, receiveDirectly, receiveNoMore, shareReads, takeReads } from '../../src/relay/node-internals.ts';
import { listen } from '../support/listen.ts';

t.test('a socket gives what it reads to us, into buffers of ours, from any time on', async (t) => {
  const own = [Buffer.alloc(64), Buffer.alloc(64)];
  let asked = 0;
  const read: Buffer[] = [];
  const server = createServer((accepted) => {
    accepted.once('data', (first) => {
      accepted.write(first);
      t.equal(
        takeReads(accepted, {
          buffer: () => {
            asked += 1;
            return own[asked % 2] ?? readBuffer;
          },
          callback: (length, buffer) => {
            read.push(buffer);
            accepted.write(Buffer.from(buffer.subarray(0, length)));
            return true;
          },
        }),
        true,
      );
      accepted.on('data', () => t.fail('nothing is emitted any more'));
      accepted.on('end', () => accepted.end('the end'));
    });
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  for (const word of ['as', 'it', 'came']) {
    socket.write(word);
    t.equal(String((await once(socket, 'data'))[0]), word);
  }
  t.ok(read[0] === readBuffer, 'it was told of the shared one before');
  t.ok(read[1] === own[asked % 2 === 0 ? 1 : 0], 'then the one that was given');
  socket.end();
  t.equal(String((await once(socket, 'data'))[0]), 'the end');
  await once(socket, 'close');
});

t.test('a socket whose reads are taken over stops at pause, and continues after resume', async (t) => {
  const buffer = Buffer.alloc(1000);
  let got = 0;
  let resumed = 0;
  let wrong = 0;
  const server = createServer((accepted) => {
    const taken = takeReads(accepted, {
      buffer: () => buffer,
      callback: (length) => {
        got += length;
        setTimeout(() => {
          resumed += 1;
          const before = isBeingRead(accepted);
          accepted.resume();
          if (before || !isBeingRead(accepted)) wrong += 1;
        }, 1);
        return false;
      },
    });
    t.ok(taken);
    accepted.resume().on('end', () => accepted.end());
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  socket.end(Buffer.alloc(70_000));
  await once(socket.resume(), 'close');
  t.equal(got, 70_000);
  t.ok(resumed > 2);
  t.equal(wrong, 0, 'it is seen whether it is read');
});

t.test('reads that cannot be taken stay as they are', async (t) => {
  const never = { buffer: () => Buffer.alloc(1), callback: () => true };
  t.equal(takeReads(new PassThrough(), never), false, 'no socket');
  t.equal(takeReads(new Socket(), never), false, 'not connected');
  const waiting = new Socket();
  waiting.push('read, and not emitted');
  t.equal(takeReads(waiting, never), false);
});

t.test('every write of a socket ends through the one who asked for it, single and gathered', async (t) => {
  const server = createServer((accepted) => accepted.resume().on('end', () => accepted.end()));
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  await once(socket, 'connect');
  const ended: unknown[] = [];
  interceptWrites(socket, (_socket, error, done) => {
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

t.test('sockets that share a buffer emit what each has read, and keep little more memory than that', async (t) => {
  const server = createServer((accepted) => {
    shareReads(accepted);
    shareReads(accepted);
    accepted.on('data', (chunk: Buffer) => {
      t.ok(chunk.buffer.byteLength === (chunk.length > 1024 ? chunk.length : 8192), 'its own size, or a small piece');
      accepted.write(chunk);
    });
    accepted.on('end', () => accepted.end('the end'));
  });
  const port = await listen(t, server);
  const words = ['a', 'b'.repeat(1000), 'c'.repeat(100_000)];
  const echoes = words.map(async (word) => {
    const socket = connect({ host: '127.0.0.1', port });
    let got = '';
    socket.on('data', (chunk: Buffer) => {
      got += String(chunk);
      if (got.length === word.length) socket.end();
    });
    socket.write(word);
    await once(socket, 'close');
    return got;
  });
  t.strictSame(await Promise.all(echoes), words.map((word) => `${word}the end`));
});

t.test('a socket that shares a buffer stops to read when it is paused', async (t) => {
  const server = createServer((accepted) => {
    accepted.write(Buffer.alloc(16 * 1024 * 1024));
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  await once(socket, 'connect');
  shareReads(socket);
  await once(socket, 'readable');
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(socket.readableLength < 1024 * 1024, `${socket.readableLength} bytes wait`);
  socket.destroy();
});

t.test('a socket that shares a buffer and is paused learns that the other side has gone', async (t) => {
  const closed = Promise.withResolvers<unknown>();
  const server = createServer((accepted) => {
    shareReads(accepted);
    accepted.once('data', () => {
      setImmediate(() => {
        accepted.pause();
        accepted.write('paused');
      });
    });
    accepted.on('error', () => {}).on('close', closed.resolve);
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
  socket.write('go');
  await once(socket, 'data');
  socket.resetAndDestroy();
  await closed.promise;
  t.pass('it has closed');
});

t.test('what plain sockets read takes no memory from TLS', async (t) => {
  const authority = await createAuthority();
  const { certPem: cert, keyPem: key } = await authority.issue({ names: ['localhost'] });
  const secure = createTlsServer({ cert, key }, (socket) => {
    socket.on('data', () => socket.write(Buffer.alloc(1000)));
  });
  const tls = tlsConnect({ host: '127.0.0.1', port: await listen(t, secure), ca: authority.certPem, servername: 'localhost' });
  await once(tls, 'secureConnect');
  const server = createServer((accepted) => {
    shareReads(accepted);
    accepted.on('data', () => tls.write('ask'));
    tls.on('data', () => accepted.write('answered'));
  });
  const memories = new Set<ArrayBufferLike>();
  tls.on('data', (chunk: Buffer) => memories.add(chunk.buffer));
  const client = connect({ host: '127.0.0.1', port: await listen(t, server) });
  await once(client, 'connect');
  shareReads(client);
  for (let i = 0; i < 200; i += 1) {
    client.write('ask');
    await once(client, 'data');
  }
  t.ok(memories.size < 20, `${memories.size} pieces of memory for 200 reads`);
  client.destroy();
  tls.destroy();
});

t.test('what a socket reads is given to us in the memory that all share, plain and TLS', async (t) => {
  const authority = await createAuthority();
  const { certPem: cert, keyPem: key } = await authority.issue({ names: ['localhost'] });
  for (const secure of [false, true]) {
    const pieces: Buffer[] = [];
    let shared = 0;
    let waited = '';
    const receive = function (this: Socket, bytes: Buffer): void {
      if (bytes.buffer === readBuffer.buffer) shared += 1;
      const kept = keepBytes(bytes);
      t.ok(kept.buffer !== readBuffer.buffer, 'what is kept is a copy');
      pieces.push(kept);
      readBuffer.fill(0);
      const got = Buffer.concat(pieces);
      if (String(got) === 'first') {
        // What comes now waits in the socket, and is emitted.
        this.pause();
        this.write('go on');
        this.once('readable', () => {
          waited = String(this.readableLength);
          this.resume();
        });
      } else if (String(got) === 'firstsecond') this.write('more');
      else if (got.length === 200_011) {
        receiveNoMore(this, receive);
        this.once('data', (last: Buffer) => {
          t.equal(String(last), 'emitted');
          t.ok(last.buffer !== readBuffer.buffer);
          this.end();
        });
        this.write('the last');
      }
    };
    const onSocket = (accepted: Socket): void => {
      receiveDirectly(accepted, receive);
    };
    const server = secure ? createTlsServer({ cert, key }, onSocket) : createServer(onSocket);
    const port = await listen(t, server);
    const socket = secure ? tlsConnect({ host: '127.0.0.1', port, ca: authority.certPem, servername: 'localhost' }) : connect({ host: '127.0.0.1', port });
    await once(socket, secure ? 'secureConnect' : 'connect');
    const answers: [answer: string, next: string][] = [['go on', 'second'], ['more', 'x'.repeat(200_000)], ['the last', 'emitted']];
    socket.write('first');
    for (const [answer, next] of answers) {
      t.equal(String((await once(socket, 'data'))[0]), answer, `${secure ? 'TLS' : 'plain'}: ${answer}`);
      socket.write(next);
    }
    await once(socket.resume(), 'close');
    t.equal(waited, '6', 'it was paused');
    t.equal(String(Buffer.concat(pieces)), `firstsecond${'x'.repeat(200_000)}`);
    t.ok(shared > 2, `${shared} of ${pieces.length} pieces without memory of their own`);
  }
});

t.test('what the system has reported together is one batch', async (t) => {
  const batches: Batch[] = [];
  const server = createServer((accepted) => {
    receiveDirectly(accepted, () => {
      batches.push(currentBatch());
    });
  });
  const port = await listen(t, server);
  const sockets = await Promise.all(
    Array.from({ length: 2 }, async () => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true });
      await Promise.all([once(socket, 'connect'), once(server, 'connection')]);
      return socket;
    }),
  );
  for (let round = 0; round < 2; round += 1) {
    // What connecting has left.
    for (let turns = 0; turns < 4; turns += 1) await new Promise(setImmediate);
    for (const socket of sockets) socket.write('x');
    while (batches.length < 2) await new Promise(setImmediate);
    const [first, second] = batches.splice(0);
    t.ok(first);
    t.equal(first?.turn, second?.turn);
    t.equal(first?.events, second?.events);
    t.notOk(isCurrent(first ?? null), 'it is over');
    await new Promise(setImmediate);
    t.equal(currentBatch(), null, 'nothing is being read');
  }
  for (const socket of sockets) socket.destroy();
});

t.test('TLS, and what is no socket, reads as before', async (t) => {
  const stream = new PassThrough();
  shareReads(stream);
  stream.end('as before');
  t.equal(String((await once(stream, 'data'))[0]), 'as before');
  t.doesNotThrow(() => {
    shareReads(new Socket());
  }, 'not connected');
});
