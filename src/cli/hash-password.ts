/** `eco-egress hash-password`: the hash of a password, for `clients.<name>.basic` of the configuration. */
import { createInterface } from 'node:readline/promises';
import { type Readable, Writable } from 'node:stream';
import { hashPassword } from '../identity/proxy-authorization.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';

/** A shorter password can be guessed even with a hash. */
const SHORTEST = 12;
/** A longer one is the wrong file, and would not fit into the fields of a request with others. */
const LONGEST = 1_024;

/**
 * Reads the password from a pipe, or asks a terminal for it twice without
 * showing it: as an argument it would be visible in the process list and in the
 * shell's history. Resolves to 2 for an unusable password.
 */
export async function runHashPassword(_options: unknown, io: CommandIo): Promise<number> {
  const read =
    'isTTY' in io.stdin && io.stdin.isTTY === true
      ? await askPassword(io.stdin, io.stderr)
      : { password: (await readPiped(io.stdin)).replace(/\r?\n$/, '') };
  const problem = 'problem' in read ? read.problem : problemOf(read.password);
  if ('problem' in read || problem !== null) return misuse(io, `No hash was made: ${problem}.`);
  io.stdout.write(`${await hashPassword(read.password)}\n`);
  return EXIT.ok;
}

/** As far as is needed to see that it is too long: a device has no end. */
async function readPiped(stdin: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > 4 * LONGEST) break;
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/** Passwords that the peer could not send, or that are easy to guess. */
function problemOf(password: string): string | null {
  if (password.length > LONGEST) return `the password has more than ${LONGEST} characters`;
  if (password.includes('\uFFFD')) return 'the password is not UTF-8';
  // RFC 7617 §2 allows none in a password; a line break within means the wrong file.
  if (/[\0-\x1f\x7f-\x9f]/.test(password)) return 'the password has a line break or another control character in it';
  return password.length < SHORTEST ? `the password has fewer than ${SHORTEST} characters; openssl rand -base64 24 makes a good one` : null;
}

async function askPassword(stdin: Readable, prompts: Writable): Promise<{ readonly password: string } | { readonly problem: string }> {
  // A terminal that is read line by line echoes by itself; readline turns that off and echoes into this instead.
  const silence = new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
  const lines = createInterface({ input: stdin, output: silence, terminal: true });
  const left = new AbortController();
  lines.once('close', () => {
    left.abort();
  });
  try {
    prompts.write('Password: ');
    const first = await lines.question('', { signal: left.signal });
    prompts.write('\nOnce more: ');
    const second = await lines.question('', { signal: left.signal });
    return first === second ? { password: first } : { problem: 'the two passwords differ' };
  } catch (error) {
    if (left.signal.aborted) return { problem: 'the input was cancelled' };
    throw error;
  } finally {
    prompts.write('\n');
    lines.close();
  }
}
