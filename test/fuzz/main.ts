/**
 * More inputs than a test has time for: npm run fuzz
 *   a million ClientHellos for their reader,
 *   100,000 connections through a whole proxy whose every partner is spoiled,
 *   10,000 conversations said to the proxy and to Node's strict server alike.
 * Without a seed each run has its own, and says it. -- --only PART --seed S
 * --from I --runs N repeats a part of one: hellos, proxy or differ.
 */
import { parseArgs } from 'node:util';
import { fuzzReader } from '../support/hello-fuzz.ts';
import { differ } from './differ.ts';
import { fuzzProxy } from './proxy.ts';

const PARTS = { hellos: 1_000_000, proxy: 100_000, differ: 10_000 } as const;
const AT_ONCE = 200;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(PARTS).join(',') },
    runs: { type: 'string' },
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    /** For the proxy and for the comparison, each. */
    minutes: { type: 'string', default: '30' },
    'at-once': { type: 'string', default: String(AT_ONCE) },
  },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const from = Number(values.from);
const within = Number(values.minutes) * 60_000;
const only = values.only.split(',');

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const runsOf = (part: keyof typeof PARTS): number => Number(values.runs ?? PARTS[part]);

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
  const { done, kinds, findings } = await fuzzProxy({ seed, from, connections: runsOf('proxy'), within, atOnce: Number(values['at-once']), say });
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
