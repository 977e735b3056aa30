/** Reads the files that the configuration names, secret ones included. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { getSystemErrorMessage } from 'node:util';
import type { HopCredentials } from './config.ts';
import { type Complain, type Path, quoteValue, type Warn } from './finding.ts';

/** Throws the errors of node:fs. */
export type ReadFile = (path: string) => string;

/** How files that the configuration names are read, and where faults are reported. */
export interface FileReading {
  /** Directory of relative files. */
  readonly directory: string;
  readonly readFile: ReadFile;
  readonly complain: Complain;
  readonly warn: Warn;
}

/** A file that was read. */
export interface NamedFile {
  /** In quotes, as in messages. */
  readonly name: string;
  readonly text: string;
}

/** Null: a fault was reported. */
export function readNamedFile(file: string, path: Path, { directory, readFile, complain }: FileReading): NamedFile | null {
  const full = resolve(directory, file);
  try {
    return { name: quoteValue(full), text: readFile(full) };
  } catch (error) {
    if (CONTENT.test(file))
      complain(
        path,
        'This looks like the content of the file, so it is not shown.',
        'Write the content to a file, and its path here.',
        'hidden',
      );
    else
      complain(
        path,
        `${quoteValue(full)} cannot be read: ${describeFileError(error)}.`,
        'Check the path (relative ones start at the configuration file) and its permissions.',
      );
    return null;
  }
}

/** PEM, a header line, a token, or user:password, where the path of the file belongs: a log is no place for them. */
const CONTENT = /-----BEGIN |\n|: |^Bearer |^[^/\\]+:(?![/\\])/;

/** The same for secret files: warns if every user can read them. */
export function readSecretFile(file: string, path: Path, reading: FileReading): NamedFile | null {
  const found = readNamedFile(file, path, reading);
  if (found !== null && isForEverybody(resolve(reading.directory, file))) {
    reading.warn(
      'files',
      path,
      `${found.name} may be read by every user of this system.`,
      'Remove that permission: chmod o-rwx. In Kubernetes, set defaultMode: 0440 on the Secret volume, and fsGroup on the pod.',
    );
  }
  return found;
}

/** A file that is missing, or on a file system without users, is not. */
function isForEverybody(path: string): boolean {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0;
  return process.platform !== 'win32' && (mode & 0o004) !== 0;
}

const FILE_ERRORS = new Map([
  ['ENOENT', 'there is no such file'],
  ['EACCES', 'permission denied'],
  ['EISDIR', 'it is a directory'],
  ['ENOTDIR', 'a part of its path is a file'],
  ['EPERM', 'the operation is not permitted'],
  ['EROFS', 'the file system is read-only'],
  ['ENOSPC', 'the disk is full'],
]);

/** Why a file could not be read or written, as the rest of a sentence. */
export function describeFileError(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  // Node's message repeats the path.
  return (
    FILE_ERRORS.get(code) ??
    (error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? getSystemErrorMessage(error.errno) : messageOf(error))
  );
}

/** What was thrown, as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// Reads the file with the header lines for a collector of traces. Its content is never quoted.

/** Written by the exporter of the traces. */
const OTHERS_HEADERS: ReadonlySet<string> = new Set([
  'host',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
  'user-agent',
]);

/** Lines of `Name: value`; empty: no file, or a fault was reported. */
export function readHeaderLines(file: string | undefined, path: Path, reading: FileReading): (readonly [name: string, value: string])[] {
  const found = file === undefined ? null : readSecretFile(file, path, reading);
  const headers: (readonly [string, string])[] = [];
  for (const [index, line] of found?.text.split(/\r?\n/).entries() ?? []) {
    if (line.trim() === '') continue;
    // RFC 9110 §5.1 and §5.5: a token, then visible ASCII.
    const [, name = '', value = ''] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)[ \t]*$/.exec(line) ?? [];
    const lower = name.toLowerCase();
    const problem =
      name === ''
        ? 'is not a header line'
        : OTHERS_HEADERS.has(lower)
          ? `is ${name}, which the proxy writes itself`
          : headers.some(([other]) => other.toLowerCase() === lower)
            ? `is ${name} once more`
            : null;
    if (problem === null) headers.push([name, value]);
    else
      reading.complain(
        path,
        `Line ${index + 1} of ${found?.name ?? ''} ${problem}.`,
        'Each line is one header: its name, a colon, its value, as in Authorization: Bearer TOKEN.',
      );
  }
  if (found !== null && found.text.trim() === '')
    reading.complain(
      path,
      `${found.name} is empty.`,
      'Each line is one header: its name, a colon, its value, as in Authorization: Bearer TOKEN.',
    );
  return headers;
}

// Reads the file with the credentials for a parent proxy. Its content is never quoted.

const EXAMPLE = 'It is one line of UTF-8 text: user:password, or Bearer and a token, with no quotes and blanks around them.';

/** Null: no file, or a fault was reported. */
export function readHopCredentials(file: string | undefined, path: Path, reading: FileReading): HopCredentials | null {
  const found = file === undefined ? null : readSecretFile(file, path, reading);
  if (found === null) return null;
  const line = found.text.replace(/\r?\n$/, '');
  // RFC 6750 §2.1: the characters of a token.
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(line)?.[1];
  if (token !== undefined) return { kind: 'bearer', token };
  // RFC 7617 §2: the user has no colon, and neither has control characters. What looks like a header line, a URL or a
  // quoted text is none, and U+FFFD is what was no UTF-8.
  const pair = /^(?!["'\s])([^:\p{Cc}\ufffd]+):(?!\s|\/\/)([^\p{Cc}\ufffd]*)$(?<!\s)/u.exec(line);
  if (pair?.[1] === undefined || pair[2] === undefined) {
    reading.complain(path, `${found.name} holds no credentials.`, EXAMPLE);
    return null;
  }
  return { kind: 'basic', user: pair[1], password: pair[2] };
}
