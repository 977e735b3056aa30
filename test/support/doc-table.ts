/** Reads the tables of a documentation page, so that tests can hold them to the code. */
import { readFileSync } from 'node:fs';

/** Cells of every table row whose first cell is code, backticks taken off; `page` is a path from the root of the project. */
export function readDocRows(page: string): string[][] {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8');
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim().replaceAll('`', '')));
}
