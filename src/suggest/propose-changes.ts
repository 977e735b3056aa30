/**
 * From denials to the smallest change: each kind of denied request is decided
 * again with the changes before it, and if it is still denied it gets the
 * change that `explain` would propose. Only observed requests are permitted,
 * unless they are generalised on demand.
 */
import { isIP } from 'node:net';
import { type DestinationConfig, FORMS, type RuleConfig } from '../config/config.ts';
import { assumePeer } from '../explain/read-question.ts';
import { destinationNameFor, enforcedConfigOf, freshName, proposeChange, type SeenContent } from '../explain/suggest-change.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { compilePolicy, type Policy, type PolicyConfig } from '../policy/compile.ts';
import { decide, identify } from '../policy/decide.ts';
import { isListable, isProposable, remedyForAddress, singleAddress } from '../policy/remedies.ts';
import type { Ask, Peer } from '../policy/verdict.ts';
import { comparePolicyConfigs } from '../policy-diff/compare-policies.ts';
import type { PolicyDiff } from '../policy-diff/diff-class.ts';
import { type Meter, runSteps } from '../policy-diff/work.ts';
import { show } from '../targets/quote.ts';
import type { SeenDenial } from './seen-denials.ts';

/** The options. */
export interface SuggestTerms {
  /** How many requests of one client a new host needs to be proposed. */
  readonly least: number;
  /** Whether several names or paths next to each other become one pattern. */
  readonly generalise: boolean;
  /** Ms since the epoch: the requests are decided as of this time. */
  readonly now: number;
}

/** Requests of one client for one host. */
export interface DeniedGroup {
  /** Name of the client, or an address that is none. */
  readonly who: string;
  readonly host: string;
  readonly kinds: readonly SeenDenial[];
}

/** Changes that permit a group, with what each of them permits in all. */
export interface Suggestion extends DeniedGroup {
  readonly texts: readonly string[];
  readonly diffs: readonly PolicyDiff[];
}

/** Why a group, or a part of it, has no change. */
export interface NoSuggestion extends DeniedGroup {
  readonly reason: string;
}

/** The whole result for some denials. */
export interface Suggestions {
  readonly made: readonly Suggestion[];
  readonly declined: readonly NoSuggestion[];
  /** Names or paths that became one pattern. */
  readonly generalised: readonly string[];
  /** Requests that the policy permits by now. */
  readonly permitted: number;
  /** As the policy enforces, before and after all changes. */
  readonly before: PolicyConfig;
  readonly after: PolicyConfig;
  /** Between these two. */
  readonly diff: PolicyDiff;
}

/** @throws {TooMuchWork} where policies cannot be compared */
export function suggestChanges(policy: Policy, denials: readonly SeenDenial[], terms: SuggestTerms, meter: Meter): Suggestions {
  const before = enforcedConfigOf(policy);
  const draft: PolicyDraft = { before: compilePolicy(before), config: before, compiled: compilePolicy(before) };
  const made: Suggestion[] = [];
  const declined: NoSuggestion[] = [];
  let permitted = 0;
  for (const group of groupDenials(denials)) {
    if (made.length >= MOST_PROPOSED) {
      declined.push({ ...group, reason: `${MOST_PROPOSED} changes are proposed at a time: apply them, and run this again` });
      continue;
    }
    const texts: string[] = [];
    const diffs: PolicyDiff[] = [];
    const granted: SeenDenial[] = [];
    const reasons = new Map<string, SeenDenial[]>();
    for (const kind of group.kinds) {
      const step = treat(draft, kind, group, terms, meter);
      if (step.outcome === 'declined') reasons.set(step.reason, [...(reasons.get(step.reason) ?? []), kind]);
      else if (step.outcome === 'permitted' && step.before) permitted += kind.count;
      else granted.push(kind);
      if (step.outcome !== 'changed') continue;
      texts.push(step.text);
      diffs.push(step.diff);
    }
    if (granted.length > 0) made.push({ ...group, kinds: granted, texts, diffs });
    for (const [reason, kinds] of reasons) declined.push({ ...group, kinds, reason });
  }
  const merged = mergeRules(before, draft.config);
  const { config: after, texts: generalised } = terms.generalise
    ? generalise(before, merged, terms.now, meter)
    : { config: merged, texts: [] };
  return { made, declined, generalised, permitted, before, after, diff: comparePolicyConfigs(before, after, terms.now, meter) };
}

