/**
 * Every reason why a request can be refused or fail: one table, from which the
 * status line, `Proxy-Status`, the problem body, the log and the counters take
 * their texts.
 */

/** Who has to act: the caller, the owner of the policy, the partner, or the operator of the proxy. */
export type Blame = 'client' | 'policy' | 'upstream' | 'proxy';

interface FaultKind {
  /** HTTP status we answer with. */
  readonly status: number;
  /** RFC 9209 §2.3 proxy error type. */
  readonly proxyError: string;
  readonly blame: Blame;
  /** Short sentence, the same every time: RFC 9457 `title`. */
  readonly title: string;
  /** What helps in every case of it; null: only the case can say. */
  readonly remedy: string | null;
}

const kind = (status: number, proxyError: string, blame: Blame, title: string, remedy: string | null = null): FaultKind => ({
  status,
  proxyError,
  blame,
  title,
  remedy,
});

const ASK_PARTNER = 'Ask the partner, with the time and the upstreamAddress of the log line.';

const denied = (title: string): FaultKind => kind(403, 'http_request_denied', 'policy', title);
const malformed = (title: string, remedy: string | null = null): FaultKind => kind(400, 'http_request_error', 'client', title, remedy);

/** The codes are a contract with users: docs/errors.md lists them, a test holds the two together. */
export const FAULTS = {
  'client-not-allowed': denied('The peer matches no configured client'),
  'host-not-allowed': denied('The host matches no configured destination'),
  'port-not-allowed': denied('The destination does not list this port'),
  'form-not-allowed': denied('This form of request is not accepted here'),
  'method-not-allowed': denied('The policy does not list this method'),
  'path-not-allowed': denied('The policy does not list this path'),
  revoked: denied('The permission was withdrawn, or the credential it depends on is no longer valid'),
  'no-rule': denied('No rule lets this client use this destination'),
  'rule-expired': denied('The matching rule is not in effect now'),
  'rate-limited': kind(429, 'http_request_denied', 'policy', 'The rate that the rule permits is used up'),
  'byte-limit-reached': kind(429, 'http_request_denied', 'policy', 'The bytes that the rule permits are used up'),
  'sni-mismatch': denied('The TLS inside the tunnel asks for another host than the CONNECT did'),
  'peer-not-trusted': denied('This peer is not trusted to name another client'),
  'client-certificate': kind(403, 'http_request_denied', 'client', 'The client certificate is missing or not accepted'),
  'credentials-missing': kind(407, 'http_request_denied', 'client', 'Credentials are needed'),
  'credentials-wrong': kind(407, 'http_request_denied', 'client', 'The credentials are not accepted'),
  'address-not-allowed': kind(403, 'destination_ip_prohibited', 'policy', 'The host resolves to an address that is not permitted'),

  'request-malformed': malformed('The request is not valid HTTP/1.1', 'Let an HTTP library write the request.'),
  'target-malformed': malformed('The request target is not valid'),
  'path-ambiguous': malformed('The path can be read in more than one way'),
  'scheme-not-supported': malformed('Only http and https targets are served'),
  'framing-forbidden': malformed(
    'The message framing is ambiguous or not allowed here',
    'Let the HTTP library write Content-Length and Transfer-Encoding.',
  ),
  'tls-on-http-port': malformed('TLS was spoken to a plain HTTP port'),
  'http2-on-http-port': malformed('HTTP/2 was spoken to an HTTP/1.1 port'),
  'socks-on-http-port': malformed('SOCKS was spoken to an HTTP port'),
  'connect-in-tunnel': malformed('A CONNECT was sent inside a tunnel'),
  'proxy-protocol-malformed': malformed('The connection does not begin with a valid PROXY protocol header'),
  'http-on-tls-port': malformed('Plain HTTP was spoken to a TLS port'),
  'tls-hello-malformed': malformed('The connection does not begin with a readable TLS ClientHello'),
  'sni-missing': malformed('The TLS ClientHello names no host'),
  'client-tls-failed': malformed(
    'The TLS handshake between client and proxy failed',
    'Let the client use TLS 1.2 or 1.3 and HTTP/1.1 with the proxy (HTTP/2 works inside a CONNECT tunnel), trust its authority, and present a certificate if tlsServer requires one.',
  ),
  'target-too-long': kind(
    414,
    'http_request_error',
    'client',
    'The request target is too long',
    'Put long values into the body of a POST, or raise limits.headerBytes.',
  ),
  'headers-too-large': kind(
    431,
    'http_request_error',
    'client',
    'The request header section is too large',
    'Send fewer or shorter fields, or raise limits.headerBytes or limits.headerFields.',
  ),
  'request-timeout': kind(
    408,
    'http_request_error',
    'client',
    'The request did not arrive in time',
    'Look at the client, and at the network between it and the proxy.',
  ),
  'expectation-failed': kind(
    417,
    'http_request_error',
    'client',
    'Only the expectation 100-continue is supported',
    'Leave the field Expect out.',
  ),
  'client-closed': kind(499, 'connection_terminated', 'client', 'The client went away before the end'),
  'client-stalled': kind(499, 'connection_terminated', 'client', 'The client stopped reading'),

  loop: kind(508, 'proxy_loop_detected', 'client', 'The request has come back to this proxy'),

  'name-not-found': kind(502, 'dns_error', 'upstream', 'The host name has no address'),
  'resolver-failed': kind(502, 'dns_error', 'upstream', 'The host name could not be resolved'),
  'resolver-timeout': kind(504, 'dns_timeout', 'upstream', 'The resolver did not answer in time'),
  'connection-refused': kind(502, 'connection_refused', 'upstream', 'The upstream refused the connection'),
  unreachable: kind(502, 'destination_ip_unroutable', 'upstream', 'The upstream cannot be reached'),
  'connect-timeout': kind(504, 'connection_timeout', 'upstream', 'The upstream did not accept the connection in time'),
  'tls-certificate': kind(502, 'tls_certificate_error', 'upstream', 'The upstream certificate is not acceptable'),
  'tls-failed': kind(502, 'tls_protocol_error', 'upstream', 'The TLS handshake with the upstream failed'),
  'tls-timeout': kind(504, 'connection_timeout', 'upstream', 'The TLS handshake with the upstream did not end in time'),
  'hop-failed': kind(502, 'destination_unavailable', 'upstream', 'A parent proxy failed'),
  'hop-timeout': kind(504, 'connection_timeout', 'upstream', 'A parent proxy did not answer in time'),
  'hop-credentials': kind(502, 'proxy_configuration_error', 'proxy', 'A parent proxy does not accept our credentials'),
  'hop-refused': kind(502, 'connection_refused', 'upstream', 'A parent proxy does not permit the upstream'),
  'hop-upstream-failed': kind(502, 'destination_unavailable', 'upstream', 'A parent proxy cannot reach the upstream'),
  'upstream-silent': kind(
    504,
    'http_response_timeout',
    'upstream',
    'The upstream did not answer in time',
    'Ask the partner; if it may take so long, raise timeouts.responseHeaders, timeouts.body or, for tunnels, timeouts.tunnelIdle.',
  ),
  'upstream-cut': kind(502, 'http_response_incomplete', 'upstream', 'The upstream cut the response off', ASK_PARTNER),
  'upstream-malformed': kind(502, 'http_protocol_error', 'upstream', 'The upstream answer is not valid HTTP/1.1', ASK_PARTNER),
  'idle-timeout': kind(
    504,
    'connection_read_timeout',
    'upstream',
    'No byte moved for too long',
    'Send keep-alives inside the tunnel, or raise timeouts.tunnelIdle.',
  ),

  'circuit-open': kind(
    503,
    'destination_unavailable',
    'upstream',
    'The upstream has failed too often in a row, and is left alone for a moment',
  ),
  'limit-reached': kind(503, 'connection_limit_reached', 'proxy', 'A limit of this proxy is reached'),
  overloaded: kind(503, 'proxy_internal_response', 'proxy', 'This proxy is overloaded'),
  draining: kind(503, 'connection_limit_reached', 'proxy', 'This proxy is shutting down', 'Try again: another replica answers.'),
  'age-limit': kind(503, 'connection_limit_reached', 'proxy', 'The tunnel reached its greatest age', 'Connect again.'),
  internal: kind(500, 'proxy_internal_error', 'proxy', 'The proxy failed', 'Report it, with the log line of this request.'),
} as const satisfies Record<string, FaultKind>;

