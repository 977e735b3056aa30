/**
 * The only code that proposes changes of the policy. A change is built step by
 * step on a copy, until the request passes there, and is shown only after both
 * policies have been compared, exactly and for all requests: it may not deny or
 * change anything that was permitted, permit more than its text says, or make a
 * peer a client with fewer credentials than before. If there is no such change,
 * the answer says why. The texts of the steps are those of refusals
 * (policy/remedies.ts).
 */
import { type ClientConfig, type DestinationConfig, type Form, FORMS, type RuleConfig } from '../config/config.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { createAddressGuard } from '../policy/address-guard.ts';
import { ANONYMOUS } from '../policy/client-table.ts';
import { buildCidrTable } from '../policy/tables.ts';
import { compilePolicy, furthestMiss, type Policy, type PolicyConfig } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import {
  contentLike,
  isProposable,
  remedyForAddress,
  remedyForForm,
  remedyForHost,
  remedyForMethod,
  remedyForMoment,
  remedyForOwnPath,
  remedyForPath,
  remedyForPort,
  remedyForRule,
  remedyInstead,
  singleAddress,
} from '../policy/remedies.ts';
import type { Ask, Deny } from '../policy/verdict.ts';
import { comparePolicies } from '../policy-diff/compare-policies.ts';
import type { PolicyDiff } from '../policy-diff/diff-class.ts';
import { type Meter, TooMuchWork } from '../policy-diff/work.ts';
import { parseConfigHost } from '../targets/host.ts';
import { canonicalPath } from '../targets/path.ts';
import { firstPort, hasPort } from '../targets/port-range.ts';
import { show } from '../targets/quote.ts';
import type { ExplainedChange } from './answer.ts';
import { findHarm, type Scope } from './change-scope.ts';
import { listEdits, renderEdits } from './policy-edits.ts';

/** A change with the resulting policy. */
export interface Proposal {
  readonly change: ExplainedChange;
  readonly config: PolicyConfig;
  /** Compared with the enforced policy. */
  readonly diff: PolicyDiff;
}

/** Why no change is proposed: what to do instead. */
export interface NoProposal {
  readonly instead: string;
}

/** What a new destination and a new rule list, if all requests are known. */
export interface SeenContent {
  readonly ports: readonly number[];
  readonly forms: readonly Form[];
  /** Null: some were hidden in tunnels. */
  readonly methods: readonly string[] | null;
}

interface Step {
  readonly config: PolicyConfig;
  readonly text: string;
  readonly scope: Scope | null;
}

const NEW_CLIENT = 'new-client';
/** Client, host, port, form, rule, method and path can each be an obstacle once, and a rule's content once more. */
const MOST_STEPS = 8;
const ANYTHING = { port: null, form: null, methods: null, path: null } as const;

/**
 * A change that permits the request, and nothing beyond its text; or why there is none. The policy itself is not
 * changed. Yields from time to time, so that it can be done in slices.
 * @param seen null: new entries take any form and method, as people usually write them
 */
export function* proposeChange(
  policy: Policy,
  ask: Ask,
  meter: Meter,
  seen: SeenContent | null = null,
): Generator<undefined, Proposal | NoProposal> {
  const before = enforcedConfigOf(policy);
  const scopes: Scope[] = [];
  const texts: string[] = [];
  let config = before;
  for (let count = 0; count < MOST_STEPS; count += 1) {
    const compiled = compilePolicy(config);
    const verdict = decide(compiled, ask);
    if (verdict.verdict !== 'deny') {
      const address = remedyForLiteral(verdict.destination, ask.host);
      if (address !== null) return { instead: [...texts, address].join('; ') };
      const diff = yield* compareWith(before, compiled, ask.now, meter);
      if (diff === null) return { instead: 'the policy is too large for a change to be checked: compare one with npx eco-egress diff' };
      const harm = findHarm(diff, scopes);
      return harm === null
        ? { change: { text: texts.join('; '), yaml: renderEdits(listEdits(before, config)) }, config, diff }
        : { instead: harm };
    }
    yield;
    const step = nextStep(config, compiled, ask, verdict, seen);
    if ('instead' in step) return step;
    ({ config } = step);
    texts.push(step.text);
    if (step.scope !== null) scopes.push(step.scope);
  }
  return { instead: 'no small change of the policy permits this' };
}

/** An IP literal is its own address, so it is known here that it would not be dialled. Null: it would. */
function remedyForLiteral(destination: DestinationConfig | null, host: string): string | null {
  const canonical = classifyAddress(host)?.canonical;
  if (destination === null || canonical === undefined || (destination.via.length > 0 && destination.resolve === 'parent')) return null;
  const fault = createAddressGuard(destination, () => false)(canonical, 0);
  if (fault === null) return null;
  return isProposable(canonical) ? remedyForAddress(destination, singleAddress(canonical)) : `but it would not be dialled: ${fault.detail}`;
}

