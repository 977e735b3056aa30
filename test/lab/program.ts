/** A program that runs on a host of the lab: what it printed so far, and waiting for what it will print. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface Program {
  readonly lines: readonly string[];
  /** What it wrote to stderr so far. */
  readonly complaints: string;
  /** The first line from number `from` on, printed or yet to be, that fits; rejects after `patience` ms, or when the program ends without. */
  line(fits: (line: string) => boolean, options?: { readonly from?: number; readonly patience?: number }): Promise<string>;
  /** Resolves once it has ended, to its exit code; null: a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  signal(signal: NodeJS.Signals): void;
}

/** As long as a busy machine may take for what takes an idle one a moment. */
export const PATIENCE_MS = 15_000;

/** @param what for messages */
export function watch(child: ChildProcess, what: string): Program {
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error(`${what} has no pipes`);
  const lines: string[] = [];
  const changed = new EventTarget();
  let complaints = '';
  stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  let failure: Error | null = null;
  createInterface({ input: stdout }).on('line', (line) => {
    lines.push(line);
    changed.dispatchEvent(new Event('change'));
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    failure = new Error(`${what} ended (${String(code ?? signal)}): ${complaints}`);
    changed.dispatchEvent(new Event('change'));
    return code as number | null;
  });

  return {
    lines,
    get complaints() { return complaints; },
    signal: (signal) => child.kill(signal),
    end: async (signal) => {
      child.kill(signal);
      return await ended;
    },
    line: (fits, { from = 0, patience = PATIENCE_MS } = {}) =>
      new Promise((resolve, reject) => {
        let next = from;
        const finish = (settle: () => void): void => {
          clearTimeout(timer);
          changed.removeEventListener('change', look);
          settle();
        };
        const look = (): void => {
          for (; next < lines.length; next += 1) {
            const line = lines[next] ?? '';
            if (!fits(line)) continue;
            finish(() => { resolve(line); });
            return;
          }
          if (failure !== null) finish(() => { reject(failure ?? new Error(what)); });
        };
        const timer = setTimeout(() => {
          finish(() => { reject(new Error(`${what} did not say so within ${patience} ms. Its last lines:\n${lines.slice(-5).join('\n')}`)); });
        }, patience);
        changed.addEventListener('change', look);
        look();
      }),
  };
}
