import { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { TLSSocket } from 'node:tls';
import t from 'tap';
import { keepAlive } from '../../src/relay/reuse.ts';

t.test('sockets are kept alive, TLS on them too; other streams have nothing to keep', async (t) => {
  for (const socket of [new Socket(), new TLSSocket(new Socket())]) {
    const calls: unknown[][] = [];
    socket.setKeepAlive = (...given) => {
      calls.push(given);
      return socket;
    };
    keepAlive(socket);
    t.same(calls, [[true, 30_000]]);
    socket.destroy();
  }
  t.doesNotThrow(() => {
    keepAlive(new PassThrough());
  });
});
