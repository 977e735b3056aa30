/** Ports as a configuration lists them: single ones, and ranges, which are never expanded, since one may have 65,535. */

/** Both ends are included; `first` is below `last`. */
export class PortRange {
  readonly first: number;
  readonly last: number;

  constructor(first: number, last: number) {
    this.first = first;
    this.last = last;
  }

  /** As written in a file. */
  toString(): string {
    return `${this.first}-${this.last}`;
  }

  /** As written in the configuration: `8000-8099`. */
  toJSON(): string {
    return this.toString();
  }
}

/** One port, or a range of them. */
export type PortEntry = number | PortRange;

/** The lowest port of an entry. */
export const firstPort = (entry: PortEntry): number => (typeof entry === 'number' ? entry : entry.first);
/** The highest port of an entry. */
export const lastPort = (entry: PortEntry): number => (typeof entry === 'number' ? entry : entry.last);

/** Whether any entry has the port. For many look-ups, use `compilePorts`. */
export function hasPort(entries: readonly PortEntry[], port: number): boolean {
  return entries.some((entry) => firstPort(entry) <= port && port <= lastPort(entry));
}

/** The same ports in ascending order, in as few entries as possible. */
export function mergePorts(entries: readonly PortEntry[]): PortEntry[] {
  const merged: PortEntry[] = [];
  for (const entry of entries.toSorted((a, b) => firstPort(a) - firstPort(b))) {
    const before = merged.at(-1);
    if (before === undefined || firstPort(entry) > lastPort(before) + 1) merged.push(entry);
    else if (lastPort(entry) > lastPort(before)) merged[merged.length - 1] = new PortRange(firstPort(before), lastPort(entry));
  }
  return merged;
}

/** Ports that are in both; each result is merged. */
export function sharedPorts(one: readonly PortEntry[], other: readonly PortEntry[]): PortEntry[] {
  const shared: PortEntry[] = [];
  let [i, j] = [0, 0];
  for (let [a, b] = [one[i], other[j]]; a !== undefined && b !== undefined; [a, b] = [one[i], other[j]]) {
    const [first, last] = [Math.max(firstPort(a), firstPort(b)), Math.min(lastPort(a), lastPort(b))];
    if (first <= last) shared.push(first === last ? first : new PortRange(first, last));
    if (lastPort(a) < lastPort(b)) i += 1;
    else j += 1;
  }
  return shared;
}

/** The number of ports, each counted once for each entry that has it. */
export function countPorts(entries: readonly PortEntry[]): number {
  return entries.reduce<number>((sum, entry) => sum + lastPort(entry) - firstPort(entry) + 1, 0);
}

/** Each port, for lists that `countPorts` has found short enough. */
export function* eachPort(entries: readonly PortEntry[]): Generator<number> {
  for (const entry of entries) for (let port = firstPort(entry); port <= lastPort(entry); port += 1) yield port;
}
