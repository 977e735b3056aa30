/** proxy-chain with an access log. */
import { logLine, PORT } from './start.ts';

interface Server {
  listen(): Promise<void>;
  on(event: 'connectionClosed', listener: (event: { connectionId: number; stats: { srcTxBytes: number } }) => void): void;
}
interface Asked {
  connectionId: number;
  hostname: string;
  port: number;
  request: { method?: string; socket: { remoteAddress?: string } };
}

// The package is installed for the benchmark only: its types are not there when the project is checked.
const PACKAGE = 'proxy-chain' as string;
const { Server } = (await import(PACKAGE)) as { Server: new (options: { port: number; host: string; prepareRequestFunction: (asked: Asked) => void }) => Server };

const open = new Map<number, { asked: Asked; started: number }>();
const server = new Server({
  port: PORT,
  host: '127.0.0.1',
  prepareRequestFunction: (asked) => {
    open.set(asked.connectionId, { asked, started: performance.now() });
  },
});
server.on('connectionClosed', ({ connectionId, stats }) => {
  const entry = open.get(connectionId);
  if (entry === undefined) return;
  open.delete(connectionId);
  const { request, hostname, port } = entry.asked;
  logLine(request.socket.remoteAddress ?? '', request.method ?? '', `${hostname}:${port}`, 200, stats.srcTxBytes, entry.started);
});
await server.listen();
