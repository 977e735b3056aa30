/** What a valid file becomes: defaults, variables, order, and a frozen Config with a hash of its own. */
import t from 'tap';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FORMS, HTTP_FORMS } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { configOf, faultsOf, loadText, MINIMAL } from '../support/load-text.ts';

t.test('a minimal file has every default', async (t) => {
  const listener = { forms: [...HTTP_FORMS], trustedPeers: [], proxyProtocol: 'off', believe: [] };
  t.strictSame(configOf(MINIMAL), {
    mode: 'enforce',
    reload: { watch: true, refuseIfDenies: false, remember: 1000 },
    selfTest: { every: 60_000 },
    name: 'eco-egress',
    listeners: {
      http: [{ host: '0.0.0.0', port: 8080, ...listener }, { host: '0.0.0.0', port: 3128, ...listener }],
      tls: [{ host: '0.0.0.0', port: 8443, ...listener, forms: [...FORMS] }],
      admin: { host: '0.0.0.0', port: 9090, hosts: [] },
    },
    tlsServer: null,
    clients: [{ name: 'pods', addresses: ['10.8.0.0/14'], basic: null, tokens: null, certificates: null }],
    destinations: [
      {
        name: 'eco',
        hosts: ['eco.example'],
        ports: [443],
        addresses: null,
        forms: [...FORMS],
        gateway: null,
        methods: null,
        paths: null,
        tls: { ca: null, cert: null, key: null, serverName: null },
        report: false,
        tunnelSni: 'report',
        upgradePlainHttp: null,
        via: [],
        resolve: 'here',
        proxyProtocol: 'off',
        gateReadiness: false,
        circuitBreaker: { failures: 10, over: 2000, pause: 1000, longestPause: 30_000, statuses: [] },
      },
    ],
    rules: [{ clients: ['pods'], destinations: ['eco'], methods: null, paths: null, from: null, until: null, owner: null, reason: null, ticket: null, report: false, rate: null }],
    hops: [],
    sourceIp: null,
    tracing: null,
    cluster: { clients: [], destinations: [], hops: [], collector: null },
    nat: { ports: null, replicasPerNode: 1, timeWait: 120_000, whenExhausted: 'refuse', queueFor: 5000 },
    dns: { servers: [], ttl: 30_000, staleFor: 3_600_000 },
    headers: { via: true, forwarded: 'off', xForwarded: 'off', drop: [], keep: [] },
    limits: {
      connections: 4000,
      connectionsPerClient: 1000,
      tunnels: 2000,
      tunnelsPerClient: 500,
      exchanges: 1000,
      exchangesPerClient: 500,
      headerBytes: 65_536,
      headerFields: 500,
      upstreamConnections: 256,
      upstreamQueue: 1000,
      loopDelay: 0,
      memoryPercent: 90,
    },
    timeouts: {
      resolve: 5000,
      connect: 10_000,
      tls: 10_000,
      requestHeaders: 60_000,
      responseHeaders: 120_000,
      body: 300_000,
      keepAlive: 75_000,
      upstreamKeepAlive: 30_000,
      upstreamAge: 300_000,
      tunnelIdle: 3_600_000,
      tunnelAge: 86_400_000,
      drainDelay: 5000,
      drain: 25_000,
    },
    log: { level: 'info', format: 'json', profile: 'plain' },
  });
  t.match(loadText(MINIMAL), { ok: true, warnings: { length: 0 } });
});

t.test('a full destination comes out canonical', async (t) => {
  const config = configOf(`version: 1
name: door-1
listeners:
  http: [{ address: "[::1]:0", forms: [gateway, gateway] }, "127.0.0.1:0"]
  admin: "127.0.0.1:0"
destinations:
  eco:
    hosts: [ECO.example., "*.Eco.example", eco.example]
    ports: [443, 80, 443]
    addresses: [10.40.0.0/16, 10.1.2.3]
    forms: [forward, gateway]
    gateway: { prefix: /eco/, url: "https://ECO.example/base/" }
    http: { methods: [GET], paths: [/api/*, /health] }
    tls: { serverName: Eco.Example }
dns: { servers: ["10.0.0.10", "[fd00::1]:54"], ttl: 0s }
timeouts: { drainDelay: 0s }
`);
  t.match(config, {
    name: 'door-1',
    listeners: { http: [{ host: '::1', port: 0, forms: ['gateway'] }, { host: '127.0.0.1', port: 0 }] },
    dns: { servers: ['10.0.0.10:53', '[fd00::1]:54'], ttl: 0 },
    timeouts: { drainDelay: 0 },
  });
  t.strictSame(config.destinations[0], {
    name: 'eco',
    hosts: ['eco.example', '*.eco.example'],
    ports: [443, 80],
    addresses: ['10.40.0.0/16', '10.1.2.3/32'],
    forms: ['forward', 'gateway'],
    gateway: { prefix: '/eco', scheme: 'https', host: 'eco.example', port: 443, basePath: '/base', rewrite: ['locations', 'cookies', 'cookie-security'], encodedSlashes: 'refuse' },
    methods: ['GET'],
    paths: ['/api/*', '/health'],
    tls: { ca: null, cert: null, key: null, serverName: 'eco.example' },
    report: false,
    tunnelSni: 'report',
    upgradePlainHttp: null,
    via: [],
    resolve: 'here',
    proxyProtocol: 'off',
    gateReadiness: false,
    circuitBreaker: { failures: 10, over: 2000, pause: 1000, longestPause: 30_000, statuses: [] },
  });
});

