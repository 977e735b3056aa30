/**
 * What a trusted peer says about who stands behind it: X-Forwarded-For and
 * Envoy's X-Forwarded-Client-Cert. From anyone else these fields mean nothing;
 * whoever calls has made sure of the peer. Text that is not exactly of its
 * form gives null, and the request is to be refused: the nearest proxy wrote
 * it, so something is wrong there, and every guess names somebody.
 */
import { isIPv4 } from 'node:net';
import { classifyAddress } from '../policy/address-class.ts';
import { trimBlanks } from '../http1/fields.ts';
import { sanOf } from './certificate.ts';

/**
 * The address nearest to us that is no trusted peer's. Each proxy adds the
 * peer it saw at the right, so what stands left of the answer was sent by the
 * client, and is not even read.
 *
 * @param value all X-Forwarded-For fields in order, joined with commas
 * @returns canonical text; the leftmost address when all are trusted peers; null when an entry on the way is none
 */
export function clientFromForwardedFor(value: string, trusted: (address: string) => boolean): string | null {
  let address: string | null = null;
  for (let end = value.length; end >= 0; ) {
    const comma = value.lastIndexOf(',', end - 1);
    // lastIndexOf takes a negative place for 0.
    const start = end === 0 ? 0 : comma + 1;
    address = readForwardedNode(trimBlanks(value.slice(start, end)));
    if (address === null || !trusted(address)) return address;
    end = start - 1;
  }
  return address;
}

/** An address, perhaps with a port as some load balancers write it: `192.0.2.1:80`, `[2001:db8::1]:80`. RFC 7239's `unknown` and `_hidden` are none. */
function readForwardedNode(text: string): string | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?$/.exec(text);
  if (match === null) return classifyAddress(text)?.canonical ?? null;
  const [, bracketed, plain = '', port] = match;
  if (Number(port ?? 0) > 65_535 || (bracketed !== undefined && isIPv4(bracketed))) return null;
  return classifyAddress(bracketed ?? plain)?.canonical ?? null;
}

/** The certificate that the nearest proxy saw. */
export interface XfccElement {
  readonly uri: readonly string[];
  readonly dns: readonly string[];
  /** URI of the proxy that wrote the element. */
  readonly by: string | null;
  /** SHA-256 of the certificate, lower-case hex. */
  readonly hash: string | null;
  /** The names in the policy's form, `URI:…` and `DNS:…`; without those that are not valid. */
  readonly sans: readonly string[];
}

/** One `Key=value` and what ends it: `;` another pair, `,` another element. Quotes surround a whole value or do not occur. */
const PAIR = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\\]*))(;|,[ \t]*(?=.)|$)/sy;

/**
 * The LAST element alone: it is the only one the nearest proxy wrote itself.
 * All before it is read too, strictly: a quote opened there could make the
 * last one look like text inside it.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
 *
 * @param value all fields in order, joined with commas
 */
export function lastOfXfcc(value: string): XfccElement | null {
  let pairs: [key: string, value: string][] = [];
  let separator = ',';
  PAIR.lastIndex = 0;
  while (separator !== '') {
    const match = PAIR.exec(value);
    if (match === null) return null;
    const [, key = '', quoted, plain = '', end = ''] = match;
    if (separator.startsWith(',')) pairs = [];
    // Keys are case-insensitive, values are not.
    pairs.push([key.toLowerCase(), quoted === undefined ? plain : quoted.replace(/\\(.)/gs, '$1')]);
    separator = end;
  }
  return elementOf(pairs);
}

function elementOf(pairs: readonly (readonly [key: string, value: string])[]): XfccElement | null {
  const all = (name: string): string[] => pairs.filter(([key, value]) => key === name && value !== '').map(([, value]) => value);
  const [by = null, ...moreBy] = all('by');
  const [hash = null, ...moreHashes] = all('hash');
  if (moreBy.length > 0 || moreHashes.length > 0 || (hash !== null && !/^[0-9a-fA-F]{64}$/.test(hash))) return null;
  const uri = all('uri');
  const dns = all('dns');
  const sans = [...uri.map((name) => sanOf('URI', name)), ...dns.map((name) => sanOf('DNS', name))].filter((san) => san !== null);
  return { uri, dns, by, hash: hash?.toLowerCase() ?? null, sans };
}
