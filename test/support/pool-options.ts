/** What a pool is told, where a test is about something else: room for two, and no clock that would come between. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Dialled } from '../../src/dial/dial.ts';
import type { PoolOptions } from '../../src/relay/pool.ts';

export function poolOptions(open: PoolOptions['open'], more: Partial<PoolOptions> = {}): PoolOptions {
  return {
    origin: 'http://x.example',
    size: 2,
    queue: 2,
    queueTimeout: 10_000,
    keepAlive: 10_000,
    age: 10_000,
    headerBytes: 16_384,
    headerFields: 500,
    open,
    onChange: () => {},
    ...more,
  };
}

/** A connection to a port of this machine, as a dialler gives it. */
export async function dialLocally(port: number, signal: AbortSignal): Promise<Dialled> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect', { signal });
  return { socket, address: '127.0.0.1', via: '', peer: { address: '127.0.0.1', port }, dnsMs: -1, tcpMs: 0, tlsMs: -1, hopMs: -1, attempts: 1 };
}
