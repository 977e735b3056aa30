/** What JSON Schema (draft 7, which every editor knows) is made of here. */

export type JsonSchema = Readonly<Record<string, unknown>>;

/** The dialect of all of them, as zod writes it too. */
export const DIALECT = 'http://json-schema.org/draft-07/schema#';
