/** `eco-egress diff`: the effect of a change of a configuration file, by the code that decides on requests. Starts nothing, and looks nothing up. */
import type { ConfigFinding } from '../config/finding.ts';
import { loadConfig, type Loaded } from '../config/load.ts';
import { readMoment } from '../config/read-scalar.ts';
import { comparePolicyConfigs } from '../policy-diff/compare-policies.ts';
import type { PolicyDiff } from '../policy-diff/diff-class.ts';
import { formatClasses, reportClasses } from '../policy-diff/format-diff.ts';
import { BoundedMeter, TooMuchWork } from '../policy-diff/work.ts';
import { compareOthers, type OtherChange, type OtherChanges } from '../reload/other-changes.ts';
import { formatMoment } from '../targets/quote.ts';
import { bound, escapeText, printableJson } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';
import { tellFaults } from './open-config.ts';

/** Arguments of `diff`, as written. */
export interface DiffOptions {
  readonly json?: boolean;
  /** `widening` */
  readonly failOn?: string;
  /** The time from which requests count; else now. */
  readonly at?: string;
}

/** A minute or two; files that people write take a second. */
const MOST_STEPS_OF_DIFF = 30_000_000;
const LONGEST_VALUE = 80;

/** Resolves to 0 when both files mean the same, to 1 when not (with `--fail-on widening`, only where something is newly allowed), to 2 for a faulty file or argument. */
export function runDiff(options: DiffOptions, io: CommandIo, before: string, after: string): Promise<number> {
  return Promise.resolve(compareFiles(options, io, before, after));
}

function compareFiles({ json = false, failOn, at }: DiffOptions, io: CommandIo, before: string, after: string): number {
  if (failOn !== undefined && failOn !== 'widening')
    return misuse(io, `--fail-on ${failOn} is not known: write widening, or leave it out.`);
  const start = at === undefined ? { value: Date.now() } : readMoment(at);
  if ('problem' in start) return misuse(io, `--at: ${start.problem} ${start.instead}`);
  const files = [before, after].map((file) => loadConfig({ file, env: io.env, policyOnly: true }));
  const faults = files.flatMap((file): readonly ConfigFinding[] => (file.ok ? [] : file.faults));
  const [one, other] = files;
  if (one?.ok !== true || other?.ok !== true) return tellFaults(faults, io);
  let diff: PolicyDiff;
  try {
    diff = comparePolicyConfigs(one.config, other.config, start.value, new BoundedMeter(MOST_STEPS_OF_DIFF));
  } catch (error) {
    if (!(error instanceof TooMuchWork)) throw error;
    return misuse(io, 'The files are too large or too different to be compared exactly: compare a change in smaller steps.');
  }
  const others = compareOthers(one, other);
  io.stdout.write(json ? toJson(one, other, diff, others) : toText(one, other, diff, others, io));
  const differs =
    failOn === 'widening' ? diff.classes.some(({ change }) => change === 'allowed') : diff.classes.length > 0 || others.changes.length > 0;
  return differs ? EXIT.failed : EXIT.ok;
}

function toText(before: Loaded, after: Loaded, diff: PolicyDiff, others: OtherChanges, { stdout }: CommandIo): string {
  const files = `${escapeText(before.file)} (${before.hash}) and ${escapeText(after.file)} (${after.hash})`;
  const parts: string[] = [];
  if (diff.classes.length > 0) parts.push(formatClasses(diff, /^\/(?:dev|proc)\//.test(after.file) ? 'FILE' : after.file, stdout));
  else
    parts.push(
      `Equivalent: ${files} decide every request alike from ${formatMoment(diff.start)} on.\n${others.policyKeys.length === 0 ? '' : `Written in another way: ${escapeText(bound(others.policyKeys.join(', '), 5 * LONGEST_VALUE))}.\n`}`,
    );
  const restart = others.changes.filter(({ needsRestart }) => needsRestart);
  const rest = others.changes.filter(({ needsRestart }) => !needsRestart);
  if (rest.length > 0) parts.push(`Changed besides:\n${rest.map(formatOther).join('')}`);
  if (restart.length > 0) parts.push(`Changed, and in effect after a restart only:\n${restart.map(formatOther).join('')}`);
  return parts.join('\n');
}

function formatOther({ path, before, after }: OtherChange): string {
  return `  ${escapeText(path)}: ${showOther(before)} -> ${showOther(after)}\n`;
}

function showOther(value: unknown): string {
  return value === null
    ? 'not set'
    : escapeText(bound(Array.isArray(value) ? value.join(', ') : typeof value === 'string' ? value : JSON.stringify(value), LONGEST_VALUE));
}

function toJson(before: Loaded, after: Loaded, diff: PolicyDiff, { changes, policyKeys }: OtherChanges): string {
  const side = ({ file, hash }: Loaded): unknown => ({ file, hash });
  const report = {
    equivalent: diff.classes.length === 0,
    from: new Date(diff.start).toISOString(),
    before: side(before),
    after: side(after),
    classes: reportClasses(diff),
    others: changes,
    policyKeys,
  };
  return printableJson(report);
}
