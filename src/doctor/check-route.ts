/** Whether a route leads to each address, and from which address of ours. Sends nothing. */
import { Fault } from '../errors.ts';
import { type Examination, hostKey } from './examination.ts';
import { failBy, type Finding, ok } from './finding.ts';

export async function checkRoute({ targets, tools, trail }: Examination): Promise<Finding[]> {
  const places = new Map<string, number>();
  for (const target of targets) {
    if (target.destination.via.length > 0) continue;
    for (const address of trail.addresses.get(hostKey(target)) ?? []) places.set(address, target.port);
  }
  return Promise.all(
    [...places].map(async ([address, port]) => {
      try {
        return ok(address, `from ${await tools.localAddress(address, port)}`);
      } catch (error) {
        trail.routeless.add(address);
        return failBy(address, Fault.from(error));
      }
    }),
  );
}
