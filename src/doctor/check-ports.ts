/** NAT ports: what the proxy that runs here has in use, or else what the limits would let it use. */
import { formatAuthority } from '../target/host.ts';
import { reachable } from './choose-proxy.ts';
import type { Examination } from './examination.ts';
import { fail, type Finding, ok, skipped, warn } from './finding.ts';

/** The proxy warns at the same share. */
const WARN_AT = 0.7;
const MOST_METRICS = 4 * 1024 * 1024;

const MORE_PORTS = 'Use fewer connections (the gateway path shares them), or give the NAT more ports and raise nat.ports: docs/port-economy.md.';

export async function checkPorts(examination: Examination): Promise<Finding[]> {
  const metrics = await scrape(examination);
  const limit = metrics === null ? null : ([...readGauge(metrics, 'eco_egress_nat_ports_limit').values()][0] ?? null);
  if (metrics === null || limit === null) return [plan(examination)];
  const used = readGauge(metrics, 'eco_egress_nat_ports_used');
  examination.trail.ports = { used: Math.max(0, ...used.values()), limit };
  return [...used].map(([destination, count]) => {
    const seen = `${count} of ${limit} ports are in use`;
    if (count >= limit) return fail(destination, 'nat-ports-exhausted', seen, MORE_PORTS);
    if (count >= limit * WARN_AT) return warn(destination, 'nat-ports-short', seen, MORE_PORTS);
    return ok(destination, seen);
  });
}

/** Null: nothing of ours answers here. */
async function scrape({ config, tools }: Examination): Promise<string | null> {
  const { host, port } = config.listeners.admin;
  if (port === 0) return null;
  try {
    const socket = await tools.connect(reachable(host), port);
    const { status, body } = await tools.ask({ socket }, { origin: `http://${formatAuthority(reachable(host), port)}`, path: '/metrics', longest: MOST_METRICS });
    return status === 200 && body.includes('eco_egress_') ? body : null;
  } catch {
    // Not running here is no fault: the plan is judged instead.
    return null;
  }
}

/** By destination, '' without one. */
function readGauge(metrics: string, name: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, destination = '', value = ''] of metrics.matchAll(new RegExp(`^${name}(?:\\{destination="([^"]*)"\\})? (\\S+)$`, 'gm'))) found.set(destination, Number(value));
  return found;
}

function plan({ config: { limits, nat } }: Examination): Finding {
  if (nat.ports === null) return skipped('', 'ports are counted, and not limited', 'Set nat.ports to what the NAT gives this node, so that the proxy refuses before the NAT drops.');
  const own = Math.floor(nat.ports / nat.replicasPerNode);
  const wanted = limits.tunnels + limits.upstreamConnections;
  const seen = `a replica has ${own} ports; limits let it use ${wanted}`;
  if (own === 0) return fail('', 'nat-ports-exhausted', seen, 'Give the node more ports than it has replicas.');
  if (wanted > own) return warn('', 'nat-ports-short', seen, 'Lower limits.tunnels, or give the NAT more ports and raise nat.ports.');
  return ok('', seen);
}
