/** docs/rates.md: its configuration loads, its rates can be read, and the refusal that it shows is the one that is sent. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { readRate } from '../../src/config/read-rate.ts';
import { describeRates } from '../../src/policy/rate-text.ts';
import { Rates } from '../../src/rates.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';
import { compilePolicy } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { composeRefusal } from '../../src/listeners/refuse.ts';
import { Fault } from '../../src/errors.ts';
import { configOf, loadText } from '../support/load-text.ts';
import { makeAsk } from '../support/policy.ts';

const TEXT = readFileSync(new URL('../../docs/rates.md', import.meta.url), 'utf8');
const block = (language: string): string => new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(TEXT)?.[1] ?? '';

t.test('the configuration loads without a warning, and means what it says', async (t) => {
  t.match(loadText(block('yaml')), { ok: true, warnings: { length: 0 } });
  t.strictSame(describeRates(configOf(block('yaml')).rules[0]?.rate ?? null), ['requests 50/s burst 100 for each address', 'tunnels 5/s for each address', 'sent 10GiB/day for the client', 'received 50GiB/day for the client', 'what is under way is cut when its bytes are used up']);
});

t.test('every rate on the page can be read', async (t) => {
  const written = [...TEXT.matchAll(/`(\d+(\w*iB)?\/\w+(?: burst \w+)?)`/g)];
  t.ok(written.length > 10);
  for (const [, rate = '', unit] of written) t.match(readRate(unit === undefined ? 'count' : 'bytes')(rate), { value: { text: rate } }, rate);
});

t.test('the refusal', async (t) => {
  const policy = compilePolicy(configOf(block('yaml')));
  const rates = new Rates(policy.rules.map(({ config }) => config), () => 0);
  const ask = makeAsk({ form: 'forward', method: 'GET', path: '/' });
  const verdict = decide(policy, ask);
  if (verdict.verdict !== 'allow') throw new Error(verdict.verdict);
  const record = new AccessRecord('id', 0, ask.peer.address);
  const refused = (): unknown => {
    for (;;) {
      try {
        const found = rates.check(verdict, ask, 'requests', record);
        if (found !== null) rates.begin(found, verdict, ask.peer.address, 'requests', record);
      } catch (error) {
        return JSON.parse(composeRefusal(Fault.from(error), 'id', 'eco-egress').body);
      }
    }
  };
  t.match(refused(), JSON.parse(block('json')) as object);
});
