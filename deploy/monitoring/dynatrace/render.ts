/**
 * Renders what Monaco deploys to Dynatrace from source.yaml and the alerts of
 * rules.yaml: threshold, duration, texts and runbook of a detector or of an
 * objective are those of the alert of its name.
 */
import { readFileSync } from 'node:fs';
import { parse, stringify } from 'yaml';
import { ACCESS_LINE, PROFILE_FIELDS } from '../../../schemas/outputs.ts';
import type { AlertRule } from '../render.ts';

export interface DynatraceSource {
  /** DQL by the name of the alert. */
  readonly detectors: Readonly<Record<string, string>>;
  /** Alerts that have no detector, and why. */
  readonly without: Readonly<Record<string, string>>;
  readonly objectives: readonly string[];
  readonly tiles: readonly { readonly title: string; readonly query: string; readonly visualization?: string }[];
}

/** Throws what node:fs and yaml throw. */
export function readDynatraceSource(): DynatraceSource {
  return parse(readFileSync(new URL('source.yaml', import.meta.url), 'utf8')) as DynatraceSource;
}

/** When a detector fires. */
export interface Threshold {
  readonly condition: 'ABOVE' | 'BELOW';
  readonly value: number;
  /** How long, as samples of a minute each. */
  readonly minutes: number;
}

/** The longest window of a detector. */
const MOST_MINUTES = 60;
const UNITS: Readonly<Record<string, number>> = { s: 1 / 60, m: 1, h: 60, d: 1440 };

function minutesOf(duration: string): number {
  const [, count = '', unit = ''] = /^(\d+)([smhd])$/.exec(duration) ?? [];
  return Number(count) * (UNITS[unit] ?? NaN);
}

/** From the comparison at the end of the alert's query. Throws where it has none that a threshold could be. */
export function thresholdOf({ alert, expr, for: wait = '1m' }: AlertRule): Threshold {
  const [, operator = '', factors = ''] = /(==|[<>]) (\d[\d.]*(?: \* \d+)*)$/.exec(expr.trim()) ?? [];
  const value = factors.split(' * ').reduce((product, factor) => product * Number(factor), 1);
  const minutes = Math.min(MOST_MINUTES, Math.max(1, Math.ceil(minutesOf(wait))));
  // Of a series of whole numbers, 0 is the lowest, and another is the highest.
  if (operator === '==') return value === 0 ? { condition: 'BELOW', value: 1, minutes } : { condition: 'ABOVE', value: value - 1, minutes };
  if (operator === '>') return { condition: 'ABOVE', value, minutes };
  if (operator === '<') return { condition: 'BELOW', value, minutes };
  throw new Error(`${alert}: no threshold at the end of its query`);
}

/** The DQL of an alert, with what is the alert's own filled in. */
export function queryOf(rule: AlertRule, template: string): string {
  const window = /\[(\w+)\]/.exec(rule.expr)?.[1] ?? '';
  const codes = /(?:error|code)=~"([^"]+)"/.exec(rule.expr)?.[1] ?? '';
  return template
    .trim()
    .replaceAll('WINDOW', String(minutesOf(window)))
    .replaceAll('CODES', codes.split('|').map((code) => `"${code}"`).join(', '));
}

/** A text of an alert: labels as dimensions, and the threshold where Prometheus has the value. */
export function textOf(text: string, { condition, value }: Threshold): string {
  const bound = condition === 'ABOVE' ? 'more than' : 'less than';
  const units: Readonly<Record<string, string>> = { humanizePercentage: `${value * 100} %`, humanizeDuration: value >= 86_400 ? `${value / 86_400} days` : `${value} s`, humanize: String(value) };
  const told = text
    .replaceAll('{{ $labels.instance }}', '{dims:k8s.pod.name}')
    .replace(/\{\{ \$labels\.(\w+) \}\}/g, '{dims:$1}')
    .replace(/\{\{ \$value \| (\w+) \}\}/g, (_, unit: string) => `${bound} ${units[unit] ?? ''}`);
  // At the beginning of a sentence.
  return told.replace(/(^|\. )(more|less) than/g, (_, before: string, word: string) => `${before}${word === 'more' ? 'More' : 'Less'} than`);
}

const DETECTORS = 'builtin:davis.anomaly-detectors';

function renderDetector(rule: AlertRule, template: string, runbooks: string): object {
  const threshold = thresholdOf(rule);
  const { minutes } = threshold;
  const input = { query: queryOf(rule, template), threshold: String(threshold.value), alertCondition: threshold.condition, alertOnMissingData: 'false', violatingSamples: String(minutes), slidingWindow: String(minutes), dealertingSamples: String(minutes) };
  const properties = {
    'event.type': rule.labels['severity'] === 'critical' ? 'ERROR_EVENT' : 'CUSTOM_ALERT',
    'event.name': textOf(rule.annotations.summary, threshold),
    'event.description': textOf(rule.annotations.description, threshold),
    alert: rule.alert,
    ...rule.labels,
    runbook_url: runbooks + rule.annotations.runbook_url,
  };
  const pairs = (record: Readonly<Record<string, string>>): object[] => Object.entries(record).map(([key, value]) => ({ key, value }));
  return {
    enabled: true,
    title: rule.alert,
    description: properties['event.description'],
    source: 'eco-egress',
    executionSettings: {},
    analyzer: { name: 'dt.statistics.ui.anomaly_detection.StaticThresholdAnomalyDetectionAnalyzer', input: pairs(input) },
    eventTemplate: { properties: pairs(properties) },
  };
}

