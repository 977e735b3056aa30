/** The partner takes our address off its whitelist: nobody says so, and the proxies find out. */
import { equal, match } from 'node:assert/strict';
import { sumOf } from '../../support/prometheus.ts';
import { type Cast, ECO } from '../cast.ts';
import { readDoctor } from '../doctor.ts';
import type { Scene } from '../narrate.ts';
import { MAIN } from '../proxy-node.ts';
import { TRUSTED } from '../topology.ts';
import { until } from '../until.ts';

export function lostWhitelist({ network, pods, nodes: [node], trust }: Cast): Scene {
  const [pod] = pods;
  const doctor = () => node.command('doctor', ['--json']);
  /** Sees the proxy's answer, and not why. */
  const podDoctor = () => network.exec(pod.name, [process.execPath, MAIN, 'doctor', '--json', '--client', '--only', 'way', '--proxy', `http://${node.address}:3128`, '--target', `https://${ECO}`]);
  const suspected = async (): Promise<number> => sumOf(await node.scrape(), 'eco_egress_whitelist_suspect', { destination: 'eco-sit' });
  const call = async (): Promise<number> => {
    const statuses = await Promise.all(pods.map((pod) => pod.curl('--proxy', `http://${node.address}:3128`, `https://${ECO}/api/status`)));
    return Math.max(...statuses.map(({ connectStatus }) => connectStatus));
  };

  return {
    title: 'The partner takes our address off its whitelist',
    play: async (step) => {
      try {
        await step('all is well', async () => {
          equal(await call(), 200);
          equal(await suspected(), 0);
          readDoctor(await doctor());
          return 'connect is answered 200, whitelist_suspect 0, doctor exits 0';
        });
        const from = node.mark();
        await step(`the partner drops ${TRUSTED}; pods go on asking`, async () => {
          await trust();
          equal(await call(), 504);
          return 'connect is answered 504, no packet comes back';
        });
        await step(`${node.name}: eco-egress doctor`, async () => {
          const found = readDoctor(await doctor(), 'tcp connect-timeout');
          const cause = found.find(({ code }) => code === 'partner-silent')?.seen ?? '';
          match(cause, /^whitelist: /);
          return `exit 1, tcp connect-timeout; ${cause}`;
        });
        await step(`${pod.name}: eco-egress doctor --client`, async () => {
          const [found] = readDoctor(await podDoctor(), 'way connect-timeout');
          return `exit 1, way connect-timeout: ${found?.seen ?? ''}`;
        });
        await step('the proxy names the likely cause', async () => {
          await until(
            'it is suspected',
            async () => {
              await call();
              equal(await suspected(), 1);
            },
            { patience: 60_000 },
          );
          const line = await node.logged(({ cause }) => cause === 'whitelist', from);
          equal(line['destination'], 'eco-sit');
          return `whitelist_suspect 1; the log: ${line.msg ?? ''}`;
        });
        await step(`the partner trusts ${TRUSTED} again`, async () => {
          await trust(TRUSTED);
          return await until('it is no longer suspected', async () => {
            equal(await call(), 200);
            equal(await suspected(), 0);
            return 'connect is answered 200, whitelist_suspect 0';
          });
        });
      } finally {
        await trust(TRUSTED);
      }
    },
  };
}
