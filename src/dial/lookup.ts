/** Two ways to look up a name's addresses: as the system is configured, its hosts file first, or by configured DNS servers alone. */
import { BADRESP, NODATA, promises as dns, type RecordWithTtl, TIMEOUT } from 'node:dns';
import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import { TimeLimit } from '../time-limit.ts';
import { abortFault } from './dial.ts';

/** The addresses of a name. */
export interface LookupAnswer {
  /** IP literals in the order they should be tried. */
  readonly addresses: readonly string[];
  /** How long the answer may be kept, ms; null: the source does not say. */
  readonly ttl: number | null;
  /** The family whose look-up failed, and that may have addresses all the same; absent: none. */
  readonly open?: 4 | 6;
}

/**
 * Asks once, without a cache. Rejects with an error whose `code` is Node's
 * (https://nodejs.org/api/dns.html#error-codes): ENOTFOUND and ENODATA mean
 * that the name has no address, as does an empty list; anything else means that
 * the look-up failed, and the message says why: for each server that was asked.
 *
 * @param patience how long silent servers are asked again, ms; by default, each is asked twice
 */
export interface Lookup {
  (host: string, patience?: number): Promise<LookupAnswer>;
  /** Those that it asks now, for messages. */
  readonly servers?: () => readonly string[];
}

/** After this, a silent server is skipped in favour of the next one; in later rounds it gets longer. */
const SERVER_MS = [1_000, 2_000] as const;
/** A family that answered waits this long for the other, so a server that drops AAAA does not fail every name… */
const SECOND_FAMILY_MS = 500;
/** …and an AAAA answer this much longer for A, by when a server that lost the question has been asked again. */
const LOST_QUESTION_MS = SERVER_MS[0];
/** How long an answer without one family may be kept when that failed or kept silent, s: IPv4 is what partners permit, and some servers never answer AAAA. */
const WITHOUT_A = 0;
const WITHOUT_AAAA = 30;

/**
 * As the system is configured: its hosts file, otherwise the servers of its
 * resolv.conf. Otherwise like `dnsLookup`. getaddrinfo is not used: it would
 * append the search domains of the host to a policy's name, and hold one of the
 * few threads that Node has for such calls.
 */
export const systemLookup: Lookup = createSystemLookup({ servers: getServers, findInHosts });

interface SystemSources {
  /** The system's current servers. */
  readonly servers: () => readonly string[];
  /** Addresses of a name in the hosts file; empty: it is not listed. */
  readonly findInHosts: (host: string) => readonly string[];
}

/** Looks in the hosts file, then queries the system's current DNS servers. Answers of the hosts file have no ttl. */
export function createSystemLookup({ servers, findInHosts: find }: SystemSources): Lookup {
  let current: { readonly from: string; readonly ask: Lookup } | null = null;
  const ask = async (host: string, patience?: number): Promise<LookupAnswer> => {
    const known = find(host);
    if (known.length > 0) return { addresses: known.toSorted(byFamily), ttl: null };
    const now = servers();
    const from = now.join(' ');
    if (current?.from !== from) current = { from, ask: dnsLookup(now) };
    return current.ask(host, patience);
  };
  return Object.assign(ask, { servers });
}

/** Node reads resolv.conf only at start; a new Resolver reads it again. */
function getServers(): string[] {
  return new dns.Resolver().getServers();
}

/**
 * Queries these servers for A and AAAA in parallel; no hosts file, no search
 * domains: a name is absolute. The next server is queried if one does not
 * answer, cannot or will not answer (SERVFAIL, REFUSED, NOTIMP, FORMERR), or
 * sends a malformed answer; "no such name" is an answer. IPv4 comes first,
 * since the source address a partner permits is an IPv4 one.
 *
 * @param servers `address:port`, tried in order, beginning with the one that answered last
 * @throws TypeError for a server that is not an address
 */
