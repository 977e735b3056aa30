/** Tells from its answer what listens at a proxy's address, and why it refused. Pure. */
import { FAULTS, type FaultCode } from '../errors.ts';
import { quote } from '../target/quote.ts';
import type { Refused } from './ask-connect.ts';
import type { DoctorCode } from './finding.ts';

export interface Judgement {
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

/** What came instead of a tunnel. */
export function judgeConnect({ heard, detail, silent }: NonNullable<Refused>): Judgement {
  if (heard[0] === TLS_ALERT) return SPEAKS_TLS;
  const head = readHead(heard);
  if (head === null) {
    return silent ? { code: 'proxy-silent', seen: detail, advice: `It takes connections and says nothing. ${NOT_A_PROXY}` } : { code: 'proxy-not-ours', seen: detail, advice: NOT_A_PROXY };
  }
  const { status, statusLine, fields, body } = head;
  const server = fields.get('server') ?? '';
  const shown = `${quote(statusLine)}${server === '' ? '' : ` of ${quote(server)}`}`;
  const refusal = readRefusal(fields.get('proxy-status'), body);
  if (refusal !== null) return { ...refusal, seen: `${quote(statusLine)}: ${refusal.seen}` };
  if (status === 404 && /^(?:istio-)?envoy$/i.test(server)) {
    return {
      code: 'connect-answered-by-sidecar',
      seen: `CONNECT is answered ${shown}: a sidecar, to which this port is HTTP`,
      advice: 'Name the port of the Service tcp-…, or give it appProtocol: tcp, on a number that no HTTP Service of the mesh has.',
    };
  }
  if (status === 407) return { code: 'credentials-missing', seen: `CONNECT is answered ${shown}`, advice: 'Put user and password into the URL of the proxy.' };
  if (status === 400 && /https port|tls|ssl/i.test(body)) return SPEAKS_TLS;
  return { code: 'proxy-not-ours', seen: `CONNECT is answered ${shown}`, advice: NOT_A_PROXY };
}

export const SPEAKS_TLS: Judgement = {
  code: 'proxy-speaks-tls',
  seen: 'the port speaks TLS, and plain HTTP was sent to it',
  advice: 'Use the port that speaks plain HTTP (3128 or 8080), or begin the URL of the proxy with https:// if its TLS is meant.',
};

/** Why our proxy refused an exchange; null: it did not. */
export function judgeExchange(headers: Readonly<Record<string, string | string[] | undefined>>): Judgement | null {
  const status = headers['proxy-status'];
  return readRefusal(Array.isArray(status) ? status.join(', ') : status, '');
}

/** RFC 9209: `details` begins with one of our codes. */
function readRefusal(proxyStatus: string | undefined, body: string): Judgement | null {
  const [, code = '', detail = ''] = /details="([a-z][a-z0-9-]*): ((?:[^"\\]|\\.)*)"/.exec(proxyStatus ?? '') ?? [];
  if (!isFaultCode(code)) return null;
  const remedy = /"remedy":"((?:[^"\\]|\\.)*)"/.exec(body)?.[1]?.replaceAll('\\"', '"');
  return { code, seen: detail.replaceAll(/\\(.)/g, '$1'), advice: remedy ?? `${FAULTS[code].title}: docs/errors.md says what to do about ${code}.` };
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
  const fields = new Map(lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  }));
  return { statusLine, status, fields, body: text.slice(end + 4) };
}
