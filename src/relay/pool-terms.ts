/** What the configuration says of a pool: on what its connections depend, and how long one may take to open. */
import type { Config, DestinationConfig, HopConfig } from '../config/config.ts';

type Terms = Pick<Config, 'limits' | 'timeouts'>;

/**
 * Equal where connections would be opened just so. What is left out is decided
 * for each request, or counted elsewhere; a key that is not named here counts.
 */
export function poolTerms(destination: DestinationConfig, { limits, timeouts }: Terms): unknown {
  return [{ ...destination, ...DECIDED_PER_REQUEST }, { ...limits, ...COUNTED_ELSEWHERE }, timeouts];
}

const DECIDED_PER_REQUEST = { name: null, forms: null, gateway: null, methods: null, paths: null, tunnelSni: null } satisfies { [Key in keyof DestinationConfig]?: null };
const COUNTED_ELSEWHERE = { connections: null, connectionsPerClient: null, tunnels: null, tunnelsPerClient: null, exchanges: null, exchangesPerClient: null, headerFields: null } satisfies { [Key in keyof Terms['limits']]?: null };

/** The longest that a dial to one address may take, ms: whoever waits for it should hear why it failed. */
export function longestDial({ via }: Pick<DestinationConfig, 'via'>, { timeouts }: Pick<Terms, 'timeouts'>): number {
  const { resolve, connect, tls } = timeouts;
  return resolve + tls + (via.length === 0 ? connect : via.reduce((sum, hop) => sum + longestHop(hop), 0));
}

/** Each parent has its TCP, its TLS and its answer, each with the clock of the hop. */
function longestHop({ parents, connect }: HopConfig): number {
  return parents.reduce((sum, { scheme }) => sum + connect * (scheme === 'https' ? 3 : 2), 0);
}
