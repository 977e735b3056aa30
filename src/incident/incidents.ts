/** Answers incident questions, one at a time: its tries cost connections to partners, so a question within some seconds of the previous one gets the same answer. */
import { gatherEvidence } from './gather.ts';
import { type IncidentVerdict, judgeIncident } from './judge.ts';
import type { IncidentSources } from './sources.ts';

/** Between the end of one question and the start of the next, ms. */
const PAUSE_MS = 5_000;

/** Holds no timer, so there is nothing to close. */
export class Incidents {
  readonly #sources: IncidentSources;
  readonly #monotonic: () => number;
  #busy = false;
  #latest: { readonly asked: string | null; readonly verdict: IncidentVerdict; readonly endedAt: number } | null = null;

  /** @param monotonic ms */
  constructor(sources: IncidentSources, monotonic: () => number) {
    this.#sources = sources;
    this.#monotonic = monotonic;
  }

  /** Valid names for a question. */
  get destinations(): readonly string[] {
    return this.#sources.config().destinations.map(({ name }) => name);
  }

  /** `busy`: another question is being answered, or has just been. @param asked name of a destination; null: all */
  async ask(asked: string | null): Promise<IncidentVerdict | 'busy'> {
    if (this.#busy) return 'busy';
    if (this.#latest !== null && this.#monotonic() - this.#latest.endedAt < PAUSE_MS) return this.#latest.asked === asked ? this.#latest.verdict : 'busy';
    this.#busy = true;
    try {
      const verdict = judgeIncident(await gatherEvidence(this.#sources, asked));
      this.#latest = { asked, verdict, endedAt: this.#monotonic() };
      return verdict;
    } finally {
      this.#busy = false;
    }
  }
}
