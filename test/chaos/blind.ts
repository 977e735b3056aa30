/**
 * Whether `doctor --incident` names the guilty part of a fault that it is not
 * told: the first replica is asked while the fault is in force. What it may
 * answer is written here, beside no fault that it could see.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { IncidentPart } from '../../src/incident/evidence.ts';
import type { IncidentVerdict } from '../../src/incident/judge.ts';
import type { Stage } from './stage.ts';

/** Parts of which each is a right answer; `ok`: that nothing is wrong. */
type Truth = readonly (IncidentPart | 'ok')[];

/** Faults by name. Where the partner's part is not listed, naming it is an accusation. */
export const TRUTHS: Readonly<Record<string, Truth>> = {
  'partner-refuses': ['partner-firewall', 'partner-application'],
  'partner-vanishes': ['partner-firewall'],
  'address-refuses': ['partner-firewall', 'partner-application'],
  'address-vanishes': ['partner-firewall'],
  // Its links are part of the route, and of its network.
  'partner-unplugged': ['route', 'partner-firewall'],
  'partner-silent': ['partner-application'],
  'partner-resets': ['partner-application'],
  'partner-garbage': ['partner-application'],
  'partner-half': ['partner-application'],
  'partner-errors': ['partner-application'],
  'partner-slow': ['partner-application', 'ok'],
  'certificate-expired': ['partner-tls'],
  'certificate-of-another': ['partner-tls'],
  'certificate-rotated': ['ok'],
  'handshake-cut': ['partner-tls'],
  'resolver-lies': ['resolver'],
  'resolver-nxdomain': ['resolver'],
  'resolver-silent': ['resolver'],
  'resolver-servfail': ['resolver'],
  'resolver-garbage': ['resolver'],
  'parent-refuses': ['parent'],
  'parent-vanishes': ['parent'],
  'nat-renumbered': ['nat'],
  'nat-exhausted': ['nat', 'ok'],
  'packets-lost': ['route', 'ok'],
  'replica-killed': ['proxy'],
  'replica-frozen': ['proxy'],
  'replica-unplugged': ['route'],
  'replica-restarted': ['proxy'],
  // It is started again at once.
  'replica-out-of-memory': ['proxy', 'ok'],
  'clock-forward': ['proxy', 'ok'],
  'clock-back': ['proxy', 'ok'],
  'disk-full': ['proxy'],
  'policy-broken': ['proxy'],
  'policy-narrowed': ['proxy'],
  'pod-floods': ['pod'],
  'address-vanishes-and-resolver-silent': ['resolver', 'partner-firewall'],
  'replica-killed-and-address-refuses': ['proxy'],
};

/** What came of one question. */
export interface BlindResult {
  readonly fault: string;
  readonly verdict: IncidentVerdict | null;
  readonly isRight: boolean;
  /** A part of the partner was named, and it was not the partner. */
  readonly isAccusation: boolean;
}

/** Sooner after another question, the answer to that one would come. */
const BETWEEN_MS = 5_500;
let askedAt = 0;

/** Asks the first replica, as somebody on its node would. */
export async function askBlindly({ nodes }: Stage, fault: string): Promise<BlindResult> {
  await pause(Math.max(0, askedAt + BETWEEN_MS - Date.now()));
  const { stdout, stderr } = await nodes[0].command('doctor', ['--incident', '--json', '--timeout', '1s']);
  askedAt = Date.now();
  const verdict = stdout.startsWith('{') ? (JSON.parse(stdout) as IncidentVerdict) : null;
  if (verdict === null) process.stdout.write(`    no verdict: ${stderr}\n`);
  const truth = TRUTHS[fault] ?? [];
  const named = verdict === null ? null : (verdict.part ?? 'ok');
  return { fault, verdict, isRight: named !== null && truth.includes(named), isAccusation: named?.startsWith('partner') === true && !truth.some((part) => part.startsWith('partner')) };
}

/** A line for each, and what it was told by. */
export function describeBlind({ verdict, isRight, isAccusation }: BlindResult): string {
  const lines = isRight ? [] : (verdict?.evidence ?? []).map(({ at, text }) => `        ${at ?? '-'} ${text}\n`);
  return `    ${isRight ? '✓' : isAccusation ? '✗✗ accused' : '✗'} ${verdict === null ? 'no verdict' : `${verdict.state}, ${verdict.part ?? 'nothing'} (${verdict.confidence ?? '-'}): ${verdict.sentence}`}\n${lines.join('')}`;
}

const TITLE = 'Named by the autopsy';

/** Puts the answers into the table of docs/chaos.md, as its last column; faults that were not asked about keep theirs. */
export function writeBlindColumn(page: URL, results: readonly BlindResult[], before = ''): void {
  const text = readFileSync(page, 'utf8');
  const known = new Map([...cellsOf(before), ...cellsOf(text)]);
  for (const result of results) known.set(result.fault, cellOf(result));
  const [head = '', table = '', rest = ''] = text.split(/<!-- (?:end of )?table -->\n?/);
  const lines = table.trim().split('\n').map((line, index) => {
    const row = line.replace(/ \|$/, '').split(' | ');
    const cells = index === 0 ? row.filter((cell) => cell !== TITLE) : lineHasColumn(text) ? row.slice(0, -1) : row;
    const name = /^\| `([\w-]+)`/.exec(line)?.[1] ?? '';
    if (index === 1) return line.replace(/\|---\|$/, lineHasColumn(text) ? '|---|' : '|---|---|');
    return `${cells.join(' | ')} | ${index === 0 ? TITLE : (known.get(name) ?? '')} |`;
  });
  writeFileSync(page, `${head}<!-- table -->\n${lines.join('\n')}\n<!-- end of table -->\n${rest}`);
}

/** Rows of the table as they are without it. */
export function withoutBlindColumn(rows: string): string {
  return lineHasColumn(rows) ? rows.split('\n').map((row) => row.replace(/(?<=\|)[^|\n]*\|$/, '')).join('\n') : rows;
}

const lineHasColumn = (text: string): boolean => text.includes(`| ${TITLE} |`);

/** Of a page that has the column. */
function cellsOf(text: string): Map<string, string> {
  if (!lineHasColumn(text)) return new Map();
  return new Map([...text.matchAll(/^\| `([\w-]+)` \|.* \| ([^|]*) \|$/gm)].map(([, name = '', cell = '']) => [name, cell]));
}

function cellOf({ verdict, isRight }: BlindResult): string {
  const named = verdict === null ? 'no answer' : verdict.part === null ? 'nothing is wrong' : `${verdict.part}${verdict.state === 'degraded' ? ' (degraded)' : ''}`;
  return isRight ? named : `**${named}**`;
}
