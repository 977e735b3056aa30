/** What a TypeScript file imports, by name: for the rules that a module graph cannot tell. */
import ts from 'typescript';

export interface Import {
  readonly module: string;
  /** Names as exported by the module; `*` for a namespace, `default` for the default. Types are left out. */
  readonly names: readonly string[];
}

/** Static imports of values. */
export function listValueImports(text: string): Import[] {
  const { statements } = ts.createSourceFile('file.ts', text, ts.ScriptTarget.Latest);
  return statements.filter(ts.isImportDeclaration).flatMap(({ importClause, moduleSpecifier }) => {
    if (!ts.isStringLiteral(moduleSpecifier)) return [];
    const names = importClause === undefined ? [] : valueNames(importClause);
    return names.length === 0 ? [] : [{ module: moduleSpecifier.text, names }];
  });
}

function valueNames(clause: ts.ImportClause): string[] {
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return [];
  const names = clause.name === undefined ? [] : ['default'];
  const bindings = clause.namedBindings;
  if (bindings === undefined) return names;
  if (ts.isNamespaceImport(bindings)) return [...names, '*'];
  return [...names, ...bindings.elements.filter((element) => !element.isTypeOnly).map((element) => (element.propertyName ?? element.name).text)];
}
