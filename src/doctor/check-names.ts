/** Names as this host sees them: every address, the kind of place it is, and whether the guard lets it be dialled. */
import type { HopConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { surveyAddresses } from '../policy/address-guard.ts';
import { createHopGuard } from '../policy/hop-guard.ts';
import { describeAddresses } from './describe-addresses.ts';
import { type Examination, hostKey } from './examination.ts';
import { fail, failBy, type Finding, ok, skipped, warn } from './finding.ts';
import { patternsOf, type Target } from './targets.ts';

export async function checkNames(examination: Examination): Promise<Finding[]> {
  const { config, targets } = examination;
  const hosts = new Map<string, Target[]>();
  for (const target of targets) hosts.set(hostKey(target), [...(hosts.get(hostKey(target)) ?? []), target]);
  const patterns = patternsOf(config, targets).map((pattern) => skipped(pattern, 'stands for many names', 'Give one of them with --target.'));
  const found = await Promise.all([...[...hosts.values()].map((ports) => checkHost(ports, examination)), ...hopsOf(examination).map((hop) => checkHop(hop, examination))]);
  return [...found.flat(), ...patterns];
}

async function checkHost(ports: readonly Target[], examination: Examination): Promise<Finding[]> {
  const [first] = ports;
  if (first === undefined) return [];
  const { destination, host } = first;
  const { tools, trail } = examination;
  if (destination.via.length > 0 && destination.resolve === 'parent') return [skipped(host, 'the last hop resolves it')];
  let addresses: readonly string[];
  try {
    addresses = await tools.resolve(host);
  } catch (error) {
    return [failBy(host, Fault.from(error))];
  }
  const seen = describeAddresses(addresses);
  const surveys = ports.flatMap(({ guards, port }) => surveyAddresses(guards, addresses, port));
  const refused = surveys.flatMap(({ refusal }) => refusal ?? []);
  const [refusal] = refused;
  const permitted = addresses.filter((address) => surveys.every((survey) => survey.address !== address || survey.refusal === null || survey.reported));
  const steered = await findSteering(addresses, examination);
  if (steered !== null) return [fail(host, 'steered-loop', `${seen}: that is ${steered}, so what is asked for comes back to this proxy`, 'What steers clients to the proxy (DNS, ServiceEntry, VirtualService) must not reach the proxy: exportTo, sourceNamespace, or another DNS server in dns.servers.')];
  trail.addresses.set(hostKey(first), permitted);
  if (refusal === undefined) return [ok(host, seen)];
  const captured = addresses.some(isMadeUp);
  if (captured) return [fail(host, 'dns-captured', `${seen}: a sidecar made this address up (DNS capture of Istio)`, 'Take the sidecar off this pod (sidecar.istio.io/inject: "false"), or switch its DNS capture off: the proxy has to see the real address.')];
  if (permitted.length === 0) return [failBy(host, refusal)];
  return [warn(host, refusal.code, `${seen}; ${refusal.message}`, refusal.remedy ?? 'The other addresses are dialled.')];
}

/** A place of ours that the partner's name leads to; null: none that is known. */
async function findSteering(addresses: readonly string[], { host: { env }, proxy, tools }: Examination): Promise<string | null> {
  // Kubernetes tells each pod the Services of its namespace: `ECO_EGRESS_SERVICE_HOST`.
  const service = Object.entries(env).find(([name, value]) => name.endsWith('_SERVICE_HOST') && value !== undefined && addresses.includes(value));
  if (service !== undefined) return `the Service of ${service[0]}`;
  if (proxy === null) return null;
  try {
    const own = await tools.resolve(proxy.host);
    // Loopback is where a test has both; as a partner's address it is judged by the guard.
    return own.some((address) => addresses.includes(address) && classifyAddress(address)?.class !== 'loopback') ? 'the proxy that --proxy names' : null;
  } catch {
    // For the forms to tell.
    return null;
  }
}

/** Those that are on a way; the file may hold others. */
function hopsOf({ targets, config }: Examination): HopConfig[] {
  const used = [...targets.flatMap(({ destination }) => destination.via), ...(config.sourceIp?.probe?.via ?? [])];
  return [...new Map(used.map((hop) => [hop.name, hop])).values()];
}

async function checkHop(hop: HopConfig, { tools, isSelf }: Examination): Promise<Finding[]> {
  const guard = createHopGuard(hop, isSelf);
  return Promise.all(
    hop.parents.map(async ({ host, port }) => {
      try {
        const addresses = await tools.resolve(host);
        const refusals = addresses.map((address) => guard(address, port));
        const seen = describeAddresses(addresses);
        const [refusal] = refusals.flatMap((fault) => fault ?? []);
        return refusal === undefined || refusals.includes(null) ? ok(host, seen) : failBy(host, refusal);
      } catch (error) {
        return failBy(host, Fault.from(error));
      }
    }),
  );
}

/** 240.0.0.0/4, where Istio's DNS capture puts ServiceEntries that have no address. */
function isMadeUp(address: string): boolean {
  const known = classifyAddress(address);
  return known?.class === 'reserved' && Number(known.canonical.split('.')[0]) >= 240;
}
