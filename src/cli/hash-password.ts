/** `eco-egress hash-password`: the hash of a password, for `clients.<name>.basic` of the configuration. */
import { createInterface } from 'node:readline/promises';
import { type Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { hashPassword } from '../identity/proxy-authorization.ts';
import { type CommandIo, EXIT } from './io.ts';

/** Below it a password is guessed sooner than a hash can help. */
const SHORTEST = 12;

/**
 * Reads the password from a pipe, or asks a terminal for it twice without
 * showing it: as an argument it would stand in the process list and in the
 * shell's history. Resolves to 2 for input that is no password to use.
 */
export async function runHashPassword(_options: unknown, io: CommandIo): Promise<number> {
  const password = 'isTTY' in io.stdin && io.stdin.isTTY === true ? await askPassword(io.stdin, io.stderr) : (await text(io.stdin)).replace(/\r?\n$/, '');
  const problem = password === null ? 'the two passwords differ' : problemOf(password);
  if (password === null || problem !== null) {
    io.stderr.write(`No hash was made: ${problem}.\n`);
    return EXIT.usage;
  }
  io.stdout.write(`${await hashPassword(password)}\n`);
  return EXIT.ok;
}

/** What the other end could not send, or anybody could guess. */
function problemOf(password: string): string | null {
  if (password.includes('\uFFFD')) return 'the password is not UTF-8';
  // RFC 7617 §2 has none in a password; a line break within is a file that was not meant.
  if (/[\0-\x1f\x7f-\x9f]/.test(password)) return 'the password has a line break or another control character in it';
  return password.length < SHORTEST ? `the password has fewer than ${SHORTEST} characters; openssl rand -base64 24 makes a good one` : null;
}

/** Null when the two do not match, or the terminal was left. */
async function askPassword(stdin: Readable, prompts: Writable): Promise<string | null> {
  // A terminal that is read line by line echoes by itself; readline turns that off and echoes into this instead.
  const silence = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  const lines = createInterface({ input: stdin, output: silence, terminal: true });
  const left = new AbortController();
  lines.once('close', () => { left.abort(); });
  try {
    prompts.write('Password: ');
    const first = await lines.question('', { signal: left.signal });
    prompts.write('\nOnce more: ');
    const second = await lines.question('', { signal: left.signal });
    return first === second ? first : null;
  } catch (error) {
    if (left.signal.aborted) return null;
    throw error;
  } finally {
    prompts.write('\n');
    lines.close();
  }
}
