/** The NAT gets an address that nobody trusts: the probe notices, and `verify-ip` says so to whoever asks. */
import { equal, match, ok } from 'node:assert/strict';
import { sumOf } from '../../support/prometheus.ts';
import { type Cast, PROBE_EVERY_MS } from '../cast.ts';
import { readDoctor } from '../doctor.ts';
import type { Scene } from '../narrate.ts';
import { RENUMBERED, TRUSTED } from '../topology.ts';
import { until } from '../until.ts';

/** Intervals vary by a tenth; and one probe may get no answer within its second, where NAT or endpoint still remember a connection with the same ports. */
const LONGEST_MS = 2 * (1.1 * PROBE_EVERY_MS + 1_000);

export function wrongAddress({ pods: [pod], nodes, leaveBy, dropped }: Cast): Scene {
  const [node] = nodes;
  const verify = async (exit: 0 | 1): Promise<string> => {
    const { code, stdout, stderr } = await node.command('verify-ip');
    equal(code, exit, stdout + stderr);
    const [said = ''] = stdout.split('\n');
    return `exit ${code}: ${said}`;
  };
  /** Resolves when every node has learnt it, to how long that took. */
  const everyProbe = async (match: 0 | 1, change: () => Promise<void>): Promise<string> => {
    const began = performance.now();
    const marks = nodes.map((each) => each.mark());
    await change();
    const lines = await Promise.all(
      nodes.map((each, index) => each.logged(({ msg }) => msg?.startsWith(match === 1 ? 'the source address is right' : 'the source address is WRONG') === true, marks[index] ?? 0)),
    );
    const took = performance.now() - began;
    ok(took <= LONGEST_MS, `${took} ms are more than two intervals with their probes`);
    for (const each of nodes) equal(sumOf(await each.scrape(), 'eco_egress_source_ip_match'), match);
    return `source_ip_match ${match} on both nodes within ${(took / PROBE_EVERY_MS).toFixed(1)} intervals; the log: ${lines[0]?.msg ?? ''}`;
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
