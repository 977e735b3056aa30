/**
 * The readable parts of a file with faults, so that the checks across parts
 * still run and all faults are reported together.
 */
import * as z from 'zod';
import {
  CIRCUIT_BREAKER,
  CLIENT,
  CLUSTER,
  DESTINATION,
  type FileContent,
  HOP,
  LENIENT,
  LISTENERS,
  PROBE,
  RULE,
  SOURCE_IP,
  TLS_SERVER,
  TRACING,
} from './schema.ts';

/** A faulty part is absent; a faulty item of a list is undefined, so the others keep their positions. */
export type Loose<Shape extends z.core.$ZodLooseShape> = { readonly [Key in keyof Shape]?: Holey<z.output<Shape[Key]>> };

type Holey<T> = T extends readonly (infer Item)[] ? readonly (Item | undefined)[] : T;

/** The readable parts of a file; faulty ones are absent. */
export interface Draft {
  readonly listeners: Loose<typeof LISTENERS>;
  readonly tlsServer: Loose<typeof TLS_SERVER>;
  /** By name, in the order of the file; names of faulty entries too. */
  readonly clients: ReadonlyMap<string, Loose<typeof CLIENT>>;
  readonly destinations: ReadonlyMap<string, Loose<typeof DESTINATION>>;
  /** By position. */
  readonly rules: readonly Loose<typeof RULE>[];
  readonly hops: ReadonlyMap<string, Loose<typeof HOP>>;
  /** Sections that are no mapping: which names they have is not known. */
  readonly nameless: ReadonlySet<string>;
  readonly sourceIp: Loose<typeof SOURCE_IP>;
  readonly probe: Loose<typeof PROBE>;
  readonly circuitBreaker: Loose<typeof CIRCUIT_BREAKER>;
  readonly tracing: Loose<typeof TRACING>;
  readonly cluster: Loose<typeof CLUSTER>;
}

/** Reads the readable parts of a parsed file; never throws. */
export function draftOf(value: unknown): Draft {
  const file = asRecord(value);
  const rules = Array.isArray(file['rules']) ? (file['rules'] as readonly unknown[]) : [];
  return {
    listeners: loosely(LISTENERS, file['listeners']),
    tlsServer: loosely(TLS_SERVER, file['tlsServer']),
    clients: entries(CLIENT, file['clients']),
    destinations: entries(DESTINATION, file['destinations']),
    rules: rules.map((rule) => loosely(RULE, rule)),
    hops: entries(HOP, file['hops']),
    nameless: new Set(Object.keys(file).filter((key) => asRecord(file[key]) !== file[key])),
    sourceIp: loosely(SOURCE_IP, file['sourceIp']),
    probe: loosely(PROBE, asRecord(file['sourceIp'])['probe']),
    circuitBreaker: loosely(CIRCUIT_BREAKER, file['circuitBreaker']),
    tracing: loosely(TRACING, file['tracing']),
    cluster: loosely(CLUSTER, file['cluster']),
  };
}

/** The same for a file without faults. */
export function draftOfContent(content: FileContent): Draft {
  const { clients, destinations, hops, sourceIp } = content;
  return {
    ...content,
    clients: new Map(Object.entries(clients)),
    destinations: new Map(Object.entries(destinations)),
    hops: new Map(Object.entries(hops)),
    nameless: new Set(),
    probe: sourceIp.probe,
  };
}

function entries<Shape extends Record<string, z.ZodType>>(shape: Shape, value: unknown): Map<string, Loose<Shape>> {
  return new Map(Object.entries(asRecord(value)).map(([name, entry]) => [name, loosely(shape, entry)]));
}

function loosely<Shape extends Record<string, z.ZodType>>(shape: Shape, value: unknown): Loose<Shape> {
  const record = asRecord(value);
  const read = Object.entries(shape).map(([key, schema]) => [key, looselyOne(schema, record[key])] as const);
  // Each key was read by the schema of that key.
  return Object.fromEntries(read) as Loose<Shape>;
}

function looselyOne(schema: z.ZodType, value: unknown): unknown {
  const whole = schema.safeParse(value);
  if (whole.success) return whole.data;
  const inner = schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional ? schema.unwrap() : schema;
  return LENIENT.get(inner as z.ZodType)?.safeParse(value).data;
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {};
}
