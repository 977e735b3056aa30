/** Stands between an HTTP server and its new connections. */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Takes from the server what it does with a new connection, for a listener
 * that has to look at the connection first. Call it with the socket once that
 * is HTTP. The server has to listen itself all the same: its own clocks run
 * only then (docs/decisions/0080-proxy-protocol.md).
 */
export function takeConnections(server: Server): (socket: Socket) => void {
  const serve = server.listeners('connection');
  server.removeAllListeners('connection');
  return (socket) => {
    for (const listener of serve) listener.call(server, socket);
  };
}
