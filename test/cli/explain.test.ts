/** `explain`, as a process: what it prints, its exit code, and that it asks the resolver of the file. */
import t, { type Test } from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { explainStart, type ExplainOptions, runExplain } from '../../src/cli/explain.ts';
import { recordIo } from '../support/command-io.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { listen } from '../support/listen.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

interface Ended {
  readonly out: string;
  readonly err: string;
  readonly code: number;
}

interface SetUp {
  readonly port: number;
  /** Asks in this process, which is much faster. */
  readonly explain: (options: Partial<ExplainOptions>, method: string, target: string) => Promise<Ended>;
  /** The command itself. */
  readonly command: (...args: string[]) => Promise<Ended>;
  /** Names that the resolver was asked for. */
  readonly asked: () => string[];
  /** To the partner. */
  readonly connections: () => number;
}

async function setUp(t: Test): Promise<SetUp> {
  const dns = await startDnsServer(({ name, type }) => (name === 'nowhere.example' ? 'NXDOMAIN' : type === 'A' ? { addresses: ['127.0.0.1'], ttl: 60 } : null));
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
  return {
    port,
    explain: async (options, method, target) => {
      const io = recordIo();
      const code = await runExplain({ config: `${cwd}/egress.yaml`, resolve: true, ...options }, io, method, target);
      return { code, out: io.out(), err: io.err() };
    },
    command: async (...args) => {
      const child = spawn(process.execPath, [MAIN, 'explain', ...args], { cwd, env: { PATH: process.env['PATH'], ECO_EGRESS_CONFIG: 'egress.yaml' }, stdio: ['ignore', 'pipe', 'pipe'] });
      const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number]>]);
      return { out, err, code };
    },
    asked: () => [...new Set(dns.questions.map(({ name }) => name))],
    connections: () => connections,
  };
}

