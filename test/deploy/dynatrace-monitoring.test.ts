/** What Monaco deploys to Dynatrace: rendered without drift, asking only for what exists, and firing where the alerts of Prometheus do. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { queryOf, readDynatraceSource, renderDynatrace, textOf, thresholdOf } from '../../deploy/monitoring/dynatrace/render.ts';
import { type AlertRule, readGroups } from '../../deploy/monitoring/render.ts';
import { ACCESS_LINE, PROFILE_FIELDS } from '../../schemas/outputs.ts';
import { FAULTS } from '../../src/errors.ts';
import { type DqlKnown, findDqlStrangers, tokensOf } from '../support/dql.ts';
import { readCatalogue } from '../support/metric-catalogue.ts';

const ROOT = join(import.meta.dirname, '../..');
const FOLDER = join(ROOT, 'deploy/monitoring/dynatrace');
const source = readDynatraceSource();
const rules = readGroups().flatMap((group) => group.rules);
const rendered = renderDynatrace(source, rules);
const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');
const file = (path: string): unknown => JSON.parse(rendered[path] ?? '') as unknown;

/** Of Prometheus's scraper, and what Dynatrace's puts instead. */
const SCRAPER = new Set(['job', 'instance', 'namespace', 'pod']);
const KUBERNETES = ['k8s.namespace.name', 'k8s.pod.name'];
const known: DqlKnown = {
  metrics: new Map([...readCatalogue()].map(([name, labels]) => [name, new Set([...[...labels].filter((label) => !SCRAPER.has(label)), ...KUBERNETES])])),
  fields: new Set([...Object.keys(ACCESS_LINE), ...Object.keys(PROFILE_FIELDS.dynatrace), ...KUBERNETES]),
  codes: new Set([...Object.keys(FAULTS), 'ok']),
};

interface Pair {
  readonly key: string;
  readonly value: string;
}
interface Detector {
  readonly title: string;
  readonly analyzer: { readonly input: readonly Pair[] };
  readonly eventTemplate: { readonly properties: readonly Pair[] };
}
const valueOf = (pairs: readonly Pair[], key: string): string => pairs.find((pair) => pair.key === key)?.value ?? '';
const detectors = Object.keys(source.detectors).map((name) => ({ rule: rules.find(({ alert }) => alert === name), detector: file(`eco-egress/detectors/${name}.json`) as Detector }));

t.test('the files are what the source and the alerts render to: npm run monitoring', async (t) => {
  for (const [path, text] of Object.entries(rendered)) t.equal(read(path), text, `${path} is up to date`);
  t.strictSame(readdirSync(join(FOLDER, 'eco-egress/detectors')).toSorted(), Object.keys(source.detectors).map((name) => `${name}.json`).toSorted());
});

t.test('each alert has a detector, or a reason why not', async (t) => {
  t.strictSame([...Object.keys(source.detectors), ...Object.keys(source.without)].toSorted(), rules.map(({ alert }) => alert).toSorted());
  for (const [name, reason] of Object.entries(source.without)) t.match(reason, /\.$/, name);
  for (const name of source.objectives) t.ok(name in source.detectors, name);
});

