/**
 * Serves a request: the steps common to every form and, once it has been
 * admitted, the exchange or tunnel. choose-form.ts determines the form.
 */
import type { Form, HttpForm } from '../config/config.ts';
import type { Origin, Permit } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { GatewayRoute, GatewayRouter } from '../gateway/router.ts';
import { headText } from '../http1/message-writer.ts';
import type { RequestHead } from '../http1/request-head.ts';
import { isConnectionAuth } from '../http1/response-head.ts';
import type { Authenticator, VerifiedCredentials } from '../identity/authenticator.ts';
import type { Ask, Peer, Proof } from '../policy/verdict.ts';
import { connectionOptions, forwardRequestHeaders, nominatedBy, overridingMethods, viaNames } from '../relay/headers.ts';
import { type Authority, bracketed, DEFAULT_PORT, formatAuthority } from '../targets/host.ts';
import { pathOf } from '../targets/path.ts';
import { quote, show } from '../targets/quote.ts';
import { AccessRecord, nextRequestId, readTraceparent } from '../telemetry/access-record.ts';
import { chooseForm, judgedAs, namesNoDestination, type PathChoice } from './choose-form.ts';
import type { ClientConnection } from './client-connection.ts';
import { createFrontingGuard } from './fronting-guard.ts';
import { isLastAnswer, RepeatedRefusals } from './refuse.ts';
import { endUnread, environmentOf, overloadFault, RequestContext, type RequestEnvironment } from './request-context.ts';
import type { ClientPeer, PeerReader } from './trusted-peers.ts';

/** One request, as far as it has been read and its client verified. */
interface IdentifiedRequest {
  readonly request: RequestContext;
  readonly head: RequestHead;
  /** The fields that the connection and its trusted peers give. */
  readonly asker: ClientPeer;
  readonly peer: Peer;
  /** What identifies the peer. */
  readonly proofs: readonly Proof[];
}

const NO_PROOFS: readonly Proof[] = [];

/** Serves the requests of all HTTP connections. Has no state per request. */
export class HttpForms {
  readonly #environment: RequestEnvironment;
  readonly #authenticator: Authenticator;
  #gateway: GatewayRouter;
  /** Of overload. */
  readonly refusals: RepeatedRefusals;

  constructor(environment: RequestEnvironment, authenticator: Authenticator, gateway: GatewayRouter) {
    this.#environment = environment;
    this.#authenticator = authenticator;
    this.#gateway = gateway;
    this.refusals = new RepeatedRefusals(environment.config.name);
  }

  /** New requests use this; those in progress continue as they began. */
  adopt(gateway: GatewayRouter): void {
    this.#gateway = gateway;
  }

  /**
   * A request's header section has arrived. Identifies the client, verifies
   * credentials, and continues: synchronously if there is nothing to verify,
   * which is the usual case. Every error is answered.
   */
  onRequest(connection: ClientConnection, head: RequestHead, peers: PeerReader): void {
    const asker = peers.read(connection.peer, head.fields);
    const known = asker instanceof Fault ? connection.peer : asker;
    const record = new AccessRecord(nextRequestId(), performance.now(), known.address);
    const environment = environmentOf(connection, this.#environment);
    const overloaded = overloadFault(connection, environment, record);
    if (overloaded !== null) {
      this.#turnAway(connection, head, environment, record, overloaded);
      return;
    }
    const request = new RequestContext(environment, record, connection, head);
    try {
      checkConnection(connection);
      if (asker instanceof Fault) throw asker;
      this.#check(request, head);
      const credentials = this.#authenticator.check(head.proxyAuthorization, asker);
      if (credentials instanceof Promise) {
        connection.pause();
        request.resume(credentials, (verified) => {
          // Before anything that pauses it for its own reasons.
          connection.resume();
          // A reload may have come meanwhile.
          checkConnection(connection);
          this.#proceed(request, head, asker, verified);
        });
      } else this.#proceed(request, head, asker, credentials);
    } catch (error) {
      request.failed(error);
    }
  }

  /** Before anything has been done for a request: what is refused has to cost little beside what is served. */
  #turnAway(connection: ClientConnection, head: RequestHead, environment: RequestEnvironment, record: AccessRecord, fault: Fault): void {
    record.method = head.method;
    if (head.method === 'CONNECT') record.form = 'connect';
    if (environment.draining || isLastAnswer(fault, head)) connection.closeAfter();
    const text = this.refusals.text(fault, record.requestId);
    connection.answerText(text.head, text.body);
    endUnread(environment, record, fault, fault.kind.status);
  }

