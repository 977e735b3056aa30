/** Offers configurations to the running proxy one after the other, counts and tells what became of each. */
import type { Loaded, LoadResult } from '../config/load.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { refuseFaulty, refuseUnusable, type ReloadOutcome, reportReload } from './outcome.ts';

export class Reloads {
  readonly #telemetry: Telemetry;
  readonly #adopt: (loaded: Loaded) => Promise<ReloadOutcome>;
  #latest: Promise<unknown> = Promise.resolve();
  #warnings: readonly string[] = [];

  /** @param adopt takes a whole configuration over, or nothing of it */
  constructor(telemetry: Telemetry, adopt: (loaded: Loaded) => Promise<ReloadOutcome>) {
    this.#telemetry = telemetry;
    this.#adopt = adopt;
  }

  /** Why the latest configuration offered is not, or not wholly, in force. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** Waits for the ones before it. What `adopt` throws is a bug: it is logged, and the previous configuration stays active. */
  submit(candidate: LoadResult): Promise<ReloadOutcome> {
    const outcome = this.#latest.then(() => this.#offer(candidate));
    this.#latest = outcome.catch(() => {});
    return outcome;
  }

  async #offer(candidate: LoadResult): Promise<ReloadOutcome> {
    const outcome = candidate.ok ? await this.#tryToAdopt(candidate) : refuseFaulty(candidate.faults);
    this.#warnings =
      outcome.result === 'refused'
        ? ['The latest configuration was refused; the previous one stays active.', ...outcome.reasons]
        : outcome.needRestart.map((key) => `The change of ${key} takes effect at the next start.`);
    this.#telemetry.policyReloaded(outcome.result);
    reportReload(this.#telemetry, outcome);
    return outcome;
  }

  async #tryToAdopt(loaded: Loaded): Promise<ReloadOutcome> {
    try {
      return await this.#adopt(loaded);
    } catch (error) {
      return refuseUnusable(error);
    }
  }
}
