/**
 * Compares two policies: which requests they decide differently, all of them
 * and no others. Hosts first: a host, or "all others below a suffix", has a few
 * destinations, and if these and their rules are the same in both policies it
 * is skipped. The rest is divided into pieces that both policies treat as one,
 * and each piece is decided by the code that serves requests.
 */
import { isIP } from 'node:net';
import { type CompiledDestination, compilePolicy, type Policy, type PolicyConfig } from '../policy/compile.ts';
import { decisiveOf } from '../policy/same-rules.ts';
import { mergePorts } from '../targets/port-range.ts';
import { AddressFates, FateSplitter, guardText } from './address-fates.ts';
import { ClassCollector, type TargetGroup } from './collect-classes.ts';
import { chainsOf, compareCell, type Comparison } from './compare-cell.ts';
import { PathCutter } from './cut-requests.ts';
import { type HostAtom, OTHER_HOSTS, type PolicyDiff } from './diff-class.ts';
import { findPrefix, makeSides, type PolicySide } from './judge-request.ts';
import { listHostAtoms, type PeerPair, pairPeers, type WhoAsks } from './peer-pairs.ts';
import { type Meter, NO_BOUND, runSteps } from './work.ts';

/** With the positions of its destinations. */
interface IndexedTarget extends TargetGroup {
  readonly indexes: readonly [before: readonly number[], after: readonly number[]];
}

/** Clients with the same rules. */
interface PeerBucket {
  readonly pairs: readonly PeerPair[];
  /** The same for peers that no rule joins with a destination. */
  readonly stranger: string;
}

/**
 * Yields from time to time, so that it can be done in slices.
 * @param start requests before this time, ms since the epoch, are not compared
 * @throws {TooMuchWork} when the meter's limit is exceeded
 */
export function* comparePolicies(before: Policy, after: Policy, start: number, meter: Meter): Generator<undefined, PolicyDiff> {
  const sides = makeSides(before, after);
  const comparison: Comparison = { sides, start, meter, paths: new PathCutter(meter), fates: new AddressFates() };
  // Each of these walks a whole file, and has its own slice.
  const size = before.rules.length + before.destinations.length + after.rules.length + after.destinations.length;
  const pause = function* (): Generator<undefined, void> {
    meter.spend(size);
    yield;
  };
  yield* pause();
  const pairs = yield* pairPeers([before, after], meter);
  yield* pause();
  const contents = new Contents(sides);
  yield* pause();
  const buckets = sortPeers(sides, pairs, contents);
  yield* pause();
  const fates = new FateSplitter([before.mode, after.mode], comparison.fates);
  const found = new ClassCollector();
  const groups = [...groupHosts(sides), ...groupPrefixes(sides)];
  yield* pause();
  for (const group of groups) {
    meter.spend(1 + (buckets.all.length >> 5));
    yield;
    for (const bucket of bucketsFor(group, buckets, contents)) {
      meter.spend(1);
      const [pair] = bucket.pairs;
      if (pair === undefined || !contents.mayDiffer(group, pair)) continue;
      for (const change of yield* compareCell(comparison, group, pair)) {
        const parts =
          group.host === null || isIP(group.host) === 0
            ? fates.split(change.before, change.after)
            : [{ before: change.before, after: change.after, resolved: null }];
        for (const part of parts)
          found.add(group, bucket.pairs, {
            ...change,
            ...part,
            codes: [
              part.before.code === change.before.code ? change.codes[0] : [part.before.code],
              part.after.code === change.after.code ? change.codes[1] : [part.after.code],
            ],
          });
      }
      yield;
    }
  }
  const patterns = new Set(sides.flatMap(({ policy }) => policy.destinations.flatMap(({ config }) => config.hosts)));
  return {
    classes: yield* found.classes(pairs.length, meter),
    pairs,
    patterns,
    prefixes: [...sides[0].prefixes],
    start,
    clients: sides.map(({ policy }) => policy.clients.map(({ config }) => config.name)) as [string[], string[]],
  };
}

/** Synchronously. @throws {TooMuchWork} */
export function comparePolicyConfigs(before: PolicyConfig, after: PolicyConfig, start: number, meter: Meter = NO_BOUND): PolicyDiff {
  return runSteps(comparePolicies(compilePolicy(before), compilePolicy(after), start, meter));
}

// Hosts and prefixes, grouped by their destinations.

