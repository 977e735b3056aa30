/**
 * The public keys of one issuer, kept fresh: looked at again after a while and
 * when a token names a key that is not there; the last good set stays in use
 * while the file or server gives nothing better.
 */
import { createLocalJWKSet, type CryptoKey, errors, type FlattenedJWSInput, type JSONWebKeySet, type JWSHeaderParameters } from 'jose';

export interface KeySetOptions {
  /** Reads the set; rejects, with a message fit for the log, when there is none. */
  readonly load: (signal: AbortSignal) => Promise<JSONWebKeySet>;
  /** Ms since the epoch, or any clock that only moves forward. */
  readonly now: () => number;
  /** Ms after which the set is read again. */
  readonly freshFor: number;
  /** Least ms between two reads, whatever tokens ask for. */
  readonly restFor: number;
  /** Ms that a set is used while reading fails. */
  readonly keepFor: number;
  /** A read failed: once for each. */
  readonly onFault: (error: unknown) => void;
}

export interface KeySet {
  /** Finds the key of a token. Rejects with a JOSEError when there is none, with KeysUnavailable when there are no keys. */
  find(header: JWSHeaderParameters, token: FlattenedJWSInput): Promise<FoundKey>;
  /** Changes with the keys: what was verified under another value is to be verified again. */
  readonly generation: number;
  /** Has the set read again if it is no longer fresh; does not wait for it. */
  touch(): void;
  close(): void;
}

export interface FoundKey {
  readonly key: CryptoKey;
  /** Of the set that the key is in. */
  readonly generation: number;
}

/** There is no set that may be used, and none to be had now. */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
}

interface Loaded {
  readonly find: ReturnType<typeof createLocalJWKSet>;
  readonly generation: number;
  /** To tell whether a read brought anything new. */
  readonly text: string;
  readonly keepUntil: number;
}

/** Begins to read at once, so that the first token need not wait long. */
export function createKeySet(options: KeySetOptions): KeySet {
  const { load, now, freshFor, restFor, keepFor, onFault } = options;
  const closing = new AbortController();
  let loaded: Loaded | null = null;
  let refreshAt = 0;
  let restUntil = 0;
  let reading: Promise<void> | null = null;

  const usable = (): Loaded | null => (loaded !== null && now() < loaded.keepUntil ? loaded : null);

  async function read(): Promise<void> {
    try {
      const set = await load(closing.signal);
      const text = JSON.stringify(set);
      // Keys that are the same keep their find: it has them imported already.
      const same = loaded?.text === text ? loaded : { find: createLocalJWKSet(set), text, generation: (loaded?.generation ?? 0) + 1 };
      loaded = { ...same, keepUntil: now() + freshFor + keepFor };
      refreshAt = now() + freshFor;
    } catch (error) {
      if (!closing.signal.aborted) onFault(error);
    } finally {
      restUntil = now() + restFor;
      reading = null;
    }
  }

  /** One read at a time, and a rest after each; null while resting. */
  function refresh(): Promise<void> | null {
    if (reading === null && now() >= restUntil && !closing.signal.aborted) reading = read();
    return reading;
  }

  function touch(): void {
    if (now() >= refreshAt) void refresh();
  }

  touch();
  return {
    get generation() {
      return loaded?.generation ?? 0;
    },
    touch,
    find: async (header, token) => {
      touch();
      if (usable() === null) await refresh();
      const before = usable();
      if (before === null) throw new KeysUnavailable('no keys are to be had');
      try {
        return { key: await before.find(header, token), generation: before.generation };
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        await refresh();
        const after = usable();
        if (after === null || after.generation === before.generation) throw error;
        return { key: await after.find(header, token), generation: after.generation };
      }
    },
    close() {
      closing.abort();
    },
  };
}
