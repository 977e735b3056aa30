/**
 * The circuits of all addresses that have failed, by destination and target:
 * which addresses a dial may use, when a request is refused instead, and the
 * results of traffic, as each dial and its connection report them. An address
 * that works has no entry.
 *
 * Longer than 400 lines: a dial reaches the circuits through its own use of
 * them only, and the two hand trials to each other.
 */
import { isDeepStrictEqual } from 'node:util';
import type { DestinationConfig } from '../config/config.ts';
import { Fault, type FaultCode } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { Circuit, type CircuitCounts, type CircuitFailure, type CircuitsView, type CircuitTrial, warnOfCircuits } from './circuit.ts';
import type { Carried, CircuitPlan, CircuitReport, DialTarget } from './dial.ts';

/** For `CircuitBreaker`. */
export interface CircuitBreakerOptions {
  /** Monotonic clock, ms. */
  readonly now?: () => number;
  /** Below 1, from 0. */
  readonly random?: () => number;
  /** The circuit of an address opened; called once, until it closes. */
  readonly onOpened: (at: CircuitPlace, reason: string, failures: number) => void;
  readonly onClosed: (at: CircuitPlace, why: string) => void;
}

/** The address that the circuit is of. */
export interface CircuitPlace {
  readonly destination: string;
  readonly host: string;
  readonly port: number;
  readonly carries: Carried;
  /** The host itself where it is requested from parents. */
  readonly address: string;
}

interface CircuitRoute {
  readonly host: string;
  readonly port: number;
  readonly carries: Carried;
  /** All addresses that the latest dial could have used. */
  addresses: readonly string[];
  readonly circuits: Map<string, Circuit>;
}

/** Most addresses remembered for one destination: a wildcard host may have any number. */
const MOST_CIRCUITS = 256;
/** For `Retry-After` while a trial is in progress: its result is known soon. */
const TRIAL_RETRY_S = 1;