/** Most groups with a change in one run: more is hard to review, and each is compared with all before it. */
const MOST_PROPOSED = 100;

interface PolicyDraft {
  readonly before: Policy;
  config: PolicyConfig;
  compiled: Policy;
}

type Treated =
  | { readonly outcome: 'declined'; readonly reason: string }
  /** `before`: without any change. */
  | { readonly outcome: 'permitted'; readonly before: boolean }
  | { readonly outcome: 'changed'; readonly text: string; readonly diff: PolicyDiff };

function treat(draft: PolicyDraft, kind: SeenDenial, group: DeniedGroup, { least, now }: SuggestTerms, meter: Meter): Treated {
  const peer = peerLike(draft.compiled, kind);
  if (peer === null)
    return { outcome: 'declined', reason: `${show(group.who)} matches no configured client: add its range, or what it shows, to clients` };
  const { form, host, port, method, path } = kind;
  const ask: Ask = {
    form,
    peer,
    now,
    host,
    port,
    method,
    path,
    ...(form === 'gateway' && kind.destination !== null ? { destination: kind.destination } : {}),
  };
  const verdict = decide(draft.compiled, ask);
  if (verdict.verdict === 'allow')
    return kind.code === 'address-not-allowed'
      ? treatAddress(draft, verdict.destination, kind, now, meter)
      : { outcome: 'permitted', before: decide(draft.before, ask).verdict === 'allow' };
  const isNew = !draft.before.hasHost(host);
  if (isNew && isIP(host) !== 0 && isProposable(host))
    return { outcome: 'declined', reason: `${nameAddress(host)} is a literal address: ask for a name, or add the address by hand` };
  const times = group.kinds.reduce((sum, { count }) => sum + count, 0);
  if (isNew && times < least && isIP(host) === 0)
    return { outcome: 'declined', reason: `it was asked for ${times === 1 ? 'once' : `${times} times`}, and --min-count is ${least}` };
  // A new destination without ranges leads to public addresses only.
  const inside = isNew ? [...kindsAddresses(group)].find((address) => classifyAddress(address)?.class !== 'public') : undefined;
  if (inside !== undefined)
    return {
      outcome: 'declined',
      reason: `the name led to ${nameAddress(inside)}: if a partner is there, add a destination by hand, with its range under addresses`,
    };
  const found = runSteps(proposeChange(draft.compiled, ask, meter, contentOf(group.kinds)));
  if ('instead' in found) return { outcome: 'declined', reason: found.instead };
  advance(draft, found.config);
  return { outcome: 'changed', text: found.change.text, diff: found.diff };
}

/** The policy permits the request, but the name resolved to an address that is not permitted. */
function treatAddress(
  draft: PolicyDraft,
  destination: DestinationConfig,
  { upstreamAddresses }: SeenDenial,
  now: number,
  meter: Meter,
): Treated {
  const addresses = [...upstreamAddresses].map((address) => classifyAddress(address)?.canonical ?? address);
  const [first] = addresses;
  if (first === undefined)
    return {
      outcome: 'declined',
      reason: `the name led to an address outside destinations.${destination.name}.addresses: explain shows which`,
    };
  const special = addresses.find((address) => !isProposable(address));
  if (special !== undefined) return { outcome: 'declined', reason: `the name led to ${nameAddress(special)}, where no partner is` };
  const entries = addresses.map(singleAddress);
  const text = remedyForAddress(destination, entries.join(', '));
  if (destination.addresses === null) return { outcome: 'declined', reason: text };
  const { name, addresses: listed } = destination;
  const destinations = draft.config.destinations.map((other) =>
    other.name === name ? { ...other, addresses: [...listed, ...entries.filter((entry) => !listed.includes(entry))] } : other,
  );
  const config = { ...draft.config, destinations };
  const diff = comparePolicyConfigs(draft.config, config, now, meter);
  // By a range, or since the last kind of request.
  if (diff.classes.length === 0) return { outcome: 'permitted', before: false };
  advance(draft, config);
  return { outcome: 'changed', text, diff };
}

