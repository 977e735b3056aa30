/**
 * The one place that proposes changes of the policy. A change is put together
 * step by step on a copy, until the request passes there, and is only shown
 * after it was tried: nothing that was permitted may be denied by it, nothing
 * may be permitted beyond what its words say, and nobody may become a client
 * by showing less than before. Where there is no such change, it says what
 * stands against it. New entries get names that say they are to be chosen.
 * It is longer than 300 lines because each kind of denial has its step here.
 */
import type { ClientConfig, DestinationConfig, RuleConfig } from '../config/config.ts';
import { type AddressClass, classifyAddress } from '../policy/address-class.ts';
import { buildCidrTable } from '../policy/cidr-table.ts';
import { compilePolicy, type Policy, type PolicyConfig } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import { furthestMiss, missOf } from '../policy/rule-match.ts';
import type { Allow, Ask, Deny, Verdict } from '../policy/verdict.ts';
import { parseConfigHost } from '../targets/host.ts';
import { canonicalPath } from '../targets/path.ts';
import { firstPort, hasPort, mergePorts, sharedPorts } from '../targets/port-range.ts';
import { show } from '../targets/quote.ts';
import type { ExplainedChange } from './answer.ts';

/** What a change permits besides what was permitted before: an ask that none of these covers may not pass. */
export interface Scope {
  /** Null: every client. */
  readonly client: string | null;
  readonly destination: string;
  /** Null: any. */
  readonly port: number | null;
  readonly form: Ask['form'] | null;
  readonly method: string | null;
  readonly path: string | null;
}

/** A change with the policy that it makes. */
export interface Proposal {
  readonly change: ExplainedChange;
  readonly config: PolicyConfig;
  readonly scopes: readonly Scope[];
}

/** Why there is no change to propose: what to do instead. */
export interface NoProposal {
  readonly instead: string;
}

interface Step {
  readonly config: PolicyConfig;
  readonly text: string;
  readonly scope: Scope | null;
}

const NEW_CLIENT = 'new-client';
const NEW_DESTINATION = 'new-destination';
/** Client, host, port, form, rule, method and path can each stand in the way once, and a rule's content once more. */
const MOST_STEPS = 8;
/** Places where a partner could be; whoever insists may list others. */
const SUGGESTED_CLASSES: ReadonlySet<AddressClass> = new Set(['public', 'private', 'unique-local', 'shared']);
const ANYTHING = { port: null, form: null, method: null, path: null } as const;

/** Null where it is permitted already; else a change, or no YAML and what to do instead. */
export function suggestChange(policy: Policy, ask: Ask, verdict: Verdict): ExplainedChange | null {
  if (verdict.verdict === 'allow') return null;
  const found = proposeChange(policy, ask);
  return 'instead' in found ? { text: found.instead, yaml: null } : found.change;
}

/** A change that permits the request and was tried on a copy, or why there is none. The policy itself stays as it is. */
export function proposeChange(policy: Policy, ask: Ask): Proposal | NoProposal {
  const before = configOf(policy);
  const scopes: Scope[] = [];
  const texts: string[] = [];
  let config = before;
  for (let count = 0; count < MOST_STEPS; count += 1) {
    const compiled = compilePolicy(config);
    const verdict = decide(compiled, ask);
    if (verdict.verdict !== 'deny') {
      const refusal = findTakenOver(before, config) ?? findHarm(compilePolicy(before), compiled, scopes, ask);
      if (refusal !== null) return { instead: refusal };
      return { change: { text: texts.join('; '), yaml: renderChange(before, config) }, config, scopes };
    }
    const step = nextStep(config, compiled, ask, verdict);
    if ('instead' in step) return step;
    ({ config } = step);
    texts.push(step.text);
    if (step.scope !== null) scopes.push(step.scope);
  }
  return { instead: 'no small change of the policy permits this' };
}

/** As enforced: what report mode lets pass is denied. */
function configOf({ clients, destinations, rules }: Policy): PolicyConfig {
  return {
    mode: 'enforce',
    clients: clients.map(({ config }) => config),
    destinations: destinations.map(({ config }) => (config.report ? { ...config, report: false } : config)),
    rules: rules.map(({ config }) => (config.report ? { ...config, report: false } : config)),
  };
}

