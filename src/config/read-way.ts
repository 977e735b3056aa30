/** Readers of what lies on the way to an upstream, or proves it: parent proxies, echo endpoints. */
import { parseAuthority } from '../target/host.ts';
import type { ParentConfig, ProbeConfig } from './config.ts';
import { show } from './finding.ts';
import { wrong, type Read } from './read-scalar.ts';

/** Where each kind of parent listens by custom; http has no such port. */
const PARENT_PORTS = { http: 3128, https: 443, socks5: 1080 } as const;

/** `http://host:3128`; credentials do not belong into it. */
export function readParentUrl(value: unknown): Read<ParentConfig> {
  const example = 'Write a URL like http://activegateway.telus.internal:3128.';
  const match = typeof value === 'string' ? /^([a-z][a-z0-9+.-]*):\/\/([^/?#\\]*)\/?$/i.exec(value) : null;
  if (match === null) return wrong(`${show(value)} is not the URL of a parent proxy.`, example);
  const scheme = match[1]?.toLowerCase() ?? '';
  if (scheme !== 'http' && scheme !== 'https' && scheme !== 'socks5') return wrong(`${show(value)} is neither http, https nor socks5.`, example);
  if (match[2]?.includes('@') === true) return wrong('The URL holds credentials, which would be shown wherever it is.', 'Put them into a file of one line, user:password, and name it under credentialsFile.');
  const authority = parseAuthority(match[2] ?? '', PARENT_PORTS[scheme]);
  if (typeof authority === 'string') return wrong(`The host in ${show(value)} ${authority}.`, example);
  return { value: { scheme, host: authority.host, port: authority.port } };
}

/** `https://echo.example/ip`. */
export function readProbeUrl(value: unknown): Read<Pick<ProbeConfig, 'scheme' | 'host' | 'port' | 'path'>> {
  const example = 'Write a URL like https://echo.example/ip.';
  const match = typeof value === 'string' ? /^(https?):\/\/([^/?#\\]*)(\/[!-~]*)?$/i.exec(value) : null;
  if (match === null) return wrong(`${show(value)} is not an http or https URL.`, example);
  if (match[3]?.includes('#') === true) return wrong(`${show(value)} has a fragment, which no server ever sees.`, 'Leave it out.');
  const scheme = match[1]?.toLowerCase() === 'https' ? 'https' : 'http';
  const authority = parseAuthority(match[2] ?? '', scheme === 'https' ? 443 : 80);
  if (typeof authority === 'string') return wrong(`The host in ${show(value)} ${authority}.`, example);
  return { value: { scheme, host: authority.host, port: authority.port, path: match[3] ?? '/' } };
}

/** `ip`, or `client.ip` for a member inside another. */
export function readField(value: unknown): Read<string> {
  if (typeof value === 'string' && /^[\w-]+(?:\.[\w-]+)*$/.test(value)) return { value };
  return wrong(`${show(value)} is not a member of a JSON answer.`, 'Write its name, like ip, or client.ip for a member inside another.');
}