function kindsAddresses({ kinds }: DeniedGroup): Set<string> {
  return new Set(kinds.flatMap(({ upstreamAddresses }) => [...upstreamAddresses]));
}

/** `10.1.1.1 (private)`. */
function nameAddress(address: string): string {
  return `${show(address)} (${classifyAddress(address)?.class ?? 'no plain address'})`;
}

/** What new entries list: what this client used of this host, and nothing else. */
function contentOf(kinds: readonly SeenDenial[]): SeenContent {
  const methods = new Set(kinds.map(({ method }) => method));
  return {
    ports: [...new Set(kinds.map(({ port }) => port))],
    forms: FORMS.filter((form) => kinds.some((kind) => kind.form === form)),
    methods: methods.has(null) ? null : [...methods].flatMap((method) => (method !== null && isListable(method) ? [method] : [])),
  };
}

function advance(draft: PolicyDraft, config: PolicyConfig): void {
  draft.config = config;
  draft.compiled = compilePolicy(config);
}

/** A peer that matches the logged client; null: it was none, or is none by now. */
function peerLike(policy: Policy, { client, addresses, user, subject, sans }: SeenDenial): Peer | null {
  const clients = policy.clients.map(({ config }) => config);
  const [address = ''] = addresses;
  const shown = assumePeer(clients, { client: address, user, subject, sans });
  // The credentials may be known in part only: then a peer that certainly is this client.
  const named = client === null ? '' : assumePeer(clients, { client, user: null, subject: null, sans: [] });
  const peers = [shown, named].flatMap((assumed) => (typeof assumed === 'string' ? [] : assumed.peers));
  const known = (peer: Peer): string | null => identify(policy, peer)?.name ?? null;
  return (
    peers.find((peer) => known(peer) === client && client !== null) ??
    (client === null ? (peers.find((peer) => known(peer) !== null) ?? null) : null)
  );
}

/** The most frequent first; within a group, too. */
function groupDenials(denials: readonly SeenDenial[]): DeniedGroup[] {
  const groups = Map.groupBy(denials, ({ client, addresses, host }) => JSON.stringify([client ?? [...addresses][0], host]));
  const countOf = (kinds: readonly SeenDenial[]): number => kinds.reduce((sum, { count }) => sum + count, 0);
  return [...groups.values()]
    .map((kinds) => ({ who: kinds[0]?.client ?? [...(kinds[0]?.addresses ?? [])][0] ?? '-', host: kinds[0]?.host ?? '-', kinds }))
    .toSorted((one, other) => countOf(other.kinds) - countOf(one.kinds));
}

/** New rules of the same client with the same content become one. */
function mergeRules(before: PolicyConfig, after: PolicyConfig): PolicyConfig {
  const added = Map.groupBy(after.rules.slice(before.rules.length), ({ clients, methods, paths, rate }) =>
    JSON.stringify([clients, methods, paths, rate]),
  );
  const rules = [...added.values()].flatMap(([first, ...others]): RuleConfig[] =>
    first === undefined ? [] : [{ ...first, destinations: [...new Set([first, ...others].flatMap(({ destinations }) => destinations))] }],
  );
  return { ...after, rules: [...before.rules, ...rules] };
}

// Generalising (docs/suggest.md has the rules).

/** Names or paths next to each other that become a pattern. */
const ENOUGH_ALIKE = 3;
/** Fewest labels of the suffix of a pattern: `*.api.example.com`, never `*.example.com`. */
const LEAST_LABELS = 3;

/** A pattern that would remove something, or change what was permitted, is not used. */
function generalise(
  before: PolicyConfig,
  after: PolicyConfig,
  now: number,
  meter: Meter,
): { readonly config: PolicyConfig; readonly texts: readonly string[] } {
  let config = after;
  const texts: string[] = [];
  // Paths first: they decide which rules can be joined for hosts.
  for (const widen of [...widerPaths(before, after), ...widerHosts(before, after)]) {
    const { config: wider, text } = widen(config);
    const isSafe = comparePolicyConfigs(before, wider, now, meter).classes.every(
      ({ change }) => change === 'allowed' || change === 'refused',
    );
    if (!isSafe) continue;
    config = wider;
    texts.push(text);
  }
  return { config, texts };
}

