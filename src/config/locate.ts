/** Gives complaints their place in the file: line, column and the text there. */
import type { LineCounter } from 'yaml';
import type { WarningKind } from './config.ts';
import { formatPath, type Complaint, type Finding, type Path, type Range, type Warning } from './finding.ts';
import { placeKey, type Place, type Tree } from './read-tree.ts';

export interface Source {
  readonly file: string;
  readonly text: string;
  readonly lines: LineCounter;
  readonly places: Tree['places'];
}

/** In the order of the file. */
export function locateAll(complaints: readonly Complaint[], source: Source): Finding[] {
  return inOrder(complaints.map((complaint) => locate(complaint, source)));
}

/** Likewise, each with its kind. */
export function locateWarnings(warnings: readonly (Complaint & { readonly kind: WarningKind })[], source: Source): Warning[] {
  return inOrder(warnings.map((warning) => ({ ...locate(warning, source), kind: warning.kind })));
}

function inOrder<F extends Finding>(findings: F[]): F[] {
  return findings.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

/** A finding about the file as a whole. */
export function aboutFile(file: string, problem: string, instead: string): Finding {
  return { file, line: null, column: null, path: '', problem, instead, excerpt: null };
}

function locate({ path, problem, instead, aim }: Complaint, source: Source): Finding {
  const { place, depth } = deepest(path, source.places);
  const range = rangeOf(aim, place, depth);
  // What is said of a part of one text (an entry of a comma-separated list) belongs to that text.
  const shown = place?.scalar === true ? path.slice(0, depth) : path;
  const variables = place?.scalar === true && depth > 0 ? place.variables.filter((name) => !problem.includes(name)) : [];
  const origin = variables.length === 0 ? '' : ` The value comes from ${variables.map((name) => `\${${name}}`).join(' and ')}.`;
  const finding = { file: source.file, path: formatPath(shown), problem: `${problem}${origin}`, instead };
  if (range === null) return { ...finding, line: 1, column: 1, excerpt: null };

  const { line, col: column } = source.lines.linePos(range[0]);
  const start = source.lines.lineStarts[line - 1] ?? 0;
  const text = source.text.slice(start, source.lines.lineStarts[line] ?? source.text.length).trimEnd();
  const length = Math.max(1, Math.min(range[1] - range[0], text.length - column + 1));
  return { ...finding, line, column, excerpt: { text, length } };
}

function deepest(path: Path, places: Source['places']): { place: Place | undefined; depth: number } {
  for (let depth = path.length; depth > 0; depth -= 1) {
    const place = places.get(placeKey(path.slice(0, depth)));
    if (place !== undefined) return { place, depth };
  }
  return { place: undefined, depth: 0 };
}

function rangeOf(aim: Complaint['aim'], place: Place | undefined, depth: number): Range | null {
  if (typeof aim !== 'string') return aim;
  if (place === undefined || depth === 0) return null;
  return aim === 'key' || !place.scalar ? place.key : place.value;
}
