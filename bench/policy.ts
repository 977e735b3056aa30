/** What one decision costs, at 1,000 clients and 1,000 destinations. Run: node bench/policy.ts */
import { compilePolicy, type PolicyConfig } from '../src/policy/compile.ts';
import { decide } from '../src/policy/decide.ts';
import type { Ask, Peer } from '../src/policy/verdict.ts';
import { parseRequestTarget } from '../src/target/request-target.ts';

const SIZE = 1_000;
const ROUNDS = 2_000_000;

const indexes = Array.from({ length: SIZE }, (_, index) => index);
const config: PolicyConfig = {
  mode: 'enforce',
  clients: indexes.map((index) => ({
    name: `client-${index}`,
    addresses: [`10.${index >> 8}.${index & 255}.0/24`, `fd00:${index.toString(16)}::/32`],
    basic: null,
    tokens: null,
    certificates: null,
  })),
  destinations: indexes.map((index) => ({
    name: `destination-${index}`,
    hosts: [`host-${index}.partner.internal`, `*.zone-${index}.partner.internal`],
    ports: [443, 80],
    addresses: null,
    forms: ['connect', 'forward', 'gateway', 'host-routed'],
    gateway: null,
    methods: index % 2 === 0 ? null : ['GET', 'POST'],
    paths: index % 2 === 0 ? null : ['/api/*', '/health'],
    tls: { ca: null, cert: null, key: null, serverName: null },
    report: false,
    tunnelSni: 'report',
  })),
  rules: indexes.map((index) => ({
    clients: [`client-${index}`],
    destinations: [`destination-${index}`, `destination-${(index + 1) % SIZE}`],
    methods: null,
    paths: null,
    from: null,
    until: null,
    report: false,
  })),
};

function peer(address: string, more: Partial<Peer> = {}): Peer {
  return { address, user: null, token: null, sans: [], rejected: null, ...more };
}

function asks(make: (index: number) => Partial<Ask>): Ask[] {
  return indexes.map((index) => ({
    form: 'connect',
    peer: peer(`10.${index >> 8}.${index & 255}.7`),
    now: 0,
    host: `host-${index}.partner.internal`,
    port: 443,
    method: null,
    path: null,
    ...make(index),
  }));
}

function measure(name: string, round: (index: number) => void): void {
  for (let i = 0; i < ROUNDS / 10; i += 1) round(i % SIZE);
  const before = process.cpuUsage();
  for (let i = 0; i < ROUNDS; i += 1) round(i % SIZE);
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${name.padEnd(44)}${(((user + system) * 1000) / ROUNDS).toFixed(0).padStart(7)} ns\n`);
}

const started = process.hrtime.bigint();
const policy = compilePolicy(config);
process.stdout.write(`compile ${SIZE} x ${SIZE}: ${((Number(process.hrtime.bigint() - started)) / 1e6).toFixed(0)} ms\n`);

const cases: Record<string, Ask[]> = {
  'allow, exact host': asks(() => ({})),
  'allow, wildcard host': asks((index) => ({ host: `a.b.zone-${index}.partner.internal` })),
  'allow, IPv6 client': asks((index) => ({ peer: peer(`fd00:${index.toString(16)}::7`) })),
  'allow, method and path listed': asks(() => ({ form: 'forward', method: 'GET', path: '/api/v2/metrics/ingest' })),
  'allow, path with escapes': asks(() => ({ form: 'gateway', method: 'GET', path: '/api/v2/%7Euser/a%20b' })),
  'deny, unknown host': asks((index) => ({ host: `evil-${index}.example` })),
  'deny, no rule': asks((index) => ({ host: `host-${(index + 7) % SIZE}.partner.internal` })),
};
for (const [name, list] of Object.entries(cases)) {
  const expected = name.slice(0, name.indexOf(','));
  measure(name, (index) => {
    const ask = list[index];
    if (ask === undefined || decide(policy, ask).verdict !== expected) throw new Error(`${name}: not the expected verdict`);
  });
}

const connects = indexes.map((index) => `host-${index}.partner.internal:443`);
const urls = indexes.map((index) => `http://host-${index}.partner.internal/api/v2/metrics/ingest?x=1`);
measure('read a CONNECT target', (index) => {
  const authority = connects[index] ?? '';
  parseRequestTarget('CONNECT', authority, [authority], '1.1');
});
measure('read an absolute-form target', (index) => {
  parseRequestTarget('GET', urls[index] ?? '', [`host-${index}.partner.internal`], '1.1');
});
