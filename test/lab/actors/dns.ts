/**
 * The DNS of the lab. Its zone, `{"name": ["address"]}`, is read at each
 * question: whoever changes the file moves the name. Run: node dns.ts ZONE
 */
import { readFileSync } from 'node:fs';
import { startDnsServer } from '../../support/dns-server.ts';

const [zoneFile = ''] = process.argv.slice(2);
/** As short as an answer may be kept, so that nobody waits long for a move. */
const TTL_SECONDS = 1;

await startDnsServer(
  ({ name, type }) => {
    const zone = JSON.parse(readFileSync(zoneFile, 'utf8')) as Record<string, string[]>;
    const addresses = zone[name.toLowerCase()];
    if (addresses === undefined) return 'NXDOMAIN';
    return type === 'A' ? { addresses, ttl: TTL_SECONDS } : null;
  },
  { host: '0.0.0.0', port: 53 },
);
process.stdout.write('ready\n');
