/** Checks of the route to each target: names, TCP, parent proxies, silence, source address. */
import type { HopConfig, ParentConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { type AddressClass, classifyAddress } from '../policy/address-class.ts';
import { createHopGuard, surveyAddresses } from '../policy/address-guard.ts';
import { judgeSilence, SILENCE } from '../source-ip/judge.ts';
import { formatAuthority } from '../targets/host.ts';
import { type Examination, hostKey, targetKey } from './examination.ts';
import { fail, failBy, type DoctorFinding, ok, skipped, warn } from './finding.ts';
import { describeAddresses, dialTargetOf, targetGuard, patternsOf, type Target } from './targets.ts';

/** Looks up every host and parent; leaves the addresses that may be dialled in the trail. */
export async function checkResolution(examination: Examination): Promise<DoctorFinding[]> {
  const { asked, config, targets } = examination;
  const byHost = Map.groupBy(targets, hostKey);
  const strangers = asked
    .filter(({ host }) => !targets.some((target) => target.host === host))
    .map(({ host }) =>
      fail(host, 'host-not-allowed', 'no destination lists it', 'Check its spelling, or add it to the hosts of a destination.'),
    );
  const patterns = patternsOf(config, targets).map((pattern) =>
    skipped(pattern, 'is a pattern for many names', 'Give one of them with --target.'),
  );
  const found = await Promise.all([
    ...[...byHost.values()].map((ports) => checkHost(ports, examination)),
    ...hopsOf(examination).map((hop) => checkHop(hop, examination)),
  ]);
  return [...found.flat(), ...strangers, ...patterns];
}

async function checkHost(ports: readonly Target[], examination: Examination): Promise<DoctorFinding[]> {
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
  // An address of ours is refused for our own ports only.
  const places = ports.map((target) => {
    const surveys = surveyAddresses(target.guards, addresses, target.port);
    const permitted = surveys.filter(({ refusal, reported }) => refusal === null || reported).map(({ address }) => address);
    return { target, permitted, refusal: surveys.find(({ refusal }) => refusal !== null)?.refusal ?? null };
  });
  const refusal = places.find((place) => place.refusal !== null)?.refusal;
  const steered = await findSteering(addresses, examination);
  if (steered !== null)
    return [
      fail(
        host,
        'steered-loop',
        `${seen}: that is ${steered}, so what is asked for comes back to this proxy`,
        'What steers clients to the proxy (DNS, ServiceEntry, VirtualService) must not reach the proxy: exportTo, sourceNamespace, or another DNS server in dns.servers.',
      ),
    ];
  for (const { target, permitted } of places) trail.addresses.set(targetKey(target), permitted);
  if (refusal === undefined || refusal === null) return [ok(host, seen)];
  const captured = addresses.some(isMadeUp);
  if (captured)
    return [
      fail(
        host,
        'dns-captured',
        `${seen}: a sidecar made this address up (DNS capture of Istio)`,
        'Remove the sidecar from this pod (sidecar.istio.io/inject: "false"), or switch its DNS capture off: the proxy has to see the real address.',
      ),
    ];
  const closed = places.filter(({ permitted }) => permitted.length === 0);
  if (closed.length === places.length) return [failBy(host, refusal)];
  if (closed.length > 0)
    return [ok(host, seen), ...closed.flatMap(({ target, refusal: why }) => (why === null ? [] : failBy(target.where, why)))];
  return [warn(host, refusal.code, `${seen}; ${refusal.message}`, refusal.remedy ?? 'The other addresses are dialled.')];
}

/** An address of our own that the partner's name resolves to; null: none is known. */
async function findSteering(addresses: readonly string[], { config, host: { env }, proxy, tools }: Examination): Promise<string | null> {
  // Kubernetes sets variables for the Services of a pod's namespace:
  // `ECO_EGRESS_SERVICE_HOST`.
  const service = Object.entries(env)
    .flatMap(([name, value]) => (value !== undefined && addresses.includes(value) ? (/^(.+)_SERVICE_HOST$/.exec(name)?.[1] ?? []) : []))
    .find((name) => mayBeOurs(name, env, config));
  if (service !== undefined) return `the Service of ${service}_SERVICE_HOST`;
  if (proxy === null) return null;
  try {
    const own = await tools.resolve(proxy.host);
    // Loopback is where a test has both; as a partner's address it is checked by the
    // guard.
    return own.some((address) => addresses.includes(address) && classifyAddress(address)?.class !== 'loopback')
      ? 'the proxy that --proxy names'
      : null;
  } catch {
    // The form checks report this.
    return null;
  }
}

/** Whether a Service has one of our ports, as ours has, or none that is known. */
function mayBeOurs(service: string, env: Examination['host']['env'], { listeners: { http, tls } }: Examination['config']): boolean {
  const ports = Object.entries(env).flatMap(([name, value]) =>
    name === `${service}_SERVICE_PORT` || name.startsWith(`${service}_SERVICE_PORT_`) ? Number(value) : [],
  );
  return ports.length === 0 || [...http, ...tls].some(({ port }) => ports.includes(port));
}

/** Those used by a route; the file may have others. */
function hopsOf({ targets, config }: Examination): HopConfig[] {
  const used = [...targets.flatMap(({ destination }) => destination.via), ...(config.sourceIp?.probe?.via ?? [])];
  return [...new Map(used.map((hop) => [hop.name, hop])).values()];
}

async function checkHop(hop: HopConfig, { tools, isSelf }: Examination): Promise<DoctorFinding[]> {
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

/** TCP to every permitted address and port, where the route has no hop. */
export async function checkTcp(target: Target, { tools, trail }: Examination): Promise<DoctorFinding[]> {
  const { destination, host, port, where } = target;
  if (destination.via.length > 0) return [skipped(where, `by ${destination.via.map(({ name }) => name).join(', then ')}: see hops`)];
  const addresses = trail.addresses.get(targetKey(target)) ?? [];
  if (addresses.length === 0) return [skipped(where, 'no address to dial: see names')];
  const reached: string[] = [];
  let timeouts = 0;
  const findings = await Promise.all(
    addresses.map(async (address) => {
      const at = addresses.length === 1 ? where : `${where} at ${address}`;
      if (trail.routeless.has(address)) return skipped(at, 'no route: see route');
      const began = performance.now();
      try {
        const socket = await tools.connect(host, port, [address]);
        socket.destroy();
        reached.push(address);
        return ok(at, `${formatAuthority(address, port)} accepted the connection in ${Math.round(performance.now() - began)} ms`);
      } catch (error) {
        const fault = Fault.from(error);
        if (fault.code === 'connect-timeout' && !target.guessed) timeouts += 1;
        return failToReach(target, at, fault);
      }
    }),
  );
  if (reached.length > 0) trail.reached.set(targetKey(target), reached);
  else if (timeouts > 0) trail.silent.add(targetKey(target));
  return findings;
}

function failToReach({ guessed }: Target, subject: string, fault: Fault): DoctorFinding {
  return guessed
    ? skipped(subject, `${fault.code}; which ports of the range are in use is not known`, 'Give one that is with --target.')
    : failBy(subject, fault);
}

/** Each parent proxy separately: whether it accepts us, and connects to the next hop or the target. */
export async function checkHops(examination: Examination): Promise<DoctorFinding[]> {
  const { targets } = examination;
  return (
    await Promise.all(
      targets.filter(({ destination }) => destination.via.length > 0).map((target) => checkTargetRoute(target, examination)),
    )
  ).flat();
}

async function checkTargetRoute(target: Target, examination: Examination): Promise<DoctorFinding[]> {
  const { destination, where } = target;
  const { trail } = examination;
  if (destination.resolve === 'here' && (trail.addresses.get(targetKey(target)) ?? []).length === 0)
    return [skipped(where, 'no address to ask for: see names')];
  const parents = destination.via.flatMap((hop, depth) => hop.parents.map((parent) => ({ hop, parent, depth })));
  const findings = await Promise.all(parents.map((at) => checkParent(target, at, examination)));
  const last = destination.via.length - 1;
  if (findings.some(({ state }, index) => state === 'ok' && parents[index]?.depth === last))
    trail.reached.set(targetKey(target), trail.addresses.get(targetKey(target)) ?? []);
  return findings;
}

interface ParentAt {
  readonly hop: HopConfig;
  readonly parent: ParentConfig;
  readonly depth: number;
}

/** Each is asked for the next parent, the last one for the target. */
async function checkParent(target: Target, { hop, parent, depth }: ParentAt, { isSelf, tools }: Examination): Promise<DoctorFinding> {
  const { destination, where } = target;
  const [next] = destination.via[depth + 1]?.parents ?? [];
  const asked = next === undefined ? where : formatAuthority(next.host, next.port);
  const subject = `${hop.name} ${parent.scheme}://${formatAuthority(parent.host, parent.port)}`;
  const whole = dialTargetOf(target, isSelf, false);
  const via = (whole.via ?? [])
    .slice(0, depth + 1)
    .map((step, index) => (index === depth ? { ...step, hop: { ...hop, parents: [parent] } } : step));
  // A parent is requested by name: the hop before it resolves the name.
  const dialled = next === undefined ? { ...whole, via } : { host: next.host, port: next.port, tls: null, via, resolve: 'parent' as const };
  const began = performance.now();
  try {
    const { socket } = await tools.dial(dialled, targetGuard(target));
    socket.destroy();
    return ok(subject, `connects us to ${asked} in ${Math.round(performance.now() - began)} ms`);
  } catch (error) {
    const fault = Fault.from(error);
    return fault.code === 'hop-upstream-failed' && next === undefined ? failToReach(target, subject, fault) : failBy(subject, fault);
  }
}

/** Why a partner does not answer when connects time out: from the source address and the ports together. */
export function checkSilence({ targets, trail }: Examination): DoctorFinding[] {
  const { ports, silent, verification } = trail;
  const cause = judgeSilence({ source: verification?.result ?? 'off', stale: false, ports: ports ?? { used: 0, limit: null } });
  if (cause === null) return [];
  const { words, check } = SILENCE[cause];
  return targets
    .filter((target) => silent.has(targetKey(target)))
    .map(({ where }) => warn(where, 'partner-silent', `${cause}: ${words}`, `${check.charAt(0).toUpperCase()}${check.slice(1)}.`));
}

/** Reached without the public NAT. */
const INSIDE: ReadonlySet<AddressClass> = new Set(['private', 'unique-local', 'shared']);

/** Whether the address that partners see is the expected one, and whether it could be at all. */
export async function checkSourceAddress(examination: Examination): Promise<DoctorFinding[]> {
  return [await verify(examination), ...findPrivatePartners(examination)];
}

async function verify({ trail, verifySource }: Examination): Promise<DoctorFinding> {
  const verification = await verifySource();
  trail.verification = verification;
  if (verification === null)
    return skipped('', 'no endpoint is configured that tells which address is seen', 'Set sourceIp.expected and sourceIp.probe.url.');
  const { result, expected, observations, causes, url } = verification;
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))].join(' and ');
  const advice = causes.map(({ cause, check }) => `${cause}: ${check}`).join('. ');
  switch (result) {
    case 'match':
      return ok(url, `${seen} is seen, as expected`);
    case 'mismatch':
      return fail(url, 'source-address-wrong', `${seen} is seen, and ${expected.join(' or ')} is expected`, advice);
    case 'unjudged':
      return warn(
        url,
        'source-address-unjudged',
        `${seen} is seen, and nothing is expected`,
        'Set sourceIp.expected to the address that the partner permits.',
      );
    case 'unknown': {
      const [failed] = observations.filter(({ code }) => code !== null);
      return fail(url, failed?.code ?? 'internal', failed?.reason ?? 'no answer', advice);
    }
  }
}

/** A public NAT never applies to them, so the public address never appears there, even if an endpoint elsewhere sees it. */
function findPrivatePartners({ config, targets, trail }: Examination): DoctorFinding[] {
  const expected = config.sourceIp?.expected ?? [];
  if (!expected.some((address) => classifyAddress(address)?.class === 'public')) return [];
  const hosts = new Map<string, string[]>();
  for (const target of targets)
    if (target.destination.via.length === 0)
      hosts.set(target.host, [...(hosts.get(target.host) ?? []), ...(trail.addresses.get(targetKey(target)) ?? [])]);
  return [...hosts].flatMap(([host, addresses]) => {
    const inside = [...new Set(addresses)].filter((address) => INSIDE.has(classifyAddress(address)?.class ?? 'public'));
    if (inside.length === 0) return [];
    return [
      fail(
        host,
        'private-behind-nat',
        `${inside.join(', ')} is private: a public NAT does not apply on this route, and ${expected.join(' or ')} never appears`,
        'Use Private NAT (type=PRIVATE) for this route, and have the partner permit its address: docs/one-address.md.',
      ),
    ];
  });
}
