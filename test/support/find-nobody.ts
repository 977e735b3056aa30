/** For what needs a port before anybody listens there, or where nobody ever does. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Systems give ports from 32768 on (Linux, net.ipv4.ip_local_port_range) to
 * listeners on port 0 and to clients. A port of that range that has just been
 * closed may be the next one that is given, to the proxy under test itself.
 */
const [FIRST, COUNT] = [20_000, 10_000] as const;

/** A port at which nobody listens, and which the system gives to nobody. */
export async function findNobody(): Promise<number> {
  const port = FIRST + Math.floor(Math.random() * COUNT);
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return findNobody();
    throw error;
  }
  server.close();
  await once(server, 'close');
  return port;
}