/** Null where that is too much work. */
function* compareWith(before: PolicyConfig, after: Policy, start: number, meter: Meter): Generator<undefined, PolicyDiff | null> {
  try {
    return yield* comparePolicies(compilePolicy(before), after, start, meter);
  } catch (error) {
    if (error instanceof TooMuchWork) return null;
    throw error;
  }
}

/** As enforced: requests that pass in report mode are denied. */
export function enforcedConfigOf({ clients, destinations, rules }: Policy): PolicyConfig {
  return {
    mode: 'enforce',
    clients: clients.map(({ config }) => config),
    destinations: destinations.map(({ config }) => (config.report ? { ...config, report: false } : config)),
    rules: rules.map(({ config }) => (config.report ? { ...config, report: false } : config)),
  };
}

function nextStep(config: PolicyConfig, policy: Policy, ask: Ask, denial: Deny, seen: SeenContent | null): Step | NoProposal {
  const { client, destination } = denial;
  if (denial.code === 'client-not-allowed') return addClient(config, ask);
  if (client === null) return { instead: denial.remedy };
  if (denial.code === 'host-not-allowed')
    return ask.peer.rejected === null && remedyForOwnPath(policy, ask, client) === null
      ? addDestination(config, client, ask, seen)
      : { instead: denial.remedy };
  const [compiled, blamed] = [
    policy.clients.find((one) => one.config === client),
    policy.destinations.find((one) => one.config === destination),
  ];
  if (destination === null || compiled === undefined || blamed === undefined) return { instead: denial.remedy };
  const instead = remedyInstead(ask, compiled, blamed);
  if (instead !== null) return { instead };
  const nearest = furthestMiss(compiled.rules[blamed.index] ?? [], ask, destination);
  const rule = nearest?.rule ?? null;
  switch (denial.code) {
    case 'port-not-allowed':
      return addPort(config, destination, ask);
    case 'form-not-allowed':
      return edit(config, destination, { forms: [...destination.forms, ask.form] }, remedyForForm(destination, ask.form), {
        form: ask.form,
      });
    case 'no-rule':
      return addRule(config, client, destination, {}, ask, seen?.methods ?? null);
    case 'rule-expired': {
      if (nearest === null) return { instead: denial.remedy };
      const step = addRule(config, client, destination, nearest.rule.config, ask);
      return { ...step, text: remedyForMoment(nearest.rule.name, nearest.miss === 'late', step.text) };
    }
    case 'method-not-allowed':
    case 'path-not-allowed':
      if (rule !== null) return addRule(config, client, destination, rule.config, ask);
      return denial.code === 'method-not-allowed'
        ? addContent(config, destination, 'methods', ask.method ?? '')
        : addContent(config, destination, 'paths', canonicalPath(ask.path ?? ''));
    default:
      return { instead: denial.remedy };
  }
}

/** Never if more than the address may be required: that would bypass a password, token or certificate. */
function addClient(config: PolicyConfig, { peer, form }: Ask): Step | NoProposal {
  const address = classifyAddress(peer.address)?.canonical;
  if (peer.rejected !== null)
    return { instead: 'show credentials that are accepted: an entry for the address would let the peer in without them' };
  if (address === undefined) return { instead: `${show(peer.address)} is not an address that a client can have` };
  const stronger = config.clients.find(
    (client) => kindsOf(client).length > 0 && (client.addresses === null || buildCidrTable([client.addresses]).find(address) !== -1),
  );
  if (stronger !== undefined) {
    return {
      instead: `${form === 'sni' ? 'in another form than sni, ' : ''}show ${kindsOf(stronger).join(' and ')} of client ${stronger.name}, whose addresses include ${address}: an entry for the address alone would go round that`,
    };
  }
  const shown = [
    peer.user === null ? '' : 'a user',
    peer.token === null ? '' : 'a token',
    peer.sans.length === 0 ? '' : 'a certificate',
  ].filter((kind) => kind !== '');
  if (shown.length > 0)
    return {
      instead: `add a client that has ${shown.join(' and ')} as well as the address ${address}: the address alone would identify less than what was shown`,
    };
  const name = freshName(NEW_CLIENT, config.clients);
  const client: ClientConfig = { name, addresses: [singleAddress(address)], basic: null, tokens: null, certificates: null };
  return { config: { ...config, clients: [...config.clients, client] }, text: `add ${address} as a client, after all others`, scope: null };
}

