/** A node loses its power while its proxy is in use, and comes back. */
import { equal, notEqual, ok } from 'node:assert/strict';
import type { Cast } from '../cast.ts';
import type { Scene } from '../narrate.ts';
import { SERVICE } from '../topology.ts';
import { startTraffic } from '../traffic.ts';
import { until } from '../until.ts';

/** Bytes of a download that takes its time. */
const DOWNLOAD = 100_000_000;

export function dyingNode({ pods, nodes: [first, second], network, service }: Cast): Scene {
  return {
    title: 'A node dies while it is in use',
    play: async (step) => {
      // A client that gives up when nothing comes for two seconds.
      const download = pods[0].curl('--limit-rate', '1M', '--speed-time', '2', '--speed-limit', '1', '--max-time', '60', '--output', '/dev/null', `http://${first.address}:8080/eco/bytes/${DOWNLOAD}`);
      await until('the download is under way', async () => { ok(await first.isBusy()); });
      const traffic = startTraffic(pods, `http://${SERVICE}:8080/eco/api/status`);
      try {
        await step(`both pods ask the Service without a pause, ${pods[0].name} has a download from ${first.name}`, () => traffic.throughAll());
        const alive = traffic.calls.length;
        await step(`${first.name} loses its power`, async () => {
          const from = service.lines.length;
          await network.plug(first.name, 'down');
          await first.kill();
          return service.line((line) => line === `ready: ${second.address}`, { from });
        });
        await step('the download', async () => {
          const { exit, received, error } = await download;
          ok(received > 0 && received < DOWNLOAD, 'some of it came');
          notEqual(exit, 0, 'a broken transfer must not look whole');
          return `curl has ${received} of ${DOWNLOAD} bytes, and says: ${error}`;
        });
        await step('clients that try again', async () => {
          const since = traffic.calls.length;
          await until('twenty calls are over', () => { ok(traffic.calls.length >= since + 20); });
          const hit = traffic.calls.slice(alive);
          equal(hit.filter(({ relay }) => relay === null).length, 0, 'no call failed for good');
          // Those that were under way a moment ago may have begun before.
          equal(traffic.relaysSince(since + pods.length).join(), second.name);
          return `all ${hit.length} calls ended well, ${hit.filter(({ tries }) => tries > 1).length} of them at a later try; the last ones through ${second.name}`;
        });
        await step(`${first.name} comes back`, async () => {
          const from = service.lines.length;
          await network.plug(first.name, 'up');
          await first.start();
          await service.line((line) => line.includes(first.address), { from });
          return traffic.throughAll();
        });
      } finally {
        await traffic.stop();
      }
    },
  };
}
