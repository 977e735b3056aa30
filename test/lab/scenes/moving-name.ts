/** The partner's name moves: to where it may, and to where it must not. */
import { equal } from 'node:assert/strict';
import { type Cast, ECO, POOL_IDLE_MS } from '../cast.ts';
import { formsAt } from '../forms.ts';
import type { Scene } from '../narrate.ts';
import { addressOf } from '../topology.ts';
import { until } from '../until.ts';

export function movingName({ pods: [pod], nodes: [node], answer }: Cast): Scene {
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
