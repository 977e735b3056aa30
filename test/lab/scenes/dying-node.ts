/** A node loses its power while its proxy is in use, and comes back. */
import { equal, notEqual, ok } from 'node:assert/strict';
import { sumOf } from '../../support/prometheus.ts';
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
      const traffic = startTraffic(pods, `http://${SERVICE}:8080/eco/api/status`);
      try {
        await step('both pods ask the Service without a pause', async () => {
          await until('both nodes answer', () => { equal(traffic.relaysSince(0).join(), 'node-1,node-2'); });
          return 'answers through node-1 and node-2';
        });
        let dead = 0;
        await step(`${first.name} loses its power in the middle of a download`, async () => {
          const download = pods[0].curl('--max-time', '3', '--limit-rate', '1M', '--output', '/dev/null', `http://${first.address}:8080/eco/bytes/${DOWNLOAD}`);
          await until('the download is under way', async () => {
            ok(sumOf(await first.scrape(), 'eco_egress_upstream_connections', { state: 'active' }) > 0);
          });
          dead = traffic.calls.length;
          await network.plug(first.name, 'down');
          await first.kill();
          const { exit, received, error } = await download;
          ok(received > 0 && received < DOWNLOAD, 'some of it came');
          notEqual(exit, 0, 'a broken transfer must not look whole');
          return error;
        });
        await step('the Service finds out', () => service.line((line) => line === `ready: ${second.address}`));
        await step('clients that try again', async () => {
          const since = traffic.calls.length;
          await until('twenty calls are over', () => { ok(traffic.calls.length >= since + 20); });
          const hit = traffic.calls.slice(dead);
          equal(hit.filter(({ relay }) => relay === null).length, 0, 'no call failed for good');
          equal(traffic.relaysSince(since).join(), second.name);
          return `all ${hit.length} calls ended well, ${hit.filter(({ tries }) => tries > 1).length} of them at a later try; the last 20 through ${second.name}`;
        });
        await step(`${first.name} comes back`, async () => {
          const from = service.lines.length;
          await network.plug(first.name, 'up');
          await first.start();
          await service.line((line) => line.includes(first.address), { from });
          const since = traffic.calls.length;
          await until('both nodes answer', () => { equal(traffic.relaysSince(since).join(), 'node-1,node-2'); });
          return 'answers through node-1 and node-2';
        });
      } finally {
        await traffic.stop();
      }
    },
  };
}
