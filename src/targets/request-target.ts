/**
 * Parses the request line and Host into a target: one of the forms of RFC 9112
 * §3.2, with a canonical host and a port. An ambiguous target is refused with a
 * message that says what to write instead.
 */
import { Fault } from '../errors.ts';
import { type Authority, DEFAULT_PORT, formatAuthority, parseAuthority } from './host.ts';
import { SLASH } from './path.ts';
import { quote, quoteTarget } from './quote.ts';

/** The authority-form of CONNECT (RFC 9112 §3.2.3). */
export interface ConnectTarget extends Authority {
  readonly kind: 'connect';
}

/** The absolute-form (RFC 9112 §3.2.2): what a client sends to a proxy. */
export interface AbsoluteTarget extends Authority {
  readonly kind: 'absolute';
  readonly scheme: 'http' | 'https';
  /** Path and query exactly as received; `/` when there was none, `*` for OPTIONS without path. */
  readonly target: string;
  /** The Host field, if it names another host: it is replaced (RFC 9112 §3.2.2). Otherwise null. */
  readonly otherHost: Authority | null;
}

/** The origin-form (RFC 9112 §3.2.1), or the asterisk-form. */
export interface OriginTarget {
  readonly kind: 'origin';
  /** From Host; null only for HTTP/1.0 without Host. */
  readonly authority: Authority | null;
  /** Path and query exactly as received; `*` for OPTIONS of a whole server (RFC 9112 §3.2.4). */
  readonly target: string;
}

/** The scheme of a request. */
export type Scheme = 'http' | 'https';

/** The target of a request, by its form. */
export type RequestTarget = ConnectTarget | AbsoluteTarget | OriginTarget;

const { http: HTTP_PORT, https: HTTPS_PORT } = DEFAULT_PORT;
const HASH = 0x23;
const QUESTION_MARK = 0x3f;

/**
 * @param url the request-target as in the request line
 * @param hostHeaders the value of every Host field line, in order
 * @param httpVersion `1.0` or `1.1`
 * @param scheme of an origin-form: that of the connection (RFC 9110 §7.1)
 * @throws {Fault} request-malformed, target-malformed or scheme-not-supported
 */
export function parseRequestTarget(
  method: string,
  url: string,
  hostHeaders: readonly string[],
  httpVersion: string,
  scheme: Scheme = 'http',
): RequestTarget {
  refuseForeignCharacters(url);
  const hostHeader = theOneHost(method, hostHeaders, httpVersion);
  if (method === 'CONNECT') return parseConnect(url, hostHeader);
  if (url.charCodeAt(0) === SLASH || (url === '*' && method === 'OPTIONS'))
    return { kind: 'origin', authority: readHost(hostHeader, scheme === 'http' ? HTTP_PORT : HTTPS_PORT), target: url };
  return parseAbsolute(method, url, hostHeader);
}

/** RFC 9112 §3.2: 400 for HTTP/1.1 without Host, and for more than one in any version. CONNECT does without: its target is complete, and some clients, such as lftp, send none. */
function theOneHost(method: string, hostHeaders: readonly string[], httpVersion: string): string | null {
  const { length } = hostHeaders;
  if (length === 1 || (length === 0 && (httpVersion === '1.0' || method === 'CONNECT'))) return hostHeaders[0] ?? null;
  throw new Fault('request-malformed', `The request has ${length === 0 ? 'no Host field' : `${length} Host fields`}`, {
    remedy: 'send exactly one Host field',
  });
}

function readHost(hostHeader: string | null, defaultPort: number): Authority | null {
  if (hostHeader === null) return null;
  const authority = parseAuthority(hostHeader, defaultPort);
  if (typeof authority !== 'string') return authority;
  // RFC 9112 §3.2: an invalid field value is answered with 400, for any request-target.
  throw new Fault('request-malformed', `The Host field ${quoteTarget(hostHeader)} ${authority}`, {
    remedy: 'send "Host: name" or "Host: name:port"',
  });
}

/** RFC 9112 §3.2.3. */
function parseConnect(url: string, hostHeader: string | null): ConnectTarget {
  const authority = parseAuthority(url, null);
  if (typeof authority === 'string') throw connectMalformed(url, authority);
  // Well-formed, but not compared: it decides nothing in a tunnel, and clients such as Node's http.request name the proxy there.
  if (hostHeader !== url) readHost(hostHeader, HTTPS_PORT);
  return { kind: 'connect', host: authority.host, port: authority.port };
}

