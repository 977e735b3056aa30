/** The examination from a client's host or pod: its variables, the proxy as seen from there, and the partner behind it. */
import { NO_TLS } from '../config/config.ts';
import type { Lookup } from '../dial/lookup.ts';
import { checkClientHttp, checkClientNames, checkClientTls, checkClientRoute, type ClientExamination } from './client-checks.ts';
import { checkEnvironment } from './environment.ts';
import { createTools } from './examination.ts';
import { type Check, createReport, type DoctorReport, runChecks } from './finding.ts';
import { checkClock } from './machine-checks.ts';
import { checkPastProxy, NO_HOSTS_ADDRESS } from './past-proxy.ts';
import { showProxy } from './proxy-address.ts';

/** For `examineClient`. */
export interface ClientExaminationOptions extends Pick<ClientExamination, 'target' | 'proxy' | 'host'> {
  /** PEM of the partner's authority; null: those that Node knows, NODE_EXTRA_CA_CERTS among them. */
  readonly ca: string | null;
  /** For each step, ms. */
  readonly timeout: number;
  readonly only: readonly string[];
  readonly lookup?: Lookup;
  /** An address that no host has; by default one for documentation. */
  readonly emptyAddress?: string;
}

/** Checks from a client's host or pod, in the order in which they run. */
export const CLIENT_CHECKS: readonly Check<ClientExamination>[] = [
  {
    name: 'environment',
    title: 'Environment of this process',
    needs: [],
    run: ({ host, target, tools }) => checkEnvironment({ env: host.env, partners: [target] }, tools),
  },
  { name: 'names', title: 'Names, as this host sees them', needs: [], run: checkClientNames },
  { name: 'way', title: 'The route to the partner', needs: ['names'], run: checkClientRoute },
  { name: 'past-proxy', title: 'The partner past the proxy, which should not be possible', needs: ['names'], run: checkPastProxy },
  { name: 'tls', title: 'TLS with the partner', needs: ['way'], run: checkClientTls },
  { name: 'http', title: 'HTTP with the partner', needs: ['tls'], run: checkClientHttp },
  { name: 'clock', title: 'Clock', needs: ['http'], run: ({ trail }) => Promise.resolve(checkClock(trail.clocks)) },
];

/** Runs the checks; a failure is a finding, not a rejection. */
export async function examineClient({
  target,
  proxy,
  host,
  ca,
  timeout,
  only,
  lookup,
  emptyAddress = NO_HOSTS_ADDRESS,
}: ClientExaminationOptions): Promise<DoctorReport> {
  const tools = createTools({
    config: {
      name: 'eco-egress-doctor',
      headers: { via: false, forwarded: 'off', xForwarded: 'off', drop: [], keep: [] },
      dns: { servers: [], ttl: timeout, staleFor: 0 },
    },
    lookup,
    timeouts: { resolve: timeout, connect: timeout, tls: timeout },
    timeout,
  });
  const examination: ClientExamination = {
    target,
    proxy,
    tls: { ...NO_TLS, ca },
    host,
    emptyAddress,
    tools,
    trail: { addresses: [], proxyAddresses: [], open: false, clocks: [] },
  };
  const way = proxy === null ? 'without a proxy, as where a mesh steers' : `by ${showProxy(proxy)}`;
  return createReport(
    'client',
    `The route of a client from here to ${target.where}, ${way}.`,
    await runChecks(CLIENT_CHECKS, examination, only),
  );
}
