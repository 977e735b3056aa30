/** What a dial would find on its way: the parents, and the addresses of those that we dial ourselves. Dials nothing. */
import type { DestinationConfig, ParentConfig } from '../config/config.ts';
import type { Egress } from '../egress.ts';
import { Fault } from '../errors.ts';
import { type SurveyedAddress, surveyAddresses } from '../policy/address-guard.ts';
import { formatAuthority } from '../target/host.ts';

export interface SurveyedParent {
  /** `http://gw-a.example:3128`. */
  readonly url: string;
  /** Null: not looked up here, because it was not wanted or the hop before does that; a Fault of the look-up. */
  readonly found: readonly SurveyedAddress[] | Fault | null;
}

export interface SurveyedHop {
  readonly name: string;
  readonly parents: readonly SurveyedParent[];
}

/** Nearest to us first; empty: directly. */
export function surveyWay(egress: Pick<Egress, 'nearestHop' | 'dialler'>, destination: DestinationConfig, lookUp: boolean): Promise<SurveyedHop[]> {
  const nearest = egress.nearestHop(destination);
  return Promise.all(
    destination.via.map(async (hop, index) => ({
      name: hop.name,
      parents: await Promise.all(
        hop.parents.map(async (parent) => ({ url: urlOf(parent), found: nearest === null || index > 0 || !lookUp ? null : await look(egress, nearest.guard, parent) })),
      ),
    })),
  );
}

async function look({ dialler }: Pick<Egress, 'dialler'>, guard: NonNullable<ReturnType<Egress['nearestHop']>>['guard'], { host, port }: ParentConfig): Promise<readonly SurveyedAddress[] | Fault> {
  try {
    return surveyAddresses({ enforcing: guard, lenient: null }, await dialler.resolve(host, new AbortController().signal), port);
  } catch (error) {
    return Fault.from(error);
  }
}

/** Why no parent of the nearest hop can be dialled; null: one can, or nobody looked. */
export function findBlockage([nearest]: readonly SurveyedHop[]): Fault | null {
  if (nearest === undefined) return null;
  const refusals = nearest.parents.map(({ found }) => {
    if (found === null) return null;
    if (found instanceof Fault) return found;
    return found.some(({ refusal }) => refusal === null) ? null : (found[0]?.refusal ?? null);
  });
  const [first] = refusals;
  if (first === undefined || first === null || refusals.includes(null)) return null;
  // As a dial would put it: a name of a parent is none of the partner's.
  return first.code === 'loop' ? first : new Fault('hop-failed', first.message, { remedy: first.remedy ?? '' });
}

function urlOf({ scheme, host, port }: ParentConfig): string {
  return `${scheme}://${formatAuthority(host, port)}`;
}