function renderObjective(rule: AlertRule, template: string, runbooks: string): object {
  const threshold = thresholdOf(rule);
  const worst = threshold.condition === 'ABOVE' ? 'max(arrayMax(value))' : 'min(arrayMin(value))';
  return {
    name: rule.alert,
    description: `${textOf(rule.annotations.description, threshold).replace(/\{dims:([\w.]+)\}/g, '$1')} ${runbooks}${rule.annotations.runbook_url}`,
    objectiveType: 'DQL',
    dqlQuery: `${queryOf(rule, template)}\n| summarize value = ${worst}`,
    comparisonOperator: threshold.condition === 'ABOVE' ? 'LESS_THAN_OR_EQUAL' : 'GREATER_THAN_OR_EQUAL',
    target: threshold.value,
  };
}

const COLUMNS = 3;
const WIDTH = 8;
const HEIGHT = 6;

function renderDashboard(tiles: DynatraceSource['tiles']): object {
  return {
    version: 11,
    variables: [],
    tiles: Object.fromEntries(tiles.map(({ title, query, visualization = 'lineChart' }, index) => [String(index), { type: 'data', title, query: query.trim(), visualization, visualizationSettings: {}, davis: { enabled: false } }])),
    layouts: Object.fromEntries(tiles.map((_, index) => [String(index), { x: (index % COLUMNS) * WIDTH, y: Math.floor(index / COLUMNS) * HEIGHT, w: WIDTH, h: HEIGHT }])),
  };
}

/** Written below, or Dynatrace's own: it derives `status` from the level, and knows the time. A field cannot be an object, such as `phases`. */
const OWN = new Set(['level', 'time', 'msg', 'status', 'timestamp', 'content', 'loglevel', 'phases']);

/** A line that came as text becomes a record with its fields; one that has them is left alone. */
function renderPipeline(): object {
  const fields = [...Object.keys(ACCESS_LINE), ...Object.keys(PROFILE_FIELDS.dynatrace)].filter((name) => !OWN.has(name));
  const phases = Object.keys(ACCESS_LINE.phases.shape).map((name) => `\`phases.${name}\` = line[phases][${name}]`);
  const assignments = [...fields.map((name) => (name.includes('.') ? `\`${name}\` = line[\`${name}\`]` : `${name} = line[${name}]`)), ...phases];
  const script = ['parse content, "JSON:line"', `fieldsAdd ${assignments.join(', ')}`, 'fieldsAdd loglevel = upper(line[level]), content = line[msg]', 'fieldsRemove line'].join('\n| ');
  return {
    customId: 'eco-egress',
    displayName: 'eco-egress',
    processing: {
      processors: [{ type: 'dql', id: 'eco-egress-fields', description: 'Fields of the log of eco-egress', enabled: true, matcher: 'isNull(requestId) and startsWith(content, "{\\"")', dql: { script } }],
    },
  };
}

/** Files below this folder by their path. @param runbooks comes before every link to the runbook */
export function renderDynatrace(source: DynatraceSource, rules: readonly AlertRule[], runbooks = ''): Readonly<Record<string, string>> {
  const ruleOf = (name: string): AlertRule => {
    const rule = rules.find(({ alert }) => alert === name);
    if (rule === undefined) throw new Error(`no alert ${name}`);
    return rule;
  };
  const detectors = Object.entries(source.detectors);
  const settings = (id: string, template: string, schema: string): object => ({ id, config: { name: id, template, skip: false }, type: { settings: { schema, scope: 'environment' } } });
  const configs = [
    { id: 'dashboard', config: { name: 'eco-egress', template: 'dashboard.json', skip: false }, type: { document: { kind: 'dashboard', private: false } } },
    settings('guardian', 'guardian.json', 'app:dynatrace.site.reliability.guardian:guardians'),
    settings('log-pipeline', 'log-pipeline.json', 'builtin:openpipeline.logs.pipelines'),
    ...detectors.map(([name]) => settings(name, `detectors/${name}.json`, DETECTORS)),
  ];
  const objectives = source.objectives.map((name) => renderObjective(ruleOf(name), source.detectors[name] ?? '', runbooks));
  const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
  return {
    'eco-egress/config.yaml': `# Rendered from deploy/monitoring by: npm run monitoring\n${stringify({ configs }, { lineWidth: 0 })}`,
    'eco-egress/dashboard.json': json(renderDashboard(source.tiles)),
    'eco-egress/guardian.json': json({ name: 'eco-egress', description: 'Whether the proxy does its duty, by the thresholds of its alerts.', tags: ['application:eco-egress'], objectives }),
    'eco-egress/log-pipeline.json': json(renderPipeline()),
    ...Object.fromEntries(detectors.map(([name, query]) => [`eco-egress/detectors/${name}.json`, json(renderDetector(ruleOf(name), query, runbooks))])),
  };
}
