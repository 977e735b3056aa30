/**
 * From a file to a Config: YAML, variables, schema, checks across keys. The
 * result is a whole configuration or all faults of the file, never a part.
 */
import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import type { Config, WarningKind } from './config.ts';
import { crossCheck } from './cross-check.ts';
import { draftOf, draftOfContent } from './draft.ts';
import { complainAbout, explainIssue } from './effective.ts';
import type { Complain, Complaint, ConfigFinding, Warn, Warning } from './finding.ts';
import { checkJwksFile, nameFiles, readTlsServer, readWayFiles } from './key-files.ts';
import { describeFileError, type FileReading, type ReadFile } from './named-files.ts';
import { normalise } from './normalise.ts';
import { readUtf8 } from './read-files.ts';
import { type Environment, readTree, type Tree } from './read-tree.ts';
import { aboutFile, locateAll, locateWarnings, readYaml } from './read-yaml.ts';
import { FILE } from './schema.ts';
import { listSettings, type Setting } from './settings.ts';
import { warnAbout, warnAboutVariables } from './warnings.ts';

/** What to load; all except `file` and `env` is for tests and for watching files. */
export interface LoadOptions {
  /** Path of the YAML file; files named in it are relative to it. */
  readonly file: string;
  /** Values of `${NAME}`. */
  readonly env: Environment;
  /** Reads the file and the certificate files; throws the errors of node:fs. */
  readonly readFile?: ReadFile;
  /** What to do if the file cannot be read; absent: name another one. */
  readonly instead?: string;
  /** For warnings that depend on the time; ms since the epoch. */
  readonly now?: () => number;
  /** Certificates, keys and credentials are not read: for commands that only query the policy, where they may be secrets of another machine. Such a configuration cannot be served. */
  readonly policyOnly?: boolean;
}

/** A configuration that can be served. */
export interface Loaded {
  readonly ok: true;
  readonly config: Config;
  /** As given by the caller. */
  readonly file: string;
  /** As read. */
  readonly text: string;
  readonly hash: string;
  /** Valid configuration that was probably not meant; the same in every place that shows warnings. */
  readonly warnings: readonly Warning[];
  /** The warnings at another time, ms since the epoch, if no file changes: rules, certificates and lists of revoked ones begin and end. */
  readonly warningsAt: (now: number) => readonly Warning[];
  /** When they are others next, ms since the epoch; Infinity: never. */
  readonly nextWarningsAfter: (now: number) => number;
  /** Every effective value, with its origin; computed on demand. */
  readonly settings: () => readonly Setting[];
  /** Files that the configuration names, with a hash of their content. */
  readonly contents: ReadonlyMap<string, string>;
}

/** A configuration that can be served, or every fault of the file. */
export type LoadResult = Loaded | { readonly ok: false; readonly faults: readonly ConfigFinding[] };

/** Never throws: an error here is a bug, and must not end a proxy that reloads. `hash` changes whenever the meaning of the configuration does. */
export function loadConfig(options: LoadOptions): LoadResult {
  try {
    return load(options);
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ok: false, faults: [aboutFile(options.file, `It could not be loaded because of an internal error: ${stack}`, '')] };
  }
}

function load({ file, env, readFile = readUtf8, now = Date.now, policyOnly = false, instead }: LoadOptions): LoadResult {
  // Commands that only query the policy name the file in another way: as an operand, or in the tests.
  const text = readSource(
    file,
    readFile,
    instead ?? (policyOnly ? 'Name another file.' : 'Name another with --config or ECO_EGRESS_CONFIG.'),
  );
  if (typeof text !== 'string') return { ok: false, faults: [text] };

  const faults = collectFaults();
  const warnings = collectWarnings();
  const contents = new Map<string, string>();
  const { document, lines } = readYaml(text, faults.complain);
  const tree = document === null ? null : readTree(document, lines, env, faults.complain);
  const readNamed = (path: string): string => {
    const content = readFile(path);
    contents.set(path, createHash('sha256').update(content).digest('hex'));
    return content;
  };
  const reading = { directory: dirname(resolve(file)), readFile: readNamed, complain: faults.complain, warn: warnings.warn };
  const config = tree === null ? null : readContent(tree, reading, policyOnly);

  const source = { file, text, lines, root: tree?.root ?? null };
  if (tree === null || config === null || faults.found.length > 0) return { ok: false, faults: locateAll(faults.found, source) };
  warnAbout(config, warnings.warn);
  warnAboutVariables(tree.variables, env, warnings.warn);
  const warningsAt = (moment: number): readonly Warning[] =>
    locateWarnings(
      warnings.found.filter(({ from, until }) => from <= moment && moment < until),
      source,
    );
  let settings: readonly Setting[] | null = null;
  return {
    ok: true,
    config,
    file,
    text,
    hash: hashConfig(config, contents),
    warnings: warningsAt(now()),
    warningsAt,
    nextWarningsAfter: (moment) =>
      warnings.found.reduce((next, { from, until }) => Math.min(next, from > moment ? from : until > moment ? until : Infinity), Infinity),
    settings: () => (settings ??= listSettings({ ...tree, lineOf: (offset) => lines.linePos(offset).line })),
    contents,
  };
}

