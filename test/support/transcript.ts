/** Replays the commands of a page in one shell, as an operator types them, and writes what they print the way the page has it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Shell {
  /** Runs one command after the other ones, in the same shell: variables, jobs and `$?` stay. Returns its standard output and error as they came. */
  run(command: string): Promise<string>;
  /** Ends the shell and what it started. */
  close(): Promise<void>;
}

/** Ends what a command printed; no program prints it. */
const MARK = '\u0001end of command\u0001';

/** @param cwd where it starts; the environment is the given one alone */
export function openShell(cwd: string, env: Readonly<Record<string, string>>): Shell {
  // A group of its own, so that background jobs end with it.
  const child = spawn('bash', ['--noprofile', '--norc'], { cwd, env, stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  const ended = once(child, 'close');
  let output = '';
  let wake = (): void => {};
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    wake();
  });
  void ended.then(() => {
    wake();
  });
  child.stdin.write('exec 2>&1\n');
  return {
    run: async (command) => {
      output = '';
      // `$?` is for the next command to ask.
      child.stdin.write(`${command}\n{ _code=$?; printf '%s' '${MARK}'; (exit $_code); }\n`);
      while (!output.endsWith(MARK)) {
        if (child.exitCode !== null) throw new Error(`the shell ended at: ${command}\n${output}`);
        await new Promise<void>((resolve) => (wake = resolve));
      }
      return output.slice(0, -MARK.length);
    },
    close: async () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch (error) {
        // All of it has ended by itself.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
      await ended;
    },
  };
}

/** Values that differ from run to run, and what a page has instead. */
export interface Varying {
  readonly pattern: RegExp;
  /** By order of appearance: the same value is the same text everywhere, two values are two texts. A single text stands for all. */
  readonly shown: string | readonly string[];
}

/** Returns a function that replaces what varies; it remembers which value became which text. */
export function createCanon(varying: readonly Varying[]): (text: string) => string {
  const seen = varying.map(() => new Map<string, string>());
  return (text) =>
    varying.reduce((rest, { pattern, shown }, index) => rest.replace(pattern, (value) => {
      if (typeof shown === 'string') return shown;
      const names = seen[index] ?? new Map<string, string>();
      const known = names.get(value) ?? shown[names.size];
      if (known === undefined) throw new Error(`more than ${shown.length} values fit ${String(pattern)}: ${value}`);
      names.set(value, known);
      return known;
    }), text);
}

/** A command with its output as a `console` block has it. */
export function formatCommand(command: string, output: string): string {
  const lines = output.split('\n').map((line) => line.trimEnd());
  while (lines.at(-1) === '') lines.pop();
  return [`$ ${command}`, ...lines].join('\n');
}
