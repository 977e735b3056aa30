/** `eco-egress` with arguments, as a process of its own that ends by itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** Of the environment it gets what a program needs to start, and what is given. */
export async function eco(args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<{ out: string; err: string; code: number }> {
  const child = spawn(process.execPath, [MAIN, ...args], { ...options, env: { PATH: process.env['PATH'], ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number]>]);
  return { out, err, code };
}
