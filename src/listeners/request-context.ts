/**
 * The context of one request, from its first byte to its log line. It owns the
 * exchange or tunnel that serves the request, answers when that fails, and ends
 * exactly once.
 *
 * Longer than 400 lines: it is the single owner of the exchange or tunnel.
 */
import type { Socket } from 'node:net';
import type { Config, HeadersConfig } from '../config/config.ts';
import { Cancellation } from '../cancel.ts';
import type { Crowd } from '../crowd.ts';
import type { Egress, Permit } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { RawFields } from '../http1/fields.ts';
import { headText } from '../http1/message-writer.ts';
import type { RequestHead } from '../http1/request-head.ts';
import type { ResponseHead } from '../http1/response-head.ts';
import type { Overload } from '../overload/overload.ts';
import { Exchange, type ExchangeOwner, type ExchangePlan } from '../relay/exchange.ts';
import { forwardRequestTrailers, nominatedBy } from '../relay/headers.ts';
import { type Opening, Tunnel, type TunnelOwner } from '../relay/tunnel.ts';
import { type AccessRecord, type ClosedBy, outcomeOf } from '../telemetry/access-record.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { ClientConnection, RequestUnderWay } from './client-connection.ts';
import { composeRefusal, isLastAnswer, refusalText } from './refuse.ts';
import { alertFor } from './tls-terminator.ts';

/** What all requests share. */
export interface RequestEnvironment {
  /** In force: a reload replaces it. */
  config: Pick<Config, 'name' | 'headers' | 'limits' | 'timeouts' | 'tlsServer'>;
  readonly egress: Pick<Egress, 'policy' | 'replays' | 'admit' | 'judge' | 'isClient' | 'openTunnel' | 'pool' | 'revoked' | 'clientName'>;
  readonly telemetry: Telemetry;
  /** Called for each request that ended with a fault or passed only by report mode: what is a denial is remembered (explain/recent-denials.ts). */
  readonly remember: (record: AccessRecord, fault: Fault | null, permit: Permit | null) => void;
  /** Every request in progress: a drain waits for these. */
  readonly requests: Crowd<RequestContext>;
  /** The ClientHellos of open tunnels, by their random. */
  readonly hellos: Set<string>;
  /** Consulted before any work is done for a request; null: overload protection is off. */
  readonly overload: Pick<Overload, 'refusal' | 'connectionRefusal' | 'logsRefusal' | 'cause'> | null;
  /** Requests of the self-test are reported here only; null: there is no self-test. */
  readonly selfTest: RequestEnvironment | null;
  /** Once true, connections are closed after their response. */
  draining: boolean;
}

/** Where events of a connection are reported; those of the self-test are kept apart from the clients'. */
export function environmentOf({ selfTest }: Pick<ClientConnection, 'selfTest'>, environment: RequestEnvironment): RequestEnvironment {
  return selfTest ? (environment.selfTest ?? environment) : environment;
}

/** The current state of the request. */
type State =
  | { readonly kind: 'deciding' }
  | { readonly kind: 'exchange'; readonly exchange: Exchange }
  | { readonly kind: 'dialling'; readonly cancellation: Cancellation }
  | { readonly kind: 'tunnel'; readonly tunnel: Tunnel }
  | { readonly kind: 'ended' };

const DECIDING: State = { kind: 'deciding' };
const ENDED: State = { kind: 'ended' };
/** A request that is being decided waits for other parts, each with its own clock. */
const NO_CLOCK = Infinity;

/** The owner of one request. However it ends, it is logged once and counted once. */
export class RequestContext implements RequestUnderWay, ExchangeOwner, TunnelOwner {
  readonly record: AccessRecord;
  readonly connection: ClientConnection;
  /** Null for raw TLS, which is answered with alerts. */
  readonly head: RequestHead | null;
  readonly #environment: RequestEnvironment;
  #permit: Permit | null = null;
  /** In `hellos` until it ends. */
  #hello: string | null = null;
  #headers: HeadersConfig | null = null;
  #state: State = DECIDING;
  /** The permission of an exchange has been withdrawn: when it has to end, monotonic ms. */
  #endBy = NO_CLOCK;
  /** Its end has been logged and counted. */
  #told = false;

