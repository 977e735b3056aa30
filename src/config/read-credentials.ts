/** Reads the file with what a parent proxy asks for. What stands in it is never quoted. */
import { resolve } from 'node:path';
import type { HopCredentials } from './config.ts';
import { quote, type Path } from './finding.ts';
import { describeReadError, type TlsReading } from './tls-files.ts';

const EXAMPLE = 'It is one line: user:password, or Bearer and a token.';

/** Null without a file, and after a complaint. */
export function readCredentials(file: string | undefined, path: Path, { directory, readFile, complain }: Pick<TlsReading, 'directory' | 'readFile' | 'complain'>): HopCredentials | null {
  if (file === undefined) return null;
  const full = resolve(directory, file);
  let text: string;
  try {
    text = readFile(full);
  } catch (error) {
    complain(path, `${quote(full)} cannot be read: ${describeReadError(error)}.`, 'Check the path (relative ones start at the configuration file) and its permissions.');
    return null;
  }
  const line = text.replace(/\r?\n$/, '');
  // RFC 6750 §2.1: the characters a token has.
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(line)?.[1];
  if (token !== undefined) return { kind: 'bearer', token };
  // RFC 7617 §2: the user has no colon, and neither has control characters.
  const pair = /^([^:\p{Cc}]+):([^\p{Cc}]*)$/u.exec(line);
  if (pair?.[1] === undefined || pair[2] === undefined) {
    complain(path, `${quote(full)} holds no credentials.`, EXAMPLE);
    return null;
  }
  return { kind: 'basic', user: pair[1], password: pair[2] };
}
