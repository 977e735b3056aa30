/**
 * Requests a tunnel from a parent proxy by CONNECT (RFC 9110 §9.3.6), and
 * parses its answer byte by byte. Pure.
 */
import { parseList, Token } from 'structured-headers';
import type { HopCredentials } from '../config/config.ts';
import { quote } from '../targets/quote.ts';
import { formatAuthority } from '../targets/host.ts';
import type { HopHandshake, HandshakeStep } from './handshake.ts';
import type { HandshakeFailure } from './hop-fault.ts';

interface ConnectRequestOptions {
  /** The requested target: name or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  readonly credentials: HopCredentials | null;
  /** Our `Via` value, to recognise our own request if it comes back; null: none. */
  readonly via: string | null;
}

/** Limit for the header sections, those of interim answers included, bytes. */
const MAX_HEAD = 16 * 1024;
const HEAD_END = Buffer.from('\r\n\r\n');
const START = Buffer.from('HTTP/1.');
const CONNECT_STATUS_LINE = /^HTTP\/1\.[01] ([1-9]\d\d)(?: .*)?$/;

/** A handshake that requests a tunnel by CONNECT, once; bytes after the answer are returned as the rest of `done`. */
export function createConnectRequest(options: ConnectRequestOptions): HopHandshake {
  const { credentials, via } = options;
  const target = formatAuthority(options.host, options.port);
  const authorization = credentials === null ? null : writeCredentials(credentials);
  const lines = [
    `CONNECT ${target} HTTP/1.1`,
    // RFC 9112 §3.2: the same as the target, independent of any Host inside the tunnel.
    `Host: ${target}`,
    ...(via === null ? [] : [`Via: ${via}`]),
    ...(authorization === null ? [] : [`Proxy-Authorization: ${authorization}`]),
  ];
  /** Of the current header section: its pieces, their length, and how much of HEAD_END they end in. */
  let pieces: Buffer[] = [];
  let length = 0;
  let ending = 0;
  /** Bytes of all header sections, those of interim answers included. */
  let spent = 0;

  const garbage = (what: string): HandshakeStep => ({
    step: 'failed',
    code: 'hop-failed',
    about: 'parent',
    detail: `${what} instead of an HTTP answer to CONNECT ${target}`,
    remedy: 'Check that an HTTP proxy listens there: the scheme and the port of the parent.',
  });

  /** @returns null for an interim answer, which is skipped (RFC 9110 §15.2) */
  const readHead = (head: string, rest: Buffer): HandshakeStep | null => {
    const [statusLine = '', ...fields] = head.split('\r\n');
    const status = Number(CONNECT_STATUS_LINE.exec(statusLine)?.[1]);
    // 101 would be the end of HTTP, and was not requested.
    if (status >= 100 && status < 200 && status !== 101) return null;
    // A 2xx is followed by the tunnel, even if it declares a length (RFC 9110 §9.3.6).
    if (status >= 200 && status < 300) return { step: 'done', rest };
    if (Number.isNaN(status)) return garbage('sent a broken status line');
    return { step: 'failed', ...judgeAnswer({ status, statusLine, fields, target, port: options.port, credentials }) };
  };

  /** Reads each byte once, however they are split. */
  const receive = (chunk: Buffer): HandshakeStep => {
    let from = 0;
    for (const [at, byte] of chunk.entries()) {
      if (length < START.length && byte !== START[length]) return garbage('sent something else');
      length += 1;
      spent += 1;
      if (spent > MAX_HEAD) return garbage(`sent more than ${MAX_HEAD} bytes of header`);
      if (byte === HEAD_END[1] && ending % 2 === 0) return garbage('ended a line in LF alone');
      ending = byte === HEAD_END[ending] ? ending + 1 : byte === HEAD_END[0] ? 1 : 0;
      if (ending < HEAD_END.length) continue;
      const head = Buffer.concat([...pieces, chunk.subarray(from, at + 1)]).toString('latin1', 0, length - HEAD_END.length);
      const step = readHead(head, chunk.subarray(at + 1));
      if (step !== null) return step;
      pieces = [];
      length = 0;
      ending = 0;
      from = at + 1;
    }
    pieces.push(chunk.subarray(from));
    return { step: 'more', send: null };
  };

  return { opening: Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), asked: `CONNECT ${target}`, about: 'either', receive };
}

