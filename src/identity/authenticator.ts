/**
 * Verifies the Proxy-Authorization fields of a request: once, cached for a
 * while, and at a bounded cost even in a flood of wrong ones. The policy
 * decides what a user or token may do.
 */
import { hash, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ClientConfig } from '../config/config.ts';
import type { Peer, Proof } from '../policy/verdict.ts';
import { Gate } from './gate.ts';
import { decoyOf, type PresentedCredentials, readProxyAuthorization, verifyPassword } from './proxy-authorization.ts';
import { createTokenVerifier, MINUTE } from './tokens.ts';

/** What a request proved. At most one of the first three is not null; `rejected` is one sentence that quotes nothing of the request. */
export interface VerifiedCredentials extends Pick<Peer, 'user' | 'token' | 'rejected'> {
  /** Of the user or token; null: there is neither. */
  readonly proof: Proof | null;
}

/** The client that presents credentials, as far as it is known without them. */
export type Asker = Pick<Peer, 'address' | 'sans'>;

/** Verifies credentials for the proxy. Its creator closes it. */
export interface Authenticator {
  /**
   * @param fields every Proxy-Authorization value of the request, in order
   * @returns the answer itself if it is cached, otherwise a promise of it, which may also be rejected with such a
   * Fault
   * @throws {Fault} `limit-reached` (503), at once, when too much is being verified
   */
  check(fields: readonly string[], asker: Asker): VerifiedCredentials | Promise<VerifiedCredentials>;
  /** Applies another configuration. Users and tokens that it changes are verified again, others stay cached. */
  update(clients: readonly ClientConfig[]): void;
  /** Ends reading keys; nothing else stays open. */
  close(): void;
}

/** For `createAuthenticator`. */
export interface AuthenticatorOptions {
  readonly clients: readonly ClientConfig[];
  /** Which kinds of credentials could make the peer a client: other kinds are not read. */
  readonly wanting: (asker: Asker) => { readonly basic: boolean; readonly bearer: boolean };
  /** Ms since the epoch, for the times in tokens. */
  readonly now: () => number;
  /** Monotonic ms, for everything that is cached for a while: a clock that is set back does not extend it. */
  readonly monotonic: () => number;
  /** For JWKS URLs. */
  readonly fetch?: typeof globalThis.fetch;
  /** Time limit for a JWKS server, ms. */
  readonly fetchTimeout?: number;
  /** Keys of an issuer could not be read; the last good ones stay in use for a day. */
  readonly onKeyFault: (issuer: string, error: unknown) => void;
}

/** Only a reload changes whether a password is right, and ends the cached result: this bounds how long a hash of it is in memory. */
const PASSWORD_ACCEPTED_FOR = 60 * MINUTE;
const PASSWORD_REFUSED_FOR = 10 * MINUTE;
/** The keys of a token may be revoked, or published, at any time. */
const TOKEN_ACCEPTED_FOR = 5 * MINUTE;
const TOKEN_REFUSED_FOR = 5_000;
const CACHED = { mostAccepted: 4_096, mostRefused: 4_096 };
/** Two of libuv's four threads: DNS and files need the others. A check takes some 0.1 s of one, and an address with failures gets one at most. */
const PASSWORDS = { running: 2, suspects: 1, waiting: 256, perAddress: 16, failures: 20, forgiveAfter: 2_000 };
/** The threads are the same, but a signature takes a thousandth of the time. */
const SIGNATURES = { running: 4, suspects: 2, waiting: 256, perAddress: 16, failures: 100, forgiveAfter: 100 };
/** An issuer's server may be slow. Requests that wait for it delay no others. */
const KEYS = { running: 256, suspects: 256, waiting: 0, perAddress: 16, failures: Infinity, forgiveAfter: MINUTE };
const FETCH_TIMEOUT = 5_000;

const NO_CREDENTIALS: VerifiedCredentials = { user: null, token: null, rejected: null, proof: null };
const reject = (rejected: string): VerifiedCredentials => ({ user: null, token: null, rejected, proof: null });
const isRejected = ({ rejected }: VerifiedCredentials): boolean => rejected !== null;
const SEVERAL = reject('the request has several Proxy-Authorization fields');
const NO_BASIC = reject('Basic credentials are not accepted here, only Bearer tokens');
const NO_BEARER = reject('Bearer tokens are not accepted here, only Basic credentials');
/** The same for unknown users: a response must not reveal which users exist. */
const WRONG = reject('the user or the password is wrong');