/** A word for why a request was refused or failed: the same in answers, log and metrics (docs/errors.md). */
export type FaultCode = keyof typeof FAULTS;

/** Details of a failure besides its code, for machines: RFC 9209 §2.1 and §2.3 define the terms. */
export interface FaultFacts {
  /** The address, name or parent of the next hop (`next-hop`). */
  readonly nextHop?: string;
  /** The address that was tried last, without success; null: one of a parent, which is not that of the target. For the log. */
  readonly address?: string | null;
  /** Connections that were begun. For the log. */
  readonly dials?: number;
  /** How long the look-up of the name took, ms; absent: none was needed. For the log. */
  readonly dnsMs?: number;
  /** Of a connection that was open before it failed, if only to a parent: our end of it, the parents, and how long its phases took, ms (-1: did not happen). For the log. */
  readonly opened?: {
    readonly localAddress: string | undefined;
    readonly localPort: number | undefined;
    readonly via: string;
    readonly dnsMs: number;
    readonly tcpMs: number;
    readonly hopMs: number;
  };
  /** Status of the next hop's answer, if we did not forward it (`received-status`). */
  readonly receivedStatus?: number;
  /** `Proxy-Status` of that answer, as received: ours is appended to it. */
  readonly proxyStatus?: string;
  /** DNS response code (`rcode`): `NXDOMAIN`. */
  readonly rcode?: string;
  /** TLS alert that the next hop sent: its number and name (`alert-id`, `alert-message`). */
  readonly alert?: { readonly id: number; readonly message: string };
}

