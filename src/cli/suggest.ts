/** `eco-egress suggest`: from denials to the smallest change of the configuration file that permits them. Starts nothing, and looks nothing up. */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { createTwoFilesPatch } from 'diff';
import { loadConfig, type Loaded } from '../config/load.ts';
import { describeFileError } from '../config/named-files.ts';
import { readUtf8 } from '../config/read-files.ts';
import { listEdits } from '../explain/policy-edits.ts';
import { enforcedConfigOf } from '../explain/suggest-change.ts';
import { compilePolicy, type PolicyConfig } from '../policy/compile.ts';
import { comparePolicyConfigs } from '../policy-diff/compare-policies.ts';
import { BoundedMeter, TooMuchWork } from '../policy-diff/work.ts';
import { editFile } from '../suggest/edit-file.ts';
import { formatSuggestions, reportSuggestions, type SuggestedPatch } from '../suggest/format-suggestions.ts';
import { type Suggestions, suggestChanges } from '../suggest/propose-changes.ts';
import { SeenDenials } from '../suggest/seen-denials.ts';
import { escapeText } from '../telemetry/safe-text.ts';
import { askAdmin, readProblem } from './ask-admin.ts';
import { type CommandIo, EXIT, misuse, replaceFile } from './io.ts';
import { chooseConfigFile, tellFaults } from './open-config.ts';

/** Arguments of `suggest`, as written. */
export interface SuggestOptions {
  readonly config?: string;
  /** Admin port of the proxy that is asked when no log is named. */
  readonly admin?: string;
  readonly minCount: string;
  readonly generalise?: boolean;
  readonly write?: boolean;
  readonly json?: boolean;
}

/** Each proposal is compared with the previous state. */
const MOST_STEPS_OF_SUGGEST = 100_000_000;
/** Characters: a longer line is left out, and a much longer one is no log. */
const LONGEST_LOG_LINE = 1_048_576;
const LONGEST_SKIPPED = 64 * LONGEST_LOG_LINE;
const MOST_NUMBERS = 10;
/** Ms. */
const ANSWER_TIMEOUT = 30_000;

/** Resolves to 0 when everything was proposed or nothing has to be, to 1 when the file cannot be changed or no proxy answers, to 2 for a faulty file or argument. */
export async function runSuggest(options: SuggestOptions, io: CommandIo, ...logs: string[]): Promise<number> {
  const least = Number(options.minCount);
  if (!Number.isInteger(least) || least < 1)
    return misuse(io, `--min-count ${options.minCount} is not a number of requests: write 1 or more.`);
  const file = chooseConfigFile(options.config, io.env);
  const loaded = loadConfig({ file, env: io.env, policyOnly: true });
  if (!loaded.ok) return tellFaults(loaded.faults, io);
  const { text } = loaded;
  const seen = await gatherDenials(logs, options, io);
  if (typeof seen === 'number') return seen;

  let found: Suggestions;
  let patch: SuggestedPatch & { readonly text: string | null };
  const now = Date.now();
  const denials = seen.list();
  const policy = compilePolicy(loaded.config);
  try {
    found = suggestChanges(
      policy,
      denials,
      { least, generalise: options.generalise === true, now },
      new BoundedMeter(MOST_STEPS_OF_SUGGEST),
    );
    patch = makePatch(loaded, text, found, now, io);
  } catch (error) {
    if (!(error instanceof TooMuchWork)) throw error;
    return misuse(io, 'The policy is too large for changes to be checked.');
  }
  const source = {
    file,
    hash: loaded.hash,
    denials,
    lines: logs.length === 0 ? null : { access: seen.accessLines, other: seen.otherLines },
    leftOut: seen.leftOut,
  };
  io.stdout.write(options.json === true ? reportSuggestions(found, source, patch) : formatSuggestions(found, source, patch, io.stdout));
  if (patch.problems.length > 0) return EXIT.failed;
  return options.write === true && patch.text !== null ? write(file, text, patch.text, io) : EXIT.ok;
}

