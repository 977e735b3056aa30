/** The hosts file of the system (hosts(5)), read again when it changes. */
import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';

const HOSTS_FILE = '/etc/hosts';

let kept: { readonly state: string; readonly names: ReadonlyMap<string, readonly string[]> } | null = null;

/** Addresses of a canonical name, in the order of the file; empty where it is not there, or cannot be read. */
export function findInHosts(host: string): readonly string[] {
  try {
    const { ino, size, mtimeMs } = statSync(HOSTS_FILE);
    const state = `${ino} ${size} ${mtimeMs}`;
    if (kept?.state !== state) kept = { state, names: readHosts(readFileSync(HOSTS_FILE, 'utf8')) };
  } catch {
    // A system without one: DNS alone answers.
    return [];
  }
  return kept.names.get(host) ?? [];
}

/** Names in lower case and without a final dot, as the policy has them. */
export function readHosts(text: string): Map<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address = '', ...aliases] = (line.split('#', 1)[0] ?? '').split(/[ \t\r]+/).filter((word) => word !== '');
    if (isIP(address) === 0 || address.includes('%')) continue;
    for (const alias of aliases) {
      const name = alias.toLowerCase().replace(/\.$/, '');
      const known = names.get(name);
      if (known === undefined) names.set(name, [address]);
      else if (!known.includes(address)) known.push(address);
    }
  }
  return names;
}
