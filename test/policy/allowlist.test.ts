/**
 * Whatever is written as host, authority, path or field: the parsers throw
 * nothing but a Fault, the resolver and WHATWG URL read what was judged, and
 * nothing is allowed that an independent reading does not find in the list,
 * with report mode off and on.
 */
import fc from 'fast-check';
import { isIP, isIPv6, BlockList } from 'node:net';
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { MessageError } from '../../src/http1/head-reader.ts';
import { readRequestHead } from '../../src/http1/request-head.ts';
import { readProxyAuthorization } from '../../src/identity/proxy-authorization.ts';
import { compilePolicy, type Policy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { explainDecision } from '../../src/explain/explain-decision.ts';
import type { Ask, Verdict } from '../../src/policy/verdict.ts';
import { viaNames } from '../../src/relay/headers.ts';
import { parseAuthority, parseConfigHost, parseHost, parseHostPattern } from '../../src/targets/host.ts';
import { canonicalPath, findAmbiguity, pathOf } from '../../src/targets/path.ts';
import { parseRequestTarget, type RequestTarget } from '../../src/targets/request-target.ts';
import { readAsAddress } from '../support/getaddrinfo.ts';
import { authorityLike, ECO, hostLike, pathLike, urlLike } from '../support/hostile-text.ts';
import { makeClient, makeDestination, makePeer, makeRule } from '../support/policy.ts';
import { casesOf } from '../support/full.ts';
import { holds, holdsAsync } from '../support/property.ts';

const config: PolicyConfig = {
  mode: 'enforce',
  clients: [makeClient('sit', { addresses: ['10.8.0.0/14'] }), makeClient('people', { basic: [{ user: 'anna', hash: 'x' }] })],
  destinations: [
    makeDestination('eco', [ECO, '192.0.2.1', '2001:db8::1'], { ports: [443, 80], methods: ['GET'], paths: ['/api/*', '/v*/x/**'] }),
    makeDestination('partner', ['*.partner.example'], { ports: [443], forms: ['connect', 'forward'] }),
  ],
  rules: [makeRule(['sit'], ['eco', 'partner']), makeRule(['people'], ['partner'], { paths: ['/public/**'] })],
};
const enforcing = compilePolicy(config);
const reporting = compilePolicy({ ...config, mode: 'report' });
const partly = compilePolicy({ ...config, destinations: config.destinations.map((destination) => ({ ...destination, report: destination.name === 'partner' })) });

const pods = new BlockList();
pods.addSubnet('10.8.0.0', 14);

/** Anything but a Fault is a failure of the property. */
function orFault<T>(read: () => T): T | Fault {
  try {
    return read();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

function orMessageError<T>(read: () => T): T | MessageError {
  try {
    return read();
  } catch (error) {
    if (error instanceof MessageError) return error;
    throw error;
  }
}

const bare = (host: string | undefined): string => (host ?? '').replace(/^\[|\]$/g, '').replace(/\.$/, '');

/** The URL that WHATWG reads where we read a target: of another library, with another grammar. */
function whatwg(target: RequestTarget, url: string, host: string): URL | null {
  if (target.kind === 'connect') return URL.parse(`http://${url}/`);
  return target.kind === 'absolute' ? URL.parse(url) : URL.parse(`http://${host}${url}`);
}

const listed = (host: string): boolean => host === ECO || host === '192.0.2.1' || host === '2001:db8::1';
const below = (host: string): boolean => /^(?:[a-z0-9_-]+\.)+partner\.example$/.test(host);

const decodeOnce = (path: string): string => path.replace(/%[0-9a-f]{2}/gi, (escape) => String.fromCharCode(Number.parseInt(escape.slice(1), 16)));

/** What no reader makes of a path, however often it decodes: another place than below the listed ones. */
function staysBelow(path: string): boolean {
  for (let decoded = path, times = 0; times < 4; times += 1) {
    // RFC 3986 §6.2.2.2: %61 is the same as a to everybody.
    if ((times > 0 && !/^\/(?:api\/|v[^/]*\/x\/)/.test(decoded)) || /(?:^|[/\\])\.{1,2}(?:;[^/\\]*)?(?:[/\\]|$)/.test(decoded)) return false;
    decoded = decodeOnce(decoded);
  }
  return true;
}

function askOf(target: RequestTarget, method: string, peer: Ask['peer']): Ask | null {
  if (target.kind === 'connect') return { form: 'connect', peer, now: 0, host: target.host, port: target.port, method: null, path: null };
  const path = pathOf(target.target);
  if (target.kind === 'absolute') return { form: 'forward', peer, now: 0, host: target.host, port: target.port, method, path };
  return target.authority === null ? null : { form: 'host-routed', peer, now: 0, ...target.authority, method, path };
}

function wordsOf(verdict: Verdict): string {
  if (verdict.verdict !== 'deny') return verdict.verdict;
  return JSON.stringify([verdict.code, verdict.client?.name, verdict.destination?.name, verdict.detail, verdict.remedy, verdict.challenges]);
}

/** Report mode changes a verdict in one way only: from the denial that it tells to leave to pass. */
function sameButForReport(enforced: Verdict, policy: Policy, ask: Ask): void {
  const verdict = decide(policy, ask);
  if (verdict.verdict === 'report') {
    if (wordsOf(verdict.would) !== wordsOf(enforced)) throw new Error(`reports another denial: ${JSON.stringify(verdict)}`);
    if (verdict.would.code === 'path-ambiguous') throw new Error('let an ambiguous path pass');
    if (ask.form === 'gateway' && ask.path !== null && findAmbiguity(ask.path) !== null) throw new Error('let an ambiguous path to the gateway');
    if (policy === partly && verdict.destination?.name !== 'partner') throw new Error('reports for another destination');
  } else if (verdict.verdict !== enforced.verdict) throw new Error(`${enforced.verdict} became ${verdict.verdict}`);
}

const addresses = fc.oneof(fc.constantFrom('10.8.1.4', '10.7.255.255', '10.12.0.0', '::ffff:10.8.1.4', 'fe80::1%eth0'), fc.ipV4(), fc.ipV6(), hostLike);
const peers = fc.oneof({ weight: 3, arbitrary: fc.constant(makePeer('10.8.1.4')) }, addresses.map((address) => makePeer(address)), fc.tuple(addresses, fc.constantFrom('anna', 'Anna', 'constructor', '')).map(([address, user]) => makePeer(address, { user })));

t.test('nothing outside the list is allowed, however it is written', async (t) => {
  const seen = { faults: 0, denied: 0, allowed: 0 };
  const methods = fc.oneof({ weight: 3, arbitrary: fc.constant('CONNECT') }, { weight: 4, arbitrary: fc.constant('GET') }, fc.constantFrom('OPTIONS', 'get', 'POST', 'HEAD', ''));
  const hosts = fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, fc.array(authorityLike, { maxLength: 2 }));
  holds(
    t,
    'targets through parser and policy',
    200_000,
    fc.property(methods, urlLike, hosts, peers, fc.constantFrom('1.1', '1.0'), (method, url, drawn, peer, version) => {
      // Where none is drawn, the Host that belongs to the target, so that many get past the parser.
      const fields = drawn ?? [bareAuthority(url)];
      const target = orFault(() => parseRequestTarget(method, url, fields, version));
      if (target instanceof Fault) {
        seen.faults += 1;
        if (/[^\x20-\x7e]/.test(target.message) || target.message.length > 900) throw new Error(`not fit to print: ${target.message}`);
        return;
      }
      const ask = askOf(target, method, peer);
      if (ask === null) return;
      const verdict = decide(enforcing, ask);
      sameButForReport(verdict, reporting, ask);
      sameButForReport(verdict, partly, ask);
      if (verdict.verdict !== 'allow') {
        seen.denied += 1;
        return;
      }
      seen.allowed += 1;
      judgeAllowed(ask, whatwg(target, url, fields[0] ?? ''), verdict.client.name);
    }),
  );
  t.ok(seen.faults > casesOf(50_000) && seen.denied > casesOf(10_000) && seen.allowed > casesOf(3_000), `of these ${JSON.stringify(seen)}`);
});

function bareAuthority(url: string): string {
  return URL.parse(url)?.host || (url.startsWith('/') ? `${ECO}:443` : (url.split('/')[0] ?? ''));
}

function judgeAllowed(ask: Ask, read: URL | null, client: string): void {
  const { address, user } = ask.peer;
  const isPod = isIP(address) !== 0 && !address.includes('%') && pods.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
  if (client === 'sit' ? !isPod : user !== 'anna') throw new Error(`allowed ${address} as ${client}`);
  if (read === null) throw new Error('allowed what URL refuses');
  const host = bare(read.hostname);
  const port = Number(read.port || (read.protocol === 'https:' ? 443 : 80));
  if (host !== ask.host || port !== ask.port || read.username !== '' || read.password !== '') throw new Error(`URL reads ${read.href}, we allowed ${ask.host}:${ask.port}`);
  if (!(listed(host) && (port === 443 || port === 80)) && !(below(host) && port === 443)) throw new Error(`allowed ${host}:${port}`);
  if (ask.path === null || below(host)) return;
  if (ask.method !== 'GET' && ask.method !== 'HEAD') throw new Error(`allowed ${String(ask.method)}`);
  // URL escapes what no URL should have, such as {.
  if (!staysBelow(ask.path) || decodeOnce(read.pathname) !== decodeOnce(ask.path)) throw new Error(`allowed ${ask.path}, which URL reads as ${read.pathname}`);
}

t.test('no text is read in one way by us and in another by the resolver', async (t) => {
  let asAddress = 0;
  await holdsAsync(
    t,
    'hosts through parser, getaddrinfo and URL',
    60_000,
    fc.asyncProperty(hostLike, async (text) => {
      const host = parseHost(text);
      if (host === null) return;
      const url = bare(URL.parse(`http://${text}/`)?.hostname);
      if (url !== host) throw new Error(`URL reads ${url}, we read ${host}`);
      const dialled = await readAsAddress(host);
      const written = await readAsAddress(text.replace(/^\[|\]$/g, ''));
      if (isIP(host) === 0) {
        if (dialled !== null || written !== null) throw new Error(`the resolver reads ${host} as ${String(dialled ?? written)}`);
        return;
      }
      asAddress += 1;
      for (const read of [dialled, written]) {
        // The resolver may not know this spelling; then nothing else would be dialled either.
        if (read !== null && parseHost(read.includes(':') ? `[${read}]` : read) !== host) throw new Error(`the resolver reads ${read}, we read ${host}`);
      }
      if (dialled === null) throw new Error(`the resolver does not take ${host} for an address`);
    }),
  );
  t.ok(asAddress > casesOf(2_000), `${asAddress} of them were addresses`);
});

t.test('no field, path or pattern makes a reader throw', async (t) => {
  const fieldNames = fc.constantFrom('Host', 'host', 'Via', 'Transfer-Encoding', 'Content-Length', 'Connection', 'traceparent', 'Proxy-Authorization', 'X-Forwarded-For');
  const values = fc.oneof(fc.string({ unit: 'binary', maxLength: 60 }), authorityLike, fc.constantFrom('1.1 eco-egress', 'chunked', 'Basic YTpi', 'Bearer a.b.c', ', ,'));
  holds(
    t,
    'header fields',
    40_000,
    fc.property(fc.array(fc.tuple(fc.oneof(fieldNames, fc.string({ maxLength: 20 })), values), { maxLength: 6 }), (fields) => {
      const head = orMessageError(() => readRequestHead(`GET / HTTP/1.1${fields.map(([name, value]) => `\r\n${name}: ${value}`).join('')}`, 100));
      if (head instanceof MessageError) return;
      viaNames(head.via, 'eco-egress');
      for (const value of head.proxyAuthorization) readProxyAuthorization(value);
      orFault(() => parseRequestTarget('GET', '/', head.hosts, '1.1'));
    }),
  );
  holds(
    t,
    'paths through parser and policy',
    60_000,
    fc.property(pathLike, fc.constantFrom('gateway', 'forward', 'host-routed'), (path, form) => {
      const ask: Ask = { form, peer: makePeer('10.8.1.4'), now: 0, host: ECO, port: 80, method: 'GET', path, ...(form === 'gateway' ? { destination: 'eco' } : {}) };
      const verdict = decide(enforcing, ask);
      sameButForReport(verdict, reporting, ask);
      if (verdict.verdict === 'allow' && !staysBelow(path)) throw new Error(`allowed ${path}`);
      if (verdict.verdict === 'allow' && findAmbiguity(canonicalPath(path)) !== null) throw new Error(`its canonical spelling is ambiguous: ${path}`);
    }),
  );
  holds(
    t,
    'hosts and authorities',
    40_000,
    fc.property(hostLike, authorityLike, (host, authority) => {
      parseConfigHost(host);
      parseHostPattern(`*.${host}`);
      parseAuthority(authority, 80);
      parseAuthority(authority, null);
    }),
  );
  holds(
    t,
    'explanations',
    2_000,
    fc.property(hostLike, pathLike, peers, fc.constantFrom('connect', 'forward'), fc.integer(), fc.string({ maxLength: 8 }), (host, path, peer, form, now, method) => {
      for (const policy of [enforcing, reporting]) explainDecision(policy, { form, peer, now, host, port: now, method, path });
    }),
  );
});
