/** The results of policy tests, for people and for programs that collect test results. */
import { styleText } from 'node:util';
import { escapeMarkup, escapeText, escapeUnsafe, printableJson } from '../telemetry/safe-text.ts';
import type { Coverage, TestResult } from './run-tests.ts';

/** The results of one file of tests. */
export interface FileResults {
  readonly file: string;
  /** Path of the configuration. */
  readonly config: string;
  readonly results: readonly TestResult[];
}

/** Of one configuration. */
export interface ConfigCoverage extends Coverage {
  readonly config: string;
}

const passed = ({ differences }: TestResult): boolean => differences.length === 0;
const plural = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;

/** One sentence for each difference. */
function explain({ differences }: TestResult): string[] {
  return differences.map(({ what, expected, actual }) => `The ${what} is ${actual}, not ${expected}.`);
}

/** @param stream colours only where it is a terminal */
export function formatTestResults(
  files: readonly FileResults[],
  coverages: readonly ConfigCoverage[],
  stream: NodeJS.WritableStream,
): string {
  const paint = (style: 'green' | 'red', text: string): string => styleText(style, text, { stream });
  let text = '';
  for (const { file, config, results } of files) {
    text += `${file}: ${plural(results.length, 'test')} of ${config}\n`;
    for (const result of results) {
      const { test, answer } = result;
      text += `  ${passed(result) ? paint('green', 'ok  ') : paint('red', 'FAIL')}  ${escapeText(test.name)}\n`;
      if (passed(result)) continue;
      const { method, target } = answer.asked;
      for (const line of [...explain(result), `${method} ${target}: ${answer.why}.`, `${file}:${test.line}`]) text += `        ${line}\n`;
    }
    text += '\n';
  }
  const results = files.flatMap((one) => one.results);
  const failures = results.filter((result) => !passed(result)).length;
  text += `${plural(results.length, 'test')}, ${failures === 0 ? 'all passed' : `${failures} failed`}.\n`;
  for (const coverage of coverages) text += `\n${formatCoverage(coverage)}`;
  return text;
}

function formatCoverage({ config, total, touched, untouched }: ConfigCoverage): string {
  const percent = formatPercent({ total, touched });
  let text = `${config}: tests touch ${touched} of ${total} rules, clients, destinations and hosts (${percent} %).\n`;
  for (const { kind, name } of untouched) text += `  not touched: ${kind === 'rule' ? '' : `${kind} `}${name}\n`;
  return text;
}

/** Rounded down: 100 is all of it. */
export function formatPercent({ total, touched }: Pick<Coverage, 'total' | 'touched'>): string {
  return String(total === 0 ? 100 : Math.floor((touched * 1000) / total) / 10);
}

/** One JSON document. */
export function formatTestJson(files: readonly FileResults[], coverages: readonly ConfigCoverage[]): string {
  const report = {
    ok: files.every(({ results }) => results.every(passed)),
    files: files.map(({ file, config, results }) => ({
      file,
      config,
      tests: results.map((result) => ({
        name: result.test.name,
        line: result.test.line,
        ok: passed(result),
        differences: result.differences,
        verdict: result.answer.verdict,
        code: result.answer.code,
        client: result.answer.client,
        destination: result.answer.destination,
        rule: result.answer.rule,
        why: result.answer.why,
      })),
    })),
    ...(coverages.length === 0 ? {} : { coverage: coverages }),
  };
  return printableJson(report);
}

/** TAP version 14. https://testanything.org/tap-version-14-specification.html */
export function formatTap(files: readonly FileResults[]): string {
  const all = files.flatMap(({ file, results }) => results.map((result) => ({ file, result })));
  let text = `TAP version 14\n1..${all.length}\n`;
  for (const [index, { file, result }] of all.entries()) {
    text += `${passed(result) ? 'ok' : 'not ok'} ${index + 1} - ${escapeText(result.test.name).replaceAll('#', '\\#')}\n`;
    if (passed(result)) continue;
    text += `  ---\n  message: ${JSON.stringify(explain(result).join(' '))}\n  why: ${JSON.stringify(escapeUnsafe(result.answer.why))}\n  at: ${JSON.stringify(`${file}:${result.test.line}`)}\n  ...\n`;
  }
  return text;
}

/** As Jenkins, GitLab and others read it: a suite for each file. */
export function formatJunit(files: readonly FileResults[]): string {
  let text = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n';
  for (const { file, results } of files) {
    text += `  <testsuite name="${xml(file)}" tests="${results.length}" failures="${results.filter((result) => !passed(result)).length}">\n`;
    for (const result of results) {
      const open = `    <testcase classname="${xml(file)}" name="${xml(result.test.name)}" file="${xml(file)}" line="${result.test.line}"`;
      text += passed(result)
        ? `${open}/>\n`
        : `${open}>\n      <failure message="${xml(explain(result).join(' '))}">${xml(`${result.answer.why}.`)}</failure>\n    </testcase>\n`;
    }
    text += '  </testsuite>\n';
  }
  return `${text}</testsuites>\n`;
}

/** Control characters are not possible in XML 1.0, not even escaped. */
function xml(value: string): string {
  return escapeMarkup(escapeUnsafe(value.replaceAll(/[\u0000-\u001f]/g, ' ')));
}
