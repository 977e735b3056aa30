/**
 * Maps a partner's references to itself in response fields to the prefix:
 * redirects, links and cookies then lead back to the gateway. Pure;
 * docs/gateway.md lists the effect on each field.
 */
import { isIP } from 'node:net';
import type { GatewayConfig } from '../config/config.ts';
import type { MapField } from '../relay/headers.ts';
import { DEFAULT_PORT, parseAuthority } from '../targets/host.ts';

/** Rewrites one field of a response to the client. Linear in the length of the value. */
type Rewrite = (value: string, asked: AnsweredRequest) => string | null;

/** The request that a response answers. */
interface AnsweredRequest {
  /** As sent to the upstream. */
  readonly path: string;
  /** The client's connection is TLS. */
  readonly secure: boolean;
  /** As long as it is positive, relative references are resolved against the path; its length is then subtracted. A response may have thousands. */
  left: number;
}

/**
 * Rewrites the fields of a response of one gateway prefix.
 * @param path of the request as sent to the upstream
 * @param secure whether the client's connection is TLS
 */
export type ResponseFields = (path: string, secure: boolean) => MapField;

/** RFC 3986 §4.2: a reference with an authority; scheme, authority and the rest of it. */
const WITH_AUTHORITY = /^(?:(https?):)?\/\/([^/?#\\]*)(.*)$/is;
/** RFC 3986 §3.1. */
const WITH_SCHEME = /^[a-z][a-z0-9+.-]*:/i;
/** A dot segment, as clients remove them (WHATWG URL §4.4). */
const DOT_SEGMENT = /(?:^|[/\\])(?:\.|%2e){1,2}(?:[/\\]|$)/i;
/** The end of a whole path (RFC 3986 §3). */
const AFTER_PATH = /^(?:[/?#]|$)/;
/** HTML §4.2.5.3: the delay, and the text before the address. */
const REFRESH = /^([\d.]+[\t ]*[;,\t ][\t ]*(?:url[\t ]*=[\t ]*)?)(.*)$/is;
/** A quoted string (RFC 9110 §5.6.4), or the target of a link, if it ends. It matches wherever one begins, so that no character is read twice. */
const LINK_PART = /"(?:[^"\\]|\\.?)*"?|<(?:([^>]*)>|.*)/gs;
/**
 * Where a client may see a Path or Domain: clients differ in which spaces they skip, whether a space or only a semicolon ends
 * an attribute, and which of two counts. So none of them is passed on, and there is one of ours at most.
 */
const SCOPE = /path|domain/i;
const SCOPE_IN_PAIR = /\s(?:path|domain)\s*=/i;
/** Clients read it alike: some take any other for the root. */
const COOKIE_PATH = /^\/[!-~]*$/;
/** Characters, for a whole response. */
const MOST_RESOLVED = 65_536;
const SCHEME_PORT: Readonly<Record<string, number>> = DEFAULT_PORT;

/** Rewrites the fields listed in `gateway.rewrite`; other fields are unchanged. */
export function createResponseFields(gateway: GatewayConfig): ResponseFields {
  const rewrites = rewritesOf(gateway);
  return (path, secure) => {
    const asked = { path, secure, left: MOST_RESOLVED };
    return (name, value) => {
      const rewrite = rewrites.get(name);
      return rewrite === undefined ? value : rewrite(value, asked);
    };
  };
}

function rewritesOf(gateway: GatewayConfig): ReadonlyMap<string, Rewrite> {
  const rewrites = new Map<string, Rewrite>();
  if (gateway.rewrite.includes('locations')) {
    const map = (value: string, asked: AnsweredRequest): string => mapReference(gateway, value, asked);
    rewrites.set('location', map);
    rewrites.set('content-location', map);
    rewrites.set('refresh', (value, asked) => mapRefresh(gateway, value, asked));
    rewrites.set('link', (value, asked) => mapLinks(gateway, value, asked));
  }
  const scope = gateway.rewrite.includes('cookies');
  const security = gateway.rewrite.includes('cookie-security');
  // It is obsolete (RFC 6265 §9.4), but Java obeys it.
  if (scope) rewrites.set('set-cookie2', () => null);
  if (scope || security)
    rewrites.set('set-cookie', (value, { path, secure }) => mapCookie(gateway, value, path, { scope, plain: security && !secure }));
  return rewrites;
}

/** A URI reference (RFC 3986 §4.1) of a response. References to other origins are unchanged. */
function mapReference(gateway: GatewayConfig, value: string, asked: AnsweredRequest): string {
  const [, scheme, authority, after = ''] = WITH_AUTHORITY.exec(value) ?? [];
  if (authority !== undefined) {
    if (!isOwn(gateway, scheme?.toLowerCase(), authority)) return value;
    // RFC 3986 §6.2.3: an empty path is the root.
    return below(gateway, withoutDots(after.startsWith('/') ? after : `/${after}`)) ?? value;
  }
  if (WITH_SCHEME.test(value)) return value;
  if (value.startsWith('/')) return below(gateway, withoutDots(value)) ?? value;
  // A relative reference leads to the same place below the prefix, unless it climbs out of it, or its directory does.
  const { path, left } = asked;
  if (AFTER_PATH.test(value) || left <= 0 || (path !== rootOf(gateway) && !DOT_SEGMENT.test(beforeQuery(value)))) return value;
  asked.left -= path.length;
  return below(gateway, withoutDots(path.slice(0, path.lastIndexOf('/') + 1) + value)) ?? value;
}

/**
 * Whether a URL is of the partner's own origin. Behind a TLS offload an
 * application writes `http://`, with the port of the request or none: that is
 * the partner too. `https://` from a partner on plain HTTP asks for another
 * scheme: mapped, it would be a redirect to itself.
 * @param scheme of the URL; undefined: it has none
 */
function isOwn({ scheme, host, port }: GatewayConfig, named: string | undefined, authority: string): boolean {
  if (named === 'https' && scheme === 'http') return false;
  const read = parseAuthority(authority, SCHEME_PORT[named ?? scheme] ?? null);
  if (typeof read === 'string' || read.host !== host) return false;
  const offloaded = named === 'http' && scheme === 'https';
  return read.port === port || (offloaded && read.port === SCHEME_PORT['http']) || (named === undefined && !/:\d*$/.test(authority));
}

/** The place below the prefix of a partner's path (and query); null: it has none. */
function below({ prefix, basePath }: GatewayConfig, path: string): string | null {
  // `//host` would name another host.
  if (path.startsWith('//') || path.startsWith('/\\') || !path.startsWith(basePath)) return null;
  const rest = path.slice(basePath.length);
  return AFTER_PATH.test(rest) ? prefix + rest : null;
}

/** The partner's path of a request for the prefix itself. The client's directory of that is above the prefix, unless it ends with a slash. */
export function rootOf({ basePath }: GatewayConfig): string {
  return basePath === '' ? '/' : basePath;
}

/** Clients remove dot segments before a request: the remaining path decides. */
function withoutDots(path: string): string {
  if (!DOT_SEGMENT.test(beforeQuery(path))) return path;
  // Fields are read as latin1: each character is one byte. A URL has such bytes percent-encoded.
  const bytes = path.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
  const url = URL.parse(bytes, 'http://partner.invalid');
  return url?.host === 'partner.invalid' ? url.pathname + url.search + url.hash : path;
}

function beforeQuery(reference: string): string {
  const end = reference.search(/[?#]/);
  return end === -1 ? reference : reference.slice(0, end);
}

/** `5; url=/x`, as clients parse it: HTML §4.2.5.3, also in quotes. */
function mapRefresh(gateway: GatewayConfig, value: string, asked: AnsweredRequest): string {
  const [, before = '', rest = ''] = REFRESH.exec(value) ?? [];
  if (rest === '') return value;
  const quote = rest.startsWith('"') || rest.startsWith("'") ? rest.charAt(0) : '';
  const end = quote === '' ? rest.length : rest.indexOf(quote, 1);
  const url = rest.slice(quote.length, end === -1 ? rest.length : end);
  return before + quote + mapReference(gateway, url, asked) + (end === -1 ? '' : rest.slice(end));
}

/** The targets of links (RFC 8288 §3): `</page/2>; rel="next"`. Parameters are unchanged. */
function mapLinks(gateway: GatewayConfig, value: string, asked: AnsweredRequest): string {
  return value.replace(LINK_PART, (part, target?: string) => (target === undefined ? part : `<${mapReference(gateway, target, asked)}>`));
}

/**
 * One Set-Cookie (RFC 6265 §5.2) as the gateway's own, in the answer to the path `asked`.
 * @param scope whether Path and Domain are rewritten
 * @param plain whether Secure is dropped, because the client uses plain HTTP
 * @returns null: a client of the partner itself would reject it, or could never send it below the prefix
 */
function mapCookie(
  gateway: GatewayConfig,
  value: string,
  asked: string,
  { scope, plain }: { readonly scope: boolean; readonly plain: boolean },
): string | null {
  const [pair = '', ...attributes] = value.split(';');
  const kept = attributes.filter((attribute) => {
    switch (attributeName(attribute)) {
      case 'secure':
      case 'partitioned':
        return !plain;
      case 'samesite':
        return !plain || textOf(attribute).toLowerCase() !== 'none';
      default:
        return !(scope && SCOPE.test(attribute));
    }
  });
  if (!scope) return [pair, ...kept].join(';');
  const domain = attributeValue(attributes, 'domain');
  if (SCOPE_IN_PAIR.test(pair) || (domain !== null && domain !== '' && !domainMatches(domain, gateway.host))) return null;
  const named = attributeValue(attributes, 'path') ?? '';
  // Without a path, clients take the directory of the URL that they asked for (RFC 6265 §5.1.4).
  const path = COOKIE_PATH.test(named) ? named : asked === rootOf(gateway) ? '/' : null;
  if (path === null) return [pair, ...kept].join(';');
  // Clients accept a cookie of that name for the root only, or not at all (RFC 6265bis §4.1.3.2).
  const mapped = /^\s*__host-/i.test(pair) ? path : cookiePath(gateway, path);
  return mapped === null ? null : [pair, ...kept, ` Path=${mapped}`].join(';');
}

/** RFC 6265 §5.1.3: whether a cookie for `domain` is also for `host`. */
function domainMatches(domain: string, host: string): boolean {
  const name = domain.replace(/^\./, '').toLowerCase();
  return name === host || (isIP(host) === 0 && host.endsWith(`.${name}`));
}

/** The paths below the prefix that a partner's cookie for `path` applies to; null: none. */
function cookiePath({ prefix, basePath }: GatewayConfig, path: string): string | null {
  const rest = path.slice(basePath.length);
  if (path.startsWith(basePath) && (rest === '' || rest.startsWith('/'))) return basePath === '' && rest === '/' ? prefix : prefix + rest;
  // For everything below the base path, and more that cannot be requested here.
  const parent = path.endsWith('/') ? path : `${path}/`;
  return `${basePath}/`.startsWith(parent) ? prefix : null;
}

/** The last one of that name counts (RFC 6265 §5.3); null: there is none. */
function attributeValue(attributes: readonly string[], name: 'path' | 'domain'): string | null {
  const last = attributes.findLast((attribute) => attributeName(attribute) === name);
  return last === undefined ? null : textOf(last);
}

function attributeName(attribute: string): string {
  const equals = attribute.indexOf('=');
  return (equals === -1 ? attribute : attribute.slice(0, equals)).trim().toLowerCase();
}

function textOf(attribute: string): string {
  const equals = attribute.indexOf('=');
  return equals === -1 ? '' : attribute.slice(equals + 1).trim();
}