t.test('the configuration names the files that there are', async (t) => {
  const { configs } = parse(rendered['eco-egress/config.yaml'] ?? '') as { configs: { id: string; config: { template: string } }[] };
  t.equal(new Set(configs.map(({ id }) => id)).size, configs.length);
  t.strictSame(configs.map(({ config }) => `eco-egress/${config.template}`).toSorted(), Object.keys(rendered).filter((path) => path.endsWith('.json')).toSorted());
  t.match(parse(read('manifest.yaml')), { manifestVersion: 1, projects: [{ name: 'eco-egress' }] });
  // Monaco fills in what looks like this.
  for (const [path, text] of Object.entries(rendered)) t.notMatch(text, /\{\{/, path);
});

t.test('threshold, duration, texts and runbook are those of the alert', async (t) => {
  for (const { rule, detector } of detectors) {
    if (rule === undefined) throw new Error(detector.title);
    const { condition, value, minutes } = thresholdOf(rule);
    const { input } = detector.analyzer;
    t.strictSame([valueOf(input, 'alertCondition'), valueOf(input, 'threshold'), valueOf(input, 'violatingSamples')], [condition, String(value), String(minutes)], rule.alert);
    const { properties } = detector.eventTemplate;
    t.equal(valueOf(properties, 'runbook_url'), rule.annotations.runbook_url);
    t.equal(valueOf(properties, 'severity'), rule.labels['severity']);
    const shown = `${valueOf(properties, 'event.name')} ${valueOf(properties, 'event.description')}`;
    t.notMatch(shown, /\$|\{\{|NaN|undefined/, rule.alert);
    // A detector looks back for an hour at most.
    t.notMatch(shown, /\bhours\b/, rule.alert);
    for (const [, label = ''] of shown.matchAll(/\{dims:([\w.]+)\}/g)) t.match(valueOf(input, 'query'), new RegExp(`by: \\{[^}]*${label}\\b`), `${rule.alert}: ${label}`);
  }
  const rule = (expr: string, wait?: string): AlertRule => ({ alert: 'A', expr, labels: {}, annotations: { summary: '', description: '', runbook_url: '' }, ...(wait === undefined ? {} : { for: wait }) });
  t.strictSame(thresholdOf(rule('x - time() < 14 * 86400', '10m')), { condition: 'BELOW', value: 1_209_600, minutes: 10 });
  t.strictSame(thresholdOf(rule('x == 0')), { condition: 'BELOW', value: 1, minutes: 1 });
  t.strictSame(thresholdOf(rule('x == 2')), { condition: 'ABOVE', value: 1, minutes: 1 });
  t.strictSame(thresholdOf(rule('x > 0.7', '4h')), { condition: 'ABOVE', value: 0.7, minutes: 60 });
  t.throws(() => thresholdOf(rule('absent(x)')));
  t.equal(queryOf(rule('rate(x{error=~"a|b"}[5m]) > 1'), 'in(error, {CODES}), WINDOW'), 'in(error, {"a", "b"}), 5');
  t.equal(textOf('{{ $value | humanizePercentage }} of {{ $labels.instance }}', { condition: 'ABOVE', value: 0.7, minutes: 5 }), 'More than 70 % of {dims:k8s.pod.name}');
});

t.test('every query asks for metrics, labels, fields and codes that exist', async (t) => {
  const { objectives } = file('eco-egress/guardian.json') as { objectives: { name: string; dqlQuery: string }[] };
  const { tiles } = file('eco-egress/dashboard.json') as { tiles: Record<string, { title: string; query: string }> };
  const queries = [
    ...detectors.map(({ detector }) => [detector.title, valueOf(detector.analyzer.input, 'query')]),
    ...objectives.map(({ name, dqlQuery }) => [`objective ${name}`, dqlQuery]),
    ...Object.values(tiles).map(({ title, query }) => [title, query]),
  ];
  t.ok(queries.length > 40);
  for (const [what = '', query = ''] of queries) t.strictSame(findDqlStrangers(query, known), [], what);
  const scraped = /"names": \[([^\]]*)\]/.exec(readFileSync(join(ROOT, 'deploy/kubernetes/components/dynatrace/scrape.yaml'), 'utf8'))?.[1] ?? '';
  const names = [...scraped.matchAll(/"([^"]+)"/g)].map(([, name = '']) => new RegExp(`^${name.replace('*', '.*')}$`));
  t.ok(names.length > 0);
  for (const [what = '', query = ''] of queries) for (const name of tokensOf(query).filter((token) => known.metrics.has(token))) t.ok(names.some((pattern) => pattern.test(name)), `${what}: ${name} is scraped`);
});

t.test('what does not exist is found', async (t) => {
  t.strictSame(findDqlStrangers('timeseries a = sum(eco_egress_made_up), by: {colour}', known), ['no metric eco_egress_made_up']);
  t.strictSame(findDqlStrangers('timeseries a = max(eco_egress_nat_ports_limit), by: {destination}', known), ['eco_egress_nat_ports_limit has no label destination']);
  t.strictSame(findDqlStrangers('timeseries a = sum(eco_egress_upstream_errors_total, filter: {in(error, {"tls-failed", "gone"})})', known), ['no code gone']);
  t.strictSame(findDqlStrangers('fetch logs | filter colour == "red" | fields a = client | sort b', known), ['no field colour', 'no field b']);
  t.strictSame(findDqlStrangers('fetch logs | explode client', known), ['no command explode']);
  t.strictSame(findDqlStrangers('fetch logs | filter shout(client) == "X"', known), ['no function shout']);
  t.throws(() => findDqlStrangers('fetch logs | filter (', known));
  t.throws(() => findDqlStrangers('fetch logs | filter a ; b', known));
});

t.test('the log pipeline makes every field of a line, and none besides', async (t) => {
  const { processing } = file('eco-egress/log-pipeline.json') as { processing: { processors: { matcher: string; dql: { script: string } }[] } };
  const script = processing.processors[0]?.dql.script ?? '';
  const made = new Set([...script.matchAll(/(?:^|[\s,])`?([\w.]+)`? = /g)].map(([, name = '']) => name));
  const phases = Object.keys(ACCESS_LINE.phases.shape).map((name) => `phases.${name}`);
  const expected = [...Object.keys(ACCESS_LINE), ...Object.keys(PROFILE_FIELDS.dynatrace), ...phases].filter((name) => !['level', 'time', 'timestamp', 'msg', 'status', 'phases'].includes(name));
  t.strictSame([...made].toSorted(), [...new Set(expected)].toSorted());
  tokensOf(script);
  for (const { matcher } of processing.processors) tokensOf(matcher);
});

t.test('tiles lie beside each other', async (t) => {
  const { tiles, layouts } = file('eco-egress/dashboard.json') as { tiles: object; layouts: Record<string, { x: number; y: number; w: number; h: number }> };
  t.strictSame(Object.keys(layouts), Object.keys(tiles));
  t.equal(new Set(Object.values(layouts).map(({ x, y }) => `${x} ${y}`)).size, Object.keys(layouts).length);
  for (const { x, w } of Object.values(layouts)) t.ok(x + w <= 24);
});
