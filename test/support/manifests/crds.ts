/**
 * What an API server says of a custom resource, given the CRD it has for it: unknown fields, the schema, and the rules
 * in CEL (`x-kubernetes-validations`), in the server's order and words. The CRDs are read from a folder that the
 * environment variable CRDS names; none belong to this project.
 *
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Environment } from '@marcbachmann/cel-js';
import { Ajv, type ValidateFunction } from 'ajv';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from './kustomize.ts';

interface Rule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
}

interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly 'x-kubernetes-validations'?: readonly Rule[];
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

interface Definition {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly name: string; readonly served: boolean; readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

type Fields = Record<string, unknown>;

/** One rule that had something to be evaluated on. */
export interface Evaluated {
  readonly kind: string;
  /** With `*` for each position in a list and each key of a map: `spec.http[*].timeout`. */
  readonly field: string;
  readonly rule: string;
}

export interface ServerAnswer {
  /** What the server would refuse the object for, whatever it is called; empty: it takes it. */
  readonly faults: readonly string[];
  /** Those of them that are rules in CEL, in the server's own words. */
  readonly ruleFaults: readonly string[];
  readonly evaluated: readonly Evaluated[];
}

export interface CrdServer {
  readonly knows: (object: KubeObject) => boolean;
  /** Looks at a copy: the defaults that the server would add stay in it. */
  readonly admit: (object: KubeObject) => ServerAnswer;
}

/** `apiVersion`, `kind` and `metadata` are the server's own business: a CRD may say only that they are there. */
const OWN_FIELDS = ['apiVersion', 'kind', 'metadata'];

/** @throws where the folder has a CRD that cannot be read, or a rule that the library cannot parse: nothing is passed over in silence */
export function readCrds(folder: string): CrdServer {
  const schemas = new Map<string, Schema>();
  for (const file of readdirSync(folder).filter((name) => /\.ya?ml$/.test(name))) {
    for (const document of parseAllDocuments(readFileSync(join(folder, file), 'utf8'))) {
      const definition = document.toJS() as (Definition & { readonly kind: string }) | null;
      if (definition?.kind !== 'CustomResourceDefinition') continue;
      const { group, names, versions } = definition.spec;
      for (const { name, schema } of versions.filter(({ served }) => served)) schemas.set(`${group}/${name}/${names.kind}`, schema.openAPIV3Schema);
    }
  }
  if (schemas.size === 0) throw new Error(`${folder} has no CustomResourceDefinition`);
  for (const schema of schemas.values()) parseRules(schema);

  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, logger: false, code: { regExp: goPattern } });
  const compiled = new Map<string, ValidateFunction>();
  return {
    knows: ({ apiVersion, kind }) => schemas.has(`${apiVersion}/${kind}`),
    admit: (object) => {
      const id = `${object.apiVersion}/${object.kind}`;
      const schema = schemas.get(id);
      if (schema === undefined) return { faults: [`no matches for kind "${object.kind}" in version "${object.apiVersion}"`], ruleFaults: [], evaluated: [] };
      const copy = structuredClone(object) as Fields;
      const unknown = [...findUnknown(schema, copy, '')].map((field) => `strict decoding error: unknown field "${field}"`);
      if (unknown.length > 0) return { faults: unknown, ruleFaults: [], evaluated: [] };
      addDefaults(schema, copy);
      let validate = compiled.get(id);
      if (validate === undefined) compiled.set(id, (validate = ajv.compile(schema)));
      // The server evaluates rules only on what has the shape that the rules are written for.
      if (!validate(copy)) return { faults: (validate.errors ?? []).map(({ instancePath, message, params }) => `${dotted(instancePath)}: Invalid value: ${message} ${JSON.stringify(params)}`), ruleFaults: [], evaluated: [] };
      const verdicts = [...evaluateRules(schema, copy, '')];
      const ruleFaults = verdicts.flatMap(({ fault }) => fault ?? []);
      return {
        faults: ruleFaults,
        ruleFaults,
        evaluated: verdicts.map(({ rule, path }) => ({ kind: object.kind, field: path.replaceAll(/\[[^\]]*\]/g, '[*]'), rule })),
      };
    },
  };
}

/** Patterns of CRDs are those of Go, which says "whatever case" in the middle of one. */
const goPattern = Object.assign((pattern: string): RegExp => new RegExp(pattern.replace(/\(\?i\)(.*)$/, '(?i:$1)'), 'u'), { code: 'goPattern' });

function* findUnknown(schema: Schema, value: unknown, path: string): Generator<string> {
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) return;
  for (const [key, child, below] of childrenOf(schema, value)) {
    const at = below.startsWith('[') ? `${path}${below}` : path === '' ? below : `${path}.${below}`;
    if (path === '' && OWN_FIELDS.includes(key)) continue;
    if (child === undefined) yield at;
    else yield* findUnknown(child, fieldOf(value, key), at);
  }
}

