/**
 * The smallest change to the file that would permit what was denied, as the
 * part of the file that it concerns. New entries get names that say they are
 * to be chosen.
 */
import type { RuleConfig } from '../config/config.ts';
import { canonicalPath } from '../target/path.ts';
import { classifyAddress } from './address-class.ts';
import type { CompiledDestination, CompiledRule, Policy } from './compile.ts';
import type { ExplainedChange } from './explanation.ts';
import { formatMoment } from './moment.ts';
import { furthestMiss, missOf } from './rule-match.ts';
import type { Ask, Deny, Verdict } from './verdict.ts';

const NEW_CLIENT = 'new-client';
const NEW_DESTINATION = 'new-destination';

/** @param candidates destinations that have the host, the most specific first */
export function suggestChange(policy: Policy, ask: Ask, verdict: Verdict, candidates: readonly CompiledDestination[]): ExplainedChange | null {
  if (verdict.verdict === 'allow') return null;
  const denial = verdict.verdict === 'deny' ? verdict : verdict.would;
  if (denial.code === 'path-ambiguous') return null;
  const lines = linesFor(policy, ask, denial, candidates);
  return { text: denial.remedy, yaml: lines === null ? null : `${lines.join('\n')}\n` };
}

function linesFor(policy: Policy, ask: Ask, denial: Deny, candidates: readonly CompiledDestination[]): readonly string[] | null {
  const client = denial.client?.name ?? NEW_CLIENT;
  const { destination } = denial;
  if (denial.code === 'client-not-allowed') return addClient(ask, candidates[0]?.config.name ?? null);
  if (denial.code === 'host-not-allowed') {
    return ['destinations:', `  ${NEW_DESTINATION}:`, `    hosts: ${flow([ask.host])}`, `    ports: ${flow([ask.port])}`, ...ruleFor(client, NEW_DESTINATION)];
  }
  if (destination === null) return null;
  const { name } = destination;
  const changed = (line: string): string[] => ['destinations:', `  ${name}:`, `    ${line}`];
  const rule = blamedRule(policy, ask, denial);
  switch (denial.code) {
    case 'port-not-allowed':
      return changed(`ports: ${flow([...destination.ports, ask.port])}`);
    case 'form-not-allowed':
      return rule === null ? changed(`forms: ${flow([...destination.forms, ask.form])}`) : ruleFor(client, name);
    case 'no-rule':
      return ruleFor(client, name);
    case 'rule-expired':
      return rule === null ? null : instead(rule, ask.now < rule.from ? { from: null } : { until: null });
    case 'method-not-allowed': {
      const method = ask.method ?? '';
      if (rule !== null) return instead(rule, { methods: [...(rule.config.methods ?? []), method] });
      return nested(name, 'methods', [...(destination.methods ?? []), method]);
    }
    case 'path-not-allowed': {
      const path = canonicalPath(ask.path ?? '');
      // A star in it would be read as a pattern, and the others no pattern may have.
      if (/[*"<>^`{|}]|%2F/.test(path) || !path.startsWith('/')) return null;
      if (rule !== null) return instead(rule, { paths: [...(rule.config.paths ?? []), path] });
      return nested(name, 'paths', [...(destination.paths ?? []), path]);
    }
    default:
      return null;
  }
}

/** The rule that almost applied; null when one applies and the destination's own limits are what denies, or when none is there. */
function blamedRule(policy: Policy, ask: Ask, denial: Deny): CompiledRule | null {
  const client = policy.clients.find(({ config }) => config === denial.client);
  const destination = policy.destinations.find(({ config }) => config === denial.destination);
  if (client === undefined || destination === undefined || !destination.ports.has(ask.port) || !destination.forms.has(ask.form)) return null;
  const rules = client.rules[destination.index] ?? [];
  return rules.some((rule) => missOf(rule, ask, destination.config) === null) ? null : (furthestMiss(rules, ask, destination.config)?.rule ?? null);
}

function addClient({ peer }: Ask, destination: string | null): readonly string[] | null {
  const address = classifyAddress(peer.address)?.canonical;
  if (address === undefined) return null;
  return ['clients:', `  ${NEW_CLIENT}:`, `    addresses: ${flow([address])}`, ...(destination === null ? [] : ruleFor(NEW_CLIENT, destination))];
}

function nested(destination: string, key: 'methods' | 'paths', entries: readonly string[]): string[] {
  return ['destinations:', `  ${destination}:`, '    http:', `      ${key}: ${flow(entries)}`];
}

function ruleFor(client: string, destination: string): string[] {
  return ['rules:', `  - { clients: ${flow([client])}, destinations: ${flow([destination])} }`];
}

function instead(rule: CompiledRule, changes: Partial<RuleConfig>): string[] {
  const { clients, destinations, methods, paths, from, until, report } = { ...rule.config, ...changes };
  const parts = [
    `clients: ${flow(clients)}`,
    `destinations: ${flow(destinations)}`,
    methods === null ? '' : `methods: ${flow(methods)}`,
    paths === null ? '' : `paths: ${flow(paths)}`,
    from === null ? '' : `from: ${JSON.stringify(formatMoment(from))}`,
    until === null ? '' : `until: ${JSON.stringify(formatMoment(until))}`,
    report ? 'report: true' : '',
  ].filter((part) => part !== '');
  return ['rules:', `  # in place of ${rule.name}`, `  - { ${parts.join(', ')} }`];
}

/** A YAML list on one line; a JSON text is YAML too, and names need no quotes. */
function flow(entries: readonly (string | number)[]): string {
  const words = entries.map((entry) => (typeof entry === 'number' || (/^[A-Za-z][A-Za-z0-9-]*$/.test(entry) && !/^(?:true|false|null)$/i.test(entry)) ? String(entry) : JSON.stringify(entry)));
  return `[${words.join(', ')}]`;
}