t.test('answers and exit codes', async (t) => {
  const { explain, port, asked, connections } = await setUp(t);
  const eco = `eco.example:${port}`;
  t.match(await explain({ resolve: false }, 'CONNECT', eco), { code: 0, err: '', out: /✓ allowed[^]*No client was given, so the first of the file asks: pods\.\n[^]*was not looked up/ });
  t.strictSame(asked(), []);
  t.match(await explain({}, 'CONNECT', eco), { code: 0, err: '', out: /addresses +✓ 127\.0\.0\.1 +loopback, RFC 1122\n/ });
  t.strictSame(asked(), ['eco.example'], 'the resolver of the file was asked');
  t.match(await explain({ client: 'batch' }, 'CONNECT', eco), { code: 0, out: /client +✓ batch {2}10\.20\.0\.0 is in 10\.20\.0\.0\/16; nightly is among its users\n/ });
  t.match(await explain({ client: '10.20.0.1' }, 'CONNECT', eco), { code: 1, out: /✗ denied: credentials-missing \(407\)/ });
  t.match(await explain({ client: '10.20.0.1', user: 'nightly' }, 'CONNECT', eco), { code: 0 });
  t.match(await explain({ host: eco }, 'GET', '/x'), { code: 0, out: /as host-routed, path \/x/ });
  t.match(await explain({}, 'CONNECT', 'evil.example:443'), { code: 1, err: '', out: /✗ denied: host-not-allowed \(403\)[^]*to permit it[^]*hosts: \[/ });
  t.match(await explain({}, 'CONNECT', 'eco.example'), { code: 1, out: /✗ denied: target-malformed \(400\)/ });
  t.match(await explain({}, 'CONNECT', 'eco.example:3128'), { code: 1, out: /✗ denied: loop \(508\)/ }, 'the ports of the file are known, though nothing listens');
  t.match(await explain({}, 'CONNECT', `nowhere.example:${port}`), { code: 0, out: /✓ allowed, but would fail: name-not-found \(502\)/ });
  t.match(await explain({}, 'get', '/x'), { code: 2, out: '', err: 'Methods are written in capitals: GET.\n' });
  t.match(await explain({ client: 'pod' }, 'GET', '/x'), { code: 2, out: '', err: 'pod is neither an IP address nor a client; the clients are pods, batch.\n' });
  t.equal(connections(), 0, 'nothing was dialled');
});

t.test('the command', async (t) => {
  const { command, port, connections } = await setUp(t);
  t.match(await command('--client', '10.20.0.1', '--user', 'nightly', 'CONNECT', `eco.example:${port}`), { code: 0, err: '', out: /^CONNECT eco\.example:[^]*✓ 127\.0\.0\.1/ });
  t.match(await command('GET', '/x', '--host', `eco.example:${port}`, '--no-resolve'), { code: 0, err: '', out: /was not looked up/ });
  const { out, err, code } = await command('--json', '--san', 'DNS:a', '--san', 'DNS:b', 'CONNECT', 'evil.example:443');
  t.equal(code, 1, err);
  t.match(JSON.parse(out), { verdict: 'deny', code: 'host-not-allowed', status: 403, client: 'pods', peer: { sans: ['DNS:a', 'DNS:b'] }, change: { yaml: /evil\.example/ } });
  t.notMatch(out, '$scrypt');
  t.match(await command('CONNECT'), { code: 2, out: '', err: /missing required argument 'target'/ });
  t.match(await command('CONNECT', 'eco.example:443', 'more'), { code: 2, err: /too many arguments/ });
  t.match(await command('--config', 'faulty.yaml', 'GET', '/x'), { code: 2, out: '', err: /^One fault in faulty\.yaml/ });
  t.equal(connections(), 0, 'nothing was dialled');
});

t.test('whose rule permits it, why, and until when', async (t) => {
  const rule = (more: string): string => `  - { clients: [pods], destinations: [eco], ${more} }\n`;
  const file = `${t.testdir({ 'egress.yaml': `version: 1\nclients: { pods: { addresses: ["10.8.0.0/14"] } }\ndestinations: { eco: { hosts: [eco.example], ports: [443] } }\nrules:\n${rule('until: "2020-01-01T00:00:00Z", owner: ops')}${rule('until: "2999-01-01T00:00:00Z", owner: payments, ticket: CHG-1042, reason: The old way')}` })}/egress.yaml`;
  const ask = async (json: boolean): Promise<string> => {
    const io = recordIo();
    t.equal(await runExplain({ config: file, resolve: false, json }, io, 'CONNECT', 'eco.example:443'), 0, io.err());
    return io.out();
  };
  t.match(await ask(false), /✗ rules\[0\] {2}ended at 2020-01-01T00:00:00Z[^\n]*\n +owner ops\n +✓ rules\[1\] {2}permits it within until 2999-01-01T00:00:00Z\n +owner payments, ticket CHG-1042, reason: The old way\n/);
  t.match(JSON.parse(await ask(true)), { rule: 'rules[1]', rules: [{ applies: false, owner: 'ops', ticket: null, reason: null, until: '2020-01-01T00:00:00Z' }, { applies: true, owner: 'payments', ticket: 'CHG-1042', reason: 'The old way', until: '2999-01-01T00:00:00Z' }] });
});

t.test('at another moment', async (t) => {
  const directory = t.testdir({
    'egress.yaml': 'version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\ndestinations: { eco: { hosts: eco.example, ports: 443 } }\nrules: [{ clients: pods, destinations: eco, from: "2027-01-01T00:00:00Z", until: "2027-02-01T00:00:00Z" }]\n',
  });
  const ask = async (at: string): Promise<Ended> => {
    const io = recordIo();
    const code = await runExplain({ config: `${directory}/egress.yaml`, resolve: false, at }, io, 'CONNECT', 'eco.example:443');
    return { code, out: io.out(), err: io.err() };
  };
  t.match(await ask('2027-01-01T00:00:00Z'), { code: 0 });
  t.match(await ask('2027-02-01T00:00:00Z'), { code: 1, out: /denied: rule-expired[^]*it is 2027-02-01T00:00:00Z/ });
  t.match(await ask('tomorrow'), { code: 2, out: '', err: /^--at: "tomorrow"/ });
});

t.test('why a listener could not be opened', async (t) => {
  const explained = (code: string, address: string): string => explainStart(Object.assign(new Error(`listen ${code}`), { code, address, port: 8080 }));
  t.match(explained('EADDRINUSE', '0.0.0.0'), /^0\.0\.0\.0:8080 is in use\./);
  t.match(explained('EADDRINUSE', '::'), /^\[::\]:8080 is in use\./);
  t.match(explained('EACCES', '::1'), /^\[::1\]:8080 may not be bound/);
  t.match(explained('EAFNOSUPPORT', '::'), /^:: cannot be bound: this host has no IPv6\. Listen on 0\.0\.0\.0/);
  t.equal(explained('EMFILE', '::'), 'listen EMFILE');
});

t.test('the keys of token issuers are not fetched', async (t) => {
  let asked = 0;
  const port = await listen(t, createServer((socket) => { asked += 1; socket.destroy(); }));
  const file = `${t.testdir({ 'egress.yaml': `version: 1\nclients: { jobs: { tokens: [{ issuer: "https://issuer.example", audience: eco, subjects: ["*"], jwksUrl: "http://127.0.0.1:${port}/keys" }] } }\ndestinations: { eco: { hosts: [eco.example], ports: [443] } }\nrules:\n  - { clients: [jobs], destinations: [eco] }\n` })}/egress.yaml`;
  const io = recordIo();
  t.equal(await runExplain({ config: file, resolve: false, subject: 'job' }, io, 'CONNECT', 'eco.example:443'), 0, io.err());
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(asked, 0);
});
