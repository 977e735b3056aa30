/** What operators can see of the replicas while a fault lasts: their metrics and status pages, looked at twice a second. */
import { setTimeout as pause } from 'node:timers/promises';
import type { StatusBand, StatusView } from '../../src/admin/status-view.ts';
import { readScrape, type Scrape } from '../support/prometheus.ts';
import type { Stage } from './stage.ts';

/** One look at one replica. */
export interface Look {
  readonly node: string;
  /** When it was answered, ms since the epoch. */
  readonly at: number;
  /** Null: it did not answer. */
  readonly scrape: Scrape | null;
  readonly band: StatusBand | null;
}

const EVERY_MS = 500;
/** Goes on for a minute after what it is about. */
const OF_THE_LAST_MINUTE = 'In the last minute';

async function lookAt(stage: Stage, node: Stage['nodes'][number]): Promise<Look> {
  const [metrics, status] = await Promise.all([stage.askAdmin(node, '/metrics'), stage.askAdmin(node, '/status.json')]);
  return { node: node.name, at: Date.now(), scrape: metrics === null ? null : readScrape(metrics), band: status === null ? null : (JSON.parse(status) as StatusView).band };
}

/** One look at each replica. */
export function lookOnce(stage: Stage): Promise<Look[]> {
  return Promise.all(stage.nodes.map((node) => lookAt(stage, node)));
}

/** Looks at all replicas until the returned function is called, which resolves to all that was seen. */
export function watchReplicas(stage: Stage): () => Promise<Look[]> {
  const looks: Look[] = [];
  const over = new AbortController();
  const watches = stage.nodes.map(async (node) => {
    // One that does not answer delays no other.
    while (!over.signal.aborted) {
      looks.push(await lookAt(stage, node));
      await pause(EVERY_MS, undefined, { signal: over.signal }).catch(() => {});
    }
  });
  return async () => {
    over.abort();
    await Promise.all(watches);
    return looks;
  };
}

/** When a status page first gave a reason that no page gave before, ms since the epoch; null: never. */
export function whenNamed(reason: RegExp, before: readonly Look[], during: readonly Look[]): number | null {
  const given = new Set(before.flatMap(reasonsOf));
  return during.toSorted((one, other) => one.at - other.at).find((look) => reasonsOf(look).some((text) => reason.test(text) && !given.has(text)))?.at ?? null;
}

/** Every reason that the pages gave, in the order in which they came up. */
export function reasonsGiven(looks: readonly Look[]): string[] {
  return [...new Set(looks.flatMap(reasonsOf))];
}

function reasonsOf({ band }: Look): string[] {
  return band?.reasons.filter((text) => !text.startsWith(OF_THE_LAST_MINUTE)) ?? [];
}
