/** `eco-egress test`: runs the tests of a policy, by the code that decides on requests. Starts nothing, and looks nothing up. */
import { readdirSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Complain, ConfigFinding } from '../config/finding.ts';
import { loadConfig, type Loaded } from '../config/load.ts';
import { describeFileError, type ReadFile } from '../config/named-files.ts';
import { ReadFiles } from '../config/read-files.ts';
import {
  type ConfigCoverage,
  type FileResults,
  formatJunit,
  formatPercent,
  formatTap,
  formatTestJson,
  formatTestResults,
} from '../policy-tests/format-results.ts';
import { complainOfNames, type PolicyTests, readPolicyTests } from '../policy-tests/read-tests.ts';
import { measureCoverage, runPolicyTests } from '../policy-tests/run-tests.ts';
import { withIdleService } from '../service.ts';
import { type CommandIo, EXIT, misuse, replaceFile, untilSignal } from './io.ts';
import { tellFaults } from './open-config.ts';

/** Arguments of `test`, as written. */
export interface TestOptions {
  readonly json?: boolean;
  readonly tap?: boolean;
  /** File for the results in JUnit's XML, besides. */
  readonly junit?: string;
  readonly coverage?: boolean;
  /** Percent. */
  readonly minCoverage?: string;
  /** Again whenever a file changes, until a signal. */
  readonly watch?: boolean;
}

const TESTS_FILE = /\.test\.ya?ml$/;

/** Between two looks at the files, ms; a change counts once it is the same in two. */
const BETWEEN_LOOKS = 200;

/** Resolves to 0 when all tests pass, to 1 when one fails or too little is covered, to 2 for a faulty file or argument; with `watch` to that of the last run, once a signal ends it. */
export async function runTest(options: TestOptions, io: CommandIo, ...paths: string[]): Promise<number> {
  const least = options.minCoverage === undefined ? null : Number(options.minCoverage);
  if (least !== null && !(options.minCoverage?.trim() !== '' && least >= 0 && least <= 100))
    return misuse(io, `--min-coverage ${options.minCoverage ?? ''} is not a percentage: write a number from 0 to 100.`);
  if (options.json === true && options.tap === true) return misuse(io, '--json and --tap exclude each other: choose one.');
  const places = paths.length === 0 ? ['.'] : paths;
  const first = findFiles(places);
  if (typeof first === 'string') return misuse(io, first);
  const reads = new ReadFiles();
  const runFound = (files: string[] | string): Promise<number> =>
    typeof files === 'string' ? Promise.resolve(misuse(io, files)) : runFiles(files, { options, least, readFile: reads.read, io });
  return options.watch === true ? runWhenChanged(first, () => findFiles(places), reads, runFound, io) : runFound(first);
}

/** The first run, and another one whenever one of its files has changed, or there are others. */
async function runWhenChanged(
  first: string[],
  find: () => string[] | string,
  reads: ReadFiles,
  run: (files: string[] | string) => Promise<number>,
  io: CommandIo,
): Promise<number> {
  const stop = new AbortController();
  void untilSignal().then(() => {
    stop.abort();
  });
  let files: string[] | string = first;
  let lastLook = '';
  for (;;) {
    reads.begin();
    const code = await run(files);
    io.stderr.write(`\nWaiting for a change of ${reads.count === 1 ? 'one file' : `${reads.count} files`}; Ctrl-C ends.\n`);
    for (;;) {
      await delay(BETWEEN_LOOKS, undefined, { signal: stop.signal }).catch(() => {});
      if (stop.signal.aborted) return code;
      const found = find();
      const look = JSON.stringify(found);
      const others = look === lastLook && look !== JSON.stringify(files);
      lastLook = look;
      // Asked in any case: it compares this look with the one before.
      if (reads.changed() || others) {
        files = found;
        break;
      }
    }
    io.stderr.write('\n');
  }
}

interface TestRun {
  readonly options: TestOptions;
  /** Percent that has to be covered; null: any. */
  readonly least: number | null;
  readonly readFile: ReadFile;
  readonly io: CommandIo;
}

