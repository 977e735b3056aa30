/** The streams of a command, kept as text. */
import { PassThrough, Readable } from 'node:stream';
import type { CommandIo } from '../../src/cli/io.ts';

export interface RecordedIo extends CommandIo {
  readonly out: () => string;
  readonly err: () => string;
}

export function recordIo(env: CommandIo['env'] = {}, stdin: Readable = Readable.from([])): RecordedIo {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const text = (stream: PassThrough) => {
    let kept = '';
    stream.on('data', (chunk: Buffer) => (kept += chunk.toString()));
    // What was written and not yet delivered counts too.
    return () => kept + String(stream.read() ?? '');
  };
  return { stdin, stdout, stderr, env, out: text(stdout), err: text(stderr) };
}
