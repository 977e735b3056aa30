/** Verifies signed JWTs (RFC 7519, with the advice of RFC 8725) of the issuers that the configuration names. */
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify, type ProtectedHeaderParameters } from 'jose';
import type { ClientConfig, JwksConfig } from '../config/config.ts';
import type { Gate } from './gate.ts';
import { fetchKeys, readKeyFile } from './key-sources.ts';
import { createKeySet, type KeySet, KeysUnavailable } from './keys.ts';

/** For `createTokenVerifier`. */
export interface TokenOptions {
  /** Ms since the epoch. */
  readonly now: () => number;
  /** Monotonic ms, for the age of keys. */
  readonly monotonic: () => number;
  readonly fetch: typeof globalThis.fetch;
  /** Time limit for a JWKS server, ms. */
  readonly fetchTimeout: number;
  /** Keys could not be read; the message names their location. */
  readonly onKeyFault: (issuer: string, error: unknown) => void;
  /** Limits the signatures that are verified at once. */
  readonly signatures: Gate;
  /** Limits the requests that wait for keys to be read. Separate, so that a slow issuer does not delay tokens whose key is known. */
  readonly keys: Gate;
}

/** A token whose signature and claims are valid. */
export interface VerifiedToken {
  readonly issuer: string;
  /** The token's audiences that the configuration lists for these keys. */
  readonly audiences: readonly string[];
  readonly subject: string;
  /** Ms since the epoch from which the token is refused. */
  readonly until: number;
  /** False once its key or the configuration has changed: the token must be verified again. Checks the keys again when they are due. */
  readonly stillHolds: () => boolean;
  /** Why its proof is no longer valid, under any configuration; null while it is. */
  readonly lapsed: (now: number) => string | null;
}

/** Verifies tokens of the configured issuers. Its creator closes it. */
export interface TokenVerifier {
  /**
   * The token's claims when it is valid now, otherwise the reason: one sentence that
   * quotes nothing of it.
   * @param address of the client, for its share of the verifications
   * @throws {Fault} `limit-reached` when there is no room
   */
  verify(token: string, address: string): Promise<VerifiedToken | string>;
  /** Applies another configuration; keys that it still names stay. */
  update(clients: readonly ClientConfig[]): void;
  close(): void;
}

/** RFC 8725 §3.1: asymmetric signatures only, so that no public key can be used as a secret. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
/** Tolerated clock difference, seconds. */
const TOLERANCE = 30;

/** In ms. */
export const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const FILE_AGES = { freshFor: 10_000, restFor: 1_000, keepFor: DAY };
const URL_AGES = { freshFor: 10 * MINUTE, restFor: 10_000, keepFor: DAY };

/** An issuer's keys, and the audiences of tokens signed with them. */
interface KeySource {
  readonly issuer: string;
  readonly jwks: JwksConfig;
  readonly keys: KeySet;
  readonly audiences: ReadonlySet<string>;
}

