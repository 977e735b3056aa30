/** The functions of a V8 CPU profile that took most: by themselves, and with all they called. */
import { renderTable } from './table.ts';

/** The format of `node --cpu-prof`: a tree of calls, and which of its nodes ran at each sample. */
export interface Profile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }; readonly children?: readonly number[] }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

/** Two tables of `count` rows, in percent of the time that was not idle. The first `skippedMs` of the profile do not count. */
export function heaviest(profile: Profile, count: number, skippedMs = 0): string {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id] as const)));
  const nameOf = (id: number): string => {
    const { functionName, url, lineNumber } = nodes.get(id)?.callFrame ?? { functionName: '', url: '', lineNumber: -1 };
    const place = url.replace(/^.*\/(?=(?:src|node_modules)\/)/, '');
    return `${functionName || '(anonymous)'}${place === '' ? '' : ` ${place}:${lineNumber + 1}`}`;
  };
  const self = new Map<string, number>();
  const inclusive = new Map<string, number>();
  let busy = 0;
  let elapsed = 0;
  profile.samples.forEach((id, index) => {
    const time = profile.timeDeltas[index] ?? 0;
    const name = nameOf(id);
    elapsed += time;
    if (name === '(idle)' || elapsed <= skippedMs * 1000) return;
    busy += time;
    add(self, name, time);
    const above = new Set<string>();
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) above.add(nameOf(at));
    for (const caller of above) add(inclusive, caller, time);
  });
  inclusive.delete('(root)');
  return `${Math.round(busy / 1000)} ms of CPU\n\n${list('by itself', self, busy, count)}\n\n${list('with what it calls', inclusive, busy, count)}`;
}

function add(sums: Map<string, number>, name: string, time: number): void {
  sums.set(name, (sums.get(name) ?? 0) + time);
}

function list(title: string, sums: ReadonlyMap<string, number>, busy: number, count: number): string {
  const rows = [...sums].sort((a, b) => b[1] - a[1]).slice(0, count).map(([name, time]) => [name, ((time / busy) * 100).toFixed(1)]);
  return renderTable([title, '%'], rows);
}
