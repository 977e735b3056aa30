/** `eco-egress schema`: prints the JSON Schema of a file that people write, or of what the program prints for others. */
import { readdirSync, readFileSync } from 'node:fs';
import { suggest } from '../config/finding.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';

/** Of the package: rendered by `npm run schemas`. */
const SCHEMAS = new URL('../../schemas/', import.meta.url);
const SCHEMA_FILE = /^(.+)\.v(\d+)\.json$/;

/** Resolves to 0, or to 2 where there is no schema of that name; without a name, the names are printed. */
export function runSchema(_options: unknown, io: CommandIo, name?: string): Promise<number> {
  const files = readdirSync(SCHEMAS)
    .filter((file) => SCHEMA_FILE.test(file))
    .toSorted();
  const names = files.map((file) => file.slice(0, -'.json'.length));
  if (name === undefined) {
    const width = Math.max(0, ...names.map(({ length }) => length));
    io.stdout.write(files.map((file, index) => `${(names[index] ?? '').padEnd(width)}  ${titleOf(file)}\n`).join(''));
    return Promise.resolve(EXIT.ok);
  }
  // Without a version, the latest.
  const found = names.includes(name)
    ? name
    : names.filter((one) => SCHEMA_FILE.exec(`${one}.json`)?.[1] === name).toSorted((one, other) => versionOf(other) - versionOf(one))[0];
  if (found === undefined)
    return Promise.resolve(
      misuse(
        io,
        `There is no schema ${JSON.stringify(name)}. ${suggest(name, [...new Set(names.map((one) => one.replace(/\.v\d+$/, '')))])}`,
      ),
    );
  io.stdout.write(read(`${found}.json`));
  return Promise.resolve(EXIT.ok);
}

function versionOf(name: string): number {
  return Number(SCHEMA_FILE.exec(`${name}.json`)?.[2]);
}

function titleOf(file: string): string {
  const { title } = JSON.parse(read(file)) as { readonly title: string };
  return title;
}

function read(file: string): string {
  return readFileSync(new URL(file, SCHEMAS), 'utf8');
}
