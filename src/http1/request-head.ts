/**
 * The request line and header section of RFC 9112 §3 and §5, parsed in one pass
 * into what a proxy needs. Strict: a request that two parsers could understand
 * differently is refused, because one of the two would be the upstream's
 * (docs/http.md).
 */
import { CHUNKED, type Framing, NO_CONTENT } from './body-reader.ts';
import { isToken, listHas, readFields, type RawFields } from './fields.ts';
import { MessageError } from './head-reader.ts';

/** A request line with its header section. The values that a proxy uses are parsed once, here. */
export interface RequestHead {
  readonly method: string;
  /** The request-target as in the request line. */
  readonly target: string;
  /** `1.1`, `1.0`, or any other two digits. */
  readonly version: string;
  readonly fields: RawFields;
  readonly framing: Framing;
  /** Whether the connection may carry another request after this one (RFC 9112 §9.3); false for HTTP/1.0, which a proxy does not keep alive. */
  readonly keepAlive: boolean;
  readonly hosts: readonly string[];
  readonly via: readonly string[];
  readonly proxyAuthorization: readonly string[];
  /** Values of each; empty where the field is absent. */
  readonly traceparent: string;
  readonly expect: string;
  readonly upgrade: string;
  readonly authorization: string;
  readonly maxForwards: string;
  readonly destination: string;
}

/** Shared by all that have none; `add` creates another before it writes. */
const NO_VALUES: string[] = [];

function add(list: string[], value: string): string[] {
  if (list === NO_VALUES) return [value];
  list.push(value);
  return list;
}

/** RFC 9110 §5.3: repeated fields as one. Where only one is permitted, the outcome is not valid. */
function joinValues(before: string, value: string): string {
  return before === '' ? value : `${before}, ${value}`;
}

const HTTP_VERSION = /^HTTP\/(\d\.\d)$/;
/** RFC 9110 §8.6; 15 digits are more than any content needs, and exact as a number. Zeros before them change nothing. */
export const CONTENT_LENGTH = /^0*\d{1,15}$/;

/**
 * @param text the section without the empty line that ends it
 * @param most field lines accepted
 * @throws {MessageError} malformed, framing or too-large
 */
export function readRequestHead(text: string, most: number): RequestHead {
  const lineEnd = text.indexOf('\r\n');
  const line = lineEnd === -1 ? text : text.slice(0, lineEnd);
  const space = line.indexOf(' ');
  const lastSpace = line.lastIndexOf(' ');
  const method = line.slice(0, space);
  if (/[\r\n]/.test(line)) throw new MessageError('malformed', 'a line ends in LF without CR, or a CR is inside it');
  if (space === -1 || !isToken(method)) throw new MessageError('malformed', 'the request line does not begin with a method');
  const version = HTTP_VERSION.exec(line.slice(lastSpace + 1))?.[1];
  if (version === undefined || lastSpace === space) throw new MessageError('malformed', 'the request line does not end with HTTP/1.1');

  let hosts = NO_VALUES;
  let via = NO_VALUES;
  let proxyAuthorization = NO_VALUES;
  let lengths = NO_VALUES;
  let codings = NO_VALUES;
  let traceparent = '';
  let expect = '';
  let upgrade = '';
  let authorization = '';
  let maxForwards = '';
  let destination = '';
  let close = version !== '1.1';
  const fields = readFields(text, lineEnd === -1 ? text.length : lineEnd + 2, { most, lenient: false }, (name, value) => {
    // Only names of these lengths matter here, and most names have another.
    switch (name.length) {
      case 3:
        if (name.toLowerCase() === 'via') via = add(via, value);
        break;
      case 4:
        if (name.toLowerCase() === 'host') hosts = add(hosts, value);
        break;
      case 6:
        if (name.toLowerCase() === 'expect') expect = joinValues(expect, value);
        break;
      case 7:
        if (name.toLowerCase() === 'upgrade') upgrade = joinValues(upgrade, value);
        break;
      case 10:
        if (name.toLowerCase() === 'connection') close ||= listHas(value, 'close');
        break;
      case 11:
        if (name.toLowerCase() === 'traceparent') traceparent = joinValues(traceparent, value);
        else if (name.toLowerCase() === 'destination') destination = joinValues(destination, value);
        break;
      case 12:
        if (name.toLowerCase() === 'max-forwards') maxForwards = joinValues(maxForwards, value);
        break;
      case 13:
        if (name.toLowerCase() === 'authorization') authorization = joinValues(authorization, value);
        break;
      case 14:
        if (name.toLowerCase() === 'content-length') lengths = add(lengths, value);
        break;
      case 16:
        // Not in any standard; a client that sends it closes anyway (RFC 9112 appendix C.2.2).
        if (name.toLowerCase() === 'proxy-connection') close ||= listHas(value, 'close');
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') codings = add(codings, value);
        break;
      case 19:
        if (name.toLowerCase() === 'proxy-authorization') proxyAuthorization = add(proxyAuthorization, value);
        break;
    }
  });
  return {
    method,
    target: line.slice(space + 1, lastSpace),
    version,
    fields,
    framing: requestFraming(version, lengths, codings),
    keepAlive: !close,
    hosts,
    via,
    proxyAuthorization,
    traceparent,
    expect,
    upgrade,
    authorization,
    maxForwards,
    destination,
  };
}

/** RFC 9112 §6.3, without the choices that it leaves to servers. */
function requestFraming(version: string, lengths: readonly string[], codings: readonly string[]): Framing {
  if (codings.length > 0) {
    if (version !== '1.1') throw new MessageError('framing', `an HTTP/${version} request has a Transfer-Encoding`);
    if (lengths.length > 0) throw new MessageError('framing', 'the request has both a Transfer-Encoding and a Content-Length');
    // RFC 9112 §7: names of codings are case-insensitive.
    if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked')
      throw new MessageError('framing', `the Transfer-Encoding is ${JSON.stringify(codings.join(', ').slice(0, 40))}`);
    return CHUNKED;
  }
  const [length] = lengths;
  if (length === undefined) return NO_CONTENT;
  if (lengths.length > 1) throw new MessageError('framing', `the request has ${lengths.length} Content-Length fields`);
  if (!CONTENT_LENGTH.test(length))
    throw new MessageError('framing', `the Content-Length ${JSON.stringify(length.slice(0, 40))} is not a number`);
  return Number(length) === 0 ? NO_CONTENT : { kind: 'length', length: Number(length) };
}
