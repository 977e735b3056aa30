/** `explain`, as a process: what it prints, its exit code, and that it asks the resolver of the file. */
import t, { type Test } from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { startDnsServer } from '../support/dns-server.ts';
import { listen } from '../support/listen.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

interface Ended {
  readonly out: string;
  readonly err: string;
  readonly code: number;
}

async function setUp(t: Test): Promise<{ explain: (...args: string[]) => Promise<Ended>; asked: () => string[]; connections: () => number }> {
  const dns = await startDnsServer(({ name, type }) => (type === 'A' && name !== 'nowhere.example' ? { addresses: ['127.0.0.1'], ttl: 60 } : name === 'nowhere.example' ? 'NXDOMAIN' : null));
  t.teardown(() => dns.close());
  let connections = 0;
  const partner = createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  const port = await listen(t, partner);
  const cwd = t.testdir({
    'egress.yaml': `version: 1
listeners: { http: ["127.0.0.1:3128"], admin: "127.0.0.1:9090" }
clients:
  pods: { addresses: [10.8.0.0/14] }
  batch: { addresses: [10.20.0.0/16], basic: [{ user: nightly, hash: "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }] }
destinations:
  eco: { hosts: [eco.example, nowhere.example], ports: [${port}, 3128], addresses: [127.0.0.0/8] }
rules:
  - { clients: [pods, batch], destinations: [eco] }
dns: { servers: ["${dns.address}"] }
`,
    'faulty.yaml': 'version: 2\n',
  });
  const run = async (...args: string[]): Promise<Ended> => {
    const child = spawn(process.execPath, [MAIN, 'explain', ...args.map((arg) => arg.replaceAll('PORT', String(port)))], { cwd, env: { PATH: process.env['PATH'], ECO_EGRESS_CONFIG: 'egress.yaml' }, stdio: ['ignore', 'pipe', 'pipe'] });
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number]>]);
    return { out, err, code };
  };
  return { explain: run, asked: () => [...new Set(dns.questions.map(({ name }) => name))], connections: () => connections };
}

t.test('answers and exit codes', async (t) => {
  const { explain, asked, connections } = await setUp(t);
  t.match(await explain('CONNECT', 'eco.example:PORT', '--no-resolve'), { code: 0, err: '', out: /✓ allowed[^]*No client was given, so the first of the file asks: pods\.\n[^]*was not looked up/ });
  t.strictSame(asked(), []);
  t.match(await explain('CONNECT', 'eco.example:PORT'), { code: 0, err: '', out: /addresses +✓ 127\.0\.0\.1 +loopback, RFC 1122\n/ });
  t.strictSame(asked(), ['eco.example'], 'the resolver of the file was asked');
  t.match(await explain('--client', 'batch', 'CONNECT', 'eco.example:PORT'), { code: 0, out: /client +✓ batch {2}10\.20\.0\.0 is in 10\.20\.0\.0\/16; nightly is among its users\n/ });
  t.match(await explain('--client', '10.20.0.1', 'CONNECT', 'eco.example:PORT'), { code: 1, out: /✗ denied: credentials-missing \(407\)/ });
  t.match(await explain('--client', '10.20.0.1', '--user', 'nightly', 'CONNECT', 'eco.example:PORT'), { code: 0 });
  t.match(await explain('GET', '/x', '--host', 'eco.example:PORT'), { code: 0, out: /as host-routed, path \/x/ });
  t.match(await explain('CONNECT', 'evil.example:443'), { code: 1, err: '', out: /✗ denied: host-not-allowed \(403\)[^]*to permit it[^]*hosts: \[/ });
  t.match(await explain('CONNECT', 'eco.example'), { code: 1, out: /✗ denied: target-malformed \(400\)/ });
  t.match(await explain('CONNECT', 'eco.example:3128'), { code: 1, out: /✗ denied: loop \(508\)/ }, 'the ports of the file are known, though nothing listens');
  t.match(await explain('CONNECT', 'nowhere.example:PORT'), { code: 0, out: /✓ allowed, but would fail: name-not-found \(502\)/ });
  t.equal(connections(), 0, 'nothing was dialled');
});

t.test('--json', async (t) => {
  const { explain } = await setUp(t);
  const { out, err, code } = await explain('--json', 'CONNECT', 'evil.example:443');
  t.equal(code, 1, err);
  t.match(JSON.parse(out), { verdict: 'deny', code: 'host-not-allowed', status: 403, client: 'pods', change: { yaml: /evil\.example/ } });
  t.notMatch(out, '$scrypt');
});

t.test('wrong arguments and faulty files', async (t) => {
  const { explain } = await setUp(t);
  t.match(await explain(), { code: 2, out: '', err: /missing required argument 'method'/ });
  t.match(await explain('CONNECT'), { code: 2, out: '', err: /missing required argument 'target'/ });
  t.match(await explain('CONNECT', 'eco.example:443', 'more'), { code: 2, err: /too many arguments/ });
  t.match(await explain('get', '/x'), { code: 2, out: '', err: 'Methods are written in capitals: GET.\n' });
  t.match(await explain('--client', 'pod', 'GET', '/x'), { code: 2, out: '', err: 'pod is neither an IP address nor a client; the clients are pods, batch.\n' });
  t.match(await explain('--config', 'faulty.yaml', 'GET', '/x'), { code: 2, out: '', err: /^One fault in faulty\.yaml/ });
});
