/** The one name of a whole configuration: check, log, metrics, status page and explanations all show it. */
import { createHash } from 'node:crypto';
import type { Config } from './config.ts';

/**
 * Over every value in effect, after variables and defaults, and over the
 * contents of certificate and key files: it changes whenever the configuration
 * means something else, and tells none of it.
 * @returns 16 hexadecimal digits
 */
export function hashConfig(config: Config): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex').slice(0, 16);
}
