/**
 * Isolates the data path from telemetry: a request continues if it cannot be
 * counted or logged. Each failure is counted, and the first of each part is
 * logged.
 */
import type { Contain, Part, Telemetry } from './telemetry.ts';

/** Runs an action and catches what it throws. @returns whether it threw nothing */
export type Attempt = (part: Part, action: () => void) => boolean;

/** Runs actions that may fail, and counts their failures by part. */
export class Attempts {
  readonly failures: Record<Part, number> = { metrics: 0, log: 0, traces: 0, denials: 0, decisions: 0, 'partner-watch': 0 };
  readonly #onFirst: (part: Part, error: unknown) => void;

  /** @param onFirst called for the first failure of each part; may throw */
  constructor(onFirst: (part: Part, error: unknown) => void) {
    this.#onFirst = onFirst;
  }

  readonly contain: Contain =
    (part, action) =>
    (...args) => {
      try {
        action(...args);
        return true;
      } catch (error) {
        this.#count(part, error);
        return false;
      }
    };

  readonly run: Attempt = (part, action) => this.contain(part, action)();

  #count(part: Part, error: unknown): void {
    this.failures[part] += 1;
    if (this.failures[part] > 1) return;
    try {
      this.#onFirst(part, error);
    } catch {
      // The log itself fails. The failure has been counted.
    }
  }
}

/** The same telemetry with methods that never throw. */
export function makeTotal(telemetry: Telemetry, part: Part, contain: Contain): Telemetry {
  const methods = Object.entries(telemetry as unknown as Record<string, (...args: readonly unknown[]) => void>);
  return Object.fromEntries(methods.map(([name, method]) => [name, contain(part, method)])) as unknown as Telemetry;
}
