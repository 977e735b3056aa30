/** YAML text to a document; every syntax error has advice, and every finding its line. */
import {
  type Document,
  type ErrorCode,
  LineCounter,
  parseDocument,
  type Scalar,
  visit,
  type YAMLError,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import type { WarningKind } from './config.ts';
import {
  adviseSpace,
  type Complain,
  type Complaint,
  type ConfigFinding,
  formatPath,
  type Path,
  type Range,
  type Warning,
} from './finding.ts';
import type { NodePlace } from './read-tree.ts';

/** With 1.1, a directive of the file would give another meaning to the same words. */
const YAML_VERSION = '1.2';

/** The document is null when the text cannot be checked further; the fault has been reported. @param start where an empty file begins */
export function readYaml(
  text: string,
  complain: Complain,
  start = 'Start from deploy/config/egress.yaml, or from docs/configuration.md.',
): { document: Document.Parsed | null; lines: LineCounter } {
  const lines = new LineCounter();
  const tooDeep = (): { document: null; lines: LineCounter } => {
    complain([], 'This is not valid YAML: it has thousands of nested brackets or of mistakes.', 'Check that this is the right file.');
    return { document: null, lines };
  };
  let document: Document.Parsed;
  try {
    // Only text, numbers, lists and mappings: nodes of YAML 1.1's other types (!!omap, !!binary, …) are no part of a policy.
    document = parseDocument(text, {
      version: YAML_VERSION,
      resolveKnownTags: false,
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      logLevel: 'error',
    });
  } catch (error) {
    // The parser recurses for nested brackets, and passes its errors as arguments: both are limited by the stack.
    if (!(error instanceof RangeError)) throw error;
    return tooDeep();
  }
  // For some depths it reports that itself.
  if (document.errors.some(({ message }) => message.includes('call stack'))) return tooDeep();

  const conflict = CONFLICT_MARKER.exec(text);
  if (conflict !== null) {
    complain(
      [],
      'A merge left both versions of a part here.',
      'Keep one of them, and take the lines that begin with <<<<<<<, |||||||, ======= and >>>>>>> out.',
      [conflict.index, conflict.index + conflict[0].length],
    );
    return { document: null, lines };
  }

  // One mistake makes the parser report errors in the rest of its line, and in what follows an unclosed bracket or quote, or a line that is indented otherwise; a tab, before it too.
  let lastLine = 0;
  let lost = false;
  const errors = [...document.errors, ...document.warnings];
  const tabs = errors.filter(({ code }) => code === 'TAB_AS_INDENT');
  for (const error of tabs.length > 0 ? tabs : errors) {
    const place = findErrorRange(error, document, text);
    const { line } = lines.linePos(place[0]);
    const follows = lost && (error.code === 'UNEXPECTED_TOKEN' || error.code === 'BAD_INDENT');
    lost ||= LOSES_PLACE.has(error.code);
    if (line === lastLine || follows) continue;
    lastLine = line;
    complain(
      [],
      `This is not valid YAML: ${lowerFirst(error.message.split(';')[0] ?? '')}.`,
      adviseSyntax({ code: error.message.startsWith('Implicit') ? 'MULTILINE_IMPLICIT_KEY' : error.code }, lineText(text, lines, line)),
      place,
    );
  }
  if (lastLine > 0) return { document: null, lines };

  const asked: string = document.directives.yaml.version;
  if (asked !== YAML_VERSION) {
    // A byte order mark may come first.
    const at = text.search(/^\uFEFF?%YAML/m);
    complain(
      [],
      `The file asks for YAML ${asked}, in which 0443 is 291 and yes is true.`,
      `Take the %YAML line out: this file is read as YAML ${YAML_VERSION}.`,
      [at, at + 1],
    );
    return { document: null, lines };
  }

  if (document.contents === null) {
    complain([], 'The file is empty.', start);
    return { document: null, lines };
  }
  return { document, lines };
}

/** At the beginning of a line: git leaves them where two changes met. */
const CONFLICT_MARKER = /^(?:[<>|]{7} .*|={7}\r?$)/m;

/** For a quote or bracket that is left open, where it is: the parser reports where the text in it ends, which may be the end of the file. */
function findErrorRange({ message, pos }: YAMLError, document: Document.Parsed, text: string): Range {
  let [start] = pos;
  const find = (_: unknown, { range }: Scalar): void => {
    if (range?.[1] === pos[0]) [start] = range;
  };
  const findOpen = (_: unknown, { flow = false, range }: YAMLMap | YAMLSeq): void => {
    if (flow && range && range[0] < pos[0] && !/[\]}]/.test(text[range[1] - 1] ?? '')) [start] = range;
  };
  if (message.startsWith('Missing closing')) visit(document, { Scalar: find });
  if (message.startsWith('Flow ')) visit(document, { Map: findOpen, Seq: findOpen });
  return [start, pos[1]];
}

/** After these the parser takes lines for parts of others. */
const LOSES_PLACE: ReadonlySet<ErrorCode> = new Set(['UNEXPECTED_TOKEN', 'BAD_INDENT', 'MISSING_CHAR', 'MULTILINE_IMPLICIT_KEY']);

