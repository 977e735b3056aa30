/**
 * Header sections crossing the proxy, as flat arrays of names and values
 * (`rawHeaders`), so that order, case and repeated fields survive. What is
 * meant for one connection stays on it (RFC 9110 §7.6.1).
 */
import type { HeadersConfig } from '../config/config.ts';

type Action = 'drop' | 'forwarded' | 'x-forwarded';

/** Request fields that never cross as they are. */
const REQUEST_ACTIONS: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['connection', 'drop'],
  ['keep-alive', 'drop'],
  ['proxy-connection', 'drop'],
  ['transfer-encoding', 'drop'],
  ['upgrade', 'drop'],
  // RFC 7540 §3.2.1: only meaningful beside an h2c upgrade, which we do not make.
  ['http2-settings', 'drop'],
  // Request trailers are not forwarded (RFC 9110 §6.5.1 lets a recipient discard them), so neither is their announcement.
  ['te', 'drop'],
  ['trailer', 'drop'],
  // Credentials for this proxy stop here (RFC 9110 §11.7.2).
  ['proxy-authorization', 'drop'],
  ['proxy-authenticate', 'drop'],
  // Says who asks to whoever trusts its sender; the partner could only take a client's own word for ours.
  ['x-forwarded-client-cert', 'drop'],
  // What a sidecar tells its neighbour about the pod, its labels and the mesh: none of the partner's business.
  ['x-envoy-peer-metadata', 'drop'],
  ['x-envoy-peer-metadata-id', 'drop'],
  ['x-envoy-decorator-operation', 'drop'],
  // Answered by us: see exchange.ts.
  ['expect', 'drop'],
  // Written anew from the target (RFC 9112 §3.2.2).
  ['host', 'drop'],
  ['forwarded', 'forwarded'],
  ['x-forwarded-for', 'x-forwarded'],
  ['x-forwarded-host', 'x-forwarded'],
  ['x-forwarded-proto', 'x-forwarded'],
  ['x-forwarded-port', 'x-forwarded'],
]);

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

/** What the listener needs to know of a request's header section, from one pass over it. */
export interface HeaderSummary {
  readonly hosts: readonly string[];
  readonly transferEncoding: readonly string[];
  readonly via: readonly string[];
  readonly proxyAuthorization: readonly string[];
  readonly traceparent: string;
  readonly hasBody: boolean;
}

const NONE: readonly string[] = [];
const add = (list: readonly string[], value: string): readonly string[] => (list === NONE ? [value] : [...list, value]);

/** Reads `rawHeaders` once; names are matched without regard to case. */
export function summarise(raw: readonly string[]): HeaderSummary {
  let hosts = NONE;
  let transferEncoding = NONE;
  let via = NONE;
  let proxyAuthorization = NONE;
  let traceparent = '';
  let hasBody = false;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    // Only names of these lengths can matter, and most names are other than these.
    switch (name.length) {
      case 3:
        if (name.toLowerCase() === 'via') via = add(via, raw[i + 1] ?? '');
        break;
      case 4:
        if (name.toLowerCase() === 'host') hosts = add(hosts, raw[i + 1] ?? '');
        break;
      case 11:
        if (name.toLowerCase() === 'traceparent') traceparent = raw[i + 1] ?? '';
        break;
      case 14:
        if (name.toLowerCase() === 'content-length') hasBody ||= raw[i + 1] !== '0';
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') {
          transferEncoding = add(transferEncoding, raw[i + 1] ?? '');
          hasBody = true;
        }
        break;
      case 19:
        if (name.toLowerCase() === 'proxy-authorization') proxyAuthorization = add(proxyAuthorization, raw[i + 1] ?? '');
        break;
    }
  }
  return { hosts, transferEncoding, via, proxyAuthorization, traceparent, hasBody };
}

/** Whether one of the `Via` elements was written by `name` (RFC 9110 §7.6.3: received-protocol, received-by). */
export function viaNames(via: readonly string[], name: string): boolean {
  for (const value of via) {
    for (const element of value.split(',')) {
      if (element.trim().split(/[ \t]+/, 2)[1]?.toLowerCase() === name) return true;
    }
  }
  return false;
}

/** Fields nominated by `Connection` (RFC 9110 §7.6.1); null in the common case that there are none. */
function nominated(raw: readonly (string | Buffer)[]): Set<string> | null {
  let names: Set<string> | null = null;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    if (name.length !== 10 || text(name).toLowerCase() !== 'connection') continue;
    for (const option of text(raw[i + 1] ?? '').toLowerCase().split(',')) {
      const token = option.trim();
      if (token !== '' && token !== 'close' && token !== 'keep-alive') (names ??= new Set()).add(token);
    }
  }
  return names;
}

