/** The proxy to try: its URL as written in HTTPS_PROXY or --proxy. */
import type { Socket } from 'node:net';
import type { Form, HopCredentials } from '../config/config.ts';
import { DEFAULT_PORT, formatAuthority, parseAuthority } from '../targets/host.ts';
import { showTarget } from '../targets/quote.ts';
import type { DoctorFinding } from './finding.ts';

/** A proxy, as its URL names it. */
export interface ProxyAddress {
  /** Whether the connection to the proxy itself uses TLS. */
  readonly scheme: 'http' | 'https';
  readonly host: string;
  readonly port: number;
  readonly credentials: HopCredentials | null;
  /** Null: none was given. */
  readonly written: string | null;
}

/** @returns what is wrong with it, as the rest of a sentence that began with the quoted text */
export function readProxyUrl(text: string): ProxyAddress | string {
  const match = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(?:([^/?#\\]*)@)?([^/?#\\@]*)\/?$/i.exec(text.trim());
  if (match === null) return 'is not the URL of a proxy';
  const written = match[1]?.toLowerCase() ?? null;
  if (written !== null && written !== 'http' && written !== 'https') return `has the scheme ${written}, and this is an HTTP proxy`;
  const scheme = written ?? 'http';
  const authority = parseAuthority(match[3] ?? '', DEFAULT_PORT[scheme]);
  if (typeof authority === 'string') return authority;
  const credentials = readUserInfo(match[2]);
  return credentials === undefined ? 'has credentials that are not percent-encoded' : { scheme, ...authority, credentials, written };
}

/** Its URL without credentials. */
export function showProxy({ scheme, host, port }: Pick<ProxyAddress, 'scheme' | 'host' | 'port'>): string {
  return `${scheme}://${formatAuthority(host, port)}`;
}

/** The input without its password. */
export const showWritten = showTarget;

/** @returns undefined when they cannot be read */
function readUserInfo(text: string | undefined): HopCredentials | null | undefined {
  if (text === undefined) return null;
  const [user = '', ...rest] = text.split(':');
  try {
    return { kind: 'basic', user: decodeURIComponent(user), password: decodeURIComponent(rest.join(':')) };
  } catch {
    return undefined;
  }
}

// A proxy for trying forms of request.

/** The forms, and TLS terminated by the proxy with any of them inside. */
export type TriedForm = Form | 'terminated';

/** A proxy for trying forms; the receiver closes it. */
export interface FormsProxy {
  readonly kind: 'named' | 'running' | 'stand-in';
  readonly findings: readonly DoctorFinding[];
  /** A connection to a listener that accepts the form; null: none does. The caller closes it. Rejects with a Fault. */
  open(form: TriedForm): Promise<Socket> | null;
  readonly credentials: ProxyAddress['credentials'];
  close(): Promise<void>;
}
