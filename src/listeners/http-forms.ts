/**
 * From a request to what is done with it: which form it has, what it asks for,
 * and, once the door has admitted it, the exchange or tunnel. The form is
 * decided here, before any router sees the request.
 *
 * Longer than 300 lines: which form a request has depends on all the others.
 */
import type { Config, Form, HttpForm } from '../config/config.ts';
import type { Egress, Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { GatewayRoute, GatewayRouter } from '../gateway/router.ts';
import type { RawFields } from '../http1/fields.ts';
import { headText } from '../http1/message-writer.ts';
import type { RequestHead } from '../http1/request-head.ts';
import type { Authenticator, Credentials } from '../identity/authenticator.ts';
import type { Ask, Peer, Proof } from '../policy/verdict.ts';
import { authenticatesConnection } from '../relay/exchange.ts';
import { connectionOptions, forwardRequestHeaders, nominatedBy, viaNames } from '../relay/headers.ts';
import { formatAuthority } from '../targets/host.ts';
import { pathOf } from '../targets/path.ts';
import { quote } from '../targets/quote.ts';
import { type OriginTarget, parseRequestTarget } from '../targets/request-target.ts';
import { AccessRecord } from '../telemetry/access-record.ts';
import { readTraceparent } from '../telemetry/trace-context.ts';
import type { ClientConnection } from './client-connection.ts';
import { createFrontingGuard } from './fronting-guard.ts';
import { RequestContext, type RequestEnvironment } from './request-context.ts';
import type { ClientPeer, PeerReader } from './trusted-peers.ts';

export interface FormsOptions {
  readonly config: Pick<Config, 'mode' | 'name' | 'headers' | 'limits' | 'timeouts'>;
  readonly egress: Egress;
  readonly gateway: GatewayRouter;
  readonly authenticator: Authenticator;
  readonly environment: RequestEnvironment;
  readonly nextRequestId: () => string;
}

/** One request, as far as it has been read and its client verified. */
interface Inquiry {
  readonly request: RequestContext;
  readonly head: RequestHead;
  /** As far as the connection and its trusted peers tell. */
  readonly asker: ClientPeer;
  readonly peer: Peer;
  /** By which the peer is who it is. */
  readonly proofs: readonly Proof[];
}

const NO_PROOFS: readonly Proof[] = [];
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

  /**
   * A request's header section has come. Reads who asks, verifies credentials,
   * and goes on: at once where nothing has to be verified, which is nearly
   * always. Everything that goes wrong is answered.
   */
  onRequest(connection: ClientConnection, head: RequestHead, peers: PeerReader): void {
    const asker = peers.read(connection.peer, head.fields);
    const known = asker instanceof Fault ? connection.peer : asker;
    const request = new RequestContext(this.#options.environment, this.record(known.address), connection, head);
    try {
      const fault = connectionFault(connection);
      if (fault !== null) throw fault;
      if (asker instanceof Fault) throw asker;
      this.#check(request, head);
      const credentials = this.#options.authenticator.check(head.proxyAuthorization, asker);
      if (credentials instanceof Promise) {
        connection.pause();
        request.resume(credentials, (verified) => {
          this.#proceed(request, head, asker, verified);
          connection.resume();
        });
      } else this.#proceed(request, head, asker, credentials);
    } catch (error) {
      request.failed(error);
    }
  }

  #proceed(request: RequestContext, head: RequestHead, asker: ClientPeer, { user, token, rejected, proof }: Credentials): void {
    const { address, sans } = asker;
    const shown = request.connection.proof;
    // Nearly every request rests on its address alone.
    const proofs = proof === null && shown === null ? NO_PROOFS : [proof, shown].filter((each) => each !== null);
    const inquiry: Inquiry = { request, head, asker, peer: { address, sans, user, token, rejected }, proofs };
    if (head.method === 'CONNECT') this.#tunnel(inquiry);
    else this.#serve(inquiry);
  }

  #tunnel({ request, head, asker, peer, proofs }: Inquiry): void {
    const { record, connection } = request;
    // RFC 9110 §9.3.6: CONNECT has no content, and what followed it would be taken for the tunnel's first bytes.
    if (head.framing.kind !== 'none') throw new Fault('framing-forbidden', 'a CONNECT request has no content', { remedy: 'leave out Content-Length and Transfer-Encoding' });
    const target = parseRequestTarget('CONNECT', head.target, head.hosts, head.version);
    takeForm(record, 'connect', connection.forms);
    record.host = target.kind === 'connect' ? target.host : '-';
    record.port = target.kind === 'connect' ? target.port : 0;
    const ask: Ask = { form: 'connect', peer, now: Date.now(), host: record.host, port: record.port, method: null, path: null };
    const permit = this.#options.egress.admit(ask, 'tunnels', record, proofs);
    request.hold(permit);
    const guard = createFrontingGuard(request, permit, this.#options.config);
    request.startTunnel((signal) => this.#options.egress.openTunnel(permit, asker.port, record, signal), guard);
  }

  #serve(inquiry: Inquiry): void {
    const { request, head } = inquiry;
    const { egress, gateway } = this.#options;
    const { record, connection } = request;
    const scheme = connection.secure ? 'https' : 'http';
    const target = parseRequestTarget(head.method, head.target, head.hosts, head.version, scheme);
    if (target.kind === 'connect') throw new Fault('internal', 'a CONNECT reached the request handler');
    if (target.kind === 'absolute') {
      takeForm(record, 'forward', connection.forms);
      const { otherHost } = target;
      if (otherHost !== null) record.noteDetail(`the Host field said ${formatAuthority(otherHost.host, otherHost.port)}, and was replaced by that of the target`);
      this.#exchange(inquiry, 'forward', target, target.target, null);
      return;
    }
    const { authority } = target;
    if (authority !== null && egress.policy.hasHost(authority.host)) {
      takeForm(record, 'host-routed', connection.forms);
      this.#exchange(inquiry, 'host-routed', egress.policy.steered({ scheme, ...authority }), target.target, null);
      return;
    }
    record.form = 'gateway';
    record.path = pathOf(target.target);
    record.host = authority?.host ?? '-';
    record.port = authority?.port ?? 0;
    gateway.route(target.target, {
      onRoute: (route) => {
        takeForm(record, 'gateway', connection.forms);
        this.#exchange(inquiry, 'gateway', route.origin, route.target, route);
      },
      onNone: () => {
        this.#serveRouteless(inquiry, target);
      },
      onError: (error) => {
        request.failed(error);
      },
    });
  }

  /**
   * Neither a destination's Host nor a gateway prefix: judged as what it most
   * looks like, a steered request for an unknown host. Only report mode lets it pass.
   */
  #serveRouteless(inquiry: Inquiry, { authority, target }: OriginTarget): void {
    const { gateway, egress } = this.#options;
    const { request, peer } = inquiry;
    const { record, connection } = request;
    record.form = 'host-routed';
    if (authority !== null) {
      const denial = egress.judge({ form: 'host-routed', peer, now: Date.now(), ...authority, method: record.method, path: record.path }, record);
      if (denial === null) {
        takeForm(record, 'host-routed', connection.forms);
        this.#exchange(inquiry, 'host-routed', { scheme: connection.secure ? 'https' : 'http', ...authority }, target, null);
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

  /** What holds for every form. @throws {Fault} */
  #check({ record }: RequestContext, { version, via, traceparent }: RequestHead): void {
    const { config } = this.#options;
    const trace = readTraceparent(traceparent);
    if (trace !== null) {
      record.traceId = trace.traceId;
      record.spanId = trace.spanId;
    }
    // RFC 9110 §2.5: what another version means here, nobody knows.
    if (version !== '1.1' && version !== '1.0') throw new Fault('request-malformed', `The request line says HTTP/${version}`, { remedy: 'send HTTP/1.1' });
    if (viaNames(via, config.name)) {
      throw new Fault('loop', `the request has passed this proxy already: Via names ${config.name}`, {
        remedy: 'send requests for the partner to the partner, and give chained proxies different names',
      });
    }
  }

  #exchange({ request, head, asker, peer, proofs }: Inquiry, form: HttpForm, origin: Origin, target: string, route: GatewayRoute | null): void {
    const { config, egress } = this.#options;
    const { record, connection } = request;
    const { method, framing, version } = head;
    record.host = origin.host;
    record.port = origin.port;
    record.path = pathOf(target);
    const ask: Ask = { form, peer, now: Date.now(), host: origin.host, port: origin.port, method, path: record.path };
    const permit = egress.admit(route === null ? ask : { ...ask, destination: route.destination }, 'exchanges', record, proofs);
    request.hold(permit);
    const expectsContinue = readExpect(head);
    const upgrades = isWebSocket(head);
    const maxForwards = readMaxForwards(head);
    if (maxForwards === 0) {
      answerHere(request, head);
      return;
    }
    const fields = forwardRequestHeaders(head.fields, {
      name: config.name,
      headers: config.headers,
      authority: authorityFor(origin),
      httpVersion: version,
      clientAddress: connection.peer.address,
      clientScheme: connection.secure ? 'https' : 'http',
      clientHost: head.hosts[0] ?? '',
      chunked: framing.kind === 'chunked',
      maxForwards: maxForwards === null ? null : maxForwards - 1,
    });
    request.startExchange({
      pool: egress.pool(permit, origin),
      client: asker.address,
      method,
      head: headText(`${method} ${target} HTTP/1.1`, fields, connectionOptions(fields, { chunked: framing.kind === 'chunked', upgrades })),
      framing,
      expectsContinue,
      upgrades,
      viaName: config.headers.via ? config.name : null,
      mapField: route?.mapFields(connection.secure) ?? null,
      authenticatesConnection: authenticatesConnection(head.authorization),
      replays: egress.replays,
      timeouts: config.timeouts,
    }, config.headers);
  }
}

