/**
 * The client named by a trusted peer: X-Forwarded-For and Envoy's
 * X-Forwarded-Client-Cert. From other peers these fields are ignored; the
 * caller has checked the peer. Malformed text gives null, and the request is to
 * be refused: the nearest proxy wrote it, so something is wrong there, and any
 * guess would name the wrong client.
 */
import { isIPv4 } from 'node:net';
import { classifyAddress } from '../policy/address-class.ts';
import { trimBlanks } from '../http1/fields.ts';
import { sanOf } from './certificate.ts';

/**
 * The nearest address that is not a trusted peer's. Each proxy adds its peer at
 * the right, so anything left of the result was sent by the client, and is not
 * parsed.
 *
 * @param value all X-Forwarded-For fields in order, joined with commas
 * @returns canonical text; the leftmost address when all are trusted peers; null when a parsed entry is malformed
 */
export function clientFromForwardedFor(value: string, trusted: (address: string) => boolean): string | null {
  let address: string | null = null;
  for (let end = value.length; end >= 0;) {
    const comma = value.lastIndexOf(',', end - 1);
    // lastIndexOf treats a negative position as 0.
    const start = end === 0 ? 0 : comma + 1;
    address = readForwardedNode(trimBlanks(value.slice(start, end)));
    if (address === null || !trusted(address)) return address;
    end = start - 1;
  }
  return address;
}

/** An address, optionally with a port as some load balancers write it: `192.0.2.1:80`, `[2001:db8::1]:80`. RFC 7239's `unknown` and `_hidden` are not accepted. */
function readForwardedNode(text: string): string | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?$/.exec(text);
  if (match === null) return classifyAddress(text)?.canonical ?? null;
  const [, bracketed, plain = '', port] = match;
  if (Number(port ?? 0) > 65_535 || (bracketed !== undefined && isIPv4(bracketed))) return null;
  return classifyAddress(bracketed ?? plain)?.canonical ?? null;
}

/** One `Key=value` and its separator: `;` another pair, `,` another element. Quotes surround a whole value or do not occur. */
const PAIR = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\\]*))(;|,[ \t]*(?=.)|$)/sy;

/**
 * The names of the client certificate as in the policy, `URI:…` and `DNS:…`, without invalid ones.
 * Only of the LAST element: the nearest proxy wrote no other. Everything before it is parsed too, strictly: a
 * quote opened there could make the last one look like text inside it.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
 *
 * @param value all fields in order, joined with commas
 */
export function lastOfXfcc(value: string): string[] | null {
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
  // One certificate has one hash; `By` has each name of the proxy's own.
  const hashes = pairs.filter(([key, text]) => key === 'hash' && text !== '');
  if (hashes.length > 1 || !hashes.every(([, hash]) => /^[0-9a-fA-F]{64}$/.test(hash))) return null;
  return pairs.flatMap(([key, text]) => (key === 'uri' || key === 'dns' ? (sanOf(key.toUpperCase(), text) ?? []) : []));
}
