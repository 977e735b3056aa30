/** Divides ports, methods, times and paths by what some destinations and rules distinguish: one representative of each piece is valid for all of it. */
import type { CompiledDestination, CompiledRule } from '../policy/compile.ts';
import { canonicalPath } from '../targets/path.ts';
import { compilePaths, matchesPath } from '../policy/patterns.ts';
import { firstPort, lastPort } from '../targets/port-range.ts';
import type { PathAtom, PathCut, PathList, Span } from './diff-class.ts';
import { cutTexts, tokenizePath } from './text-atoms.ts';
import type { Meter } from './work.ts';

/** Ports that the same destinations list. */
export interface PortAtom {
  readonly spans: readonly Span[];
  readonly witness: number;
}

const HIGHEST_PORT = 65_535;
/** Preferred as witnesses: well-known ports. */
const USUAL_PORTS = [443, 80, 8080];

/** Every port is in exactly one atom. */
export function cutPorts(destinations: readonly CompiledDestination[]): PortAtom[] {
  const edges = new Set([1, HIGHEST_PORT + 1]);
  for (const { config } of destinations) {
    for (const entry of config.ports) {
      edges.add(firstPort(entry));
      edges.add(lastPort(entry) + 1);
    }
  }
  const sorted = [...edges].sort((a, b) => a - b);
  const atoms = new Map<string, [number, number][]>();
  for (const [index, first] of sorted.slice(0, -1).entries()) {
    const last = (sorted[index + 1] ?? 0) - 1;
    const key = destinations.map(({ ports }) => (ports.has(first) ? '1' : '0')).join('');
    const spans = atoms.get(key) ?? [];
    atoms.set(key, spans);
    const before = spans.at(-1);
    if (before?.[1] === first - 1) before[1] = last;
    else spans.push([first, last]);
  }
  return [...atoms.values()].map((spans) => ({
    spans,
    witness: USUAL_PORTS.find((port) => spans.some(([first, last]) => first <= port && port <= last)) ?? spans[0]?.[0] ?? 1,
  }));
}

/** Methods that are in the same lists. */
export interface MethodAtom {
  /** Null: all methods that are in no list. */
  readonly named: readonly string[] | null;
  readonly witness: string;
}

const USUAL_METHODS = [
  'GET',
  'POST',
  'PUT',
  'DELETE',
  'PATCH',
  'HEAD',
  'OPTIONS',
  'PROPFIND',
  'REPORT',
  'SEARCH',
  'LINK',
  'MKCOL',
  'LOCK',
  'PURGE',
];

/** Every method is in exactly one atom. */
export function cutMethods(parts: readonly (CompiledDestination | CompiledRule)[]): MethodAtom[] {
  const sets = parts.flatMap(({ methods }) => methods ?? []);
  const named = new Set(parts.flatMap(({ methods }) => [...(methods ?? [])]));
  const atoms = Map.groupBy(named, (method) => sets.map((set) => (set.has(method) ? '1' : '0')).join(''));
  let other = USUAL_METHODS.find((method) => !named.has(method)) ?? 'TRACE';
  while (named.has(other)) other += 'X';
  return [{ named: null, witness: other }, ...[...atoms.values()].map((methods) => ({ named: methods, witness: methods[0] ?? '' }))];
}

/** From `start` on, up to each time at which a rule begins or ends. */
export function cutTimes(rules: readonly CompiledRule[], start: number): Span[] {
  const moments = new Set(rules.flatMap(({ from, until }) => [from, until]).filter((moment) => moment > start && moment < Infinity));
  const edges = [start, ...[...moments].sort((a, b) => a - b), Infinity];
  return edges.slice(0, -1).map((from, index) => [from, edges[index + 1] ?? Infinity]);
}

/** Divides paths, and caches the results. */
export class PathCutter {
  readonly #known = new Map<string, PathCut>();
  readonly #meter: Meter;

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  /**
   * @param gateway paths below a prefix, with `path` of each side put before the rest; null: whole paths
   * @param ambiguity whether ambiguous paths are a piece of their own
   */
  *cut(
    lists: readonly PathList[],
    { gateway, slashes, deeper }: { readonly gateway: boolean; readonly slashes: boolean; readonly deeper: readonly string[] },
  ): Generator<undefined, PathCut> {
    const distinct = [...new Map(lists.map((list) => [JSON.stringify(gateway ? list : [list.patterns]), list])).values()];
    const key = JSON.stringify([distinct, gateway, slashes, deeper]);
    let cut = this.#known.get(key);
    if (cut === undefined) this.#known.set(key, (cut = yield* this.#make(distinct, gateway, slashes, deeper)));
    return cut;
  }

  *#make(lists: readonly PathList[], gateway: boolean, slashes: boolean, deeper: readonly string[]): Generator<undefined, PathCut> {
    if (lists.length === 0 && !gateway) return { lists, atoms: [{ kind: 'plain', vector: '', text: '/' }] };
    const tokens = lists.map(({ patterns, before }) => ({
      patterns: patterns.map((pattern) => tokenizePath(canonicalPath(pattern))),
      before,
    }));
    // Paths of a longer prefix are marked by their own list, and left out.
    const nested = { patterns: deeper.flatMap((prefix) => [tokenizePath(prefix), tokenizePath(`${prefix}/*`)]), before: '' };
    const found = yield* cutTexts(
      deeper.length === 0 ? tokens : [...tokens, nested],
      { texts: 'path', encodedSlashes: slashes },
      this.#meter,
    );
    const atoms = found.flatMap(({ vector, text, slashed }): PathAtom[] => {
      if (deeper.length > 0 && vector.endsWith('1')) return [];
      return [{ kind: slashed ? 'slashed' : 'plain', vector: vector.slice(0, lists.length), text }];
    });
    // The only path without a slash: OPTIONS for a whole server, or a prefix alone.
    const bare = vectorOfPath(lists, gateway ? '' : '*');
    if (!atoms.some(({ kind, vector }) => kind === 'plain' && vector === bare))
      atoms.push({ kind: 'plain', vector: bare, text: gateway ? '' : '*' });
    atoms.push({ kind: 'ambiguous', vector: '', text: '/a//b' });
    return { lists, atoms };
  }
}

/** Which lists match an unambiguous path; for the gateway the part after its prefix. */
export function vectorOfPath(lists: readonly PathList[], path: string): string {
  return lists
    .map(({ patterns, before }) => {
      const whole = `${before}${path}`;
      return matchesPath(compilePaths(patterns), canonicalPath(whole === '' ? '/' : whole)) ? '1' : '0';
    })
    .join('');
}