  #proceed(request: RequestContext, head: RequestHead, asker: ClientPeer, { user, token, rejected, proof }: VerifiedCredentials): void {
    const { address, sans } = asker;
    const { record, connection } = request;
    const shown = connection.proof;
    // Nearly every request is identified by its address alone.
    const proofs = proof === null && shown === null ? NO_PROOFS : [proof, shown].filter((each) => each !== null);
    const identified = { request, head, asker, peer: { address, sans, user, token, rejected }, proofs };
    // RFC 9110 §9.3.6: CONNECT has no content; following bytes would be read as the tunnel's first bytes.
    if (head.method === 'CONNECT' && head.framing.kind !== 'none')
      throw new Fault('framing-forbidden', 'a CONNECT request has no content', {
        remedy: 'leave out Content-Length and Transfer-Encoding',
      });
    const choice = chooseForm(head, connection.secure ? 'https' : 'http', this.#environment.egress.policy);
    if (choice.form === 'gateway') {
      record.form = 'gateway';
      record.path = pathOf(choice.target);
      record.host = choice.authority?.host ?? '-';
      record.port = choice.authority?.port ?? 0;
      const route = this.#route(identified, choice);
      if (route === null) this.#serveRouteless(identified, choice);
      else {
        takeForm(record, 'gateway', connection.forms);
        this.#exchange(identified, 'gateway', route.origin, route.target, route);
      }
      return;
    }
    takeForm(record, choice.form, connection.forms);
    if (choice.form === 'connect') {
      this.#tunnel(identified, choice);
      return;
    }
    if (choice.form === 'forward' && choice.otherHost !== null)
      record.noteDetail(
        `the Host field said ${formatAuthority(choice.otherHost.host, choice.otherHost.port)}, and was replaced by that of the target`,
      );
    this.#exchange(identified, choice.form, choice.origin, choice.target, null);
  }

  #tunnel({ request, asker, peer, proofs }: IdentifiedRequest, { host, port }: Authority): void {
    const { egress, config } = this.#environment;
    const { record } = request;
    record.host = host;
    record.port = port;
    const ask: Ask = { form: 'connect', peer, now: Date.now(), host, port, method: null, path: null };
    const permit = egress.admit(ask, 'tunnels', record, proofs);
    request.hold(permit);
    request.startTunnel(permit, asker.port, createFrontingGuard(request, permit, config));
  }

  /** Null: no prefix covers it. @throws {Fault} path-ambiguous */
  #route(identified: IdentifiedRequest, { target }: PathChoice): GatewayRoute | null {
    try {
      return this.#gateway.route(target);
    } catch (error) {
      this.#refuseStranger(identified);
      throw error;
    }
  }

  /** Before a refusal that shows which prefixes there are. @throws {Fault} the denial of a peer that is no client */
  #refuseStranger({ request: { record }, peer }: IdentifiedRequest): void {
    const { egress } = this.#environment;
    const { host, port, method, path } = record;
    const ask: Ask = { form: 'gateway', peer, now: Date.now(), host, port, method, path };
    const refusal = egress.isClient(peer) ? null : egress.judge(ask, record);
    if (refusal !== null) throw refusal;
  }

  /** No prefix covers it: it passes in report mode only, as a steered request for an unknown host. */
  #serveRouteless(identified: IdentifiedRequest, choice: PathChoice): void {
    const { egress } = this.#environment;
    const { request, peer } = identified;
    const { record, connection } = request;
    record.form = 'host-routed';
    const origin = judgedAs(choice, connection.secure ? 'https' : 'http');
    if (origin !== null) {
      const { host, port } = origin;
      const denial = egress.judge(
        { form: 'host-routed', peer, now: Date.now(), host, port, method: record.method, path: record.path },
        record,
      );
      if (denial === null) {
        takeForm(record, 'host-routed', connection.forms);
        this.#exchange(identified, 'host-routed', origin, choice.target, null);
        return;
      }
      if (denial.code !== 'host-not-allowed') throw denial;
    } else this.#refuseStranger(identified);
    record.verdict = 'deny';
    throw namesNoDestination(choice, this.#gateway.prefixes);
  }

  /** The checks common to every form. @throws {Fault} */
  #check({ record }: RequestContext, { version, via, traceparent }: RequestHead): void {
    const { config } = this.#environment;
    const trace = readTraceparent(traceparent);
    if (trace !== null) {
      record.traceId = trace.traceId;
      record.spanId = trace.spanId;
      record.traceFlags = trace.flags;
    }
    // RFC 9110 §2.5: the meaning of another version is not known.
    if (version !== '1.1' && version !== '1.0')
      throw new Fault('request-malformed', `The request line says HTTP/${version}`, { remedy: 'send HTTP/1.1' });
    if (viaNames(via, config.name)) {
      throw new Fault('loop', `the request has passed this proxy already: Via names ${config.name}`, {
        remedy: 'send requests for the partner to the partner, and give chained proxies different names',
      });
    }
  }

  #exchange(
    { request, head, asker, peer, proofs }: IdentifiedRequest,
    form: HttpForm,
    origin: Origin,
    target: string,
    route: GatewayRoute | null,
  ): void {
    const { config, egress } = this.#environment;
    const { record, connection } = request;
    const { method, framing, version } = head;
    record.host = origin.host;
    record.port = origin.port;
    record.path = pathOf(target);
    record.scheme = origin.scheme;
    const ask: Ask = { form, peer, now: Date.now(), host: origin.host, port: origin.port, method, path: record.path };
    // It holds a connection of its own, as tunnels do, as soon as the upstream accepts it.
    const upgrades = isWebSocket(head);
    const permit = egress.admit(
      route === null ? ask : { ...ask, destination: route.destination },
      upgrades ? 'tunnels' : 'exchanges',
      record,
      proofs,
    );
    request.hold(permit);
    const expectsContinue = readExpect(head);
    const chunked = framing.kind === 'chunked';
    // It could be mistaken for bytes of the new protocol.
    if (upgrades && framing.kind !== 'none')
      throw new Fault('framing-forbidden', 'a request for an upgrade has content', {
        remedy: 'leave out Content-Length and Transfer-Encoding',
      });
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
      chunked,
      expectsContinue,
      maxForwards: maxForwards === null ? null : maxForwards - 1,
      trace: record.trace,
    });
    for (const overriding of overridingMethods(fields))
      judgeToo(egress, permit, { method: overriding }, record, `a field overrides the method with ${show(overriding)}`);
    // RFC 4918 §10.3: where COPY and MOVE write to. With another meaning it is neither a URL nor an absolute path.
    if (/^(?:[a-z][a-z0-9+.-]*:)?\//i.test(head.destination)) {
      const path = pathOf(head.destination.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*|#.*$/gi, ''));
      judgeToo(egress, permit, { path }, record, `the Destination field names ${show(path)}`);
    }
    request.startExchange(
      {
        pool: egress.pool(permit, origin),
        client: asker.address,
        identity: peer,
        method,
        head: headText(`${method} ${target} HTTP/1.1`, fields, connectionOptions(fields, { chunked, upgrades })),
        framing,
        expectsContinue,
        upgrades,
        viaName: config.headers.via ? config.name : null,
        mapField: route?.mapFields(connection.secure) ?? null,
        authenticatesConnection: head.authorization !== '' && isConnectionAuth(head.authorization),
        replays: egress.replays,
        timeouts: config.timeouts,
      },
      config.headers,
    );
  }
}