function nextStep(config: PolicyConfig, policy: Policy, ask: Ask, denial: Deny): Step | NoProposal {
  const { client, destination } = denial;
  if (denial.code === 'client-not-allowed') return addClient(config, ask);
  if (client === null) return { instead: denial.remedy };
  if (denial.code === 'host-not-allowed') return addDestination(config, ask);
  if (destination === null) return { instead: denial.remedy };
  const blamed = blamedRule(policy, ask, denial);
  switch (denial.code) {
    case 'port-not-allowed':
      return addPort(config, destination, ask);
    case 'form-not-allowed':
      return blamed === null ? addForm(config, destination, ask) : { instead: denial.remedy };
    case 'no-rule':
      return ask.peer.rejected === null
        ? addRule(config, client, destination, {}, ask)
        : { instead: `show credentials that are accepted: a rule for ${client.name} would let the peer in without them` };
    case 'rule-expired':
      return blamed === null ? { instead: denial.remedy } : addRule(config, client, destination, blamed, ask);
    case 'method-not-allowed':
      return blamed === null ? addContent(config, destination, 'methods', ask.method ?? '') : addRule(config, client, destination, blamed, ask);
    case 'path-not-allowed': {
      const path = canonicalPath(ask.path ?? '');
      // A star in it would be read as a pattern, and the others no pattern may have.
      if (/[*"<>^`{|}]|%2F/.test(path) || !path.startsWith('/')) return { instead: `no pattern can name the path ${show(path)}; a prefix that covers it would permit more` };
      return blamed === null ? addContent(config, destination, 'paths', path) : addRule(config, client, destination, blamed, ask);
    }
    default:
      return { instead: denial.remedy };
  }
}

/** The rule that almost applied; null when one applies and the destination's own limits are what denies, or when none is there. */
function blamedRule(policy: Policy, ask: Ask, denial: Deny): RuleConfig | null {
  const client = policy.clients.find(({ config }) => config === denial.client);
  const destination = policy.destinations.find(({ config }) => config === denial.destination);
  if (client === undefined || destination === undefined || !destination.ports.has(ask.port) || !destination.forms.has(ask.form)) return null;
  const rules = client.rules[destination.index] ?? [];
  return rules.some((rule) => missOf(rule, ask, destination.config) === null) ? null : (furthestMiss(rules, ask, destination.config)?.rule.config ?? null);
}

/** Never where the address could be meant to show more than itself: that would go round a password, token or certificate. */
function addClient(config: PolicyConfig, { peer }: Ask): Step | NoProposal {
  const address = classifyAddress(peer.address)?.canonical;
  if (peer.rejected !== null) return { instead: 'show credentials that are accepted: an entry for the address would let the peer in without them' };
  if (address === undefined) return { instead: `${show(peer.address)} is not an address that a client can have` };
  const stronger = config.clients.find((client) => kindsOf(client).length > 0 && (client.addresses === null || buildCidrTable([client.addresses]).find(address) !== -1));
  if (stronger !== undefined) {
    return { instead: `show ${kindsOf(stronger).join(' and ')} of client ${stronger.name}, whose addresses include ${address}: an entry for the address alone would go round that` };
  }
  const shown = [peer.user === null ? '' : 'a user', peer.token === null ? '' : 'a token', peer.sans.length === 0 ? '' : 'a certificate'].filter((kind) => kind !== '');
  if (shown.length > 0) return { instead: `add a client that has ${shown.join(' and ')} as well as the address ${address}: the address alone would identify less than what was shown` };
  const name = freshName(NEW_CLIENT, config.clients);
  const client: ClientConfig = { name, addresses: [`${address}/${address.includes(':') ? 128 : 32}`], basic: null, tokens: null, certificates: null };
  return { config: { ...config, clients: [...config.clients, client] }, text: `add ${address} as a client, after all others`, scope: null };
}

function kindsOf({ basic, tokens, certificates }: ClientConfig): string[] {
  return [basic === null ? '' : 'a user and password', tokens === null ? '' : 'a token', certificates === null ? '' : 'the certificate'].filter((kind) => kind !== '');
}

function addDestination(config: PolicyConfig, { host, port }: Ask): Step | NoProposal {
  if (parseConfigHost(host) !== host) return { instead: `${show(host)} is not a host that a policy can name` };
  const known = classifyAddress(host);
  if (known !== null && !SUGGESTED_CLASSES.has(known.class)) return { instead: `${host} is a ${known.class} address, where no partner is: ask for another host` };
  const addresses = known === null || known.class === 'public' ? null : [`${known.canonical}/${known.canonical.includes(':') ? 128 : 32}`];
  const name = freshName(NEW_DESTINATION, config.destinations);
  const destination: DestinationConfig = { ...BARE, name, hosts: [host], ports: [port], addresses };
  return { config: { ...config, destinations: [...config.destinations, destination] }, text: `add a destination with ${show(host)} and port ${port}`, scope: null };
}

const BARE: Omit<DestinationConfig, 'name' | 'hosts' | 'ports' | 'addresses'> = {
  forms: ['connect', 'forward', 'gateway', 'host-routed', 'sni'],
  gateway: null,
  methods: null,
  paths: null,
  tls: { ca: null, cert: null, key: null, serverName: null },
  report: false,
  tunnelSni: 'report',
  upgradePlainHttp: null,
  via: [],
  resolve: 'here',
  proxyProtocol: 'off',
  gateReadiness: false,
};

function addPort(config: PolicyConfig, destination: DestinationConfig, { port }: Ask): Step | NoProposal {
  const rival = config.destinations.find((other) => other !== destination && hasPort(other.ports, port) && other.hosts.some((host) => destination.hosts.includes(host)));
  if (rival !== undefined) return { instead: `port ${port} of a host of ${destination.name} belongs to destination ${rival.name}: write a rule for that one` };
  return edit(config, destination, { ports: [...destination.ports, port] }, `add ${port} to destinations.${destination.name}.ports, for all of its hosts and clients`, { port });
}

function addForm(config: PolicyConfig, destination: DestinationConfig, { form }: Ask): Step | NoProposal {
  const { name, methods, paths, gateway } = destination;
  const judged = [methods === null ? '' : 'methods', paths === null ? '' : 'paths'].filter((key) => key !== '');
  if ((form === 'connect' || form === 'sni') && judged.length > 0) {
    return { instead: `use a form in which ${judged.join(' and ')} can be seen (${destination.forms.join(', ')}): ${form} would go round the limits of ${name}` };
  }
  if (form === 'gateway' && gateway === null) return { instead: `give destinations.${name} a gateway with a prefix` };
  return edit(config, destination, { forms: [...destination.forms, form] }, `add ${form} to destinations.${name}.forms, for all of its clients`, { form });
}

function addContent(config: PolicyConfig, destination: DestinationConfig, key: 'methods' | 'paths', entry: string): Step {
  const implied = key === 'methods' && entry === 'GET' ? ' (and with it HEAD)' : '';
  return edit(config, destination, { [key]: [...(destination[key] ?? []), entry] }, `add ${show(entry)}${implied} to destinations.${destination.name}.http.${key}, for all of its clients`, key === 'methods' ? { method: entry } : { path: entry });
}

function edit(config: PolicyConfig, destination: DestinationConfig, changes: Partial<DestinationConfig>, text: string, scope: Partial<Scope>): Step {
  const destinations = config.destinations.map((other) => (other === destination ? { ...other, ...changes } : other));
  return { config: { ...config, destinations }, text, scope: { client: null, destination: destination.name, ...ANYTHING, ...scope } };
}

/** Of its own, so that no other client of a rule gets anything; with the content of what was asked where the rule that almost applied lists content. */
function addRule(config: PolicyConfig, client: ClientConfig, destination: DestinationConfig, like: Partial<RuleConfig>, ask: Ask): Step {
  const method = (like.methods ?? null) === null ? null : ask.method;
  const path = (like.paths ?? null) === null || ask.path === null ? null : canonicalPath(ask.path);
  const rule: RuleConfig = { clients: [client.name], destinations: [destination.name], methods: method === null ? null : [method], paths: path === null ? null : [path], from: null, until: null, owner: null, reason: null, ticket: null, report: false };
  const limits = [method === null ? '' : `the method ${show(method)}`, path === null ? '' : `the path ${show(path)}`].filter((limit) => limit !== '');
  const what = limits.length === 0 ? '' : ` and ${limits.join(' and ')}`;
  return {
    config: { ...config, rules: [...config.rules, rule] },
    text: `add a rule for ${client.name} and ${destination.name}${what}`,
    scope: { client: client.name, destination: destination.name, port: null, form: null, method, path },
  };
}

/**
 * A more specific destination that gains a port, a form or a rule takes over
 * what a client had by a wildcard, with limits, addresses and parents of its own.
 */
function findTakenOver(before: PolicyConfig, after: PolicyConfig): string | null {
  const newRules = after.rules.slice(before.rules.length);
  for (const [index, old] of before.destinations.entries()) {
    const changed = after.destinations[index];
    if (changed === undefined) continue;
    const opened = changed.ports !== old.ports || changed.forms !== old.forms;
    const gaining = (opened ? after.rules : newRules).filter(({ destinations }) => destinations.includes(old.name)).flatMap(({ clients }) => clients);
    for (const other of before.destinations) {
      if (other === old || sharedPorts(mergePorts(other.ports), mergePorts(changed.ports)).length === 0 || !changed.hosts.some((host) => other.hosts.some((pattern) => isUnderWildcard(host, pattern)))) continue;
      const losing = before.rules.filter(({ destinations }) => destinations.includes(other.name)).flatMap(({ clients }) => clients);
      const client = gaining.find((name) => losing.includes(name));
      if (client !== undefined) return `no change is proposed: ${client} reaches hosts of ${old.name} by destination ${other.name} now, and ${old.name} would take these requests over with limits of its own`;
    }
  }
  return null;
}

/** Covered by a wildcard that is less specific. */
function isUnderWildcard(host: string, pattern: string): boolean {
  return pattern.startsWith('*.') && pattern !== host && host.endsWith(pattern.slice(1));
}

/** One sentence about what the change would do besides; null: nothing was found. Tried with what the policy itself names. */
function findHarm(before: Policy, after: Policy, scopes: readonly Scope[], ask: Ask): string | null {
  for (const probe of probesOf(before, ask)) {
    const [old, now] = [decide(before, probe), decide(after, probe)];
    if (old.verdict === 'allow' && now.verdict !== 'allow') return `no change is proposed: ${show(probe.host)} port ${probe.port} would be denied to ${old.client.name}`;
    if (old.verdict === 'deny' && now.verdict === 'allow' && !isMeant(scopes, now, probe)) return `no change is proposed: ${show(probe.host)} port ${probe.port} would be permitted to ${now.client.name} as well`;
  }
  return null;
}

/** Whether the words of the change cover what it permits. */
function isMeant(scopes: readonly Scope[], { client, destination }: Allow, ask: Ask): boolean {
  return scopes.some(
    (scope) =>
      (scope.client === null || scope.client === client.name) &&
      scope.destination === destination.name &&
      (scope.port === null || scope.port === ask.port) &&
      (scope.form === null || scope.form === ask.form) &&
      (scope.method === null || scope.method === ask.method || (scope.method === 'GET' && ask.method === 'HEAD')) &&
      (scope.path === null || (ask.path !== null && scope.path === canonicalPath(ask.path))),
  );
}

const MOST_PROBES = 2_000;

function* probesOf(policy: Policy, ask: Ask): Generator<Ask> {
  let left = MOST_PROBES;
  for (const { config } of policy.destinations) {
    for (const host of config.hosts) {
      for (const { config: client } of policy.clients) {
        const [range] = client.addresses ?? [];
        const address = range?.split('/', 1)[0] ?? ask.peer.address;
        for (const port of config.ports.slice(0, 3).map(firstPort)) {
          if (left === 0) return;
          left -= 1;
          yield { form: 'connect', peer: { address, user: client.basic?.[0]?.user ?? null, token: null, sans: [], rejected: null }, now: ask.now, host: host.replace(/^\*\./, 'a.'), port, method: null, path: null };
        }
      }
    }
  }
}

function freshName(name: string, entries: readonly { readonly name: string }[]): string {
  return entries.some((entry) => entry.name === name) ? freshName(`${name}-2`, entries) : name;
}

/** The parts of the file as they would then be: new entries whole, of changed ones the keys that changed. */
function renderChange(before: PolicyConfig, after: PolicyConfig): string {
  const clients = after.clients.slice(before.clients.length).map(({ name, addresses }) => `  ${name}:\n    addresses: ${flow(addresses ?? [])}`);
  const destinations = after.destinations.flatMap((destination, index) => {
    const old = before.destinations[index];
    return old === destination ? [] : [`  ${destination.name}:\n${renderDestination(destination, old ?? null)}`];
  });
  const rules = after.rules.slice(before.rules.length).map(renderRule);
  const section = (name: string, entries: readonly string[]): string => (entries.length === 0 ? '' : `${name}:\n${entries.join('\n')}\n`);
  return section('clients', clients) + section('destinations', destinations) + section('rules', rules);
}

function renderDestination(destination: DestinationConfig, old: DestinationConfig | null): string {
  const line = (key: 'hosts' | 'ports' | 'addresses' | 'forms', needed: boolean): string[] => (needed ? [`    ${key}: ${flow((destination[key] ?? []).map((entry) => (typeof entry === 'number' ? entry : String(entry))))}`] : []);
  const content = (['methods', 'paths'] as const).filter((key) => old !== null && destination[key] !== old[key]).map((key) => `      ${key}: ${flow(destination[key] ?? [])}`);
  return [
    ...line('hosts', old === null),
    ...line('ports', destination.ports !== old?.ports),
    ...line('addresses', old === null && destination.addresses !== null),
    ...line('forms', old !== null && destination.forms !== old.forms),
    ...(content.length === 0 ? [] : ['    http:', ...content]),
  ].join('\n');
}

function renderRule({ clients, destinations, methods, paths }: RuleConfig): string {
  const parts = [`clients: ${flow(clients)}`, `destinations: ${flow(destinations)}`, methods === null ? '' : `methods: ${flow(methods)}`, paths === null ? '' : `paths: ${flow(paths)}`];
  return `  - { ${parts.filter((part) => part !== '').join(', ')} }`;
}

/** A YAML list on one line; a JSON text is YAML too, and names need no quotes. */
function flow(entries: readonly (string | number)[]): string {
  const words = entries.map((entry) => (typeof entry === 'number' || (/^[A-Za-z][A-Za-z0-9-]*$/.test(entry) && !/^(?:true|false|null)$/i.test(entry)) ? String(entry) : JSON.stringify(entry)));
  return `[${words.join(', ')}]`;
}
