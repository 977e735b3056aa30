/** The NAT gets an address that nobody trusts: the probe notices, and `verify-ip` says so to whoever asks. */
import { equal, match, ok } from 'node:assert/strict';
import { sumOf } from '../../support/prometheus.ts';
import type { Cast } from '../cast.ts';
import { readDoctor } from '../doctor.ts';
import type { Scene } from '../narrate.ts';
import { RENUMBERED, TRUSTED } from '../topology.ts';
import { until } from '../until.ts';

/** One may be under way when the address changes. Probes are counted, and not seconds: a machine without CPU makes both late. */
const MOST_PROBES = 2;

export function wrongAddress({ pods: [pod], nodes, leaveBy, dropped }: Cast): Scene {
  const [node] = nodes;
  const verify = async (exit: 0 | 1): Promise<string> => {
    const { code, stdout, stderr } = await node.command('verify-ip');
    equal(code, exit, stdout + stderr);
    const [said = ''] = stdout.split('\n');
    return `exit ${code}: ${said}`;
  };
  const probesOf = async (each: typeof node): Promise<number> => sumOf(await each.scrape(), 'eco_egress_source_ip_probes_total');
  /** Resolves when every node has learnt it, to how many probes that took. */
  const everyProbe = async (match: 0 | 1, change: () => Promise<void>): Promise<string> => {
    const known = await Promise.all(nodes.map(async (each) => ({ each, mark: each.mark(), probes: await probesOf(each) })));
    await change();
    const learnt = await Promise.all(
      known.map(async ({ each, mark, probes }) => {
        const { msg = '' } = await each.logged((line) => line.msg?.startsWith(match === 1 ? 'the source address is right' : 'the source address is WRONG') === true, mark);
        return { msg, took: (await probesOf(each)) - probes };
      }),
    );
    const most = Math.max(...learnt.map(({ took }) => took));
    ok(most <= MOST_PROBES, `${most} probes`);
    for (const each of nodes) equal(sumOf(await each.scrape(), 'eco_egress_source_ip_match'), match);
    return `source_ip_match ${match} on both nodes after ${most} ${most === 1 ? 'probe' : 'probes'} at most; the log: ${learnt[0]?.msg ?? ''}`;
  };

  return {
    title: 'The NAT gets an address that nobody trusts',
    play: async (step) => {
      await step(`${node.name}: eco-egress verify-ip`, () => verify(0));
      await step(`the nodes leave by ${RENUMBERED} from now on`, () => everyProbe(0, () => leaveBy(RENUMBERED)));
      await step('source_ip_info names the address', async () => {
        equal(sumOf(await node.scrape(), 'eco_egress_source_ip_info', { ip: RENUMBERED }), 1);
        return RENUMBERED;
      });
      await step(`${node.name}: eco-egress verify-ip`, () => verify(1));
      await step(`${node.name}: eco-egress doctor`, async () => {
        const found = readDoctor(await node.command('doctor', ['--json']), 'tcp connect-timeout', 'source-address source-address-wrong');
        match(found.find(({ code }) => code === 'partner-silent')?.seen ?? '', /^source-address: /);
        return `exit 1: ${found.find(({ code }) => code === 'source-address-wrong')?.seen ?? ''}`;
      });
      await step(`${pod.name} asks through ${node.name}`, async () => {
        await dropped();
        const status = await until('pooled connections of the old address are over', async () => {
          const answer = await pod.curl(`http://${node.address}:8080/eco/api/status`);
          equal(answer.status, 504);
          return answer.status;
        });
        equal((await dropped()).join(), RENUMBERED);
        return `${status}: the partner dropped ${RENUMBERED}`;
      });
      await step(`the NAT has ${TRUSTED} again`, () => everyProbe(1, () => leaveBy(TRUSTED)));
      await step(`${node.name}: eco-egress verify-ip`, () => verify(0));
    },
  };
}