/** Of logs, or of the proxy that runs here. @returns an exit code where nothing could be read; why is on stderr */
async function gatherDenials(logs: readonly string[], options: SuggestOptions, io: CommandIo): Promise<SeenDenials | number> {
  const seen = new SeenDenials();
  if (logs.length === 0) {
    const answer = await askAdmin('GET', '/denials', options, ANSWER_TIMEOUT, io);
    if (typeof answer === 'number') return answer;
    if (answer.status === 200 && seen.addAnswer(answer.body)) return seen;
    io.stderr.write(`${answer.place} did not return its denials (${answer.status}): ${readProblem(answer.body)}\n`);
    return EXIT.failed;
  }
  for (const log of logs) {
    try {
      const faulty = await readLines(log === '-' ? io.stdin : createReadStream(log), seen);
      if (faulty.length > 0)
        io.stderr.write(
          `${escapeText(log)}: left out, because they have no valid time or port, or more than 1 MiB: ${faulty.length === 1 ? 'line' : 'lines'} ${faulty.slice(0, MOST_NUMBERS).join(', ')}${faulty.length > MOST_NUMBERS ? ` and ${faulty.length - MOST_NUMBERS} others` : ''}.\n`,
        );
    } catch (error) {
      return misuse(io, `${log} cannot be read: ${describeFileError(error)}. Name a file with the access log, or - for standard input.`);
    }
  }
  if (seen.accessLines > 0 || seen.otherLines === 0) return seen;
  return misuse(
    io,
    'No line is an access line in JSON. Write the log with log.format: json, and take what a container runtime puts before each line off.',
  );
}

/** @returns the numbers of lines that cannot be used */
async function readLines(input: Readable, seen: SeenDenials): Promise<number[]> {
  const decoder = new StringDecoder();
  const faulty: number[] = [];
  let number = 0;
  let skipped = 0;
  let rest = '';
  const take = (line: string): void => {
    number += 1;
    if (skipped + line.length > LONGEST_LOG_LINE || !seen.addLine(line)) faulty.push(number);
    skipped = 0;
  };
  for await (const chunk of input as AsyncIterable<Buffer>) {
    // RFC 1952 §2.3.1: what logrotate leaves.
    if (number === 0 && rest === '' && chunk[0] === 0x1f && chunk[1] === 0x8b)
      throw new Error('it is compressed with gzip, so pass it through zcat');
    const lines = (rest + decoder.write(chunk)).split(/\r?\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
    if (skipped + rest.length <= LONGEST_LOG_LINE) continue;
    skipped += rest.length;
    rest = '';
    if (skipped > LONGEST_SKIPPED) throw new Error('it has a line of more than 64 MiB');
  }
  if (rest !== '' || skipped > 0) take(rest);
  return faulty;
}

/** The file with the changes, once it has been read again and has exactly the proposed effect. */
function makePatch(
  loaded: Loaded,
  text: string,
  { before, after, diff }: Suggestions,
  now: number,
  io: CommandIo,
): SuggestedPatch & { readonly text: string | null } {
  if (diff.classes.length === 0) return { text: null, patch: null, problems: [] };
  const edited = editFile(text, listEdits(before, after));
  if ('problems' in edited) return { text: null, patch: null, problems: edited.problems };
  const { file } = loaded;
  const again = loadConfig({ file, env: io.env, readFile: (path) => (path === file ? edited.text : readUtf8(path)), policyOnly: true });
  if (!again.ok || !meansTheSame(again.config, after, now))
    return { text: null, patch: null, problems: ['the changes cannot be inserted where the file has these keys: write them by hand'] };
  return { text: edited.text, patch: createTwoFilesPatch(file, file, text, edited.text).replace(/^Index: .*\n=+\n/, ''), problems: [] };
}

function meansTheSame(written: PolicyConfig, wanted: PolicyConfig, now: number): boolean {
  return (
    comparePolicyConfigs(enforcedConfigOf(compilePolicy(written)), wanted, now, new BoundedMeter(MOST_STEPS_OF_SUGGEST)).classes.length ===
    0
  );
}

function write(file: string, before: string, after: string, io: CommandIo): number {
  try {
    if (readUtf8(file) !== before) {
      io.stderr.write(`${file} has been changed meanwhile: run this again.\n`);
      return EXIT.failed;
    }
    replaceFile(file, after);
  } catch (error) {
    io.stderr.write(`${file} cannot be written: ${describeFileError(error)}. Apply the patch by hand.\n`);
    return EXIT.failed;
  }
  io.stderr.write(`${escapeText(file)} is written.\n`);
  return EXIT.ok;
}
