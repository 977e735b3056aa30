/** A lab for CONNECT: the upstream is bare TCP that does nothing by itself, and both ends of a tunnel are at hand. */
import { createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import { ECO, type Draft, type Lab, type LabOptions, startLab } from './lab.ts';
import { listen } from './listen.ts';
import { openWire, type Wire, wireOf } from './wire.ts';

export interface TunnelLab extends Lab {
  /** Of the raw upstream. */
  readonly target: string;
  readonly accepted: readonly Wire[];
  /** The next connection that reaches the upstream, or the first that has. */
  accept(): Promise<Wire>;
}

/** A lab whose upstream is bare TCP, half-open allowed, and does nothing by itself. */
export async function startTunnelLab(t: Test, configure?: (draft: Draft) => void, files: Record<string, string> = {}, more: Pick<LabOptions, 'drainClock' | 'monotonic'> = {}): Promise<TunnelLab> {
  const accepted: Wire[] = [];
  const waiting: ((wire: Wire) => void)[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket: Socket) => {
    const wire = wireOf(socket);
    accepted.push(wire);
    waiting.shift()?.(wire);
  });
  const port = await listen(t, server);
  const lab = await startLab(t, {
    ...more,
    files,
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined });
      configure?.(draft);
    },
  });
  let taken = 0;
  return {
    ...lab,
    target: `${ECO}:${port}`,
    accepted,
    accept: () => {
      const there = accepted[taken];
      taken += 1;
      return there === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(there);
    },
  };
}

/** The head of the answer to a permitted CONNECT. */
export const ESTABLISHED = /^HTTP\/1\.1 200 Connection Established\r\nX-Request-Id: [\w-]+\r\n\r\n/;

/** Both ends of an open tunnel. What the client has heard of the tunnel follows the first empty line. */
export async function openTunnel(t: Test, lab: TunnelLab): Promise<{ client: Wire; upstream: Wire }> {
  const client = await openWire(t, lab.port, { halfOpen: true });
  client.send(`CONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\n`);
  const [, upstream] = await Promise.all([client.until(ESTABLISHED), lab.accept()]);
  return { client, upstream };
}

/** Ends our direction when the other side has ended its own, as a program would. */
export function follow(wire: Wire): Wire['ended'] {
  if (wire.socket.readableEnded) wire.socket.end();
  else wire.socket.once('end', () => wire.socket.end());
  return wire.ended;
}
