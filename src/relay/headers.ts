/**
 * Header sections crossing the proxy, as flat arrays of names and values
 * (`rawHeaders`), so that order, case and repeated fields survive. Fields for
 * one connection are not forwarded (RFC 9110 §7.6.1).
 */
import { fieldName, isClaim, matchesField } from '../config/claim-fields.ts';
import type { HeadersConfig } from '../config/config.ts';
import { listHas, type RawFields, trimBlanks } from '../http1/fields.ts';
import type { ResponseHead } from '../http1/response-head.ts';
import type { RequestTrace } from '../telemetry/access-record.ts';

type Action = 'drop' | 'te' | 'trailer' | 'expect' | 'max-forwards' | 'length' | 'forwarded' | 'x-forwarded';

/** Request fields that are never forwarded as they are. */
const REQUEST_ACTIONS: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['connection', 'drop'],
  ['keep-alive', 'drop'],
  ['proxy-connection', 'drop'],
  ['transfer-encoding', 'drop'],
  ['upgrade', 'drop'],
  // RFC 7540 §3.2.1: only meaningful with an h2c upgrade, which we do not make.
  ['http2-settings', 'drop'],
  // RFC 9110 §10.1.4: its codings are for one connection; that trailers are accepted is true of the proxy too.
  ['te', 'te'],
  // RFC 9112 §7.1.2: only chunked content has trailers.
  ['trailer', 'trailer'],
  // Credentials for this proxy are removed here (RFC 9110 §11.7.2).
  ['proxy-authorization', 'drop'],
  ['proxy-authenticate', 'drop'],
  // They name the client, for receivers that trust the sender; from a client they are only a claim, which
  // the partner would take for ours.
  ['x-forwarded-client-cert', 'drop'],
  // What a sidecar sends about the pod, its labels and the mesh: not for the partner.
  ['x-envoy-peer-metadata', 'drop'],
  ['x-envoy-peer-metadata-id', 'drop'],
  ['x-envoy-decorator-operation', 'drop'],
  // Written from the parsed number: `05` is 5.
  ['content-length', 'length'],
  ['expect', 'expect'],
  ['max-forwards', 'max-forwards'],
  // Written anew from the target (RFC 9112 §3.2.2).
  ['host', 'drop'],
  ['forwarded', 'forwarded'],
  ['x-forwarded-for', 'x-forwarded'],
  ['x-forwarded-host', 'x-forwarded'],
  ['x-forwarded-proto', 'x-forwarded'],
  ['x-forwarded-port', 'x-forwarded'],
]);

/** @param name in lower case, of a field that REQUEST_ACTIONS does not drop */
function mayCross(name: string, action: Action | undefined, { forwarded, xForwarded, drop, keep }: HeadersConfig): boolean {
  // Without it the content would be read as the next request: a pattern such as `content-*` does not mean it.
  if (action === 'length') return true;
  const read = fieldName(name);
  if (matchesField(drop, read)) return false;
  if (action === 'forwarded') return forwarded !== 'off';
  if (action === 'x-forwarded') return xForwarded !== 'off';
  // A name with `_` or `.` is not the field that it resembles, but is taken for it by software that maps names to
  // variables: it could bypass fields set for the real one.
  if (read !== name && REQUEST_ACTIONS.has(read)) return false;
  return !isClaim(read) || matchesField(keep, read);
}

/** Response fields that belong to the upstream connection; Node writes its own framing to the client. */
const RESPONSE_DROPPED: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authentication-info',
  'transfer-encoding',
  'te',
  'upgrade',
]);

/** Fields by which some servers take another method than that of the request line; as returned by `fieldName`. */
const METHOD_OVERRIDES: ReadonlySet<string> = new Set(['x-http-method-override', 'x-http-method', 'x-method-override']);

/** Fields not allowed as trailers, in addition to those that are never forwarded; as returned by `fieldName`. */
const TRAILER_DROPPED: ReadonlySet<string> = new Set([
  ...RESPONSE_DROPPED,
  ...METHOD_OVERRIDES,
  ...[
    'content-length',
    'content-type',
    'content-encoding',
    'content-range',
    'trailer',
    'set-cookie',
    'cookie',
    'authorization',
    'www-authenticate',
    'cache-control',
    'location',
    'destination',
    'date',
    'via',
  ],
  ...['range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'if-range'],
]);

/** Names in `Connection` that are not fields, or are not for one connection only. */
const NOT_NOMINATED: ReadonlySet<string> = new Set(['', 'close', 'keep-alive', 'content-length']);

/** Whether one of the `Via` elements was written by `name` (RFC 9110 §7.6.3: received-protocol, received-by). */
export function viaNames(via: readonly string[], name: string): boolean {
  const receivedBy = (element: string): string | undefined => element.trim().split(/[ \t]+/, 2)[1];
  return via.some((value) => value.split(',').some((element) => receivedBy(element)?.toLowerCase() === name));
}

/**
 * Fields nominated by `Connection` (RFC 9110 §7.6.1), in lower case; null in the common case that there are none.
 * Content-Length cannot be nominated: without it the content would be read as the next message.
 */
export function nominatedBy(fields: RawFields): ReadonlySet<string> | null {
  let names: Set<string> | null = null;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] ?? '';
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue;
    for (const option of (fields[i + 1] ?? '').toLowerCase().split(',')) {
      const token = trimBlanks(option);
      if (!NOT_NOMINATED.has(token)) (names ??= new Set()).add(token);
    }
  }
  return names;
}

