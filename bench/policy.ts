/** What one decision costs, at 1,000 clients of each kind and 1,000 destinations. Run: bin/node bench/policy.ts */
import { compilePolicy, type Policy, type PolicyConfig } from '../src/policy/compile.ts';
import { decide } from '../src/policy/decide.ts';
import type { Ask, Peer } from '../src/policy/verdict.ts';
import { parseRequestTarget } from '../src/targets/request-target.ts';

const SIZE = 1_000;
const ROUNDS = 2_000_000;

const indexes = Array.from({ length: SIZE }, (_, index) => index);
const rule = { methods: null, paths: null, from: null, until: null, owner: null, reason: null, ticket: null, report: false, rate: null };
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
    upgradePlainHttp: null, tunnelSni: 'report',
    via: [],
    resolve: 'here',
    proxyProtocol: 'off', gateReadiness: false, circuitBreaker: null,
  })),
  rules: indexes.map((index) => ({
    ...rule,
    clients: [`client-${index}`],
    destinations: [`destination-${index}`, `destination-${(index + 1) % SIZE}`],
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

const nobody = { addresses: null, basic: null, tokens: null, certificates: null };
const ISSUER = 'https://issuer.example';
const jwks = { kind: 'url', url: `${ISSUER}/keys` } as const;
/** Beside the clients by address, a thousand of each other kind, half of them from certain addresses only. */
const withCredentials: PolicyConfig = {
  ...config,
  clients: [
    ...indexes.map((index) => ({ ...nobody, name: `user-${index}`, addresses: index % 2 === 0 ? null : ['172.16.0.0/12'], basic: [{ user: `user-${index}`, hash: 'x' }] })),
    ...indexes.map((index) => ({ ...nobody, name: `token-${index}`, tokens: [{ issuer: ISSUER, audience: 'eco-egress', subjects: [`system:serviceaccount:ns-${index}:*`], jwks }] })),
    ...indexes.map((index) => ({ ...nobody, name: `mesh-${index}`, certificates: [`URI:spiffe://cluster.local/ns/ns-${index}/*`, `DNS:*.ns-${index}.example`] })),
    ...config.clients,
  ],
  rules: [
    ...config.rules,
    ...indexes.map((index) => ({ ...rule, clients: [`user-${index}`, `token-${index}`, `mesh-${index}`], destinations: [`destination-${index}`] })),
  ],
};

function compileTimed(what: string, content: PolicyConfig): Policy {
  const started = process.hrtime.bigint();
  const compiled = compilePolicy(content);
  process.stdout.write(`compile ${what}: ${(Number(process.hrtime.bigint() - started) / 1e6).toFixed(0)} ms\n`);
  return compiled;
}

const policy = compileTimed(`${SIZE} x ${SIZE}`, config);
const credentials = compileTimed(`${withCredentials.clients.length} x ${SIZE}`, withCredentials);
const reporting = compilePolicy({ ...withCredentials, mode: 'report' });

const cases: Record<string, Ask[]> = {
  'allow, exact host': asks(() => ({})),
  'allow, wildcard host': asks((index) => ({ host: `a.b.zone-${index}.partner.internal` })),
  'allow, IPv6 client': asks((index) => ({ peer: peer(`fd00:${index.toString(16)}::7`) })),
  'allow, method and path listed': asks(() => ({ form: 'forward', method: 'GET', path: '/api/v2/metrics/ingest' })),
  'allow, path with escapes': asks(() => ({ form: 'gateway', method: 'GET', path: '/api/v2/%7Euser/a%20b' })),
  'deny, unknown host': asks((index) => ({ host: `evil-${index}.example` })),
  'deny, no rule': asks((index) => ({ host: `host-${(index + 7) % SIZE}.partner.internal` })),
};
const elsewhere = '172.16.0.1';
const credentialCases: Record<string, Ask[]> = {
  'allow, user': asks((index) => ({ peer: peer(elsewhere, { user: `user-${index}` }) })),
  'allow, token subject': asks((index) => ({ peer: peer(elsewhere, { token: { issuer: ISSUER, audiences: ['eco-egress'], subject: `system:serviceaccount:ns-${index}:egress` } }) })),
  'allow, SPIFFE id': asks((index) => ({ peer: peer(elsewhere, { sans: [`URI:spiffe://cluster.local/ns/ns-${index}/sa/egress`] }) })),
  'allow, one of three DNS names': asks((index) => ({ peer: peer(elsewhere, { sans: ['DNS:a.example', 'DNS:b.example', `DNS:pod.ns-${index}.example`] }) })),
  'allow, address after 3,000 others': asks(() => ({})),
  'deny, credentials missing': asks(() => ({ peer: peer(elsewhere) })),
  'deny, user of another client': asks((index) => ({ host: `host-${(index + 7) % SIZE}.partner.internal`, peer: peer(elsewhere, { user: `user-${index}` }) })),
};

function measureCases(asked: Policy, list: Record<string, Ask[]>, verdictOf: (name: string) => string): void {
  for (const [name, questions] of Object.entries(list)) {
    const expected = verdictOf(name);
    measure(expected === 'report' ? name.replace('deny', 'report') : name, (index) => {
      const ask = questions[index];
      if (ask === undefined || decide(asked, ask).verdict !== expected) throw new Error(`${name}: not the expected verdict`);
    });
  }
}

const before = (name: string): string => name.slice(0, name.indexOf(','));
measureCases(policy, cases, before);
measureCases(credentials, credentialCases, before);
measureCases(reporting, { 'deny, credentials missing': credentialCases['deny, credentials missing'] ?? [], 'deny, unknown host': cases['deny, unknown host'] ?? [] }, () => 'report');

const connects = indexes.map((index) => `host-${index}.partner.internal:443`);
const urls = indexes.map((index) => `http://host-${index}.partner.internal/api/v2/metrics/ingest?x=1`);
measure('read a CONNECT target', (index) => {
  const authority = connects[index] ?? '';
  parseRequestTarget('CONNECT', authority, [authority], '1.1');
});
measure('read an absolute-form target', (index) => {
  parseRequestTarget('GET', urls[index] ?? '', [`host-${index}.partner.internal`], '1.1');
});
