/** A contender's process: started, waited for until it answers, watched, stopped. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pin, type Role } from './cores.ts';
import { usageOf, waitedSeconds } from './processes.ts';
import { ask, telling, type Told } from './told.ts';

const READY_WITHIN_MS = 20_000;
const STOP_WITHIN_MS = 3_000;

export interface Program {
  readonly pid: number;
  /** From the start of the process to the first byte of an answer. */
  readonly startMs: number;
  /** User and system time so far, of all threads and child processes. */
  cpuSeconds(): number;
  rssBytes(): number;
  /** It and what it started. */
  pids(): number[];
  /** So long it could have run, but another program had its core. */
  waitedSeconds(): number;
  /** What it did since it was last asked, and from then on it is observed; null of a plain program, and of one that is none of Node's. */
  tell(): Promise<Told | null>;
  /** The end of what it wrote to standard error. */
  complaints(): string;
  /** SIGTERM, and SIGKILL after 3 s. Resolves when it has ended. */
  stop(): Promise<void>;
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  /** Besides the environment of the bench. */
  readonly env?: Readonly<Record<string, string>>;
  /** A URL that answers with a success when it may have traffic, where it has one. */
  readonly readyz?: string;
  /** Whose core it runs on; a contender's unless said otherwise. */
  readonly role?: Role;
}

/**
 * Starts a program with `directory` as its working directory and its standard
 * output, the access log of some, in `stdout.log` there. Rejects with what it
 * wrote if it does not answer within 20 s. It ends with this process at the
 * latest. A program of Node is started so that it can tell what it does; a
 * `plain` one is not.
 */
export async function startProgram(launch: Launch, directory: string, port: number, plain = false): Promise<Program> {
  const output = openSync(join(directory, 'stdout.log'), 'a');
  const errors = openSync(join(directory, 'errors.log'), 'a');
  const started = performance.now();
  const tells = plain ? null : telling(launch, directory);
  const { command, args } = tells ?? launch;
  const child = spawn(...pin(launch.role ?? 'contender', command, args), { cwd: directory, env: { ...process.env, ...launch.env }, stdio: ['ignore', output, errors] });
  closeSync(output);
  closeSync(errors);
  const ended = once(child, 'exit');
  const end = (): boolean => child.kill('SIGKILL');
  process.prependOnceListener('exit', end);
  child.once('exit', () => process.off('exit', end));
  const { pid } = child;
  if (pid === undefined) {
    await ended;
    throw new Error(`${basename(launch.command)} could not be started`);
  }
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      const patience = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
      await ended;
      clearTimeout(patience);
    }
  };
  const waitUntil = async (isSo: () => Promise<boolean>): Promise<void> => {
    while (!(await isSo())) {
      if (child.exitCode === null && performance.now() - started < READY_WITHIN_MS) await delay(2);
      else {
        await stop();
        throw new Error(`${basename(launch.command)} does not answer: ${['errors.log', 'stdout.log'].map((name) => readFileSync(join(directory, name), 'utf8')).join(' ').trim()}`);
      }
    }
  };
  await waitUntil(() => answers(port));
  const startMs = performance.now() - started;
  const { readyz } = launch;
  if (readyz !== undefined) await waitUntil(() => isReady(readyz));
  const complaints = (): string => readFileSync(join(directory, 'errors.log'), 'utf8').slice(-500);
  return { pid, startMs, complaints, cpuSeconds: () => usageOf(pid).cpuSeconds, rssBytes: () => usageOf(pid).rssBytes, pids: () => usageOf(pid).pids, waitedSeconds: () => waitedSeconds(usageOf(pid).pids), tell: async () => (tells === null ? null : ask(pid, directory)), stop };
}

/** Any byte will do: a refusal is an answer too, and layer 4 proxies let the upstream speak. */
async function answers(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.setTimeout(1_000, () => socket.destroy(new Error('no answer')));
  socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  try {
    await once(socket, 'data');
    return true;
  } catch {
    // Refused: it does not listen yet.
    return false;
  } finally {
    socket.destroy();
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}
