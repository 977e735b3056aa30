/**
 * The changes in decisions by the latest reload, in a sentence and a few lines.
 * Computed after the reload, in slices that let requests through in between,
 * and with a limit on the work.
 */
import type { Policy } from '../policy/compile.ts';
import { comparePolicies } from '../policy-diff/compare-policies.ts';
import { type DiffSummary, summariseDiff } from '../policy-diff/format-diff.ts';
import { BoundedMeter, runInTurns, TooMuchWork } from '../policy-diff/work.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { Turns } from '../turns.ts';

/** The latest change, as shown. */
export interface PolicyChange extends DiffSummary {
  /** When it took effect, ISO 8601. */
  readonly at: string;
}

/** A thousand destinations that all change take a fifth of it. */
const MOST_STEPS_OF_RELOAD = 1_000_000;
const NOT_COMPUTED: DiffSummary = {
  different: true,
  denies: false,
  sentence: 'Not computed, because there is too much to compare: eco-egress diff does it.',
  classes: [],
};

/** Compares policies as they take effect, one comparison at a time: a later reload cancels the previous one. */
export class PolicyChanges {
  /** Null: nothing has been reloaded yet, or it is being compared. */
  latest: PolicyChange | null = null;
  readonly #telemetry: Pick<Telemetry, 'notice'>;
  readonly #most: number;
  readonly #turns = new Turns();
  /** The current comparison; another one means that it has been superseded. */
  #current = 0;

  /** @param most steps of one comparison */
  constructor(telemetry: Pick<Telemetry, 'notice'>, most = MOST_STEPS_OF_RELOAD) {
    this.#telemetry = telemetry;
    this.#most = most;
  }

  /** Begins to compare, from `now` on, ms since the epoch. Resolves when that is done, or superseded; never rejects. */
  async compare(before: Policy, after: Policy, now: number): Promise<void> {
    const own = (this.#current += 1);
    this.latest = null;
    const found = await this.#work(own, before, after, now);
    if (found === null || own !== this.#current) return;
    const { sentence, classes } = found;
    this.latest = { at: new Date(now).toISOString(), ...found };
    this.#telemetry.notice('info', 'what the new configuration decides differently', {
      policyChange: sentence,
      ...(classes.length === 0 ? {} : { classes }),
    });
  }

  /** The current comparison ends at its next slice. */
  close(): void {
    this.#current += 1;
  }

  async #work(own: number, before: Policy, after: Policy, now: number): Promise<DiffSummary | null> {
    const meter = new BoundedMeter(this.#most);
    try {
      const diff = await runInTurns(comparePolicies(before, after, now, meter), meter, this.#turns, () => own === this.#current);
      return diff === null ? null : summariseDiff(diff);
    } catch (error) {
      if (error instanceof TooMuchWork) return NOT_COMPUTED;
      // A bug; the reload is still in effect.
      this.#telemetry.notice('error', 'the new configuration could not be compared with the previous one', { reason: String(error) });
      return { different: true, denies: false, sentence: 'Not computed, because of an internal error.', classes: [] };
    }
  }
}
