/** What a program of Node tells of itself: asked for by a signal, answered by machine/tell.ts in a file. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Launch } from './program.ts';

/** Between two signals. */
export interface Told {
  readonly seconds: number;
  /** Handed out by V8, dead or alive. */
  readonly allocatedBytes: number;
  /** The main thread stood still for collections. */
  readonly gcSeconds: number;
  readonly longestGcMs: number;
  /** How much later than due the event loop came to its timers. */
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
}

const TELL = pathToFileURL(join(import.meta.dirname, 'tell.ts')).href;
const WITHIN_MS = 10_000;

/** The same program, ready to tell; null where it is none of Node's. */
export function telling({ command, args }: Launch, directory: string): Launch | null {
  return command === process.execPath ? { command, args: ['--import', `${TELL}?${encodeURIComponent(fileIn(directory))}`, ...args] } : null;
}

/** What the process that `telling` started in `directory` did since it was last asked; the first time there is nothing to tell yet, and it begins to observe. */
export async function ask(pid: number, directory: string): Promise<Told> {
  const file = fileIn(directory);
  process.kill(pid, 'SIGURG');
  const until = performance.now() + WITHIN_MS;
  while (performance.now() < until) {
    await delay(2);
    const text = readIfThere(file);
    if (text === null) continue;
    rmSync(file);
    return JSON.parse(text) as Told;
  }
  throw new Error(`process ${pid} does not tell what it did`);
}

function fileIn(directory: string): string {
  return join(directory, 'told.json');
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    // Not written yet.
    return null;
  }
}