/** Why no request on this connection can be served; null: they can. */
function connectionFault({ fault, proof }: ClientConnection): Fault | null {
  if (fault !== null) return fault;
  const reason = proof?.lapsed(Date.now()) ?? null;
  return reason === null ? null : new Fault('client-certificate', reason, { remedy: 'connect again, with a certificate that is valid now' });
}

/** Notes the form. @throws {Fault} form-not-allowed where the listener does not take it */
export function takeForm(record: AccessRecord, form: Form, forms: readonly Form[]): void {
  record.form = form;
  if (forms.includes(form)) return;
  record.verdict = 'deny';
  throw new Fault('form-not-allowed', `this listener takes ${forms.join(', ')}, not ${form}`, {
    remedy: `use another port, or add ${form} to the listener's forms`,
  });
}

/** RFC 9110 §10.1.1. @throws {Fault} expectation-failed */
function readExpect({ expect, version, framing }: RequestHead): boolean {
  if (expect === '' || version === '1.0') return false;
  if (expect.toLowerCase() !== '100-continue') throw new Fault('expectation-failed', `the expectation is ${quote(expect)}`);
  return framing.kind !== 'none';
}

/**
 * Only WebSocket leaves HTTP; RFC 9110 §7.8 lets a server ignore other
 * upgrades, and has it ignore those of HTTP/1.0.
 * @throws {Fault} framing-forbidden for one with content, of which nobody could tell whether it is the new protocol's
 */
