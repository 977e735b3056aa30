/** Verifies signed JWTs (RFC 7519, with the advice of RFC 8725) of the issuers that the configuration names. */
import { type CryptoKey, decodeJwt, errors, type FlattenedJWSInput, type JWSHeaderParameters, jwtVerify } from 'jose';
import type { ClientConfig, JwksConfig } from '../config/config.ts';
import { createKeySet, type KeySet, KeysUnavailable } from './key-set.ts';
import { fetchKeys, readKeyFile } from './key-sources.ts';

export interface TokenOptions {
  readonly now: () => number;
  readonly fetch: typeof globalThis.fetch;
  /** Ms that a JWKS server may take. */
  readonly fetchTimeout: number;
  /** Keys could not be read; the message names the place. */
  readonly onKeyFault: (issuer: string, error: unknown) => void;
}

export interface VerifiedToken {
  readonly issuer: string;
  /** Those of the token's audiences that the configuration names for these keys. */
  readonly audiences: readonly string[];
  readonly subject: string;
  /** Ms since the epoch from which the token is refused. */
  readonly until: number;
  /** False once the keys or the configuration have changed: the token is to be verified again. Looks at the keys again when they are due. */
  stillHolds(): boolean;
}

export interface TokenVerifier {
  /** The token's claims when it is good now, else why not: one sentence without any of it. */
  verify(token: string): Promise<VerifiedToken | string>;
  /** Takes another configuration; keys that it still names stay as they are. */
  update(clients: readonly ClientConfig[]): void;
  close(): void;
}

/** RFC 8725 §3.1: asymmetric signatures only, so that no public key can serve as a secret. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
/** Seconds that clocks may differ. */
const TOLERANCE = 30;

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const FILE_AGES = { freshFor: 10_000, restFor: 1_000, keepFor: DAY };
const URL_AGES = { freshFor: 10 * MINUTE, restFor: 10_000, keepFor: DAY };

/** One place of an issuer's keys, and for whom the tokens signed with them are meant. */
interface Source {
  readonly issuer: string;
  readonly jwks: JwksConfig;
  readonly keys: KeySet;
  readonly audiences: ReadonlySet<string>;
}

/** By issuer, then by place of the keys: two places never vouch for each other's audiences. */
type Sources = ReadonlyMap<string, ReadonlyMap<string, Source>>;

