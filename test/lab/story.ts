/**
 * The story of the lab, scene by scene: the partner trusts one address, and
 * everything leaves by it. Read this file first; cast.ts says who plays,
 * topology.ts where everybody is.
 */
import { equal, notEqual, ok } from 'node:assert/strict';
import { sumOf } from '../support/prometheus.ts';
import { type Cast, ECO, POOL_IDLE_MS, PROXY_NAME } from './cast.ts';
import { relayOf, seenBy } from './curl.ts';
import type { Scene } from './narrate.ts';
import { startTraffic } from './traffic.ts';
import { addressOf, ELSEWHERE, SERVICE, TRUSTED } from './topology.ts';
import { until } from './until.ts';

/** Bytes of a download that takes its time. */
const DOWNLOAD = 100_000_000;

/** In this order, because each begins where the one before ended: everything as it was at the start. */
export function tellStory(cast: Cast): Scene[] {
  return [goingStraight(cast), everyForm(cast), bothReplicas(cast), movingName(cast), dyingNode(cast)];
}

function goingStraight({ pods, dropped }: Cast): Scene {
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

/** How curl is told to use a proxy at `at` for each form: the path is always /api/status. */
function formsAt(at: string): Record<string, readonly string[]> {
  const steered = (host: string, port: number, to: number): string[] => ['--connect-to', `${host}:${port}:${at}:${to}`];
  return {
    'connect': ['--proxy', `http://${at}:3128`, `https://${ECO}/api/status`],
    'forward': ['--proxy', `http://${at}:3128`, `http://${ECO}/api/status`],
    'gateway': [`http://${at}:8080/eco/api/status`],
    'host-routed': [...steered(ECO, 80, 8080), `http://${ECO}/api/status`],
    'sni': [...steered(ECO, 443, 8443), `https://${ECO}/api/status`],
    'terminated': [...steered(PROXY_NAME, 8443, 8443), `https://${PROXY_NAME}:8443/eco/api/status`],
  };
}

function everyForm({ pods: [pod], nodes: [node] }: Cast): Scene {
  return {
    title: `Every form of request arrives from ${TRUSTED}`,
    play: async (step) => {
      for (const [form, args] of Object.entries(formsAt(node.address))) {
        await step(`${form}: curl ${brief(args)}`, async () => {
          const { sourceAddress } = seenBy(await pod.curl(...args));
          equal(sourceAddress, TRUSTED);
          return `ECO SIT saw ${sourceAddress}`;
        });
      }
    },
  };
}

function bothReplicas({ pods, nodes }: Cast): Scene {
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

function movingName({ pods: [pod], nodes: [node], answer }: Cast): Scene {
  const forms = formsAt(node.address);
  const ask = async (form: 'connect' | 'gateway'): Promise<{ upstream: unknown; code: unknown; status: number }> => {
    const from = node.mark();
    const { status, connectStatus } = await pod.curl(...(forms[form] ?? []));
    const line = await node.logged((entry) => entry['form'] === form, from);
    return { upstream: line['upstreamAddress'], code: line.code, status: status || connectStatus };
  };
  const reaches = (form: 'connect' | 'gateway', host: 'eco' | 'eco-new', pause?: number): Promise<string> =>
    until(
      `${form} goes to ${host}`,
      async () => {
        const { upstream, status } = await ask(form);
        equal(status, 200);
        equal(upstream, addressOf(host));
        return `200 from ${addressOf(host)}`;
      },
      { pause },
    );

  return {
    title: 'When the DNS answer moves, traffic follows, and the guard holds',
    play: async (step) => {
      for (const form of ['connect', 'gateway'] as const) await step(`${ECO} is ${addressOf('eco')}; ${form}`, () => reaches(form, 'eco'));
      await step(`it moves to ${addressOf('eco-new')}; connect`, () => {
        answer(ECO, addressOf('eco-new'));
        return reaches('connect', 'eco-new');
      });
      await step('gateway, after its pooled connection was idle and closed', () => reaches('gateway', 'eco-new', POOL_IDLE_MS + 500));
      for (const forbidden of ['169.254.169.254', addressOf('pod-2'), '203.0.113.21']) {
        await step(`it moves to ${forbidden}, which is not permitted`, () => {
          answer(ECO, forbidden);
          return until(`${forbidden} is refused`, async () => {
            const { code, status, upstream } = await ask('connect');
            equal(status, 403);
            equal(code, 'address-not-allowed');
            equal(upstream, '-', 'nothing was dialled');
            return `${status} address-not-allowed, nothing dialled`;
          });
        });
      }
      await step('it comes back', async () => {
        answer(ECO, addressOf('eco'));
        await reaches('connect', 'eco');
        return reaches('gateway', 'eco', POOL_IDLE_MS + 500);
      });
    },
  };
}

function dyingNode({ pods, nodes: [first, second], network, service }: Cast): Scene {
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

/** What matters of a curl command. */
function brief(args: readonly string[]): string {
  return args.join(' ').replaceAll(`${ECO}:`, 'eco:');
}
