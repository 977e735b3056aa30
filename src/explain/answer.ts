/** The answer to "what would become of this request, and why": plain data for people and JSON, without secrets. */
import type { Config } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import type { AddressClass, Embedding } from '../policy/address-class.ts';
import type { Ask, Peer, Verdict } from '../policy/verdict.ts';
import { escapeUnsafe } from '../telemetry/safe-text.ts';

/** The whole answer, as `explain --json` and `/explain` give it. */
export interface ExplainAnswer {
  readonly verdict: Verdict['verdict'];
  /**
   * `ok`, or what stands against it: with `deny` the code the client gets, with
   * `report` the one it would get, with `allow` why the name does not resolve.
   */
  readonly code: FaultCode | 'ok';
  /** What the client gets instead of an answer of the upstream; null when it gets that. */
  readonly status: number | null;
  /** The rule that lets it pass, or the reason why not: one sentence. */
  readonly why: string;
  /** What would have to change; null when nothing has to, or nothing in the file could. */
  readonly remedy: string | null;
  /** The same as an edit of the file. */
  readonly change: ExplainedChange | null;
  /** What report mode does about it; null: nothing. */
  readonly report: string | null;
  readonly mode: Config['mode'];
  /** Of the configuration that answered. */
  readonly configHash: string;
  readonly asked: ExplainedRequest;
  readonly peer: Peer;
  /** Null when the request is turned away before the policy is asked. */
  readonly target: ReadTarget | null;
  readonly client: string | null;
  readonly destination: string | null;
  readonly rule: string | null;
  /** The client found and those that were close; `clientsLeftOut` others were not. */
  readonly clients: readonly ExplainedClient[];
  readonly clientsLeftOut: number;
  readonly destinations: readonly ExplainedDestination[];
  readonly rules: readonly ExplainedRule[];
  /** Null where the name was not looked up: not wanted, or it would not come to that. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Parents on the way, nearest to us first; empty: none, or it would not come to that. */
  readonly way: readonly ExplainedHop[];
  /** What was assumed, and what this answer cannot know. */
  readonly notes: readonly string[];
}

/** A hop and its parents. */
export interface ExplainedHop {
  readonly hop: string;
  readonly parents: readonly ExplainedParent[];
}

interface ExplainedParent {
  /** `http://gw-a.example:3128`. */
  readonly url: string;
  /** Null where it was not looked up here: not wanted, failed, or the hop before does that. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Why the look-up failed; null where it did not. */
  readonly detail: string | null;
}

/** As it was asked, less what could be secret. */
export interface ExplainedRequest {
  readonly method: string;
  readonly target: string;
  readonly host: string | null;
}

interface ReadTarget extends ExplainedTarget {
  readonly form: Ask['form'];
  readonly method: string | null;
}

/** An address of the host, and whether it would be dialled. */
export interface JudgedAddress {
  readonly address: string;
  readonly class: AddressClass | null;
  /** What carries an IPv4 address inside; null: nothing does. */
  readonly via: Embedding | null;
  readonly reference: string | null;
  /** `report`: dialled by report mode alone, where nothing else is left. */
  readonly verdict: Verdict['verdict'];
  /** Why not, or why it would not be; null when nothing stands against it. */
  readonly code: FaultCode | null;
  readonly detail: string | null;
  readonly remedy: string | null;
}

// The shape of an answer to "why": a decision with everything that led to it. Plain data, for people and for JSON.

/** What the policy says of a request, part by part. */
export interface Explanation {
  readonly ask: Ask;
  /** Of the very code that enforces. */
  readonly verdict: Verdict;
  readonly target: ExplainedTarget;
  /** Every client of the file, in order: the first that matches is the one. */
  readonly clients: readonly ExplainedClient[];
  /** Destinations that have the host, in the order in which they are tried. */
  readonly destinations: readonly ExplainedDestination[];
  /** Rules that join the client with one of those destinations, in the order of the file. */
  readonly rules: readonly ExplainedRule[];
  /** One sentence on what report mode changes about the verdict; null when it changes nothing. */
  readonly report: string | null;
}