export function createTokenVerifier(options: TokenOptions): TokenVerifier {
  let issuers: Sources = new Map();

  function open(issuer: string, jwks: JwksConfig): KeySet {
    const { now, fetch, fetchTimeout } = options;
    const onFault = (error: unknown): void => {
      options.onKeyFault(issuer, error);
    };
    return jwks.kind === 'file'
      ? createKeySet({ ...FILE_AGES, now, onFault, load: (signal) => readKeyFile(jwks.path, signal) })
      : createKeySet({ ...URL_AGES, now, onFault, load: (signal) => fetchKeys(jwks.url, fetch, fetchTimeout, signal) });
  }

  const inForce = (source: Source): boolean => issuers.get(source.issuer)?.get(placeOf(source.jwks)) === source;

  async function verifyWith(source: Source, token: string): Promise<VerifiedToken | string> {
    const { issuer, keys, audiences } = source;
    const time = options.now();
    let generation = 0;
    const findKey = async (header: JWSHeaderParameters, input: FlattenedJWSInput): Promise<CryptoKey> => {
      const found = await keys.find(header, input);
      generation = found.generation;
      return found.key;
    };
    try {
      const { payload } = await jwtVerify(token, findKey, {
        issuer,
        audience: [...audiences],
        algorithms: ALGORITHMS,
        clockTolerance: TOLERANCE,
        currentDate: new Date(time),
        requiredClaims: ['exp', 'sub'],
      });
      const { exp = 0, iat = 0, aud = [] } = payload;
      const subject: unknown = payload.sub;
      if (typeof subject !== 'string' || subject === '') return 'the subject of the token is no text';
      // RFC 7519 §4.1.6 leaves this to us: a token from the future was made by a wrong clock or for a later use.
      if (iat > time / 1000 + TOLERANCE) return 'the token was issued in the future';
      return {
        issuer,
        audiences: (typeof aud === 'string' ? [aud] : aud).filter((audience) => audiences.has(audience)),
        subject,
        until: (exp + TOLERANCE) * 1000,
        stillHolds() {
          keys.touch();
          return keys.generation === generation && inForce(source);
        },
      };
    } catch (error) {
      return explain(error, audiences);
    }
  }

  return {
    async verify(token) {
      const issuer = issuerOf(token);
      if (issuer === null) return 'the token is not a JWT that names its issuer';
      const sources = issuers.get(issuer);
      if (sources === undefined) return 'the token is from an issuer that no client lists';
      let reason = '';
      for (const source of sources.values()) {
        const outcome = await verifyWith(source, token);
        if (typeof outcome !== 'string') return outcome;
        reason ||= outcome;
      }
      return reason;
    },

    update(clients) {
      const next = new Map<string, Map<string, Source>>();
      for (const { issuer, jwks, audiences } of listSources(clients)) {
        const place = placeOf(jwks);
        const before = issuers.get(issuer)?.get(place);
        const same = before?.audiences.symmetricDifference(audiences).size === 0;
        const source = before !== undefined && same ? before : { issuer, jwks, audiences, keys: before?.keys ?? open(issuer, jwks) };
        next.set(issuer, (next.get(issuer) ?? new Map<string, Source>()).set(place, source));
      }
      for (const { issuer, jwks, keys } of all(issuers)) if (next.get(issuer)?.has(placeOf(jwks)) !== true) keys.close();
      issuers = next;
    },

    close() {
      for (const { keys } of all(issuers)) keys.close();
      issuers = new Map();
    },
  };
}

const all = (issuers: Sources): Source[] => [...issuers.values()].flatMap((sources) => [...sources.values()]);
const placeOf = (jwks: JwksConfig): string => (jwks.kind === 'file' ? `file ${jwks.path}` : `url ${jwks.url}`);

/** The configuration's tokens, those of one issuer and place of keys together. */
function listSources(clients: readonly ClientConfig[]): Iterable<{ issuer: string; jwks: JwksConfig; audiences: Set<string> }> {
  const found = new Map<string, { issuer: string; jwks: JwksConfig; audiences: Set<string> }>();
  for (const { issuer, audience, jwks } of clients.flatMap(({ tokens }) => tokens ?? [])) {
    const key = JSON.stringify([issuer, placeOf(jwks)]);
    const source = found.get(key) ?? { issuer, jwks, audiences: new Set<string>() };
    source.audiences.add(audience);
    found.set(key, source);
  }
  return found.values();
}

/** Read before anything is verified: it only chooses the keys. */
function issuerOf(token: string): string | null {
  try {
    return decodeJwt(token).iss ?? null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}

/** Why a token was not accepted. Claims are the sender's text, so none is repeated. */
function explain(error: unknown, audiences: ReadonlySet<string>): string {
  if (error instanceof KeysUnavailable) return 'the keys of the issuer cannot be read now, so no token can be verified';
  if (error instanceof errors.JWTExpired) return 'the token has expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return 'the token is not valid yet';
    if (error.claim === 'aud') return `the token is not meant for ${[...audiences].join(' or ')}`;
    return error.reason === 'missing' ? `the token has no claim "${error.claim}"` : `the claim "${error.claim}" of the token is not valid`;
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'the signature of the token does not verify';
  if (error instanceof errors.JWKSNoMatchingKey) return 'the token is signed with a key that its issuer does not publish';
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'the token does not say which key of its issuer signed it';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'the token is signed with an algorithm that is not accepted';
  if (error instanceof errors.JOSEError) return 'the token is not a valid signed JWT';
  throw error;
}
