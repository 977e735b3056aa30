/**
 * From the Proxy-Authorization fields of a request to who they prove it is:
 * verified once, remembered for minutes, and never at a cost that a flood of
 * wrong ones could raise. What a user or token may do is the policy's business.
 */
import type { ClientConfig } from '../config/config.ts';
import type { Peer } from '../policy/verdict.ts';
import { decoyOf, verifyPassword } from './basic.ts';
import { CredentialCache } from './credential-cache.ts';
import { Gate } from './gate.ts';
import { type PresentedCredentials, readProxyAuthorization } from './proxy-authorization.ts';
import { createTokenVerifier } from './tokens.ts';

/** What a request proved. At most one of the three is not null; `rejected` is one sentence with nothing in it of what was sent. */
export type Credentials = Pick<Peer, 'user' | 'token' | 'rejected'>;

export interface Authenticator {
  /**
   * @param fields every Proxy-Authorization value of the request, in order
   * @param address of the client, for its share of what may be verified at once
   * @returns the answer itself where it is known, else a promise of it
   * @throws {Fault} `limit-reached` (503), at once, when too much is being verified
   */
  check(fields: readonly string[], address: string): Credentials | Promise<Credentials>;
  /** Takes another configuration. Users and tokens that it changes are verified anew, others stay remembered. */
  update(clients: readonly ClientConfig[]): void;
  /** Ends reading keys; nothing else stays open. */
  close(): void;
}

export interface AuthenticatorOptions {
  readonly clients: readonly ClientConfig[];
  /** Ms since the epoch. */
  readonly now: () => number;
  /** For JWKS URLs. */
  readonly fetch?: typeof globalThis.fetch;
  /** Ms that a JWKS server may take. */
  readonly fetchTimeout?: number;
  /** Keys of an issuer could not be read; the last good ones stay in use for a day. */
  readonly onKeyFault: (issuer: string, error: unknown) => void;
}

const ACCEPTED_FOR = 5 * 60_000;
const REFUSED_FOR = 5_000;
const CACHED = { mostAccepted: 4_096, mostRefused: 1_024 };
/** Two of libuv's four threads: DNS and files need the others. A look takes some 0.1 s, so the last of the queue waits 3 s. */
const PASSWORDS = { running: 2, waiting: 64, perAddress: 16 };
/** Signatures are cheap; what can take long is an issuer's server. */
const TOKENS = { running: 64, waiting: 256, perAddress: 16 };
const FETCH_TIMEOUT = 5_000;

const NOTHING: Credentials = { user: null, token: null, rejected: null };
const reject = (rejected: string): Credentials => ({ user: null, token: null, rejected });
const SEVERAL = reject('the request has several Proxy-Authorization fields');
const NO_BASIC = reject('Basic credentials are not accepted here, only Bearer tokens');
const NO_BEARER = reject('Bearer tokens are not accepted here, only Basic credentials');
/** The same for unknown users: which users exist is nobody's business. */
const WRONG = 'the user or the password is wrong';

/** Known users, and how each is verified. */
type Users = ReadonlyMap<string, { readonly user: string; readonly hash: string }>;