t.test('who asks, when, and how strictly', async (t) => {
  const hash = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;
  const config = configOf(`version: 1
mode: report
reload: { watch: false, refuseIfDenies: true, remember: 0 }
listeners:
  http: [{ address: "127.0.0.1:0", proxyProtocol: from-trusted, trustedPeers: 10.0.0.0/28, believe: [x-forwarded-for, x-forwarded-client-cert] }]
clients:
  people: { basic: [{ user: cafe\u0301, hash: "${hash}" }] }
  pods:
    addresses: 10.8.0.0/14
    tokens: [{ issuer: "https://issuer.example", audience: eco-egress, subjects: "a:b, a:*", jwksUrl: "https://issuer.example/keys" }]
  mesh: { certificates: "spiffe://cluster.local/ns/x/*, *.Pods.example" }
destinations:
  eco: { hosts: eco.example, ports: 443, report: true, tunnelSni: require }
rules:
  - { clients: [pods, mesh, people], destinations: eco, methods: "GET,GET", paths: /a/**/b, from: 2027-01-01T00:00Z, until: 2028-01-01T00:00Z, owner: ' payments ', reason: Ünïcode & <b>, ticket: "CHG-1, CHG-2", report: true }
`);
  const issuer = { issuer: 'https://issuer.example', audience: 'eco-egress', subjects: ['a:b', 'a:*'], jwks: { kind: 'url', url: 'https://issuer.example/keys' } };
  t.match(config, {
    mode: 'report',
    reload: { watch: false, refuseIfDenies: true, remember: 0 },
    listeners: { http: [{ proxyProtocol: 'from-trusted', trustedPeers: ['10.0.0.0/28'], believe: ['x-forwarded-for', 'x-forwarded-client-cert'] }] },
    destinations: [{ report: true, tunnelSni: 'require' }],
  });
  t.strictSame(config.clients, [
    { name: 'people', addresses: null, basic: [{ user: 'caf\u00e9', hash }], tokens: null, certificates: null },
    { name: 'pods', addresses: ['10.8.0.0/14'], basic: null, tokens: [issuer], certificates: null },
    { name: 'mesh', addresses: null, basic: null, tokens: null, certificates: ['URI:spiffe://cluster.local/ns/x/*', 'DNS:*.pods.example'] },
  ]);
  t.strictSame(config.rules, [
    { clients: ['pods', 'mesh', 'people'], destinations: ['eco'], methods: ['GET'], paths: ['/a/**/b'], from: Date.UTC(2027, 0), until: Date.UTC(2028, 0), owner: 'payments', reason: 'Ünïcode & <b>', ticket: 'CHG-1, CHG-2', report: true, rate: null },
  ]);
});

t.test('one text with commas is a list', async (t) => {
  const config = configOf(`version: 1
listeners: { http: "127.0.0.1:8081, 127.0.0.1:8082" }
clients: { pods: { addresses: "10.0.0.0/8, ,fd00::/8," } }
destinations: { eco: { hosts: "a.example,b.example", ports: "443, 80", forms: "connect,forward", http: { methods: "GET,PUT", paths: "/a,/b" } } }
rules: [{ clients: pods, destinations: "eco" }]
`);
  t.strictSame(config.listeners.http.map(({ port }) => port), [8081, 8082]);
  t.strictSame(config.clients[0]?.addresses, ['10.0.0.0/8', 'fd00::/8']);
  t.match(config.destinations[0], { hosts: ['a.example', 'b.example'], ports: [443, 80], forms: ['connect', 'forward'], methods: ['GET', 'PUT'], paths: ['/a', '/b'] });
});