function kindsOf({ basic, tokens, certificates }: ClientConfig): string[] {
  return [
    basic === null ? '' : 'a user and password',
    tokens === null ? '' : 'a token',
    certificates === null ? '' : 'the certificate',
  ].filter((kind) => kind !== '');
}

function addDestination(config: PolicyConfig, client: ClientConfig, ask: Ask, seen: SeenContent | null): Step | NoProposal {
  const { host, port } = ask;
  if (parseConfigHost(host) !== host) return { instead: `${show(host)} is not a host that a policy can name` };
  const known = classifyAddress(host);
  if (known !== null && !isProposable(host)) return { instead: remedyForHost(ask, client) };
  const addresses = known === null || known.class === 'public' ? null : [singleAddress(known.canonical)];
  const destination: DestinationConfig = {
    ...ANONYMOUS,
    report: false,
    name: freshName(destinationNameFor(host), config.destinations),
    hosts: [host],
    ports: seen?.ports ?? [port],
    addresses,
    forms: seen?.forms ?? FORMS,
  };
  const { config: joined, scope } = addRule(
    { ...config, destinations: [...config.destinations, destination] },
    client,
    destination,
    {},
    ask,
    seen?.methods ?? null,
  );
  const limits = seen === null ? '' : `, by ${seen.forms.join(' or ')}${seen.methods === null ? '' : ` with ${seen.methods.join(' or ')}`}`;
  return { config: joined, text: remedyForHost(ask, client, destination.ports.map(firstPort)) + limits, scope };
}

const LONGEST_NAME = 60;

/** `eco-sit-telus-internal`, a valid name of a destination. */
export function destinationNameFor(host: string): string {
  const words = host
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, LONGEST_NAME)
    .replace(/^-+|-+$/g, '');
  return /[a-z]/.test(words) ? words : `host-${words}`;
}

function addPort(config: PolicyConfig, destination: DestinationConfig, { port }: Ask): Step | NoProposal {
  const rival = config.destinations.find(
    (other) => other !== destination && hasPort(other.ports, port) && other.hosts.some((host) => destination.hosts.includes(host)),
  );
  if (rival !== undefined)
    return { instead: `port ${port} of a host of ${destination.name} belongs to destination ${rival.name}: write a rule for that one` };
  return edit(config, destination, { ports: [...destination.ports, port] }, remedyForPort(destination, port), { port });
}

function addContent(config: PolicyConfig, destination: DestinationConfig, key: 'methods' | 'paths', entry: string): Step {
  const [text, scope] =
    key === 'methods' ? [remedyForMethod(destination, entry), { methods: [entry] }] : [remedyForPath(destination, entry), { path: entry }];
  return edit(config, destination, { [key]: [...(destination[key] ?? []), entry] }, text, scope);
}

function edit(
  config: PolicyConfig,
  destination: DestinationConfig,
  changes: Partial<DestinationConfig>,
  text: string,
  scope: Partial<Scope>,
): Step {
  const destinations = config.destinations.map((other) => (other === destination ? { ...other, ...changes } : other));
  return { config: { ...config, destinations }, text, scope: { client: null, destination: destination.name, ...ANYTHING, ...scope } };
}

/**
 * A rule for this client only, so that no other client gains anything.
 * @param like the rule that almost applied: if it lists methods or paths, the new one lists the requested ones, and it
 * has the same rate
 */
function addRule(
  config: PolicyConfig,
  client: ClientConfig,
  destination: DestinationConfig,
  like: Pick<Partial<RuleConfig>, 'methods' | 'paths' | 'rate'>,
  ask: Ask,
  methods: readonly string[] | null = null,
): Step {
  const content = contentLike(like, ask);
  const rule: RuleConfig = {
    clients: [client.name],
    destinations: [destination.name],
    methods: methods ?? (content.method === null ? null : [content.method]),
    paths: content.path === null ? null : [content.path],
    from: null,
    until: null,
    owner: null,
    reason: null,
    ticket: null,
    report: false,
    rate: like.rate ?? null,
  };
  return {
    config: { ...config, rules: [...config.rules, rule] },
    text: remedyForRule(client, destination, content) + (methods === null ? '' : ` with ${methods.join(' or ')}`),
    scope: { client: client.name, destination: destination.name, port: null, form: null, methods: rule.methods, path: content.path },
  };
}

/** The name, with a number if another entry has it. */
export function freshName(name: string, entries: readonly { readonly name: string }[]): string {
  return entries.some((entry) => entry.name === name) ? freshName(`${name}-2`, entries) : name;
}
