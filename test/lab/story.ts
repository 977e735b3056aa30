/**
 * The story of the lab: its scenes in order, because each begins where the one
 * before ended, with everything as it was at the start. cast.ts says who
 * plays, topology.ts where everybody is.
 */
import type { Cast } from './cast.ts';
import type { Scene } from './narrate.ts';
import { otherLabs } from './scenes/cleaning.ts';
import { dyingNode } from './scenes/dying-node.ts';
import { lostWhitelist } from './scenes/lost-whitelist.ts';
import { movingName } from './scenes/moving-name.ts';
import { bothReplicas, everyForm, goingStraight } from './scenes/one-address.ts';
import { countedPorts, uncountedPorts } from './scenes/scarce-ports.ts';
import { updatedNode } from './scenes/updated-node.ts';
import { wrongAddress } from './scenes/wrong-address.ts';

export function tellStory(cast: Cast): Scene[] {
  return [
    goingStraight(cast),
    everyForm(cast),
    bothReplicas(cast),
    wrongAddress(cast),
    lostWhitelist(cast),
    movingName(cast),
    uncountedPorts(cast),
    countedPorts(cast),
    updatedNode(cast),
    dyingNode(cast),
    otherLabs(),
  ];
}
