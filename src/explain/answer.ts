/** The answer to "what would happen to this request, and why": plain data for people and JSON, without secrets. */
import type { Config } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import type { AddressClass, Embedding } from '../policy/address-class.ts';
import type { Ask, Peer, Verdict } from '../policy/verdict.ts';
import { printableLine } from '../telemetry/safe-text.ts';

/** The whole answer, as in `explain --json` and `/explain`. */
export interface ExplainAnswer {
  readonly verdict: Verdict['verdict'];
  /**
   * `ok`, or the problem: with `deny` the code that the client gets, with
   * `report` the one it would get, with `allow` why the name does not resolve.
   */
  readonly code: FaultCode | 'ok';
  /** The response to the client in place of the upstream's; null: the upstream's. */
  readonly status: number | null;
  /** The rule that permits it, or the reason why not: one sentence. */
  readonly why: string;
  /** What would have to change; null when nothing has to, or nothing in the file could. */
  readonly remedy: string | null;
  /** The same as an edit of the file. */
  readonly change: ExplainedChange | null;
  /** The effect of report mode; null: none. */
  readonly report: string | null;
  readonly mode: Config['mode'];
  /** Of the configuration that answered. */
  readonly configHash: string;
  readonly asked: ExplainedRequest;
  readonly peer: Peer;
  /** Null when the request is refused before the policy decides. */
  readonly target: ReadTarget | null;
  readonly client: string | null;
  readonly destination: string | null;
  readonly rule: string | null;
  /** The client found and those that almost matched; `clientsLeftOut` others did not. */
  readonly clients: readonly ExplainedClient[];
  readonly clientsLeftOut: number;
  readonly destinations: readonly ExplainedDestination[];
  readonly rules: readonly ExplainedRule[];
  /** Null if the name was not looked up: not requested, or the request would not get so far. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Parent proxies, nearest to us first; empty: none, or the request would not get so far. */
  readonly way: readonly ExplainedHop[];
  /** Assumptions, and the limits of this answer. */
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
  /** Null if it was not looked up here: not requested, failed, or the previous hop does that. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Why the look-up failed; null: it did not. */
  readonly detail: string | null;
}

/** As in the question, without possible secrets. */
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
  /** The embedding of an IPv4 address; null: none. */
  readonly via: Embedding | null;
  readonly reference: string | null;
  /** `report`: dialled in report mode only, if there is no other. */
  readonly verdict: Verdict['verdict'];
  /** Why it is not, or would not be, dialled; null: it is. */
  readonly code: FaultCode | null;
  readonly detail: string | null;
  readonly remedy: string | null;
}

// An answer to "why": a decision with its reasons. Plain data, for people and for JSON.

/** The decision of the policy on a request, part by part. */
export interface Explanation {
  readonly ask: Ask;
  /** From the code that serves requests. */
  readonly verdict: Verdict;
  readonly target: ExplainedTarget;
  /** Every client of the file, in order: the first match is used. */
  readonly clients: readonly ExplainedClient[];
  /** Destinations that have the host, in the order in which they are tried. */
  readonly destinations: readonly ExplainedDestination[];
  /** Rules that join the client with one of those destinations, in the order of the file. */
  readonly rules: readonly ExplainedRule[];
  /** One sentence on how report mode changes the verdict; null: it does not. */
  readonly report: string | null;
}

/** Host, port and path as the policy parses them. */
export interface ExplainedTarget {
  readonly host: string;
  readonly kind: 'name' | 'ipv4' | 'ipv6';
  readonly port: number;
  /** As compared with patterns; null: hidden. */
  readonly path: string | null;
  /** Why the path is ambiguous: the rest of a sentence; null: it is not. */
  readonly ambiguity: string | null;
}

/** Whether a client of the file matches the peer. */
export interface ExplainedClient {
  readonly name: string;
  /** All of its kinds match. */
  readonly matches: boolean;
  /** The client of the decision. */
  readonly chosen: boolean;
  /** Only the kinds that it lists. */
  readonly kinds: readonly ExplainedKind[];
}

/** Whether one kind of a client's conditions matches. */
export interface ExplainedKind {
  readonly kind: 'addresses' | 'basic' | 'tokens' | 'certificates';
  readonly matches: boolean;
  /** `10.8.1.4 is in 10.8.0.0/14`, `no user was verified`. */
  readonly detail: string;
}

/** A destination that has the host, with its checks. */
export interface ExplainedDestination {
  readonly name: string;
  /** The most specific of its patterns that matches the host. */
  readonly pattern: string;
  /** The destination of the verdict. */
  readonly chosen: boolean;
  /** In order; the checks after the first failure are left out. */
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
  /** Owner, reason and reference of the rule, and when it ends (ISO 8601); null: not given. */
  readonly owner: string | null;
  readonly reason: string | null;
  readonly ticket: string | null;
  readonly until: string | null;
}

/** A change of the file that would permit the request. */
export interface ExplainedChange {
  /** `add 22 to destinations.eco-sit.ports, for all of its hosts and clients`; without YAML, what to do instead. */
  readonly text: string;
  /** The new text of the changed parts of the file; null: no change is safe. */
  readonly yaml: string | null;
}

// An answer for people: one line for each check, and what to write to change the result.

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
  if (change !== null)
    add(change.yaml === null ? 'what to do' : 'to permit it', [
      change.text,
      ...(change.yaml === null
        ? []
        : [
            '',
            ...change.yaml
              .trimEnd()
              .split('\n')
              .map((line) => `  ${line}`),
            '',
          ]),
    ]);
  else if (remedy !== null) add('what to do', [remedy]);
  add('note', notes);
  return `${lines
    .map((line) => printableLine(line.trimEnd()))
    .join('\n')
    .trimEnd()}\n`;
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
  const near = clients.map(
    ({ name, kinds }) =>
      `✗ ${name}  ${kinds
        .filter(({ matches }) => !matches)
        .map(({ detail }) => detail)
        .join('; ')}`,
  );
  return [who, ...near, ...(clientsLeftOut === 0 || near.length === 0 ? [] : [`✗ ${clientsLeftOut} others`])];
}

function destinationLines({ destinations }: ExplainAnswer): string[] {
  return destinations.flatMap(({ name, pattern, checks }) => [
    `${checks.every(({ passes }) => passes) ? '✓' : '✗'} ${name}  has ${pattern}`,
    ...checks.map(({ check, passes, detail }) => `  ${passes ? '✓' : '✗'} ${check.padEnd(6)} ${detail}`),
  ]);
}

function ruleLines({ rule, applies, detail, owner, reason, ticket }: ExplainedRule): string[] {
  const purpose = [
    owner === null ? '' : `owner ${owner}`,
    ticket === null ? '' : `ticket ${ticket}`,
    reason === null ? '' : `reason: ${reason}`,
  ].filter((part) => part !== '');
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
  return parents.flatMap(({ url, addresses, detail }) => [
    `${hop}  ${url}`,
    ...addressLines(addresses ?? []).map((line) => `  ${line}`),
    ...(detail === null ? [] : [`  ✗ ${detail}`]),
  ]);
}

function verdictLines({ verdict, code, status, why }: ExplainAnswer): string[] {
  const refusal = status === null ? code : `${code} (${status})`;
  if (verdict === 'deny') return [`✗ denied: ${refusal}`, why];
  if (verdict === 'report')
    return [status === null ? `! passes in report mode; enforced: ${code}` : `! passes in report mode, but would fail: ${refusal}`, why];
  return code === 'ok' ? [`✓ allowed`, why] : [`✓ allowed, but would fail: ${refusal}`, why];
}
