/**
 * The resolver of the chaos suite. `{"mode":"ok","zone":{"name":["address"]}}`
 * is read at each question. Run: node dns.ts STATE
 */
import { readFileSync } from 'node:fs';
import { type DnsReply, startDnsServer } from '../../support/dns-server.ts';

/** How it answers. */
export interface DnsState {
  readonly mode: 'ok' | 'silent' | 'SERVFAIL' | 'NXDOMAIN' | 'garbage';
  readonly zone: Readonly<Record<string, readonly string[]>>;
}

const [stateFile = ''] = process.argv.slice(2);
/** As short as an answer may be kept, so that a fault is seen soon. */
const TTL_SECONDS = 1;

await startDnsServer(
  ({ name, type }): DnsReply => {
    const { mode, zone } = JSON.parse(readFileSync(stateFile, 'utf8')) as DnsState;
    if (mode !== 'ok') return mode;
    const addresses = zone[name.toLowerCase()];
    if (addresses === undefined) return 'NXDOMAIN';
    return type === 'A' ? { addresses, ttl: TTL_SECONDS } : null;
  },
  { host: '0.0.0.0', port: 53 },
);
process.stdout.write('ready\n');
