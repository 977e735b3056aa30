/** Random policies that differ in little, and requests at the edges of what they tell apart. */
import type { ClientConfig, DestinationConfig, Form, GatewayConfig, HopConfig, RuleConfig } from '../../src/config/config.ts';
import { FORMS } from '../../src/config/config.ts';
import type { PolicyConfig } from '../../src/policy/compile.ts';
import { type Peer, peerAt } from '../../src/policy/verdict.ts';
import type { DiffRequest } from '../../src/policy-diff/judge-request.ts';
import { findAmbiguity } from '../../src/targets/path.ts';
import { PortRange } from '../../src/targets/port-range.ts';
import { makeClient, makeDestination, makeRule } from './policy.ts';
import { between } from './random.ts';

type Random = () => number;

export const START = 1000;

const PARENT: HopConfig = { name: 'parent', parents: [{ scheme: 'http', host: 'parent.example', port: 3128 }], addresses: null, credentials: null, tls: { ca: null, cert: null, key: null, serverName: null }, connect: 1, coolDown: 1 };
const RANGES = ['10.0.0.0/8', '10.8.0.0/14', '10.8.0.0/16', '10.8.1.4', '192.168.0.0/16', '2001:db8::/32', 'fd00::/8', '0.0.0.0/0', '::ffff:10.9.0.0/112', '10.8.1.4/31', '::/0'];
const ADDRESSES = ['10.8.1.4', '10.8.1.5', '10.8.1.6', '10.8.255.255', '10.9.0.0', '10.9.0.1', '10.9.1.0', '10.11.255.255', '10.12.0.0', '9.255.255.255', '11.0.0.0', '192.168.3.4', '8.8.8.8', '2001:db8::1', '2001:db9::1', 'fd00::1', '::1', '127.0.0.1', '0.0.0.0', '255.255.255.255'];
const RESOLVED = ['8.8.8.8', '10.8.1.4', '10.9.0.1', '10.12.0.1', '192.168.3.4', '127.0.0.1', '169.254.169.254', '2001:4860::1', 'fd00::1', '2001:db8::1', '64:ff9b::808:808', '64:ff9b::a08:104', '11.0.0.1', '203.0.113.9'];
const HOSTS = ['eco.example', 'a.eco.example', 'b.a.eco.example', '*.eco.example', '*.example', '*.a.eco.example', 'other.test', '10.8.1.4', '8.8.8.8', '2001:db8::1', 'any.eco.example'];
const ASKED_HOSTS = ['eco.example', 'a.eco.example', 'b.a.eco.example', 'c.b.a.eco.example', 'x.eco.example', 'x.y.eco.example', 'any.eco.example', 'z.example', 'example', 'other.test', 'x.other.test', '10.8.1.4', '8.8.8.8', '127.0.0.1', '2001:db8::1', 'notexample'];
const PORTS = [443, 80, 8443, new PortRange(8000, 8099), new PortRange(1, 1024), new PortRange(440, 450), 65_535];
const ASKED_PORTS = [1, 79, 80, 81, 439, 440, 443, 444, 450, 451, 1024, 1025, 7999, 8000, 8099, 8100, 8443, 65_535];
const METHODS = ['GET', 'POST', 'PUT', 'HEAD', 'PURGE'];
const ASKED_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PURGE', 'BREW'];
const PATHS = ['/', '/*', '/api', '/api/*', '/api*', '/api/**/x', '/a/*/b', '/*.json', '/base/*', '/base/api/*', '/api/x', '/v*/x/*', '/a%20b', '/**/x', '/api/*/x'];
const PIECES = ['/', 'api', 'a', 'b', 'x', '/api/', 'base', '.json', 'v1', '%20', '%2F', '..', ';', '%61pi', '/x'];
const MOMENTS = [500, 1000, 2000, 2001, 3000];
const ASKED_MOMENTS = [1000, 1001, 1999, 2000, 2001, 2999, 3000, 9000];
const USERS = ['anna', 'bert', 'carl'];
const SUBJECTS = ['ns:a', 'ns:*', 'ns:*:x', '*', 'ns/b/*'];
const ASKED_SUBJECTS = ['ns:a', 'ns:b', 'ns:b:x', 'ns:b:y', 'q', 'ns/b/c', 'ns:a:x:x'];
const ISSUERS = ['https://one.example', 'https://two.example'];
const AUDIENCES = ['eco', 'other'];
const NAMES = ['DNS:pod.example', 'DNS:*.example', 'DNS:*.pod.example', 'URI:spiffe://t/ns/a/*', 'URI:spiffe://t/ns/*/sa', 'URI:spiffe://t/ns/a/sa'];
const SANS = ['DNS:pod.example', 'DNS:x.example', 'DNS:x.pod.example', 'DNS:no.test', 'URI:spiffe://t/ns/a/sa', 'URI:spiffe://t/ns/b/sa', 'URI:spiffe://t/ns/a/b/c', 'URI:spiffe://u/x'];
const PREFIXES = ['/eco', '/eco/api', '/billing', '/a'];