  /** @param environment of the connection, as by `environmentOf` */
  constructor(environment: RequestEnvironment, record: AccessRecord, connection: ClientConnection, head: RequestHead | null) {
    this.#environment = environment;
    record.selfTest = connection.selfTest;
    record.secure = connection.secure;
    this.record = record;
    this.connection = connection;
    this.head = head;
    if (head !== null) record.method = head.method;
    environment.requests.add(this);
    connection.request = this;
    if (environment.draining) connection.closeAfter();
  }

  /** It has ended: later events are ignored. */
  get ended(): boolean {
    return this.#state.kind === 'ended';
  }

  /** It began with a ClientHello, so its content has an end of its own. */
  get tellsItsEnd(): boolean {
    return this.#hello !== null;
  }

  /** The tunnel, if it has become one. */
  get tunnel(): Tunnel | null {
    return this.#state.kind === 'tunnel' ? this.#state.tunnel : null;
  }

  /** The request was admitted: its permit is held until it ends. */
  hold(permit: Permit): void {
    this.#permit = permit;
    this.#environment.telemetry.admitted(this.record);
  }

  /**
   * Records the ClientHello at the start of the tunnel, until the tunnel ends.
   * Raw TLS carries no Via: a ClientHello that arrives a second time while the
   * first is in progress has been routed back to the proxy, for example by a
   * mesh that steers the proxy's own traffic.
   * @returns why the tunnel must not continue; null: it may
   */
  enterHello(random: string): Fault | null {
    const { hellos } = this.#environment;
    if (hellos.has(random)) {
      return new Fault('loop', 'the same TLS handshake is on its way through this proxy already', {
        remedy: 'do not steer what this proxy sends to the partner back to the proxy; a client sends each ClientHello once',
      });
    }
    hellos.add(random);
    this.#hello = random;
    return null;
  }

  /** Continues when `wait` is over, unless the client has disconnected. Errors of either are answered. */
  resume<T>(wait: Promise<T>, then: (value: T) => void): void {
    wait
      .then((value) => {
        if (!this.ended) then(value);
      })
      .catch((error: unknown) => {
        this.failed(error);
      });
  }

  /** An error of deciding or dialling: a Fault is the answer, anything else is a bug in our code. */
  failed(error: unknown): void {
    try {
      if (error instanceof Fault && error.code !== 'internal') this.refuse(error);
      else this.connection.crash(error);
    } catch (crash) {
      this.connection.crash(crash);
    }
  }

  /** @param headers decide which trailers are forwarded */
  startExchange(plan: ExchangePlan, headers: HeadersConfig): void {
    this.#headers = headers;
    const exchange = new Exchange(this.connection, plan, this.record, this);
    this.#state = { kind: 'exchange', exchange };
    exchange.start();
  }

