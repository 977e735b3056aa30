/**
 * Every text in src/ that a user or an operator can read, found in the syntax
 * tree: all strings and templates of two words or more, and shorter ones where
 * the place says that they are shown. Grouped by what they are part of, never by
 * file, so that moving code changes nothing.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

const SRC = join(import.meta.dirname, '../../src');
export const LIST = new URL('../docs/messages.txt', import.meta.url);

/** What stands for a value that is only known at run time. */
const VALUE = '…';

export interface Message {
  readonly kind: string;
  readonly text: string;
}

/** Constants whose keys or entries name the kind of the texts beside them. */
const CODES = { FAULTS: 'fault', WARNING_KINDS: 'configuration', DOCTOR_CODES: 'doctor' } as const;
type Codes = Record<(typeof CODES)[keyof typeof CODES], Set<string>>;

const HELP = new Set(['description', 'option', 'argument', 'addHelpText', 'showHelpAfterError', 'helpOption', 'helpCommand', 'version', 'command', 'addDemoOptions']);
const METRICS = new Set(['metric', 'labelled', 'single', 'histogram']);
const DOCTOR_CALLS = new Set(['ok', 'skipped', 'fail', 'failBy']);
/** With a problem and what to write instead. */
const CONFIGURATION_CALLS = new Set(['wrong', 'complain', 'say', 'aboutFile']);
/** Their strings are names for programs. */
const NAMING_CALLS = new Set(['createAuthority', 'Symbol', 'querySelector', 'headText', 'setHeader', 'type']);
const PROPERTIES: Readonly<Record<string, string>> = { problem: 'Configuration', instead: 'Configuration', seen: 'Doctor', advice: 'Doctor', help: 'Metrics' };

/** All of them, each kind sorted, without repetition. */
export function collectMessages(): Message[] {
  const files = globSync('**/*.{ts,js}', { cwd: SRC }).map((file) => ts.createSourceFile(file, readFileSync(join(SRC, file), 'utf8'), ts.ScriptTarget.Latest, true));
  const codes: Codes = { fault: new Set(), configuration: new Set(), doctor: new Set() };
  for (const file of files) readCodes(file, codes);
  const found = new Map<string, Message>();
  for (const file of files) {
    visit(file, (node, text) => {
      const kind = kindOf(node, codes);
      if (kind !== null && /[a-z]{2}/i.test(text)) found.set(`${kind}\n${text}`, { kind, text });
    });
  }
  const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return [...found.values()].sort((a, b) => byText(a.kind, b.kind) || byText(a.text, b.text));
}

/** The list as the file has it. */
export function formatMessages(messages: readonly Message[]): string {
  const lines = ['# Every text that a user or an operator can read. Written by `bin/node test/docs/write-messages.ts`; … is a value.'];
  let last = '';
  for (const { kind, text } of messages) {
    if (kind !== last) lines.push('', `## ${kind}`, '');
    last = kind;
    lines.push(text.replaceAll('\n', '\\n'));
  }
  return `${lines.join('\n')}\n`;
}

function readCodes(file: ts.SourceFile, codes: Codes): void {
  const look = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.name.text in CODES && node.initializer !== undefined) {
      const into = codes[CODES[node.name.text as keyof typeof CODES]];
      const value = bare(node.initializer);
      if (ts.isArrayLiteralExpression(value)) for (const entry of value.elements) if (ts.isStringLiteral(entry)) into.add(entry.text);
      if (ts.isObjectLiteralExpression(value)) for (const { name } of value.properties) if (name !== undefined && (ts.isStringLiteral(name) || ts.isIdentifier(name))) into.add(name.text);
    }
    ts.forEachChild(node, look);
  };
  look(file);
}

/** Without `as const` and `satisfies`. */
function bare(node: ts.Expression): ts.Expression {
  return ts.isAsExpression(node) || ts.isSatisfiesExpression(node) || ts.isParenthesizedExpression(node) ? bare(node.expression) : node;
}

/** Calls `found` for each string, template, and sum of such, the largest at once and those inside its values. */
function visit(node: ts.Node, found: (node: ts.Node, text: string) => void): void {
  if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
  const inner: ts.Node[] = [];
  const text = textOf(node, inner);
  if (text !== null) found(node, text);
  for (const next of text === null ? childrenOf(node) : inner) visit(next, found);
}

function childrenOf(node: ts.Node): ts.Node[] {
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => void children.push(child));
  return children;
}

/** @param inner takes the expressions whose values stand in the text */
function textOf(node: ts.Node, inner: ts.Node[]): string | null {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return node.text;
  if (ts.isTemplateExpression(node)) {
    inner.push(...node.templateSpans.map(({ expression }) => expression));
    return node.head.text + node.templateSpans.map(({ literal }) => VALUE + literal.text).join('');
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    const mine: ts.Node[] = [];
    const [left, right] = [textOf(node.left, mine), textOf(node.right, mine)];
    if (left === null && right === null) return null;
    if (left === null) mine.push(node.left);
    if (right === null) mine.push(node.right);
    inner.push(...mine);
    return (left ?? VALUE) + (right ?? VALUE);
  }
  return null;
}