export const pick = <T>(random: Random, list: readonly T[]): T => list[between(random, 0, list.length - 1)] as T;
const some = <T>(random: Random, list: readonly T[], most: number): T[] => [...new Set(Array.from({ length: between(random, 1, most) }, () => pick(random, list)))];
const maybe = <T>(random: Random, chance: number, make: () => T): T | null => (random() < chance ? make() : null);

function randomClient(random: Random, name: string, users: string[]): ClientConfig {
  const credentials = random();
  const user = users.shift();
  const basic = credentials < 0.2 && user !== undefined ? [{ user, hash: 'x' }] : null;
  const tokens = credentials > 0.8 ? Array.from({ length: between(random, 1, 2) }, () => ({ issuer: pick(random, ISSUERS), audience: pick(random, AUDIENCES), subjects: some(random, SUBJECTS, 2), jwks: { kind: 'file', path: '/k' } as const })) : null;
  const certificates = maybe(random, 0.2, () => some(random, NAMES, 2));
  const addresses = basic === null && tokens === null && certificates === null ? some(random, RANGES, 2) : maybe(random, 0.5, () => some(random, RANGES, 2));
  return makeClient(name, { addresses, basic, tokens, certificates });
}

function randomDestination(random: Random, name: string, prefixes: string[]): DestinationConfig {
  const hosts = some(random, HOSTS, 3);
  const ports = some(random, PORTS, 3);
  const forms = random() < 0.5 ? [...FORMS] : some(random, FORMS, 4);
  const host = hosts.find((entry) => !entry.startsWith('*.'));
  const [port] = ports;
  const prefix = random() < 0.4 && host !== undefined && typeof port === 'number' ? prefixes.shift() : undefined;
  const gateway: GatewayConfig | null = prefix === undefined || host === undefined || typeof port !== 'number' ? null : { prefix, scheme: pick(random, ['http', 'https']), host, port, basePath: pick(random, ['', '/base', '/api']), rewrite: [], encodedSlashes: pick(random, ['allow', 'refuse']) };
  return makeDestination(name, hosts, {
    ports,
    forms: gateway === null ? forms : [...new Set<Form>([...forms, 'gateway'])],
    gateway,
    addresses: maybe(random, 0.3, () => some(random, RANGES, 2)),
    methods: maybe(random, 0.2, () => some(random, METHODS, 2)),
    paths: maybe(random, 0.25, () => some(random, PATHS, 2)),
    report: random() < 0.1,
    upgradePlainHttp: random() < 0.15 && typeof port === 'number' ? port : null,
    ...(random() < 0.07 ? { via: [PARENT], resolve: pick(random, ['here', 'parent']), addresses: null } : {}),
  });
}

function randomRule(random: Random, clients: readonly string[], destinations: readonly string[]): RuleConfig {
  const [from, until] = [maybe(random, 0.15, () => pick(random, MOMENTS)), maybe(random, 0.2, () => pick(random, MOMENTS))];
  return makeRule(some(random, clients, 2), some(random, destinations, 2), { methods: maybe(random, 0.2, () => some(random, METHODS, 2)), paths: maybe(random, 0.25, () => some(random, PATHS, 2)), from, until, report: random() < 0.07 });
}

/** One of a policy's prefixes may not contain another. */
function shuffledPrefixes(random: Random): string[] {
  const nested = random() < 0.5 ? '/eco' : '/eco/api';
  return PREFIXES.filter((prefix) => !prefix.startsWith('/eco') || prefix === nested).sort(() => random() - 0.5);
}

export function randomPolicy(random: Random): PolicyConfig {
  const users = USERS.toSorted(() => random() - 0.5);
  const prefixes = shuffledPrefixes(random);
  const clients = Array.from({ length: between(random, 0, 4) }, (_, index) => randomClient(random, `client-${index}`, users));
  const destinations = Array.from({ length: between(random, 0, 4) }, (_, index) => randomDestination(random, `to-${index}`, prefixes));
  const rules = clients.length === 0 || destinations.length === 0 ? [] : Array.from({ length: between(random, 0, 4) }, () => randomRule(random, clients.map(({ name }) => name), destinations.map(({ name }) => name)));
  return { mode: random() < 0.08 ? 'report' : 'enforce', clients, destinations, rules };
}

