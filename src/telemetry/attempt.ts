/**
 * Keeps the data path from what listens to it: what is told of a request may
 * fail to be counted or written, and the request goes on all the same. Each
 * failure is counted, and the first of each part is logged.
 */
import type { Telemetry } from './telemetry.ts';

/** Whoever listens to the data path. */
export const PARTS = ['metrics', 'log', 'denials', 'decisions', 'partner-watch'] as const;
/** One of `PARTS`. */
export type Part = (typeof PARTS)[number];

/** Runs an action and catches what it throws. @returns whether it threw nothing */
export type Attempt = (part: Part, action: () => void) => boolean;

/** Runs actions that may fail, and counts their failures by part. */
export class Attempts {
  readonly failures: Record<Part, number> = { metrics: 0, log: 0, denials: 0, decisions: 0, 'partner-watch': 0 };
  readonly #onFirst: (part: Part, error: unknown) => void;

  /** @param onFirst told of the first failure of each part; may throw, too */
  constructor(onFirst: (part: Part, error: unknown) => void) {
    this.#onFirst = onFirst;
  }

  readonly run: Attempt = (part, action) => {
    try {
      action();
      return true;
    } catch (error) {
      this.failures[part] += 1;
      if (this.failures[part] === 1) this.#tell(part, error);
      return false;
    }
  };

  #tell(part: Part, error: unknown): void {
    try {
      this.#onFirst(part, error);
    } catch {
      // The log is what fails. The counter has it.
    }
  }
}

type Method = (...args: readonly unknown[]) => void;

/** The same telemetry, of which no method throws. */
export function makeTotal(telemetry: Telemetry, part: Part, attempt: Attempt): Telemetry {
  const total = Object.entries(telemetry as unknown as Record<string, Method>).map(([name, method]): [string, Method] => [
    name,
    (...args) => {
      attempt(part, () => {
        method(...args);
      });
    },
  ]);
  return Object.fromEntries(total) as unknown as Telemetry;
}
