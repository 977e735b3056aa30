/**
 * Measures eco-egress beside other proxies, on this machine: npm run bench
 * Starts each contender on loopback, drives the same work through it, prints
 * the table, and keeps the results in bench/results. Options: --help
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare, type Comparison, type Means } from './compare.ts';
import type { Contender } from './contenders/contender.ts';
import { CONTENDERS } from './contenders/list.ts';
import { buildLoad } from './load/build.ts';
import { startDistant, startUpstream } from './load/upstream.ts';
import { compareSafeguards, SAFEGUARDED } from './safeguards.ts';
import { choose, parseOptions, USAGE, type Options } from './options.ts';
import { comparePartners } from './partners.ts';
import { profileWorks } from './profile.ts';
import { formatDetails, formatSummary, replaceMeasured } from './report/report.ts';
import { describe, loadResults, saveResults, type Results } from './report/results.ts';
import { refuse } from '../test/support/command-line.ts';
import { WORKS, type Work } from './works.ts';

/** One way to the distant upstream: 20 ms there and back, a partner in the same part of the world. */
const DISTANCE_MS = 10;
const PAGE = join(import.meta.dirname, '../docs/performance.md');
const RESULTS = join(import.meta.dirname, 'results');
const DETAILS = join(RESULTS, 'published.md');

// So that the programs that were started end with this one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
try {
  await run(readOptions());
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

function readOptions(): Options {
  try {
    return parseOptions(process.argv.slice(2));
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error), USAGE);
  }
}

async function run(options: Options): Promise<void> {
  if (options.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (options.partners) {
    process.stdout.write(`${await comparePartners(options.contenders.length === 0 ? {} : { contenders: options.contenders })}\n`);
    return;
  }
  if (options.safeguards) {
    await withMeans(options, async (means) => { process.stdout.write(`${await compareSafeguards(choose(WORKS, options.only.length === 0 ? SAFEGUARDED : options.only, 'work'), means)}\n`); });
    return;
  }
  const works = choose(WORKS, options.only, 'work').filter(({ long, name }) => !long || options.long || options.only.includes(name));
  if (options.from.length > 0) report(loadResults(options.from), options);
  else if (options.profile) await withMeans(options, async (means) => { process.stdout.write(await profileWorks(works, means)); });
  else await withMeans(options, (means) => measure(works, options, means));
}

async function measure(works: readonly Work[], options: Options, means: Means): Promise<void> {
  const chosen = choose(CONTENDERS, options.contenders, 'contender');
  installNpmPeers(chosen);
  const contenders = chosen.filter((contender) => {
    const there = contender.version() !== null;
    if (!there) process.stderr.write(`${contender.name} is not installed and left out: see bench/install-peers.sh\n`);
    return there;
  });
  const description = describe(contenders, { ...options, when: new Date() });
  const comparisons: Comparison[] = [];
  const results: Results = { ...description, comparisons };
  let file = '';
  for (const work of works) {
    comparisons.push(...(await compare(work, work.oursOnly ? contenders.filter(({ name }) => name === 'ours') : contenders, means)));
    // After each: a run that ends early has taken an hour of the machine too.
    file = saveResults(results, options.out ?? RESULTS);
  }
  report(results, options);
  process.stderr.write(`\nResults: ${file}\n`);
}

function report(results: Results, { writeDocs }: Options): void {
  const [summary, details] = [formatSummary(results), formatDetails(results)];
  process.stdout.write(`${details}\n\n${summary}\n`);
  if (!writeDocs) return;
  for (const [page, text] of [[PAGE, summary], [DETAILS, details]] as const) writeFileSync(page, replaceMeasured(readFileSync(page, 'utf8'), text));
  // What the pages say, as figures: kept with them, where other results are not.
  saveResults(results, RESULTS, 'published.json');
}

/** With a directory, the load generator and an upstream, for as long as `use` runs. */
async function withMeans({ runs, scale, warmUp }: Options, use: (means: Means) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-bench-'));
  process.once('exit', () => { rmSync(directory, { recursive: true, force: true, maxRetries: 3 }); });
  const built = buildLoad(directory);
  const upstream = await startUpstream(built.upstream, directory);
  const distant = await startDistant(built.relay, upstream, DISTANCE_MS);
  try {
    await use({ built, upstream, distant, directory, runs, scale, warmUp, say: (text) => process.stderr.write(`${text}\n`) });
  } finally {
    await distant.close();
    await upstream.close();
  }
}

/** Those from npm have a package.json of their own: nobody who only uses eco-egress installs them. */
function installNpmPeers(chosen: readonly Contender[]): void {
  if (!chosen.some(({ fromNpm }) => fromNpm) || existsSync(join(import.meta.dirname, 'node_modules'))) return;
  process.stderr.write('Installing the contenders from npm in bench/\n');
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: import.meta.dirname, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('npm ci in bench/ failed: run it there, or leave them out with --contenders ours,squid,tinyproxy,haproxy,nginx');
}
