/** Report mode: turns a denial into leave to pass, where the policy, the destination or a rule says so. */
import type { Chain, CompiledDestination, Policy } from './compile.ts';
import { denyAmbiguity } from './deny.ts';
import { ambiguityOf, missOf } from './rule-match.ts';
import type { Ask, Deny, Report } from './verdict.ts';

const NO_RULE: Chain = [];

/** The denial itself where nothing reports, or where the request is malformed: such a one never passes. */
export function tolerate(policy: Policy, ask: Ask, would: Deny): Deny | Report {
  if (policy.mode !== 'report' && !policy.reportsSome) return would;
  const client = policy.clients[policy.table.find(ask.peer)] ?? null;
  const destination = destinationOf(policy, ask, would);
  const rules = destination === null ? NO_RULE : (client?.rules[destination.index] ?? NO_RULE);
  const reporting = rules.find((rule) => rule.config.report);
  if (policy.mode !== 'report' && destination?.config.report !== true && reporting === undefined) return would;

  if (would.code === 'path-ambiguous') return would;
  // A denial for another reason came first, but what the path says must still be what the upstream reads.
  const judged = ask.form === 'gateway' || (destination !== null && destination.paths !== null) || rules.some(({ paths }) => paths !== null);
  if (judged && ask.form !== 'connect' && ask.path !== null) {
    const ambiguity = ambiguityOf(ask.path, ask, destination?.config ?? null);
    if (ambiguity !== null) return denyAmbiguity(ask, ambiguity, would.client, destination?.config ?? null);
  }
  const rule = rules.find((candidate) => destination !== null && missOf(candidate, ask, destination.config) === null) ?? reporting;
  return { verdict: 'report', would, client: would.client, destination: destination?.config ?? null, rule: rule?.name ?? '-' };
}

/** The one that the denial blames; before any was blamed, the one that the request would most likely have got. */
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
