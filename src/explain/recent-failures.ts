/** The memory of requests that were let through and have failed: the latest, each by its request id. Only what fails comes here. */
import type { Permit } from '../egress.ts';
import type { Fault } from '../errors.ts';
import { type AccessRecord, outcomeOf } from '../telemetry/access-record.ts';
import { type DenialRecord, keep, type KeptRequest, recordOf } from './kept-request.ts';

const MOST_FAILURES = 200;

/** Keeps the latest failures in bounded memory. */
export class RecentFailures {
  /** The oldest first. */
  readonly #byId = new Map<string, KeptRequest>();

  /** Failures that are kept at most. */
  get room(): number {
    return MOST_FAILURES;
  }

  /**
   * A request has ended. Keeps it if it was let through and has failed.
   * @param permit it was let through by; null: never
   */
  note(record: AccessRecord, fault: Fault | null, permit: Permit | null): void {
    if (fault === null || outcomeOf(record) !== 'failed') return;
    const { code, message: detail, remedy } = fault;
    this.#byId.set(record.requestId, keep(record, 'allow', { code, detail, remedy }, permit?.ask ?? null, Date.now()));
    if (this.#byId.size <= MOST_FAILURES) return;
    const [oldest = ''] = this.#byId.keys();
    this.#byId.delete(oldest);
  }

  /** Null: it has not failed, or so long ago that it is forgotten. */
  find(requestId: string): KeptRequest | null {
    return this.#byId.get(requestId) ?? null;
  }

  /** The latest first. */
  latest(most: number): DenialRecord[] {
    return [...this.#byId.values()].slice(-most).reverse().map(recordOf);
  }
}
