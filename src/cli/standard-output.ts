/** Standard output for commands, and what becomes of one that cannot be written. */
import { fstatSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

const FD = 1;

/** Standard output; for a file, one that writes the whole of it or fails. */
export function openStandardOutput(): Writable {
  return fstatSync(FD).isFile() ? new FileStream() : process.stdout;
}

/** Node's own stream takes a write that a full disk took in part for a whole one: output is cut off, and the exit code is 0. */
class FileStream extends Writable {
  /** As of process.stdout. */
  readonly fd = FD;

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    try {
      for (let written = 0; written < chunk.length; ) written += writeSync(FD, chunk, written);
    } catch (error) {
      done(error as Error);
      return;
    }
    done();
  }
}
