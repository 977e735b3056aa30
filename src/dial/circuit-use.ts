/** One dial and its connection: their results are reported here, for the circuit of the address. */
import { type FaultCode, type Fault } from '../errors.ts';
import type { CircuitFailure, CircuitTrial } from './circuit.ts';
import type { CircuitBreaker } from './circuit-breaker.ts';
import type { CircuitReport, DialTarget } from './dial.ts';

/** An upstream that did not answer, for any request. Others, such as a client that disconnected, are no evidence about it. */
const UNANSWERED: ReadonlySet<FaultCode> = new Set<FaultCode>(['upstream-silent', 'upstream-cut', 'tls-failed']);
/** Parents that fail, or cannot reach the upstream. What a parent refuses by its policy, or rejects in our request, is not such a failure. */
const UNREACHED: ReadonlySet<FaultCode> = new Set<FaultCode>(['hop-failed', 'hop-timeout', 'hop-upstream-failed']);
const NO_ADDRESSES: readonly string[] = [];
const NO_STATUSES: readonly number[] = [];

/** The use of one dial; holds its trial until the result is known. */
export class CircuitUse implements CircuitReport {
  readonly #breaker: CircuitBreaker;
  readonly #target: DialTarget;
  #all: readonly string[] = NO_ADDRESSES;
  #address = '';
  #tried = '';
  #trial: CircuitTrial | null = null;

  constructor(breaker: CircuitBreaker, target: DialTarget) {
    this.#breaker = breaker;
    this.#target = target;
  }

  /** As `CircuitBreaker.choose`. @throws {Fault} circuit-open */
  choose(addresses: readonly string[]): readonly string[] {
    this.#all = addresses;
    if (this.#breaker.quiet) return addresses;
    const chosen = this.#breaker.choose(this.#target, addresses, this.#target.client ?? null);
    this.#tried = chosen.tried;
    this.#trial = chosen.trial;
    return chosen.addresses;
  }

  /** An attempt to connect has failed. */
  connectFailed(address: string, reason: string): void {
    this.#failed(address, { reason, client: null, unanswered: false });
  }

  /** The connection is being made to this address, or by parents to the host itself. */
  opened(address: string): void {
    this.#address = address;
  }

  /** TLS with the upstream has failed. The client's address in the PROXY header may be the reason. */
  handshakeFailed({ kind, code, detail }: Fault): void {
    if (kind.blame === 'upstream') this.#failed(this.#address, { reason: `${code}: ${detail}`, client: this.#target.proxied?.address ?? null, unanswered: false });
  }

  /** The route through parents has failed: because of their upstream, or all of them. */
  routeFailed({ code, message }: Fault): void {
    if (UNREACHED.has(code)) this.connectFailed(this.#target.host, `${code}: ${message}`);
  }

  /** The connection is ready for use. */
  ready(): void {
    // Another address was faster than a trial that had to wait for a port.
    if (this.#address !== this.#tried) this.giveBack();
    if (!this.#breaker.quiet && this.#breaker.connected(this.#target, this.#address)) this.#trial = null;
  }

  /** The upstream has answered a request. */
  answered(status: number, client: string): void {
    const statuses = this.#target.circuit?.terms.statuses ?? NO_STATUSES;
    if (statuses.length > 0 && statuses.includes(status)) this.#failed(this.#address, { reason: `status ${status}`, client, unanswered: true });
    else if (!this.#breaker.quiet) {
      this.#breaker.worked(this.#target, this.#address);
      this.#trial = null;
    }
  }

  /** An exchange ended without an answer. */
  endedUnanswered({ code, detail }: Fault, client: string): void {
    if (UNANSWERED.has(code)) this.#failed(this.#address, { reason: `${code}: ${detail}`, client, unanswered: true });
    else this.giveBack();
  }

  /** No result: the next request may try the address at once. */
  giveBack(): void {
    if (this.#trial === null) return;
    this.#breaker.giveBack(this.#target, this.#tried, this.#trial);
    this.#trial = null;
  }

  /** An idle connection must not be used: its address has failed since. */
  get blocked(): boolean {
    return !this.#breaker.quiet && this.#breaker.blocksAll(this.#target, this.#address);
  }

  #failed(address: string, failure: CircuitFailure): void {
    const trial = address === this.#tried ? this.#trial : null;
    this.#breaker.failed(this.#target, address, this.#all, failure, trial);
    if (trial !== null) this.#trial = null;
  }
}
