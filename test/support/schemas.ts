/** The JSON Schemas of schemas/, to hold to them what is written and what is printed. */
import { readFileSync } from 'node:fs';
import { Ajv, type AnySchemaObject, type ValidateFunction } from 'ajv';

const validators = new Map<string, ValidateFunction>();

export function readSchema(name: string): AnySchemaObject {
  return JSON.parse(readFileSync(new URL(`../../schemas/${name}.v1.json`, import.meta.url), 'utf8')) as AnySchemaObject;
}

/** What is wrong with a value, one line each; empty: it is valid. */
export function schemaFaults(name: string, value: unknown): string[] {
  let validate = validators.get(name);
  if (validate === undefined) {
    // Formats stand beside patterns that say the same.
    validate = new Ajv({ strict: true, strictTypes: false, strictRequired: false, allErrors: true, validateFormats: false, allowUnionTypes: true }).compile(readSchema(name));
    validators.set(name, validate);
  }
  return validate(value) ? [] : (validate.errors ?? []).map(({ instancePath, message = '', params }) => `${instancePath} ${message} ${JSON.stringify(params)}`);
}
