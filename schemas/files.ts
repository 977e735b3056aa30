/**
 * JSON Schema of a file that people write, from the zod schema that reads it:
 * keys, defaults and choices from there, the meaning of each key from the page
 * that describes it. z.toJSONSchema sees neither what a transform takes nor
 * that a variable can stand for any value, so the schema is walked here.
 */
import * as z from 'zod';
import { READERS } from '../src/config/schema.ts';
import type { JsonSchema } from './json-schema.ts';
import { shapeOf } from './values.ts';

/** What a page says of a key. */
export interface KeyText {
  readonly meaning: string;
  /** What holds where the key is left out and the schema has no default; null: nothing is said. */
  readonly otherwise: string | null;
}

/** By `destinations.<name>.ports`. */
export type KeyTexts = ReadonlyMap<string, KeyText>;

/** `${NAME}` or `${NAME:-default}` may stand for any single value; what it yields is known when the file is loaded. */
const VARIABLE: JsonSchema = { $ref: '#/definitions/variable' };

/** For `$ref` of what `describeFile` gives. */
export const DEFINITIONS: JsonSchema = { variable: { type: 'string', pattern: '\\$\\{', description: 'An environment variable, with a default or without: ${NAME:-default}.' } };

/** @param names paths of mappings whose keys are names of the configuration */
export function describeFile(schema: z.core.$ZodType, texts: KeyTexts, names: ReadonlySet<string>): JsonSchema {
  return visit(schema, '');

  function visit(one: z.core.$ZodType, path: string): JsonSchema {
    if (one instanceof z.ZodOptional) return visit(one.def.innerType, path);
    if (one instanceof z.ZodPrefault) {
      const { defaultValue } = one.def;
      return isEmptyMapping(defaultValue) ? visit(one.def.innerType, path) : { ...describe(path, false), ...shape(one.def.innerType, path), default: defaultValue };
    }
    return { ...describe(path, true), ...shape(one, path) };
  }

  function describe(path: string, saysOtherwise: boolean): JsonSchema {
    const text = texts.get(path);
    if (text === undefined) return {};
    const otherwise = saysOtherwise && text.otherwise !== null ? `${/[.!?]$/.test(text.meaning) ? '' : '.'} Without it: ${text.otherwise}.` : '';
    return { description: `${text.meaning}${otherwise}` };
  }

  function shape(one: z.core.$ZodType, path: string): JsonSchema {
    const reader = READERS.get(one);
    if (one instanceof z.ZodPipe && one.def.in instanceof z.ZodTransform) {
      const { out } = one.def;
      // A list, which one text with commas can stand for.
      if (reader !== undefined) return list(orVariable(shapeOf(reader)), 1);
      if (out instanceof z.ZodArray) return list(visit(out.def.element, `${path}[]`), leastOf(out));
      // A mapping, for which its first value can stand.
      if (out instanceof z.ZodObject) {
        const keys: Readonly<Record<string, z.core.$ZodType>> = out.def.shape;
        const [first] = Object.values(keys);
        if (first !== undefined) return { anyOf: [shape(out, path), visit(first, '-')] };
      }
    }
    if (reader !== undefined) return orVariable(shapeOf(reader));
    if (one instanceof z.ZodObject) return mapping(one.def.shape, path);
    if (one instanceof z.ZodRecord) {
      return { type: 'object', ...(names.has(path) ? { propertyNames: { pattern: '^(?=.*[a-z])[a-z0-9][a-z0-9-]{0,62}$' } } : {}), additionalProperties: visit(one.def.valueType, `${path}.<name>`) };
    }
    if (one instanceof z.ZodArray) return { type: 'array', ...atLeast(leastOf(one)), items: visit(one.def.element, `${path}[]`) };
    if (one instanceof z.ZodEnum) return orVariable({ enum: one.options });
    if (one instanceof z.ZodLiteral) return { enum: [...one.values] };
    if (one instanceof z.ZodBoolean) return orVariable({ type: 'boolean' });
    throw new Error(`${path}: schemas/files.ts does not know what ${one._zod.def.type} is as JSON Schema`);
  }

  function mapping(keys: Record<string, z.core.$ZodType>, path: string): JsonSchema {
    const properties = Object.fromEntries(Object.entries(keys).map(([key, value]) => [key, visit(value, path === '' ? key : `${path}.${key}`)]));
    const required = Object.entries(keys).flatMap(([key, value]) => (value instanceof z.ZodOptional || value instanceof z.ZodPrefault ? [] : [key]));
    return { type: 'object', properties, ...(required.length === 0 ? {} : { required }), additionalProperties: false };
  }
}

function list(items: JsonSchema, least: number): JsonSchema {
  return { anyOf: [{ type: 'array', items, ...atLeast(least) }, { type: 'string' }, { type: 'number' }] };
}

const atLeast = (least: number): JsonSchema => (least === 0 ? {} : { minItems: least });

function leastOf(array: z.ZodArray): number {
  return Number(array._zod.bag['minimum'] ?? 0);
}

function orVariable(shape: JsonSchema): JsonSchema {
  return shape['type'] === 'string' && shape['pattern'] === undefined ? shape : { anyOf: [shape, VARIABLE] };
}

function isEmptyMapping(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;
}
