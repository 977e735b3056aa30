/** The results of `suggest`, for people and as data. */
import { styleText } from 'node:util';
import { describeClass } from '../policy-diff/describe-class.ts';
import type { PolicyDiff } from '../policy-diff/diff-class.ts';
import { reportClasses } from '../policy-diff/format-diff.ts';
import { formatMoment } from '../targets/quote.ts';
import { bound, escapeText, printableJson } from '../telemetry/safe-text.ts';
import type { DeniedGroup, Suggestions } from './propose-changes.ts';
import type { SeenDenial } from './seen-denials.ts';

/** The source of the denials. */
export interface SuggestSource {
  readonly file: string;
  readonly hash: string;
  readonly denials: readonly SeenDenial[];
  /** Of a log; null: a running proxy was queried. */
  readonly lines: { readonly access: number; readonly other: number } | null;
  /** Denials that were not processed, because there were too many. */
  readonly leftOut: number;
}

/** How a change would be written: the patch, null if there is none, and what has to be written by hand. */
export interface SuggestedPatch {
  readonly patch: string | null;
  readonly problems: readonly string[];
}

/** Requests of one group that are shown. */
const MOST_SHOWN_REQUESTS = 10;
const MOST_SHOWN_ADDRESSES = 3;
const MOST_DECLINED = 50;
const LONGEST_SHOWN = 300;

/** Ends with a line break; safe to print. @param stream colours only where it is a terminal */
export function formatSuggestions(
  { made, declined, generalised, permitted, diff }: Suggestions,
  { denials, lines, leftOut }: SuggestSource,
  { patch, problems }: SuggestedPatch,
  stream: NodeJS.WritableStream,
): string {
  const total = totalOf(denials);
  const parts: string[] = [];
  if (total === 0)
    parts.push(
      `No denials were found${lines === null ? '' : ` in ${number(lines.access, 'access line')}${lines.other > 0 ? `; ${number(lines.other, 'other line')} passed over` : ''}`}.\n`,
    );
  else
    parts.push(
      `${number(total, 'denial')} from ${formatMoment(Math.min(...denials.map(({ first }) => first)))} to ${formatMoment(Math.max(...denials.map(({ last }) => last)))}: ${[
        `${number(
          made.reduce((sum, { texts }) => sum + texts.length, 0),
          'change',
        )} proposed`,
        declined.length === 0 ? '' : `${declined.length} not`,
        permitted === 0 ? '' : `${permitted} of the denials are permitted by now`,
        leftOut === 0 ? '' : `${leftOut} not looked at, because they are too many of different kinds`,
      ]
        .filter((part) => part !== '')
        .join(', ')}.\n`,
    );
  for (const one of made)
    parts.push(
      [
        describeGroup(one),
        ...one.texts.map((text) => `  To permit it: ${escapeText(text)}`),
        ...(one.texts.length === 0
          ? ['  A change above permits it.']
          : [`  ${one.diffs.length === 1 ? 'It permits' : 'They permit'}:`, ...one.diffs.flatMap((step) => classLines(step, stream))]),
        '',
      ].join('\n'),
    );
  if (generalised.length > 0)
    parts.push(
      `Generalised:\n${generalised.map((text) => `  ${printable(text)}\n`).join('')}All changes together permit:\n${classLines(diff, stream).join('\n')}\n`,
    );
  if (declined.length > 0)
    parts.push(
      `Not proposed:\n${declined
        .slice(0, MOST_DECLINED)
        .map((one) => `${describeGroup(one)}\n  ${styleText('yellow', printable(one.reason), { stream })}\n`)
        .join(
          '',
        )}${declined.length > MOST_DECLINED ? `and ${number(declined.length - MOST_DECLINED, 'other')}, which --json shows\n` : ''}`,
    );
  if (problems.length > 0)
    parts.push(`The file cannot be changed automatically:\n${problems.map((problem) => `  ${printable(problem)}\n`).join('')}`);
  if (patch !== null) parts.push(patch);
  return parts.join('\n');
}

function describeGroup(group: DeniedGroup): string {
  const { who, host, kinds } = group;
  const addresses = [...new Set(kinds.flatMap((kind) => [...kind.addresses]))];
  const others = addresses.length - MOST_SHOWN_ADDRESSES;
  const from = `${addresses.slice(0, MOST_SHOWN_ADDRESSES).join(', ')}${others > 0 ? ` and ${number(others, 'other')}` : ''}`;
  const requests = kinds.slice(0, MOST_SHOWN_REQUESTS).map((kind) => `  ${describeSeen(kind)}`);
  return [
    `${printable(who)} asked for ${printable(host)} ${times(totalOf(kinds))}, from ${printable(from)}`,
    ...requests,
    ...(kinds.length > MOST_SHOWN_REQUESTS ? [`  and ${number(kinds.length - MOST_SHOWN_REQUESTS, 'other request')}`] : []),
  ].join('\n');
}

function describeSeen({ form, port, method, path, code, count, first, last }: SeenDenial): string {
  const what = method === null ? '' : ` ${method} ${path ?? ''}`;
  return printable(
    `${form}${what}, port ${port}: ${code}, ${times(count)}, ${count === 1 ? formatMoment(first) : `first ${formatMoment(first)}, last ${formatMoment(last)}`}`,
  );
}

function classLines(diff: PolicyDiff, stream: NodeJS.WritableStream): string[] {
  return diff.classes
    .filter(({ change }) => change === 'allowed')
    .map((one) => `    ${styleText('green', '+', { stream })} ${printable(describeClass(diff, one))}`);
}

/** The same as data. */
export function reportSuggestions(
  { made, declined, generalised, permitted, diff }: Suggestions,
  { file, hash, denials, lines, leftOut }: SuggestSource,
  { patch, problems }: SuggestedPatch,
): string {
  const group = ({ who, host, kinds }: DeniedGroup): object => ({
    who,
    host,
    count: totalOf(kinds),
    addresses: [...new Set(kinds.flatMap((kind) => [...kind.addresses]))],
    requests: kinds.map(({ form, port, method, path, code, count, first, last }) => ({
      form,
      port,
      method,
      path,
      code,
      count,
      first: new Date(first).toISOString(),
      last: new Date(last).toISOString(),
    })),
  });
  const report = {
    file,
    hash,
    denials: totalOf(denials),
    lines,
    leftOut,
    permitted,
    proposed: made.map((one) => ({
      ...group(one),
      changes: one.texts,
      permits: one.diffs.flatMap((step) =>
        step.classes.filter(({ change }) => change === 'allowed').map((found) => describeClass(step, found)),
      ),
    })),
    declined: declined.map((one) => ({ ...group(one), reason: one.reason })),
    generalised,
    classes: reportClasses(diff),
    problems,
    patch,
  };
  return printableJson(report);
}

function totalOf(kinds: readonly SeenDenial[]): number {
  return kinds.reduce((sum, { count }) => sum + count, 0);
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

function number(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function printable(text: string): string {
  return escapeText(bound(text, LONGEST_SHOWN));
}