/** Outlasts a reload. Has no timer, so there is nothing to close. */
export class CircuitBreaker {
  readonly #options: CircuitBreakerOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  /** By destination, then by dialled target. Only those that failed and have not come back since. */
  readonly #routes = new Map<string, Map<string, CircuitRoute>>();
  #destinations: ReadonlyMap<string, DestinationConfig> = new Map();

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
    this.#now = options.now ?? performance.now.bind(performance);
    this.#random = options.random ?? Math.random;
  }

  /** Nothing has failed: there is nothing to look up. */
  get quiet(): boolean {
    return this.#routes.size === 0;
  }

  /** The destinations have changed. The state of one that is now reached differently is dropped. */
  adopt(destinations: readonly DestinationConfig[]): void {
    const before = this.#destinations;
    this.#destinations = new Map(destinations.map((one) => [one.name, one]));
    for (const [name, known] of before) if (this.#routes.has(name) && this.#isPast(known)) this.#forgetDestination(name);
  }

  /**
   * The addresses that a dial may use, in the order to use them. An address
   * that is due comes first, as the trial; open ones are left out.
   * @param client null: unknown
   * @throws {Fault} circuit-open, when none is left
   */
  choose(
    target: DialTarget,
    addresses: readonly string[],
    client: string | null,
  ): { readonly addresses: readonly string[]; readonly tried: string; readonly trial: CircuitTrial | null } {
    const route = this.#find(target);
    if (route === undefined) return { addresses, tried: '', trial: null };
    route.addresses = addresses;
    const now = this.#now();
    let tried = '';
    let trial: CircuitTrial | null = null;
    for (const address of addresses) {
      trial = route.circuits.get(address)?.claim(now) ?? null;
      tried = address;
      if (trial !== null) break;
    }
    const closed = addresses.filter((address) => (route.circuits.get(address)?.openSince ?? null) === null);
    if (trial !== null) return { addresses: [tried, ...closed], tried, trial };
    if (closed.length > 0) return { addresses: closed, tried: '', trial: null };
    // What failed for one client only may work for another.
    const others = addresses.filter((address) => route.circuits.get(address)?.blocks(client) === false);
    if (others.length > 0) return { addresses: others, tried: '', trial: null };
    throw this.#refuse(route, addresses, now);
  }

  /** The fault that `choose` would throw; null: none. Claims no trial. */
  refusal(target: DialTarget, addresses: readonly string[], client: string | null): Fault | null {
    const route = this.#find(target);
    if (route === undefined) return null;
    const now = this.#now();
    for (const address of addresses) {
      const circuit = route.circuits.get(address);
      if (circuit === undefined || !circuit.blocks(client) || circuit.state(now) === 'due') return null;
    }
    route.addresses = addresses;
    return this.#refuse(route, addresses, now);
  }

  /** An address has failed. @param all addresses that the dial could have used */
  failed(target: DialTarget, address: string, all: readonly string[], failure: CircuitFailure, trial: CircuitTrial | null): void {
    const [now, known] = [this.#now(), this.#find(target)];
    const route = known?.circuits.has(address) === true ? known : this.#make(target, now);
    if (route === null) return;
    route.addresses = all;
    let circuit = route.circuits.get(address);
    if (circuit === undefined) {
      circuit = new Circuit(planOf(target).terms, this.#random);
      route.circuits.set(address, circuit);
    }
    if (circuit.failed(failure, trial, now))
      this.#options.onOpened(circuitPlace(planOf(target).of.name, route, address), circuit.reason, circuit.failures);
  }

  /** A connection to an address is ready for use. @returns whether that proves that it works */
  connected(target: DialTarget, address: string): boolean {
    const circuit = this.#find(target)?.circuits.get(address);
    if (circuit === undefined) return true;
    if (!circuit.provedByConnection) return false;
    this.worked(target, address);
    return true;
  }

  /** An address works: its circuit closes, also if a trial is in progress. */
  worked(target: DialTarget, address: string): void {
    const route = this.#find(target);
    const circuit = route?.circuits.get(address);
    if (route === undefined || circuit === undefined) return;
    this.#drop(planOf(target).of.name, route, address);
    if (circuit.openSince !== null) this.#options.onClosed(circuitPlace(planOf(target).of.name, route, address), 'it works again');
  }

  /** The trial has no result. */
  giveBack(target: DialTarget, address: string, trial: CircuitTrial): void {
    this.#find(target)?.circuits.get(address)?.giveBack(trial);
  }

  /** Whether idle connections to this address must not be used, for any client. */
  blocksAll(target: DialTarget, address: string): boolean {
    return this.#find(target)?.circuits.get(address)?.blocks(null) ?? false;
  }

  /** Of each destination that has any. */
  counts(): Map<string, CircuitCounts> {
    this.#forget();
    return new Map(
      [...this.#routes].map(([destination, routes]) => {
        const all = [...routes.values()];
        return [destination, { open: all.reduce((sum, route) => sum + openOf(route).length, 0), refusing: all.filter(refusesAll).length }];
      }),
    );
  }

  /** Every address that has failed and has not come back since. @param wallClock ms since the epoch, now */
  view(wallClock = Date.now()): CircuitsView[] {
    this.#forget();
    const now = this.#now();
    const iso = (at: number): string => new Date(Math.round(wallClock + at - now)).toISOString();
    return [...this.#routes].flatMap(([destination, routes]) =>
      [...routes.values()].map((route) => ({
        destination,
        host: route.host,
        port: route.port,
        carries: route.carries,
        refuses: refusesAll(route),
        addresses: [...route.circuits].map(([address, circuit]) => {
          const { failures, reason, client, openSince } = circuit;
          return {
            address,
            state: circuit.state(now),
            failures,
            since: openSince === null ? null : iso(openSince),
            reason,
            nextTrial: openSince === null ? null : iso(Math.max(now, circuit.nextTrialAt(now))),
            client,
          };
        }),
      })),
    );
  }

  /** One sentence for each host and port whose requests are refused. */
  warnings(): string[] {
    return warnOfCircuits(this.view());
  }

  /** It is gone, or a reload has changed since how it is reached: what comes of its connections says nothing about it now. */
  #isPast(destination: DestinationConfig): boolean {
    const present = this.#destinations.get(destination.name);
    return present !== destination && (present === undefined || !isDeepStrictEqual(circuitTerms(present), circuitTerms(destination)));
  }

  #find(target: DialTarget): CircuitRoute | undefined {
    if (this.#routes.size === 0 || target.circuit === undefined) return undefined;
    const route = this.#routes.get(target.circuit.of.name)?.get(routeKey(target));
    return route === undefined || this.#isPast(target.circuit.of) ? undefined : route;
  }

  /** With room for another circuit; null: there are too many, and all of them open, or it is of the past. */
  #make(target: DialTarget, now: number): CircuitRoute | null {
    const { of, carries } = planOf(target);
    const destination = of.name;
    if (this.#isPast(of)) return null;
    let routes = this.#routes.get(destination);
    if (routes !== undefined && sizeOf(routes) >= MOST_CIRCUITS && !this.#makeRoom(destination, routes, now)) return null;
    if (routes === undefined || routes.size === 0) this.#routes.set(destination, (routes = new Map<string, CircuitRoute>()));
    const key = routeKey(target);
    let route = routes.get(key);
    if (route === undefined) {
      const { host, port } = target;
      routes.set(key, (route = { host, port, carries, addresses: [], circuits: new Map() }));
    }
    return route;
  }

  /** Drops expired ones, then those that only began to fail, oldest first. */
  #makeRoom(destination: string, routes: Map<string, CircuitRoute>, now: number): boolean {
    this.#forget();
    if (sizeOf(routes) < MOST_CIRCUITS) return true;
    for (const route of routes.values()) {
      for (const [address, circuit] of route.circuits) {
        if (circuit.state(now) !== 'closed') continue;
        this.#drop(destination, route, address);
        return true;
      }
    }
    return false;
  }

  #forget(): void {
    const now = this.#now();
    for (const [destination, routes] of this.#routes) {
      for (const route of routes.values()) {
        for (const [address, circuit] of route.circuits) {
          if (!circuit.isForgotten(now)) continue;
          this.#drop(destination, route, address);
          if (circuit.openSince !== null)
            this.#options.onClosed(circuitPlace(destination, route, address), 'nothing was asked of it for a while');
        }
      }
    }
  }

  #forgetDestination(destination: string): void {
    for (const route of this.#routes.get(destination)?.values() ?? []) {
      for (const address of openOf(route))
        this.#options.onClosed(circuitPlace(destination, route, address), 'the destination was changed by a reload');
    }
    this.#routes.delete(destination);
  }

  #drop(destination: string, route: CircuitRoute, address: string): void {
    route.circuits.delete(address);
    if (route.circuits.size > 0) return;
    const routes = this.#routes.get(destination);
    routes?.delete(routeKeyOf(route));
    if (routes?.size === 0) this.#routes.delete(destination);
  }

  #refuse({ host, port, circuits }: CircuitRoute, addresses: readonly string[], now: number): Fault {
    const all = addresses.map((address) => circuits.get(address)).filter((circuit) => circuit !== undefined);
    const under = all.some((circuit) => circuit.state(now) === 'half-open');
    const next = Math.min(...all.map((circuit) => circuit.nextTrialAt(now)));
    const retryAfter = under ? TRIAL_RETRY_S : Math.max(1, Math.ceil((next - now) / 1000));
    const list = addresses.map((address) => `${address}: ${circuits.get(address)?.reason ?? ''}`).join('; ');
    return new Fault(
      'circuit-open',
      `it has failed too often in a row, and is tried again ${under ? 'now, by another request' : `in ${retryAfter} s`} (${list})`,
      {
        subject: formatAuthority(host, port),
        retryAfter,
        remedy: 'Try again later: a single request tries it after each pause, and a success lets all others through again.',
      },
    );
  }
}