/** The same with a few things changed, as people change files. */
export function changePolicy(random: Random, policy: PolicyConfig): PolicyConfig {
  let { mode, clients, destinations, rules } = policy;
  for (let count = between(random, 0, 3); count > 0; count -= 1) {
    const names = clients.map(({ name }) => name);
    const places = destinations.map(({ name }) => name);
    const client = between(random, 0, Math.max(0, clients.length - 1));
    const destination = between(random, 0, Math.max(0, destinations.length - 1));
    const rule = between(random, 0, Math.max(0, rules.length - 1));
    switch (between(random, 0, 8)) {
      case 0:
        clients = clients.map((one, index) => (index === client ? { ...one, ...(random() < 0.5 && one.basic === null ? randomClient(random, one.name, []) : { addresses: some(random, RANGES, 2) }) } : one));
        break;
      case 1:
        clients = clients.toSorted(() => random() - 0.5);
        break;
      case 2:
        destinations = destinations.map((one, index) => (index === destination && one.gateway === null ? { ...randomDestination(random, one.name, []) } : one));
        break;
      case 3:
        destinations = destinations.map((one, index) => (index === destination ? { ...one, ports: [...one.ports, pick(random, PORTS)], hosts: [...new Set([...one.hosts, pick(random, HOSTS)])] } : one));
        break;
      case 4:
        destinations = destinations.map((one, index) => (index === destination ? { ...one, addresses: maybe(random, 0.5, () => some(random, RANGES, 2)), report: random() < 0.2 } : one));
        break;
      case 5:
        if (names.length > 0 && places.length > 0) rules = rules.map((one, index) => (index === rule ? { ...one, ...(random() < 0.5 ? randomRule(random, names, places) : { paths: maybe(random, 0.5, () => some(random, PATHS, 2)), until: pick(random, MOMENTS) }) } : one));
        break;
      case 6:
        if (names.length > 0 && places.length > 0) rules = random() < 0.5 ? rules.filter((_, index) => index !== rule) : [...rules.slice(0, rule), randomRule(random, names, places), ...rules.slice(rule)];
        break;
      case 7:
        destinations = destinations.map((one, index) => (index === destination && one.gateway !== null ? { ...one, gateway: { ...one.gateway, basePath: pick(random, ['', '/base', '/api']), encodedSlashes: pick(random, ['allow', 'refuse']) } } : one));
        break;
      default:
        if (random() < 0.3) mode = mode === 'report' ? 'enforce' : 'report';
    }
  }
  return { mode, clients, destinations, rules };
}

export function randomPeer(random: Random): Peer {
  const credentials = random();
  return {
    address: pick(random, ADDRESSES),
    user: credentials < 0.25 ? pick(random, [...USERS, 'zoe']) : null,
    token: credentials > 0.7 ? { issuer: pick(random, [...ISSUERS, 'https://three.example']), audiences: some(random, [...AUDIENCES, 'third'], 3), subject: pick(random, ASKED_SUBJECTS) } : null,
    sans: random() < 0.3 ? some(random, SANS, 3) : [],
    rejected: credentials > 0.4 && credentials < 0.45 ? 'it has expired' : null,
  };
}

export function randomRequest(random: Random): DiffRequest {
  const form = pick(random, FORMS);
  const tunnel = form === 'connect' || form === 'sni';
  const peer = randomPeer(random);
  const host = form === 'gateway' ? '' : pick(random, form === 'sni' ? ASKED_HOSTS.filter((name) => !/^[\d.]+$|:/.test(name)) : ASKED_HOSTS);
  return {
    form,
    peer: form === 'sni' ? peerAt(peer.address) : peer,
    now: pick(random, ASKED_MOMENTS),
    host,
    port: form === 'gateway' || form === 'sni' ? 0 : pick(random, ASKED_PORTS),
    scheme: pick(random, ['http', 'https']),
    method: tunnel ? null : pick(random, ASKED_METHODS),
    path: tunnel ? null : form === 'gateway' ? `${pick(random, PREFIXES)}${pick(random, ['', randomPath(random)])}` : randomPath(random),
  };
}

function randomPath(random: Random): string {
  const path = `/${Array.from({ length: between(random, 0, 5) }, () => pick(random, PIECES)).join('')}`;
  // Most have one reading.
  return findAmbiguity(path, 'allow') !== null && random() < 0.8 ? randomPath(random) : path;
}

export const randomResolved = (random: Random): string => pick(random, RESOLVED);