function isWebSocket({ upgrade, method, version, framing, fields }: RequestHead): boolean {
  if (upgrade.toLowerCase() !== 'websocket' || method !== 'GET' || version !== '1.1' || !names(fields, 'upgrade')) return false;
  if (framing.kind !== 'none') throw new Fault('framing-forbidden', 'a request for an upgrade has content', { remedy: 'leave out Content-Length and Transfer-Encoding' });
  return true;
}

function names(fields: RawFields, option: string): boolean {
  return nominatedBy(fields)?.has(option) === true;
}

/** RFC 9110 §7.6.2: for TRACE and OPTIONS alone; null where there is none. @throws {Fault} */
function readMaxForwards({ method, maxForwards }: RequestHead): number | null {
  if (maxForwards === '' || (method !== 'TRACE' && method !== 'OPTIONS')) return null;
  if (!/^\d{1,9}$/.test(maxForwards)) throw new Fault('request-malformed', `Max-Forwards is ${quote(maxForwards)}`, { remedy: 'send a number, or leave it out' });
  return Number(maxForwards);
}

/** RFC 9110 §7.6.2: no proxy further on is meant, so this one answers: to TRACE with the request itself (§9.3.8). */
function answerHere(request: RequestContext, { method, target, version, fields }: RequestHead): void {
  if (method === 'OPTIONS') {
    request.answer(204, 'No Content', [], Buffer.alloc(0));
    return;
  }
  // RFC 9110 §9.3.8: without what is nobody else's to read.
  const shown = fields.filter((_, i) => !/^(?:proxy-)?authorization$|^cookie$/i.test(fields[i - (i % 2)] ?? ''));
  const body = Buffer.from(headText(`TRACE ${target} HTTP/${version}`, shown), 'latin1');
  request.answer(200, 'OK', ['Content-Type', 'message/http', 'Content-Length', String(body.length)], body);
}

/** The Host field for an origin: the port only where it is not the scheme's own (RFC 9110 §7.2). */
function authorityFor(origin: Origin): string {
  if (origin.port !== DEFAULT_PORT[origin.scheme]) return formatAuthority(origin.host, origin.port);
  return origin.host.includes(':') ? `[${origin.host}]` : origin.host;
}