/** Host, port and path as the policy reads them. */
export interface ExplainedTarget {
  readonly host: string;
  readonly kind: 'name' | 'ipv4' | 'ipv6';
  readonly port: number;
  /** As it is compared with patterns; null where it cannot be seen. */
  readonly path: string | null;
  /** Why the path could be read in more than one way: the rest of a sentence; null when it cannot. */
  readonly ambiguity: string | null;
}

/** Whether a client of the file is who asks. */
export interface ExplainedClient {
  readonly name: string;
  /** All of its kinds hold. */
  readonly matches: boolean;
  /** The one client that the decision was made for. */
  readonly chosen: boolean;
  /** Only the kinds that it lists. */
  readonly kinds: readonly ExplainedKind[];
}

/** Whether one kind of a client's conditions holds. */
export interface ExplainedKind {
  readonly kind: 'addresses' | 'basic' | 'tokens' | 'certificates';
  readonly matches: boolean;
  /** `10.8.1.4 is in 10.8.0.0/14`, `no user was verified`. */
  readonly detail: string;
}

/** A destination that has the host, with the checks that were made. */
export interface ExplainedDestination {
  readonly name: string;
  /** The most specific of its patterns that covers the host. */
  readonly pattern: string;
  /** The one that the verdict is about. */
  readonly chosen: boolean;
  /** In order; the checks after the first that fails are left out. */
  readonly checks: readonly ExplainedCheck[];
}

/** One check of a destination. */
export interface ExplainedCheck {
  readonly check: 'port' | 'form' | 'rule' | 'method' | 'path';
  readonly passes: boolean;
  readonly detail: string;
}

/** Whether a rule permits the request. */
export interface ExplainedRule {
  /** `rules[0]`. */
  readonly rule: string;
  readonly destination: string;
  readonly applies: boolean;
  /** Why it applies, or why not. */
  readonly detail: string;
  /** Whose rule it is, why there is one, where that was agreed, and when it ends (ISO 8601); null where the rule does not say. */
  readonly owner: string | null;
  readonly reason: string | null;
  readonly ticket: string | null;
  readonly until: string | null;
}

/** A change of the file that would permit the request. */
export interface ExplainedChange {
  /** `add 22 to destinations.eco-sit.ports, for all of its hosts and clients`; without YAML, what to do instead. */
  readonly text: string;
  /** The parts of the file as they would then be; null where no change is safe. */
  readonly yaml: string | null;
}

// An answer for people: one line for each thing that was looked at, and what to write to get another one.

const ANSWER_LABEL_WIDTH = 14;
const VERDICT_MARK = { allow: '✓', report: '!', deny: '✗' } as const;

/** Ends with a line break; safe to print. */
export function formatAnswer(answer: ExplainAnswer): string {
  const { asked, remedy, change, report, notes } = answer;
  const lines = [`${asked.method} ${asked.target}${asked.host === null ? '' : `, Host: ${asked.host}`}`, ''];
  const add = (label: string, texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) lines.push(`  ${(i === 0 ? label : '').padEnd(ANSWER_LABEL_WIDTH)}${text}`);
  };
  add('target', targetLines(answer));
  add('client', clientLines(answer));
  add('destination', destinationLines(answer));
  add('rule', answer.rules.flatMap(ruleLines));
  add('addresses', addressLines(answer.addresses ?? []));
  add('by way of', answer.way.flatMap(wayLines));
  add('verdict', verdictLines(answer));
  if (report !== null) add('report mode', [report]);
  if (change !== null) add(change.yaml === null ? 'what to do' : 'to permit it', [change.text, ...(change.yaml === null ? [] : ['', ...change.yaml.trimEnd().split('\n').map((line) => `  ${line}`), ''])]);
  else if (remedy !== null) add('what to do', [remedy]);
  add('note', notes);
  return `${lines.map((line) => printableLine(line.trimEnd())).join('\n').trimEnd()}\n`;
}

