/** Every key of the configuration schema with its default, for the test that holds docs/configuration.md to it. */
import * as z from 'zod';
import { READER_BOUNDS } from '../../src/config/read-scalar.ts';
import { READERS } from '../../src/config/schema.ts';

export interface SchemaKey {
  readonly path: string;
  /** As written in a file; null: none, and the key may be left out; undefined: required. */
  readonly preset: unknown;
  /** The values of a choice; empty for other types. */
  readonly choices: readonly string[];
  /** The bounds of a number, or of each in a list; null for other types. */
  readonly bounds: string | null;
}

/** Plain sections have no entry of their own, only their keys have. */
export function listSchemaKeys(schema: z.core.$ZodType, path = '', preset?: unknown): SchemaKey[] {
  if (schema instanceof z.ZodPrefault) return listSchemaKeys(schema.def.innerType, path, schema.def.defaultValue);
  if (schema instanceof z.ZodOptional) return listSchemaKeys(schema.def.innerType, path, null);
  if (schema instanceof z.ZodPipe && schema.def.in instanceof z.ZodTransform) {
    const bounds = boundsOf(schema);
    const inside = listSchemaKeys(schema.def.out, path, preset).map((key) => (key.path === path && bounds !== null ? { ...key, bounds } : key));
    // A mapping that may be written as one text has its own default, and then its keys.
    return typeof preset === 'string' && inside.every((key) => key.path !== path) ? [{ path, preset, choices: [], bounds: null }, ...inside] : inside;
  }
  if (schema instanceof z.ZodObject) {
    const shape = schema.def.shape as Record<string, z.core.$ZodType>;
    return Object.entries(shape).flatMap(([key, value]) => listSchemaKeys(value, path === '' ? key : `${path}.${key}`));
  }
  const own = { path, preset, choices: choicesOf(schema), bounds: boundsOf(schema) };
  if (schema instanceof z.ZodRecord) return [own, ...listSchemaKeys(schema.def.valueType, `${path}.<name>`)];
  if (schema instanceof z.ZodArray) {
    const inside = listSchemaKeys(schema.def.element, `${path}[]`);
    return inside.every((key) => key.path === `${path}[]`) ? [{ ...own, choices: inside[0]?.choices ?? [] }] : [own, ...inside];
  }
  return [own];
}

function choicesOf(schema: z.core.$ZodType): readonly string[] {
  return schema instanceof z.ZodEnum ? schema.options.map(String) : [];
}

function boundsOf(schema: z.core.$ZodType): string | null {
  const read = READERS.get(schema);
  const bounds = read === undefined ? undefined : READER_BOUNDS.get(read);
  return bounds?.takes === 'integer' ? `${bounds.least} to ${bounds.most}` : null;
}
