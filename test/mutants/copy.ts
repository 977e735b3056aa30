/**
 * A copy of the project in which tests run against a mutant. The files are
 * copied, not linked: nothing that a mutant or its tests write can reach the
 * project itself. Only node_modules is shared, by a link.
 */
import { spawn } from 'node:child_process';
import { closeSync, cpSync, mkdirSync, openSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Mutant, mutate } from './mutant.ts';

/** What tests do not need, or what the copy has of its own. */
const LEFT_OUT = new Set(['.git', '.tap', 'coverage', 'dist', 'node_modules']);
/** As in package.json, for the whole of one test file, s. */
const TEST_TIMEOUT = 120;
/** A file that does not even end by that is cut, ms. */
const LONGEST = (TEST_TIMEOUT + 30) * 1000;

/**
 * What came of a test file.
 * - `passed`: every assertion held.
 * - `failed`: an assertion did not, `title` says which.
 * - `timeout`: it did not come to its end in time.
 * - `broken`: it ended without a failed assertion, and not well: a syntax error, for example. `title` has the last words.
 */
export interface Outcome {
  readonly result: 'passed' | 'failed' | 'timeout' | 'broken';
  readonly title: string;
  readonly seconds: number;
}

/** Process groups of tests that run. */
const running = new Set<number>();

/** Ends the tests that run now, with all that they have started. */
export function killAll(): void {
  for (const group of running) killGroup(group);
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    // All of it has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export class Copy {
  readonly #root: string;
  readonly #directory: string;

  /**
   * @param root of the project
   * @param directory to be made; the caller removes it
   */
  constructor(root: string, directory: string) {
    this.#root = root;
    this.#directory = directory;
    mkdirSync(directory);
    for (const name of readdirSync(root)) if (!LEFT_OUT.has(name)) cpSync(join(root, name), join(directory, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  }

  /**
   * Runs a test file against the source as it is, or with a mutant in it.
   * @throws {StaleMutant} where the mutant does not fit its file
   */
  async run(test: string, mutant: Mutant | null): Promise<Outcome> {
    if (mutant === null) return this.#test(test);
    const place = join(this.#directory, mutant.file);
    const source = readFileSync(join(this.#root, mutant.file), 'utf8');
    writeFileSync(place, mutate(source, mutant));
    try {
      return await this.#test(test);
    } finally {
      writeFileSync(place, source);
    }
  }

  #test(test: string): Promise<Outcome> {
    const began = performance.now();
    const own = Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name));
    // Files take all that is written before the end; of a pipe the last part may be lost when a test ends at its first failure.
    const written = [join(this.#directory, '.tap-output'), join(this.#directory, '.tap-errors')] as const;
    const [output, errors] = [openSync(written[0], 'w'), openSync(written[1], 'w')];
    // A group of its own, so that what the test leaves behind can be ended with it.
    const child = spawn(process.execPath, [test], {
      cwd: this.#directory,
      detached: true,
      stdio: ['ignore', output, errors],
      env: { ...Object.fromEntries(own), TAP_BAIL: '1', TAP_TIMEOUT: String(TEST_TIMEOUT), NODE_COMPILE_CACHE: join(this.#directory, '.tap/compile') },
    });
    closeSync(output);
    closeSync(errors);
    const group = child.pid;
    if (group !== undefined) running.add(group);
    return new Promise((resolve, reject) => {
      let late = false;
      const deadline = setTimeout(() => {
        late = true;
        if (group !== undefined) killGroup(group);
      }, LONGEST);
      child.once('error', reject);
      child.once('exit', (code) => {
        clearTimeout(deadline);
        if (group !== undefined) {
          running.delete(group);
          killGroup(group);
        }
        const seconds = (performance.now() - began) / 1000;
        const [out, err] = written.map((path) => readFileSync(path, 'utf8'));
        resolve({ ...(late ? { result: 'timeout', title: `no end after ${LONGEST / 1000} s` } : judge(code, out ?? '', err ?? '')), seconds });
      });
    });
  }
}

/** @param code of the process; null: a signal ended it */
export function judge(code: number | null, output: string, errors: string): Pick<Outcome, 'result' | 'title'> {
  if (code === 0) return { result: 'passed', title: '' };
  const failures = [...output.matchAll(/^ *not ok(?: \d+)?(?: - )?(.*)$/gm)].map(([, title = '']) => title.replace(/ # time=.*$/, '').trim()).filter((title) => !/# (?:todo|skip)/i.test(title));
  const [first] = failures;
  if (first === undefined) return { result: 'broken', title: lastWords(errors === '' ? output : errors) };
  if (/^timeout!|\btimeout!$/.test(first)) return { result: 'timeout', title: first };
  // Names that are not there: the mutant is no program, and its test has proved nothing.
  if (/^Cannot find (?:module|package)|SyntaxError|does not provide an export| is not defined$/.test(first)) return { result: 'broken', title: first };
  return { result: 'failed', title: first };
}

function lastWords(text: string): string {
  return text.trim().split('\n').slice(-12).join('\n');
}