t.test('variables', async (t) => {
  const text = MINIMAL.replace('["10.8.0.0/14"]', '${CIDRS}').replace('[443]', '${PORT}');
  t.test('are read as YAML reads unquoted text', async (t) => {
    const config = configOf(text, { CIDRS: '10.0.0.0/8,fd00::/8', PORT: '8443' });
    t.match(config, { clients: [{ addresses: ['10.0.0.0/8', 'fd00::/8'] }], destinations: [{ ports: [8443] }] });
    const more = configOf(`${MINIMAL}headers: \n  via: \${VIA}\nlimits:\n  tunnels: \${N}\n`, { VIA: 'false', N: ' 7 ' });
    t.match(more, { headers: { via: false }, limits: { tunnels: 7 } });
    t.match(faultsOf(`${MINIMAL}limits: { tunnels: "\${N}" }\n`, { N: '7' }), [/^11:20 limits\.tunnels: "7" is text, not a number/]);
  });

  t.test('cannot add structure, whatever they hold', async (t) => {
    for (const evil of ['10.0.0.0/8\n  other:\n    addresses: 0.0.0.0/0', '[10.0.0.0/8]', '{a: b}', '*x', '!!null x', '# none', '- 10.0.0.0/8', '"10.0.0.0/8"', '&a 10.0.0.0/8', '10.0.0.0/8 # all', '~', 'null', '${PORT}']) {
      const faults = faultsOf(text, { CIDRS: evil, PORT: '443' });
      t.equal(faults.length, 1, JSON.stringify(evil));
      t.match(faults[0], /^4:16 clients\.pods\.addresses: .* is not an address range\. The value comes from \$\{CIDRS\}\./, JSON.stringify(evil));
    }
  });

  t.test('that yield nothing leave the key out', async (t) => {
    const optional = MINIMAL.replace('ports:', 'addresses: ${X:-}\n    tls:\n      caFile: "${Y:-}"\n    http: { methods: ["${X:-}", GET, "${Y:-}"] }\n    ports:');
    t.match(configOf(optional), { destinations: [{ addresses: null, methods: ['GET'], tls: { ca: null } }] });
    t.match(configOf(optional, { X: '', Y: '  ' }), { destinations: [{ addresses: null, tls: { ca: null } }] });
    t.match(configOf(MINIMAL.replace('ports:', 'addresses: ${X:-}\n    ports:'), { X: '10.0.0.0/8' }), { destinations: [{ addresses: ['10.0.0.0/8'] }] });
  });

  t.test('positions of a list stay those of what is left', async (t) => {
    const list = MINIMAL.replace('["10.8.0.0/14"]', '["${E:-}", "10.0.0.0/8", wrong]');
    t.match(faultsOf(list), [/^4:41 clients\.pods\.addresses\[1\]: "wrong"/]);
  });

  t.test('escaped ones stay', async (t) => {
    t.match(faultsOf(MINIMAL.replace('eco.example', () => '"$${A}"')), [/"\$\{A\}" is not a host/]);
  });
});

t.test('clients and destinations keep the order of the file', async (t) => {
  const names = ['zeta', '1a', 'alpha', '0b', 'constructor', 'tostring'];
  const config = configOf(`version: 1\nclients:\n${names.map((name, index) => `  ${name}: { addresses: 10.${index}.0.0/16 }\n`).join('')}`);
  t.strictSame(config.clients.map(({ name }) => name), names);
});

t.test('a configuration is frozen through and through', async (t) => {
  const frozen = (value: unknown): boolean => typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
  t.ok(frozen(configOf(MINIMAL)));
});

t.test('the hash follows what is in a file of keys, not where the file is', async (t) => {
  const text = MINIMAL.replace('clients:', 'clients:\n  keyed: { tokens: [{ issuer: "https://issuer.example", audience: eco, subjects: [x], jwksFile: keys.json }] }');
  const key = (x: string): string => JSON.stringify({ keys: [{ kty: 'EC', crv: 'P-256', kid: x, x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU', y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0' }] });
  const hash = (directory: string, keys: string): string => {
    const result = loadConfig({ file: `${directory}/egress.yaml`, env: {}, readFile: (path) => (path.endsWith('.json') ? keys : text) });
    return result.ok ? result.hash : JSON.stringify(result.faults);
  };
  t.match(hash('/a', key('1')), /^[0-9a-f]{16}$/);
  t.equal(hash('/b', key('1')), hash('/a', key('1')), 'elsewhere');
  t.not(hash('/a', key('2')), hash('/a', key('1')), 'another key');
});

