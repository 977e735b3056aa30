/** The JSON Schemas of schemas/, to hold to them what is written and what is printed. */
import { readFileSync } from 'node:fs';
import { Ajv, type AnySchemaObject, type ValidateFunction } from 'ajv';
import type { Test } from 'tap';

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

/** The value of a setting may be anything. */
const ANYTHING = new Set(['value', 'before', 'after']);
/** By code or by phase: what did not occur is left out. */
const AS_IT_COMES = new Set(['failures', 'phases']);

/** Valid, and not any more once a field is taken away or added, in any object of the value; of lists in the first entry. */
export function holdWhole(t: Test, name: string, value: unknown, what: string): void {
  t.strictSame(schemaFaults(name, value), [], `${name}: ${what}`);
  const missed: string[] = [];
  const visit = (one: unknown, path: string, replace: (other: unknown) => unknown): void => {
    if (Array.isArray(one)) {
      if (one.length > 0) visit(one[0], `${path}[0]`, (other) => replace([other, ...(one.slice(1) as unknown[])]));
      return;
    }
    if (typeof one !== 'object' || one === null) return;
    if (schemaFaults(name, replace({ ...one, another: 1 })).length === 0) missed.push(`${path}.another may be added`);
    for (const [key, inner] of Object.entries(one)) {
      const rest = Object.fromEntries(Object.entries(one).filter(([other]) => other !== key));
      if (!AS_IT_COMES.has(path.split('.').at(-1) ?? '') && schemaFaults(name, replace(rest)).length === 0) missed.push(`${path}.${key} may be missing`);
      if (!ANYTHING.has(key)) visit(inner, `${path}.${key}`, (other) => replace({ ...one, [key]: other }));
    }
  };
  visit(value, '', (other) => other);
  t.strictSame(missed, [], `${name}: ${what}`);
}
