/**
 * Finds the destinations of a host: exact names first, then the wildcards that
 * match it, the longest suffix first; and the port for raw TLS to it.
 */
import type { DestinationConfig } from '../config/config.ts';
import { parseHostPattern } from '../targets/host.ts';
import { firstPort, hasPort } from '../targets/port-range.ts';

/** Several lists of host patterns, compiled; indexes are those of the lists. */
export interface HostTable {
  /**
   * Indexes of the lists with a pattern for this canonical host, the more
   * specific pattern first and equal ones in order; empty when there is none.
   */
  find(host: string): readonly number[];
  /** Whether `*.host` is a pattern: it never matches the host itself. */
  hasBelow(host: string): boolean;
  /** Indexes of lists that share a host with another list. */
  shared(): ReadonlySet<number>;
}

const NOWHERE: readonly number[] = [];

/**
 * @param lists canonical patterns of each list in order
 * @throws {TypeError} for a pattern that is not canonical: it could never match
 */
export function buildHostTable(lists: readonly (readonly string[])[]): HostTable {
  const exact = new Map<string, number[]>();
  const below = new Map<string, number[]>();
  for (const [index, patterns] of lists.entries()) {
    for (const pattern of patterns) {
      if (parseHostPattern(pattern) !== pattern) throw new TypeError(`${pattern} is not a canonical host or *.suffix`);
      if (pattern.startsWith('*.')) append(below, pattern.slice(2), index);
      else append(exact, pattern, index);
    }
  }
  // The results of less specific patterns are added here, so that a look-up ends at the first entry it meets.
  const suffixes = new Map([...below].map(([suffix, own]) => [suffix, [...new Set([...own, ...covering(below, suffix)])]]));
  const names = new Map([...exact].map(([name, own]) => [name, [...new Set([...own, ...covering(below, name)])]]));

  return {
    find(host) {
      const own = names.get(host);
      if (own !== undefined) return own;
      if (suffixes.size === 0) return NOWHERE;
      for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
        const covered = suffixes.get(host.slice(dot + 1));
        if (covered !== undefined) return covered;
      }
      return NOWHERE;
    },
    hasBelow: (host) => suffixes.has(host),
    shared: () => new Set([...names.values(), ...suffixes.values()].flatMap((found) => (found.length > 1 ? found : []))),
  };
}

function append(map: Map<string, number[]>, key: string, index: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [index]);
  else list.push(index);
}

/** The lists of every wildcard strictly above a name, the longest suffix first. */
function covering(below: ReadonlyMap<string, readonly number[]>, name: string): number[] {
  const found: number[] = [];
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) {
    found.push(...(below.get(name.slice(dot + 1)) ?? []));
  }
  return found;
}

// The port for raw TLS: a ClientHello names a host and no port.

const HTTPS = 443;

/**
 * 443 where a destination with this host lists it, else the first port of the
 * first such destination; those that take the form sni go before the others.
 * 443 for a host in none: the usual port.
 */
export function tlsPortOf(hosts: HostTable, destinations: readonly DestinationConfig[], host: string): number {
  let first: number | null = null;
  let other: number | null = null;
  for (const index of hosts.find(host)) {
    const destination = destinations[index];
    if (destination === undefined) continue;
    const port = hasPort(destination.ports, HTTPS) ? HTTPS : firstPort(destination.ports[0] ?? HTTPS);
    if (!destination.forms.includes('sni')) other ??= port;
    else if (port === HTTPS) return port;
    else first ??= port;
  }
  return first ?? other ?? HTTPS;
}
