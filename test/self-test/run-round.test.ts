/** What follows from the answers to probes, and from what address guards say. */
import t from 'tap';
import type { DestinationConfig } from '../../src/config/config.ts';
import { Fault, type FaultCode } from '../../src/errors.ts';
import type { ProbeAnswer } from '../../src/self-test/ask-listener.ts';
import type { SelfTestProbe } from '../../src/self-test/probes.ts';
import { type RoundResult, runRound } from '../../src/self-test/run-round.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';

const PROBE: SelfTestProbe = { what: 'connect on 127.0.0.1:3128', host: '127.0.0.1', port: 3128, preface: '', serverName: null, request: '', asker: null, expected: ['host-not-allowed'] };
const OPEN = { name: 'eco', hosts: ['eco.example'], addresses: null } as unknown as DestinationConfig;
const LISTED = { ...OPEN, name: 'listed', addresses: ['169.254.0.0/16'] } as DestinationConfig;
const SELF = { host: '127.0.0.1', port: 3128 };
const REFUSED: ProbeAnswer = { kind: 'refused', code: 'host-not-allowed' };

function recordOf(verdict: AccessRecord['verdict'], code: FaultCode | 'ok' = 'ok'): AccessRecord {
  return Object.assign(new AccessRecord('id', 0, '10.8.0.0'), { verdict, code, host: 'x.invalid' });
}

/** @param dials addresses that the guards let pass */
async function round(outcomes: readonly { readonly answer: ProbeAnswer; readonly record?: AccessRecord }[], dials: readonly string[] = [], destinations: readonly DestinationConfig[] = [OPEN, LISTED]): Promise<{ result: RoundResult; asked: number; surveyed: string[] }> {
  let asked = 0;
  const surveyed: string[] = [];
  const result = await runRound({
    probes: outcomes.map(() => PROBE),
    ask: async () => {
      const { answer, record = null } = outcomes[asked] ?? { answer: REFUSED };
      asked += 1;
      return { answer, record };
    },
    egress: {
      survey: async (destination, _host, port, assumed) => (assumed ?? []).map((address) => {
        surveyed.push(`${destination.name} ${address}:${port}`);
        return { address, refusal: dials.includes(address) ? null : new Fault('address-not-allowed', 'x'), reported: false };
      }),
    },
    destinations,
    self: SELF,
    signal: new AbortController().signal,
  });
  return { result, asked, surveyed };
}

t.test('it holds when each probe is refused with the right code, and the guards refuse', async (t) => {
  const { result, surveyed } = await round([{ answer: REFUSED }, { answer: { kind: 'refused', code: null }, record: recordOf('deny', 'host-not-allowed') }]);
  t.strictSame(result, { state: 'holds' });
  t.strictSame(surveyed, ['eco 127.0.0.1:3128', 'eco 169.254.169.254:80', 'listed 127.0.0.1:3128'], 'and addresses that are listed are permitted');
});

t.test('what is admitted or served is a leak, whatever else is not known', async (t) => {
  t.strictSame((await round([{ answer: REFUSED, record: recordOf('allow', 'loop') }])).result, { state: 'broken', reason: 'connect on 127.0.0.1:3128 was admitted for x.invalid' });
  t.strictSame((await round([{ answer: REFUSED, record: recordOf('report', 'loop') }])).result, { state: 'broken', reason: 'connect on 127.0.0.1:3128 was admitted for x.invalid' });
  t.strictSame((await round([{ answer: { kind: 'served', with: 'status 200' } }, { answer: { kind: 'none', why: 'x' } }])).result, { state: 'broken', reason: 'connect on 127.0.0.1:3128 was answered with status 200' });
  t.match((await round([{ answer: REFUSED, record: recordOf('allow') }, { answer: { kind: 'served', with: 'status 200' } }])).result, { state: 'broken', reason: / and 1 more$/ });
});

t.test('address guards that let this proxy or a metadata service be dialled', async (t) => {
  t.strictSame((await round([], ['127.0.0.1'], [OPEN])).result, { state: 'broken', reason: 'the address guard of eco lets this proxy itself be dialled' });
  t.strictSame((await round([], ['169.254.169.254'], [OPEN])).result, { state: 'broken', reason: 'the address guard of eco lets 169.254.169.254 be dialled' });
  t.strictSame((await round([], ['169.254.169.254'], [LISTED])).result, { state: 'holds' }, 'unless its range is listed');
});

t.test('another refusal lets nothing through, and is not the proof either', async (t) => {
  t.strictSame((await round([{ answer: { kind: 'refused', code: 'limit-reached' } }, { answer: REFUSED }])).result, { state: 'unknown', reason: 'connect on 127.0.0.1:3128 was refused with limit-reached, and not with host-not-allowed' });
  t.match((await round([{ answer: { kind: 'refused', code: null } }])).result, { state: 'unknown', reason: /refused with -/ });
});

t.test('without an answer the round ends, and only the guards are asked', async (t) => {
  const { result, asked } = await round([{ answer: { kind: 'none', why: 'it was not answered within 5000 ms' } }, { answer: REFUSED }]);
  t.strictSame(result, { state: 'unknown', reason: 'connect on 127.0.0.1:3128: it was not answered within 5000 ms' });
  t.equal(asked, 1);
});
