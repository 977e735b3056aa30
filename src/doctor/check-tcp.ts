/** TCP to every permitted address and port, where no hop is on the way. */
import { Fault } from '../errors.ts';
import { formatAuthority } from '../target/host.ts';
import { type Examination, hostKey, targetKey } from './examination.ts';
import { failBy, type Finding, ok, skipped } from './finding.ts';
import type { Target } from './targets.ts';

export async function checkTcp(examination: Examination): Promise<Finding[]> {
  return (await Promise.all(examination.targets.map((target) => checkTarget(target, examination)))).flat();
}

async function checkTarget(target: Target, { tools, trail }: Examination): Promise<Finding[]> {
  const { destination, host, port, where } = target;
  if (destination.via.length > 0) return [skipped(where, `by ${destination.via.map(({ name }) => name).join(', then ')}: see hops`)];
  const addresses = trail.addresses.get(hostKey(target)) ?? [];
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
        return ok(at, `${formatAuthority(address, port)} took the connection in ${Math.round(performance.now() - began)} ms`);
      } catch (error) {
        const fault = Fault.from(error);
        if (fault.code === 'connect-timeout') timeouts += 1;
        return failBy(at, fault);
      }
    }),
  );
  if (reached.length > 0) trail.reached.set(targetKey(target), reached);
  else if (timeouts > 0) trail.silent.add(targetKey(target));
  return findings;
}
