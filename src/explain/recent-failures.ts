/** The record of requests that were permitted and have failed: the latest, each by its request id. */
import type { Permit } from '../egress.ts';
import type { Fault } from '../errors.ts';
import { type AccessRecord, outcomeOf } from '../telemetry/access-record.ts';
import { type DenialRecord, keep, type KeptRequest, recordOf } from './kept-request.ts';

const MOST_FAILURES = 200;

/** Keeps the latest failures in bounded memory. */
export class RecentFailures {
  /** The oldest first. */
  readonly #byId = new Map<string, KeptRequest>();

  /** Most failures that are kept. */
  get room(): number {
    return MOST_FAILURES;
  }

  /**
   * A request has ended. Keeps it if it was permitted and has failed.
   * @param permit by which it was permitted; null: never
   */
  note(record: AccessRecord, fault: Fault | null, permit: Permit | null): void {
    if (fault === null || outcomeOf(record) !== 'failed') return;
    const { code, message: detail, remedy } = fault;
    this.#byId.set(record.requestId, keep(record, 'allow', { code, detail, remedy }, permit?.ask ?? null, Date.now()));
    if (this.#byId.size <= MOST_FAILURES) return;
    const [oldest = ''] = this.#byId.keys();
    this.#byId.delete(oldest);
  }

  /** Null: it has not failed, or is too old. */
  find(requestId: string): KeptRequest | null {
    return this.#byId.get(requestId) ?? null;
  }

  /** The latest first. */
  latest(most: number): DenialRecord[] {
    return [...this.#byId.values()].slice(-most).reverse().map(recordOf);
  }
}
