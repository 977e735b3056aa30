/** Holds an object of Kubernetes or its extensions to its schema: every field known, of its type, and there where it must be. */
import { readdirSync, readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';
import type { KubeObject } from './kustomize.ts';

const DIRECTORY = new URL('../../schemas/', import.meta.url);
const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, DIRECTORY), 'utf8'));

const core = read('kubernetes.json') as { kinds: Record<string, string>; definitions: Record<string, object> };
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema({ definitions: core.definitions }, 'core');

const FILES = new Map(readdirSync(DIRECTORY).filter((name) => /^[\w.]+_\w+_\w+\.json$/.test(name)).map((name) => [name.replace(/\.json$/, '').split('_').join('/'), name]));
const validators = new Map<string, ValidateFunction>();

/** Kinds that a file of test/schemas/ knows. */
export function hasSchema({ apiVersion, kind }: Pick<KubeObject, 'apiVersion' | 'kind'>): boolean {
  const id = `${apiVersion}/${kind}`;
  return id in core.kinds || FILES.has(id);
}

/** @returns faults, one line each; empty: none */
export function checkSchema(object: KubeObject): string[] {
  const id = `${object.apiVersion}/${object.kind}`;
  const who = `${object.kind} ${object.metadata.name}`;
  if (!hasSchema(object)) return [`${who}: there is no schema for ${id}`];
  const faults = run(id, schemaOf(id), object);
  // The schemas of extensions leave metadata to the API server.
  if (!(id in core.kinds)) faults.push(...run('metadata', { $ref: 'core#/definitions/V1ObjectMeta' }, object.metadata));
  return faults.map((fault) => `${who}${fault}`);
}

function schemaOf(id: string): object {
  const model = core.kinds[id];
  return model === undefined ? (read(FILES.get(id) ?? '') as object) : { $ref: `core#/definitions/${model}` };
}

function run(id: string, schema: object, value: unknown): string[] {
  let validate = validators.get(id);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    validators.set(id, validate);
  }
  if (validate(value)) return [];
  return (validate.errors ?? []).map(({ instancePath, message, params }) => `${instancePath}: ${message} ${JSON.stringify(params)}`);
}
