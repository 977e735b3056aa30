/** Which entry of NO_PROXY, or of Java's nonProxyHosts, makes a program go direct to a host. Pure. */
import { isIP } from 'node:net';
import { buildCidrTable } from '../policy/cidr-table.ts';

/**
 * As curl, Go and Python read it: names and their subdomains, `*` for all,
 * ranges for addresses. What any of them takes for a match is one.
 */
export function hidingEntry(noProxy: string, host: string, port: number): string | null {
  return noProxy.split(/[\s,]+/).find((entry) => entry !== '' && hides(entry.toLowerCase(), host, port)) ?? null;
}

function hides(entry: string, host: string, port: number): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return isIP(host) !== 0 && isRange(entry) && buildCidrTable([[entry]]).find(host) !== -1;
  const [, name = entry, ofPort] = /^(.*?):(\d+)$/.exec(entry) ?? [];
  if (isIP(entry) === 0 && ofPort !== undefined && Number(ofPort) !== port) return false;
  const suffix = (isIP(entry) === 0 ? name : entry).replace(/^\*?\.?/, '').replace(/\.$/, '');
  return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`));
}

/**
 * Ruby looks the host up first, and compares its address with every entry that is an address or a range (uri/generic.rb,
 * `use_proxy?`). Other programs compare the name that they were given.
 */
export function entryWithAddress(noProxy: string, address: string): string | null {
  return noProxy.split(/[\s,]+/).find((entry) => (entry.includes('/') ? isRange(entry) : isIP(entry) !== 0) && buildCidrTable([[entry]]).find(address) !== -1) ?? null;
}

/** A `*` begins or ends an entry (java.net, "Networking Properties"). */
export function hidingJavaEntry(nonProxyHosts: string, host: string): string | null {
  return nonProxyHosts.split('|').find((entry) => {
    const pattern = entry.trim().toLowerCase();
    if (pattern === '') return false;
    if (pattern.startsWith('*')) return host.endsWith(pattern.slice(1));
    return pattern.endsWith('*') ? host.startsWith(pattern.slice(0, -1)) : host === pattern;
  }) ?? null;
}

function isRange(entry: string): boolean {
  const [address = '', bits = ''] = entry.split('/');
  const most = isIP(address) === 6 ? 128 : 32;
  return isIP(address) !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= most;
}
