/** Notices that peers can cause by the thousands: the first is logged, then one per minute with the count. */
import type { Telemetry } from './telemetry.ts';

const EVERY = 60_000;

interface Told {
  /** Monotonic ms. */
  at: number;
  /** Since then, and not logged. */
  silent: number;
}

/** For `RareNotice`. */
export interface RareNoticeOptions {
  readonly telemetry: Pick<Telemetry, 'notice'>;
  /** Monotonic ms; `performance.now` by default. */
  readonly now?: () => number;
}

/** Logs a notice that may repeat at most once a minute for each message. */
export class RareNotice {
  readonly #options: RareNoticeOptions;
  /** By message; there are few. */
  readonly #told = new Map<string, Told>();

  constructor(options: RareNoticeOptions) {
    this.#options = options;
  }

  /**
   * `count` among the fields is how often it happened since the line before.
   * @param message one of a fixed few
   */
  notice(level: 'warn' | 'error', message: string, fields: Record<string, unknown> = {}): void {
    const { telemetry, now = performance.now.bind(performance) } = this.#options;
    const told = this.#told.get(message);
    const at = now();
    if (told !== undefined && at - told.at < EVERY) {
      told.silent += 1;
      return;
    }
    this.#told.set(message, { at, silent: 0 });
    telemetry.notice(level, message, { ...fields, count: 1 + (told?.silent ?? 0) });
  }
}
