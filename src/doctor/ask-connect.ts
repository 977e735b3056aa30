/** Asks whatever listens at a proxy's address for a tunnel, and keeps what it said. */
import type { Socket } from 'node:net';
import type { HopCredentials } from '../config/config.ts';
import { createConnectRequest } from '../dial/connect-request.ts';
import { converse } from '../dial/handshake.ts';

export interface ConnectQuestion {
  readonly host: string;
  readonly port: number;
  readonly credentials: HopCredentials | null;
  /** Ms. */
  readonly timeout: number;
}

/** What was said, byte by byte; null: the tunnel is up, and the socket is the caller's. */
export type Refused = { readonly heard: Buffer; readonly detail: string; readonly silent: boolean } | null;

/** The socket is destroyed unless the tunnel is up. Never rejects. */
export async function askConnect(socket: Socket, { host, port, credentials, timeout }: ConnectQuestion): Promise<Refused> {
  const request = createConnectRequest({ host, port, credentials, via: null });
  const heard: Buffer[] = [];
  const failure = await converse({
    socket,
    handshake: {
      opening: request.opening,
      receive: (chunk) => {
        heard.push(chunk);
        return request.receive(chunk);
      },
    },
    timeout,
    signal: new AbortController().signal,
    asked: `CONNECT ${host}:${port}`,
  });
  return failure === null ? null : { heard: Buffer.concat(heard), detail: failure.detail, silent: failure.code === 'hop-timeout' };
}

/** Whether the port speaks plain HTTP, whatever it says. The socket is destroyed. */
export async function answersHttp(socket: Socket, question: ConnectQuestion): Promise<boolean> {
  const refused = await askConnect(socket, question);
  socket.destroy();
  return refused === null || refused.heard.subarray(0, 5).toString('latin1') === 'HTTP/';
}
