/** Readers of network values: address ranges, listen addresses, DNS servers, hosts, parent proxies, echo endpoints. */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { canonicalIp, parseIp } from '../targets/ip-address.ts';
import { formatAuthority, parseAuthority, parseConfigHost, parseHost, parseHostPattern } from '../targets/host.ts';
import type { ListenAddress, ParentConfig, ProbeConfig } from './config.ts';
import { quoteValue, showValue } from './finding.ts';
import { type Read, invalidValue } from './read-scalar.ts';

/** A CIDR range, or one address, which is a range of itself. Returned in canonical form: `10.8.0.0/14`. */
export function readCidr(value: unknown): Read<string> {
  const example = 'Write an address range like 10.8.0.0/14 or fd00::/8, or one address like 10.8.0.1.';
  const match = typeof value === 'string' ? /^([^/%]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(value) : null;
  const address = match?.[1] ?? '';
  const version = isIP(address);
  const parsed = parseIp(address);
  if (parsed === null) return invalidValue(`${showValue(value)} is not an address range.`, example);
  const most = version === 4 ? 32 : 128;
  const bits = match?.[2] === undefined ? most : Number(match[2]);
  if (bits > most)
    return invalidValue(`${showValue(value)} has a prefix length above ${most}.`, `Write a length from 0 to ${most} after the slash.`);
  if (version === 6 && parsed instanceof ipaddr.IPv4) {
    const inside =
      bits >= 96
        ? `${ipaddr.IPv4.networkAddressFromCIDR(`${parsed.toString()}/${bits - 96}`).toString()}/${bits - 96}`
        : 'the IPv4 range itself';
    return invalidValue(`${showValue(value)} is an IPv4 range in IPv6 spelling, which no address has here.`, `Write ${inside}.`);
  }
  const network =
    version === 4
      ? ipaddr.IPv4.networkAddressFromCIDR(`${parsed.toString()}/${bits}`)
      : ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toString()}/${bits}`);
  if (network.toString() !== parsed.toString()) {
    return invalidValue(
      `${showValue(value)} is an address inside a range, not the range.`,
      `Write ${network.toString()}/${bits} for the whole range, or ${parsed.toString()}/${most} for this one address.`,
    );
  }
  return { value: `${network.toString()}/${bits}` };
}

/** One IP address, returned in canonical form. */
export function readAddress(value: unknown): Read<string> {
  const range = readCidr(value);
  if ('value' in range && typeof value === 'string' && !value.includes('/')) return { value: range.value.replace(/\/\d+$/, '') };
  return invalidValue(`${showValue(value)} is not an address.`, 'Write one IP address, like 34.123.45.67.');
}

/** `0.0.0.0:8080` or `[::]:8080`, in canonical form: `[::ffff:0.0.0.0]:8080` is the former. Port 0 lets the system choose. */
export function readListenAddress(value: unknown): Read<ListenAddress> {
  const text = typeof value === 'number' ? String(value) : value;
  const match = typeof text === 'string' ? /^(?:\[([^\]]*)\]|([^:]*)):(0|[1-9]\d{0,4})$/.exec(text) : null;
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (match !== null && port <= 65_535) {
    if (match[1] === undefined ? isIPv4(host) : isIPv6(host)) return { value: { host: canonicalIp(host) ?? host, port } };
    if (match[1] !== undefined)
      return invalidValue(
        `${showValue(value)} has brackets around something that is not an IPv6 address.`,
        `Write [::]:${port}, or 0.0.0.0:${port}.`,
      );
    const meant = host === 'localhost' ? '127.0.0.1' : '0.0.0.0';
    return invalidValue(
      `${showValue(value)} has ${host === '' ? 'no address' : 'a name'} before the port.`,
      `Write an IP address: ${meant}:${port}.`,
    );
  }
  const bare = typeof text === 'string' && /^\d{1,5}$/.test(text) && Number(text) <= 65_535;
  return invalidValue(
    `${showValue(value)} is not a listen address.`,
    bare ? `Write the address too: 0.0.0.0:${Number(text)}.` : 'Write address:port, like 0.0.0.0:8080 or "[::]:8080".',
  );
}

/** `10.0.0.10`, `10.0.0.10:53` or `[fd00::10]:53`; returned with its port, 53 by default. */
export function readDnsServer(value: unknown): Read<string> {
  if (typeof value === 'string') {
    if (isIP(value) !== 0 && !value.includes('%')) return { value: formatAuthority(value, 53) };
    const listen = readListenAddress(value);
    if ('value' in listen && listen.value.port !== 0 && !listen.value.host.includes('%'))
      return { value: formatAuthority(listen.value.host, listen.value.port) };
  }
  return invalidValue(
    `${showValue(value)} is not the address of a DNS server.`,
    'Write an IP address, with a port if it is not 53: 10.0.0.10 or 10.0.0.10:5353.',
  );
}

/** A canonical host, or `*.suffix` for the names below it. */
export function readHostPattern(value: unknown): Read<string> {
  const host = typeof value === 'string' ? parseHostPattern(value) : null;
  if (host !== null) return { value: host };
  return invalidValue(
    `${showValue(value)} is not a host.`,
    typeof value === 'string' ? adviseHost(value) : 'Write a name like eco-sit.telus.internal.',
  );
}

/** The name for SNI and for the check of the upstream's certificate. */
export function readServerName(value: unknown): Read<string> {
  const host = typeof value === 'string' ? parseConfigHost(value) : null;
  // RFC 6066 §3: SNI never carries an address.
  if (host !== null && isIP(host) === 0) return { value: host };
  return invalidValue(`${showValue(value)} is not a host name.`, 'Write a DNS name like eco-sit.telus.internal.');
}

function adviseHost(text: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\/([^/:]*)/i.exec(text);
  if (scheme !== null)
    return `Write the host alone: ${scheme[1] === '' ? 'eco-sit.telus.internal' : quoteValue(scheme[1] ?? '')}. Ports go under ports, paths under http.paths.`;
  if (text.includes('/') && isIP(text.split('/')[0] ?? '') !== 0)
    return 'A host is one name or address. Ranges go under addresses: they limit what the names may resolve to.';
  const [, alone = '', path] = /^([^:/]+)(?::\d+)?(\/.*)?$/.exec(text) ?? [];
  if (alone !== text && parseHostPattern(alone) !== null)
    return `Write the host alone: ${quoteValue(alone)}. Ports go under ports${path === undefined ? '' : ', paths under http.paths'}.`;
  if (text === '*' || text === '*.')
    return 'There is no pattern for all hosts. Name them, or write *.telus.internal for the names below telus.internal.';
  const address = parseHost(text);
  if (address !== null) return `As part of a URL it would be the address ${address}: write that, or the one that is meant.`;
  if (text.startsWith('.')) return `Write ${quoteValue(`*${text}`)} for the names below it.`;
  if (/[^\0-\x7f]/.test(text)) return 'Check its characters: quotes and dashes of a word processor are none of a name.';
  if (text.includes('*')) return 'A * is allowed only at the start, with a dot after it: *.telus.internal.';
  return 'Write a name like eco-sit.telus.internal, without scheme, port or path.';
}

// Readers of parent proxies and echo endpoints.

/** Customary port of each kind of parent; http has none. */
const PARENT_PORTS = { http: 3128, https: 443, socks5: 1080 } as const;

/** `http://host:3128`; credentials are not accepted in it. */
export function readParentUrl(value: unknown): Read<ParentConfig> {
  const example = 'Write a URL like http://activegateway.telus.internal:3128.';
  const match = typeof value === 'string' ? /^([a-z][a-z0-9+.-]*):\/\/([^/?#\\]*)\/?$/i.exec(value) : null;
  if (match === null) return invalidValue(`${showValue(value)} is not the URL of a parent proxy.`, example);
  const scheme = match[1]?.toLowerCase() ?? '';
  if (scheme !== 'http' && scheme !== 'https' && scheme !== 'socks5')
    return invalidValue(`${showValue(value)} is neither http, https nor socks5.`, example);
  if (match[2]?.includes('@') === true)
    return invalidValue(
      'The URL holds credentials, which would be shown wherever it is.',
      'Put them into a file of one line, user:password, and name it under credentialsFile.',
    );
  const authority = parseAuthority(match[2] ?? '', PARENT_PORTS[scheme]);
  if (typeof authority === 'string') return invalidValue(`What follows :// in ${showValue(value)} ${authority}.`, example);
  return { value: { scheme, host: authority.host, port: authority.port } };
}

/** `https://echo.example/ip`. */
export function readProbeUrl(value: unknown): Read<Pick<ProbeConfig, 'scheme' | 'host' | 'port' | 'path'>> {
  const example = 'Write a URL like https://echo.example/ip.';
  const match = typeof value === 'string' ? /^(https?):\/\/([^/?#\\]*)(\/[!-~]*)?$/i.exec(value) : null;
  if (match === null || parseHttpUrl(value) === null) return invalidValue(`${showValue(value)} is not an http or https URL.`, example);
  if (match[3]?.includes('#') === true)
    return invalidValue(`${showValue(value)} has a fragment, which no server ever sees.`, 'Leave it out.');
  const scheme = match[1]?.toLowerCase() === 'https' ? 'https' : 'http';
  if (match[2]?.includes('@') === true)
    return invalidValue('The URL holds credentials, which would be shown wherever it is.', 'Leave them out: a probe sends none.');
  const authority = parseAuthority(match[2] ?? '', scheme === 'https' ? 443 : 80);
  if (typeof authority === 'string') return invalidValue(`What follows :// in ${showValue(value)} ${authority}.`, example);
  return { value: { scheme, host: authority.host, port: authority.port, path: match[3] ?? '/' } };
}

/** Servers accept no longer ones, and parsing an international host name takes quadratic time. */
const LONGEST_URL = 2_048;

/** Null: not one URL of http or https. `URL.parse` alone would drop blanks and line ends, and take a second scheme for the host. */
export function parseHttpUrl(value: unknown): URL | null {
  return typeof value === 'string' && value.length <= LONGEST_URL && /^https?:\/\/(?!https?:)[^\s\p{Cc}]+$/iu.test(value)
    ? URL.parse(value)
    : null;
}

/** `https://collector.example/v1/traces`: OTLP over HTTP, with its path. */
export function readCollectorUrl(value: unknown): Read<string> {
  const example = 'Write the whole URL, like https://collector.example/v1/traces.';
  const url = parseHttpUrl(value);
  if (url === null) return invalidValue(`${showValue(value)} is not an http or https URL.`, example);
  if (url.username !== '' || url.password !== '' || url.search !== '')
    return invalidValue(
      'The URL holds credentials or a query, which would be shown wherever it is.',
      'Put what the collector asks for into a file of header lines, and name it under headersFile.',
    );
  if (url.hash !== '') return invalidValue(`${showValue(value)} has a fragment, which no server ever sees.`, 'Leave it out.');
  if (url.pathname === '/')
    return invalidValue(
      `${showValue(value)} has no path.`,
      `Traces are posted to the URL as it is. Write ${url.origin}/v1/traces, or what the collector's manual says.`,
    );
  if (url.port === '4317')
    return invalidValue(
      `${showValue(value)} has the port of OTLP over gRPC, which is not spoken here.`,
      'Write the port for HTTP, which is 4318.',
    );
  return { value: url.href };
}

/** `ip`, or `client.ip` for a nested member. */
export function readField(value: unknown): Read<string> {
  if (typeof value === 'string' && /^[\w-]+(?:\.[\w-]+)*$/.test(value)) return { value };
  return invalidValue(
    `${showValue(value)} is not a member of a JSON answer.`,
    'Write its name, like ip, or client.ip for a member inside another.',
  );
}