const text = (value: string | Buffer): string => (typeof value === 'string' ? value : value.toString('latin1'));

export interface RequestRewrite {
  /** Goes into `Via`; lower case. */
  readonly name: string;
  readonly headers: HeadersConfig;
  /** The new `Host`. */
  readonly authority: string;
  readonly httpVersion: string;
  readonly clientAddress: string;
  /** By which the client's request came. */
  readonly clientScheme: 'http' | 'https';
  /** As the client sent it, for `X-Forwarded-Host` and `Forwarded`. */
  readonly clientHost: string;
}

/**
 * The header section for the upstream. Fields nominated by `Connection` are
 * removed before ours are added, so a client cannot make us drop our own
 * (CVE-2025-48865).
 */
export function forwardRequestHeaders(raw: readonly string[], rewrite: RequestRewrite): string[] {
  const { headers } = rewrite;
  const hop = nominated(raw);
  const out: string[] = ['Host', rewrite.authority];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lower = name.toLowerCase();
    const action = REQUEST_ACTIONS.get(lower);
    if (action === 'drop') continue;
    if (action === 'forwarded' && headers.forwarded === 'off') continue;
    if (action === 'x-forwarded' && headers.xForwarded === 'off') continue;
    if (hop?.has(lower) === true) continue;
    out.push(name, raw[i + 1] ?? '');
  }
  if (headers.via) out.push('Via', `${rewrite.httpVersion} ${rewrite.name}`);
  if (headers.forwarded === 'append') out.push('Forwarded', forwardedElement(rewrite));
  if (headers.xForwarded === 'append') {
    // A list field may be repeated (RFC 9110 §5.3): appending a line appends to the client's list.
    out.push('X-Forwarded-For', rewrite.clientAddress, 'X-Forwarded-Proto', rewrite.clientScheme);
    if (rewrite.clientHost !== '') out.push('X-Forwarded-Host', rewrite.clientHost);
  }
  return out;
}

/** RFC 7239 §4: IPv6 and anything with a port is quoted. */
function forwardedElement(rewrite: RequestRewrite): string {
  const node = rewrite.clientAddress.includes(':') ? `"[${rewrite.clientAddress}]"` : rewrite.clientAddress;
  const host = rewrite.clientHost === '' ? '' : `;host="${rewrite.clientHost.replace(/["\\]/g, '\\$&')}"`;
  return `for=${node};proto=${rewrite.clientScheme}${host}`;
}

/**
 * The header section for the client, from what the upstream sent.
 * @param via our `Via` value, or null for none.
 * @param mapLocation rewrites `Location` and `Content-Location`, or null to leave them.
 * @param chunks whether the client can get this response in chunks, and so its trailers.
 * @param statusCode of the response: 1xx and 204 have no content, nor a length of it (RFC 9110 §8.6).
 */
export function forwardResponseHeaders(
  raw: readonly (string | Buffer)[],
  via: string | null,
  mapLocation: ((value: string) => string) | null,
  chunks = true,
  statusCode = 200,
): string[] {
  const hop = nominated(raw);
  const out: string[] = [];
  const sizeless = statusCode < 200 || statusCode === 204;
  let announced = false;
  let sized = false;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = text(raw[i] ?? '');
    const lower = name.toLowerCase();
    if (RESPONSE_DROPPED.has(lower) || hop?.has(lower) === true) continue;
    const value = text(raw[i + 1] ?? '');
    if (lower === 'trailer') announced = true;
    else if (lower === 'content-length') {
      if (sizeless) continue;
      sized = true;
    }
    const moved = mapLocation !== null && (lower === 'location' || lower === 'content-location');
    out.push(name, moved ? mapLocation(value) : value);
  }
  if (via !== null) out.push('Via', via);
  // RFC 9112 §7.1.2: only chunks have trailers. Node refuses to announce what cannot come.
  return announced && (sized || !chunks) ? withoutTrailer(out) : out;
}

function withoutTrailer(fields: readonly string[]): string[] {
  return fields.filter((_, i) => fields[i - (i % 2)]?.toLowerCase() !== 'trailer');
}

/** Trailer fields for the client; framing and routing fields may not stand there (RFC 9110 §6.5.1). */
export function forwardTrailers(raw: readonly (string | Buffer)[]): [string, string][] {
  const out: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = text(raw[i] ?? '');
    const lower = name.toLowerCase();
    if (RESPONSE_DROPPED.has(lower) || lower === 'content-length' || lower === 'host' || lower === 'trailer') continue;
    out.push([name, text(raw[i + 1] ?? '')]);
  }
  return out;
}
