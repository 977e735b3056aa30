/**
 * The lab: a cluster with two replicas of the proxy, a NAT and a partner that
 * trusts one address, in Linux network namespaces of its own. docs/lab.md
 */
import type { ParseArgsConfig } from 'node:util';
import { gatherCast } from './cast.ts';
import { chooseByName, leave, readOptions } from '../support/command-line.ts';
import { beginLab } from './command.ts';
import { takeSnapshot } from './host-network.ts';
import { removeLab } from './leftovers.ts';
import { createNarrator } from './narrate.ts';
import { findObstacle } from './obstacle.ts';
import { leavingNothing } from './scenes/cleaning.ts';
import { tellStory } from './story.ts';
import { SERVICE } from './topology.ts';

const USAGE = `npm run lab -- [--keep] [--only TEXT] [--empty] [--required]
  --keep       leave everything running after the story, until Ctrl-C
  --only TEXT  play only scenes with that in their title
  --empty      play no scene
  --required   where the lab cannot be built, fail instead of doing nothing
`;
const OPTIONS = {
  keep: { type: 'boolean', default: false },
  only: { type: 'string', default: '' },
  empty: { type: 'boolean', default: false },
  required: { type: 'boolean', default: false },
} as const satisfies ParseArgsConfig['options'];

const { keep, only, empty, required } = readOptions(OPTIONS, USAGE);
const obstacle = findObstacle();
if (obstacle !== null) leave(`The lab was not built: ${obstacle}\n`, required ? 1 : 0);

if (beginLab().length > 0) write('Removed what was left of a lab that did not end well.\n');
const before = takeSnapshot();
const began = performance.now();

const cast = await gatherCast();
const inPod = `ip netns exec ${cast.network.namespace('pod-1')}`;
write(`The lab is built, in ${seconds(began)} s. A look from inside: ${inPod} curl -i http://${SERVICE}:8080/eco/api/status\n`);
const narrator = createNarrator({
  write,
  evidence: () => cast.nodes.map((node) => [`the log of ${node.name} ends:`, ...node.tail(4)].join('\n')).join('\n'),
});
if (!empty) await narrator.play(chooseByName(tellStory(cast), only, ({ title }) => title, USAGE));

if (keep) {
  write('\nThe lab stays until Ctrl-C.\n');
  setInterval(() => {}, 1 << 30);
} else {
  removeLab(process.pid);
  await narrator.play([leavingNothing(before)]);
  const { passed, failed } = narrator.outcome;
  leave(`\n${seconds(began)} s in all\n${passed} passed, ${failed} failed\n`, failed === 0 ? 0 : 1);
}

function write(text: string): void {
  process.stdout.write(text);
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