/** Known users, and how each is verified. */
type Users = ReadonlyMap<string, { readonly user: string; readonly hash: string }>;

/** A verification in progress. */
interface UnderWay {
  readonly address: string;
  readonly settled: Promise<VerifiedCredentials>;
}

/** Begins to read the keys of all configured issuers at once. */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { now, monotonic, wanting, onKeyFault, fetch = globalThis.fetch, fetchTimeout = FETCH_TIMEOUT } = options;
  const cache = new CredentialCache<VerifiedCredentials>({ now: monotonic, ...CACHED });
  const passwords = new Gate({ ...PASSWORDS, now: monotonic });
  const tokens = createTokenVerifier({
    now,
    monotonic,
    fetch,
    fetchTimeout,
    onKeyFault,
    signatures: new Gate({ ...SIGNATURES, now: monotonic }),
    keys: new Gate({ ...KEYS, now: monotonic }),
  });
  let underWay = new Map<string, UnderWay>();
  let users: Users = new Map();
  let takesTokens = false;

  function update(clients: readonly ClientConfig[]): void {
    users = readUsers(clients, users);
    takesTokens = clients.some((client) => client.tokens !== null);
    tokens.update(clients);
    cache.forgetRefused();
    // Requests from now on do not wait for verifications begun before.
    underWay = new Map();
  }

  /** Always the same for one name, so an unknown user always costs the same as some known one. */
  function decoyFor(user: string): string {
    const known = [...users.values()];
    const place = Buffer.from(cache.keyOf(user), 'base64').readUInt32BE(0) % known.length;
    return decoyOf(known[place]?.hash ?? '');
  }

  async function verifyBasic(key: string, user: string, password: string): Promise<VerifiedCredentials> {
    // It has waited for its turn: another request may have verified the same meanwhile.
    const settled = cache.find(key);
    if (settled !== undefined) return settled;
    if (users.size === 0) return WRONG;
    const known = users.get(user);
    const { hash } = known ?? { hash: decoyFor(user) };
    const began = underWay;
    const matches = await verifyPassword(hash, password);
    if (users.get(user) !== known) return verifyBasic(key, user, password);
    if (known === undefined || !matches) {
      if (began === underWay) cache.refuse(key, WRONG, monotonic() + PASSWORD_REFUSED_FOR);
      return WRONG;
    }
    const holds = (): boolean => users.get(user) === known;
    const proof: Proof = { of: 'credentials', lapsed: () => (holds() ? null : 'the password has been changed or taken away') };
    const credentials = { user: known.user, token: null, rejected: null, proof };
    cache.accept(key, credentials, monotonic() + PASSWORD_ACCEPTED_FOR, holds);
    return credentials;
  }

  async function verifyToken(key: string, text: string, address: string): Promise<VerifiedCredentials> {
    const began = underWay;
    const token = await tokens.verify(text, address);
    if (typeof token === 'string') {
      const rejected = reject(token);
      if (began === underWay) cache.refuse(key, rejected, monotonic() + TOKEN_REFUSED_FOR);
      return rejected;
    }
    if (!token.stillHolds()) return verifyToken(key, text, address);
    const { issuer, audiences, subject } = token;
    const credentials = {
      user: null,
      token: { issuer, audiences, subject },
      rejected: null,
      proof: { of: 'credentials', lapsed: token.lapsed } as const,
    };
    cache.accept(key, credentials, monotonic() + TOKEN_ACCEPTED_FOR, () => now() < token.until && token.stillHolds());
    return credentials;
  }

  function verify(key: string, presented: PresentedCredentials, address: string): Promise<VerifiedCredentials> {
    return presented.scheme === 'basic'
      ? passwords.run(address, () => verifyBasic(key, presented.user, presented.password), isRejected)
      : verifyToken(key, presented.token, address);
  }

  /** One verification for all requests with the same credentials, unless it waits longer than a new one would. */
  function joinOrBegin(key: string, presented: PresentedCredentials, address: string): Promise<VerifiedCredentials> {
    const current = underWay.get(key);
    if (current !== undefined && passwords.debt(current.address) <= passwords.debt(address)) return current.settled;
    const began = underWay;
    const entry: UnderWay = {
      address,
      settled: verify(key, presented, address).finally(() => {
        if (began.get(key) === entry) began.delete(key);
      }),
    };
    began.set(key, entry);
    return entry.settled;
  }

  update(options.clients);
  return {
    check(fields, asker) {
      // RFC 9110 §11.7.2: a field that was not requested has no meaning, and is ignored.
      if (fields.length === 0 || (users.size === 0 && !takesTokens)) return NO_CREDENTIALS;
      // Likewise for an address that no credentials could make a client: wrong ones cost nothing.
      const wanted = wanting(asker);
      if (!wanted.basic && !wanted.bearer) return NO_CREDENTIALS;
      const [field = ''] = fields;
      if (fields.length > 1) return SEVERAL;
      const key = cache.keyOf(field);
      const known = cache.find(key);
      if (known !== undefined) return known;

      const presented = readProxyAuthorization(field);
      if (typeof presented === 'string') return reject(presented);
      if (presented.scheme === 'basic' && !wanted.basic) return NO_BASIC;
      if (presented.scheme === 'bearer' && !wanted.bearer) return NO_BEARER;
      return joinOrBegin(key, presented, asker.address);
    },
    update,
    close() {
      tokens.close();
    },
  };
}