const OVERRIDE_LENGTHS: ReadonlySet<number> = new Set([...METHOD_OVERRIDES].map((name) => name.length));
const NO_METHODS: readonly string[] = [];

/** The methods that a server could take in place of that of the request line. @param fields as they reach it */
export function overridingMethods(fields: RawFields): readonly string[] {
  let methods = NO_METHODS;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] ?? '';
    // Nearly every name is seen by its length to be another.
    if (OVERRIDE_LENGTHS.has(name.length) && METHOD_OVERRIDES.has(fieldName(name)) && fields[i + 1] !== '')
      methods = [...methods, fields[i + 1] ?? ''];
  }
  return methods;
}

/** What the header section for the upstream depends on, in addition to the client's. */
export interface RequestRewrite {
  /** The name for `Via`; lower case. */
  readonly name: string;
  readonly headers: HeadersConfig;
  /** The new `Host`. */
  readonly authority: string;
  readonly httpVersion: string;
  readonly clientAddress: string;
  /** The scheme of the client's request. */
  readonly clientScheme: 'http' | 'https';
  /** As the client sent it, for `X-Forwarded-Host` and `Forwarded`. */
  readonly clientHost: string;
  /** The content is sent chunked. */
  readonly chunked: boolean;
  /** RFC 9110 §10.1.1: false where the request has no content, for which no client may expect 100, and in HTTP/1.0. */
  readonly expectsContinue: boolean;
  /** The new `Max-Forwards`; null: unchanged. */
  readonly maxForwards: number | null;
  /** Null: the client's trace fields are unchanged. */
  readonly trace: Pick<RequestTrace, 'parentSpanId' | 'traceparent'> | null;
}

/**
 * The header section for the upstream. Fields nominated by `Connection` are
 * removed before ours are added, so a client cannot make us drop our own
 * (CVE-2025-48865).
 */
export function forwardRequestHeaders(raw: RawFields, rewrite: RequestRewrite): string[] {
  const { headers, trace } = rewrite;
  const hop = nominatedBy(raw);
  const out: string[] = ['Host', rewrite.authority];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lower = name.toLowerCase();
    const action = REQUEST_ACTIONS.get(lower);
    if (action === 'drop' || !mayCross(lower, action, headers)) continue;
    if (action === 'te') {
      if (listHas(raw[i + 1] ?? '', 'trailers')) out.push('TE', 'trailers');
      continue;
    }
    if (action === 'length') {
      out.push(name, String(Number(raw[i + 1])));
      continue;
    }
    if (action === 'trailer' && !rewrite.chunked) continue;
    if (action === 'expect' && !rewrite.expectsContinue) continue;
    if (action === 'max-forwards' && rewrite.maxForwards !== null) {
      out.push(name, String(rewrite.maxForwards));
      continue;
    }
    if (hop?.has(lower) === true) continue;
    if (trace !== null && isReplaced(lower, trace)) continue;
    out.push(name, raw[i + 1] ?? '');
  }
  if (trace !== null && !matchesField(headers.drop, 'traceparent')) out.push('traceparent', trace.traceparent);
  if (headers.via) out.push('Via', `${rewrite.httpVersion} ${rewrite.name}`);
  if (headers.forwarded === 'append') out.push('Forwarded', forwardedElement(rewrite));
  if (headers.xForwarded === 'append') {
    // A list field may be repeated (RFC 9110 §5.3): appending a line appends to the client's list.
    out.push('X-Forwarded-For', rewrite.clientAddress, 'X-Forwarded-Proto', rewrite.clientScheme);
    if (rewrite.clientHost !== '') out.push('X-Forwarded-Host', rewrite.clientHost);
  }
  return out;
}

/** The state of a trace that was not continued belongs to another one (https://www.w3.org/TR/trace-context/#a-traceparent-is-received). */
function isReplaced(name: string, { parentSpanId }: Pick<RequestTrace, 'parentSpanId'>): boolean {
  return name === 'traceparent' || (name === 'tracestate' && parentSpanId === '');
}

