/** What it is all for: pods that call straight are dropped, and everything that a proxy sends arrives from the trusted address. */
import { equal } from 'node:assert/strict';
import { type Cast, ECO } from '../cast.ts';
import { relayOf, seenBy } from '../curl.ts';
import { formsAt } from '../forms.ts';
import type { Scene } from '../narrate.ts';
import { addressOf, ELSEWHERE, SERVICE, TRUSTED } from '../topology.ts';

export function goingStraight({ pods, dropped }: Cast): Scene {
  return {
    title: 'A pod that calls the partner itself is dropped',
    play: async (step) => {
      for (const pod of pods) {
        await step(`${pod.name} calls https://${ECO} with no proxy`, async () => {
          const answer = await pod.curl('--connect-timeout', '1', '--resolve', `${ECO}:443:${addressOf('eco')}`, `https://${ECO}/api/status`);
          equal(answer.exit, 28, 'curl ran out of time');
          return answer.error;
        });
      }
      await step('the partner looks at what its firewall dropped', async () => {
        const sources = await dropped();
        equal(sources.join(), ELSEWHERE);
        return `calls from ${ELSEWHERE}, where the pods leave the cluster`;
      });
    },
  };
}

export function everyForm({ pods: [pod], nodes: [node] }: Cast): Scene {
  return {
    title: `Every form of request arrives from ${TRUSTED}`,
    play: async (step) => {
      for (const [form, args] of Object.entries(formsAt(node.address))) {
        await step(`${form}: curl ${args.join(' ')}`, async () => {
          const { sourceAddress } = seenBy(await pod.curl(...args));
          equal(sourceAddress, TRUSTED);
          return `ECO SIT saw ${sourceAddress}`;
        });
      }
    },
  };
}

export function bothReplicas({ pods, nodes }: Cast): Scene {
  return {
    title: 'So does every replica',
    play: async (step) => {
      for (const node of nodes) {
        await step(`${pods[1].name} asks ${node.name} in every form`, async () => {
          const answers = await Promise.all(Object.values(formsAt(node.address)).map((args) => pods[1].curl(...args)));
          for (const answer of answers) equal(seenBy(answer).sourceAddress, TRUSTED);
          return `${answers.length} times ${TRUSTED}`;
        });
      }
      await step(`both pods ask the Service at ${SERVICE}`, async () => {
        const answers = await Promise.all(pods.flatMap((pod) => [1, 2, 3].map(() => pod.curl(`http://${SERVICE}:8080/eco/api/status`))));
        const seen = answers.map(seenBy);
        for (const { sourceAddress } of seen) equal(sourceAddress, TRUSTED);
        const relays = new Set(seen.map(relayOf));
        equal(relays.size, nodes.length);
        return `${seen.length} times ${TRUSTED}, through ${[...relays].toSorted().join(' and ')}`;
      });
    },
  };
}