function targetLines({ target }: ExplainAnswer): string[] {
  if (target === null) return [];
  const { host, port, form, path, ambiguity } = target;
  const lines = [`${host}, port ${port}, as ${form}${path === null ? '' : `, path ${path}`}`];
  return ambiguity === null ? lines : [...lines, `✗ the path ${ambiguity}`];
}

function clientLines({ client, clients, clientsLeftOut, peer }: ExplainAnswer): string[] {
  const credentials = [
    ...(peer.user === null ? [] : [`user ${peer.user}`]),
    ...(peer.token === null ? [] : [`token of ${peer.token.subject}`]),
    ...(peer.sans.length === 0 ? [] : [`certificate of ${peer.sans.join(', ')}`]),
  ];
  const who = [peer.address, ...credentials].join(', ');
  const chosen = clients.find((one) => one.chosen);
  if (chosen !== undefined) return [`✓ ${chosen.name}  ${chosen.kinds.map(({ detail }) => detail).join('; ')}`];
  if (client !== null) return [`✓ ${client}  ${who}`];
  const near = clients.map(({ name, kinds }) => `✗ ${name}  ${kinds.filter(({ matches }) => !matches).map(({ detail }) => detail).join('; ')}`);
  return [who, ...near, ...(clientsLeftOut === 0 || near.length === 0 ? [] : [`✗ ${clientsLeftOut} others`])];
}

function destinationLines({ destinations }: ExplainAnswer): string[] {
  return destinations.flatMap(({ name, pattern, checks }) => [
    `${checks.every(({ passes }) => passes) ? '✓' : '✗'} ${name}  has ${pattern}`,
    ...checks.map(({ check, passes, detail }) => `  ${passes ? '✓' : '✗'} ${check.padEnd(6)} ${detail}`),
  ]);
}

function ruleLines({ rule, applies, detail, owner, reason, ticket }: ExplainedRule): string[] {
  const purpose = [owner === null ? '' : `owner ${owner}`, ticket === null ? '' : `ticket ${ticket}`, reason === null ? '' : `reason: ${reason}`].filter((part) => part !== '');
  return [`${applies ? '✓' : '✗'} ${rule}  ${detail}`, ...(purpose.length === 0 ? [] : [`  ${purpose.join(', ')}`])];
}

function addressLines(addresses: readonly JudgedAddress[]): string[] {
  const width = Math.max(0, ...addresses.map(({ address }) => address.length));
  return addresses.flatMap(({ address, class: kind, via, reference, verdict, detail }) => [
    `${VERDICT_MARK[verdict]} ${address.padEnd(width)}  ${[kind ?? 'no plain address', via === null ? '' : `through ${via}`, reference ?? ''].filter((part) => part !== '').join(', ')}`,
    ...(detail === null ? [] : [`  ${detail}`]),
  ]);
}

function wayLines({ hop, parents }: ExplainedHop): string[] {
  return parents.flatMap(({ url, addresses, detail }) => [`${hop}  ${url}`, ...addressLines(addresses ?? []).map((line) => `  ${line}`), ...(detail === null ? [] : [`  ✗ ${detail}`])]);
}

function verdictLines({ verdict, code, status, why }: ExplainAnswer): string[] {
  const refusal = status === null ? code : `${code} (${status})`;
  if (verdict === 'deny') return [`✗ denied: ${refusal}`, why];
  if (verdict === 'report') return [status === null ? `! passes in report mode; enforced: ${code}` : `! passes in report mode, but would fail: ${refusal}`, why];
  return code === 'ok' ? [`✓ allowed`, why] : [`✓ allowed, but would fail: ${refusal}`, why];
}

/** Names of the configuration and arguments are shown as well: whatever is in them, it is text on one line. */
function printableLine(line: string): string {
  return escapeUnsafe(JSON.stringify(line).slice(1, -1).replaceAll('\\"', '"').replaceAll('\\\\', '\\'));
}