export function dnsLookup(servers: readonly string[]): Lookup {
  // c-ares goes on to the next server only after silence: Node makes it accept every reply.
  const rounds = SERVER_MS.map((timeout) =>
    servers.map((server) => {
      const open = (): dns.Resolver => {
        // c-ares would wait up to five times as long as a server has taken before.
        const resolver = new dns.Resolver({ timeout, maxTimeout: timeout, tries: 1 });
        resolver.setServers([server]);
        return resolver;
      };
      const shared = open();
      // Node checks once in `timeout` which questions are over, and finds this one a moment too early: it would take twice as long.
      return async (question: Question, alone: boolean) =>
        (await waitWithin(question(alone ? open() : shared), timeout)) ?? Promise.reject(NO_ANSWER);
    }),
  );
  let preferred = 0;

  async function ask(question: Question, patience: number): Promise<RecordWithTtl[] | Error> {
    const first = preferred;
    const began = performance.now();
    let failure = new Error('there is no DNS server to ask');
    /** The latest failure of each server. */
    const failures = new Map<string, Error>();
    for (let number = 0; ; number += 1) {
      const round = rounds[Math.min(number, rounds.length - 1)] ?? [];
      for (let turn = 0; turn < round.length; turn += 1) {
        const index = (first + turn) % round.length;
        try {
          // One malformed answer fails every question that its resolver has open: the next time, this one is asked alone.
          const alone = errorCode(failures.get(servers[index] ?? '')) === BADRESP;
          const records = (await round[index]?.(question, alone)) ?? [];
          preferred = index;
          // For c-ares, aliases that lead to no address are not an error.
          return records.length > 0 ? records : NO_RECORD;
        } catch (error) {
          failure = error instanceof Error ? error : new Error(String(error));
          if (isNoSuchName(failure)) {
            preferred = index;
            return failure;
          }
          failures.set(servers[index] ?? '', failure);
        }
      }
      // A server that was still looking may have found it by now.
      const again = errorCode(failure) === 'ETIMEOUT' && performance.now() - began < patience;
      if (number + 1 < rounds.length || again) continue;
      return failures.size === 0
        ? failure
        : Object.assign(new Error(Array.from(failures, ([server, error]) => `${server}: ${sayAnswer(error)}`).join(', ')), {
            code: errorCode(failure),
          });
    }
  }

  const askBoth = async (host: string, patience = 0): Promise<LookupAnswer> => {
    const four = ask((resolver) => resolver.resolve4(host, { ttl: true }), patience);
    const six = ask((resolver) => resolver.resolve6(host, { ttl: true }), patience);
    const first = await Promise.race([four, six]);
    const answers = await (first instanceof Error
      ? Promise.all([four, six])
      : Promise.all([waitWithin(four, SECOND_FAMILY_MS + LOST_QUESTION_MS), waitWithin(six, SECOND_FAMILY_MS)]));

    const found = answers.flatMap((answer) => (Array.isArray(answer) ? answer : []));
    if (found.length > 0) {
      return {
        addresses: found.map((record) => record.address),
        ttl:
          Math.min(
            ...found.map((record) => record.ttl),
            isOpen(answers[0]) ? WITHOUT_A : Infinity,
            isOpen(answers[1]) ? WITHOUT_AAAA : Infinity,
          ) * 1_000,
        ...(isOpen(answers[0]) ? { open: 4 as const } : isOpen(answers[1]) ? { open: 6 as const } : {}),
      };
    }
    // "No such record" from one family and a failure from the other are inconclusive: the failure is reported.
    const failures = answers.filter((answer) => answer instanceof Error);
    throw failures.find((error) => !isNoSuchName(error)) ?? failures[0] ?? NO_RECORD;
  };
  return Object.assign(askBoth, { servers: () => servers });
}

type Question = (resolver: dns.Resolver) => Promise<RecordWithTtl[]>;

const NO_ANSWER = Object.assign(new Error('the server does not answer'), { code: TIMEOUT });
const NO_RECORD = Object.assign(new Error('the answer has no such record'), { code: NODATA });

/** What a DNS server answered (RFC 1035 §4.1.1), by c-ares' name for it. */
export const RCODES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'NXDOMAIN',
  ENODATA: 'NOERROR',
  EFORMERR: 'FORMERR',
  ESERVFAIL: 'SERVFAIL',
  ENOTIMP: 'NOTIMP',
  EREFUSED: 'REFUSED',
};
/** What is no answer of a DNS server, likewise. */
const NO_RCODES: Readonly<Record<string, string>> = {
  [TIMEOUT]: 'no answer',
  [BADRESP]: 'a malformed answer',
  ECONNREFUSED: 'connection refused',
};

/** For messages: what came of asking one server. */
function sayAnswer(error: Error): string {
  const code = errorCode(error);
  return RCODES[code] ?? NO_RCODES[code] ?? (code || error.message);
}

/** Whether this family may have addresses all the same. */
function isOpen(answer: RecordWithTtl[] | Error | null | undefined): boolean {
  return !Array.isArray(answer) && !isNoSuchName(answer);
}

function byFamily(one: string, other: string): number {
  return isIP(one) - isIP(other);
}

/** Whether the error means that the name has no address, rather than that the look-up failed. */
export function isNoSuchName(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

/** The `code` of a Node error, '' where there is none. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The result of the promise; null after `ms`. Rejects as the promise does, or when the signal aborts. */
export function waitWithin<T>(promise: Promise<T>, ms: number, signal?: CancelSignal): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      limit.clear();
      signal?.removeEventListener('abort', abort);
    };
    const abort = (): void => {
      end();
      if (signal !== undefined) reject(abortFault(signal));
    };
    const limit = new TimeLimit(ms, () => {
      end();
      resolve(null);
    });
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort);
    promise.finally(end).then(resolve, reject);
  });
}

// The hosts file of the system (hosts(5)), read again when it changes.

const HOSTS_FILE = '/etc/hosts';

let kept: { readonly state: string; readonly names: ReadonlyMap<string, readonly string[]> } | null = null;

/** Addresses of a canonical name, in the order of the file; empty: it is not listed, or the file cannot be read. */
function findInHosts(host: string): readonly string[] {
  try {
    const { ino, size, mtimeMs } = statSync(HOSTS_FILE);
    const state = `${ino} ${size} ${mtimeMs}`;
    if (kept?.state !== state) kept = { state, names: readHosts(readFileSync(HOSTS_FILE, 'utf8')) };
  } catch {
    // A system without a hosts file: only DNS answers.
    return [];
  }
  return kept.names.get(host) ?? [];
}

/** Names in lower case and without a final dot, as in the policy. */
export function readHosts(text: string): Map<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address = '', ...aliases] = (line.split('#', 1)[0] ?? '').split(/[ \t\r]+/).filter((word) => word !== '');
    if (isIP(address) === 0 || address.includes('%')) continue;
    for (const alias of aliases) {
      const name = alias.toLowerCase().replace(/\.$/, '');
      const known = names.get(name);
      if (known === undefined) names.set(name, [address]);
      else if (!known.includes(address)) known.push(address);
    }
  }
  return names;
}
