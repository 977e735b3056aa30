/** `--settings`: the variables that the Deployment gets, for the commands that check a configuration before it is applied. */
import { describeFileError } from '../config/named-files.ts';
import { readUtf8 } from '../config/read-files.ts';
import type { CommandIo } from './io.ts';

/**
 * The environment with the variables of a file: they override those of the shell.
 * @param file undefined: the unchanged environment
 */
export function withSettings(
  env: CommandIo['env'],
  file: string | undefined,
): { readonly env: CommandIo['env'] } | { readonly problem: string } {
  if (file === undefined) return { env };
  try {
    const read = readSettings(readUtf8(file), file);
    return 'problem' in read ? { problem: `--settings: ${read.problem}` } : { env: { ...env, ...read.values } };
  } catch (error) {
    return { problem: `--settings: ${file} cannot be read: ${describeFileError(error)}.` };
  }
}

type Settings = { readonly values: Readonly<Record<string, string>> } | { readonly problem: string };

/** Go's bufio.Scanner, in bytes. */
const LONGEST_SETTING_LINE = 65_535;
const VARIABLE_NAME = /^[A-Za-z_]\w*$/;

/**
 * Reads settings.env as kustomize does, which creates the ConfigMap from it: a value is everything after the first `=`.
 * Lines that a shell or dotenv would read differently are refused, and those that kustomize refuses, so that the pod
 * gets the intended values (kubernetes-sigs/kustomize#4525).
 * @param file for messages
 */
export function readSettings(text: string, file: string): Settings {
  const values: Record<string, string> = {};
  const lines = new Map<string, number>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    // A byte order mark is a blank to JavaScript alone.
    const written = line.replace(/^[^\S\ufeff]+/, '');
    if (written === '' || written.startsWith('#')) continue;
    const equals = written.indexOf('=');
    const [name, value] = equals === -1 ? [written, ''] : [written.slice(0, equals), written.slice(equals + 1)];
    const before = lines.get(name);
    const repeated = before === undefined ? null : `${name} has a value already, in line ${before}. Keep one of the two lines.`;
    const problem = equals === -1 ? `${JSON.stringify(name)} has no value. Write NAME=value.` : (checkSetting(name, value) ?? repeated);
    if (problem !== null) return { problem: `${file}:${index + 1}: ${problem}` };
    values[name] = value;
    lines.set(name, index + 1);
  }
  return { values };
}

function checkSetting(name: string, value: string): string | null {
  const bare = name.replace(/^export\s+/, '').trim();
  const plain = value
    .trim()
    .replace(/\s+#.*$/, '')
    .replace(/^(["'])(.*)\1$/, '$2');
  const instead = `Write ${VARIABLE_NAME.test(bare) ? bare : 'NAME'}=${plain}`;
  if (!VARIABLE_NAME.test(name)) return `${JSON.stringify(name)} is not the name of a variable. ${instead}`;
  if (/(?!\t)\p{Cc}/u.test(value))
    return `The value of ${name} has control characters, which no variable of a pod has as they are. Take them out.`;
  if (Buffer.byteLength(`${name}=${value}`) > LONGEST_SETTING_LINE)
    return `The line of ${name} is longer than kustomize reads: ${LONGEST_SETTING_LINE} bytes.`;
  // Invalid UTF-8 was decoded as this.
  if (value.includes('\ufffd')) return `The value of ${name} is not UTF-8 text. Save the file as UTF-8.`;
  if (/^["']|["']$/.test(value.trim())) return `The quotes would be part of the value of ${name}. ${instead}`;
  if (/(?:^|\s)#/.test(value)) return `The comment would be part of the value of ${name}. ${instead}`;
  if (value !== value.trim()) return `The blanks would be part of the value of ${name}. ${instead}`;
  return null;
}
