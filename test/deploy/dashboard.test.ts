/** The Grafana dashboard: every query is PromQL and asks for what exists; every panel says what it shows. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { findStrangers, readCatalogue } from '../support/metric-catalogue.ts';

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: unknown;
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: unknown;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly Target[];
}

interface Dashboard {
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly expr: string; readonly datasource: unknown }[] };
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string; readonly datasource?: unknown }[] };
}

const text = readFileSync(new URL('../../deploy/monitoring/grafana/eco-egress.json', import.meta.url), 'utf8');
const dashboard = JSON.parse(text) as Dashboard;
const panels = dashboard.panels.filter(({ type }) => type !== 'row');
const targets = panels.flatMap((panel) => (panel.targets ?? []).map((target) => ({ ...target, panel: panel.title })));
const catalogue = readCatalogue();
const CHOSEN = { type: 'prometheus', uid: '${datasource}' };

/** What Grafana asks Prometheus, with everything chosen. */
const filled = (query: string): string => query.replace(/\$__(?:rate_)?interval\b/g, '1m').replace(/\$\w+/g, '.*');

t.test('every query asks for metrics, labels and codes that exist', async (t) => {
  t.ok(targets.length >= 30);
  for (const { panel, expr } of targets) t.strictSame(findStrangers(filled(expr), catalogue), [], panel);
  for (const { expr } of dashboard.annotations.list) t.strictSame(findStrangers(filled(expr), catalogue), []);
});

t.test('refusals of one code are asked of the counter that is there from the start: the first ones of the other are no increase', async (t) => {
  for (const { panel, expr } of targets) t.notMatch(expr, /eco_egress_requests_total\{[^}]*\bcode=/, panel);
});

t.test('a panel that asks for what report mode let pass says where the first of each kind is: its counter begins with it', async (t) => {
  const asking = panels.filter((panel) => panel.targets?.some(({ expr }) => expr.includes('eco_egress_would_deny_total')));
  t.ok(asking.length > 0);
  for (const { title, description = '' } of asking) t.match(description, /first request of each kind .*\/denials/, title);
});

t.test('no window is shorter than two scrapes: in a short view, an interval of the graph is', async (t) => {
  for (const expr of [...targets.map((target) => target.expr), ...dashboard.annotations.list.map((annotation) => annotation.expr)]) t.notMatch(expr, /\[\$__interval\]/);
});

t.test('a legend names labels that its query keeps', async (t) => {
  for (const { panel, expr, legendFormat } of targets) {
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
      t.match(expr, expr.includes(' by (') ? new RegExp(`by \\([^)]*\\b${label}\\b`) : /instance/, `${panel}: ${label}`);
    }
  }
});

t.test('variables: the data source, and names that metrics have', async (t) => {
  const variables = new Map(dashboard.templating.list.map((variable) => [variable.name, variable]));
  t.strictSame([...variables.keys()], ['datasource', 'destination', 'instance']);
  t.equal(variables.get('datasource')?.type, 'datasource');
  for (const { name, definition, datasource } of [...variables.values()].slice(1)) {
    const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(definition ?? '') ?? [];
    t.equal(label, name);
    t.ok(catalogue.get(metric)?.has(label), name);
    t.strictSame(datasource, CHOSEN);
  }
  const used = new Set([...text.matchAll(/\$\{?(\w+)/g)].map((match) => match[1] ?? '').filter((name) => !name.startsWith('__')));
  t.strictSame([...used].sort(), [...variables.keys()].sort(), 'each is used, and no other');
});

t.test('every panel says what it shows, asks the chosen data source and has its own place', async (t) => {
  t.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
  t.equal(new Set(panels.map(({ title }) => title)).size, panels.length, 'a copy in the place of another panel would hide it');
  for (const panel of panels) {
    t.match(panel.description, /\.$/, panel.title);
    t.strictSame([panel.datasource, ...(panel.targets ?? []).map(({ datasource }) => datasource)], Array.from({ length: 1 + (panel.targets ?? []).length }, () => CHOSEN), panel.title);
    t.ok(panel.gridPos.x + panel.gridPos.w <= 24, `${panel.title} is not wider than the page`);
  }
  const taken = new Set<string>();
  for (const { title, gridPos } of dashboard.panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        if (taken.has(`${x} ${y}`)) t.fail(`${title} lies on another panel`);
        taken.add(`${x} ${y}`);
      }
    }
  }
});

t.test('every metric of the proxy is on it', async (t) => {
  const shown = new Set(targets.flatMap(({ expr }) => expr.match(/\beco_egress_\w+/g) ?? []));
  const families = new Set([...catalogue.keys()].filter((name) => name.startsWith('eco_egress_')).map((name) => name.replace(/_(?:bucket|sum|count)$/, '')));
  const left = [...families].filter((name) => ![...shown].some((used) => used === name || used === `${name}_bucket`));
  t.strictSame(left, []);
});
