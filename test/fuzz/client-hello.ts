/**
 * A million ClientHellos for the reader: `npm run fuzz`, or with `-- --runs N
 * --seed S --from I` others of them. Without a seed each day has its own, so
 * that not the same million is tried again and again.
 */
import { parseArgs } from 'node:util';
import { fuzzReader } from '../support/hello-fuzz.ts';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '1000000' }, seed: { type: 'string' }, from: { type: 'string', default: '0' } } });
const seed = Number(values.seed ?? Math.floor(Date.now() / 86_400_000));
const runs = Number(values.runs);
const from = Number(values.from);

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

say(`seed ${seed}: ${runs} ClientHellos`);
const started = performance.now();
const { verdicts, bytes, mostHeld, slowest, grown } = fuzzReader({ seed, runs, from });
const seconds = (performance.now() - started) / 1000;
say([...verdicts].map(([kind, count]) => `${kind} ${count}`).join(', '));
say(`${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s; at most ${mostHeld} bytes held, ${slowest.toFixed(1)} ms for the slowest, ${grown} bytes more in use at the end`);
if (grown > 4 * 1024 * 1024) throw new Error(`the reader leaks: ${grown} bytes more in use at the end`);
