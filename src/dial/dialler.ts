/**
 * From a permitted target to a usable socket: resolve, judge every address,
 * connect, finish TLS. Each step owns its socket until the next has taken it.
 */
import type { TimeoutsConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { abortFault } from './aborted.ts';
import { connectFirst } from './connect.ts';
import type { AddressGuard, Dialler } from './dial.ts';
import { encodeProxyHeader } from './proxy-header.ts';
import type { Resolver } from './resolver.ts';
import { secure } from './tls.ts';

export interface DiallerOptions {
  readonly resolver: Resolver;
  readonly timeouts: Pick<TimeoutsConfig, 'connect' | 'tls'>;
  /** Monotonic clock for the phases, ms. */
  readonly now?: () => number;
}

/** Holds nothing between dials, so there is nothing to close. */
export function createDialler(options: DiallerOptions): Dialler {
  const { resolver, timeouts } = options;
  const now = options.now ?? performance.now.bind(performance);

  return {
    resolve: (host, signal) => resolver.resolve(host, signal),
    dial: async (target, guard, signal) => {
      if (signal.aborted) throw abortFault(signal);
      const { host, port } = target;

      let addresses = resolver.cached(host);
      let dnsMs = -1;
      if (addresses === null) {
        const asked = now();
        addresses = await resolver.resolve(host, signal);
        dnsMs = now() - asked;
      }

      const permitted = judge(addresses, port, guard);
      const dialled = now();
      const { socket, address } = await connectFirst({ host, port, addresses: permitted, timeout: timeouts.connect, signal });
      const connected = now();
      const tcpMs = connected - dialled;
      // Stands in the socket's queue before whatever follows: TLS, or the client's bytes.
      if (target.proxied !== undefined) socket.write(encodeProxyHeader(target.proxied, { address, port }));
      if (target.tls === null) return { socket, address, dnsMs, tcpMs, tlsMs: -1 };

      const secured = await secure({ socket, host, port, config: target.tls, timeout: timeouts.tls, signal });
      return { socket: secured, address, dnsMs, tcpMs, tlsMs: now() - connected };
    },
  };
}

/** @throws Fault of the first refused address, naming all, when none may be dialled. */
function judge(addresses: readonly string[], port: number, guard: AddressGuard): readonly string[] {
  const refusals: Fault[] = [];
  const permitted = addresses.filter((address) => {
    const refusal = guard(address, port);
    if (refusal !== null) refusals.push(refusal);
    return refusal === null;
  });
  const [first] = refusals;
  if (permitted.length > 0 || first === undefined) return permitted;
  if (refusals.length === 1) throw first;
  throw new Fault(first.code, refusals.map((refusal) => refusal.message).join('; '), {
    cause: first,
    ...(first.remedy === null ? {} : { remedy: first.remedy }),
  });
}
