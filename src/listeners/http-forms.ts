/**
 * From a request to what is done with it: which form it has, what it asks for,
 * and, once the door has admitted it, the exchange or tunnel. The form is
 * decided here, before any router sees the request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Config, Form, HttpForm } from '../config/config.ts';
import type { Egress, Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { GatewayRoute, GatewayRouter } from '../gateway/router.ts';
import type { Authenticator, Credentials } from '../identity/authenticator.ts';
import type { Ask, Peer } from '../policy/verdict.ts';
import { forwardRequestHeaders, type HeaderSummary, summarise, viaNames } from '../relay/headers.ts';
import { formatAuthority } from '../target/host.ts';
import { pathOf } from '../target/path.ts';
import { quote } from '../target/quote.ts';
import { type OriginTarget, parseRequestTarget } from '../target/request-target.ts';
import { AccessRecord } from '../telemetry/access-record.ts';
import { readTraceparent } from '../telemetry/trace-context.ts';
import { createFrontingGuard } from './fronting-guard.ts';
import { takeForm } from './take-form.ts';
import type { ClientPeer } from './trusted-peers.ts';
import { Visit, type VisitContext } from './visit.ts';

export interface FormsOptions {
  readonly config: Pick<Config, 'mode' | 'name' | 'headers' | 'limits' | 'timeouts'>;
  readonly egress: Egress;
  readonly gateway: GatewayRouter;
  readonly authenticator: Authenticator;
  readonly context: VisitContext;
  readonly nextRequestId: () => string;
}

/** What the listener knows about a request besides the request itself. */
export interface Arrival {
  /** Forms its listener takes. */
  readonly forms: readonly Form[];
  /** Who asks, as far as the connection and its trusted peers tell. */
  readonly peer: ClientPeer;
  /** Address at the other end of the connection: another than the peer's where a trusted peer speaks for it. */
  readonly neighbour: string;
  /** By which it came: TLS ends here, or there is none. */
  readonly scheme: 'http' | 'https';
  /** Why it cannot be told who asks: the request is refused with it. */
  readonly fault: Fault | null;
  readonly expectsContinue: boolean;
  /** Early bytes of an upgrade; null when the client asks for none. */
  readonly upgradeHead: Buffer | null;
}

/** One request, as far as it has been read and its client verified. */
interface Inquiry {
  readonly visit: Visit;
  readonly req: IncomingMessage;
  readonly summary: HeaderSummary;
  readonly arrival: Arrival;
  readonly peer: Peer;
}

/** The same, where there is a response to answer on: every form but CONNECT. */
interface ExchangeInquiry extends Inquiry {
  readonly res: ServerResponse;
}

const DEFAULT_PORT = { http: 80, https: 443 } as const;

/** An operator's usual slip: these live on the admin listener alone. */
const OPERATIONS = new Set(['/metrics', '/healthz', '/readyz']);

export class HttpForms {
  #options: FormsOptions;

  constructor(options: FormsOptions) {
    this.#options = options;
  }

  /** Requests from now on follow this; those under way go on as they began. */
  adopt(changes: Pick<FormsOptions, 'config' | 'gateway'>): void {
    this.#options = { ...this.#options, ...changes };
  }

  /** A record for a request that never became one, or for one that begins. */
  record(clientAddress: string): AccessRecord {
    return new AccessRecord(this.#options.nextRequestId(), performance.now(), clientAddress);
  }

  /** Any request but CONNECT. Everything that goes wrong is answered on `res`. */
  onRequest(req: IncomingMessage, res: ServerResponse, arrival: Arrival): void {
    const visit = new Visit(this.#options.context, this.record(arrival.peer.address), { socket: req.socket, req, res, head: arrival.upgradeHead });
    this.#identify(visit, req, arrival, (inquiry) => {
      this.#serve({ ...inquiry, res });
    });
  }

  /** A request that the listener itself turns away. */
  refuse(req: IncomingMessage, res: ServerResponse, arrival: Arrival, fault: Fault): void {
    const visit = new Visit(this.#options.context, this.record(arrival.peer.address), { socket: req.socket, req, res, head: null });
    visit.record.method = req.method ?? '-';
    visit.refuse(fault);
  }

  /** `head` is what the client sent after the CONNECT without waiting; it stays unread until the dial is done. */
  onConnect(req: IncomingMessage, socket: Duplex, head: Buffer, arrival: Arrival): void {
    const visit = new Visit(this.#options.context, this.record(arrival.peer.address), { socket, req, res: null, head });
    this.#identify(visit, req, arrival, (inquiry) => {
      this.#tunnel(inquiry);
    });
  }

