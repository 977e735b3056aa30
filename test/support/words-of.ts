/** Words that the source declares: the strings of a union type or of a constant array, wherever in src/ it is. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const SOURCE = globSync('src/**/*.ts', { cwd: ROOT }).map((file) => readFileSync(join(ROOT, file), 'utf8')).join('\n');

/** Of `export type NAME = 'a' | 'b'` or `export const NAME = ['a', ...OTHER] as const`. Throws where there is no such declaration, or more than one. */
export function wordsOf(name: string): string[] {
  const declared = [...SOURCE.matchAll(new RegExp(`^export (?:type ${name} = ([^;\\[]*'[^;]*);|const ${name} = \\[([^\\]]*)\\] as const;)`, 'gm'))];
  if (declared.length !== 1) throw new Error(`${declared.length} declarations of ${name} with words`);
  const [, union, list = ''] = declared[0] ?? [];
  if (union !== undefined) return [...union.matchAll(/'([^']+)'/g)].map(([, word = '']) => word);
  return [...list.matchAll(/'([^']+)'|\.\.\.(\w+)/g)].flatMap(([, word, other = '']) => (word === undefined ? wordsOf(other) : [word]));
}
