/** Checks of this host only: configuration, clock, open files, NAT ports, route. */
import { isIPv6 } from 'node:net';
import type { Config } from '../config/config.ts';
import { descriptorNeeds } from '../descriptors.ts';
import { Fault } from '../errors.ts';
import { formatAuthority, reachable } from '../targets/host.ts';
import { type Examination, targetKey } from './examination.ts';
import { fail, failBy, type DoctorFinding, ok, skipped, warn } from './finding.ts';

/** One line that the file is valid, and one for each of its warnings. */
export function checkConfiguration({ file, hash, warnings }: Pick<Examination, 'file' | 'hash' | 'warnings'>): DoctorFinding[] {
  const valid = ok(file, `is valid (${hash})`);
  return [
    valid,
    ...warnings.map(({ line, path, problem, instead }) =>
      warn(line === null ? file : `${file}:${line}`, 'config-warning', `${path}: ${problem}`, instead),
    ),
  ];
}

/** Certificates and tokens tolerate less than this; a Date field has whole seconds, and is as old as the answer. */
const MOST_MS = 60_000;

/** Compares this host's clock with those of the servers that answered. */
export function checkClock(clocks: readonly { readonly where: string; readonly ahead: number }[]): DoctorFinding[] {
  if (clocks.length === 0) return [skipped('', 'no answer had a Date to compare with')];
  // One server may be wrong: the one closest to ours counts.
  const nearest = clocks.reduce((best, clock) => (Math.abs(clock.ahead) < Math.abs(best.ahead) ? clock : best));
  const seconds = Math.round(Math.abs(nearest.ahead) / 1000);
  const seen = `this host is ${seconds} s ${nearest.ahead > 0 ? 'behind' : 'ahead of'} ${nearest.where}`;
  if (Math.abs(nearest.ahead) > MOST_MS)
    return [fail('', 'clock-skew', seen, 'Set the clock of this host (NTP): certificates and tokens are checked against it.')];
  return [ok('', seen)];
}

// Whether the process may open as many files as the limits allow connections.

/** @param openFiles null: not known, or not limited */
export function checkOpenFiles(config: Pick<Config, 'limits' | 'destinations'>, openFiles: number | null): DoctorFinding[] {
  if (openFiles === null) return [skipped('', 'this system reports no limit')];
  const { connections, tunnels } = config.limits;
  const { clients, all } = descriptorNeeds(config);
  const seen = `${openFiles} files may be open; ${connections} client connections, ${tunnels} tunnels and the pools may need ${all}`;
  if (openFiles < clients) return [fail('', 'files-limit', seen, `Raise the limit (ulimit -n) to ${all}, or lower limits.connections.`)];
  if (openFiles < all)
    return [warn('', 'files-limit', seen, `Raise the limit (ulimit -n) to ${all}, or lower limits.connections or limits.tunnels.`)];
  return [ok('', seen)];
}

/** The proxy warns at the same share. */
const WARN_AT = 0.7;
const MOST_METRICS = 4 * 1024 * 1024;

const MORE_PORTS_ADVICE =
  'Use fewer connections (the gateway path shares them), or give the NAT more ports and raise nat.ports: docs/port-economy.md.';

/** NAT ports: those used by the proxy that runs here, or else those that the limits would allow. */
export async function checkPorts(examination: Examination): Promise<DoctorFinding[]> {
  const metrics = await scrape(examination);
  const limit = metrics === null ? null : ([...readGauge(metrics, 'eco_egress_nat_ports_limit').values()][0] ?? null);
  if (metrics === null || limit === null) return [plan(examination)];
  const used = readGauge(metrics, 'eco_egress_nat_ports_used');
  examination.trail.ports = { used: Math.max(0, ...used.values()), limit };
  return [...used].map(([destination, count]) => {
    const seen = `${count} of ${limit} ports are in use`;
    if (count >= limit) return fail(destination, 'nat-ports-exhausted', seen, MORE_PORTS_ADVICE);
    if (count >= limit * WARN_AT) return warn(destination, 'nat-ports-short', seen, MORE_PORTS_ADVICE);
    return ok(destination, seen);
  });
}

/** Null: no proxy of ours answers here. */
async function scrape({ config, tools }: Examination): Promise<string | null> {
  const { host, port } = config.listeners.admin;
  if (port === 0) return null;
  try {
    const socket = await tools.connect(reachable(host), port);
    const { status, body } = await tools.ask(
      { socket },
      { origin: `http://${formatAuthority(reachable(host), port)}`, path: '/metrics', longest: MOST_METRICS },
    );
    return status === 200 && body.includes('eco_egress_') ? body : null;
  } catch {
    // A proxy that does not run here is no fault: the limits are checked
    // instead.
    return null;
  }
}

/** By destination, '' without one. */
function readGauge(metrics: string, name: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, destination = '', value = ''] of metrics.matchAll(new RegExp(`^${name}(?:\\{destination="([^"]*)"\\})? (\\S+)$`, 'gm')))
    found.set(destination, Number(value));
  return found;
}

function plan({ config: { limits, nat } }: Examination): DoctorFinding {
  if (nat.ports === null)
    return skipped(
      '',
      'ports are counted, and not limited',
      'Set nat.ports to what the NAT gives this node, so that the proxy refuses before the NAT drops.',
    );
  const own = Math.floor(nat.ports / nat.replicasPerNode);
  const wanted = limits.tunnels + limits.upstreamConnections;
  const seen = `a replica has ${own} ports; limits let it use ${wanted}`;
  if (own === 0) return fail('', 'nat-ports-exhausted', seen, 'Give the node more ports than it has replicas.');
  if (wanted > own) return warn('', 'nat-ports-short', seen, 'Lower limits.tunnels, or give the NAT more ports and raise nat.ports.');
  return ok('', seen);
}

/** Whether there is a route to each address, and its local address. Sends nothing. */
export async function checkRoute({ targets, tools, trail }: Examination): Promise<DoctorFinding[]> {
  const groups = targets.flatMap((target) =>
    target.destination.via.length > 0 ? [] : [{ port: target.port, addresses: trail.addresses.get(targetKey(target)) ?? [] }],
  );
  const places = new Map(groups.flatMap(({ port, addresses }) => addresses.map((address) => [address, port] as const)));
  const routes = await Promise.all(
    [...places].map(async ([address, port]) => ({
      address,
      local: await tools.localAddress(address, port).catch((error: unknown) => Fault.from(error)),
    })),
  );
  for (const { address, local } of routes) if (local instanceof Fault) trail.routeless.add(address);
  // A host may have one family, and a partner both.
  const isSpare = (address: string): boolean =>
    groups.every(
      ({ addresses }) =>
        !addresses.includes(address) || addresses.some((other) => isIPv6(other) !== isIPv6(address) && !trail.routeless.has(other)),
    );
  return routes.map(({ address, local }) => {
    if (!(local instanceof Fault)) return ok(address, `from ${local}`);
    return isSpare(address)
      ? skipped(address, `no route (${local.detail}); the partner's other addresses are dialled`)
      : failBy(address, local);
  });
}
