/**
 * Renders the alerts of rules.yaml as the objects that the Prometheus Operator
 * and Google Managed Prometheus read, and what Monaco deploys to Dynatrace:
 * `npm run monitoring`.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parse, stringify } from 'yaml';
import { readOptions } from '../../test/support/command-line.ts';
import { readDynatraceSource, renderDynatrace } from './dynatrace/render.ts';

/** One alert of rules.yaml. */
export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook_url', string>>;
}

export interface RuleGroup {
  readonly name: string;
  readonly interval: string;
  readonly rules: readonly AlertRule[];
}

/** The source, and what stands in the objects as metadata. */
const SOURCE = new URL('rules.yaml', import.meta.url);
const METADATA = { name: 'eco-egress', namespace: 'eco-egress', labels: { 'app.kubernetes.io/name': 'eco-egress' } };

/** Rendered files by their path beside this one, and what kind of object each holds. */
export const OBJECTS = {
  'prometheus-operator/rules.yaml': { apiVersion: 'monitoring.coreos.com/v1', kind: 'PrometheusRule' },
  'google-managed-prometheus/rules.yaml': { apiVersion: 'monitoring.googleapis.com/v1', kind: 'Rules' },
} as const;

/** The groups of rules.yaml. Throws what node:fs and yaml throw. */
export function readGroups(): readonly RuleGroup[] {
  return (parse(readFileSync(SOURCE, 'utf8')) as { readonly groups: readonly RuleGroup[] }).groups;
}

/** @param runbooks comes before every `runbook_url`, such as `https://git.example/eco-egress/blob/main/` */
export function renderObject(path: keyof typeof OBJECTS, groups: readonly RuleGroup[], runbooks = ''): string {
  const linked = groups.map((group) => ({
    ...group,
    rules: group.rules.map((rule) => ({ ...rule, annotations: { ...rule.annotations, runbook_url: runbooks + rule.annotations.runbook_url } })),
  }));
  const object = { ...OBJECTS[path], metadata: METADATA, spec: { groups: linked } };
  return `# Rendered from deploy/monitoring/rules.yaml by: npm run monitoring\n${stringify(object, { lineWidth: 0 })}`;
}

if (import.meta.main) {
  const { runbooks } = readOptions({ runbooks: { type: 'string', default: '' } }, 'npm run monitoring -- [--runbooks URL]\n  --runbooks URL  the links to the runbook begin with this address\n');
  for (const path of Object.keys(OBJECTS) as (keyof typeof OBJECTS)[]) {
    writeFileSync(new URL(path, import.meta.url), renderObject(path, readGroups(), runbooks));
  }
  const folder = new URL('dynatrace/', import.meta.url);
  mkdirSync(new URL('eco-egress/detectors/', folder), { recursive: true });
  for (const [path, text] of Object.entries(renderDynatrace(readDynatraceSource(), readGroups().flatMap(({ rules }) => rules), runbooks))) writeFileSync(new URL(path, folder), text);
}
