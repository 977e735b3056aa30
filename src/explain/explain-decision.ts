/**
 * Explains a decision: makes it with the code that serves requests, then
 * repeats its checks and reports their results.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { ClientConfig, DestinationConfig } from '../config/config.ts';
import { buildCidrTable } from '../policy/tables.ts';
import { buildCertificateNames } from '../policy/client-table.ts';
import {
  ambiguityOf,
  type CompiledClient,
  type CompiledDestination,
  type CompiledRule,
  furthestMiss,
  type Miss,
  missOf,
  type Policy,
} from '../policy/compile.ts';
import { decide, reportingRule } from '../policy/decide.ts';
import { matchesPath, matchWildcard, NAME_STOPS } from '../policy/patterns.ts';
import { describeRates } from '../policy/rate-text.ts';
import type { Ask, Peer, Verdict } from '../policy/verdict.ts';
import { canonicalPath } from '../targets/path.ts';
import { enumerate, formatMoment, show } from '../targets/quote.ts';
import type {
  ExplainedCheck,
  ExplainedClient,
  ExplainedDestination,
  ExplainedKind,
  ExplainedRule,
  ExplainedTarget,
  Explanation,
} from './answer.ts';

/** Pure, like the decision itself. Takes time in proportion to the policy: for people, not for requests. */
export function explainDecision(policy: Policy, ask: Ask): Explanation {
  const verdict = decide(policy, ask);
  const client = policy.clients.find(({ config }) => config === verdict.client) ?? null;
  const candidates = policy.hosts
    .find(ask.host)
    .flatMap((index) => policy.destinations[index] ?? [])
    .filter(({ config }) => ask.destination === undefined || ask.destination === config.name);
  return {
    ask,
    verdict,
    target: explainTarget(ask, verdict.destination),
    clients: policy.clients.map(({ config }) => explainClient(config, ask.peer, config === verdict.client)),
    destinations: candidates.map((destination) => explainDestination(destination, client, ask, verdict)),
    rules: client === null ? [] : explainRules(client, candidates, ask),
    report: explainReport(policy, verdict, client, ask.now),
  };
}

function explainTarget({ host, port, form, path }: Ask, destination: DestinationConfig | null): ExplainedTarget {
  const kind = isIPv4(host) ? 'ipv4' : isIPv6(host) ? 'ipv6' : 'name';
  if (path === null || form === 'connect') return { host, kind, port, path: null, ambiguity: null };
  const ambiguity = ambiguityOf(path, { form }, destination);
  return { host, kind, port, path: ambiguity === null ? canonicalPath(path) : path, ambiguity };
}

function explainDestination(
  destination: CompiledDestination,
  client: CompiledClient | null,
  ask: Ask,
  verdict: Verdict,
): ExplainedDestination {
  const { config } = destination;
  const checks: ExplainedCheck[] = [];
  for (const check of checksOf(destination, client, ask)) {
    checks.push(check);
    if (!check.passes) break;
  }
  const pattern = config.hosts.includes(ask.host)
    ? ask.host
    : longest(config.hosts.filter((host) => host.startsWith('*.') && ask.host.endsWith(host.slice(1))));
  return { name: config.name, pattern, chosen: config === verdict.destination, checks };
}

