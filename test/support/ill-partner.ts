/** A partner with addresses of its own on one port, each of which falls ill and gets well when the test says so. */
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Test } from 'tap';
import type { LabOptions } from './lab.ts';
import { findUnusedPort } from './unused-port.ts';

/** What an address does with a request. */
export type Manners = 'answers' | 'cuts' | 'is silent';

export interface PartnerAddress {
  readonly address: string;
  manners: Manners;
  /** Of its answers. */
  status: number;
  /** Keeps connections open behind its answers. */
  keeps: boolean;
  /** Of those it is silent about, longest waiting first. */
  readonly waiting: ServerResponse[];
  /** That it accepted. */
  connections: number;
  requests: number;
  /** Listens; a request that comes is answered. */
  begin(): Promise<void>;
  /** Refuses connections; those that are open are reset. */
  end(): Promise<void>;
}

export interface IllPartner {
  readonly port: number;
  readonly at: readonly PartnerAddress[];
}

/** Listens; `more` addresses do not, yet. All end with the test. */
export async function startIllPartner(t: Test, address = '127.0.0.1', more: readonly string[] = []): Promise<IllPartner & { readonly first: PartnerAddress }> {
  const port = await findUnusedPort();
  const first = createPartnerAddress(t, address, port);
  await first.begin();
  return { port, first, at: [first, ...more.map((other) => createPartnerAddress(t, other, port))] };
}

/** Does not listen yet. */
export function createPartnerAddress(t: Test, address: string, port: number): PartnerAddress {
  let server: Server | null = null;
  const sockets = new Set<Socket>();
  const at: PartnerAddress = {
    address,
    manners: 'answers',
    status: 200,
    keeps: false,
    waiting: [],
    connections: 0,
    requests: 0,
    begin: async () => {
      server = createServer((req, res) => {
        at.requests += 1;
        req.resume();
        if (at.manners === 'answers') res.writeHead(at.status, at.keeps ? {} : { connection: 'close' }).end(address);
        else if (at.manners === 'cuts') req.socket.destroy();
        else at.waiting.push(res);
      });
      server.on('connection', (socket) => {
        at.connections += 1;
        sockets.add(socket);
        socket.on('error', () => {}).once('close', () => sockets.delete(socket));
      });
      server.listen(port, address);
      await once(server, 'listening');
    },
    end: async () => {
      if (server === null) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      server = null;
      await closed;
    },
  };
  t.teardown(() => at.end());
  return at;
}

/** Failures open a circuit at once, so that tests need to count only those. */
export const QUICK = { failures: 3, over: '0s', pause: '1s', longestPause: '4s' };

/** Of a lab whose one destination is that partner, in plain; TLS that is steered here goes to the same port. */
export function toPartner({ port, at }: IllPartner, clock: { now: number }, change: object = {}): Pick<LabOptions, 'configure' | 'lookup' | 'monotonic'> {
  return {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://eco-sit.telus.internal:${port}` }, tls: {}, circuitBreaker: QUICK, ...change });
    },
    lookup: async () => ({ addresses: at.map(({ address }) => address), ttl: null }),
    monotonic: () => clock.now,
  };
}
