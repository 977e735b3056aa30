/** Addresses of a name that would be dialled by one policy, but not by the other. */
import type { DestinationConfig } from '../config/config.ts';
import { classifyAddress, IPV4_RANGES, IPV6_RANGES } from '../policy/address-class.ts';
import { ANONYMOUS } from '../policy/client-table.ts';
import type { Policy } from '../policy/compile.ts';
import { type AddressAtom, type AddressInterval, cutIntervals, describeIntervals, joinIntervals, readInterval } from './address-sets.ts';
import type { ResolvedSet } from './diff-class.ts';
import { type AddressFate, type DiffVerdict, judgesAddresses, keyOfVerdict } from './judge-request.ts';

/** Beyond this many, ranges are not listed. */
const MOST_RANGES = 4;

/** A part of what two verdicts cover, by the addresses of names. */
export interface FatePart {
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  /** Null: wherever the name resolves to. */
  readonly resolved: ResolvedSet | null;
}

/** What the guard of a destination depends on: equal texts decide alike. */
export function guardText(mode: Policy['mode'], destination: DestinationConfig | null): string {
  const { via, resolve, addresses, report } = destination ?? ANONYMOUS;
  if (via.length > 0 && resolve === 'parent') return 'parent';
  return JSON.stringify([addresses === null ? null : addresses.toSorted(), mode === 'report' || report]);
}

/** The result for addresses, computed once for each guard. */
export class AddressFates {
  readonly #guards = new Map<string, { readonly judge: (address: string) => AddressFate; readonly known: Map<string, AddressFate> }>();
  readonly #texts = new Map<DestinationConfig | null, { readonly enforce: string; readonly report: string }>();

  /** @param destination null: the one for hosts in no destination */
  of(mode: Policy['mode'], destination: DestinationConfig | null, address: string): AddressFate {
    const text = this.text(mode, destination);
    let guard = this.#guards.get(text);
    if (guard === undefined)
      this.#guards.set(text, (guard = { judge: judgesAddresses(mode, destination) ?? (() => 'pass'), known: new Map() }));
    let fate = guard.known.get(address);
    if (fate === undefined) guard.known.set(address, (fate = guard.judge(address)));
    return fate;
  }

  /** Equal for guards that decide alike. */
  text(mode: Policy['mode'], destination: DestinationConfig | null): string {
    let texts = this.#texts.get(destination);
    if (texts === undefined)
      this.#texts.set(destination, (texts = { enforce: guardText('enforce', destination), report: guardText('report', destination) }));
    return texts[mode];
  }
}

/** A verdict with the result for an address. */
export function withFate(verdict: DiffVerdict, fate: AddressFate): DiffVerdict {
  if (verdict.verdict === 'deny' || fate === 'pass') return verdict;
  if (fate === 'report') return verdict.verdict === 'report' ? verdict : { ...verdict, verdict: 'report', code: 'address-not-allowed' };
  return { ...verdict, verdict: 'deny', code: 'address-not-allowed', rule: null, ruleName: null, leads: '' };
}

/** Splits what two verdicts cover by address; caches the parts. */
export class FateSplitter {
  readonly #modes: readonly [Policy['mode'], Policy['mode']];
  readonly #fates: AddressFates;
  readonly #known = new Map<string, readonly FateGroup[]>();

  constructor(modes: readonly [before: Policy['mode'], after: Policy['mode']], fates: AddressFates) {
    this.#modes = modes;
    this.#fates = fates;
  }

  /** The parts that differ. A part that is refused on one side only by its address, and on the other in any case, is not included. */
  split(before: DiffVerdict, after: DiffVerdict): FatePart[] {
    const passes = [before.verdict !== 'deny', after.verdict !== 'deny'];
    if (!passes.includes(true)) return [{ before, after, resolved: null }];
    const guards = [before, after].map(({ destination }, side) =>
      passes[side] === true ? this.#fates.text(this.#modes[side as 0 | 1], destination) : null,
    );
    if (guards[0] === guards[1] || (passes.includes(false) && guards.includes('parent'))) return [{ before, after, resolved: null }];
    const key = guards.join(' ');
    let groups = this.#known.get(key);
    if (groups === undefined) this.#known.set(key, (groups = this.#cut(before, after)));
    const parts = new Map<string, FatePart & { readonly groups: FateGroup[] }>();
    for (const group of groups) {
      const [one, other] = [withFate(before, group.fates[0]), withFate(after, group.fates[1])];
      const keys = [keyOfVerdict(one), keyOfVerdict(other)];
      if (keys[0] === keys[1] || (one.verdict === 'deny' && other.verdict === 'deny')) continue;
      const known = parts.get(keys.join(' '));
      if (known === undefined) parts.set(keys.join(' '), { before: one, after: other, resolved: null, groups: [group] });
      else known.groups.push(group);
    }
    return [...parts.values()].map((part) => ({
      before: part.before,
      after: part.after,
      resolved: describeGroups(
        part.groups,
        groups,
        passes.includes(false) && ((before.verdict === 'deny' ? after : before).destination ?? ANONYMOUS).addresses === null,
      ),
    }));
  }

