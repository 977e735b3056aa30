/** Reads the file with what a parent proxy asks for. What stands in it is never quoted. */
import type { HopCredentials } from './config.ts';
import type { Path } from './finding.ts';
import { type FileReading, readSecretFile } from './read-named-file.ts';

const EXAMPLE = 'It is one line: user:password, or Bearer and a token.';

/** Null without a file, and after a complaint. */
export function readCredentials(file: string | undefined, path: Path, reading: FileReading): HopCredentials | null {
  const found = file === undefined ? null : readSecretFile(file, path, reading);
  if (found === null) return null;
  const line = found.text.replace(/\r?\n$/, '');
  // RFC 6750 §2.1: the characters a token has.
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(line)?.[1];
  if (token !== undefined) return { kind: 'bearer', token };
  // RFC 7617 §2: the user has no colon, and neither has control characters.
  const pair = /^([^:\p{Cc}]+):([^\p{Cc}]*)$/u.exec(line);
  if (pair?.[1] === undefined || pair[2] === undefined) {
    reading.complain(path, `${found.name} holds no credentials.`, EXAMPLE);
    return null;
  }
  return { kind: 'basic', user: pair[1], password: pair[2] };
}