interface Verified {
  readonly credentials: Credentials;
  readonly until: number;
  readonly stillHolds: () => boolean;
}

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { now, onKeyFault, fetch = globalThis.fetch, fetchTimeout = FETCH_TIMEOUT } = options;
  const cache = new CredentialCache<Credentials>({ now, ...CACHED });
  const tokens = createTokenVerifier({ now, fetch, fetchTimeout, onKeyFault });
  const passwordGate = new Gate(PASSWORDS);
  const tokenGate = new Gate(TOKENS);
  let underWay = new Map<string, Promise<Credentials>>();
  let users: Users = new Map();
  let takesTokens = false;

  function update(clients: readonly ClientConfig[]): void {
    users = readUsers(clients, users);
    takesTokens = clients.some((client) => client.tokens !== null);
    tokens.update(clients);
    cache.forgetRefused();
    // What was begun before is not what a request from now on waits for.
    underWay = new Map();
  }

  /** Always the same for one name, so that an unknown user costs what some known one does, each time. */
  function decoyFor(user: string): string {
    const known = [...users.values()];
    const place = Buffer.from(cache.keyOf(user), 'base64').readUInt32BE(0) % known.length;
    return decoyOf(known[place]?.hash ?? '');
  }

  async function verifyBasic(user: string, password: string): Promise<Verified | string> {
    if (users.size === 0) return WRONG;
    const known = users.get(user);
    const matches = await verifyPassword(known?.hash ?? decoyFor(user), password);
    if (users.get(user) !== known) return verifyBasic(user, password);
    if (known === undefined || !matches) return WRONG;
    return {
      credentials: { user: known.user, token: null, rejected: null },
      until: now() + ACCEPTED_FOR,
      stillHolds: () => users.get(user) === known,
    };
  }

  async function verifyToken(text: string): Promise<Verified | string> {
    const token = await tokens.verify(text);
    if (typeof token === 'string') return token;
    if (!token.stillHolds()) return verifyToken(text);
    const { issuer, audiences, subject } = token;
    return {
      credentials: { user: null, token: { issuer, audiences, subject }, rejected: null },
      until: Math.min(now() + ACCEPTED_FOR, token.until),
      stillHolds: () => token.stillHolds(),
    };
  }

  async function settle(key: string, verified: Promise<Verified | string>): Promise<Credentials> {
    const began = underWay;
    try {
      const outcome = await verified;
      if (typeof outcome !== 'string') {
        cache.accept(key, outcome.credentials, outcome.until, outcome.stillHolds);
        return outcome.credentials;
      }
      const rejected = reject(outcome);
      if (began === underWay) cache.refuse(key, rejected, now() + REFUSED_FOR);
      return rejected;
    } finally {
      began.delete(key);
    }
  }

  function verify(presented: PresentedCredentials, address: string): Promise<Verified | string> {
    return presented.scheme === 'basic'
      ? passwordGate.run(address, () => verifyBasic(presented.user, presented.password))
      : tokenGate.run(address, () => verifyToken(presented.token));
  }

  update(options.clients);
  return {
    check(fields, address) {
      // RFC 9110 §11.7.2 has no meaning for a field that nobody asked for: as if it were not there.
      if (fields.length === 0 || (users.size === 0 && !takesTokens)) return NOTHING;
      const [field = ''] = fields;
      if (fields.length > 1) return SEVERAL;
      const key = cache.keyOf(field);
      const known = cache.find(key) ?? underWay.get(key);
      if (known !== undefined) return known;

      const presented = readProxyAuthorization(field);
      if (typeof presented === 'string') return reject(presented);
      if (presented.scheme === 'basic' && users.size === 0) return NO_BASIC;
      if (presented.scheme === 'bearer' && !takesTokens) return NO_BEARER;
      const settled = settle(key, verify(presented, address));
      underWay.set(key, settled);
      return settled;
    },
    update,
    close() {
      tokens.close();
    },
  };
}

/**
 * Entries that did not change keep their identity, by which remembered credentials are still good.
 * @throws {TypeError} when one user has two passwords: they would prove the same, so the configuration refuses them
 */
function readUsers(clients: readonly ClientConfig[], before: Users): Users {
  const users = new Map<string, { user: string; hash: string }>();
  for (const { user, hash: phc } of clients.flatMap(({ basic }) => basic ?? [])) {
    const name = user.normalize('NFC');
    const earlier = users.get(name);
    if (earlier !== undefined && (earlier.hash !== phc || earlier.user !== user)) throw new TypeError(`the user ${user} has two entries that differ`);
    const old = before.get(name);
    users.set(name, old?.user === user && old.hash === phc ? old : { user, hash: phc });
  }
  return users;
}