  /**
   * Reads the header section, verifies credentials, and goes on with `then`:
   * at once where nothing has to be verified, which is nearly always.
   */
  #identify(visit: Visit, req: IncomingMessage, arrival: Arrival, then: (inquiry: Inquiry) => void): void {
    const proceed = (summary: HeaderSummary, { user, token, rejected }: Credentials): void => {
      const { address, sans } = arrival.peer;
      then({ visit, req, summary, arrival, peer: { address, sans, user, token, rejected } });
    };
    try {
      const summary = this.#begin(visit, req, arrival);
      const credentials = this.#options.authenticator.check(summary.proxyAuthorization, arrival.peer.address);
      if (credentials instanceof Promise) visit.resume(credentials, (known) => {
        proceed(summary, known);
      });
      else proceed(summary, credentials);
    } catch (error) {
      visit.refuse(Fault.from(error));
    }
  }

  #tunnel({ visit, req, summary, arrival, peer }: Inquiry): void {
    const { record } = visit;
    // RFC 9110 §9.3.6: CONNECT has no content, and what followed it would be taken for the tunnel's first bytes.
    if (summary.hasBody) throw new Fault('framing-forbidden', 'a CONNECT request has no content', { remedy: 'leave out Content-Length and Transfer-Encoding' });
    const target = parseRequestTarget('CONNECT', req.url ?? '', summary.hosts, req.httpVersion);
    takeForm(record, 'connect', arrival.forms);
    record.host = target.kind === 'connect' ? target.host : '-';
    record.port = target.kind === 'connect' ? target.port : 0;
    const ask: Ask = { form: 'connect', peer, now: Date.now(), host: record.host, port: record.port, method: null, path: null };
    const permit = this.#options.egress.admit(ask, 'tunnels', record);
    visit.hold(permit);
    const guard = createFrontingGuard(record, permit, this.#options.config);
    void visit.startTunnel((signal) => this.#options.egress.openTunnel(permit, arrival.peer.port, record, signal), guard);
  }

  #serve(inquiry: ExchangeInquiry): void {
    const { visit, req, res, summary, arrival } = inquiry;
    const { egress, gateway } = this.#options;
    const { record } = visit;
    const target = parseRequestTarget(record.method, req.url ?? '', summary.hosts, req.httpVersion, arrival.scheme);
    if (target.kind === 'connect') throw new Fault('internal', 'a CONNECT reached the request handler');
    if (target.kind === 'absolute') {
      takeForm(record, 'forward', arrival.forms);
      this.#exchange(inquiry, 'forward', target, target.target, null);
      return;
    }
    const { authority } = target;
    if (authority !== null && egress.policy.hasHost(authority.host)) {
      takeForm(record, 'host-routed', arrival.forms);
      this.#exchange(inquiry, 'host-routed', { scheme: arrival.scheme, ...authority }, target.target, null);
      return;
    }
    record.form = 'gateway';
    record.path = pathOf(target.target);
    record.host = authority?.host ?? '-';
    record.port = authority?.port ?? 0;
    gateway.route(req, res, {
      onRoute: (route) => {
        takeForm(record, 'gateway', arrival.forms);
        this.#exchange(inquiry, 'gateway', route.origin, route.target, route);
      },
      onNone: () => {
        this.#serveRouteless(inquiry, target);
      },
      onError: (error) => {
        visit.refuse(Fault.from(error));
      },
    });
  }

  /**
   * Neither a destination's Host nor a gateway prefix: judged as what it most
   * looks like, a steered request for an unknown host. Only report mode lets it pass.
   */
  #serveRouteless(inquiry: ExchangeInquiry, { authority, target }: OriginTarget): void {
    const { gateway, egress } = this.#options;
    const { visit, peer } = inquiry;
    const { record } = visit;
    record.form = 'host-routed';
    if (authority !== null) {
      const denial = egress.judge({ form: 'host-routed', peer, now: Date.now(), ...authority, method: record.method, path: record.path }, record);
      if (denial === null) {
        takeForm(record, 'host-routed', inquiry.arrival.forms);
        this.#exchange(inquiry, 'host-routed', { scheme: inquiry.arrival.scheme, ...authority }, target, null);
        return;
      }
      if (denial.code !== 'host-not-allowed') throw denial;
    }
    record.verdict = 'deny';
    const prefixes = gateway.prefixes.length === 0 ? 'there is no gateway prefix' : `the path is not below ${gateway.prefixes.join(' or ')}`;
    throw new Fault('host-not-allowed', `Host names ${record.host}, which is no destination, and ${prefixes}`, {
      remedy: OPERATIONS.has(record.path)
        ? `${record.path} is served on the admin listener`
        : 'ask below a gateway prefix, or through the proxy for a host of the allowlist',
    });
  }

  /** What holds for every form: note who asks, refuse ambiguous framing and our own requests coming back. */
  #begin(visit: Visit, req: IncomingMessage, arrival: Arrival): HeaderSummary {
    const { config } = this.#options;
    const { record } = visit;
    const raw = req.rawHeaders;
    record.method = req.method ?? '-';
    if (arrival.fault !== null) throw arrival.fault;
    const summary = summarise(raw);
    const trace = readTraceparent(summary.traceparent);
    if (trace !== null) {
      record.traceId = trace.traceId;
      record.spanId = trace.spanId;
    }
    if (raw.length / 2 > config.limits.headerFields) {
      throw new Fault('headers-too-large', `the request has ${raw.length / 2} header fields, ${config.limits.headerFields} are taken`, {
        remedy: 'send fewer, or raise limits.headerFields',
      });
    }
    // The parser takes HTTP/0.9 and HTTP/2.0 in a request line and reads them as 1.x (RFC 9110 §2.5).
    if (req.httpVersion !== '1.1' && req.httpVersion !== '1.0') {
      throw new Fault('request-malformed', `The request line says HTTP/${req.httpVersion}`, { remedy: 'send HTTP/1.1' });
    }
    refuseTransferEncoding(summary.transferEncoding, req.httpVersion);
    if (viaNames(summary.via, config.name)) {
      throw new Fault('loop', `the request has passed this proxy already: Via names ${config.name}`, {
        remedy: 'send requests for the partner to the partner, and give chained proxies different names',
      });
    }
    return summary;
  }

  #exchange(inquiry: ExchangeInquiry, form: HttpForm, origin: Origin, target: string, route: GatewayRoute | null): void {
    const { config, egress } = this.#options;
    const { visit, req, res, summary, arrival, peer } = inquiry;
    const { record } = visit;
    record.host = origin.host;
    record.port = origin.port;
    record.path = pathOf(target);
    // undici sends no asterisk-form, and a partner's API has no use for it.
    if (target === '*') throw new Fault('target-malformed', 'OPTIONS for a whole server is not forwarded', { remedy: 'ask for a path' });
    const ask: Ask = { form, peer, now: Date.now(), host: origin.host, port: origin.port, method: record.method, path: record.path };
    const permit = egress.admit(route === null ? ask : { ...ask, destination: route.destination }, 'exchanges', record);
    visit.hold(permit);
    const headers = forwardRequestHeaders(req.rawHeaders, {
      name: config.name,
      headers: config.headers,
      authority: authorityFor(origin),
      httpVersion: req.httpVersion,
      clientAddress: arrival.neighbour,
      clientScheme: arrival.scheme,
      clientHost: summary.hosts[0] ?? '',
    });
    visit.startExchange(req, res, {
      pool: egress.pool(permit, origin),
      method: record.method,
      path: target,
      headers,
      serverName: origin.host,
      hasBody: summary.hasBody,
      expectsContinue: arrival.expectsContinue,
      upgrade: arrival.upgradeHead === null ? null : 'websocket',
      via: config.headers.via ? `1.1 ${config.name}` : null,
      mapLocation: route?.mapLocation ?? null,
      bodyTimeout: config.timeouts.body,
    });
  }
}

/** The Host field for an origin: the port only where it is not the scheme's own (RFC 9110 §7.2). */
function authorityFor(origin: Origin): string {
  if (origin.port !== DEFAULT_PORT[origin.scheme]) return formatAuthority(origin.host, origin.port);
  return origin.host.includes(':') ? `[${origin.host}]` : origin.host;
}

/** One `chunked`, in this spelling and in HTTP/1.1: anything else is read differently by different servers (RFC 9112 §6.1). */
function refuseTransferEncoding(values: readonly string[], httpVersion: string): void {
  if (values.length === 0) return;
  const remedy = 'send Transfer-Encoding: chunked alone, or Content-Length';
  if (httpVersion === '1.0') throw new Fault('framing-forbidden', 'an HTTP/1.0 request has a Transfer-Encoding', { remedy });
  if (values.length > 1 || values[0] !== 'chunked') {
    throw new Fault('framing-forbidden', `the Transfer-Encoding is ${quote(values.join(', '))}`, { remedy });
  }
}
