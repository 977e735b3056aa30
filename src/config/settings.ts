/**
 * Every effective value, as a person would write it, with its origin. The
 * schema is walked, so a new key is shown without being listed here.
 */
import * as z from 'zod';
import { formatPath, quoteValue, type Path } from './finding.ts';
import { placeAt, type Tree } from './read-tree.ts';
import { FILE, SECRETS } from './schema.ts';

/**
 * - `file`: written in the file.
 * - `variable`: from the environment variables named.
 * - `default`: of this program, or the default of a variable in the file.
 */
export interface ValueOrigin {
  readonly from: 'file' | 'variable' | 'default';
  /** In the file; null: not written. */
  readonly line: number | null;
  /** Variables that the value is made of, or that yielded nothing. */
  readonly variables: readonly string[];
}

/** One effective value. */
export interface Setting {
  /** `destinations.eco-sit.ports` */
  readonly path: string;
  /** As written: `30s`, a list, a number. Null: nothing. `HIDDEN` for a secret. */
  readonly value: unknown;
  readonly origin: ValueOrigin;
}

/** Shown in place of a secret. */
export const HIDDEN = '(hidden)';

/** Each setting with its secrets, to compare it. */
const WHOLE = new WeakMap<Setting, string>();

/** The file as read. `lineOf` converts an offset in the text to a line, counted from 1. */
export interface WrittenTree extends Tree {
  readonly lineOf: (offset: number) => number;
}

/** In the order of the schema. Optional values that are not written are left out. */
export function listSettings(written: WrittenTree): Setting[] {
  const found: Setting[] = [];
  visit(FILE, written.value, [], false);
  return found;

  function visit(schema: z.core.$ZodType, value: unknown, path: Path, byDefault: boolean): void {
    if (schema instanceof z.ZodPrefault) {
      if (value === undefined) visit(schema.def.innerType, schema.def.defaultValue, path, true);
      else visit(schema.def.innerType, value, path, byDefault);
    } else if (schema instanceof z.ZodOptional) {
      if (value !== undefined || placeAt(written.root, path) !== undefined) visit(schema.def.innerType, value, path, byDefault);
    } else if (schema instanceof z.ZodPipe && schema.def.in instanceof z.ZodTransform && typeof value === 'object' && value !== null) {
      visit(schema.def.out, value, path, byDefault);
    } else if (schema instanceof z.ZodObject && isMapping(value)) {
      const shape: Readonly<Record<string, z.core.$ZodType>> = schema.def.shape;
      for (const [key, inner] of Object.entries(shape)) visit(inner, value[key], [...path, key], byDefault);
    } else if (schema instanceof z.ZodRecord && isMapping(value)) {
      for (const [key, entry] of Object.entries(value)) visit(schema.def.valueType, entry, [...path, key], byDefault);
    } else if (Array.isArray(value) && value.some((item) => typeof item === 'object' && item !== null) && schema instanceof z.ZodArray) {
      value.forEach((item, index) => {
        visit(schema.def.element, item, [...path, index], byDefault);
      });
    } else {
      const setting = { path: formatPath(path), value: shown(schema, value), origin: originOf(path, byDefault) };
      WHOLE.set(setting, JSON.stringify(value ?? null));
      found.push(setting);
    }
  }

  function originOf(path: Path, byDefault: boolean): ValueOrigin {
    const place = placeAt(written.root, path);
    if (place === undefined) return { from: byDefault ? 'default' : 'file', line: null, variables: [] };
    const line = written.lineOf(place.key[0]);
    const parts = [place];
    for (const [step, part] of place.parts ?? []) if (typeof step === 'number') parts.push(part);
    const variables = [...new Set(parts.flatMap((part) => part.variables))];
    const set = parts.some((part) => part.variables.some((name) => !part.defaulted.includes(name)));
    if (variables.length === 0) return { from: byDefault ? 'default' : 'file', line, variables };
    return { from: set && !byDefault ? 'variable' : 'default', line, variables };
  }
}

function shown(schema: z.core.$ZodType, value: unknown): unknown {
  if (SECRETS.has(schema)) return HIDDEN;
  if (Array.isArray(value)) return value.map((item) => shown(schema, item));
  return typeof value === 'string' ? hideInUrl(value) : (value ?? null);
}

/** A URL may have a password before the host, or a token after the path. Each part ends before the next `://`, so a text is read once. */
export function hideInUrl(text: string): string {
  return text.replace(
    /(:\/\/)([^\s/@,]*@)?([^\s,?#]*)(\?[^\s,#]*)?/g,
    (_, slashes: string, user: string | undefined, rest: string, query: string | undefined) =>
      `${slashes}${user === undefined ? '' : `${HIDDEN}@`}${rest}${query === undefined ? '' : `?${HIDDEN}`}`,
  );
}

const LONGEST_KEY_PATH = 44;
const LONGEST_SETTING = 100;

/** One line for each value: key, value, origin. A value longer than a line is truncated. */
export function formatSettings(settings: readonly Setting[]): string {
  const width = Math.min(LONGEST_KEY_PATH, Math.max(0, ...settings.map(({ path }) => path.length)));
  return settings
    .map(({ path, value, origin }) => {
      const text = quoteControls(value === null ? '-' : typeof value === 'string' ? value : JSON.stringify(value));
      const cut = text.length > LONGEST_SETTING ? `${text.slice(0, LONGEST_SETTING)}…` : text;
      return `  ${path.padEnd(width)}  ${cut.padEnd(24)}  # ${describeOrigin(origin)}\n`;
    })
    .join('');
}

function quoteControls(text: string): string {
  return /\p{C}/u.test(text) ? quoteValue(text) : text;
}

/** In a few words. */
export function describeOrigin({ from, line, variables }: ValueOrigin): string {
  const place = line === null ? '' : `line ${line}`;
  const names = variables.map((name) => `\${${name}}`).join(', ');
  if (from === 'file') return place || 'file';
  if (from === 'variable') return `${names}, ${place}`;
  if (names === '') return 'default';
  return `default, ${names} is not set (${place})`;
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A key whose value differs between two configurations; null: it is in one of them only. */
export interface Difference {
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** Of secrets it says only that they differ. @returns in the order of `after`, then removed keys */
export function compareSettings(before: readonly Setting[], after: readonly Setting[]): Difference[] {
  const old = new Map(before.map((setting) => [setting.path, setting]));
  const differences: Difference[] = [];
  for (const setting of after) {
    const { path, value } = setting;
    const known = old.get(path);
    old.delete(path);
    if (known === undefined) differences.push({ path, before: null, after: value });
    else if (JSON.stringify(known.value) !== JSON.stringify(value)) differences.push({ path, before: known.value, after: value });
    else if (WHOLE.get(known) !== WHOLE.get(setting)) differences.push({ path, before: known.value, after: `another ${HIDDEN}` });
  }
  for (const { path, value } of old.values()) differences.push({ path, before: value, after: null });
  return differences;
}