/** Accepts no token before the first `update`. */
export function createTokenVerifier(options: TokenOptions): TokenVerifier {
  /** By issuer: a configuration has one place for the keys of each. */
  let issuers: ReadonlyMap<string, KeySource> = new Map();

  function open(issuer: string, jwks: JwksConfig): KeySet {
    const { monotonic: now, fetch, fetchTimeout } = options;
    const onFault = (error: unknown): void => {
      options.onKeyFault(issuer, error);
    };
    return jwks.kind === 'file'
      ? createKeySet({ ...FILE_AGES, now, onFault, load: (signal) => readKeyFile(jwks.path, signal) })
      : createKeySet({ ...URL_AGES, now, onFault, load: (signal) => fetchKeys(jwks.url, fetch, fetchTimeout, signal) });
  }

  const inForce = (source: KeySource): boolean => issuers.get(source.issuer) === source;

  /** Whether these keys may still vouch for tokens of their issuer. */
  const vouches = ({ issuer, keys }: KeySource): boolean => issuers.get(issuer)?.keys === keys;

  async function verifyWith(source: KeySource, { token, header, address }: Shown): Promise<VerifiedToken | string> {
    const { issuer, keys, audiences } = source;
    const time = options.now();
    try {
      const found = await keys.find(header, (reading) =>
        options.keys.run(
          address,
          () => reading,
          () => false,
        ),
      );
      const verified = await options.signatures.run(
        address,
        async () => {
          try {
            return await jwtVerify(token, found.key, {
              issuer,
              audience: [...audiences],
              algorithms: ALGORITHMS,
              clockTolerance: TOLERANCE,
              currentDate: new Date(time),
              requiredClaims: ['exp', 'sub'],
            });
          } catch (error) {
            return explainTokenError(error, audiences);
          }
        },
        (outcome) => typeof outcome === 'string',
      );
      if (typeof verified === 'string') return verified;
      const { exp = 0, iat = 0, aud = [] } = verified.payload;
      const subject: unknown = verified.payload.sub;
      if (typeof subject !== 'string' || subject === '') return 'the subject of the token is not a string';
      // RFC 7519 §4.1.6 leaves this to us: a token from the future was made with a wrong clock or for later use.
      if (iat > time / 1000 + TOLERANCE) return 'the token was issued in the future';
      const until = (exp + TOLERANCE) * 1000;
      return {
        issuer,
        audiences: (typeof aud === 'string' ? [aud] : aud).filter((audience) => audiences.has(audience)),
        subject,
        until,
        stillHolds: () => keys.has(found.id) && inForce(source),
        lapsed: (now) =>
          now >= until ? EXPIRED : keys.has(found.id) && vouches(source) ? null : 'the key that signed the token is no longer accepted',
      };
    } catch (error) {
      return explainTokenError(error, audiences);
    }
  }

  return {
    async verify(token, address) {
      const read = decodeToken(token);
      if (typeof read === 'string') return read;
      const { header, payload } = read;
      const source = issuers.get(payload.iss);
      if (source === undefined) return 'the token is from an issuer that no client lists';
      // A token that would be refused with any signature costs no verification.
      if (typeof payload.exp === 'number' && payload.exp + TOLERANCE <= options.now() / 1000) return EXPIRED;
      return verifyWith(source, { token, header, address });
    },

    update(clients) {
      const next = new Map<string, KeySource>();
      for (const [issuer, own] of Map.groupBy(
        clients.flatMap(({ tokens }) => tokens ?? []),
        (token) => token.issuer,
      )) {
        const [first] = own;
        if (first === undefined) continue;
        const { jwks } = first;
        const audiences = new Set(own.map(({ audience }) => audience));
        const before = issuers.get(issuer);
        const keys = before !== undefined && placeOf(before.jwks) === placeOf(jwks) ? before.keys : open(issuer, jwks);
        next.set(
          issuer,
          before?.keys === keys && before.audiences.symmetricDifference(audiences).size === 0 ? before : { issuer, jwks, audiences, keys },
        );
      }
      for (const { issuer, keys } of issuers.values()) if (next.get(issuer)?.keys !== keys) keys.close();
      issuers = next;
    },

    close() {
      for (const { keys } of issuers.values()) keys.close();
      issuers = new Map();
    },
  };
}

const NOT_SIGNED = 'the token is not a valid signed JWT';
const NOT_ACCEPTED = 'the token is signed with an algorithm that is not accepted';
const EXPIRED = 'the token has expired';

/** A token as received. */
interface Shown {
  readonly token: string;
  readonly header: ProtectedHeaderParameters;
  readonly address: string;
}

const placeOf = (jwks: JwksConfig): string => (jwks.kind === 'file' ? `file ${jwks.path}` : `url ${jwks.url}`);

/** Read before verification: it selects the keys, and can only be a reason to refuse. */
function decodeToken(
  token: string,
): { readonly header: ProtectedHeaderParameters; readonly payload: JWTPayload & { readonly iss: string } } | string {
  const payload = decoded(() => decodeJwt(token));
  const iss = payload?.iss;
  if (payload === null || iss === undefined) return 'the token is not a JWT that names its issuer';
  const header = decoded(() => decodeProtectedHeader(token));
  if (header?.alg === undefined) return NOT_SIGNED;
  if (!ALGORITHMS.includes(header.alg)) return NOT_ACCEPTED;
  return { header, payload: { ...payload, iss } };
}

/** Null when it cannot be decoded. */
function decoded<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof TypeError) return null;
    throw error;
  }
}

/** Why a token was not accepted. Claims are the sender's text, so none is repeated. */
function explainTokenError(error: unknown, audiences: ReadonlySet<string>): string {
  if (error instanceof KeysUnavailable) return 'the keys of the issuer cannot be read now, so no token can be verified';
  if (error instanceof errors.JWTExpired) return EXPIRED;
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return 'the token is not valid yet';
    if (error.claim === 'aud') return `the token is not meant for ${[...audiences].join(' or ')}`;
    return error.reason === 'missing' ? `the token has no claim "${error.claim}"` : `the claim "${error.claim}" of the token is not valid`;
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'the signature of the token does not verify';
  if (error instanceof errors.JWKSNoMatchingKey) return 'the token is signed with a key that its issuer does not publish';
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'the token does not say which key of its issuer signed it';
  if (error instanceof errors.JOSEAlgNotAllowed) return NOT_ACCEPTED;
  if (error instanceof errors.JOSEError) return NOT_SIGNED;
  // From the key itself, which is tried when a token names it.
  if (error instanceof TypeError || error instanceof DOMException)
    return 'the key that its issuer publishes for the token cannot be used: it is malformed, or too short';
  throw error;
}
