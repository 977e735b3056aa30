/**
 * More inputs than a test has time for: npm run fuzz
 *   a million ClientHellos for their reader,
 *   100,000 connections through a whole proxy whose every partner is spoiled,
 *   10,000 conversations said to the proxy and to Node's strict server alike.
 * Options: --help
 */
import { readCount, readNumber, readOptions, refuse } from '../support/command-line.ts';
import { fuzzReader } from '../support/hello-fuzz.ts';
import { differ } from './differ.ts';
import { fuzzProxy } from './proxy.ts';

const PARTS = { hellos: 1_000_000, proxy: 100_000, differ: 10_000 } as const;
const AT_ONCE = 200;

const USAGE = `npm run fuzz -- [--only PART,…] [--seed S] [--from I] [--runs N] [--minutes N] [--at-once N]
  --only PART,…  of ${Object.keys(PARTS).join(', ')}; all by default
  --seed S       repeats a run that had this seed; without it, each run has its own and prints it
  --from I       the first case of the run
  --runs N       cases of each part; ${Object.entries(PARTS).map(([part, runs]) => `${runs} ${part}`).join(', ')} by default
  --minutes N    how long proxy and differ may take, each; 30 by default
  --at-once N    connections of the part proxy; ${AT_ONCE} by default
`;
const values = readOptions(
  {
    only: { type: 'string', default: Object.keys(PARTS).join(',') },
    runs: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    from: { type: 'string', default: '0' },
    minutes: { type: 'string', default: '30' },
    'at-once': { type: 'string', default: String(AT_ONCE) },
  },
  USAGE,
);
const seed = readCount('--seed', values.seed, USAGE, 0);
const from = readCount('--from', values.from, USAGE, 0);
const runs = values.runs === undefined ? undefined : readCount('--runs', values.runs, USAGE, 1);
const within = readNumber('--minutes', values.minutes, USAGE, 0) * 60_000;
const atOnce = readCount('--at-once', values['at-once'], USAGE, 1);
const only = values.only.split(',');
for (const part of only) if (!Object.hasOwn(PARTS, part)) refuse(`--only ${part}: not found. There are ${Object.keys(PARTS).join(', ')}`, USAGE);

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const runsOf = (part: keyof typeof PARTS): number => runs ?? PARTS[part];

/** Says what was found and how to see it again; the process fails then. */
function conclude(part: keyof typeof PARTS, findings: readonly string[]): void {
  for (const finding of findings.slice(0, 50)) {
    const number = /^case (\d+)/.exec(finding)?.[1];
    say(`FOUND: ${finding}${number === undefined ? '' : `\n  npm run fuzz -- --only ${part} --seed ${seed} --from ${number} --runs 1`}`);
  }
  if (findings.length > 50) say(`and ${findings.length - 50} more`);
  if (findings.length > 0) process.exitCode = 1;
}

if (only.includes('hellos')) {
  say(`seed ${seed}: ${runsOf('hellos')} ClientHellos`);
  const started = performance.now();
  const { verdicts, bytes, mostHeld, slowest, grown } = fuzzReader({ seed, runs: runsOf('hellos'), from });
  const seconds = (performance.now() - started) / 1000;
  say([...verdicts].map(([kind, count]) => `${kind} ${count}`).join(', '));
  say(`${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s; at most ${mostHeld} bytes held, ${slowest.toFixed(1)} ms for the slowest, ${grown} bytes more in use at the end`);
  if (grown > 4 * 1024 * 1024) throw new Error(`the reader leaks: ${grown} bytes more in use at the end`);
}

if (only.includes('proxy')) {
  say(`seed ${seed}: ${runsOf('proxy')} connections through a whole proxy`);
  const { done, kinds, findings } = await fuzzProxy({ seed, from, connections: runsOf('proxy'), within, atOnce, say });
  say(`${done} done: ${[...kinds].map(([kind, count]) => `${kind} ${count}`).join(', ')}; ${findings.length} findings`);
  conclude('proxy', findings);
}

if (only.includes('differ')) {
  say(`seed ${seed}: ${runsOf('differ')} conversations, with the proxy and with a strict server`);
  const { done, agreed, findings } = await differ({ seed, from, cases: runsOf('differ'), within, say });
  say(`${done} done, ${agreed} requests taken alike; ${findings.length} findings`);
  conclude('differ', findings);
}

// Node's own clean-up at a natural end waits for ever, after so many connections, for a handle that does not close.
process.exit();
