/** The configuration in force, as shown in log, metrics, admin port and explanations. */
import { type Config, WARNING_KINDS, type WarningKind } from '../config/config.ts';
import { formatWarning, type Warning } from '../config/finding.ts';
import { hashConfig, type Loaded } from '../config/load.ts';
import { compareSettings, type Difference, type Setting } from '../config/settings.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { isBelowKey } from './needs-restart.ts';

/** The configuration in force, as shown. */
export interface InForce extends Pick<Loaded, 'warnings' | 'warningsAt' | 'nextWarningsAfter' | 'settings' | 'contents'> {
  /** As given at the start; null: the configuration came from no file. */
  readonly file: string | null;
  /** Hash of the effective values: where a change needs a restart, not that of the file. */
  readonly hash: string;
  /** When it was applied, ms since the epoch. */
  readonly loadedAt: number;
}

/** How many warnings are listed in each place: a file of thousands of clients may have as many. */
const MOST_WARNINGS = 20;

const FROM_NO_FILE: Omit<InForce, 'hash' | 'loadedAt'> = {
  file: null,
  warnings: [],
  warningsAt: () => [],
  nextWarningsAfter: () => Infinity,
  settings: () => [],
  contents: new Map(),
};

/** @param loaded null: the configuration came from no file */
export function describeInForce(config: Config, loaded: Loaded | null, loadedAt: number): InForce {
  const hash = loaded?.config === config ? loaded.hash : hashConfig(config, loaded?.contents ?? new Map());
  const { file, warnings, warningsAt, nextWarningsAfter, settings, contents } = loaded ?? FROM_NO_FILE;
  return { file, hash, loadedAt, warnings, warningsAt, nextWarningsAfter, settings, contents };
}

/** The configuration in force once `loaded` is applied, without the keys that need a restart. */
export function succeed(before: InForce, config: Config, loaded: Loaded, needRestart: readonly string[], loadedAt: number): InForce {
  const next = describeInForce(config, loaded, loadedAt);
  if (needRestart.length === 0) return next;
  const waits = ({ path }: Setting): boolean => isBelowKey(path, needRestart);
  // Now: asked later, each configuration would keep the one before it, and its file, until the restart.
  const kept = before.settings().filter(waits);
  return { ...next, settings: () => [...loaded.settings().filter((setting) => !waits(setting)), ...kept] };
}

/** The same configuration at a later time, and the new warnings. */
export function renewWarnings(before: InForce, now: number): { readonly inForce: InForce; readonly fresh: readonly Warning[] } {
  const warnings = before.warningsAt(now);
  const known = new Set(before.warnings.map(({ path, problem }) => `${path} ${problem}`));
  return { inForce: { ...before, warnings }, fresh: warnings.filter(({ path, problem }) => !known.has(`${path} ${problem}`)) };
}

/** Values and files that differ. */
export function compareInForce(before: InForce, after: InForce): Difference[] {
  const contents = [...after.contents].filter(([file, content]) => before.contents.has(file) && before.contents.get(file) !== content);
  return [
    ...compareSettings(before.settings(), after.settings()),
    ...contents.map(([file]) => ({ path: file, before: 'its earlier content', after: 'other content' })),
  ];
}

/** One sentence each, for `/readyz` and the status page. */
export function tellWarnings({ warnings }: Pick<InForce, 'warnings'>): string[] {
  const told = warnings.slice(0, MOST_WARNINGS).map(formatWarning);
  return warnings.length > MOST_WARNINGS
    ? [...told, `${warnings.length - MOST_WARNINGS} further warnings of the configuration: npx eco-egress check shows them all.`]
    : told;
}

/** One log line each. */
export function logWarnings({ warnings }: Pick<InForce, 'warnings'>, telemetry: Pick<Telemetry, 'notice'>): void {
  for (const { kind, file, line, path, problem, instead } of warnings.slice(0, MOST_WARNINGS)) {
    telemetry.notice('warn', `the configuration: ${problem}`, {
      kind,
      key: path,
      remedy: instead,
      place: line === null ? file : `${file}:${line}`,
    });
  }
  if (warnings.length > MOST_WARNINGS)
    telemetry.notice('warn', 'the configuration has further warnings, which npx eco-egress check shows', {
      further: warnings.length - MOST_WARNINGS,
    });
}

/** Every kind, those without a warning too. */
export function countWarnings({ warnings }: Pick<InForce, 'warnings'>): ReadonlyMap<WarningKind, number> {
  const counts = new Map<WarningKind, number>(WARNING_KINDS.map((kind) => [kind, 0]));
  for (const { kind } of warnings) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}
