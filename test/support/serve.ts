/** The proxy as a process of its own, as an operator runs it: `eco-egress serve` with a configuration file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import { LONGEST_WAIT_FOR_LINE, type LogLine } from './lab.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface ServeOptions {
  /** The configuration document, or its text where it is to be faulty. */
  readonly config: object | string;
  /** Further files beside it, by name. */
  readonly files?: Readonly<Record<string, string>>;
  /** A script for sh that starts it as "$@", and says before what holds for it. */
  readonly shell?: string;
}

export interface Served {
  /** The configuration file; tests may write another. */
  readonly file: string;
  readonly child: ChildProcess;
  readonly log: readonly LogLine[];
  /** The first line, already written or yet to come, that fits; rejects when the process ends without. */
  logged(fits: (line: LogLine) => boolean): Promise<LogLine>;
  /** How it ended, with all it wrote to stderr; both outputs are complete by then. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }>;
}

/** Starts it; it is killed at the end of the test if it still runs. */
export function serve(t: Test, { config, files = {}, shell }: ServeOptions): Served {
  const directory = t.testdir(files);
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, typeof config === 'string' ? config : stringify(config));
  // Of the environment only what a program needs to start: nothing of this machine may steer the proxy.
  const command = [process.execPath, MAIN, 'serve', '--config', file];
  const [program = '', ...rest] = shell === undefined ? command : ['sh', '-c', shell, 'sh', ...command];
  const child = spawn(program, rest, { cwd: directory, env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'pipe'] });
  const log: LogLine[] = [];
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const changed = new EventTarget();
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    log.push(JSON.parse(line) as LogLine);
    changed.dispatchEvent(new Event('change'));
  });
  let over = false;
  const ended = Promise.all([once(child, 'close'), once(lines, 'close')]).then(([[code, signal]]) => {
    over = true;
    changed.dispatchEvent(new Event('change'));
    return { code: code as number | null, signal: signal as NodeJS.Signals | null, stderr };
  });
  t.teardown(async () => {
    if (!over) child.kill('SIGKILL');
    await ended;
  });
  return {
    file,
    child,
    log,
    ended,
    logged: (fits) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const line = log.find(fits);
          if (line !== undefined) resolve(line);
          else if (over) reject(new Error(`the process ended without that line; stderr: ${stderr}`));
          else return;
          changed.removeEventListener('change', look);
        };
        changed.addEventListener('change', look);
        setTimeout(() => { reject(new Error('that line is not in the log')); }, LONGEST_WAIT_FOR_LINE).unref();
        look();
      }),
  };
}

/** Ports of a proxy that has started. */
export async function portsOf(served: Served): Promise<{ http: number[]; admin: number }> {
  const line = await served.logged(({ msg }) => msg === 'eco-egress is listening');
  const port = (authority: string): number => Number(authority.slice(authority.lastIndexOf(':') + 1));
  return { http: (line['http'] as string[]).map(port), admin: port(line['admin'] as string) };
}