function* checksOf(destination: CompiledDestination, client: CompiledClient | null, ask: Ask): Generator<ExplainedCheck> {
  const { config, ports, forms, methods, paths, index } = destination;
  const listed = ports.has(ask.port);
  yield { check: 'port', passes: listed, detail: `${ask.port} is ${listed ? '' : 'not '}among ${config.ports.join(', ')}` };
  const taken = forms.has(ask.form);
  yield { check: 'form', passes: taken, detail: `${ask.form} is ${taken ? '' : 'not '}among ${config.forms.join(', ')}` };
  if (client === null) return;

  const rules = client.rules[index] ?? [];
  const rule = rules.find((candidate) => missOf(candidate, ask, config) === null);
  const furthest = furthestMiss(rules, ask, config);
  const why =
    furthest === null
      ? `no rule joins ${client.config.name} and ${config.name}`
      : `${furthest.rule.name} ${describeMiss(furthest.rule, ask, furthest.miss, config)}`;
  yield {
    check: 'rule',
    passes: rule !== undefined,
    detail: rule === undefined ? why : `${rule.name} lets ${client.config.name} use ${config.name}`,
  };

  if (ask.form === 'connect') return;
  if (ask.method !== null && methods !== null) {
    const permitted = methods.has(ask.method);
    yield {
      check: 'method',
      passes: permitted,
      detail: `${show(ask.method)} is ${permitted ? '' : 'not '}among ${[...methods].join(', ')}`,
    };
  }
  if (ask.path === null || (paths === null && ask.form !== 'gateway')) return;
  const ambiguity = ambiguityOf(ask.path, ask, config);
  const path = show(ask.path);
  if (ambiguity !== null) yield { check: 'path', passes: false, detail: `${path} ${ambiguity}` };
  else if (paths === null) yield { check: 'path', passes: true, detail: `${path} has one reading` };
  else {
    const covered = matchesPath(paths, canonicalPath(ask.path));
    yield {
      check: 'path',
      passes: covered,
      detail: `${show(canonicalPath(ask.path))} is ${covered ? '' : 'not '}among ${(config.paths ?? []).join(', ')}`,
    };
  }
}

function explainRules(client: CompiledClient, candidates: readonly CompiledDestination[], ask: Ask): ExplainedRule[] {
  return candidates
    .flatMap(({ config, index }) => (client.rules[index] ?? []).map((rule) => ({ rule, destination: config })))
    .toSorted((a, b) => a.rule.index - b.rule.index)
    .map(({ rule, destination }) => {
      const miss = missOf(rule, ask, destination);
      const { owner, reason, ticket, until } = rule.config;
      const detail = miss === null ? describeRule(rule) : describeMiss(rule, ask, miss, destination);
      return {
        rule: rule.name,
        destination: destination.name,
        applies: miss === null,
        detail,
        owner,
        reason,
        ticket,
        until: until === null ? null : formatMoment(until),
      };
    });
}

function describeRule({ config }: CompiledRule): string {
  const { methods, paths, from, until, rate } = config;
  const limits = [
    methods === null ? '' : enumerate('method', methods),
    paths === null ? '' : enumerate('path', paths),
    from === null ? '' : `from ${formatMoment(from)}`,
    until === null ? '' : `until ${formatMoment(until)}`,
  ].filter((limit) => limit !== '');
  const permits = limits.length === 0 ? 'permits it without limits' : `permits it within ${limits.join(', ')}`;
  return rate === null ? permits : `${limits.length === 0 ? 'permits it' : permits}, at its rates: ${describeRates(rate).join('; ')}`;
}

/** The rest of a sentence that began with the rule. */
function describeMiss(rule: CompiledRule, ask: Ask, miss: Miss, destination: DestinationConfig): string {
  const { methods, paths } = rule.config;
  switch (miss) {
    case 'early':
      return `begins at ${formatMoment(rule.from)}, and it is ${formatMoment(ask.now)}`;
    case 'late':
      return `ended at ${formatMoment(rule.until)}, and it is ${formatMoment(ask.now)}`;
    case 'hidden':
      return `lists ${[methods === null ? '' : 'methods', paths === null ? '' : 'paths'].filter((key) => key !== '').join(' and ')}, which ${ask.form} hides`;
    case 'method':
      return `lists ${enumerate('method', methods ?? [])}, not ${show(ask.method ?? '')}`;
    case 'path':
      return `lists ${enumerate('path', paths ?? [])}, not ${show(canonicalPath(ask.path ?? ''))}`;
    case 'ambiguous':
      return `lists paths, and ${show(ask.path ?? '')} ${ambiguityOf(ask.path ?? '', ask, destination) ?? ''}`;
  }
}

