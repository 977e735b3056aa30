/** For what needs a port before anybody listens there. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** A port at which nobody listens. */
export async function findNobody(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address.port;
}
