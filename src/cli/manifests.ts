/** `eco-egress manifests`: the Kubernetes and Istio objects that follow from the policy. Changes no cluster. */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { stringify } from 'yaml';
import { describeFileError } from '../config/named-files.ts';
import { readCidr } from '../config/read-address.ts';
import { readNamespace } from '../config/read-scalar.ts';
import { PLACEMENT } from '../manifests/placement.ts';
import { OVERLAYS, renderManifests, type RenderedFile } from '../manifests/render.ts';
import { type CommandIo, EXIT, misuse, replaceFile } from './io.ts';
import { openConfig } from './open-config.ts';
import { withSettings } from './settings-file.ts';

/** Arguments of `manifests`, as written. */
export interface ManifestsOptions {
  readonly config?: string;
  readonly overlay?: readonly string[];
  readonly settings?: string;
  readonly namespace?: string;
  readonly clientNamespace?: string;
  readonly direct?: string;
  readonly out?: string;
}

/** Resolves to 0 when everything was written, to 1 when a file could not be, to 2 for a faulty file or question: nothing is written then. */
export function runManifests(options: ManifestsOptions, io: CommandIo): Promise<number> {
  const complain = (text: string) => Promise.resolve(misuse(io, text));
  const wanted = options.overlay ?? (options.out === undefined ? [] : OVERLAYS);
  if (wanted.length === 0)
    return complain(`Say which with --overlay: ${OVERLAYS.join(', ')}. With --out and no --overlay, all are written.`);
  const stranger = wanted.find((name) => !OVERLAYS.some((overlay) => overlay === name));
  if (stranger !== undefined) return complain(`There is no overlay ${stranger}. Choose one of ${OVERLAYS.join(', ')}.`);
  for (const [option, name] of [
    ['--namespace', options.namespace],
    ['--client-namespace', options.clientNamespace],
  ] as const) {
    const read = name === undefined ? null : readNamespace(name);
    if (read !== null && !('value' in read)) return complain(`${option}: ${read.problem} ${read.instead}`);
  }

  const env = withSettings(io.env, options.settings);
  if ('problem' in env) return complain(env.problem);
  const opened = openConfig(options.config, { stdin: io.stdin, stdout: io.stdout, stderr: io.stderr, env: env.env });
  if (opened === null) return Promise.resolve(EXIT.usage);
  const direct = readRanges(options.direct ?? '');
  if (typeof direct === 'string') return complain(`--direct: ${direct}`);

  const renderings = OVERLAYS.filter((overlay) => wanted.includes(overlay)).map((overlay) =>
    renderManifests(overlay, {
      config: opened.config,
      policyText: opened.text,
      names: [...opened.contents.keys()].map((path) => relative(resolve(dirname(opened.file)), path)),
      placement: {
        namespace: options.namespace ?? PLACEMENT.namespace,
        clientNamespace: options.clientNamespace ?? PLACEMENT.clientNamespace,
      },
      direct,
    }),
  );
  const problems = [...new Set(renderings.flatMap((rendering) => rendering.problems))];
  if (problems.length > 0) return complain(problems.join('\n'));
  try {
    deliver(
      renderings.flatMap(({ files }) => files),
      options.out,
      io,
    );
  } catch (error) {
    io.stderr.write(`${options.out ?? ''} cannot be written: ${describeFileError(error)}. Name another directory with --out.\n`);
    return Promise.resolve(EXIT.failed);
  }
  return Promise.resolve(EXIT.ok);
}

/** The error of the first invalid one, or all of them, canonical. */
function readRanges(text: string): string[] | string {
  const ranges: string[] = [];
  for (const part of text.split(/[\s,]+/).filter((one) => one !== '')) {
    const read = readCidr(part);
    if (!('value' in read)) return `${read.problem} ${read.instead}`;
    ranges.push(read.value);
  }
  return ranges;
}

/** A file that several overlays share is the same for each of them. */
function deliver(files: readonly RenderedFile[], out: string | undefined, { stdout, stderr }: CommandIo): void {
  const unique = new Map(files.map((file) => [file.path, file]));
  for (const note of new Set([...unique.values()].flatMap(({ notes }) => notes))) stderr.write(`Note: ${note}\n`);
  if (out === undefined) {
    const texts = [...unique.values()]
      .filter(({ manifests }) => manifests.length > 0)
      .map((file) => `# ${file.path}\n${writeFileText(file)}`);
    stdout.write(texts.join('---\n'));
    return;
  }
  for (const file of unique.values()) {
    const path = join(out, file.path);
    makeDirectory(dirname(path));
    replaceFile(path, writeFileText(file));
    stdout.write(`${path}\n`);
  }
}

/** With its parents. Below /proc, where nothing can be made, Node's `recursive` never returns: mkdir says there ENOENT, though the parent exists. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path));
  mkdirSync(path);
}

/** A longer word has a line of its own. */
const COMMENT_LINES = /(?! )(?:.{1,110}(?= |$)|[^ ]+)/g;

/** A rendered file as YAML text. */
function writeFileText({ manifests, notes }: RenderedFile): string {
  const heading = [
    'Rendered from the policy by "npx eco-egress manifests". Change the policy, not this file.',
    ...notes.map((note) => `Note: ${note}`),
  ];
  // Quotes where YAML 1.1, which cluster tools read, would not see a string; no anchors, which some tools do not
  // support; no folded lines.
  const documents = manifests.map((manifest) =>
    stringify(manifest, { compat: 'yaml-1.1', aliasDuplicateObjects: false, lineWidth: 0, blockQuote: 'literal' }),
  );
  return `${heading.map(commentOf).join('')}${documents.join('---\n')}`;
}

const commentOf = (text: string): string => (text.match(COMMENT_LINES) ?? []).map((line) => `# ${line}\n`).join('');
