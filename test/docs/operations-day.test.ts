/**
 * docs/operations-day.md: every command is run, in the order of the page, and
 * prints what the page shows. After a change of a text, `bin/node
 * test/docs/write-operations-day.ts` writes the outputs anew.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { replayDay } from '../support/operations-day.ts';
import { readQuery } from '../support/promql.ts';

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert?: string; readonly expr: string }[] }[];
}

t.setTimeout(300_000);
const { page, replayed } = await replayDay(t.testdir());

t.test('the page is what its commands print', async (t) => {
  t.same(replayed.split('\n'), page.split('\n'));
});

t.test('an alert that the page names asks for a metric that the page shows', async (t) => {
  const { groups } = parse(readFileSync(new URL('../../deploy/monitoring/rules.yaml', import.meta.url), 'utf8')) as Rules;
  const named = [...page.matchAll(/alert \[(\w+)\]/g)].map(([, name = '']) => name);
  t.strictSame(named, ['EcoEgressReloadRefused', 'EcoEgressReportMode', 'EcoEgressPartnerFailing']);
  for (const name of named) {
    const rule = groups.flatMap(({ rules }) => rules).find(({ alert }) => alert === name);
    const [first] = readQuery(rule?.expr ?? '').selectors;
    const labels = (first?.matchers ?? []).filter(({ operator }) => operator === '=').map(({ label, value }) => `${label}="${value}"`);
    const lines = page.split('\n').filter((line) => [' ', '{'].some((next) => line.startsWith(`${first?.metric ?? '-'}${next}`)) && labels.every((label) => line.includes(label)));
    const whenLow = rule?.expr.includes(' < ') === true;
    t.ok(lines.some((line) => line.endsWith(' 0') === whenLow), `${name}: ${first?.metric ?? ''} ${labels.join()}`);
  }
});