function groupHosts(sides: readonly [PolicySide, PolicySide]): IndexedTarget[] {
  const patterns = new Set(sides.flatMap(({ policy }) => policy.destinations.flatMap(({ config }) => config.hosts)));
  let other = 'other.example';
  while (sides.some(({ policy }) => policy.hosts.find(other).length > 0)) other = `${other.replace(/\.[a-z]+$/, '')}.x${other.length}z`;
  const atoms: HostAtom[] = [...listHostAtoms(patterns), { pattern: OTHER_HOSTS, witness: other }];
  const groups = new Map<string, IndexedTarget & { readonly hosts: HostAtom[] }>();
  for (const atom of atoms) {
    const [one, later] = sides.map(({ policy }) => policy.hosts.find(atom.witness)) as [readonly number[], readonly number[]];
    const key = `${one.join()} ${later.join()} ${isIP(atom.witness) === 0 ? '' : atom.witness}`;
    const known = groups.get(key);
    if (known !== undefined) known.hosts.push(atom);
    else
      groups.set(key, {
        host: atom.witness,
        prefix: null,
        deeper: [],
        hosts: [atom],
        indexes: [one, later],
        destinations: [pick(sides[0], one), pick(sides[1], later)],
      });
  }
  return [...groups.values()];
}

function groupPrefixes(sides: readonly [PolicySide, PolicySide]): IndexedTarget[] {
  const prefixes = [...sides[0].prefixes];
  const sorted = prefixes.toSorted();
  return prefixes.map((prefix) => {
    const indexes = sides.map(({ gateways }) => {
      const destination = gateways.get(findPrefix(gateways, prefix) ?? '');
      return destination === undefined ? [] : [destination.index];
    }) as unknown as [readonly number[], readonly number[]];
    const below = `${prefix}/`;
    let at = lowerBound(sorted, below);
    const deeper: string[] = [];
    for (let text = sorted[at]; text?.startsWith(below) === true; text = sorted[(at += 1)]) deeper.push(text.slice(prefix.length));
    return { host: null, prefix, deeper, hosts: [], indexes, destinations: [pick(sides[0], indexes[0]), pick(sides[1], indexes[1])] };
  });
}

function lowerBound(sorted: readonly string[], text: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? '') < text) low = middle + 1;
    else high = middle;
  }
  return low;
}

function pick({ policy }: PolicySide, indexes: readonly number[]): CompiledDestination[] {
  return indexes.flatMap((index) => policy.destinations[index] ?? []);
}

// Peers, grouped by their rules.

interface Buckets {
  /** By the rows of both clients, or the codes. */
  readonly all: readonly PeerBucket[];
  /** For each side and destination, the buckets that some rule joins with it. */
  readonly joined: readonly [ReadonlyMap<number, readonly number[]>, ReadonlyMap<number, readonly number[]>];
}

function sortPeers(sides: readonly [PolicySide, PolicySide], pairs: readonly PeerPair[], contents: Contents): Buckets {
  const ids = new Map<unknown, number>();
  const rowOf = ({ policy }: PolicySide, who: WhoAsks): string => {
    if (typeof who !== 'number') return who;
    const row = policy.clients[who]?.rules;
    const id = ids.get(row) ?? ids.size;
    ids.set(row, id);
    return String(id);
  };
  const groups = Map.groupBy(
    pairs,
    ({ before, after, bare }) =>
      `${rowOf(sides[0], before)} ${rowOf(sides[1], after)} ${clientNameOf(sides[0], before) === clientNameOf(sides[1], after) ? '' : `${clientNameOf(sides[0], before)} ${clientNameOf(sides[1], after)}`} ${bare !== null}`,
  );
  const all = [...groups.values()].map((own): PeerBucket => ({
    pairs: own,
    stranger: own[0] === undefined ? '' : contents.strangerText(own[0]),
  }));
  const joined = ([0, 1] as const).map((side) =>
    joinBuckets(
      sides[side].policy,
      all.map(({ pairs: [pair] }) => (side === 0 ? pair?.before : pair?.after)),
    ),
  );
  return { all, joined: [joined[0] ?? new Map<number, number[]>(), joined[1] ?? new Map<number, number[]>()] };
}

/** For each destination the buckets that a rule joins with it. @param who a client of each bucket */
function joinBuckets(policy: Policy, who: readonly (WhoAsks | undefined)[]): Map<number, number[]> {
  const byRow = new Map<unknown, number[]>();
  for (const [bucket, client] of who.entries()) {
    const row = typeof client === 'number' ? policy.clients[client]?.rules : undefined;
    if (row === undefined) continue;
    const known = byRow.get(row) ?? [];
    byRow.set(row, known);
    known.push(bucket);
  }
  const rows = new Map(policy.clients.map(({ config, rules }) => [config.name, rules]));
  const places = new Map(policy.destinations.map(({ config, index }) => [config.name, index]));
  const joined = new Map<number, Set<number>>();
  for (const { config } of policy.rules) {
    const buckets = [...new Set(config.clients.map((name) => rows.get(name)))].flatMap((row) => byRow.get(row) ?? []);
    for (const name of config.destinations) {
      const place = places.get(name) ?? -1;
      const known = joined.get(place) ?? new Set();
      joined.set(place, known);
      for (const bucket of buckets) known.add(bucket);
    }
  }
  return new Map([...joined].map(([place, buckets]) => [place, [...buckets]]));
}

