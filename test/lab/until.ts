/** Waits for what takes its time, by trying until it is so. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE_MS } from './program.ts';

export interface Waiting {
  /** Between two attempts, ms. */
  readonly pause?: number | undefined;
  /** No further attempt after this, ms. */
  readonly patience?: number | undefined;
}

/** What `attempt` comes to, the first time that it does not throw; rejects with its last error when patience ends. */
export async function until<T>(what: string, attempt: () => Promise<T> | T, { pause = 100, patience = PATIENCE_MS }: Waiting = {}): Promise<T> {
  const end = performance.now() + patience;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      if (performance.now() > end) throw new Error(`not within ${patience} ms: ${what}. ${cause instanceof Error ? cause.message : ''}`, { cause });
    }
    await sleep(pause);
  }
}