  /** Grouped by what guards check in an address: whether it is in their ranges, and whether it is public. */
  #cut(before: DiffVerdict, after: DiffVerdict): FateGroup[] {
    const ranges = [before, after].map(({ verdict, destination }) => (verdict === 'deny' ? [] : (destination?.addresses ?? [])));
    const fateOf = ({ verdict, destination }: DiffVerdict, side: 0 | 1, address: string): AddressFate =>
      verdict === 'deny' ? 'pass' : this.#fates.of(this.#modes[side], destination, address);
    const groups = new Map<string, FateGroup>();
    for (const atom of cutIntervals([...ranges.map((cidrs) => cidrs.map(readInterval)), ...SPECIAL])) {
      const vector = atom.lists.filter((list) => list < ranges.length).join();
      const isPublic = classifyAddress(atom.witness)?.class === 'public';
      // A guard checks nothing else.
      const key = `${vector} ${isPublic}`;
      const known = groups.get(key);
      if (known === undefined)
        groups.set(key, { fates: [fateOf(before, 0, atom.witness), fateOf(after, 1, atom.witness)], vector, isPublic, atoms: [atom] });
      else known.atoms.push(atom);
    }
    return [...groups.values()];
  }
}

interface FateGroup {
  readonly fates: readonly [before: AddressFate, after: AddressFate];
  /** Which lists of ranges contain them; empty: none. */
  readonly vector: string;
  readonly isPublic: boolean;
  readonly atoms: AddressAtom[];
}

/** Ranges that decide whether an address is public; the IPv4 ones again behind a translator's prefix. */
const SPECIAL: readonly (readonly AddressInterval[])[] = [...IPV4_RANGES, ...IPV6_RANGES]
  .map(({ cidr }) => [readInterval(cidr)])
  .concat(
    IPV4_RANGES.map(({ cidr }) => {
      const [address = '', bits = '32'] = cidr.split('/');
      return [readInterval(`64:ff9b::${address}/${96 + Number(bits)}`)];
    }),
  );

function describeGroups(groups: readonly FateGroup[], all: readonly FateGroup[], usual: boolean): ResolvedSet {
  const [first] = groups.flatMap(({ vector, atoms }) => (vector === '' ? [] : atoms)).concat(groups.flatMap(({ atoms }) => atoms));
  const set = { usual, intervals: intervalsOf(groups), witness: first?.witness ?? '' };
  if (groups.length === all.length) return { ...set, text: 'any addresses', usual: false };
  const parts: string[] = [];
  const free = groups.some(({ vector, isPublic }) => vector === '' && isPublic);
  if (free) {
    const listed = all.filter(({ vector }) => vector !== '');
    const none = !listed.some((group) => groups.includes(group));
    const left = none ? listed : listed.filter((group) => group.isPublic && !groups.includes(group));
    parts.push(
      `public addresses${left.some(({ isPublic }) => isPublic) ? ` outside ${describeIntervals(intervalsOf(left), MOST_RANGES)}` : ''}`,
    );
  }
  if (groups.some(({ vector, isPublic }) => vector === '' && !isPublic)) parts.push('other addresses that are not public');
  for (const [vector, own] of Map.groupBy(
    groups.filter((group) => group.vector !== '' && !(free && group.isPublic)),
    (group) => group.vector,
  )) {
    const whole = all.filter((group) => group.vector === vector);
    const ranges = describeIntervals(intervalsOf(whole), MOST_RANGES);
    parts.push(
      own.length === whole.length
        ? ranges
        : own.some(({ isPublic }) => isPublic)
          ? `public addresses in ${ranges}`
          : `addresses in ${ranges} that are not public`,
    );
  }
  return { ...set, text: parts.join(' or ') };
}

function intervalsOf(groups: readonly FateGroup[]): AddressInterval[] {
  return joinIntervals(groups.flatMap(({ atoms }) => atoms.flatMap(({ intervals }) => intervals)));
}