function clientNameOf({ policy }: PolicySide, who: WhoAsks): string {
  return typeof who === 'number' ? (policy.clients[who]?.config.name ?? '') : '';
}

/** Those that some rule joins with a destination of the group one by one, the others grouped by identity. */
function bucketsFor(group: IndexedTarget, { all, joined }: Buckets, contents: Contents): { readonly pairs: readonly PeerPair[] }[] {
  const special = new Set(([0, 1] as const).flatMap((side) => group.indexes[side].flatMap((index) => joined[side].get(index) ?? [])));
  const merged = new Map<string, { pairs: PeerPair[] }>();
  for (const [index, bucket] of all.entries()) {
    const [pair] = bucket.pairs;
    if (pair === undefined) continue;
    const key = special.has(index) ? contents.rulesText(group, pair) : bucket.stranger;
    const known = merged.get(key);
    if (known === undefined) merged.set(key, { pairs: [...bucket.pairs] });
    else known.pairs.push(...bucket.pairs);
  }
  return [...merged.values()];
}

/** What decisions depend on, as text: equal texts decide alike. */
class Contents {
  readonly #sides: readonly [PolicySide, PolicySide];
  readonly #destinations: readonly (readonly string[])[];
  readonly #rules: readonly (readonly string[])[];

  constructor(sides: readonly [PolicySide, PolicySide]) {
    this.#sides = sides;
    this.#destinations = sides.map(({ policy }) => policy.destinations.map(({ config }) => destinationText(policy, config)));
    this.#rules = sides.map(({ policy, ruleNames }) =>
      policy.rules.map(({ config, index }) => {
        const { methods, paths, from, until, report } = decisiveOf(config);
        return JSON.stringify([ruleNames[index], methods, paths, from, until, report]);
      }),
    );
  }

  mayDiffer({ destinations, prefix }: IndexedTarget, pair: PeerPair): boolean {
    const text = (side: 0 | 1): string => {
      const who = side === 0 ? pair.before : pair.after;
      const chains = chainsOf(this.#sides[side], who, destinations[side]);
      return JSON.stringify([
        this.#sides[side].policy.mode,
        typeof who === 'number' ? clientNameOf(this.#sides[side], who) : [who],
        destinations[side].map(({ index, config }) => [this.#destinations[side]?.[index], prefix === null ? null : config.gateway]),
        chains.map((chain) => chain.map(({ index }) => this.#rules[side]?.[index])),
      ]);
    };
    return text(0) !== text(1);
  }

  /** For peers that are joined with a destination of the group. */
  rulesText({ destinations }: IndexedTarget, pair: PeerPair): string {
    return (
      ([0, 1] as const)
        .map(
          (side) =>
            `${this.#who(side, pair)} ${chainsOf(this.#sides[side], side === 0 ? pair.before : pair.after, destinations[side])
              .map((chain) => chain.map(({ index }) => index).join())
              .join(';')}`,
        )
        .join(' ') + this.#names(pair)
    );
  }

  /** For peers that are joined with none: a peer that is no client has its code. */
  strangerText(pair: PeerPair): string {
    const named = this.#sides.every(({ policy }) => policy.mode === 'report' || policy.reportsSome);
    return `${this.#who(0, pair)} ${this.#who(1, pair)}${named ? this.#names(pair) : ` ${pair.bare !== null}`}`;
  }

  #who(side: 0 | 1, { before, after }: PeerPair): string {
    const who = side === 0 ? before : after;
    return typeof who === 'number' ? 'client' : who;
  }

  /** Names matter if both sides permit and differ; the form that a peer can use always does. */
  #names({ before, after, bare }: PeerPair): string {
    const [one, other] = [clientNameOf(this.#sides[0], before), clientNameOf(this.#sides[1], after)];
    return ` ${one === other ? '' : `${one} ${other}`} ${bare !== null}`;
  }
}

function destinationText({ mode }: Policy, config: CompiledDestination['config']): string {
  const { name, ports, forms, methods, paths, report, gateway, upgradePlainHttp } = config;
  return JSON.stringify([
    name,
    mergePorts(ports).map(String),
    ports[0] === undefined ? '' : String(ports[0]),
    forms.toSorted(),
    methods,
    paths,
    report,
    gateway?.encodedSlashes,
    upgradePlainHttp,
    guardText(mode, config),
  ]);
}
