/** For what needs a port before anything listens there, or where nothing ever does. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * First port and how many. Systems give ports from 32768 on (Linux,
 * net.ipv4.ip_local_port_range) to listeners on port 0 and to clients. A port of
 * that range that has just been closed may be the next one that is given, to the
 * proxy under test itself.
 */
const BELOW_GIVEN: readonly [number, number] = [20_000, 10_000];

/** Each is found once in a process: nothing may listen on the earlier one yet. */
const found = new Set<number>();

/** A port of 127.0.0.1 on which nothing listens, and which the system gives to nothing. @param range below 32768 */
export async function findUnusedPort([first, count] = BELOW_GIVEN): Promise<number> {
  const port = first + Math.floor(Math.random() * count);
  if (found.has(port)) return findUnusedPort([first, count]);
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return findUnusedPort([first, count]);
    throw error;
  }
  server.close();
  await once(server, 'close');
  found.add(port);
  return port;
}