/** Heads of HTTP messages, lines of metrics and headers, PEM, styles, commands of the demo that curl reads. */
const PROTOCOL = /<style>|<!doctype|default-src|\{[a-z-]+:|HTTP\/1\.1 […\d]|^…? ?… HTTP\/|^[\w-]+: [^ ]+\n|^[\w-]+: (?:keep-alive|Upgrade|close|GET, HEAD)|charset=|^PROXY |^# (?:HELP|TYPE)|^-----|^…_\w+… …|^\w+ … …?$/;

/** A sentence of its own, or a part that another text is made with. */
function rest(text: string): string {
  return /<(?:a|p|li|tr|td|code|table|h\d)[ >]/.test(text) ? 'Status page' : /^[A-Z…"-].*[.:!?]\n?$/s.test(text) ? 'Other sentences' : 'Parts of sentences';
}

/** Null: nobody reads it. */
function kindOf(node: ts.Node, codes: Codes): string | null {
  const text = textOf(node, []) ?? '';
  if (node.getSourceFile().fileName.endsWith('.js')) return kindOnPage(node, text);
  const prose = /[a-z…)"’,:;]\s+[("a-z…]/i.test(text) && !PROTOCOL.test(text);
  for (let [at, child]: [ts.Node, ts.Node] = [node.parent, node]; !ts.isSourceFile(at); [at, child] = [at.parent, at]) {
    if (ts.isFunctionLike(at) && child !== (at as ts.ArrowFunction).body) return prose ? rest(text) : null;
    if (ts.isCallExpression(at) || ts.isNewExpression(at)) {
      const kind = kindOfCall(at, child, codes);
      if (kind?.kind === '') return null;
      if (kind !== undefined && (prose || kind.whole === child)) return kind.kind;
    }
    if (ts.isPropertyAssignment(at) && at.initializer === child) {
      const name = ts.isIdentifier(at.name) || ts.isStringLiteral(at.name) ? at.name.text : '';
      if (codes.fault.has(name) && prose) return `Fault ${name}`;
      const kind = PROPERTIES[name];
      if (kind !== undefined && prose) return kind;
      if (name === 'remedy' && prose && !inFault(at)) return 'Log and other remedies';
    }
  }
  return prose ? rest(text) : null;
}

/** What a browser shows: attributes of an element that nobody reads are none of it. */
function kindOnPage(node: ts.Node, text: string): string | null {
  for (let at = node.parent; !ts.isSourceFile(at); at = at.parent) {
    if (ts.isPropertyAssignment(at) && ts.isIdentifier(at.name) && ['class', 'd'].includes(at.name.text)) return null;
    if (ts.isCallExpression(at) && ts.isPropertyAccessExpression(at.expression) && ['querySelector', 'querySelectorAll', 'getElementById'].includes(at.expression.name.text)) return null;
  }
  return /[a-z…)"’,:;]\s+[("a-z…]/i.test(text) && !/^M \S|^0 0 |^…? ?[CHV] |prefers-/.test(text) ? 'Status page' : null;
}

function inFault(node: ts.Node): boolean {
  for (let at = node.parent; !ts.isSourceFile(at); at = at.parent) if (ts.isNewExpression(at)) return true;
  return false;
}

/** Undefined: the call says nothing of its arguments. `whole`: an argument that is shown however short. */
function kindOfCall(call: ts.CallExpression | ts.NewExpression, child: ts.Node, codes: Codes): { kind: string; whole: ts.Node | undefined } | undefined {
  if (child === call.expression) return undefined;
  const name = ts.isIdentifier(call.expression) ? call.expression.text : ts.isPropertyAccessExpression(call.expression) ? call.expression.name.text : '';
  const [first, second] = call.arguments ?? [];
  const literals = (call.arguments ?? []).flatMap((argument) => (ts.isStringLiteral(argument) ? [argument.text] : []));
  const code = (set: ReadonlySet<string>): string | undefined => literals.find((literal) => set.has(literal));
  if (name === 'notice' || name === 'note') return { kind: 'Log', whole: second };
  if (METRICS.has(name)) return { kind: 'Metrics', whole: undefined };
  if (HELP.has(name)) return { kind: 'Command help', whole: undefined };
  if (name === 'Fault') return { kind: first !== undefined && ts.isStringLiteral(first) ? `Fault ${first.text}` : 'Fault by code at run time', whole: second };
  if (code(codes.configuration) !== undefined && name.startsWith('warn')) return { kind: 'Configuration', whole: undefined };
  const fault = code(codes.fault);
  if (code(codes.doctor) !== undefined || DOCTOR_CALLS.has(name)) return { kind: 'Doctor', whole: undefined };
  if (fault !== undefined) return { kind: `Fault ${fault}`, whole: undefined };
  if (NAMING_CALLS.has(name)) return { kind: '', whole: undefined };
  if (CONFIGURATION_CALLS.has(name) && (call.arguments?.length ?? 0) > 1) return { kind: 'Configuration', whole: undefined };
  if (ts.isNewExpression(call) && name.endsWith('Error')) return { kind: 'Errors', whole: first };
  return undefined;
}
