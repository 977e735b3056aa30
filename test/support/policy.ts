/** Parts of a policy and of what is asked of it, whole but for what a test is about. */
import { type ClientConfig, type DestinationConfig, FORMS, type RuleConfig } from '../../src/config/config.ts';
import type { Ask, Peer } from '../../src/policy/verdict.ts';

/** Of no kind: `more` has to say what makes a peer this client. */
export function makeClient(name: string, more: Partial<ClientConfig>): ClientConfig {
  return { name, addresses: null, basic: null, tokens: null, certificates: null, ...more };
}

export function makeDestination(name: string, hosts: readonly string[], more: Partial<DestinationConfig> = {}): DestinationConfig {
  const tls = { ca: null, cert: null, key: null, serverName: null };
  const base = { name, hosts, ports: [443, 80], addresses: null, forms: FORMS, gateway: null, methods: null, paths: null, tls };
  return { ...base, report: false, upgradePlainHttp: null, tunnelSni: 'report', via: [], resolve: 'here', proxyProtocol: 'off', gateReadiness: false, circuitBreaker: null, ...more };
}

export function makeRule(clients: readonly string[], destinations: readonly string[], more: Partial<RuleConfig> = {}): RuleConfig {
  return { clients, destinations, methods: null, paths: null, from: null, until: null, owner: null, reason: null, ticket: null, report: false, rate: null, ...more };
}

export function makePeer(address: string, more: Partial<Peer> = {}): Peer {
  return { address, user: null, token: null, sans: [], rejected: null, ...more };
}

/** A CONNECT to eco-sit.telus.internal:443 from 10.8.1.4, at the epoch. */
export function makeAsk(more: Partial<Ask> = {}): Ask {
  return { form: 'connect', peer: makePeer('10.8.1.4'), now: 0, host: 'eco-sit.telus.internal', port: 443, method: null, path: null, ...more };
}

/** Limits that are reached at once. */
export const FEW = {
  connections: 1,
  connectionsPerClient: 1,
  tunnels: 3,
  tunnelsPerClient: 2,
  exchanges: 1,
  exchangesPerClient: 1,
  headerBytes: 1,
  headerFields: 1,
  upstreamConnections: 1,
  upstreamQueue: 1,
  loopDelay: 0,
  memoryPercent: 100,
};
