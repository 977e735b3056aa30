/** Whether HTTP is answered, by the whole way that the proxy goes. Any answer below 500 is well: what it says is between partner and client. */
import { Fault } from '../errors.ts';
import { type Examination, targetKey } from './examination.ts';
import { failBy, type Finding, judgeStatus, skipped } from './finding.ts';
import { dialTargetOf, guardOf, type Target } from './targets.ts';

export async function checkHttp(examination: Examination): Promise<Finding[]> {
  return (await Promise.all(examination.targets.map((target) => checkTarget(target, examination)))).flat();
}

async function checkTarget(target: Target, { host, isSelf, tools, trail }: Examination): Promise<Finding[]> {
  const { destination, protocol, where } = target;
  if (protocol === 'unknown') return trail.reached.has(targetKey(target)) ? [skipped(where, 'what this port speaks is not known')] : [];
  if (!trail.reached.has(targetKey(target))) return [skipped(where, 'not reached: see tcp and hops')];
  const origin = `${protocol === 'tls' ? 'https' : 'http'}://${where}`;
  const path = `${destination.gateway?.basePath ?? ''}/`;
  let dialled;
  try {
    dialled = await tools.dial(dialTargetOf(target, isSelf), guardOf(target));
  } catch {
    return [skipped(where, 'no connection: see tls')];
  }
  try {
    const asked = host.now();
    const { status, headers } = await tools.ask(dialled, { method: 'HEAD', origin, path });
    trail.answered.add(targetKey(target));
    noteClock(trail.clocks, where, headers['date'], (asked + host.now()) / 2);
    return [judgeStatus(where, `HEAD ${path} is answered ${status}`, status)];
  } catch (error) {
    return [failBy(where, Fault.from(error))];
  }
}

/** RFC 9110 §6.6.1: when the answer was made, to the second. */
export function noteClock(clocks: { where: string; ahead: number }[], where: string, date: string | string[] | undefined, now: number): void {
  const told = typeof date === 'string' ? Date.parse(date) : Number.NaN;
  if (!Number.isNaN(told)) clocks.push({ where, ahead: told - now });
}