/**
 * Unchanged entries keep their identity, by which cached credentials stay valid.
 * @throws {TypeError} when one user has two passwords: they would prove the same, so the configuration refuses them
 */
function readUsers(clients: readonly ClientConfig[], before: Users): Users {
  const users = new Map<string, { user: string; hash: string }>();
  for (const { user, hash: phc } of clients.flatMap(({ basic }) => basic ?? [])) {
    const name = user.normalize('NFC');
    const earlier = users.get(name);
    if (earlier !== undefined && (earlier.hash !== phc || earlier.user !== user))
      throw new TypeError(`the user ${user} has two entries that differ`);
    const old = before.get(name);
    users.set(name, old?.user === user && old.hash === phc ? old : { user, hash: phc });
  }
  return users;
}

interface CacheEntry<V> {
  readonly value: V;
  readonly until: number;
  /** Checked at each use; null: only time ends it. */
  readonly stillHolds: (() => boolean) | null;
}

interface CredentialCacheOptions {
  readonly now: () => number;
  readonly mostAccepted: number;
  readonly mostRefused: number;
}

/**
 * Caches which credentials were accepted or refused, without storing them:
 * entries are found by a keyed hash. Refused ones are kept separately and for a
 * short time, so that a flood of them cannot evict accepted ones.
 */
export class CredentialCache<V> {
  readonly #now: () => number;
  readonly #accepted: LRUCache<string, CacheEntry<V>>;
  readonly #refused: LRUCache<string, CacheEntry<V>>;
  /** Of this process only: the entries are useless elsewhere. */
  readonly #secret = randomBytes(32).toString('base64');

  constructor({ now, mostAccepted, mostRefused }: CredentialCacheOptions) {
    this.#now = now;
    this.#accepted = new LRUCache({ max: mostAccepted });
    this.#refused = new LRUCache({ max: mostRefused });
  }

  get size(): number {
    return this.#accepted.size + this.#refused.size;
  }

  /** A keyed hash, so no credentials are kept in memory. */
  keyOf(text: string): string {
    return hash('sha256', this.#secret + text, 'base64');
  }

  /** Undefined: unknown, or no longer valid. */
  find(key: string): V | undefined {
    return this.#findIn(this.#accepted, key) ?? this.#findIn(this.#refused, key);
  }

  /** @param until in ms, on the clock of `now` */
  accept(key: string, value: V, until: number, stillHolds: () => boolean): void {
    this.#refused.delete(key);
    this.#accepted.set(key, { value, until, stillHolds });
  }

  /** @param until as for `accept` */
  refuse(key: string, value: V, until: number): void {
    this.#refused.set(key, { value, until, stillHolds: null });
  }

  /** Refused credentials may be accepted from now on. */
  forgetRefused(): void {
    this.#refused.clear();
  }

  #findIn(entries: LRUCache<string, CacheEntry<V>>, key: string): V | undefined {
    const entry = entries.get(key);
    if (entry === undefined) return undefined;
    if (this.#now() < entry.until && (entry.stillHolds === null || entry.stillHolds())) return entry.value;
    entries.delete(key);
    return undefined;
  }
}
