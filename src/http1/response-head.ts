/**
 * The status line and header section of a response (RFC 9112 §4, §5). Accepts
 * what nginx, HAProxy, Squid and Go accept, as long as it is unambiguous
 * (docs/http.md); it is forwarded in a new form.
 */
import { CHUNKED, type Framing, NO_CONTENT, UNTIL_CLOSE } from './body-reader.ts';
import { listHas, readFields, type RawFields, trimBlanks } from './fields.ts';
import { MessageError } from './head-reader.ts';
import { CONTENT_LENGTH } from './request-head.ts';

/** A status line with its header section. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly version: '1.0' | '1.1';
  readonly fields: RawFields;
  readonly framing: Framing;
  /** Whether the connection may carry another exchange after this one (RFC 9112 §9.3). */
  readonly keepAlive: boolean;
  /** `timeout` of a Keep-Alive field, ms; null: there is none. */
  readonly idleTimeout: number | null;
  /** `max` of a Keep-Alive field: exchanges that the connection may carry; null: there is none. */
  readonly mostExchanges: number | null;
  /** The protocol that the upstream switches to, with 101; empty: the field is absent. */
  readonly upgrade: string;
  /** Its fields show authentication by connection (NTLM, Negotiate). */
  readonly authenticatesConnection: boolean;
}

const STATUS_LINE = /^HTTP\/(1\.[01]) ([1-9]\d\d)(?: ([^\r\n]*))?$/;
/** Parameters of a Keep-Alive field (RFC 2068 §19.7.1.1). */
const KEEP_ALIVE_TIMEOUT = /(?:^|[,;\s])timeout\s{0,8}=\s{0,8}"?(\d{1,6})/i;
const KEEP_ALIVE_MAX = /(?:^|[,;\s])max\s{0,8}=\s{0,8}"?(\d{1,6})/i;

/**
 * @param text the section without the empty line that ends it
 * @param method of the request it answers
 * @param most field lines accepted
 * @throws {MessageError} malformed, framing or too-large
 */
export function readResponseHead(text: string, method: string, most: number): ResponseHead {
  let status: number | null = null;
  try {
    return parseResponseHead(text, method, most, (found) => {
      status = found;
    });
  } catch (error) {
    if (error instanceof MessageError) error.status = status;
    throw error;
  }
}

function parseResponseHead(text: string, method: string, most: number, onStatus: (status: number) => void): ResponseHead {
  const lf = text.indexOf('\n');
  const lineEnd = lf === -1 ? text.length : text.charCodeAt(lf - 1) === 0x0d ? lf - 1 : lf;
  const [, version, digits, reason = ''] = STATUS_LINE.exec(text.slice(0, lineEnd)) ?? [];
  if (version === undefined || digits === undefined)
    throw new MessageError('malformed', 'the answer does not begin with an HTTP/1.1 status line');
  const status = Number(digits);
  onStatus(status);

  const lengths: string[] = [];
  const codings: string[] = [];
  let asksToClose = false as boolean;
  let asksToKeep = false as boolean;
  let idleTimeout: number | null = null;
  let mostExchanges: number | null = null;
  let authenticatesConnection = false;
  let upgrade = '';
  const fields = readFields(text, lf === -1 ? text.length : lf + 1, { most, lenient: true }, (name, value) => {
    switch (name.length) {
      case 7:
        if (name.toLowerCase() === 'upgrade') upgrade = value;
        break;
      case 10: {
        const lower = name.toLowerCase();
        if (lower === 'keep-alive') {
          const hint = value.slice(0, 200);
          const [, seconds] = KEEP_ALIVE_TIMEOUT.exec(hint) ?? [];
          if (seconds !== undefined) idleTimeout = Number(seconds) * 1000;
          const [, most] = KEEP_ALIVE_MAX.exec(hint) ?? [];
          if (most !== undefined) mostExchanges = Number(most);
        } else if (lower === 'connection') {
          asksToClose ||= listHas(value, 'close');
          asksToKeep ||= listHas(value, 'keep-alive');
        }
        break;
      }
      case 14:
        if (name.toLowerCase() === 'content-length') lengths.push(value);
        break;
      case 16:
        if (name.toLowerCase() === 'www-authenticate') authenticatesConnection ||= isConnectionAuth(value);
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') codings.push(value);
        break;
    }
  });
  // RFC 9112 §9.3, and §6.1 for HTTP/1.0 with a coding.
  const keepAlive = !asksToClose && (version === '1.1' || (asksToKeep && codings.length === 0));
  const framing = responseFraming(status, method, lengths, codings);
  return {
    status,
    reason,
    version: version as '1.0' | '1.1',
    fields,
    framing,
    keepAlive: keepAlive && framing !== UNTIL_CLOSE,
    idleTimeout,
    mostExchanges,
    upgrade,
    authenticatesConnection,
  };
}

/** NTLM, and Negotiate (RFC 4559 §6), authenticate the connection, not the request. */
export function isConnectionAuth(value: string): boolean {
  return /^[ \t]*(?:ntlm|negotiate)(?:[ \t,]|$)/i.test(value) || /,[ \t]*(?:ntlm|negotiate)(?:[ \t,]|$)/i.test(value);
}

/** RFC 9112 §6.3. Two equal lengths are one (RFC 9110 §8.6); contradictions are refused. */
function responseFraming(status: number, method: string, lengths: readonly string[], codings: readonly string[]): Framing {
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') return NO_CONTENT;
  if (codings.length > 0) {
    if (lengths.length > 0) throw new MessageError('framing', 'the answer has both a Transfer-Encoding and a Content-Length');
    // We accept no other coding (RFC 9112 §7.4), and would forward coded bytes as if they were the content.
    if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked')
      throw new MessageError('framing', 'the answer has a transfer coding other than chunked');
    return CHUNKED;
  }
  const [first] = lengths;
  if (first === undefined) return UNTIL_CLOSE;
  // Nearly every answer has one.
  if (lengths.length === 1 && CONTENT_LENGTH.test(first)) return { kind: 'length', length: Number(first) };
  const values = lengths.join(',').split(',').map(trimBlanks);
  if (!values.every((value) => CONTENT_LENGTH.test(value)))
    throw new MessageError('framing', 'the Content-Length of the answer is not a number');
  const length = Number(values[0]);
  if (values.some((value) => Number(value) !== length)) throw new MessageError('framing', 'the answer has several lengths that differ');
  return { kind: 'length', length };
}
