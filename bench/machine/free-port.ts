/** A port on 127.0.0.1 that is free now, for programs that cannot be asked which one they got. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** The kernel may offer a port again as soon as it is closed, while the program it was for has not begun to listen. */
const given = new Set<number>();

/** Never the same twice. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  if (given.has(port)) return freePort();
  given.add(port);
  return port;
}