/** Optional parts of a fault besides its code and detail; all of them may be shown to the client, except `cause`. */
export interface FaultOptions {
  /** The host, `host:port`, parent or destination that it is about: put before the detail. */
  readonly subject?: string | null;
  /** What would have to change for the request to pass; absent: as for every fault of the code. Shown to the client and in the log. */
  readonly remedy?: string | null;
  /** Seconds for `Retry-After`. */
  readonly retryAfter?: number | null;
  /** Values for `Proxy-Authenticate`, with 407 (RFC 9110 §11.7.1). */
  readonly challenges?: readonly string[];
  readonly cause?: unknown;
  readonly facts?: FaultFacts;
}

const NO_FACTS: FaultFacts = {};
/** What a client of a parent sees as well when the parent has the connection no longer, or never had it: some confirm it before they try. */
const PASSED_ON: ReadonlySet<string> = new Set<FaultCode>(['upstream-cut', 'upstream-silent', 'tls-failed', 'tls-timeout']);

/**
 * A refusal or failure to be reported to the client, as immutable data.
 * `message` is the subject and the detail of this one case
 * ("eco-sit.telus.internal:22: …"); it may quote what the client sent, so every
 * writer escapes it for its own medium.
 */
export class Fault extends Error {
  override readonly name = 'Fault';
  readonly code: FaultCode;
  readonly subject: string | null;
  /** What happened, without the subject. */
  readonly detail: string;
  readonly remedy: string | null;
  readonly retryAfter: number | null;
  readonly challenges: readonly string[];
  readonly facts: FaultFacts;

  constructor(code: FaultCode, detail: string, options: FaultOptions = {}) {
    const { subject = null, cause } = options;
    super(subject === null ? detail : `${subject}: ${detail}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.subject = subject;
    this.detail = detail;
    this.remedy = options.remedy ?? FAULTS[code].remedy;
    this.retryAfter = options.retryAfter ?? null;
    this.challenges = options.challenges ?? [];
    this.facts = options.facts ?? NO_FACTS;
  }

  /** A copy with the details that an outer caller knows; known ones stay. A copy, because a fault may also be another request's. */
  with(facts: FaultFacts): Fault {
    return Object.keys(facts).every((name) => name in this.facts) ? this : this.#copy({ facts: { ...facts, ...this.facts } });
  }

  /** A copy that names the parents on the route, where they may have ended it as well as the partner. @param via as in the log; '': none */
  by(via: string): Fault {
    if (via === '' || !PASSED_ON.has(this.code) || this.facts.alert !== undefined) return this;
    return this.#copy({
      detail: `${this.detail} (by way of ${via})`,
      remedy: `${this.remedy ?? ''} If the partner has not seen the connection, look at the log of the parent.`,
    });
  }

  #copy({ detail = this.detail, ...change }: Omit<FaultOptions, 'subject'> & { readonly detail?: string }): Fault {
    const { code, subject, remedy, retryAfter, challenges, cause, facts } = this;
    return new Fault(code, detail, { subject, remedy, retryAfter, challenges, cause, facts, ...change });
  }

  /** The row of `FAULTS` for its code. */
  get kind(): FaultKind {
    return FAULTS[this.code];
  }

  /** The detail and the remedy, as one line for the log. */
  get advice(): string {
    return this.remedy === null ? this.message : `${this.message}; ${this.remedy}`;
  }

  /** Turns any error into a Fault, so that no error reaches a client without a code. */
  static from(error: unknown): Fault {
    if (error instanceof Fault) return error;
    const detail = error instanceof Error ? error.message : String(error);
    return new Fault('internal', detail, { cause: error });
  }
}
