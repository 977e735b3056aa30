/**
 * Finds the lists that have an entry for a text, exact or with `*`, in time
 * that does not grow with their number: patterns hang on a tree of what stands
 * before their first star, which is walked once along the text.
 */
import { matchWildcard } from './wildcard.ts';

export interface PatternTable {
  /** Indexes of the lists, each once, in ascending order. */
  find(text: string): readonly number[];
}

interface Entry {
  readonly pattern: string;
  readonly list: number;
}

/** What all below it begins with, after what is above it. */
interface PrefixNode {
  readonly edge: string;
  /** Patterns whose first star comes right here. */
  readonly here: readonly Entry[];
  /** By the code of the first character of their edge. */
  readonly below: ReadonlyMap<number, PrefixNode>;
}

const NONE: readonly number[] = [];

/**
 * @param lists index and entries of each list, in ascending order
 * @param stops characters that a star does not go past, unless it ends its entry
 */
export function buildPatternTable(lists: Iterable<readonly [index: number, entries: readonly string[]]>, stops: string): PatternTable {
  const exact = new Map<string, number[]>();
  const wild: Entry[] = [];
  for (const [list, entries] of lists) {
    for (const entry of new Set(entries)) {
      if (entry.includes('*')) wild.push({ pattern: entry, list });
      else if (exact.get(entry)?.push(list) === undefined) exact.set(entry, [list]);
    }
  }
  const root = wild.length === 0 ? null : buildNode(wild, 0);

  return {
    find(text) {
      const same = exact.get(text) ?? NONE;
      if (root === null) return same;
      const found = findBelow(root, text, stops);
      if (found === NONE) return same;
      return [...new Set([...same, ...found])].sort((a, b) => a - b);
    },
  };
}

/** @param depth characters that all of the entries have in common already */
function buildNode(entries: readonly Entry[], depth: number): PrefixNode {
  const literals = entries.map(({ pattern }) => pattern.slice(0, pattern.indexOf('*')));
  const edge = commonPrefix(literals).slice(depth);
  const end = depth + edge.length;
  const groups = new Map<number, Entry[]>();
  const here: Entry[] = [];
  for (const [index, entry] of entries.entries()) {
    const literal = literals[index] ?? '';
    if (literal.length === end) {
      here.push(entry);
      continue;
    }
    const code = literal.charCodeAt(end);
    if (groups.get(code)?.push(entry) === undefined) groups.set(code, [entry]);
  }
  return { edge, here, below: new Map([...groups].map(([code, group]) => [code, buildNode(group, end)])) };
}

function commonPrefix(texts: readonly string[]): string {
  const [first = ''] = texts;
  let length = first.length;
  for (const text of texts) {
    let same = 0;
    while (same < length && text.charCodeAt(same) === first.charCodeAt(same)) same += 1;
    length = same;
  }
  return first.slice(0, length);
}

function findBelow(root: PrefixNode, text: string, stops: string): readonly number[] {
  let found: number[] | null = null;
  let depth = 0;
  for (let node: PrefixNode | undefined = root; node !== undefined && text.startsWith(node.edge, depth); ) {
    depth += node.edge.length;
    for (const { pattern, list } of node.here) if (matchWildcard(pattern, text, stops)) (found ??= []).push(list);
    node = node.below.get(text.charCodeAt(depth));
  }
  return found ?? NONE;
}