/** The fields about the connection to the upstream, to follow the fields of `forwardRequestHeaders`. */
export function connectionOptions(
  fields: RawFields,
  { chunked, upgrades }: { readonly chunked: boolean; readonly upgrades: boolean },
): string {
  const coding = chunked ? 'Transfer-Encoding: chunked\r\n' : '';
  if (upgrades) return `${coding}Connection: Upgrade\r\nUpgrade: websocket\r\n`;
  // HTTP/1.0 servers keep a connection only when asked to.
  return `${coding}Connection: ${fields.some((name, i) => i % 2 === 0 && name === 'TE') ? 'keep-alive, TE' : 'keep-alive'}\r\n`;
}

/** RFC 7239 §4: IPv6 and any value with a port is quoted. */
function forwardedElement(rewrite: RequestRewrite): string {
  const node = rewrite.clientAddress.includes(':') ? `"[${rewrite.clientAddress}]"` : rewrite.clientAddress;
  const host = rewrite.clientHost === '' ? '' : `;host="${rewrite.clientHost.replace(/["\\]/g, '\\$&')}"`;
  return `for=${node};proto=${rewrite.clientScheme}${host}`;
}

/** Rewrites the value of a response field, or drops the field (null); `name` in lower case. */
export type MapField = (name: string, value: string) => string | null;

/** What the header section for the client depends on, in addition to the upstream's. */
export interface ResponseRewrite {
  /** The proxy's name in `Via`, or null for none. */
  readonly viaName: string | null;
  /** Rewrites fields, or null for no change. */
  readonly mapField: MapField | null;
  /** Its trailers can reach the client: chunked, which HTTP/1.0 does not have. */
  readonly trailers: boolean;
  /** The result of `nominatedBy` for this header section, if it is known already. */
  readonly nominated?: ReadonlySet<string> | null;
}

/** The header section for the client, from the upstream's: no framing except one Content-Length, where allowed. */
export function forwardResponseHeaders(
  { fields, status, version, framing }: ResponseHead,
  { viaName, mapField, trailers, nominated = nominatedBy(fields) }: ResponseRewrite,
): string[] {
  const out: string[] = [];
  // RFC 9110 §8.6: 1xx and 204 have no content and no Content-Length; chunked content has no known length.
  let sizeless = status < 200 || status === 204 || framing.kind === 'chunked';
  let dated = status < 200;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const lower = name.toLowerCase();
    if (RESPONSE_DROPPED.has(lower) || nominated?.has(lower) === true) continue;
    let value = fields[i + 1] ?? '';
    if (lower === 'content-length') {
      if (sizeless) continue;
      sizeless = true;
      // Several equal values become one.
      if (framing.kind === 'length') value = String(framing.length);
      // For HEAD and 304 it frames nothing, but the next recipient may check it (RFC 9110 §8.6).
      else if (!/^\d{1,15}$/.test(value)) continue;
    } else if (lower === 'trailer' && !(trailers && framing.kind === 'chunked')) continue;
    else if (lower === 'date') dated = true;
    const mapped = mapField === null ? value : mapField(lower, value);
    if (mapped !== null) out.push(name, mapped);
  }
  // RFC 9110 §6.6.1: a response that came without one gets the time at which it came.
  if (!dated) out.push('Date', new Date().toUTCString());
  // RFC 9110 §7.6.3: the protocol by which the message was received.
  if (viaName !== null) out.push('Via', `${version} ${viaName}`);
  return out;
}

/**
 * Trailer fields that are forwarded; framing and routing fields are not allowed (RFC 9110
 * §6.5.1).
 * @param nominated by the `Connection` of the header section
 */
export function forwardTrailers(fields: RawFields, nominated: ReadonlySet<string> | null): string[] {
  return trailersThat(fields, (name) => nominated?.has(name) !== true);
}

/** Trailers of a request: fields about the client that are removed from its header section are removed here too. */
export function forwardRequestTrailers(fields: RawFields, nominated: ReadonlySet<string> | null, headers: HeadersConfig): string[] {
  return trailersThat(fields, (name) => nominated?.has(name) !== true && mayCross(name, undefined, headers));
}

/** @param cross whether a name, in lower case, may be forwarded where no other rule forbids it */
function trailersThat(fields: RawFields, cross: (name: string) => boolean): string[] {
  const out: string[] = [];
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const read = fieldName(name);
    if (!TRAILER_DROPPED.has(read) && !REQUEST_ACTIONS.has(read) && cross(name.toLowerCase())) out.push(name, fields[i + 1] ?? '');
  }
  return out;
}
