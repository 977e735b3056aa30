/** The table of mutants fits the source, the tests and docs/invariants.md. */
import t from 'tap';
import { existsSync, readFileSync } from 'node:fs';
import ts from 'typescript';
import { mutate } from './mutant.ts';
import { INVARIANTS, MUTANTS, QUICK } from './mutants.ts';

const ROOT = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, ROOT), 'utf8');

/** By name, what no parser takes. */
function syntaxErrors(sources: ReadonlyMap<string, string>): string[] {
  const host: ts.CompilerHost = {
    fileExists: (path) => sources.has(path),
    readFile: (path) => sources.get(path),
    getSourceFile: (path, options) => ts.createSourceFile(path, sources.get(path) ?? '', options),
    getDefaultLibFileName: () => 'lib.d.ts',
    getCurrentDirectory: () => '/',
    getCanonicalFileName: (path) => path,
    useCaseSensitiveFileNames: () => true,
    getNewLine: () => '\n',
    writeFile: () => {},
  };
  const program = ts.createProgram({ rootNames: [...sources.keys()], options: { noLib: true, noResolve: true, target: ts.ScriptTarget.ESNext, types: [] }, host });
  return program.getSyntacticDiagnostics().map(({ file, messageText }) => `${file.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
}

t.test('every invariant has mutants, in the order of the page', async (t) => {
  const headings = [...read('docs/invariants.md').matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  t.strictSame(INVARIANTS.map(([heading]) => heading), headings);
  for (const [heading, mutants] of INVARIANTS) t.ok(mutants.some((mutant) => QUICK.has(mutant)), `${heading}: one of them is quick`);
  t.ok(MUTANTS.length >= 40, `${MUTANTS.length} mutants`);
});

t.test('names are unique, and plain', async (t) => {
  const names = MUTANTS.map(({ name }) => name);
  t.strictSame(names.filter((name, index) => names.indexOf(name) !== index), []);
  t.strictSame(names.filter((name) => !/^[a-z0-9]+(?:[-.][a-z0-9]+)*$/.test(name)), []);
});

t.test('each changes one place of the source, and leaves it a program', async (t) => {
  const mutated = new Map<string, string>([['/broken.ts', 'export const a = (1;']]);
  for (const mutant of MUTANTS) {
    t.match(mutant.file, /^src\/[\w/-]+\.ts$/, mutant.name);
    t.doesNotThrow(() => mutated.set(`/${mutant.name}.ts`, mutate(read(mutant.file), mutant)), mutant.name);
  }
  t.strictSame(syntaxErrors(mutated), ["/broken.ts: ')' expected."], 'but for the one that has an error');
});

t.test('its tests are there', async (t) => {
  for (const { name, tests } of MUTANTS) {
    t.ok(tests.length > 0, name);
    for (const test of tests) t.ok(/^test\/.+\.test\.ts$/.test(test) && existsSync(new URL(test, ROOT)), `${name}: ${test}`);
  }
});

t.test('no two are the same', async (t) => {
  const mutated = MUTANTS.map((mutant) => `${mutant.file}\n${mutate(read(mutant.file), mutant)}`);
  t.equal(new Set(mutated).size, mutated.length);
});
