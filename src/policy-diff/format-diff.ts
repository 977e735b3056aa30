/** The difference of two policies, for people and as data. */
import { styleText } from 'node:util';
import { bound, escapeText, escapeUnsafe } from '../telemetry/safe-text.ts';
import { describeOutcome, describeClass, explainArguments, shellLine } from './describe-class.ts';
import { DIFF_CHANGES, type DiffChange, type DiffClass, type PolicyDiff } from './diff-class.ts';
import type { DiffVerdict } from './judge-request.ts';

const HEADINGS: Readonly<Record<DiffChange, string>> = {
  allowed: 'Newly allowed',
  denied: 'Newly denied',
  otherwise: 'Allowed as before, but decided otherwise',
  refused: 'Denied as before, with another code',
};
const MOST_REFUSED_SHOWN = 5;
const SIGNS = { allowed: '+', denied: '-', otherwise: '~', refused: '~' } as const;

const countClasses = (number: number): string => `${number} ${number === 1 ? 'class' : 'classes'} of requests`;

/**
 * A paragraph for each change, three lines for each class: the requests, the change, and the `explain` command for one
 * of them.
 * @param config for `explain`
 * @param stream colours only where it is a terminal
 */
export function formatClasses(diff: PolicyDiff, config: string, stream: NodeJS.WritableStream): string {
  const paint = (change: DiffChange, text: string): string =>
    styleText(change === 'allowed' ? 'green' : change === 'denied' ? 'red' : 'yellow', text, { stream });
  return DIFF_CHANGES.map((change) => {
    const classes = diff.classes.filter((one) => one.change === change);
    if (classes.length === 0) return '';
    if (change === 'refused') return formatRefused(diff, classes);
    const lines = classes.flatMap((one) => [
      `  ${paint(change, SIGNS[change])} ${escapeText(describeClass(diff, one))}`,
      `      ${escapeText(describeOutcome(one))}${describeCircumstances(one)}`,
      `      ${escapeText(shellLine(['npx', 'eco-egress', 'explain', '--config', config, '--no-resolve', ...explainArguments(diff, one)]))}`,
    ]);
    return `${HEADINGS[change]}, ${countClasses(classes.length)}:\n${lines.join('\n')}\n`;
  })
    .filter((text) => text !== '')
    .join('\n');
}

/** No access changes: a few of them are enough. */
function formatRefused(diff: PolicyDiff, classes: readonly DiffClass[]): string {
  const lines = classes
    .slice(0, MOST_REFUSED_SHOWN)
    .map((one) => `  ${SIGNS.refused} ${escapeText(describeClass(diff, one))}: ${escapeText(describeOutcome(one))}\n`);
  return `${HEADINGS.refused}, ${countClasses(classes.length)}:\n${lines.join('')}${classes.length > MOST_REFUSED_SHOWN ? `  and ${classes.length - MOST_REFUSED_SHOWN} more, which --json shows\n` : ''}`;
}

/** What the arguments of `explain` do not include; before the command, which zsh would run with a comment as arguments. */
function describeCircumstances({ resolved, forms, schemes }: DiffClass): string {
  const notes = [
    ...(resolved === null || resolved.usual ? [] : [`resolving to ${resolved.witness}`]),
    ...(forms.includes('host-routed') && schemes.join() === 'https' ? ['over TLS, for which explain takes no steered request'] : []),
  ];
  return notes.length === 0 ? '' : `; for example, ${notes.join(', ')}:`;
}

/** The same as data. Infinity is null. */
export function reportClasses(diff: PolicyDiff): unknown[] {
  return diff.classes.map((one) => ({
    change: one.change,
    text: describeClass(diff, one),
    outcome: describeOutcome(one),
    codes: { before: one.codes[0], after: one.codes[1] },
    before: plainVerdict(one.before),
    after: plainVerdict(one.after),
    hosts: one.hosts.map(({ pattern }) => pattern),
    prefixes: one.prefixes,
    forms: one.forms,
    ports: one.ports.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)),
    methods: one.methods.others ? { allBut: one.methods.listed } : { only: one.methods.listed },
    times: one.times.map(([from, until]) => ({ from: moment(from), until: moment(until) })),
    clients: one.peers.map((pair) => ({
      before: typeof pair.before === 'number' ? diff.clients[0][pair.before] : pair.before,
      after: typeof pair.after === 'number' ? diff.clients[1][pair.after] : pair.after,
      peer: pair.peer,
    })),
    resolving: one.resolved?.text ?? null,
    witness: {
      ...one.witness,
      now: moment(one.witness.now),
      resolves: one.resolved?.witness ?? null,
      explain: explainArguments(diff, one),
    },
  }));
}

function plainVerdict({ verdict, code, client, destination, rule, leads }: DiffVerdict): unknown {
  return {
    verdict,
    code,
    client,
    destination: destination?.name ?? null,
    rule: rule === null ? null : `rules[${rule}]`,
    leads: leads === '' ? null : leads,
  };
}

function moment(ms: number): string | null {
  return ms === Infinity ? null : new Date(ms).toISOString();
}

/** One sentence, and the first classes, with limits: for a log line and a status page. */
export interface DiffSummary {
  /** Whether any decision differs, or may differ. */
  readonly different: boolean;
  /** Whether requests that were allowed are denied now. */
  readonly denies: boolean;
  readonly sentence: string;
  readonly classes: readonly string[];
}

const MOST_SUMMARISED = 5;
const LONGEST_SUMMARISED = 300;

/** `2 classes of requests newly allowed, 1 newly denied`. */
export function summariseDiff(diff: PolicyDiff): DiffSummary {
  const count = (change: DiffChange): number => diff.classes.filter((one) => one.change === change).length;
  const told = (
    [
      ['allowed', 'newly allowed'],
      ['denied', 'newly denied'],
      ['otherwise', 'decided otherwise'],
      ['refused', 'denied with another code'],
    ] as const
  ).flatMap(([change, text]) => (count(change) === 0 ? [] : [`${count(change)} ${text}`]));
  const sentence = told.length === 0 ? 'It decides every request as before.' : `Classes of requests: ${told.join(', ')}.`;
  const classes = diff.classes
    .slice(0, MOST_SUMMARISED)
    .map((one: DiffClass) => escapeUnsafe(bound(`${HEADINGS[one.change]}: ${describeClass(diff, one)}`, LONGEST_SUMMARISED)));
  return { different: told.length > 0, denies: count('denied') > 0, sentence, classes };
}
