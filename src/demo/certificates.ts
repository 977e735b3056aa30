/** Where the demo's CA certificate lies for programs that take it from a file. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CA_FILE = 'ca.pem';

export interface TemporaryCa {
  readonly caFile: string;
  /** Removes the file and its directory. Safe to call twice. */
  close(): Promise<void>;
}

/** Writes the certificate into a fresh directory under TMPDIR. Rejects, with what to change, if it cannot. */
export async function writeTemporaryCa(certPem: string): Promise<TemporaryCa> {
  let directory: string;
  try {
    directory = await mkdtemp(join(tmpdir(), 'eco-egress-demo-'));
  } catch (error) {
    throw new Error(`The demo needs a place for its CA certificate: set TMPDIR to a directory it can write to`, { cause: error });
  }
  return {
    caFile: await writeCa(directory, certPem),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Writes `ca.pem` into an existing directory, over an older one, and returns its path. */
export async function writeCa(directory: string, certPem: string): Promise<string> {
  const file = join(directory, CA_FILE);
  await writeFile(file, certPem);
  return file;
}
