/** Names each request, cheaply: a prefix of this process and a count. */
import { randomBytes } from 'node:crypto';

/**
 * Returns a function that gives a new id at every call: 22 characters of
 * `0-9a-z-`, safe in headers, paths and logs. Unique within the process, and
 * across processes by a 48-bit random prefix; not a secret.
 */
export function createRequestIds(): () => string {
  const prefix = `${randomBytes(6).toString('hex')}-`;
  let count = 0;
  return () => {
    count += 1;
    // 36^9 ids: enough for three years at a million a second; after that they grow by a digit.
    return prefix + count.toString(36).padStart(9, '0');
  };
}
