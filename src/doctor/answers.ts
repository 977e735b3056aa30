/** Detects from its answer what listens at a proxy's address, and why it refused. Pure. */
import { isIP, type Socket } from 'node:net';
import type { HopCredentials } from '../config/config.ts';
import { createConnectRequest, writeCredentials } from '../dial/connect-request.ts';
import { converse } from '../dial/handshake.ts';
import { readPeerChain } from '../dial/peer-chain.ts';
import { type FaultCode, FAULTS } from '../errors.ts';
import { buildCidrTable } from '../policy/tables.ts';
import { quote } from '../targets/quote.ts';
import type { DoctorCode } from './finding.ts';

interface Judgement {
  /** An eco-egress has refused it. */
  readonly ours: boolean;
  readonly code: DoctorCode;
  readonly seen: string;
  readonly advice: string;
}

interface Head {
  readonly statusLine: string;
  readonly status: number;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: string;
}

/** RFC 8446 §5.1: the first byte of an alert. */
const TLS_ALERT = 0x15;
const NOT_A_PROXY = 'Check host and port of the proxy: 3128 and 8080 of eco-egress take CONNECT.';

/** The answer instead of a tunnel. */
export function judgeConnect({ heard, detail, silent, authorized }: NonNullable<RefusedTunnel>): Judgement {
  if (heard[0] === TLS_ALERT) return SPEAKS_TLS;
  const head = readHead(heard);
  if (head === null) {
    return silent
      ? { ours: false, code: 'proxy-silent', seen: detail, advice: `It accepts connections but does not answer. ${NOT_A_PROXY}` }
      : { ours: false, code: 'proxy-not-ours', seen: detail, advice: NOT_A_PROXY };
  }
  const { status, statusLine, fields, body } = head;
  const server = fields.get('server') ?? '';
  const shown = `${quote(statusLine)}${server === '' ? '' : ` of ${quote(server)}`}`;
  const refusal = readRefusal(fields.get('proxy-status'), body);
  if (refusal !== null) return { ...refusal, seen: `${quote(statusLine)}: ${refusal.seen}` };
  if (status === 404 && /^(?:istio-)?envoy$/i.test(server)) {
    return {
      ours: false,
      code: 'connect-answered-by-sidecar',
      seen: `CONNECT is answered ${shown}: a sidecar, to which this port is HTTP`,
      advice: 'Name the port of the Service tcp-…, or give it appProtocol: tcp, on a number that no HTTP Service of the mesh has.',
    };
  }
  if (status === 407)
    return {
      ours: false,
      code: authorized ? 'credentials-wrong' : 'credentials-missing',
      seen: `CONNECT is answered ${shown}`,
      advice: `${authorized ? 'Check user and password in' : 'Put user and password into'} the URL of the proxy.`,
    };
  if (status === 400 && /https port|tls|ssl/i.test(body)) return SPEAKS_TLS;
  return { ours: false, code: 'proxy-not-ours', seen: `CONNECT is answered ${shown}`, advice: NOT_A_PROXY };
}

const SPEAKS_TLS: Judgement = {
  ours: false,
  code: 'proxy-speaks-tls',
  seen: 'the port speaks TLS, and plain HTTP was sent to it',
  advice: 'Use the port that speaks plain HTTP (3128 or 8080), or begin the URL of the proxy with https:// if its TLS is meant.',
};

/** Why our proxy refused an exchange; null: it did not. */
export function judgeExchange(headers: Readonly<Record<string, string | string[] | undefined>>): Judgement | null {
  const status = headers['proxy-status'];
  return readRefusal(Array.isArray(status) ? status.join(', ') : status, '');
}

/** RFC 9209: `details` begins with one of our codes. The last entry is of the proxy that answers, and those before are of its parents. */
function readRefusal(proxyStatus: string | undefined, body: string): Judgement | null {
  const [, code = '', detail = ''] = [...(proxyStatus ?? '').matchAll(/details="([a-z][a-z0-9-]*): ((?:[^"\\]|\\.)*)"/g)].at(-1) ?? [];
  if (!isFaultCode(code)) return null;
  return {
    ours: true,
    code,
    seen: detail.replaceAll(/\\(.)/g, '$1'),
    advice: readRemedy(body) ?? `${FAULTS[code].title}: docs/errors.md says what to do about ${code}.`,
  };
}

/** Of a body that may not have come whole; null: there is none. */
function readRemedy(body: string): string | null {
  const [written] = /(?<="remedy":)"(?:[^"\\]|\\.)*"/.exec(body) ?? [];
  try {
    return written === undefined ? null : String(JSON.parse(written));
  } catch {
    return null;
  }
}

function isFaultCode(text: string): text is FaultCode {
  return Object.hasOwn(FAULTS, text);
}

