/** Looks names up in a mount and network namespace of its own, set up as a pod on GKE is. Run: unshare -rmn node pod-names.ts DIRECTORY */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode, systemLookup } from '../../src/dial/lookup.ts';
import { startDnsServer } from './dns-server.ts';

const [directory = ''] = process.argv.slice(2);

function mount(name: string, content: string): void {
  const file = join(directory, name);
  writeFileSync(file, content);
  execFileSync('mount', ['--bind', file, `/etc/${name}`]);
}

execFileSync('ip', ['link', 'set', 'lo', 'up']);
mount('resolv.conf', 'nameserver 127.0.0.1\nsearch dynatrace.svc.cluster.local svc.cluster.local cluster.local c.project.internal google.internal\noptions ndots:5\n');
mount('hosts', '127.0.0.1 localhost\n192.0.2.7 in-hosts.partner.test\n');

const server = await startDnsServer(
  ({ name, type }) => {
    if (name.endsWith('.google.internal')) return 'silent';
    if (name.endsWith('.internal') || name.endsWith('.local')) return { addresses: ['192.0.2.66'], ttl: 60 };
    if (name !== 'eco.partner.test') return 'NXDOMAIN';
    return type === 'A' ? { addresses: ['192.0.2.1'], ttl: 60 } : null;
  },
  { host: '127.0.0.1', port: 53 },
);
const found: Record<string, unknown> = {};
for (const host of ['eco.partner.test', 'absent.partner.test', 'in-hosts.partner.test']) {
  found[host] = await systemLookup(host).then(({ addresses }) => addresses, errorCode);
}
await server.close();
process.stdout.write(JSON.stringify({ ...found, questions: server.questions.map(({ name, type }) => `${type} ${name}`).toSorted() }));
