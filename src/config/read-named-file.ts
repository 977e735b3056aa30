/** Reads a file that the configuration names. */
import { resolve } from 'node:path';
import { quote, type Complain, type Path } from './finding.ts';

/** Throws what node:fs throws. */
export type ReadFile = (path: string) => string;

export interface FileReading {
  /** Relative files are looked for here. */
  readonly directory: string;
  readonly readFile: ReadFile;
  readonly complain: Complain;
}

export interface NamedFile {
  /** In quotes, as complaints name it. */
  readonly name: string;
  readonly text: string;
}

/** Null after a complaint. */
export function readNamedFile(file: string, path: Path, { directory, readFile, complain }: FileReading): NamedFile | null {
  const full = resolve(directory, file);
  try {
    return { name: quote(full), text: readFile(full) };
  } catch (error) {
    complain(path, `${quote(full)} cannot be read: ${describeReadError(error)}.`, 'Check the path (relative ones start at the configuration file) and its permissions.');
    return null;
  }
}

const READ_ERRORS = new Map([
  ['ENOENT', 'there is no such file'],
  ['EACCES', 'permission denied'],
  ['EISDIR', 'it is a directory'],
]);

export function describeReadError(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  return READ_ERRORS.get(code) ?? (error instanceof Error ? error.message : String(error));
}