function addDefaults(schema: Schema, value: unknown): void {
  if (!isFields(value) && !Array.isArray(value)) return;
  if (isFields(value)) {
    for (const [name, { default: preset }] of Object.entries(schema.properties ?? {})) if (!(name in value) && preset !== undefined) value[name] = structuredClone(preset);
  }
  for (const [key, child] of childrenOf(schema, value)) if (child !== undefined) addDefaults(child, fieldOf(value, key));
}

interface Verdict {
  readonly path: string;
  readonly rule: string;
  readonly fault?: string;
}

function* evaluateRules(schema: Schema, value: unknown, path: string): Generator<Verdict> {
  if (value === null || value === undefined) return;
  for (const rule of schema['x-kubernetes-validations'] ?? []) {
    // Rules on a change compare with the object that is there already; what is created has none before it.
    if (/\boldSelf\b/.test(rule.rule)) continue;
    const fault = refusalOf(rule, celValue(schema, value));
    const shown = typeof value === 'object' ? '' : `${JSON.stringify(value)}: `;
    yield { path, rule: rule.rule, ...(fault === null ? {} : { fault: `${path}: Invalid value: ${shown}${fault}` }) };
  }
  for (const [key, child, below] of childrenOf(schema, value)) {
    if (child !== undefined) yield* evaluateRules(child, fieldOf(value, key), below.startsWith('[') ? `${path}${below}` : path === '' ? below : `${path}.${below}`);
  }
}

/** Each field or item that is there, with its schema (undefined: unknown), and how the server writes its place. */
function* childrenOf({ properties = {}, additionalProperties, items }: Schema, value: unknown): Generator<readonly [key: string, schema: Schema | undefined, place: string]> {
  if (Array.isArray(value)) {
    for (const index of value.keys()) yield [String(index), items, `[${index}]`];
  } else if (isFields(value)) {
    for (const key of Object.keys(value)) {
      const known = properties[key];
      const more = typeof additionalProperties === 'object' ? additionalProperties : additionalProperties === true ? {} : undefined;
      yield [key, known ?? more, known === undefined && more !== undefined ? `[${key}]` : key];
    }
  }
}

const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);
const fieldOf = (value: unknown, key: string): unknown => (value as Fields)[key];
const dotted = (pointer: string): string => pointer.replaceAll(/\/(\d+)(?=\/|$)/g, '[$1]').replace(/^\//, '').replaceAll('/', '.');

/** CEL, with the functions on URLs that Kubernetes adds to it. */
class CelUrl {
  readonly scheme: string;
  constructor(text: string) {
    this.scheme = new URL(text).protocol.replace(/:$/, '');
  }
}

const cel = new Environment({ unlistedVariablesAreDyn: true, homogeneousAggregateLiterals: false, enableOptionalTypes: true })
  .registerType('URL', CelUrl)
  .registerFunction('isURL(string): bool', (text: string) => URL.canParse(text))
  .registerFunction('url(string): URL', (text: string) => new CelUrl(text))
  .registerFunction('URL.getScheme(): string', ({ scheme }: CelUrl) => scheme)
  .registerFunction('string.format(list): string', (text: string, values: unknown[]) => values.reduce<string>((shown, value) => shown.replace('%s', String(value)), text));

function parseRules(schema: Schema): void {
  for (const { rule } of schema['x-kubernetes-validations'] ?? []) cel.parse(rule);
  for (const child of [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties]) if (typeof child === 'object') parseRules(child);
}

/** @returns why the rule refuses the value; null: it does not */
function refusalOf({ rule, message, messageExpression }: Rule, self: unknown): string | null {
  try {
    if (cel.evaluate(rule, { self }) === true) return null;
  } catch (error) {
    // As on the server: what cannot be evaluated is refused, as a duration that is none.
    return `${message ?? `failed rule: ${rule}`} (${String(error).split('\n')[0]})`;
  }
  if (messageExpression !== undefined) return String(cel.evaluate(messageExpression, { self }));
  return message ?? `failed rule: ${rule}`;
}

/** Names that CEL keeps to itself; Kubernetes writes them `__name__` in rules. */
const RESERVED = new Set(['true', 'false', 'null', 'in', 'as', 'break', 'const', 'continue', 'else', 'for', 'function', 'if', 'import', 'let', 'loop', 'package', 'namespace', 'return', 'var', 'void', 'while']);

function celName(name: string): string {
  return RESERVED.has(name) ? `__${name}__` : name.replaceAll('__', '__underscores__').replaceAll('.', '__dot__').replaceAll('-', '__dash__').replaceAll('/', '__slash__');
}

/** The value as rules see it: 64-bit integers, durations, and fields by names that CEL can say. Keys of maps stay as they are. */
function celValue(schema: Schema, value: unknown): unknown {
  if (typeof value === 'number') return schema.type === 'number' ? value : BigInt(value);
  if (typeof value === 'string' && schema.format === 'duration') return cel.evaluate('duration(self)', { self: value });
  if (Array.isArray(value)) return value.map((item: unknown) => celValue(schema.items ?? {}, item));
  if (!isFields(value)) return value;
  return Object.fromEntries([...childrenOf(schema, value)].map(([key, child]) => [schema.properties?.[key] === undefined ? key : celName(key), celValue(child ?? {}, value[key])]));
}