/** The value of Proxy-Authorization. RFC 7617 §2.1: in UTF-8, as current proxies read it. RFC 6750 §2.1. */
export function writeCredentials(credentials: HopCredentials): string {
  return credentials.kind === 'bearer'
    ? `Bearer ${credentials.token}`
    : `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
}

interface ConnectAnswer {
  /** Neither 1xx nor 2xx. */
  readonly status: number;
  readonly statusLine: string;
  /** Header lines as received. */
  readonly fields: readonly string[];
  /** The requested `host:port`. */
  readonly target: string;
  readonly port: number;
  /** Our credentials for the parent; never quoted, even if the parent repeats them. */
  readonly credentials: HopCredentials | null;
}

/** RFC 9209 §2.3: what the parent does not permit. */
const DENIALS = new Set(['http_request_denied', 'destination_ip_prohibited']);
/** Errors of the parent itself. All others are about its upstream. */
const OWN_ERRORS = new Set([
  'proxy_internal_error',
  'proxy_internal_response',
  'proxy_configuration_error',
  'proxy_loop_detected',
  'connection_limit_reached',
  'http_request_error',
]);
/** The credentials that we can show, in a challenge. */
const KNOWN_SCHEME = /(?:^|,)\s*(?:basic|bearer)\b/i;
/** Squid's names for unreachable upstreams, which it answers with 503. */
const SQUID_BEYOND = /^ERR_(?:CONNECT_FAIL|DNS_FAIL|CANNOT_FORWARD|READ_TIMEOUT|LIFETIME_EXP)/;
/** Statuses about the request or the connection, not its target: from a server that is no proxy, or does not accept us. */
const OWN_4XX = new Set([400, 405, 408, 421, 425, 426, 429, 431]);
/** Privoxy says it of a name without address, and a web server or a mesh of any CONNECT. */
const NOT_FOUND = 404;

/** Determines from a parent's refusal of a CONNECT whether it is about the parent or the requested target. Pure. */
export function judgeAnswer(heard: ConnectAnswer): HandshakeFailure {
  const { credentials, statusLine, fields } = heard;
  // Before anything is quoted: a quote cuts and escapes, so that a secret in it is not recognised.
  const answer = { ...heard, statusLine: conceal(statusLine, credentials), fields: fields.map((line) => conceal(line, credentials)) };
  const proxyStatus = fieldOf(answer, 'proxy-status');
  return {
    ...explainConnectAnswer(answer, proxyStatus),
    facts: { receivedStatus: answer.status, ...(proxyStatus === null ? {} : { proxyStatus }) },
  };
}

function explainConnectAnswer(answer: ConnectAnswer, proxyStatus: string | null): HandshakeFailure {
  const { status, target, credentials } = answer;
  const squid = fieldOf(answer, 'x-squid-error');
  const told = [
    ...(proxyStatus === null ? [] : [`Proxy-Status: ${quote(proxyStatus)}`]),
    ...(squid === null ? [] : [`X-Squid-Error: ${quote(squid)}`]),
  ];
  const detail = [`answered ${quote(answer.statusLine)} to CONNECT ${target}`, ...told].join(', ');

  // 401 is for servers (RFC 9110 §15.5.2); tinyproxy sends it when credentials are wrong.
  if (status === 407 || status === 401) {
    const asked = [...answerFields(answer, 'proxy-authenticate'), ...answerFields(answer, 'www-authenticate')];
    const shown = `${detail}${asked.length === 0 ? '' : `, asking for ${asked.map(quote).join(', ')}`}`;
    if (asked.length > 0 && !asked.some((challenge) => KNOWN_SCHEME.test(challenge)))
      return {
        code: 'hop-credentials',
        about: 'parent',
        detail: shown,
        remedy:
          'Have the parent accept Basic or Bearer from here, or requests without credentials from our address: no other kind is supported.',
      };
    const remedy =
      credentials === null
        ? 'Put what the parent asks for into a file of one line, and name it in hops.<name>.credentialsFile.'
        : 'Check the file in hops.<name>.credentialsFile: the parent does not accept its content.';
    return { code: 'hop-credentials', about: 'parent', detail: shown, remedy };
  }

  const error = proxyStatus === null ? null : errorOf(proxyStatus);
  if (error === null ? status >= 400 && status < 500 && status !== NOT_FOUND && !OWN_4XX.has(status) : DENIALS.has(error)) {
    return { code: 'hop-refused', about: 'beyond', detail, remedy: permitRemedy(answer) };
  }
  const beyond = error === null ? status === 502 || status === 504 || (squid !== null && SQUID_BEYOND.test(squid)) : !OWN_ERRORS.has(error);
  if (beyond)
    return {
      code: 'hop-upstream-failed',
      about: 'beyond',
      detail,
      remedy: `Check name, routes and firewalls from the parent to ${target}.`,
    };
  // A 5xx that does not say which side failed: tinyproxy, Privoxy and Apache send it when they cannot reach the target.
  const open = error === null && (status >= 500 || status === NOT_FOUND);
  const remedy =
    error === 'proxy_loop_detected'
      ? 'Check that the way does not lead back here; and two proxies of this kind need two values of name.'
      : `Check the log of the parent${open ? `: it may not reach ${target}` : ''}, and that it is a proxy that takes CONNECT.`;
  return { code: 'hop-failed', about: open ? 'either' : 'parent', detail, remedy };
}

function permitRemedy({ target, port }: ConnectAnswer): string {
  const permit = `Have the parent permit CONNECT to ${target} from here.`;
  return port === 443 ? permit : `${permit} Squid permits CONNECT to port 443 only, unless its acl SSL_ports lists the port.`;
}

/** From the last member with an error: the parent's own, or one that it passed on. */
function errorOf(value: string): string | null {
  let found: string | null = null;
  try {
    for (const [, parameters] of parseList(value)) {
      const error: unknown = parameters.get('error');
      if (error instanceof Token) found = error.toString();
    }
  } catch {
    // Not a structured field: free text, quoted and not parsed.
    return null;
  }
  return found;
}

function answerFields({ fields }: ConnectAnswer, name: string): string[] {
  return fields.flatMap((line) => {
    const colon = line.indexOf(':');
    return colon !== -1 && line.slice(0, colon).toLowerCase() === name ? [line.slice(colon + 1).trim()] : [];
  });
}

function fieldOf(answer: ConnectAnswer, name: string): string | null {
  const values = answerFields(answer, name);
  return values.length === 0 ? null : values.join(', ');
}

/** A parent that repeats our credentials must not get them into our log. @param text as received, Latin-1 */
function conceal(text: string, credentials: HopCredentials | null): string {
  if (credentials === null) return text;
  const secrets =
    credentials.kind === 'bearer'
      ? [credentials.token]
      : [Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64'), credentials.password];
  const sent = secrets.map((secret) => Buffer.from(secret).toString('latin1'));
  // As they are, and inside a quoted string. Shorter ones would blank out half of every sentence.
  return [...sent, ...sent.map((secret) => secret.replaceAll(/["\\]/g, '\\$&'))]
    .filter((secret) => secret.length >= 4)
    .reduce((shown, secret) => shown.replaceAll(secret, '***'), text);
}
