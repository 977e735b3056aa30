/** Answers what is wrong, one question at a time: what it tries costs connections to partners, so a further question within some seconds gets the answer of the one before. */
import { gatherEvidence } from './gather.ts';
import { type IncidentVerdict, judgeIncident } from './judge.ts';
import type { IncidentSources } from './sources.ts';

/** Between the end of one question and the beginning of another, ms. */
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

  /** Names that can be asked about. */
  get destinations(): readonly string[] {
    return this.#sources.config().destinations.map(({ name }) => name);
  }

  /** `busy`: another question is being answered, or was just now. @param asked name of a destination; null: all */
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