  /**
   * Dials for a CONNECT or raw TLS, then relays. Nothing more is read from the
   * client until the dial is done (CVE-2025-64763), and 200 is sent only then.
   * @param clientPort 0 where it is not known
   * @param opening inspects the client's first bytes; null: no inspection
   * @param head the client's bytes read so far, for raw TLS
   */
  startTunnel(permit: Permit, clientPort: number, opening: Opening | null, head: Buffer | null = null): void {
    const cancellation = new Cancellation();
    this.#state = { kind: 'dialling', cancellation };
    this.connection.pause();
    // Raw TLS is not an HTTP request: from here on, the connection belongs to the tunnel.
    if (this.head === null) this.connection.detach();
    this.#environment.egress.openTunnel(permit, clientPort, this.record, cancellation).then(
      (upstream) => {
        try {
          if (this.ended) {
            upstream.destroy();
            return;
          }
          if (this.head !== null) {
            this.connection.socket.write(`HTTP/1.1 200 Connection Established\r\nX-Request-Id: ${this.record.requestId}\r\n\r\n`, 'latin1');
            this.record.status = 200;
          }
          this.#carry(upstream, opening, head ?? this.connection.detach());
        } catch (error) {
          upstream.destroy();
          this.connection.crash(error);
        }
      },
      (error: unknown) => {
        if (!this.ended) this.failed(error);
      },
    );
  }

  /** Answers with a fault, if that is still possible, and ends. */
  refuse(fault: Fault): void {
    if (this.ended) return;
    const { connection, head, record } = this;
    // Events caused by the answer no longer belong to this request.
    this.#state = ENDED;
    if (head === null) connection.endWith(alertFor(fault));
    else {
      record.status = fault.kind.status;
      if (isLastAnswer(fault, head)) connection.closeAfter();
      const { reason, fields, body } = composeRefusal(fault, record.requestId, this.#environment.config.name);
      connection.answer(fault.kind.status, reason, fields, Buffer.from(body));
    }
    this.#end(fault, 'proxy');
  }

  /** Answers as the final recipient of the request (RFC 9110 §7.6.2), and ends. */
  answer(status: number, reason: string, fields: RawFields, body: Buffer): void {
    if (this.ended) return;
    this.record.status = status;
    this.#state = ENDED;
    this.connection.answer(status, reason, fields, body);
    this.#end(null, 'proxy');
  }

  /**
   * The policy has changed: a tunnel, open or being dialled, that it no longer
   * permits is closed. An exchange has the time of a drain to end: most are
   * short, and half a response cannot be taken back.
   * @param revoke why a permit, to this address if it is known yet, is no longer valid; null: it
   * is valid; undefined: it is what it was
   * @returns whether it was closed
   */
  recheck(revoke: (permit: Permit, address: string | null) => Fault | null | undefined): boolean {
    const { kind } = this.#state;
    if (this.#permit === null || (kind !== 'tunnel' && kind !== 'dialling' && kind !== 'exchange')) return false;
    const fault = revoke(this.#permit, this.#address);
    if (fault === undefined) return false;
    if (kind === 'exchange') {
      // One that waits for a connection may get one to an address that is no longer permitted: it is judged again then.
      const holds = fault === null && this.#address !== null && this.connection.fault === null;
      this.#endBy = holds ? NO_CLOCK : Math.min(this.#endBy, performance.now() + this.#times.drain);
      return false;
    }
    if (fault === null) return false;
    this.cut(fault);
    return true;
  }

  /** Where it was dialled to; null: it has not been yet. */
  get #address(): string | null {
    return this.record.dialled ? this.record.upstreamAddress : null;
  }

  /** Why it would not be admitted now; null: it would. */
  get #withdrawn(): Fault | null {
    if (this.#permit === null) return null;
    return this.connection.fault ?? this.#environment.egress.revoked(this.#permit, this.#address, Date.now());
  }

  get #times(): Config['timeouts'] {
    return this.#environment.config.timeouts;
  }

  /**
   * Charges it for its bytes, as long as it holds a permit.
   * @param charge why it has to end; null: it may continue
   */
  charge(charge: (permit: Permit, record: AccessRecord) => Fault | null): void {
    const fault = this.#permit === null ? null : charge(this.#permit, this.record);
    if (fault !== null) this.cut(fault);
  }

  /** Ended by the proxy: the drain deadline has passed, or a permission was revoked. */
  cut(fault: Fault): void {
    switch (this.#state.kind) {
      case 'tunnel':
        this.#state.tunnel.end(fault);
        break;
      case 'exchange':
        this.#state.exchange.abort(fault);
        break;
      case 'dialling':
        this.#state.cancellation.abort();
        this.refuse(fault);
        break;
      case 'deciding':
        this.refuse(fault);
        break;
      case 'ended':
        break;
    }
  }

  // --- RequestUnderWay

  get stamp(): number {
    switch (this.#state.kind) {
      case 'exchange':
        return this.#state.exchange.stamp;
      case 'tunnel':
        return this.#state.tunnel.moved;
      default:
        return 0;
    }
  }

  get patience(): number {
    switch (this.#state.kind) {
      case 'exchange':
        return this.#state.exchange.patience;
      case 'tunnel':
        return this.#times.tunnelIdle;
      default:
        return NO_CLOCK;
    }
  }

  get due(): number {
    return this.#state.kind === 'tunnel' ? this.#state.tunnel.dueBy(this.#times.tunnelAge) : this.#endBy;
  }

  onDue(now: number): void {
    if (this.#state.kind === 'tunnel') this.#state.tunnel.onDue(now, this.#times.tunnelAge);
    else this.#endWithdrawn();
  }

  /** Its time is over, unless it has been permitted again. */
  #endWithdrawn(): void {
    this.#endBy = NO_CLOCK;
    const fault = this.#withdrawn;
    if (fault !== null) this.cut(fault);
  }

  content(content: Buffer): void {
    if (this.#state.kind === 'exchange') this.#state.exchange.content(content);
  }

  contentEnd(trailers: RawFields): void {
    if (this.#state.kind !== 'exchange') return;
    // Credentials for this proxy are removed here, wherever they are (RFC 9110 §11.7.2).
    this.#state.exchange.contentEnd(
      trailers.length === 0 || this.#headers === null
        ? []
        : forwardRequestTrailers(trailers, nominatedBy(this.head?.fields ?? []), this.#headers),
    );
  }

  drained(): void {
    if (this.#state.kind === 'exchange') this.#state.exchange.clientDrained();
  }

  stalled(): void {
    if (this.#state.kind === 'exchange') this.#state.exchange.stalled();
    else if (this.#state.kind === 'tunnel') this.#state.tunnel.onIdle();
  }

  /** In a tunnel each direction ends on its own, also before the tunnel begins: with early data, for example. */
  clientEnded(): boolean {
    if (this.#state.kind === 'dialling' || this.head?.method === 'CONNECT') return true;
    this.clientClosed();
    return false;
  }

  clientClosed(): void {
    switch (this.#state.kind) {
      case 'exchange':
        this.#state.exchange.clientClosed();
        break;
      case 'dialling':
        this.#state.cancellation.abort();
        this.#end(new Fault('client-closed', 'the client closed its connection while the upstream was dialled'), 'client');
        break;
      case 'deciding':
        this.#end(new Fault('client-closed', 'the client closed its connection while its request was decided'), 'client');
        break;
      // A tunnel registers its own listeners.
      case 'tunnel':
      case 'ended':
        break;
    }
  }

  broke(fault: Fault): void {
    this.connection.closeAfter();
    this.cut(fault);
  }

  revoked(fault: Fault): boolean {
    return this.recheck(() => fault);
  }

  crashed(fault: Fault): void {
    try {
      this.connection.closeAfter();
      this.cut(fault);
    } catch {
      // Ending it may be what threw. That has been logged, and the connection closes.
    }
    // The remaining parts will not report an end.
    this.#end(fault, 'proxy');
  }

  // --- ExchangeOwner

  onDone(): void {
    this.#end(null, 'upstream');
  }

  onFault(cause: Fault, answerable: boolean): void {
    const fault = cause.by(cause.facts.opened?.via ?? this.record.via);
    this.#noteUpstream(fault);
    if (answerable && fault.code !== 'client-closed') {
      this.refuse(fault);
      return;
    }
    this.#end(fault, closerOf(fault));
    // Never a clean end for an incomplete transfer: the client must see that it was cut (docs/invariants.md). One that had not begun misses nothing, and a reset would take the answer before it along.
    if (answerable) this.connection.destroy();
    else this.connection.cut();
  }

  /** A failed dial has already been counted where it was made. */
  #noteUpstream({ code, message, kind }: Fault): void {
    if (kind.blame === 'upstream' && this.record.dialled)
      this.#environment.telemetry.upstreamFailed(this.record.destination, code, message);
  }

  onUpgrade(upstream: Socket, head: ResponseHead, fields: RawFields): void {
    const { record } = this;
    // The upstream may have taken long, and exchanges outlast their permission, which tunnels must not.
    const fault = this.#withdrawn;
    if (fault !== null) {
      upstream.destroy();
      this.refuse(fault);
      return;
    }
    record.status = head.status;
    record.upstreamStatus = head.status;
    record.firstByteMs = performance.now() - record.startedAt;
    const answer = headText('HTTP/1.1 101 Switching Protocols', fields, 'Connection: Upgrade\r\nUpgrade: websocket\r\n');
    this.connection.socket.write(answer, 'latin1');
    this.#carry(upstream, null, this.connection.detach());
  }

  onCrash(error: unknown): void {
    this.connection.crash(error);
  }

  // --- TunnelOwner

  lastWords(fault: Fault): string {
    return refusalText(fault, this.record.requestId, this.#environment.config.name);
  }

  onTunnelAnswer(): void {
    this.#environment.telemetry.tunnelAnswered(this.record);
  }

  onTunnelEnd(cause: Fault | null, closedBy: ClosedBy): void {
    const { unanswered, bytesReceived, via } = this.record;
    const fault = cause === null ? null : cause.by(via);
    // Like a request without an answer. Once there was one, a reset may be how the upstream ends.
    if (fault !== null && (closedBy === 'upstream' || fault.code === 'upstream-silent') && unanswered) this.#noteUpstream(fault);
    // A client that ends its direction may only have sent something, but TLS is nothing without an answer.
    const gaveUp = fault === null && this.tellsItsEnd && bytesReceived === 0;
    this.#end(
      gaveUp ? new Fault('client-closed', 'the client closed its connection before the upstream had answered its ClientHello') : fault,
      closedBy,
    );
  }

  #carry(upstream: Socket, opening: Opening | null, head: Buffer | null): void {
    this.record.became = 'tunnel';
    this.#environment.telemetry.tunnelOpened(this.record);
    const tunnel = new Tunnel(this.connection.socket, upstream, this.record, this, opening);
    this.#state = { kind: 'tunnel', tunnel };
    tunnel.start(head);
  }

  #end(fault: Fault | null, closedBy: ClosedBy): void {
    if (this.#told) return;
    this.#told = true;
    this.#state = ENDED;
    const { record, connection } = this;
    const { requests, hellos, telemetry, remember, egress } = this.#environment;
    if (this.#hello !== null) hellos.delete(this.#hello);
    requests.delete(this);
    if (connection.request === this) connection.request = null;
    if (fault !== null) {
      record.noteFault(fault);
      if (record.upstreamAddress === '-') record.noteTried(fault.facts);
    }
    record.closedBy = closedBy;
    record.durationMs = performance.now() - record.startedAt;
    this.#permit?.release(!record.dialled && outcomeOf(record) === 'denied');
    // Refused before the policy decision: the log still names the client.
    if (fault !== null && record.client === '-') record.client = egress.clientName(record.clientAddress);
    telemetry.ended(record);
    if (fault !== null || record.wouldDeny !== '') remember(record, fault, this.#permit);
  }
}

function closerOf({ code }: Fault): ClosedBy {
  if (code === 'client-closed') return 'client';
  return code === 'upstream-cut' ? 'upstream' : 'proxy';
}

/** Why the proxy has no time or memory for a new request; null: it has. */
export function overloadFault(
  connection: Pick<ClientConnection, 'letIn'>,
  { overload }: RequestEnvironment,
  { startedAt }: AccessRecord,
): Fault | null {
  if (!connection.letIn) return overload?.refusal(startedAt) ?? null;
  connection.letIn = false;
  return null;
}

/**
 * Logs and counts a fault that no request belongs to. Of refusals for overload only the first are logged, and none is
 * remembered among the denials: it says nothing of what was asked.
 * @param status that was sent; 0 for none
 */
export function endUnread(
  { telemetry, remember, egress, overload }: RequestEnvironment,
  record: AccessRecord,
  fault: Fault,
  status: number,
): void {
  record.client = egress.clientName(record.clientAddress);
  record.noteFault(fault);
  record.status = status;
  record.closedBy = closerOf(fault);
  record.durationMs = performance.now() - record.startedAt;
  if (fault.code === 'overloaded') telemetry.ended(record, overload?.logsRefusal);
  else {
    telemetry.ended(record);
    remember(record, fault, null);
  }
}