function explainReport(policy: Policy, verdict: Verdict, client: CompiledClient | null, now: number): string | null {
  if (verdict.verdict === 'allow') return null;
  const { destination } = verdict;
  const rule = reportingRule(client?.rules[policy.destinations.findIndex(({ config }) => config === destination)], now);
  if (verdict.verdict === 'deny') {
    const reporting = policy.mode === 'report' || destination?.report === true || rule !== undefined;
    return reporting ? 'Report mode is on, but never lets a path pass that can be read in more than one way.' : null;
  }
  const whose =
    policy.mode === 'report'
      ? 'mode: report'
      : destination?.report === true
        ? `destinations.${destination.name}.report`
        : `${rule?.name ?? verdict.rule}.report`;
  return `It passes because of ${whose}. Enforced, it would be denied: ${verdict.would.code}.`;
}

function longest(texts: readonly string[]): string {
  return texts.reduce((best, text) => (text.length > best.length ? text : best), '');
}

/** Whether a peer is this client, kind by kind. */
function explainClient(client: ClientConfig, peer: Peer, chosen: boolean): ExplainedClient {
  const kinds: ExplainedKind[] = [];
  if (client.addresses !== null) kinds.push(explainAddresses(client.addresses, peer));
  if (client.basic !== null) kinds.push(explainBasic(client.basic, peer));
  if (client.tokens !== null) kinds.push(explainTokens(client.tokens, peer));
  if (client.certificates !== null) kinds.push(explainCertificates(client.certificates, peer));
  return { name: client.name, matches: kinds.every(({ matches }) => matches), chosen, kinds };
}

function explainAddresses(addresses: readonly string[], { address }: Peer): ExplainedKind {
  const range = addresses[buildCidrTable(addresses.map((cidr) => [cidr])).find(address)];
  const detail = range === undefined ? `${show(address)} is not in ${several(addresses)}` : `${show(address)} is in ${range}`;
  return { kind: 'addresses', matches: range !== undefined, detail };
}

function explainBasic(users: NonNullable<ClientConfig['basic']>, { user, rejected }: Peer): ExplainedKind {
  if (user === null) return { kind: 'basic', matches: false, detail: unverified('password', rejected) };
  const matches = users.some((entry) => entry.user === user);
  return { kind: 'basic', matches, detail: `${show(user)} is ${matches ? '' : 'not '}among its users` };
}

function explainTokens(tokens: NonNullable<ClientConfig['tokens']>, { token, rejected }: Peer): ExplainedKind {
  if (token === null) return { kind: 'tokens', matches: false, detail: unverified('token', rejected) };
  const issued = tokens.filter(({ issuer }) => issuer === token.issuer);
  const meant = issued.filter(({ audience }) => token.audiences.includes(audience));
  const subject = meant.flatMap(({ subjects }) => subjects).find((pattern) => matchWildcard(pattern, token.subject, NAME_STOPS));
  if (subject !== undefined) return { kind: 'tokens', matches: true, detail: `the subject ${show(token.subject)} is ${subject}` };
  const detail =
    issued.length === 0
      ? `the issuer ${show(token.issuer)} is not ${several(tokens.map(({ issuer }) => issuer))}`
      : meant.length === 0
        ? `the audience ${token.audiences.map(show).join(', ')} is not ${several(issued.map(({ audience }) => audience))}`
        : `the subject ${show(token.subject)} is not ${several(meant.flatMap(({ subjects }) => subjects))}`;
  return { kind: 'tokens', matches: false, detail };
}

function explainCertificates(names: readonly string[], { sans }: Peer): ExplainedKind {
  const table = buildCertificateNames(names.map((name) => [name]));
  for (const san of sans) {
    const [index] = table.find(san);
    if (index !== undefined) return { kind: 'certificates', matches: true, detail: `${show(san)} is ${names[index] ?? ''}` };
  }
  const detail = sans.length === 0 ? 'no certificate was shown' : `${sans.slice(0, 3).map(show).join(', ')} is not ${several(names)}`;
  return { kind: 'certificates', matches: false, detail };
}

function unverified(what: string, rejected: string | null): string {
  return rejected === null ? `no ${what} was shown` : `no ${what} was accepted: ${rejected}`;
}

const MOST_LISTED = 5;

function several(entries: readonly string[]): string {
  const distinct = [...new Set(entries)];
  return distinct.length > MOST_LISTED
    ? `${distinct.slice(0, MOST_LISTED).join(', ')} and ${distinct.length - MOST_LISTED} others`
    : distinct.join(', ');
}
