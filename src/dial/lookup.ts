/** The two ways to ask for a name's addresses: the system's resolver, or DNS servers of our own choosing. */
import { promises as dns } from 'node:dns';
import type { RecordWithTtl } from 'node:dns';

export interface LookupAnswer {
  /** IP literals in the order they should be tried. */
  readonly addresses: readonly string[];
  /** Milliseconds the answer may be kept; null where the source does not tell. */
  readonly ttl: number | null;
}

/**
 * Asks once, without a cache. Rejects with an error whose `code` is Node's
 * (https://nodejs.org/api/dns.html#error-codes): ENOTFOUND and ENODATA mean
 * that the name has no address, anything else that the question failed.
 */
export type Lookup = (host: string) => Promise<LookupAnswer>;

/** getaddrinfo: hosts file, search domains and the system's order of preference. Tells no time-to-live. */
export const systemLookup: Lookup = async (host) => {
  const found = await dns.lookup(host, { all: true, order: 'verbatim' });
  return { addresses: found.map((entry) => entry.address), ttl: null };
};

/** A family that answered waits this long for the other, so that a server that drops AAAA does not fail every name. */
const SECOND_FAMILY_MS = 500;

/**
 * Asks these servers for A and AAAA at once; no hosts file, no search domains.
 * IPv4 comes first, since the source address a partner permits is an IPv4 one.
 *
 * @param servers `address:port`, tried in order
 * @throws TypeError for a server that is not an address
 */
export function dnsLookup(servers: readonly string[]): Lookup {
  const resolver = new dns.Resolver({ timeout: 1_000, tries: 3 });
  resolver.setServers(servers);

  return async (host) => {
    const four = ask(resolver.resolve4(host, { ttl: true }));
    const six = ask(resolver.resolve6(host, { ttl: true }));
    const first = await Promise.race([four, six]);
    const answers = await (first instanceof Error
      ? Promise.all([four, six])
      : Promise.all([within(four, SECOND_FAMILY_MS), within(six, SECOND_FAMILY_MS)]));

    const found = answers.flatMap((answer) => (Array.isArray(answer) ? answer : []));
    if (found.length > 0) {
      return {
        addresses: found.map((record) => record.address),
        ttl: Math.min(...found.map((record) => record.ttl)) * 1_000,
      };
    }
    // "No such record" from one family and a failure from the other leave the question open: report the failure.
    const failures = answers.filter((answer) => answer instanceof Error);
    throw failures.find((error) => !isNoSuchName(error)) ?? failures[0] ?? new Error(`no answer for ${host}`);
  };
}

/** Whether the error says that the name has no address, rather than that asking failed. */
export function isNoSuchName(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

/** The `code` of a Node error, '' where there is none. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The records, or the error as a value: two questions run at once and neither may reject unheard. */
async function ask(question: Promise<RecordWithTtl[]>): Promise<RecordWithTtl[] | Error> {
  try {
    return await question;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** What a promise that never rejects comes to, or null after `ms`. */
function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms, null);
    void promise.then((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}
