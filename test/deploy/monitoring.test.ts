/** The alerts: rendered without drift, asking only for what exists, and each firing when it should and not before. */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { OBJECTS, readGroups, renderObject, type RuleGroup } from '../../deploy/monitoring/render.ts';
import { FAULTS } from '../../src/errors.ts';
import { findStrangers, readCatalogue } from '../support/metric-catalogue.ts';
import { readQuery } from '../support/promql.ts';

const ROOT = join(import.meta.dirname, '../..');
const FOLDER = join(ROOT, 'deploy/monitoring');
const SEVERITIES = ['critical', 'warning'];

type Rule = RuleGroup['rules'][number];

const groups = readGroups();
const rules = groups.flatMap((group) => group.rules);
const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');
const testFiles = readdirSync(join(FOLDER, 'tests'));

t.test('the objects for both operators are what the rules render to: npm run monitoring', async (t) => {
  for (const path of Object.keys(OBJECTS) as (keyof typeof OBJECTS)[]) t.equal(read(path), renderObject(path, groups), `${path} is up to date`);
  const linked = renderObject('prometheus-operator/rules.yaml', groups, 'https://git.example/');
  t.equal(linked.split('runbook_url: https://git.example/docs/operations.md#').length - 1, rules.length);
});

t.test('every rule is complete, has its own name and its paragraph in the runbook', async (t) => {
  const headings = new Set(readFileSync(join(ROOT, 'docs/operations.md'), 'utf8').match(/(?<=^### )EcoEgress\w+$/gm));
  t.strictSame(rules.map(({ alert }) => alert), [...headings], 'the same alerts, in the same order');
  t.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  for (const { alert, labels, annotations } of rules) {
    t.ok(SEVERITIES.includes(labels['severity'] ?? ''), `${alert} has a severity`);
    t.equal(annotations.runbook_url, `docs/operations.md#${alert.toLowerCase()}`);
    t.match(annotations.summary, /^[A-Z{].{10,}[^.]$/, `${alert}: a summary in one line`);
    t.match(annotations.description, /[.?]$/, `${alert}: a description in sentences`);
  }
});

t.test('the rules ask only for metrics, labels and codes that exist', async (t) => {
  const catalogue = readCatalogue();
  for (const { alert, expr } of rules) t.strictSame(findStrangers(expr, catalogue), [], alert);
  t.strictSame(findStrangers('sum by (colour) (eco_egress_tunnels_active{shape="round"}) + eco_egress_made_up', catalogue), [
    'eco_egress_tunnels_active has no label shape',
    'no metric eco_egress_made_up',
    'nothing selected has the label colour',
  ]);
  t.strictSame(findStrangers('eco_egress_upstream_errors_total{error=~"tls-failed|gone"}', catalogue), ['no code gone']);
  t.throws(() => findStrangers('sum(', catalogue));
});

t.test('what an alert says uses labels that its query keeps', async (t) => {
  for (const { alert, expr, annotations } of rules) {
    const used = [annotations.summary, annotations.description].flatMap((text) => [...text.matchAll(/\$labels\.(\w+)/g)].map((match) => match[1] ?? ''));
    const { grouping } = readQuery(expr);
    const aggregates = expr.includes(' by (');
    for (const label of used) t.ok(aggregates ? grouping.includes(label) : label === 'instance', `${alert}: ${label}`);
  }
});

t.test('of what has expired, no summary says when it will', async (t) => {
  const ends = rules.filter(({ expr }) => expr.includes('- time() <'));
  t.ok(ends.length >= 4);
  for (const { alert, expr, annotations } of ends) if (!expr.startsWith('0 <')) t.notMatch(annotations.summary, '$value', alert);
});

t.test('every way in which a partner can fail belongs to one phase', async (t) => {
  const phases = rules.filter(({ labels }) => labels['phase'] !== undefined);
  const codes = phases.flatMap(({ expr }) => readQuery(expr).selectors.flatMap(({ matchers }) => matchers.filter(({ label }) => label === 'error').flatMap(({ value }) => value.split('|'))));
  // A tunnel in which nobody says anything for long is no failure of the partner's; what an open circuit refuses was not tried.
  const expected = Object.entries(FAULTS).filter(([code, { blame }]) => (blame === 'upstream' && code !== 'idle-timeout' && code !== 'circuit-open') || code.startsWith('hop-'));
  t.strictSame(codes.sort(), expected.map(([code]) => code).sort());
});

t.test('the alert for a single replica knows the job by each name that our own objects give it', async (t) => {
  const matcher = readQuery(rules.find(({ alert }) => alert === 'EcoEgressReplicaDown')?.expr ?? '').selectors[0]?.matchers.find(({ label }) => label === 'job');
  const jobs = new RegExp(`^(?:${matcher?.value ?? ''})$`);
  const monitor = (file: string): { readonly name: string; readonly namespace: string } => (parse(readFileSync(join(ROOT, 'deploy', file), 'utf8')) as { metadata: { name: string; namespace: string } }).metadata;
  const operator = monitor('kubernetes/components/prometheus-operator/pod-monitor.yaml');
  t.match(`${operator.namespace}/${operator.name}`, jobs);
  t.match(monitor('kubernetes/components/google-managed-prometheus/pod-monitoring.yaml').name, jobs);
  const { scrape_configs } = parse(readFileSync(join(ROOT, 'deploy/compose/prometheus.yml'), 'utf8')) as { scrape_configs: { job_name: string }[] };
  for (const { job_name } of scrape_configs) t.match(job_name, jobs);
  for (const stranger of ['not-eco-egress', 'eco-egresses', 'shop']) t.notMatch(stranger, jobs);
});

t.test('each alert is tested firing, and silent', async (t) => {
  interface Expectation {
    readonly expr: string;
    readonly exp_samples: readonly unknown[];
  }
  const files = testFiles.map((file) => parse(read(`tests/${file}`)) as { readonly tests: readonly { readonly promql_expr_test: readonly Expectation[] }[] });
  const expectations = files.flatMap(({ tests }) => tests.flatMap(({ promql_expr_test }) => promql_expr_test));
  for (const { alert } of rules) {
    const own = expectations.filter(({ expr }) => expr.includes(`alertname="${alert}", alertstate="firing"`));
    t.ok(own.some(({ exp_samples }) => exp_samples.length > 0), `${alert} fires`);
    t.ok(own.some(({ exp_samples }) => exp_samples.length === 0), `${alert} does not`);
  }
});

const missing = spawnSync('promtool', ['--version']).error === undefined ? false : 'promtool is not installed: apt-get install prometheus';

t.test('promtool accepts the rules and their tests', { skip: missing }, async (t) => {
  const check = spawnSync('promtool', ['check', 'rules', join(FOLDER, 'rules.yaml')], { encoding: 'utf8' });
  t.equal(check.status, 0, check.stdout + check.stderr);
  const tests = runTests(t, groups);
  t.equal(tests.status, 0, tests.output);
});

t.test('the tests notice an alert that fires too soon', { skip: missing }, async (t) => {
  const changes: Record<string, { readonly change: (rule: Rule) => Rule; readonly concerns: (rule: Rule) => boolean }> = {
    'that fires below its threshold': { change: (rule) => ({ ...rule, expr: loosen(rule.expr) }), concerns: () => true },
    'that does not wait': { change: ({ for: wait, ...rule }) => (wait === undefined ? rule : { ...rule, for: shorten(wait) }), concerns: (rule) => rule.for !== undefined },
  };
  for (const [what, { change, concerns }] of Object.entries(changes)) {
    const { status, output } = runTests(t, groups.map((group) => ({ ...group, rules: group.rules.map(change) })));
    t.equal(status, 1);
    for (const rule of rules.filter(concerns)) t.match(output, new RegExp(`FAILED:[^]*${rule.alert}\\b`), `${rule.alert} ${what}`);
  }
});

/** Runs all tests against these rules instead of the real ones. */
function runTests(t: Test, changed: readonly RuleGroup[]): { readonly status: number | null; readonly output: string } {
  const folder = t.testdir({ 'rules.yaml': stringify({ groups: changed }), tests: Object.fromEntries(testFiles.map((file) => [file, read(`tests/${file}`)])) });
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', ...testFiles.map((file) => join(folder, 'tests', file))], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** The query without its threshold. */
function loosen(expr: string): string {
  if (expr.startsWith('absent(')) return 'vector(1)';
  return expr.trim().replace(/\s+unless[^]*$|\s+(?:==|<|>)\s+[\d.* ]+$/, '');
}

/** A minute less. */
function shorten(wait: string): string {
  return `${Number.parseInt(wait, 10) - 1}m`;
}
