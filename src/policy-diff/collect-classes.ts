/** Merges the results of single cells into classes of requests: the same change for several peers, and for several hosts. */
import { type CellChange, type CellTarget, changeText, joinCodes } from './compare-cell.ts';
import { DIFF_CHANGES, type DiffChange, type DiffClass, type HostAtom, type PathSet, type ResolvedSet } from './diff-class.ts';
import type { DiffVerdict } from './judge-request.ts';
import type { PeerPair } from './peer-pairs.ts';
import type { Meter } from './work.ts';

/** Hosts, or a prefix, with the same destinations. */
export interface TargetGroup extends CellTarget {
  readonly hosts: readonly HostAtom[];
}

/** A change with its addresses. */
export type FoundChange = Omit<CellChange, 'before' | 'after'> & {
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  readonly resolved: ResolvedSet | null;
};

interface OpenClass {
  change: FoundChange;
  /** Some of its peers can use the form `sni`. */
  bare: boolean;
  readonly group: TargetGroup;
  readonly pairs: PeerPair[];
  codes: FoundChange['codes'];
}

/** Takes changes one by one, and merges those that differ in their peers only, then those that differ in their hosts only. */
export class ClassCollector {
  readonly #ids = new Map<unknown, number>();
  readonly #open = new Map<string, OpenClass[]>();

  /** Peers of which none can use the form `sni` join a class with it: they have no such requests. */
  add(group: TargetGroup, pairs: readonly PeerPair[], change: FoundChange): void {
    const bare = pairs.every((pair) => pair.bare !== null);
    const shared = change.forms.filter((form) => form !== 'sni');
    const key = `${this.#id(group)} ${this.#keyOf(shared.length === 0 ? change : { ...change, forms: shared })}`;
    const open = this.#open.get(key) ?? [];
    this.#open.set(key, open);
    const known = open.find((one) => !bare || !one.bare || one.change.forms.length === change.forms.length);
    if (known === undefined) {
      open.push({ change, group, pairs: [...pairs], codes: change.codes, bare });
      return;
    }
    known.pairs.push(...pairs);
    known.codes = joinCodes([known.codes, change.codes]);
    if (bare && !known.bare) [known.change, known.bare] = [change, true];
  }

  /** In the order of `DIFF_CHANGES`. @param allPairs how many kinds of peers there are */
  *classes(allPairs: number, meter: Meter): Generator<undefined, DiffClass[]> {
    const joined = new Map<
      string,
      Omit<DiffClass, 'codes'> & { readonly hosts: HostAtom[]; readonly prefixes: string[]; codes: DiffClass['codes'] }
    >();
    for (const { change, group, pairs, codes } of [...this.#open.values()].flat()) {
      meter.spend(2 + (pairs.length >> 3));
      yield;
      const who =
        pairs.length === allPairs
          ? 'all'
          : pairs
              .map((pair) => this.#id(pair))
              .sort((a, b) => a - b)
              .join();
      const key = `${group.prefix === null} ${who} ${this.#keyOf(change)}`;
      const known = joined.get(key);
      const prefixes = group.prefix === null ? [] : [group.prefix];
      if (known === undefined)
        joined.set(key, { ...change, codes, change: kindOf(change), hosts: [...group.hosts], prefixes, peers: pairs.toSorted(byClient) });
      else {
        known.hosts.push(...group.hosts);
        known.prefixes.push(...prefixes);
        known.codes = joinCodes([known.codes, codes]);
      }
    }
    return [...joined.values()].sort((one, other) => DIFF_CHANGES.indexOf(one.change) - DIFF_CHANGES.indexOf(other.change));
  }

  #keyOf(change: FoundChange): string {
    const { forms, schemes, ports, methods, paths, times, resolved } = change;
    return JSON.stringify([
      changeText(change),
      forms,
      schemes,
      ports,
      methods,
      this.#pathsText(paths),
      times.map(String),
      resolved === null ? '' : this.#resolvedText(resolved),
    ]);
  }

  #pathsText({ cut, atoms }: PathSet): unknown {
    return cut.lists.length === 0 && atoms.length === cut.atoms.length ? 'any' : [this.#id(cut), atoms];
  }

  /** Its text leaves out what is too long to read. */
  #resolvedText({ text, intervals }: ResolvedSet): string {
    return `${text} ${intervals.map(({ bits, first, last }) => `${bits} ${first} ${last}`).join()}`;
  }

  #id(thing: unknown): number {
    const id = this.#ids.get(thing) ?? this.#ids.size;
    this.#ids.set(thing, id);
    return id;
  }
}

/** In the order of the files; peers that are no client come last. */
function byClient(one: PeerPair, other: PeerPair): number {
  const place = ({ before, after }: PeerPair): number =>
    typeof before === 'number' ? before : typeof after === 'number' ? after : Infinity;
  return place(one) === place(other) ? 0 : place(one) - place(other);
}

function kindOf({ before, after }: Pick<FoundChange, 'before' | 'after'>): DiffChange {
  if (before.verdict === 'deny') return after.verdict === 'deny' ? 'refused' : 'allowed';
  return after.verdict === 'deny' ? 'denied' : 'otherwise';
}
