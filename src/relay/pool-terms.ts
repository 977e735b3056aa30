/** What the configuration says of a pool: on what its connections depend, and how long one may take to open. */
import type { Config, DestinationConfig, HopConfig } from '../config/config.ts';

type Terms = Pick<Config, 'limits' | 'timeouts'>;

/** Equal where connections would be opened just so. Methods and paths do not belong here: they are decided for each request. */
export function poolTerms({ hosts, ports, addresses, tls, report, via, resolve, proxyProtocol }: DestinationConfig, { limits, timeouts }: Terms): unknown {
  const { upstreamConnections, upstreamQueue, headerBytes } = limits;
  return [hosts, ports, addresses, tls, report, via, resolve, proxyProtocol, upstreamConnections, upstreamQueue, headerBytes, timeouts];
}

/** The longest that a dial to one address may take, ms: whoever waits for it should hear why it failed. */
export function longestDial({ via }: Pick<DestinationConfig, 'via'>, { timeouts }: Pick<Terms, 'timeouts'>): number {
  const { resolve, connect, tls } = timeouts;
  return resolve + tls + (via.length === 0 ? connect : via.reduce((sum, hop) => sum + longestHop(hop), 0));
}

/** Each parent has its TCP, its TLS and its answer, each with the clock of the hop. */
function longestHop({ parents, connect }: HopConfig): number {
  return parents.reduce((sum, { scheme }) => sum + connect * (scheme === 'https' ? 3 : 2), 0);
}
