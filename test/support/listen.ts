/** Starts a server on a loopback port of the system's choosing and ends it, and all its sockets, with the test. */
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import type { Test } from 'tap';

/** @returns the port */
export async function listen(t: Test, server: Server, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    // A test that breaks connections on purpose need not hear of it here.
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  t.teardown(async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address.port;
}
