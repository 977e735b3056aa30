/** A proxy is ended in order and started again, as in a rolling update, and nobody notices. */
import { deepEqual, equal, ok } from 'node:assert/strict';
import type { Cast } from '../cast.ts';
import type { Scene } from '../narrate.ts';
import { SERVICE } from '../topology.ts';
import { startTraffic } from '../traffic.ts';
import { until } from '../until.ts';

/** An answer that outlasts the beginning of the end. */
const SLOW_MS = 4000;

export function updatedNode({ pods, nodes: [first, second], service }: Cast): Scene {
  return {
    title: 'A proxy is updated while it is in use',
    play: async (step) => {
      const slow = pods[0].curl(`http://${first.address}:8080/eco/slow/${SLOW_MS}`);
      await until('the slow request is under way', async () => { ok(await first.isBusy()); });
      const traffic = startTraffic(pods, `http://${SERVICE}:8080/eco/api/status`);
      try {
        await step(`both pods ask the Service without a pause, ${pods[0].name} waits for an answer through ${first.name}`, () => traffic.throughAll());
        await step(`${first.name}'s proxy is told to end`, async () => {
          const from = service.lines.length;
          const ended = first.stop();
          await service.line((line) => line === `ready: ${second.address}`, { from });
          equal((await slow).status, 200);
          equal(await ended, 0);
          return 'the Service leads to the other, the answer comes whole, exit 0';
        });
        await step('it is started again', async () => {
          const from = service.lines.length;
          await first.start();
          await service.line((line) => line.includes(first.address), { from });
          return traffic.throughAll();
        });
        await traffic.stop();
        await step('what the pods noticed', () => {
          deepEqual(traffic.calls.filter(({ tries, relay }) => tries > 1 || relay === null), []);
          return `nothing: all ${traffic.calls.length} calls were answered at the first try`;
        });
      } finally {
        await traffic.stop();
      }
    },
  };
}