type Widen = (config: PolicyConfig) => { readonly config: PolicyConfig; readonly text: string };

/** New destinations with names below the same suffix, the same ports and the same clients. */
function widerHosts(before: PolicyConfig, after: PolicyConfig): Widen[] {
  const added = after.destinations.slice(before.destinations.length);
  const clientsOf = (name: string): string =>
    JSON.stringify(after.rules.flatMap(({ clients, destinations }) => (destinations.includes(name) ? clients : [])).toSorted());
  const groups = Map.groupBy(added, ({ name, hosts: [host = ''], ports, forms }) =>
    JSON.stringify([suffixOf(host), ports, forms, clientsOf(name)]),
  );
  return [...groups.values()].flatMap((group): Widen[] => {
    const [first] = group;
    const suffix = suffixOf(first?.hosts[0] ?? '');
    if (first === undefined || suffix === null || group.length < ENOUGH_ALIKE) return [];
    const names = new Set(group.map(({ name }) => name));
    return [
      (config) => {
        const kept = config.destinations.filter(({ name }) => !names.has(name));
        const name = freshName(destinationNameFor(suffix), kept);
        const rename = (rule: RuleConfig): RuleConfig => ({
          ...rule,
          destinations: [...new Set(rule.destinations.map((other) => (names.has(other) ? name : other)))],
        });
        return {
          config: { ...config, destinations: [...kept, { ...first, name, hosts: [`*.${suffix}`] }], rules: config.rules.map(rename) },
          text: `*.${suffix} in place of ${group.flatMap(({ hosts }) => hosts).join(', ')}`,
        };
      },
    ];
  });
}

function suffixOf(host: string): string | null {
  const suffix = host.slice(host.indexOf('.') + 1);
  return isIP(host) === 0 && suffix.split('.').length >= LEAST_LABELS ? suffix : null;
}

/** Paths in one directory that were added to a destination or a rule. */
function widerPaths(before: PolicyConfig, after: PolicyConfig): Widen[] {
  const ofDestinations = after.destinations.flatMap(({ name, paths }, index) =>
    directoriesOf(before.destinations[index]?.paths ?? null, paths).map(({ directory, found }): Widen => (config) => ({
      config: {
        ...config,
        destinations: config.destinations.map((other) =>
          other.name === name ? { ...other, paths: replacePaths(other.paths, found, directory) } : other,
        ),
      },
      text: `${directory}/* in place of ${found.join(', ')}, for ${name}`,
    })),
  );
  const rules = Map.groupBy(
    after.rules.slice(before.rules.length).filter(({ paths }) => paths !== null),
    ({ clients, destinations, methods }) => JSON.stringify([clients, destinations, methods]),
  );
  const ofRules = [...rules.values()].flatMap((group) =>
    directoriesOf(
      null,
      group.flatMap(({ paths }) => paths ?? []),
    ).map(({ directory, found }): Widen => (config) => {
      const covered = group.filter(({ paths }) => paths?.every((path) => found.includes(path)));
      const [first] = covered;
      const others = config.rules.filter((rule) => !covered.includes(rule));
      return {
        config: { ...config, rules: first === undefined ? config.rules : [...others, { ...first, paths: [`${directory}/*`] }] },
        text: `${directory}/* in place of ${found.join(', ')}, for ${first?.clients.join(', ') ?? ''}`,
      };
    }),
  );
  return [...ofDestinations, ...ofRules];
}

function directoriesOf(
  before: readonly string[] | null,
  after: readonly string[] | null,
): { readonly directory: string; readonly found: readonly string[] }[] {
  const added = (after ?? []).slice(before?.length ?? 0);
  const groups = Map.groupBy(added, (path) => path.slice(0, path.lastIndexOf('/')));
  return [...groups].flatMap(([directory, found]) => (directory === '' || found.length < ENOUGH_ALIKE ? [] : [{ directory, found }]));
}

function replacePaths(paths: readonly string[] | null, found: readonly string[], directory: string): readonly string[] {
  return [...(paths ?? []).filter((path) => !found.includes(path)), `${directory}/*`];
}
