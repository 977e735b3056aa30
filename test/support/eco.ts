/** `eco-egress` with arguments, as a process of its own that ends by itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** For what should end by itself and does not, ms: its code is then null. */
const LONGEST_RUN = 60_000;

/** Of the environment it gets what a program needs to start, and what is given. */
export async function eco(args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<{ out: string; err: string; code: number | null }> {
  const child = spawn(process.execPath, [MAIN, ...args], { ...options, env: { PATH: process.env['PATH'], ...options.env }, stdio: ['ignore', 'pipe', 'pipe'], timeout: LONGEST_RUN, killSignal: 'SIGKILL' });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number | null]>]);
  return { out, err, code };
}