const ADVICE: Partial<Record<ErrorCode, string>> = {
  TAB_AS_INDENT: 'Indent with spaces.',
  BAD_INDENT: 'Check the indentation: what belongs together begins in the same column. Check that every [ and { is closed.',
  BLOCK_IN_FLOW: 'Write a comma between two entries, and a text with ": " in it in quotes.',
  MISSING_CHAR: 'Check the quotes, brackets and commas of this line.',
  BLOCK_AS_IMPLICIT_KEY: 'A text with ": " in it needs quotes; a nested key needs a line of its own.',
  MULTIPLE_DOCS: 'Keep one document: take the --- or ... line out.',
  BAD_SCALAR_START: 'Put the text in quotes.',
  BAD_ALIAS: 'Put a text that begins with * or & in quotes.',
  BAD_DQ_ESCAPE: 'Put the text in single quotes: in double quotes, \\ begins an escape.',
  MULTILINE_IMPLICIT_KEY: 'Write key: value, with a blank after the colon; in { }, with a comma between two.',
  TAG_RESOLVE_FAILED: 'Take the tag (the word after !) out.',
};

/** In `[ ]` and `{ }` the braces of an unquoted variable are YAML's own. A character that may begin a match ends the previous run, so the line is read once. */
const BARE_VARIABLE_IN_BRACKETS = /[[{,]\s*(?:[\w-]+:\s*)?[^"'\s[{,]*\$\{/;

/** @param error the parser's, at this line */
export function adviseSyntax(error: Pick<YAMLError, 'code'>, line: string): string {
  if (BARE_VARIABLE_IN_BRACKETS.test(line)) return 'Put a ${…} inside [ ] or { } in quotes: ["${NAME}"].';
  // With one colon in its line, it is about the lines that follow.
  const code = error.code === 'BLOCK_AS_IMPLICIT_KEY' && !/: .*: /.test(line) ? 'BAD_INDENT' : error.code;
  return adviseSpace(line) ?? ADVICE[code] ?? 'Check the indentation, quotes and brackets of this line.';
}

function lineText(text: string, lines: LineCounter, line: number): string {
  return text.slice(lines.lineStarts[line - 1] ?? 0, lines.lineStarts[line] ?? text.length);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

// Gives findings their place in the file: line, column and the text there.

interface YamlSource {
  readonly file: string;
  readonly text: string;
  readonly lines: LineCounter;
  /** Null: the text is not YAML. */
  readonly root: NodePlace | null;
}

/** In the order of the file. */
export function locateAll(complaints: readonly Complaint[], source: YamlSource): ConfigFinding[] {
  return inOrder(complaints.map((complaint) => locate(complaint, source)));
}

/** Likewise, each with its kind. */
export function locateWarnings(warnings: readonly (Complaint & { readonly kind: WarningKind })[], source: YamlSource): Warning[] {
  return inOrder(warnings.map((warning) => ({ ...locate(warning, source), kind: warning.kind })));
}

function inOrder<F extends ConfigFinding>(findings: F[]): F[] {
  return findings.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

/** A finding about the file as a whole. */
export function aboutFile(file: string, problem: string, instead: string): ConfigFinding {
  return { file, line: null, column: null, path: '', problem, instead, excerpt: null };
}

function locate({ path, problem, instead, aim }: Complaint, source: YamlSource): ConfigFinding {
  const { place, depth } = deepest(path, source.root);
  const range = complaintRange(aim, place, depth);
  // A finding about a part of one text (an entry of a comma-separated list) belongs to that text.
  const shown = place?.scalar === true ? path.slice(0, depth) : path;
  const variables = place?.scalar === true && depth > 0 ? place.variables.filter((name) => !problem.includes(name)) : [];
  const origin = variables.length === 0 ? '' : ` The value comes from ${variables.map((name) => `\${${name}}`).join(' and ')}.`;
  const finding = { file: source.file, path: formatPath(shown), problem: `${problem}${origin}`, instead };
  if (range === null) return { ...finding, line: 1, column: 1, excerpt: null };

  const { line, col: column } = source.lines.linePos(range[0]);
  const start = source.lines.lineStarts[line - 1] ?? 0;
  const text = source.text.slice(start, source.lines.lineStarts[line] ?? source.text.length).trimEnd();
  const length = Math.max(1, Math.min(range[1] - range[0], text.length - column + 1));
  const placeholder = text.includes('{{') || PLACEHOLDER.test(problem);
  return {
    ...finding,
    line,
    column,
    ...(placeholder ? { instead: ADVICE_PLACEHOLDER } : {}),
    excerpt: aim === 'hidden' ? null : { text, length },
  };
}

/** A problem that quotes `$NAME` of a shell, or `$(NAME)` of Kubernetes. */
const PLACEHOLDER = /"[^" ]*\$\(?[A-Z_]/;
const ADVICE_PLACEHOLDER = 'Write a variable as ${NAME} or ${NAME:-default}. A template with {{ }} has to be rendered before.';

function deepest(path: Path, root: YamlSource['root']): { place: NodePlace | undefined; depth: number } {
  let place: NodePlace | undefined;
  let depth = 0;
  for (let next = root?.parts?.get(path[0] ?? ''); next !== undefined; next = next.parts?.get(path[depth] ?? '')) {
    place = next;
    depth += 1;
  }
  return { place, depth };
}

function complaintRange(aim: Complaint['aim'], place: NodePlace | undefined, depth: number): Range | null {
  if (typeof aim !== 'string') return aim;
  if (place === undefined || depth === 0) return null;
  return aim === 'key' || !place.scalar ? place.key : place.value;
}
