/** When a rule ends, when that is soon, and when the warnings are others. */
import t from 'tap';
import { ENDS_SOON, listRuleEnds } from '../../src/config/rule-ends.ts';
import { loadText, MINIMAL } from '../support/load-text.ts';
import { makeRule } from '../support/policy.ts';

const NOW = Date.UTC(2026, 0);
const ending = (...ends: (number | null)[]) => ends.map((until) => makeRule(['pods'], ['eco'], { until, owner: 'payments', ticket: null, reason: 'why' }));

t.test('in the order of their ends, each with its state', async (t) => {
  const rules = ending(NOW + ENDS_SOON + 1, null, NOW + 1, NOW + ENDS_SOON, NOW, NOW - 1);
  t.strictSame(listRuleEnds(rules, NOW).map(({ rule, state }) => `${rule} ${state}`), ['rules[5] ended', 'rules[4] ended', 'rules[2] soon', 'rules[3] soon', 'rules[0] later']);
  t.match(listRuleEnds(rules, NOW)[0], { clients: ['pods'], destinations: ['eco'], owner: 'payments', ticket: null, reason: 'why', until: NOW - 1 });
});

t.test('the next moment at which there are other warnings', async (t) => {
  const at = (ms: number): string => new Date(ms).toISOString().slice(0, 19);
  const SECOND = 1000;
  const table: [ends: number[], next: number][] = [
    [[], Infinity],
    [[NOW, NOW - SECOND], Infinity],
    [[NOW + SECOND], NOW + SECOND],
    [[NOW + ENDS_SOON], NOW + ENDS_SOON],
    [[NOW + ENDS_SOON + SECOND], NOW + SECOND],
    [[NOW + 2 * ENDS_SOON, NOW + SECOND], NOW + SECOND],
    [[NOW + 100 * 365 * 86_400_000], NOW + 100 * 365 * 86_400_000 - ENDS_SOON],
  ];
  for (const [ends, next] of table) {
    const rules = ends.map((until) => `- { clients: [pods], destinations: [eco], until: "${at(until)}Z" }`);
    const loaded = loadText(MINIMAL.replace(/rules:[^]*/, `rules:\n${['- { clients: [pods], destinations: [eco] }', ...rules].join('\n')}\n`));
    t.equal(loaded.ok && loaded.nextWarningsAfter(NOW), next, String(ends));
  }
});

t.test('warnings as of another time, of the same file', async (t) => {
  const end = NOW + 2 * ENDS_SOON;
  const loaded = loadText(MINIMAL.replace('[eco] }', `[eco], until: "${new Date(end).toISOString().slice(0, 19)}Z", owner: payments }`).replace('10.8.0.0/14', '0.0.0.0/0'), {}, { now: () => NOW });
  if (!loaded.ok) throw new Error('the file is faulty');
  const kinds = (now: number): string[] => loaded.warningsAt(now).map(({ kind }) => kind);
  t.strictSame(loaded.warnings, loaded.warningsAt(NOW));
  t.strictSame(kinds(end - ENDS_SOON - 1), ['open']);
  t.strictSame(kinds(end - ENDS_SOON), ['open', 'expires-soon']);
  t.strictSame(kinds(end - 1), ['open', 'expires-soon']);
  t.strictSame(kinds(end), ['open', 'expired']);
});

t.test('report mode of a rule that has not begun lets nothing pass yet', async (t) => {
  const from = NOW + 1000;
  const loaded = loadText(MINIMAL.replace('[eco] }', `[eco], report: true, from: "${new Date(from).toISOString().slice(0, 19)}Z" }`), {}, { now: () => NOW });
  if (!loaded.ok) throw new Error('the file is faulty');
  const kinds = (now: number): string[] => loaded.warningsAt(now).map(({ kind }) => kind);
  t.equal(loaded.nextWarningsAfter(NOW), from);
  t.strictSame(kinds(from - 1), ['no-effect']);
  t.strictSame(kinds(from), ['report-mode']);
  t.equal(loaded.nextWarningsAfter(from), Infinity);
});

t.test('report mode of a rule is warned of until its end', async (t) => {
  const load = (more: string) => loadText(MINIMAL.replace('[eco] }', `[eco], report: true, until: "${new Date(NOW + 2 * ENDS_SOON).toISOString().slice(0, 19)}Z" }${more}`), {}, { now: () => NOW });
  const loaded = load('');
  if (!loaded.ok) throw new Error('the file is faulty');
  const kinds = (now: number): string[] => loaded.warningsAt(now).map(({ kind }) => kind);
  t.strictSame(kinds(NOW), ['report-mode']);
  t.strictSame(kinds(NOW + 2 * ENDS_SOON - 1).toSorted(), ['expires-soon', 'report-mode']);
  t.strictSame(kinds(NOW + 2 * ENDS_SOON), ['expired']);
  const whole = load('\nmode: report\n');
  t.strictSame(whole.ok ? whole.warnings.map(({ path }) => path) : null, ['mode'], 'said once');
});