/** Whether requests on this connection can be served at all. @throws {Fault} */
function checkConnection({ fault, proof }: ClientConnection): void {
  if (fault !== null) throw fault;
  const reason = proof?.lapsed(Date.now()) ?? null;
  if (reason !== null) throw new Fault('client-certificate', reason, { remedy: 'connect again, with a certificate that is valid now' });
}

/** What a partner may obey in a field, besides or in place of the request line, has to be permitted by the same destination. @throws {Fault} */
function judgeToo(
  egress: RequestEnvironment['egress'],
  { ask, verdict: { destination } }: Permit,
  other: Partial<Ask>,
  record: AccessRecord,
  why: string,
): void {
  const asked = { ...ask, ...other, ...(destination === null ? {} : { destination: destination.name }) };
  const denial = egress.judge(asked, record, `${why}: `);
  if (denial !== null) throw denial;
}

/** Records the form. @throws {Fault} form-not-allowed where the listener does not accept it */
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

/** Only WebSocket leaves HTTP; RFC 9110 §7.8 lets a server ignore other upgrades, and requires it to ignore those of HTTP/1.0. */
function isWebSocket({ upgrade, method, version, fields }: RequestHead): boolean {
  return upgrade.toLowerCase() === 'websocket' && method === 'GET' && version === '1.1' && nominatedBy(fields)?.has('upgrade') === true;
}

/** RFC 9110 §7.6.2: for TRACE and OPTIONS alone; null where there is none. @throws {Fault} */
function readMaxForwards({ method, maxForwards }: RequestHead): number | null {
  if (maxForwards === '' || (method !== 'TRACE' && method !== 'OPTIONS')) return null;
  if (!/^\d{1,9}$/.test(maxForwards))
    throw new Fault('request-malformed', `Max-Forwards is ${quote(maxForwards)}`, { remedy: 'send a number, or leave it out' });
  return Number(maxForwards);
}

/** RFC 9110 §7.6.2: the request is not to be forwarded, so the proxy answers: to TRACE with the request itself (§9.3.8). */
function answerHere(request: RequestContext, { method, target, version, fields }: RequestHead): void {
  if (method === 'OPTIONS') {
    request.answer(204, 'No Content', [], Buffer.alloc(0));
    return;
  }
  // RFC 9110 §9.3.8: without fields that are private.
  const shown = fields.filter((_, i) => !/^(?:proxy-)?authorization$|^cookie$/i.test(fields[i - (i % 2)] ?? ''));
  const body = Buffer.from(headText(`TRACE ${target} HTTP/${version}`, shown), 'latin1');
  request.answer(200, 'OK', ['Content-Type', 'message/http', 'Content-Length', String(body.length)], body);
}

/** The Host field for an origin: the port only if it is not the scheme's default (RFC 9110 §7.2). */
function authorityFor(origin: Origin): string {
  return origin.port === DEFAULT_PORT[origin.scheme] ? bracketed(origin.host) : formatAuthority(origin.host, origin.port);
}