function readContent(tree: Tree, reading: FileReading, policyOnly: boolean): Config | null {
  const { complain } = reading;
  const content = FILE.safeParse(tree.value, { error: explainIssue });
  if (!content.success) complainAbout(content.error.issues, tree, complain);

  const draft = content.success ? draftOfContent(content.data) : draftOf(tree.value);
  crossCheck(draft, complain);
  if (policyOnly)
    return content.success
      ? normalise(content.data, { ...nameFiles(content.data), locateFile: (path) => resolve(reading.directory, path) })
      : null;
  const files = readWayFiles(draft, reading);
  const tlsServer = readTlsServer(draft.tlsServer, ['tlsServer'], reading);
  for (const [name, { tokens }] of draft.clients) {
    tokens?.forEach((token, index) => {
      if (token?.jwksFile !== undefined) checkJwksFile(token.jwksFile, ['clients', name, 'tokens', index, 'jwksFile'], reading);
    });
  }
  if (!content.success) return null;
  return normalise(content.data, { files, tlsServer, locateFile: (path) => resolve(reading.directory, path) });
}

/** The text of a file, or why it cannot be read. @param instead what to do if it does not exist */
export function readSource(file: string, readFile: ReadFile, instead: string): string | ConfigFinding {
  let text: string;
  try {
    text = readFile(file);
  } catch (error) {
    return aboutFile(file, `The file cannot be read: ${describeFileError(error)}.`, instead);
  }
  const { index, 0: character } = NOT_OF_TEXT.exec(text) ?? { index: 0, 0: '' };
  if (character === '') return text;
  const before = text.slice(0, index).split(/\r?\n/);
  const code = character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
  const finding =
    character === REPLACEMENT
      ? aboutFile(file, 'This is not UTF-8 text.', 'Save the file as UTF-8.')
      : aboutFile(file, `This is the control character U+${code}.`, 'Take it out, or write it as an escape in double quotes.');
  return { ...finding, line: before.length, column: (before.at(-1) ?? '').length + 1 };
}

/** What was no UTF-8 was decoded as this. */
const REPLACEMENT = '\ufffd';
/** Neither in YAML nor in the ConfigMap (YAML 1.2 §5.1), or a line break for readers of YAML 1.1, such as the cluster's. */
const NOT_OF_TEXT = /(?![\t\n\r])[\p{Cc}\u2028\u2029\ufffd]/u;

/** A list of faults that grows as they are reported. */
export function collectFaults(): { readonly found: Complaint[]; readonly complain: Complain } {
  const found: Complaint[] = [];
  return {
    found,
    complain: (path, problem, instead, aim = 'value') => {
      found.push({ path, problem, instead, aim });
    },
  };
}

type TimedWarning = Complaint & { readonly kind: WarningKind; readonly from: number; readonly until: number };

function collectWarnings(): { readonly found: TimedWarning[]; readonly warn: Warn } {
  const found: TimedWarning[] = [];
  return {
    found,
    warn: (kind, path, problem, instead, aim = 'value', { from, until } = {}) => {
      found.push({ kind, path, problem, instead, aim, from: from ?? -Infinity, until: until ?? Infinity });
    },
  };
}

/**
 * The name of a whole configuration: check, log, metrics, status page and
 * explanations all show it. It changes whenever the meaning of the
 * configuration does, and does not depend on the location of the files.
 * @param contents digests of the files that it names, by path: keys of token issuers are read again at run time, so
 * only their path is included
 * @returns 16 hexadecimal digits, which reveal nothing of the configuration
 */
export function hashConfig(config: Config, contents: ReadonlyMap<string, string>): string {
  const clients = config.clients.map((client) => ({
    ...client,
    tokens:
      client.tokens?.map((token) => ({
        ...token,
        jwks: token.jwks.kind === 'file' ? (contents.get(token.jwks.path) ?? token.jwks.path) : token.jwks,
      })) ?? null,
  }));
  return createHash('sha256')
    .update(JSON.stringify({ ...config, clients }))
    .digest('hex')
    .slice(0, 16);
}
