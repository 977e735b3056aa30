/** The NAT has few ports, and clients want more: without a budget connections vanish, with one the proxy says so. */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { sumOf } from '../../support/prometheus.ts';
import type { TunnelAnswer } from '../actors/tunnels.ts';
import { type Cast, ECO } from '../cast.ts';
import type { Scene } from '../narrate.ts';
import type { ProxyNode } from '../proxy-node.ts';
import { PORTS_PER_NODE } from '../topology.ts';
import { startTraffic } from '../traffic.ts';
import { until } from '../until.ts';

/** Tunnels that are asked for, and how many ports a budget gives for them. */
const WANTED = PORTS_PER_NODE + 4;
const BUDGET = PORTS_PER_NODE - 4;

export function uncountedPorts(cast: Cast): Scene {
  const { pods: [pod, other], nodes: [node] } = cast;
  return {
    title: `The NAT has ${PORTS_PER_NODE} ports for a node, and nobody counts them`,
    play: async (step) => {
      const tunnels = holdTunnels(cast);
      try {
        await step(`${pod.name} opens ${WANTED} tunnels through ${node.name} and keeps them`, async () => {
          const { opened, refused } = await tunnels.open();
          ok(opened.length <= PORTS_PER_NODE);
          deepEqual(kindsOf(refused), ['504 connection_timeout, no Retry-After']);
          return `${opened.length} are open; for ${refused.length} the packets vanish, 504 after ${Math.min(...refused.map(({ ms }) => ms))} ms or more`;
        });
        await step(`${other.name} asks once, through the gateway`, async () => {
          const { status } = await other.curl(gatewayOf(node));
          equal(status, 504);
          return `${status} too: who comes late has nothing`;
        });
      } finally {
        await tunnels.end();
      }
    },
  };
}

/** Of one client that opens tunnels: four times what it leaves free. */
const SHARE = (BUDGET * 4) / 5;
/** The gateway's own connection, which is in nobody's share. */
const POOLED = 1;

export function countedPorts(cast: Cast): Scene {
  const { pods: [pod, other], nodes: [node] } = cast;
  return {
    title: `The proxy counts the NAT's ports: nat.ports ${BUDGET}`,
    play: async (step) => {
      const tunnels = holdTunnels(cast);
      await node.reload({ nat: { ports: BUDGET, timeWait: '2s' } });
      await until('ports of earlier scenes are free', async () => { ok((await readPorts(node)).used <= 1); });
      const traffic = startTraffic([other], gatewayOf(node));
      try {
        await until('the gateway answers', () => { ok(traffic.calls.length > 0); });
        const earlier = traffic.calls.length;
        const refusedEarlier = (await readPorts(node)).refused;
        await step(`${pod.name} opens ${WANTED} tunnels through ${node.name} and keeps them`, async () => {
          const { opened, refused } = await tunnels.open();
          deepEqual(kindsOf(refused), ['503 connection_limit_reached, Retry-After']);
          const counted = await readPorts(node);
          deepEqual(counted, { used: SHARE + POOLED, limit: BUDGET, refused: refusedEarlier + refused.length });
          return `${opened.length} are open; ${refused.length} are answered 503 connection_limit_reached with Retry-After, the slowest in ${Math.max(...refused.map(({ ms }) => ms))} ms`;
        });
        await step(`${other.name} asks through the gateway all the while`, async () => {
          const since = traffic.calls.length;
          await until('ten more calls are over', () => { ok(traffic.calls.length >= since + 10); });
          const calls = traffic.calls.slice(earlier);
          equal(calls.filter(({ tries, relay }) => tries > 1 || relay === null).length, 0);
          return `all ${calls.length} calls are answered, by the pooled connection`;
        });
        await step('the tunnels end', async () => {
          await tunnels.end();
          await until('their ports are free', async () => { ok((await readPorts(node)).used <= 1); });
          return `nat_ports_used goes from ${SHARE + POOLED} to ${POOLED}`;
        });
      } finally {
        await tunnels.end();
        await traffic.stop();
        await node.reload({ nat: {} });
      }
    },
  };
}

interface HeldTunnels {
  /** Asks for all, one after another. */
  readonly open: () => Promise<{ opened: readonly TunnelAnswer[]; refused: readonly TunnelAnswer[] }>;
  readonly end: () => Promise<void>;
}

function holdTunnels({ pods: [pod], nodes: [node], act }: Cast): HeldTunnels {
  let end = async (): Promise<void> => {};
  return {
    open: async () => {
      const client = act(pod.name, 'tunnels', node.address, '3128', `${ECO}:443`, String(WANTED));
      end = async () => {
        await client.end('SIGKILL');
      };
      await client.line((line) => line === 'done', { patience: 30_000 });
      const answers = client.lines.slice(0, WANTED).map((line) => JSON.parse(line) as TunnelAnswer);
      return { opened: answers.filter(({ status }) => status === 200), refused: answers.filter(({ status }) => status !== 200) };
    },
    end: () => end(),
  };
}

function gatewayOf({ address }: ProxyNode): string {
  return `http://${address}:8080/eco/api/status`;
}

/** What the proxy counts, by its metrics. */
async function readPorts(node: ProxyNode): Promise<{ used: number; limit: number; refused: number }> {
  const scrape = await node.scrape();
  const destination = 'eco-sit';
  return {
    used: sumOf(scrape, 'eco_egress_nat_ports_used', { destination }),
    limit: sumOf(scrape, 'eco_egress_nat_ports_limit'),
    refused: sumOf(scrape, 'eco_egress_nat_ports_refused_total', { destination }),
  };
}

/** What came back, each kind once. */
function kindsOf(answers: readonly TunnelAnswer[]): string[] {
  return [...new Set(answers.map(({ status, code, retryAfter }) => `${status} ${code ?? '-'}, ${retryAfter === null ? 'no ' : ''}Retry-After`))];
}
