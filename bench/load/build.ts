/** The load generators, the upstream and the relay before it are C, compiled when they are needed: in a language with a runtime they would cost more than what they measure. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export interface Built {
  readonly load: string;
  readonly upstream: string;
  readonly relay: string;
  readonly open: string;
}

/** Compiles them into `directory`. Throws with the compiler's words, and what to install. */
export function buildLoad(directory: string): Built {
  const tls = ['-lssl', '-lcrypto'];
  return { load: compile('load', directory, [...tls, '-lm']), upstream: compile('upstream', directory, tls), relay: compile('relay', directory, []), open: compile('open', directory, []) };
}

/** Whether this machine has a C compiler and OpenSSL's headers. */
export function canBuildLoad(): boolean {
  return spawnSync('cc', ['-E', '-x', 'c', '-'], { input: '#include <openssl/ssl.h>\n', stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}

function compile(name: string, directory: string, libraries: readonly string[]): string {
  const program = join(directory, name);
  const { error, status, stderr } = spawnSync('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, `${name}.c`), ...libraries], { encoding: 'utf8' });
  if (error !== undefined || status !== 0) throw new Error(`The load generator needs a C compiler and OpenSSL's headers (Debian: gcc libc6-dev libssl-dev, which bench/install-peers.sh installs).\n${error?.message ?? stderr}`);
  return program;
}
