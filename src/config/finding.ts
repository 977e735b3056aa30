/** A fault or a warning at one place of a configuration file. */
import { styleText } from 'node:util';
import { closestMatch } from 'leven';
import type { WarningKind } from './config.ts';

/** Keys and list positions from the root of the file. */
export type Path = readonly (string | number)[];

/** A fault or warning about one place of a configuration file, ready to be shown. */
export interface ConfigFinding {
  readonly file: string;
  /** Both count from 1; null: the file as a whole. */
  readonly line: number | null;
  readonly column: number | null;
  /** `destinations.eco-sit.ports[1]`; empty for the file as a whole. */
  readonly path: string;
  /** One sentence: what is wrong. */
  readonly problem: string;
  /** One sentence: what to write instead. Empty when the problem says it. */
  readonly instead: string;
  /** The line of the file, and the length of the faulty part from `column` on. */
  readonly excerpt: { readonly text: string; readonly length: number } | null;
}

/** A finding in a file that can still be served. */
export interface Warning extends ConfigFinding {
  readonly kind: WarningKind;
}

/** As one line, for a log or a page. */
export function formatWarning({ file, line, path, problem, instead }: ConfigFinding): string {
  const place = `${file}${line === null ? '' : `:${line}`}`;
  return `${path === '' ? '' : `${path}: `}${problem}${instead === '' ? '' : ` ${instead}`} (${place})`;
}

/** Offsets into the text of the file. */
export type Range = readonly [start: number, end: number];

/** What to point at: the value, its key (for something missing or unknown), or an exact range. `hidden`: the value, whose line is not shown because it may have a secret. */
type Aim = 'value' | 'key' | 'hidden' | Range;

/** A finding before its position in the file is known. */
export interface Complaint {
  readonly path: Path;
  readonly problem: string;
  readonly instead: string;
  readonly aim: Aim;
}

/** Reports a fault; the file cannot be served then. Both texts are one sentence, `instead` may be empty. */
export type Complain = (path: Path, problem: string, instead: string, aim?: Aim) => void;
/** When a warning holds, ms since the epoch: from the first moment on, and no longer at the second; by default always. */
export interface Period {
  readonly from?: number | null;
  readonly until?: number | null;
}

/** Reports a warning. Both texts are one sentence, `instead` may be empty. What depends on the time is reported for all times, each with its own. */
export type Warn = (kind: WarningKind, path: Path, problem: string, instead: string, aim?: Aim, period?: Period) => void;

const PLAIN_KEY = /^[\w-]+$/;

/** The path as people write it: `destinations.eco-sit.ports[1]`. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    if (!PLAIN_KEY.test(step)) return `${text}[${quoteValue(step)}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
}

const LONGEST_CONFIG_QUOTE = 80;

/** Text from the file or the environment, safe to print: escaped and truncated. */
export function quoteValue(text: string): string {
  const cut = text.length > LONGEST_CONFIG_QUOTE ? `${text.slice(0, LONGEST_CONFIG_QUOTE)}…` : text;
  return JSON.stringify(cut).replace(/[\u007f-\u00a0\u00ad\u061c\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]/g, escapeUnicode);
}

/** What YAML does not take for a space, though it looks like one or like nothing; web pages and word processors have it. */
const ODD_SPACE = /[\u00a0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]/;

/** What to do about such a character in a key or a line; null: it has none. */
export function adviseSpace(text: string): string | null {
  const [character] = ODD_SPACE.exec(text) ?? [];
  return character === undefined
    ? null
    : `U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')} is not a space: write a plain one, or take it out.`;
}

/** Any value of a file in a few words, for the beginning of a sentence. */
export function showValue(value: unknown): string {
  if (typeof value === 'string') return quoteValue(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return 'A list';
  return typeof value === 'object' && value !== null ? 'A mapping (key: value)' : 'This value';
}

/** With more words than this, no similar one is searched for. */
const MOST_COMPARED = 1_000;
/** How many words are listed if none is similar. */
const MOST_NAMED = 60;

/** The known word that was probably meant; null: none is similar. */
export function nearest(word: string, known: readonly string[]): string | null {
  // A file may have thousands of names, and as many faults.
  if (known.length > MOST_COMPARED) return null;
  const maxDistance = Math.max(1, Math.floor(word.length / 3));
  // Two letters that have changed places count as two.
  const swapped = (): string | undefined =>
    closestMatch(
      word,
      known.filter((other) => lettersOf(other) === lettersOf(word)),
      { maxDistance: 2 },
    );
  return closestMatch(word, known, { maxDistance }) ?? swapped() ?? null;
}

function lettersOf(word: string): string {
  return Array.from(word).sort().join('');
}

/** "Did you mean …?", or else the valid words. */
export function suggest(word: string, known: readonly string[]): string {
  const match = nearest(word, known);
  if (match !== null) return `Did you mean ${match}?`;
  if (known.length === 0) return '';
  const more = known.length - MOST_NAMED;
  return `Valid here: ${known.slice(0, MOST_NAMED).join(', ')}${more > 0 ? `, and ${more} more` : ''}.`;
}

function escapeUnicode(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

// Faults and warnings for a terminal: place, problem, what to write, and the line itself.

/** `egress.yaml:5:17`; what concerns the whole file has no line. */
export function tellPlace({ file, line, column }: ConfigFinding): string {
  return line === null ? file : `${file}:${line}:${column ?? 1}`;
}

/** Colours only where the stream is a terminal; NO_COLOR is honoured. */
export function formatFindings(findings: readonly ConfigFinding[], kind: 'fault' | 'warning', stream: NodeJS.WritableStream): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string) => styleText(style, text, { stream });
  return findings
    .map((finding) => {
      const lines = [`${paint('bold', tellPlace(finding))}${finding.path === '' ? '' : `  ${finding.path}`}`];
      lines.push(`  ${paint(kind === 'fault' ? 'red' : 'yellow', finding.problem)}`);
      if (finding.instead !== '') lines.push(`  ${finding.instead}`);
      if (finding.excerpt !== null) lines.push(...excerpt(finding, finding.excerpt, (text) => paint('dim', text)));
      return `${lines.join('\n')}\n`;
    })
    .join('\n');
}

const WIDEST = 110;

function excerpt(
  { line, column }: ConfigFinding,
  { text, length }: NonNullable<ConfigFinding['excerpt']>,
  dim: (text: string) => string,
): string[] {
  const start = (column ?? 1) - 1;
  // Far along a long line, the window follows the caret.
  const from = start > WIDEST - 20 ? start - 40 : 0;
  const window = printableColumns(text.slice(from, from + WIDEST));
  const carets = '^'.repeat(Math.max(1, Math.min(length, WIDEST - (start - from))));
  const number = String(line ?? 0).padStart(5);
  return [dim(`${number} | ${window}`), dim(`      | ${' '.repeat(start - from)}${carets}`)];
}

/** One column per character, and nothing that moves the cursor. */
function printableColumns(text: string): string {
  return text.replace(/\t/g, ' ').replace(/\p{C}/gu, '?');
}