function openOf({ circuits }: CircuitRoute): string[] {
  return [...circuits].filter(([, { openSince }]) => openSince !== null).map(([address]) => address);
}

/** For any client. */
function refusesAll({ addresses, circuits }: CircuitRoute): boolean {
  return addresses.length > 0 && addresses.every((address) => circuits.get(address)?.blocks(null) === true);
}

function sizeOf(routes: ReadonlyMap<string, CircuitRoute>): number {
  let size = 0;
  for (const { circuits } of routes.values()) size += circuits.size;
  return size;
}

function planOf({ circuit }: DialTarget): CircuitPlan {
  if (circuit === undefined) throw new Fault('internal', 'a dial without a circuit');
  return circuit;
}

const routeKeyOf = ({ carries, host, port }: Pick<CircuitRoute, 'carries' | 'host' | 'port'>): string => `${carries} ${host} ${port}`;
const routeKey = (target: DialTarget): string => routeKeyOf({ carries: planOf(target).carries, host: target.host, port: target.port });

function circuitPlace(destination: string, { host, port, carries }: CircuitRoute, address: string): CircuitPlace {
  return { destination, host, port, carries, address };
}

/** What determines what a destination is, whether it can be reached, and when its circuits open. */
function circuitTerms({ hosts, ports, addresses, tls, via, resolve, proxyProtocol, circuitBreaker }: DestinationConfig): unknown {
  return [hosts, ports, addresses, tls, via, resolve, proxyProtocol, circuitBreaker];
}

// One dial and its connection.

/** An upstream that did not answer, for any request. Others, such as a client that disconnected, are no evidence about it. */
const UNANSWERED: ReadonlySet<FaultCode> = new Set<FaultCode>(['upstream-silent', 'upstream-cut', 'tls-failed']);
/** Parents that fail, or cannot reach the upstream. What a parent refuses by its policy, or rejects in our request, is not such a failure. */
const UNREACHED: ReadonlySet<FaultCode> = new Set<FaultCode>(['hop-failed', 'hop-timeout', 'hop-upstream-failed']);
const NO_ADDRESSES: readonly string[] = [];
const NO_STATUSES: readonly number[] = [];

/** The use that one dial and its connection make of the circuits: they report their results here. Holds the trial until the result is known. */
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
    // In the second try of a dial, the trial of the first may have no result yet.
    if (chosen.trial !== null) {
      this.giveBack();
      this.#tried = chosen.tried;
      this.#trial = chosen.trial;
    }
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
    if (kind.blame === 'upstream')
      this.#failed(this.#address, { reason: `${code}: ${detail}`, client: this.#target.proxied?.address ?? null, unanswered: false });
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
    if (statuses.length > 0 && statuses.includes(status))
      this.#failed(this.#address, { reason: `status ${status}`, client, unanswered: true });
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
