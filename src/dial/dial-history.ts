/** The latest connections that failed and the latest changes of DNS answers, in bounded memory: written only when something fails or a look-up ends, for who asks what is wrong. */
import type { FaultCode } from '../errors.ts';

/** A connection that was not accepted. */
export interface FailedAttempt {
  readonly destination: string;
  readonly address: string;
  readonly port: number;
  /** Our end, before any NAT; null: the system had closed it before it could be asked. */
  readonly from: string | null;
  readonly reason: string;
}

/** An answer of the resolver that differs from the one before. */
export interface NameAnswer {
  readonly host: string;
  /** Empty: there was none. */
  readonly addresses: readonly string[];
  /** Why there was none; null: there was. */
  readonly code: FaultCode | null;
}

type Dated<T> = T & { readonly at: number };

const MOST_ATTEMPTS = 128;
const MOST_ANSWERS = 256;

/** Outlives a reload. */
export class DialHistory {
  readonly #now: () => number;
  /** The oldest first. */
  readonly #attempts: Dated<FailedAttempt>[] = [];
  readonly #answers: Dated<NameAnswer>[] = [];

  /** @param now ms since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** A connection has failed now. */
  failed(attempt: FailedAttempt): void {
    push(this.#attempts, { ...attempt, at: this.#now() }, MOST_ATTEMPTS);
  }

  /** A look-up has ended. The order of the addresses does not matter: resolvers rotate it. */
  answered(host: string, addresses: readonly string[], code: FaultCode | null): void {
    const before = this.#answers.findLast((answer) => answer.host === host);
    const sorted = addresses.toSorted();
    if (before?.code === code && before.addresses.join() === sorted.join()) return;
    push(this.#answers, { host, addresses: sorted, code, at: this.#now() }, MOST_ANSWERS);
  }

  /** Of one destination, the latest first. */
  failedTo(destination: string): Dated<FailedAttempt>[] {
    return this.#attempts.filter((attempt) => attempt.destination === destination).reverse();
  }

  /** Changes of the answers for one name, the latest first. */
  answersFor(host: string): Dated<NameAnswer>[] {
    return this.#answers.filter((answer) => answer.host === host).reverse();
  }
}

function push<T>(list: T[], entry: T, most: number): void {
  list.push(entry);
  if (list.length > most) list.shift();
}
