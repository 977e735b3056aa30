/** A name at the top level of src/ means one thing, and what is exported says what it is. */
import t from 'tap';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '../..');

interface Declaration {
  readonly file: string;
  readonly name: string;
  /** Exported, and without a docstring. */
  readonly undocumented: boolean;
}

function listDeclarations(file: string, text: string): Declaration[] {
  const { statements } = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  return statements.flatMap((statement) => namesOf(statement).map((name) => ({ file, name, undocumented: isExported(statement) && !hasDocstring(statement) })));
}

function isExported(statement: ts.Statement): boolean {
  return ts.canHaveModifiers(statement) && (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
}

/** The comment at the top of a file is about the file. */
function hasDocstring(statement: ts.Statement): boolean {
  return ts.getJSDocCommentsAndTags(statement).some((comment) => ts.isJSDoc(comment) && comment.pos > 0 && comment.getText().replace(/[/*\s]/g, '') !== '');
}

function namesOf(statement: ts.Statement): string[] {
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.flatMap(({ name }) => boundNames(name));
  const named = ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement) || ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement) || ts.isEnumDeclaration(statement);
  return named && statement.name !== undefined ? [statement.name.text] : [];
}

function boundNames(name: ts.BindingName): string[] {
  if (ts.isIdentifier(name)) return [name.text];
  return name.elements.flatMap((element) => (ts.isOmittedExpression(element) ? [] : boundNames(element.name)));
}

/** Names that more than one file declares; overloads, and a type beside a value of its name, are one thing. */
function listShared(declarations: readonly Declaration[]): string[] {
  const files = Map.groupBy(declarations, ({ name }) => name);
  return [...files].flatMap(([name, found]) => {
    const where = [...new Set(found.map(({ file }) => file))];
    return where.length > 1 ? [`${name}: ${where.join(', ')}`] : [];
  });
}

const DECLARATIONS = globSync('src/**/*.{ts,js}', { cwd: ROOT }).flatMap((file) => listDeclarations(file, readFileSync(join(ROOT, file), 'utf8')));

t.test('no two files of src/ declare the same name', async (t) => {
  t.strictSame(listShared(DECLARATIONS), []);
});

t.test('a name that two files declare is found', async (t) => {
  const a = listDeclarations('a.ts', 'interface Peer { x: 1 }\nexport function judge(): void { const inner = 1; }\nconst { one, two: [three] } = four;\nexport type Both = 1;\nexport const Both = 1;');
  t.strictSame(a.map(({ name }) => name), ['Peer', 'judge', 'one', 'three', 'Both', 'Both']);
  t.strictSame(listShared([...a, ...listDeclarations('b.ts', "import { judge } from './a.ts';\nclass Peer {}\nlet inner = judge, three = 3;")]), ['Peer: a.ts, b.ts', 'three: a.ts, b.ts']);
});

/** Of overloads, and of a type and a value that share a name, each has its own. */
function listUndocumented(declarations: readonly Declaration[]): string[] {
  return declarations.filter(({ undocumented }) => undocumented).map(({ file, name }) => `${file}: ${name}`);
}

t.test('every exported declaration has a docstring', async (t) => {
  t.strictSame(listUndocumented(DECLARATIONS), []);
});

t.test('an exported declaration without a docstring is found', async (t) => {
  const found = listUndocumented([
    ...listDeclarations('a.ts', '/** The file. */\nexport const first = 1;\n/** Says it. */\nexport class Second {}\nfunction local(): void {}\n// No docstring.\nexport type Third = 1;\n/** */\nexport interface Fourth { /** A field. */ x: 1 }'),
    ...listDeclarations('b.ts', '/** The file. */\n/** Says it. */\nexport async function fifth(): Promise<void> {}\nexport abstract class Sixth {}'),
  ]);
  t.strictSame(found, ['a.ts: first', 'a.ts: Third', 'a.ts: Fourth', 'b.ts: Sixth']);
});
