/**
 * The only exit to upstreams: decide, count, dial, report. No other file opens
 * a socket to an upstream. Tunnels and exchanges both need a Permit, which only
 * `admit` creates, so no form of request can dial without a decision.
 *
 * Longer than 400 lines: deciding, counting and dialling cannot be separated.
 */
import type { Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { CancelSignal } from './cancel.ts';
import type { Config, DestinationConfig } from './config/config.ts';
import type { AddressGuard, Carried, Dialled, Dialler, DialTarget, HopStep } from './dial/dial.ts';
import { Fault } from './errors.ts';
import { type Kind, Limits, type RequestDescriptors } from './limits.ts';
import { ANONYMOUS } from './policy/client-table.ts';
import { type AddressGuards, createAddressGuards, createHopGuard, surveyAddresses, type SurveyedAddress } from './policy/address-guard.ts';
import type { Policy, SteeredOrigin } from './policy/compile.ts';
import { decide, identify } from './policy/decide.ts';
import { Denial } from './policy/deny.ts';
import { type Allow, type Ask, type Peer, peerAt, type Proof, type Report, type Verdict } from './policy/verdict.ts';
import { type ByteCharge, Rates } from './rates.ts';
import { readOnAfterFailedWrites } from './relay/failed-writes.ts';
import { longestDial, poolTerms, type PoolKey, UpstreamPools } from './relay/pools.ts';
import { UpstreamPool } from './relay/pool.ts';
import { ReplayBudget } from './relay/replay.ts';
import { formatAuthority } from './targets/host.ts';
import type { AccessRecord } from './telemetry/access-record.ts';
import type { RateFacts } from './telemetry/collectors.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/** What a reload changes. */
export interface EgressTerms {
  readonly config: Pick<Config, 'destinations' | 'limits' | 'timeouts'>;
  readonly policy: Policy;
  readonly dialler: Dialler;
}

/** What an Egress is created with; `adopt` replaces the terms, the rest stays. */
export interface EgressOptions extends EgressTerms {
  readonly telemetry: Telemetry;
  /** Called with the subject of each decision, and whether it was permitted. */
  readonly remember: (ask: Ask, permitted: boolean) => void;
  /** Checked before each request; absent: not counted. */
  readonly descriptors?: RequestDescriptors;
  /** Monotonic ms, for the rates of rules; `performance.now` by default. */
  readonly monotonic?: () => number;
  /** Whether an address and port is one of our own listeners. */
  readonly isSelf: (address: string, port: number) => boolean;
}

/** Where a permitted exchange goes. */
export type Origin = SteeredOrigin;

/** What a rule may limit it by: a WebSocket is still a request. */
const ratedAs = ({ form }: Ask): 'requests' | 'tunnels' => (form === 'connect' || form === 'sni' ? 'tunnels' : 'requests');

/** In `Dialled.address` and `revoked`, for a name that only a parent resolved. */
const UNRESOLVED = '-';
/** Names of a certificate that are kept; one may have hundreds. */
const MOST_CERTIFICATE_NAMES = 3;

/** The guards that check the addresses of a destination and those of its parent proxies. */
interface WayGuards extends AddressGuards {
  readonly via: readonly HopStep[];
}

/** Permission to dial, for one request. Hold it while the request is in progress, then `release` it. */
export class Permit {
  readonly verdict: Allow | Report;
  readonly destination: DestinationConfig;
  readonly ask: Ask;
  /** When the rule ends that permits it, ms since the epoch: `verdict.until`, until another decision is followed. */
  until: number;
  /** What it owes for its bytes; null: nothing. */
  charge: ByteCharge | null;
  readonly #proofs: readonly Proof[];
  readonly #kind: Kind;
  /** Where its place is released; null: it has been. */
  #limits: Limits | null;
  /** Undoes what its rule was charged for it; null: nothing was. */
  readonly #giveBack: (() => void) | null;

  /** For `Egress.admit` only. */
  constructor(
    verdict: Allow | Report,
    ask: Ask,
    proofs: readonly Proof[],
    kind: Kind,
    limits: Limits,
    giveBack: (() => void) | null = null,
    charge: ByteCharge | null = null,
  ) {
    this.verdict = verdict;
    this.destination = verdict.destination ?? ANONYMOUS;
    this.ask = ask;
    this.until = verdict.until;
    this.#proofs = proofs;
    this.#kind = kind;
    this.#limits = limits;
    this.#giveBack = giveBack;
    this.charge = charge;
  }

  /** The first proof of the client's identity that is no longer valid, and why; null while all are. */
  lapse(now: number): { readonly of: Proof['of']; readonly reason: string } | null {
    for (const proof of this.#proofs) {
      const reason = proof.lapsed(now);
      if (reason !== null) return { of: proof.of, reason };
    }
    return null;
  }

  /** Whether its rule and the proofs it depends on are valid; if not, other rules may still permit the same request. */
  holds(now: number): boolean {
    return now < this.until && this.lapse(now) === null;
  }

  /**
   * Releases the place and charges the last bytes; further calls do nothing.
   * @param refused it was, before anything was dialled: its rule is charged for no request
   */
  release(refused = false): void {
    this.charge?.pay();
    if (this.#limits === null) return;
    this.#limits.leave(this.#kind, this.ask.peer.address);
    this.#limits = null;
    if (refused) this.#giveBack?.();
  }
}

/** Decides on requests and dials for those admitted. One object serves all listeners; a reload replaces its terms. */
export class Egress {
  #options: EgressOptions;
  readonly #limits: Limits;
  readonly #rates: Rates;
  #guards = new Map<DestinationConfig, WayGuards>();
  readonly #pools = new UpstreamPools((key) => this.#createPool(key));
  /** What is kept of requests in case they have to be sent again. */
  readonly replays = new ReplayBudget();

  constructor(options: EgressOptions) {
    this.#options = options;
    this.#limits = new Limits(options.config.limits, options.descriptors);
    this.#rates = new Rates(
      options.policy.rules.map(({ config }) => config),
      options.monotonic ?? performance.now.bind(performance),
    );
  }

  /** Of the current terms. */
  get dialler(): Dialler {
    return this.#options.dialler;
  }

  /** Of the current terms. */
  get policy(): Policy {
    return this.#options.policy;
  }

  /**
   * Replaces the terms. Pools whose connections the new terms would open in the same
   * way stay; the others keep no more connections, and serve only the requests that
   * use them now.
   */
  adopt(terms: EgressTerms): void {
    const before = this.#options;
    this.#options = { ...before, ...terms };
    this.#limits.adopt(terms.config.limits);
    this.#rates.adopt(terms.policy.rules.map(({ config }) => config));
    this.#guards = new Map();
    this.#pools.sift((destination) => {
      const next = terms.config.destinations.find(({ name }) => name === destination.name);
      // An address that was dialled in report mode may be one that enforcement
      // refuses.
      return (
        before.policy.mode === terms.policy.mode &&
        next !== undefined &&
        isDeepStrictEqual(poolTerms(destination, before.config), poolTerms(next, terms.config))
      );
    });
  }

  /**
   * Why the current terms would not admit what an earlier permit admitted, or would not authenticate the client as the
   * same one; null when they would. A change of the parent proxies revokes no permission.
   * @param address the address dialled; null while that is not known, `-` where only a parent knows it
   */
  revoked(permit: Permit, address: string | null, now: number): Fault | null {
    const lapse = permit.lapse(now);
    if (lapse?.of === 'connection') return new Fault('revoked', lapse.reason, { remedy: 'connect again' });
    // Without its credentials, it may still be a client by its address.
    const { peer } = permit.ask;
    const verdict = this.#decideAgain(permit, now, lapse === null ? peer : { ...peer, user: null, token: null, rejected: lapse.reason });
    if (verdict.verdict === 'deny')
      return revocation(new Denial(permit.ask, verdict), permit.holds(now) ? undefined : 'what permitted it is no longer valid');
    const why = address === null ? null : this.#judgeAgain(verdict.destination ?? ANONYMOUS, address, permit.ask.port);
    return why === null ? null : revocation(why);
  }

  /** The configured name of a client address, `-` for none. */
  clientName(address: string): string {
    return identify(this.policy, peerAt(address))?.name ?? '-';
  }

  /** Tunnels and exchanges in progress. */
  count(kind: Kind): number {
    return this.#limits.count(kind);
  }

  /** Pooled connections that are open: where each leads, and the bytes received so far. */
  pooledConnections(): { readonly key: object; readonly address: string; readonly bytesReceived: number }[] {
    return this.#pools
      .connections()
      .map((key) => ({ key, address: key.dialled.address ?? UNRESOLVED, bytesReceived: key.dialled.socket.bytesRead }));
  }

  /** Exchanges that wait for a pooled connection, by destination. */
  queued(): ReadonlyMap<string, number> {
    return this.#pools.queued();
  }

  /**
   * Decides, and takes a place among the requests in progress. The record gets
   * the policy's decision, also a denial.
   * @param proofs of the peer's identity: once they expire, so does the permit
   * @throws {Fault} the denial, limit-reached, or the refusal by the rates of its rule; a refused request takes nothing
   */
  admit(ask: Ask, kind: Kind, record: AccessRecord, proofs: readonly Proof[] = []): Permit {
    const verdict = this.#note(decide(this.policy, ask), ask, record);
    if (verdict.verdict === 'deny') throw new Denial(ask, verdict);
    // It gets no permit, so nothing can be dialled for it.
    if (record.selfTest) throw new Fault('loop', 'the request is one of the self-test of this proxy, and was admitted');
    const { address } = ask.peer;
    if (verdict.verdict === 'report' || verdict.rate === null) {
      this.#limits.enter(kind, address);
      return new Permit(verdict, ask, proofs, kind, this.#limits);
    }
    const counted = ratedAs(ask);
    const rates = this.#rates.check(verdict, ask, counted, record);
    this.#limits.enter(kind, address);
    if (rates === null) return new Permit(verdict, ask, proofs, kind, this.#limits, null, this.#rates.excuse(verdict, address, record));
    // To the buckets that are charged now, whatever a reload makes of the rule.
    const giveBack = (): void => {
      this.#rates.giveBack(rates, verdict, address, counted);
    };
    return new Permit(verdict, ask, proofs, kind, this.#limits, giveBack, this.#rates.begin(rates, verdict, address, counted, record));
  }

  /** Charges the bytes of a request in progress to the rates of its rule. @returns why it has to end; null: it may continue */
  charge(permit: Permit, record: AccessRecord, now: number): Fault | null {
    // Another rule may permit it from now on.
    if (now >= permit.until) this.chargeAnew(permit, record, now);
    const { charge } = permit;
    if (charge === null) return null;
    charge.pay();
    // A rule in report mode may have begun or ended since it was admitted.
    if (charge.excused) charge.excused = this.#isLenient(permit, now);
    const overdrawn = charge.excused ? null : charge.overdrawn();
    if (overdrawn === null || !this.#isLenient(permit, now)) return overdrawn;
    record.noteReported(overdrawn.code, overdrawn.message);
    charge.excused = true;
    return null;
  }

  #isLenient(permit: Permit, now: number): boolean {
    const verdict = this.#decideAgain(permit, now);
    return verdict.verdict === 'report' || (verdict.verdict === 'allow' && verdict.lenient);
  }

  /** After a reload, or the end of its rule: a request in progress is permitted by, and charged to, the rule that would permit it now, or no rule if it passes in report mode alone; if it would be denied, it is as before. */
  chargeAnew(permit: Permit, record: AccessRecord, now: number): void {
    permit.charge?.pay();
    const verdict = this.#decideAgain(permit, now);
    if (verdict.verdict === 'deny') return;
    permit.until = verdict.until;
    permit.charge = verdict.verdict === 'report' ? null : this.#rates.follow(permit.charge, verdict, permit.ask.peer.address, record);
  }

  /** Its request is judged by its host and port, which are in one destination only, also below a gateway's prefix: that destination may have another name by now. */
  #decideAgain({ ask }: Permit, now: number, peer = ask.peer): Verdict {
    return decide(this.policy, { ...ask, destination: undefined, now, peer });
  }

  /** The result of the rule's rates for a permitted request; takes nothing. */
  explainRates(verdict: Verdict, ask: Ask): string[] {
    return verdict.verdict === 'allow' ? this.#rates.explain(verdict, ask.peer.address, ratedAs(ask)) : [];
  }

  /** For each rule that has rates per address. */
  rateUsage(): RateFacts[] {
    return this.#rates.usage();
  }

  /** The denial of a request, noted in the record; null when it would be admitted. Takes no place. @param why begins the detail */
  judge(ask: Ask, record: AccessRecord, why = ''): Fault | null {
    const verdict = decide(this.policy, ask);
    // Where it passes, the record keeps what permits the request itself.
    if (verdict.verdict === 'report') record.noteReported(verdict.would.code, why + verdict.would.detail);
    return verdict.verdict === 'deny' ? new Denial(ask, { ...this.#note(verdict, ask, record), detail: why + verdict.detail }) : null;
  }

  /** Whether a peer is any of the clients. */
  isClient(peer: Peer): boolean {
    return identify(this.policy, peer) !== null;
  }

  /**
   * Dials the target that a tunnel was permitted. The caller owns the socket.
   * @param clientPort 0 where it is not known
   * @throws {Fault} of the dial
   */
  async openTunnel(permit: Permit, clientPort: number, record: AccessRecord, signal: CancelSignal): Promise<Socket> {
    const { destination, ask } = permit;
    const { address: client } = ask.peer;
    const terms = this.#options;
    const target = { ...this.#target(destination, ask.host, ask.port, 'tunnel', client, clientPort), client };
    const dialled = await this.#dial(destination, target, signal);
    readOnAfterFailedWrites(dialled.socket);
    // A reload happened meanwhile: the address was checked by the previous
    // terms.
    const revoked = terms === this.#options ? null : this.revoked(permit, dialled.address ?? UNRESOLVED, Date.now());
    if (revoked !== null) {
      dialled.socket.destroy();
      throw revoked;
    }
    if (dialled.reported !== undefined) record.noteReported(dialled.reported.code, dialled.reported.message);
    record.dialled = true;
    record.upstreamAddress = dialled.address ?? UNRESOLVED;
    record.noteLocalEnd(dialled.socket);
    record.via = dialled.via;
    record.dials = dialled.attempts;
    record.dnsMs = dialled.dnsMs;
    record.tcpMs = dialled.tcpMs;
    record.hopMs = dialled.hopMs;
    return dialled.socket;
  }

  /**
   * The result of a dial for each address; dials nothing.
   * @param assumed addresses of the host; null: it is looked up
   * @throws {Fault} of the look-up
   */
  async survey(
    destination: DestinationConfig,
    host: string,
    port: number,
    assumed: readonly string[] | null,
    signal: CancelSignal,
  ): Promise<SurveyedAddress[]> {
    return surveyAddresses(this.#guard(destination), assumed ?? (await this.dialler.resolve(host, signal)), port);
  }

  /** The hop that we dial ourselves, and the guard of its addresses; null: the route is direct. */
  nearestHop(destination: DestinationConfig): HopStep | null {
    return this.#guard(destination).via[0] ?? null;
  }

  /**
   * The pool of connections for a permitted exchange: one for each destination
   * and origin, for all forms. Where a PROXY header names the client, one
   * for each client too: its requests must not be sent under another's name.
   * @throws {Fault} circuit-open, when no address may be used for now
   */
  pool(permit: Permit, origin: Origin): UpstreamPool {
    const { destination } = permit;
    if (!this.dialler.untroubled) {
      const refusal = this.circuitFault(destination, { ...origin, carries: origin.scheme }, permit.ask.peer.address);
      if (refusal !== null) throw refusal;
    }
    const { scheme, host, port } = origin;
    return this.#pools.get({ destination, scheme, host, port, client: destination.proxyProtocol === 'off' ? '' : permit.ask.peer.address });
  }

  /** Why requests of this client are refused at once: every address has failed too often. Null: they are not, or that is not known before a dial. */
  circuitFault(
    destination: DestinationConfig,
    { host, port, carries }: Pick<Origin, 'host' | 'port'> & { readonly carries: Carried },
    client: string,
  ): Fault | null {
    const { dialler } = this.#options;
    const { enforcing, lenient } = this.#guard(destination);
    const target = this.#target(destination, host, port, carries, client, 0);
    return dialler.refusal(target, enforcing, client) ?? (lenient === null ? null : dialler.refusal(target, lenient, client));
  }

  /** Connections are no longer kept: idle ones close now, others after their exchange. Waiting exchanges are still served. */
  retire(): void {
    this.#pools.retire();
  }

  /** Every pooled connection closes now. */
  destroy(): void {
    this.#pools.destroy();
  }

  #note<V extends Verdict>(verdict: V, ask: Ask, record: AccessRecord): V {
    if (!record.selfTest) this.#options.remember(ask, verdict.verdict !== 'deny');
    record.verdict = verdict.verdict;
    record.client = verdict.client?.name ?? '-';
    const { user, token, sans } = ask.peer;
    record.user = user ?? '';
    record.subject = token?.subject ?? '';
    record.san = sans.length > 1 ? sans.slice(0, MOST_CERTIFICATE_NAMES).join(' ') : (sans[0] ?? '');
    record.destination = verdict.destination?.name ?? '-';
    if (verdict.verdict !== 'deny') record.rule = verdict.rule;
    if (verdict.verdict === 'report') record.noteReported(verdict.would.code, verdict.would.detail);
    return verdict;
  }

  /** Whether the current terms would dial an address that was dialled under earlier ones. */
  #judgeAgain(destination: DestinationConfig, address: string, port: number): Fault | null {
    const { enforcing, lenient } = this.#guard(destination);
    // The address of a new connection would not be checked here either.
    if (destination.via.length > 0 && destination.resolve === 'parent') return null;
    if (address !== UNRESOLVED) return (lenient ?? enforcing)(address, port);
    return lenient === null
      ? new Fault('address-not-allowed', `the address was chosen by a parent, and has to be checked here now`, {
          subject: destination.name,
        })
      : null;
  }

  #createPool(key: PoolKey): UpstreamPool {
    const { destination, scheme, host, port } = key;
    const { limits, timeouts } = this.#options.config;
    return new UpstreamPool({
      origin: `${scheme}://${formatAuthority(host, port)}`,
      size: limits.upstreamConnections,
      queue: limits.upstreamQueue,
      queueTimeout: longestDial(destination, this.#options.config),
      keepAlive: timeouts.upstreamKeepAlive,
      age: timeouts.upstreamAge,
      headerBytes: limits.headerBytes,
      headerFields: limits.headerFields,
      open: (signal, client) => this.#openPooled(key, client, signal),
      onChange: (active, idle) => {
        this.#options.telemetry.upstreamPooled(destination.name, active, idle);
      },
    });
  }

  /** A pool that a reload has retired dials for those that wait in it as it always did: whether they may have the address is for the present terms to say. */
  async #openPooled({ destination, scheme, host, port, client }: PoolKey, opener: string, signal: CancelSignal): Promise<Dialled> {
    // Exchanges from all ports of the client share these connections: no single port would be right.
    const target = { ...this.#target(destination, host, port, scheme, client, 0), opener };
    const dialled = await this.#dial(destination, target, signal);
    const present = this.#options.config.destinations.find(({ name }) => name === destination.name);
    const why = present === undefined || present === destination ? null : this.#judgeAgain(present, dialled.address ?? UNRESOLVED, port);
    if (why === null) return dialled;
    dialled.circuit?.giveBack();
    dialled.socket.destroy();
    throw revocation(why);
  }

  /** What is dialled for a destination. @param client that a PROXY header names, where the destination wants one, with its port; 0: none is known */
  #target(destination: DestinationConfig, host: string, port: number, carries: Carried, client: string, clientPort: number): DialTarget {
    const { name, tls, resolve, proxyProtocol, circuitBreaker: terms } = destination;
    return {
      host,
      port,
      tls: carries === 'https' ? tls : null,
      destination: name,
      via: this.#guard(destination).via,
      resolve,
      proxied: proxyProtocol === 'off' ? undefined : { version: proxyProtocol, address: client, port: clientPort },
      circuit: terms === null ? undefined : { of: destination, terms, carries },
    };
  }

  async #dial(destination: DestinationConfig, target: DialTarget, signal: CancelSignal): Promise<Dialled> {
    const { telemetry, dialler } = this.#options;
    try {
      const { enforcing, lenient } = this.#guard(destination);
      const dialled =
        lenient === null ? await dialler.dial(target, enforcing, signal) : await dialLeniently(dialler, target, enforcing, lenient, signal);
      telemetry.upstreamConnected(destination.name, dialled.dnsMs, dialled.tcpMs, dialled.tlsMs, dialled.hopMs);
      telemetry.upstreamReached(destination.name, dialled.address ?? UNRESOLVED, dialled.certificateEnds ?? 0);
      for (const { hop, parent, ends } of dialled.parentCertificates ?? []) telemetry.parentReached(hop, parent, ends);
      return dialled;
    } catch (error) {
      const fault = Fault.from(error);
      // It was refused without a dial, and says nothing new about the upstream.
      if (!signal.aborted && fault.code !== 'circuit-open') telemetry.upstreamFailed(destination.name, fault.code, fault.message);
      throw fault;
    }
  }

  #guard(destination: DestinationConfig): WayGuards {
    let guard = this.#guards.get(destination);
    if (guard === undefined) {
      const { isSelf } = this.#options;
      const via = destination.via.map((hop) => ({ hop, guard: createHopGuard(hop, isSelf) }));
      guard = { ...createAddressGuards(destination, this.policy.mode, isSelf), via };
      this.#guards.set(destination, guard);
    }
    return guard;
  }
}

/** In report mode, addresses that enforcement would not dial are tried only when no others are left, so that only real denials are reported. */
async function dialLeniently(
  dialler: Dialler,
  target: DialTarget,
  enforcing: AddressGuard,
  lenient: AddressGuard,
  signal: CancelSignal,
): Promise<Dialled> {
  try {
    return await dialler.dial(target, enforcing, signal);
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'address-not-allowed') throw error;
    return { ...(await dialler.dial(target, lenient, signal)), reported: error };
  }
}

function revocation({ message, remedy }: Fault, what = 'a reload withdrew the permission'): Fault {
  return new Fault('revoked', `${what}: ${message}`, { remedy });
}
