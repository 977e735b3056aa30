/** The version of this program, as its package says: one folder up from the source, and from what is compiled of it. */
import { createRequire } from 'node:module';

/** From package.json: `1.0.0`. */
export const VERSION = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