function readHead(heard: Buffer): Head | null {
  const text = heard.toString('latin1');
  const end = text.indexOf('\r\n\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1]);
  if (end === -1 || Number.isNaN(status)) return null;
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const fields = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  return { statusLine, status, fields, body: heard.subarray(end + 4).toString() };
}

// What listens at a proxy's address, where its answer is not enough: a TLS port may close a plain connection without an
// answer.

/** @param reopen another connection to the same port */
export async function judgeRefused(
  refused: NonNullable<RefusedTunnel>,
  reopen: () => Promise<Socket>,
  timeout: number,
): Promise<Judgement> {
  if (refused.heard.length > 0 || refused.silent) return judgeConnect(refused);
  try {
    await readPeerChain({ socket: await reopen(), host: '', port: 0, timeout });
    return SPEAKS_TLS;
  } catch {
    // No TLS either: the first answer is the finding.
    return judgeConnect(refused);
  }
}

// Which entry of NO_PROXY, or of Java's nonProxyHosts, makes a program go direct to a host. Pure.

/**
 * As curl, Go and Python read it: names and their subdomains, `*` for all,
 * ranges for addresses. A match in any of them counts.
 */
export function hidingEntry(noProxy: string, host: string, port: number): string | null {
  return noProxy.split(/[\s,]+/).find((entry) => entry !== '' && hides(entry.toLowerCase(), host, port)) ?? null;
}

function hides(entry: string, host: string, port: number): boolean {
  if (entry === '*') return true;
  const [, name = entry, ofPort] = /^(\[.*\]|[^:]*):(\d+)$/.exec(entry) ?? [];
  if (ofPort !== undefined && Number(ofPort) !== port) return false;
  if (isIP(host) !== 0 && coversAddress(name.replace(/^\[(.*)\]$/, '$1'), host)) return true;
  const suffix = name.replace(/^\*?\.?/, '').replace(/\.$/, '');
  return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`));
}

/**
 * Ruby looks the host up first, and compares its address with every entry that is an address or a range (uri/generic.rb,
 * `use_proxy?`). Other programs compare the name that they were given.
 */
export function entryWithAddress(noProxy: string, address: string): string | null {
  return noProxy.split(/[\s,]+/).find((entry) => coversAddress(entry, address)) ?? null;
}

/** A `*` begins or ends an entry, or both (java.net, "Networking Properties"). */
export function hidingJavaEntry(nonProxyHosts: string, host: string): string | null {
  return (
    nonProxyHosts.split('|').find((entry) => {
      const pattern = entry.trim().toLowerCase();
      if (pattern === '') return false;
      if (pattern.length > 1 && pattern.startsWith('*') && pattern.endsWith('*')) return host.includes(pattern.slice(1, -1));
      if (pattern.startsWith('*')) return host.endsWith(pattern.slice(1));
      return pattern.endsWith('*') ? host.startsWith(pattern.slice(0, -1)) : host === pattern;
    }) ?? null
  );
}

/** An entry that is neither an address nor a range covers none. */
function coversAddress(entry: string, address: string): boolean {
  const [, network = '', bits = '0'] = /^([\d.:a-f]+)(?:\/(0|[1-9]\d{0,2}))?$/i.exec(entry) ?? [];
  return isIP(network) !== 0 && Number(bits) <= (isIP(network) === 6 ? 128 : 32) && buildCidrTable([[entry]]).find(address) !== -1;
}

/** For a request to a proxy that is no CONNECT. */
export function credentialFields(credentials: HopCredentials | null): Record<string, string> {
  return credentials === null ? {} : { 'proxy-authorization': writeCredentials(credentials) };
}

// Requests a tunnel from the server at a proxy's address, and keeps the answer.

interface ConnectQuestion {
  readonly host: string;
  readonly port: number;
  readonly credentials: HopCredentials | null;
  /** Ms. */
  readonly timeout: number;
}

/** The bytes of the answer; null: the tunnel is up, and the caller owns the socket. */
type RefusedTunnel = { readonly heard: Buffer; readonly detail: string; readonly silent: boolean; readonly authorized: boolean } | null;

/** The socket is destroyed unless the tunnel is up. Never rejects. */
export async function askConnect(socket: Socket, { host, port, credentials, timeout }: ConnectQuestion): Promise<RefusedTunnel> {
  const request = createConnectRequest({ host, port, credentials, via: null });
  const heard: Buffer[] = [];
  const failure = await converse({
    socket,
    handshake: {
      ...request,
      receive: (chunk) => {
        heard.push(chunk);
        return request.receive(chunk);
      },
    },
    timeout,
    signal: new AbortController().signal,
  });
  return failure === null
    ? null
    : { heard: Buffer.concat(heard), detail: failure.detail, silent: failure.code === 'hop-timeout', authorized: credentials !== null };
}

/** Whether the port speaks plain HTTP, with any answer. The socket is destroyed. */
export async function answersHttp(socket: Socket, question: ConnectQuestion): Promise<boolean> {
  const refused = await askConnect(socket, question);
  socket.destroy();
  return refused === null || refused.heard.subarray(0, 5).toString('latin1') === 'HTTP/';
}