t.test('the hash follows the meaning, not the spelling', async (t) => {
  const hash = (text: string, env = {}) => {
    const result = loadText(text, env);
    return result.ok ? result.hash : 'faulty';
  };
  const base = hash(MINIMAL);
  t.match(base, /^[0-9a-f]{16}$/);
  t.equal(hash(`# more words\n${MINIMAL}`), base);
  t.equal(hash(MINIMAL.replace('[443]', '${P}'), { P: '443' }), base);
  t.equal(hash(MINIMAL.replace('eco.example', 'ECO.example.')), base);
  t.not(hash(MINIMAL.replace('[443]', '[444]')), base);
  t.not(hash(`${MINIMAL}timeouts: { drain: 26s }\n`), base);
});

t.test('every key that is changed changes the hash, and the content of a file does', async (t) => {
  const files: Record<string, string> = { 'clear.txt': 'user:password' };
  const load = (text: string): string => {
    const result = loadConfig({ file: '/etc/egress.yaml', env: {}, readFile: (path) => files[path.slice('/etc/'.length)] ?? text });
    if (!result.ok) throw new Error(JSON.stringify(result.faults));
    return result.hash;
  };
  const text = `${MINIMAL}hops: { gw: { url: http://gw.example:3128, credentialsFile: clear.txt } }\n`;
  const changes = ['mode: report', 'name: other', 'reload: { watch: false }', 'dns: { ttl: 1s }', 'headers: { via: false }', 'limits: { tunnels: 7 }', 'timeouts: { keepAlive: 7s }', 'log: { level: warn }', 'tracing: { endpoint: "https://a.example/v1/traces" }', 'nat: { timeWait: 30s }', 'cluster: { hops: { gw: { namespace: edge } } }', 'sourceIp: { expected: 192.0.2.1 }'];
  const base = load(text);
  const hashes = changes.map((change) => load(`${text}${change}\n`));
  files['clear.txt'] = 'user:changed';
  hashes.push(load(text));
  t.equal(new Set([base, ...hashes]).size, changes.length + 2);
});

t.test('a file in UTF-16 is named as such, whatever it holds', (t) => {
  const text = `${MINIMAL}hops: { gw: { url: http://gw.example:3128, credentialsFile: clear.txt } }\n`;
  const little = (plain: string): Buffer => Buffer.from(plain, 'utf16le');
  const big = (plain: string): Buffer => little(plain).swap16();
  for (const [name, bytes] of [['with its mark', little('\ufeffuser:password\n')], ['without', little('user:password\n')], ['the other order', big('\ufeffuser:password\n')], ['without its mark', big('user:password\n')]] as const) {
    const directory = t.testdir({ 'egress.yaml': text, 'clear.txt': bytes, 'wide.yaml': bytes });
    const problem = /cannot be read: it is UTF-16\. Save it as UTF-8\.$/;
    t.match(loadConfig({ file: join(directory, 'egress.yaml'), env: {} }), { ok: false, faults: [{ path: 'hops.gw.credentialsFile', problem }] }, name);
    t.match(loadConfig({ file: join(directory, 'wide.yaml'), env: {} }), { ok: false, faults: [{ path: '', problem }] }, name);
  }
  t.end();
});

t.test('text of another encoding, and characters that others read otherwise, are named with their line', async (t) => {
  const other: [string, RegExp][] = [[Buffer.from('user: b\xe4r', 'latin1').toString('utf8'), /not UTF-8 text/], ['\x85', /This is the control character U\+0085/], ['\u2028', /U\+2028/], ['\x7f', /U\+007F/], ['\x1b', /U\+001B/]];
  for (const [text, problem] of other) t.match(loadText(MINIMAL.replace('\n', `\r\n# ${text}\n`)), { ok: false, faults: [{ problem, line: 2, column: 3 + text.search(/[^ -~]/) }] });
  t.match(loadText(MINIMAL.replace('\n', '\n#\t\xa0\u{1f600}\r\n')), { ok: true });
});

t.test('files are read from disk', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-load-'));
  t.teardown(() => { rmSync(directory, { recursive: true }); });
  const file = join(directory, 'egress.yaml');
  t.match(loadConfig({ file, env: {} }), { ok: false, faults: [{ file, line: null, problem: /cannot be read: there is no such file/ }] });
  writeFileSync(file, `\uFEFF${MINIMAL.replaceAll('\n', '\r\n')}`);
  t.match(loadConfig({ file, env: {} }), { ok: true });
  t.match(loadConfig({ file: directory, env: {} }), { ok: false, faults: [{ problem: /it is a directory/ }] });
});

t.test('an error of our own is reported as a fault of the file', async (t) => {
  const now = (): number => { throw new TypeError('broken'); };
  t.match(loadText(MINIMAL, {}, { now }), { ok: false, faults: [{ file: 'test.yaml', problem: /^It could not be loaded because of an internal error: TypeError: broken\n +at now/ }] });
});
