/** Which alerts of deploy/monitoring would fire if what the metrics showed of a fault went on: promtool evaluates the real rules. */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { labName } from '../lab/leftovers.ts';
import type { Look } from './observe.ts';

const RULES = fileURLToPath(new URL('../../deploy/monitoring/rules.yaml', import.meta.url));
/** Of the steady state before, and of the fault, minutes: the longest `for` of an alert about failures is 15. */
const BEFORE_MINUTES = 90;
const FAULT_MINUTES = 20;
/** On one machine everything is slow at times, whatever the fault. */
const OF_THE_MACHINE = 'EcoEgressBusy';
const COUNTER = /_(?:total|bucket|sum|count)$/;
const MOMENT = '_timestamp_seconds';
/** The text of a file for `promtool test rules` is long. */
const MOST_OUTPUT = 64 << 20;

interface Series {
  readonly series: string;
  readonly values: string;
}

/** Null where promtool is not installed. */
export function findAlerts(before: readonly Look[], during: readonly Look[]): string[] | null {
  const rules = readFileSync(RULES, 'utf8');
  const input = before.flatMap((first) => prolong(first, during.filter(({ node }) => node === first.node), (name) => rules.includes(name)));
  const test = { interval: '1m', input_series: input, promql_expr_test: [{ expr: 'count by (alertname) (ALERTS{alertstate="firing"})', eval_time: `${BEFORE_MINUTES + FAULT_MINUTES}m`, exp_samples: [] }] };
  const file = join(tmpdir(), `${labName(process.pid)}alerts.yaml`);
  writeFileSync(file, stringify({ rule_files: [RULES], evaluation_interval: '30s', tests: [test] }));
  const { error, stdout, stderr } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8', maxBuffer: MOST_OUTPUT });
  rmSync(file);
  if (error !== undefined) return null;
  // Nothing is expected, so that all that fires is listed.
  const [, got] = /^\s*got: (.*)$/m.exec(stdout + stderr) ?? [];
  if (got === undefined && !stdout.includes('SUCCESS')) throw new Error(stdout + stderr);
  return [...(got ?? '').matchAll(/alertname="(\w+)"/g)].map(([, name = '']) => name).filter((name) => name !== OF_THE_MACHINE);
}

/** The series of one replica: as they were before, then as they were in the second half of the fault, on and on. */
function prolong(first: Look, looks: readonly Look[], isNeeded: (name: string) => boolean): Series[] {
  const half = looks.slice(Math.floor(looks.length / 2));
  const seen = half.filter(({ scrape }) => scrape !== null);
  const isUp = seen.length * 2 > half.length;
  const labels = `job="eco-egress",namespace="eco-egress",instance="${first.node}"`;
  const up: Series = { series: `up{${labels}}`, values: isUp ? `1x${BEFORE_MINUTES + FAULT_MINUTES}` : `1x${BEFORE_MINUTES - 1} 0x${FAULT_MINUTES}` };
  const names = new Set([...(first.scrape?.samples.keys() ?? []), ...seen.flatMap(({ scrape }) => [...(scrape?.samples.keys() ?? [])])]);
  const all = [...names].filter((series) => isNeeded(series.replace(/\{[^]*$/, ''))).map((series): Series => {
    const was = first.scrape?.samples.get(series);
    const then = was === undefined ? `_x${BEFORE_MINUTES}` : `${was}x${BEFORE_MINUTES - 1}`;
    const now = isUp ? goOn(series.replace(/\{[^]*$/, ''), seen.flatMap(({ at, scrape }) => { const value = scrape?.samples.get(series); return value === undefined ? [] : [{ at, value }]; })) : `_x${FAULT_MINUTES}`;
    return { series: series.includes('{') ? series.replace('{', `{${labels},`) : `${series}{${labels}}`, values: `${then} ${now}` };
  });
  return [up, ...all];
}

/** A counter goes on rising as it did, a moment that moved goes on moving with the time, and any other value stays at its median. */
function goOn(name: string, points: readonly { readonly at: number; readonly value: number }[]): string {
  const [from, to] = [points[0], points.at(-1)];
  if (from === undefined || to === undefined) return `_x${FAULT_MINUTES}`;
  const minutes = (to.at - from.at) / 60_000;
  if (COUNTER.test(name)) return `${from.value}+${minutes === 0 ? 0 : Math.max(0, (to.value - from.value) / minutes)}x${FAULT_MINUTES}`;
  // Of several that move, none is ahead.
  if (name.endsWith(MOMENT) && to.value !== from.value) return `${to.at / 1000}+60x${FAULT_MINUTES}`;
  const sorted = points.map(({ value }) => value).toSorted((one, other) => one - other);
  return `${sorted[Math.floor(sorted.length / 2)] ?? to.value}x${FAULT_MINUTES}`;
}