async function runFiles(files: readonly string[], { options, least, readFile, io }: TestRun): Promise<number> {
  const opened = files.map((file) => open(file, io, readFile));
  const faults = opened.flatMap((one) => ('faults' in one ? one.faults : []));
  const ready = opened.flatMap((one) => ('faults' in one ? [] : [one]));
  const all: FileResults[] = [];
  for (const { tests, loaded } of faults.length > 0 ? [] : ready) {
    const { results, asked } = await run(tests, loaded);
    faults.push(...asked);
    all.push({ file: tests.file, config: loaded.file, results });
  }
  if (faults.length > 0) return tellFaults(faults, io);

  const coverages = options.coverage === true || least !== null ? coverAll(ready, all) : [];
  const unwritten = options.junit === undefined ? null : writeJunit(options.junit, all);
  io.stdout.write(
    options.json === true
      ? formatTestJson(all, coverages)
      : options.tap === true
        ? formatTap(all)
        : formatTestResults(all, coverages, io.stdout),
  );
  if (unwritten !== null) return misuse(io, unwritten);
  const short = coverages.filter(({ total, touched }) => least !== null && touched * 100 < least * total);
  for (const coverage of short)
    io.stderr.write(`${coverage.config}: ${formatPercent(coverage)} % is less than --min-coverage ${String(least)}.\n`);
  return short.length > 0 || all.some(({ results }) => results.some(({ differences }) => differences.length > 0)) ? EXIT.failed : EXIT.ok;
}

/** @returns why it could not be written; null: it was */
function writeJunit(file: string, all: readonly FileResults[]): string | null {
  try {
    replaceFile(file, formatJunit(all));
    return null;
  } catch (error) {
    return `${file} cannot be written: ${describeFileError(error)}. Name another file with --junit.`;
  }
}

/** Files as they are named, and of a directory those below it that are called `*.test.yaml`; else what is wrong. */
function findFiles(paths: readonly string[]): string[] | string {
  const files: string[] = [];
  for (const path of paths) {
    try {
      const found = statSync(path).isDirectory() ? findTestFiles(path) : [path];
      if (found.length === 0) return `There is no file *.test.yaml in ${path} or below: name a file, or another directory.`;
      files.push(...found);
    } catch (error) {
      return `${path} cannot be read: ${describeFileError(error)}. Name a file of tests, or a directory with files *.test.yaml.`;
    }
  }
  return files;
}

/** Packages and hidden directories are left out. */
function findTestFiles(directory: string): string[] {
  const entries = readdirSync(directory, { withFileTypes: true }).toSorted((one, other) => (one.name < other.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return entry.name === 'node_modules' || entry.name.startsWith('.') ? [] : findTestFiles(path);
    return TESTS_FILE.test(entry.name) ? [path] : [];
  });
}

interface OpenedTests {
  readonly tests: PolicyTests;
  readonly loaded: Loaded;
}

function open(file: string, { env }: CommandIo, readFile: ReadFile): OpenedTests | { readonly faults: readonly ConfigFinding[] } {
  const reading = readPolicyTests(file, env, readFile);
  if (!reading.ok) return reading;
  const { tests } = reading;
  const config = isAbsolute(tests.config) ? tests.config : join(dirname(file), tests.config);
  const unreadable = tests.locate((complain) => {
    try {
      readFile(config);
    } catch (error) {
      complain(
        ['config'],
        `${config} cannot be read: ${describeFileError(error)}.`,
        'Name a configuration file by its path from the directory of this file.',
      );
    }
  });
  if (unreadable.length > 0) return { faults: unreadable };
  const loaded = loadConfig({ file: config, env: { ...env, ...tests.env }, policyOnly: true, readFile });
  if (!loaded.ok) return loaded;
  const faults = tests.locate((complain) => {
    complainOfNames(tests, loaded.config, complain);
  });
  return faults.length > 0 ? { faults } : { tests, loaded };
}

async function run(
  tests: PolicyTests,
  { config }: Loaded,
): Promise<Pick<FileResults, 'results'> & { readonly asked: readonly ConfigFinding[] }> {
  const complaints: Parameters<Complain>[] = [];
  const results = await withIdleService(config, ({ explainer }) =>
    runPolicyTests(
      tests,
      (request) => explainer.explain(request),
      (...complaint) => complaints.push(complaint),
    ),
  );
  return {
    results,
    asked: tests.locate((complain) => {
      for (const complaint of complaints) complain(...complaint);
    }),
  };
}

/** Of each configuration, by all tests of it. */
function coverAll(opened: readonly OpenedTests[], all: readonly FileResults[]): ConfigCoverage[] {
  const configs = new Map(opened.map(({ loaded }) => [loaded.file, loaded.config]));
  return [...configs].map(([file, config]) => ({
    config: file,
    ...measureCoverage(
      config,
      all.filter((one) => one.config === file).flatMap(({ results }) => results),
    ),
  }));
}
