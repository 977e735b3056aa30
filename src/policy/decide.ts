/**
 * The single decision about a request: pure, default-deny, and always with a
 * rule or a reason. docs/policy.md documents the same order of checks.
 */
import type { ClientConfig } from '../config/config.ts';
import { canonicalPath } from '../targets/path.ts';
import {
  ambiguityOf,
  type Chain,
  type CompiledClient,
  type CompiledDestination,
  type CompiledRule,
  type Miss,
  missOf,
  NO_RULE,
  type Policy,
  REACH,
} from './compile.ts';
import { denyAmbiguity, denyClient, denyContent, denyCredentials, denyForm, denyHost, denyPair, denyPort, denyRule } from './deny.ts';
import { matchesPath } from './patterns.ts';
import type { Allow, Ask, Deny, Peer, Report, Verdict } from './verdict.ts';

/** The client that matches a peer, the first in file order; null when none does. */
export function identify(policy: Policy, peer: Peer): ClientConfig | null {
  return policy.clients[policy.table.find(peer)]?.config ?? null;
}

/** Checks client, host, port, form, rules, method and path, in this order, and names the first that fails. */
export function decide(policy: Policy, ask: Ask): Verdict {
  const verdict = enforce(policy, ask);
  return verdict.verdict === 'deny' ? tolerate(policy, ask, verdict) : verdict;
}

/** How far a request got with a destination; a rule that almost applied is further than none. */
const STAGE = { host: 1, port: 2, form: 3 } as const;

function enforce(policy: Policy, ask: Ask): Allow | Deny {
  const client = policy.clients[policy.table.find(ask.peer)];
  if (client === undefined) return denyPeer(policy, ask);

  // A host may be in several destinations: the first that permits port and form, with a rule that applies, is
  // taken, otherwise the one that got furthest is blamed.
  let stage = 0;
  let blamed: CompiledDestination | null = null;
  let rule: CompiledRule | null = null;
  let miss: Miss = 'late';
  for (const index of policy.hosts.find(ask.host)) {
    const destination = policy.destinations[index];
    if (destination === undefined || (ask.destination !== undefined && ask.destination !== destination.config.name)) continue;
    let reached: number = STAGE.host;
    if (destination.ports.has(ask.port)) {
      reached = STAGE.port;
      if (destination.forms.has(ask.form)) {
        reached = STAGE.form;
        for (const candidate of client.rules[index] ?? []) {
          const why = missOf(candidate, ask, destination.config);
          if (why === null) return judgeContent(ask, client, destination) ?? allow(policy, client, destination, candidate, ask.now);
          const further = STAGE.form + REACH[why];
          if (further <= Math.max(stage, reached)) continue;
          reached = further;
          rule = candidate;
          miss = why;
        }
      }
    }
    if (reached <= stage) continue;
    stage = reached;
    blamed = destination;
  }
  return denyBlamed(policy, ask, client, { stage, blamed, rule, miss });
}

interface DenialCause {
  readonly stage: number;
  readonly blamed: CompiledDestination | null;
  readonly rule: CompiledRule | null;
  readonly miss: Miss;
}

function denyBlamed(policy: Policy, ask: Ask, client: CompiledClient, { stage, blamed, rule, miss }: DenialCause): Deny {
  if (blamed === null) return denyHost(policy, ask, client.config);
  if (stage === STAGE.host) return denyPort(ask, client, blamed);
  if (stage === STAGE.port) return denyForm(ask, client, blamed);
  return rule === null ? denyPair(ask, client, blamed) : denyRule(ask, client, blamed, rule, miss);
}

/** 407 where credentials would make the peer a client; elsewhere a challenge would only make people type passwords. */
function denyPeer(policy: Policy, ask: Ask): Deny {
  const wanted = policy.table.wanting(ask.peer);
  return wanted.basic || wanted.bearer ? denyCredentials(ask, wanted) : denyClient(ask);
}

