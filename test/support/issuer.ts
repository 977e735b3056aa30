/** An issuer of tokens with real keys, and the server that publishes them, which can be made to fail in every way. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';
import type { Test } from 'tap';
import { listen } from './listen.ts';

export interface Issuer {
  readonly name: string;
  /** The public keys that are current. */
  jwks(): { keys: JWK[] };
  /** A new key; the old one is no longer published, and no longer signs. */
  rotate(): Promise<void>;
  /** Claims besides iss. */
  sign(claims: JWTPayload, header?: Record<string, unknown>): Promise<string>;
}

export async function createIssuer(name: string, alg = 'ES256'): Promise<Issuer> {
  let count = 0;
  let current = await makeKey();
  async function makeKey() {
    const { privateKey, publicKey } = await generateKeyPair(alg);
    count += 1;
    const kid = `key-${count}`;
    return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
  }
  return {
    name,
    jwks: () => ({ keys: [current.jwk] }),
    rotate: async () => {
      current = await makeKey();
    },
    sign: (claims, header = {}) => new SignJWT({ iss: name, ...claims }).setProtectedHeader({ alg, kid: current.kid, ...header }).sign(current.privateKey),
  };
}

export type Answer = (req: IncomingMessage, res: ServerResponse) => void;

export interface KeyServer {
  readonly url: string;
  /** Requests so far. */
  readonly requests: () => number;
  /** How it answers from now on. */
  answer(how: Answer): void;
}

/** Serves the issuer's keys over http on loopback until told otherwise. */
export async function startKeyServer(t: Test, issuer: Pick<Issuer, 'jwks'>): Promise<KeyServer> {
  let requests = 0;
  let how: Answer = (_req, res) => res.setHeader('content-type', 'application/jwk-set+json').end(JSON.stringify(issuer.jwks()));
  const server = createServer((req, res) => {
    requests += 1;
    how(req, res);
  });
  const port = await listen(t, server);
  return {
    url: `http://127.0.0.1:${port}/keys`,
    requests: () => requests,
    answer: (next) => {
      how = next;
    },
  };
}

/** Time that passes only when told to; starts at a real date. */
export function createClock(start = Date.UTC(2026, 0, 1)): { now: () => number; pass: (ms: number) => void; seconds: () => number } {
  let time = start;
  return {
    now: () => time,
    pass: (ms) => {
      time += ms;
    },
    seconds: () => time / 1000,
  };
}
