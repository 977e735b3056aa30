/**
 * The soak: a day's traffic, changes and failures in some minutes, through a
 * real process of the proxy; afterwards it holds no more than before.
 * docs/soak.md
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ParseArgsConfig } from 'node:util';
import { leave, readCount, readNumber, readOptions } from '../support/command-line.ts';
import type { Figure } from './quarters.ts';
import { runSoak } from './run-soak.ts';
import { formatDone, formatDrifts, formatSoak } from './table.ts';
import { createWorld } from './world.ts';

const USAGE = `npm run soak -- [--minutes N] [--quick] [--seed N] [--write] [--note TEXT]
  --minutes N  how long; 20 by default
  --quick      80 seconds, in which memory cannot be compared
  --seed N     of the random choices; 1 by default
  --write      write the figures into docs/soak.md
  --note TEXT  with --write: what else was to be said of the run
`;
const OPTIONS = {
  minutes: { type: 'string', default: '20' },
  quick: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  write: { type: 'boolean', default: false },
  note: { type: 'string', default: '' },
} as const satisfies ParseArgsConfig['options'];
const QUICK_SECONDS = 80;
/** In so short a time memory still grows to what it will be, and counts are those of few moments. */
const QUICK_FIGURES: readonly Figure[] = ['series'];
const FIGURES_THAT_COUNT: readonly Figure[] = ['heap', 'resident', 'descriptors', 'series'];
/** Of a quarter there are twenty and more. */
const COLLECTIONS = 100;

const { quick, write, note, ...numbers } = readOptions(OPTIONS, USAGE);
const seconds = quick ? QUICK_SECONDS : readNumber('--minutes', numbers.minutes, USAGE, 1) * 60;
const seed = readCount('--seed', numbers.seed, USAGE, 0);

const world = await createWorld();
const result = await runSoak(world, {
  seconds,
  collectEvery: (seconds * 1000) / COLLECTIONS,
  judged: quick ? QUICK_FIGURES : FIGURES_THAT_COUNT,
  seed,
  tell: (text) => { process.stdout.write(`${text}\n`); },
});
await world.close();
process.stdout.write(`\n${formatDrifts(result.drifts)}\n${formatDone([...result.works, ...result.events])}\n`);
if (write) {
  const page = new URL('../../docs/soak.md', import.meta.url);
  writeFileSync(page, readFileSync(page, 'utf8').replace(/(<!-- soak -->\n)[^]*(<!-- end of soak -->)/, (_all, begin: string, end: string) => `${begin}${formatSoak(result, note)}${end}`));
}
for (const problem of result.problems) process.stdout.write(`✗ ${problem}\n`);
leave(result.problems.length === 0 ? 'nothing has grown\n' : `${result.problems.length} problems\n`, result.problems.length === 0 ? 0 : 1);
