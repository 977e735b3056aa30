/** What stands before a partner that wants PROXY protocol: reads the header, keeps it, and passes the rest on. */
import { connect, createServer } from 'node:net';
import type { Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import { readProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { listen } from './listen.ts';

export interface ProxiedFront {
  readonly port: number;
  /** Where what follows the header goes; set it before the first connection. */
  target: number;
  /** The headers of the connections that came, one character a byte, in their order; of one without, its first bytes. */
  readonly headers: string[];
}

export async function startProxiedFront(t: Test): Promise<ProxiedFront> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    let held = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const header = readProxyHeader(held);
      if (header === null) return;
      client.off('data', onData).pause();
      const length = header instanceof Fault ? Math.min(held.length, 16) : header.length;
      front.headers.push(held.toString('latin1', 0, length));
      if (header instanceof Fault) {
        client.destroy();
        return;
      }
      const upstream = connect({ host: '127.0.0.1', port: front.target, allowHalfOpen: true, noDelay: true });
      upstream.on('error', () => client.destroy());
      client.on('close', () => upstream.destroy());
      if (held.length > length) upstream.write(held.subarray(length));
      client.pipe(upstream).pipe(client);
    };
    client.on('data', onData);
  });
  const front: ProxiedFront = { port: await listen(t, server), target: 0, headers: [] };
  return front;
}