function connectMalformed(url: string, reason: string): Fault {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url);
  const rest = scheme === null ? url : url.slice(scheme[0].length);
  const end = authorityEnd(rest, 0);
  const pathed = scheme !== null || end < rest.length;
  const meant = parseAuthority(rest.slice(0, end), scheme?.[1]?.toLowerCase() === 'http' ? HTTP_PORT : HTTPS_PORT);
  const found = pathed ? `has a ${scheme === null ? 'path' : 'scheme'}, but CONNECT takes host:port alone` : reason;
  return new Fault('target-malformed', `The CONNECT target ${quoteTarget(url)} ${found}`, {
    remedy: `write CONNECT ${typeof meant === 'string' ? 'host:port' : formatAuthority(meant.host, meant.port)}`,
  });
}

/** RFC 9112 §3.2.2: the target decides, and a different Host is replaced. */
function parseAbsolute(method: string, url: string, hostHeader: string | null): AbsoluteTarget {
  const schemeEnd = url.indexOf('://');
  const name = schemeEnd === -1 ? '' : url.slice(0, schemeEnd).toLowerCase();
  if (name !== 'http' && name !== 'https') throw notAbsolute(method, url, hostHeader);

  const start = schemeEnd + 3;
  const end = authorityEnd(url, start);
  const defaultPort = name === 'http' ? HTTP_PORT : HTTPS_PORT;
  const authority = parseAuthority(url.slice(start, end), defaultPort);
  if (typeof authority === 'string') {
    const text = url.slice(start, end);
    const remedy = `write ${name}://host/path or ${name}://host:port/path${text.includes('@') ? ', and send user and password in the Authorization field' : ''}`;
    throw new Fault('target-malformed', `The authority ${quoteTarget(text)} of the target ${authority}`, { remedy });
  }
  const { host, port } = authority;
  const named = readHost(hostHeader, defaultPort);
  const otherHost = named !== null && (named.host !== host || named.port !== port) ? named : null;
  return { kind: 'absolute', scheme: name, host, port, target: pathAndQuery(method, url, end), otherHost };
}

function pathAndQuery(method: string, url: string, start: number): string {
  if (start === url.length) return method === 'OPTIONS' ? '*' : '/'; // RFC 9112 §3.2.4 and §3.2.1
  return url.charCodeAt(start) === SLASH ? url.slice(start) : `/${url.slice(start)}`;
}

/** Neither path nor http(s) URL: names the mistake. */
function notAbsolute(method: string, url: string, hostHeader: string | null): Fault {
  if (url === '*') {
    const named = parseAuthority(hostHeader ?? '', HTTP_PORT);
    return new Fault('target-malformed', `The target * of ${quote(method)} names no path`, {
      remedy: `write a path, or a whole URL such as http://${typeof named === 'string' ? 'host' : formatAuthority(named.host, named.port)}/`,
    });
  }
  const authority = parseAuthority(url, null);
  if (typeof authority !== 'string') {
    const meant = formatAuthority(authority.host, authority.port);
    return new Fault('target-malformed', `The target ${quoteTarget(url)} is host:port, which is for CONNECT only`, {
      remedy: `write CONNECT ${meant}, or a whole URL such as http://${meant}/`,
    });
  }
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https' && !scheme.includes('.')) {
    return new Fault('scheme-not-supported', `The scheme of ${quoteTarget(url)} is not http or https`, {
      remedy: 'ask for an http:// or https:// URL',
    });
  }
  return new Fault('target-malformed', `The target ${quoteTarget(url)} is neither a path nor a whole URL`, {
    remedy: 'write a path that begins with a slash, or a URL such as http://host/path',
  });
}

function authorityEnd(text: string, start: number): number {
  for (let i = start; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === SLASH || code === QUESTION_MARK) return i;
  }
  return text.length;
}

/** RFC 9112 §3.2: a target has no fragment; beyond visible ASCII are the line breaks that re-encoding turns into header lines. */
function refuseForeignCharacters(url: string): void {
  for (let i = 0; i < url.length; i += 1) {
    const code = url.charCodeAt(i);
    if (code > 0x20 && code < 0x7f && code !== HASH) continue;
    const [what, remedy] =
      code === HASH
        ? ['a fragment (#)', 'leave the fragment out, or write %23 where the character is meant']
        : ['a space, control or non-ASCII character', 'percent-encode it'];
    throw new Fault('target-malformed', `The target ${quoteTarget(url)} has ${what} at position ${i}`, { remedy });
  }
  if (url === '') throw new Fault('target-malformed', 'The target is empty', { remedy: 'write a path, a URL, or host:port for CONNECT' });
}

/** Methods that a list permits: HEAD is GET without the content (RFC 9110 §9.3.2), so a client that may GET may HEAD. */
export function allowedMethods(methods: readonly string[]): ReadonlySet<string> {
  return new Set(methods.includes('GET') ? [...methods, 'HEAD'] : methods);
}
