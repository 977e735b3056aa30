/**
 * The lab: a cluster with two replicas of the proxy, a NAT and a partner that
 * trusts one address, in Linux network namespaces of its own.
 *
 *     npm run lab -- [--keep] [--only TEXT] [--required]
 */
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import { gatherCast } from './cast.ts';
import { leavingNothing, otherLabs } from './cleaning.ts';
import { takeSnapshot } from './host-network.ts';
import { sweepLeftovers } from './leftovers.ts';
import { createNarrator } from './narrate.ts';
import { findObstacle } from './obstacle.ts';
import { tellStory } from './story.ts';
import { SERVICE } from './topology.ts';

const { keep, only, required } = parseArgs({
  options: { keep: { type: 'boolean', default: false }, only: { type: 'string', default: '' }, required: { type: 'boolean', default: false } },
}).values;

const write = (text: string): void => void process.stdout.write(text);

const obstacle = findObstacle();
if (obstacle !== null) {
  write(`The lab was not built: ${obstacle}\n`);
  process.exit(required ? 1 : 0);
}
// Whatever ends this process takes the lab along: the exit event comes after signals and errors, too.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(128 + constants.signals[signal]));

const swept = sweepLeftovers();
if (swept.length > 0) write(`Removed ${swept.length} network namespaces of a lab that did not end well.\n`);
const before = takeSnapshot();
const began = performance.now();
const cast = await gatherCast();
process.on('exit', cast.close);
const namespace = cast.network.namespace('pod-1');
write(`${seconds(began)} s to build the lab: ${namespace.replace('pod-1', '*')}\n`);

const narrator = createNarrator({
  write,
  evidence: () => cast.nodes.map((node) => [`the log of ${node.name} ends:`, ...node.tail(4)].join('\n')).join('\n'),
});
await narrator.play([...tellStory(cast), otherLabs()].filter(({ title }) => title.toLowerCase().includes(only.toLowerCase())));
if (keep) {
  write(`\nThe lab stays until Ctrl-C. Look inside from another terminal, for instance:\n  ip netns exec ${namespace} curl -i http://${SERVICE}:8080/eco/api/status\n`);
  setInterval(() => {}, 1 << 30);
} else {
  cast.close();
  await narrator.play([leavingNothing(before)]);
  const { passed, failed } = narrator.outcome;
  write(`\n${seconds(began)} s in all\n${passed} passed, ${failed} failed\n`);
  process.exit(failed === 0 ? 0 : 1);
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