/** Method and path, as far as they are visible: a tunnel shows neither. */
function judgeContent(ask: Ask, client: CompiledClient, destination: CompiledDestination): Deny | null {
  if (ask.form === 'connect') return null;
  const { config, methods, paths } = destination;
  if (methods !== null && ask.method !== null && !methods.has(ask.method))
    return denyContent('method', ask.method, ask, client, destination);
  if (ask.path === null) return null;
  // The gateway rewrites paths, and a pattern compares them: both need an unambiguous path.
  if (paths === null && ask.form !== 'gateway') return null;
  const ambiguity = ambiguityOf(ask.path, ask, config);
  if (ambiguity !== null) return denyAmbiguity(ask, ambiguity, client.config, config);
  if (paths === null) return null;
  const path = canonicalPath(ask.path);
  return matchesPath(paths, path) ? null : denyContent('path', path, ask, client, destination);
}

function allow(policy: Policy, client: CompiledClient, destination: CompiledDestination, rule: CompiledRule, now: number): Allow {
  const lenient =
    policy.mode === 'report' ||
    destination.config.report ||
    (policy.reportsSome && reportingRule(client.rules[destination.index], now) !== undefined);
  const key = (destination.index * policy.rules.length + rule.index) * 2 + Number(lenient);
  const known = client.allows.get(key);
  if (known !== undefined) return known;
  const made: Allow = {
    verdict: 'allow',
    client: client.config,
    destination: destination.config,
    rule: rule.name,
    until: rule.until,
    rate: rule.config.rate,
    lenient,
  };
  client.allows.set(key, made);
  return made;
}

// Report mode: lets a denied request pass where the policy, the destination or a rule says so.

/** The first of these rules that is in report mode now: before its beginning and after its end a rule has no effect. */
export function reportingRule(rules: Chain = NO_RULE, now: number): CompiledRule | undefined {
  return rules.find(({ config, from, until }) => config.report && now >= from && now < until);
}

/** The denial itself if report mode is off, or if the request is malformed: that never passes. */
function tolerate(policy: Policy, ask: Ask, would: Deny): Deny | Report {
  if (policy.mode !== 'report' && !policy.reportsSome) return would;
  const client = policy.clients[policy.table.find(ask.peer)] ?? null;
  const destination = destinationOf(policy, ask, would);
  const rules = destination === null ? NO_RULE : (client?.rules[destination.index] ?? NO_RULE);
  const reporting = reportingRule(rules, ask.now);
  const byRule = policy.mode !== 'report' && destination?.config.report !== true;
  if (byRule && reporting === undefined) return would;

  if (would.code === 'path-ambiguous') return would;
  // The denial had another reason, but the path must still mean the same to the upstream.
  const judged =
    ask.form === 'gateway' || (destination !== null && destination.paths !== null) || rules.some(({ paths }) => paths !== null);
  if (judged && ask.form !== 'connect' && ask.path !== null) {
    const ambiguity = ambiguityOf(ask.path, ask, destination?.config ?? null);
    if (ambiguity !== null) return denyAmbiguity(ask, ambiguity, would.client, destination?.config ?? null);
  }
  const rule = rules.find((candidate) => destination !== null && missOf(candidate, ask, destination.config) === null) ?? reporting;
  return {
    verdict: 'report',
    would,
    client: would.client,
    destination: destination?.config ?? null,
    rule: rule?.name ?? '-',
    until: (byRule ? reporting?.until : undefined) ?? Infinity,
  };
}

/** The destination that the denial blames; if none, the one that the request would most likely have got. */
function destinationOf(policy: Policy, ask: Ask, would: Deny): CompiledDestination | null {
  let first: CompiledDestination | null = null;
  let listsPort: CompiledDestination | null = null;
  for (const index of policy.hosts.find(ask.host)) {
    const destination = policy.destinations[index];
    if (destination === undefined || (ask.destination !== undefined && ask.destination !== destination.config.name)) continue;
    if (would.destination !== null) {
      if (would.destination === destination.config) return destination;
      continue;
    }
    first ??= destination;
    if (!destination.ports.has(ask.port)) continue;
    if (destination.forms.has(ask.form)) return destination;
    listsPort ??= destination;
  }
  return listsPort ?? first;
}
