/** Each parent proxy by itself: whether it takes us, and connects to what lies behind it. */
import type { HopConfig, ParentConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { formatAuthority } from '../target/host.ts';
import { type Examination, hostKey, targetKey } from './examination.ts';
import { failBy, type Finding, ok, skipped } from './finding.ts';
import { dialTargetOf, guardOf, type Target } from './targets.ts';

export async function checkHops(examination: Examination): Promise<Finding[]> {
  const { targets } = examination;
  return (await Promise.all(targets.filter(({ destination }) => destination.via.length > 0).map((target) => checkWay(target, examination)))).flat();
}

async function checkWay(target: Target, examination: Examination): Promise<Finding[]> {
  const { destination, where } = target;
  const { trail } = examination;
  if (destination.resolve === 'here' && (trail.addresses.get(hostKey(target)) ?? []).length === 0) return [skipped(where, 'no address to ask for: see names')];
  const parents = destination.via.flatMap((hop, depth) => hop.parents.map((parent) => ({ hop, parent, depth })));
  const findings = await Promise.all(parents.map((at) => checkParent(target, at, examination)));
  const last = destination.via.length - 1;
  if (findings.some(({ state }, index) => state === 'ok' && parents[index]?.depth === last)) trail.reached.set(targetKey(target), trail.addresses.get(hostKey(target)) ?? []);
  return findings;
}

interface ParentAt {
  readonly hop: HopConfig;
  readonly parent: ParentConfig;
  readonly depth: number;
}

/** Asked for the next parent, the last one for the target. */
async function checkParent(target: Target, { hop, parent, depth }: ParentAt, { isSelf, tools }: Examination): Promise<Finding> {
  const { destination, where } = target;
  const [next] = destination.via[depth + 1]?.parents ?? [];
  const asked = next === undefined ? where : formatAuthority(next.host, next.port);
  const subject = `${hop.name} ${parent.scheme}://${formatAuthority(parent.host, parent.port)}`;
  const whole = dialTargetOf(target, isSelf, false);
  const via = (whole.via ?? []).slice(0, depth + 1).map((step, index) => (index === depth ? { ...step, hop: { ...hop, parents: [parent] } } : step));
  // A parent is asked for by its name: whoever lies before it resolves it.
  const dialled = next === undefined ? { ...whole, via } : { host: next.host, port: next.port, tls: null, via, resolve: 'parent' as const };
  const began = performance.now();
  try {
    const { socket } = await tools.dial(dialled, guardOf(target));
    socket.destroy();
    return ok(subject, `connects us to ${asked} in ${Math.round(performance.now() - began)} ms`);
  } catch (error) {
    return failBy(subject, Fault.from(error));
  }
}
