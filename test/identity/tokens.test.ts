/** Real tokens, signed with real keys, against everything that can be wrong with one. */
import t from 'tap';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import type { ClientConfig, TokenConfig } from '../../src/config/config.ts';
import { Gate } from '../../src/identity/gate.ts';
import { createTokenVerifier, type TokenVerifier } from '../../src/identity/tokens.ts';
import { createClock, createIssuer, type Issuer, startKeyServer } from '../support/issuer.ts';

const ISSUER = 'https://kubernetes.default.svc';
const SUBJECT = 'system:serviceaccount:dynatrace-sit:activegate';
const MINUTE = 60_000;

// Node loads its fetch with the first use, which would take most of the short timeout below.
new Response();

const clientWith = (...tokens: Pick<TokenConfig, 'issuer' | 'audience' | 'jwks'>[]): ClientConfig => ({
  name: 'c',
  addresses: null,
  basic: null,
  certificates: null,
  tokens: tokens.map((token) => ({ ...token, subjects: ['*'] })),
});

/** As one address has it. */
interface Verifier extends Omit<TokenVerifier, 'verify'> {
  verify(token: string): ReturnType<TokenVerifier['verify']>;
}

interface Setup {
  readonly verifier: Verifier;
  readonly clock: ReturnType<typeof createClock>;
  readonly faults: string[];
  readonly file: string;
  /** Good for ten minutes unless the claims say otherwise. */
  readonly sign: (claims?: Record<string, unknown>, header?: Record<string, unknown>) => Promise<string>;
  readonly config: Pick<TokenConfig, 'issuer' | 'audience' | 'jwks'>;
}

/** A verifier for one issuer, whose keys stand in a file. */
async function setUp(t: Test, issuer: Issuer): Promise<Setup> {
  const clock = createClock();
  const faults: string[] = [];
  const file = join(t.testdir(), 'jwks.json');
  await writeFile(file, JSON.stringify(issuer.jwks()));
  const gate = { running: 64, suspects: 64, waiting: 64, perAddress: 64, failures: Infinity, forgiveAfter: 1, now: clock.now };
  const created = createTokenVerifier({ now: clock.now, monotonic: clock.now, fetch, fetchTimeout: 200, onKeyFault: (name, error) => faults.push(`${name}: ${String(error)}`), signatures: new Gate(gate), keys: new Gate(gate) });
  const verifier: Verifier = { ...created, verify: (token) => created.verify(token, '10.8.0.1') };
  const config = { issuer: issuer.name, audience: 'eco-egress', jwks: { kind: 'file', path: file } } as const;
  verifier.update([clientWith(config)]);
  t.teardown(() => {
    verifier.close();
  });
  const sign: Setup['sign'] = (claims = {}, header = {}) =>
    issuer.sign({ sub: SUBJECT, aud: 'eco-egress', iat: clock.seconds(), exp: clock.seconds() + 600, ...claims }, header);
  return { verifier, clock, faults, file, sign, config };
}

t.test('every asymmetric algorithm', async (t) => {
  for (const alg of ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519']) {
    const { verifier, sign, clock } = await setUp(t, await createIssuer(ISSUER, alg));
    const found = await verifier.verify(await sign());
    t.match(found, { issuer: ISSUER, audiences: ['eco-egress'], subject: SUBJECT, until: clock.now() + 630_000 }, alg);
  }
});

t.test('a key that is not published in its shortest form', async (t) => {
  const shorten = async (alg: string, change: (key: Record<string, unknown>) => Record<string, unknown>): Promise<void> => {
    const issuer = await createIssuer(ISSUER, alg);
    const { verifier, sign, file } = await setUp(t, { ...issuer, jwks: () => ({ keys: issuer.jwks().keys.map((key) => ({ ...key, ...change({ ...key }) })) }) });
    const found = await verifier.verify(await sign());
    t.match(found, { subject: SUBJECT }, `${alg} in ${file}`);
    if (typeof found !== 'string') t.ok(found.stillHolds(), 'it is published');
    if (typeof found !== 'string') t.equal(found.lapsed(0), null);
  };
  const bytes = (value: unknown): Buffer => Buffer.from(String(value), 'base64url');
  // As Java's BigInteger writes it.
  await shorten('RS256', ({ n }) => ({ n: Buffer.concat([Buffer.of(0), bytes(n)]).toString('base64url') }));
  await shorten('PS256', () => ({ e: Buffer.of(0, 1, 0, 1).toString('base64url') }));
  await shorten('ES256', ({ x }) => ({ x: bytes(x).toString('base64') }));
});

t.test('a token as Kubernetes projects it', async (t) => {
  const { verifier, sign } = await setUp(t, await createIssuer(ISSUER, 'RS256'));
  const claims = {
    aud: ['other', 'eco-egress'],
    'kubernetes.io': { namespace: 'dynatrace-sit', serviceaccount: { name: 'activegate', uid: 'f0f0' } },
    jti: 'x',
  };
  t.match(await verifier.verify(await sign(claims)), { audiences: ['eco-egress'], subject: SUBJECT });
});

t.test('times, to the second, with 30 s for clocks that differ', async (t) => {
  const { verifier, sign, clock } = await setUp(t, await createIssuer(ISSUER));
  const now = clock.seconds();
  const cases: [claims: Record<string, unknown>, reason: RegExp | null][] = [
    [{ exp: now - 29 }, null],
    [{ exp: now - 30 }, /has expired/],
    [{ nbf: now + 30 }, null],
    [{ nbf: now + 31 }, /not valid yet/],
    [{ iat: now + 30 }, null],
    [{ iat: now + 31 }, /issued in the future/],
    [{ iat: undefined }, null],
    [{ exp: undefined }, /has no claim "exp"/],
    [{ exp: String(now + 600) }, /claim "exp" of the token is not valid/],
    [{ nbf: 'x' }, /not valid/],
  ];
  for (const [claims, reason] of cases) {
    const found = await verifier.verify(await sign(claims));
    if (reason === null) t.match(found, { subject: SUBJECT }, JSON.stringify(claims));
    else t.match(found, reason, JSON.stringify(claims));
  }
});

t.test('claims', async (t) => {
  const { verifier, sign } = await setUp(t, await createIssuer(ISSUER));
  const cases: [claims: Record<string, unknown>, reason: RegExp][] = [
    [{ aud: 'eco' }, /not meant for eco-egress/],
    [{ aud: 'eco-egress/' }, /not meant for/],
    [{ aud: ['other'] }, /not meant for/],
    [{ aud: [['eco-egress']] }, /not meant for/],
    [{ aud: undefined }, /not meant for|no claim "aud"/],
    [{ sub: undefined }, /no claim "sub"/],
    [{ sub: '' }, /subject of the token is not a string/],
    [{ sub: 7 }, /subject of the token is not a string/],
    [{ sub: [SUBJECT] }, /subject of the token is not a string/],
    [{ iss: `${ISSUER}/` }, /issuer that no client lists/],
    [{ iss: 'HTTPS://kubernetes.default.svc' }, /issuer that no client lists/],
    [{ iss: [ISSUER] }, /issuer that no client lists|not a JWT/],
    [{ iss: undefined }, /names its issuer/],
  ];
  for (const [claims, reason] of cases) t.match(await verifier.verify(await sign(claims)), reason, JSON.stringify(claims));
});

t.test('signatures', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const { verifier, sign, clock } = await setUp(t, issuer);
  const token = await sign();
  const [head = '', body = '', signature = ''] = token.split('.');
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { iss: ISSUER, sub: 'system:serviceaccount:kube-system:admin', aud: 'eco-egress', exp: clock.seconds() + 600 };
  const [published] = issuer.jwks().keys;
  const hs256 = `${part({ alg: 'HS256', kid: published?.kid })}.${part(claims)}`;
  const mac = createHmac('sha256', JSON.stringify(published)).update(hs256).digest('base64url');
  const impostor = await createIssuer(ISSUER);
  const wrong: [token: string, reason: RegExp][] = [
    [`${head}.${part(claims)}.${signature}`, /signature of the token does not verify/],
    [`${head}.${body}.${signature.slice(0, -4)}AAAA`, /does not verify/],
    [`${part({ alg: 'none' })}.${part(claims)}.`, /algorithm|not a/],
    [`${part({ alg: 'none' })}.${part(claims)}.AAAA`, /algorithm/],
    [`${hs256}.${mac}`, /algorithm that is not accepted/],
    [`${part({ alg: 'ES384', kid: published?.kid })}.${body}.${signature}`, /key that its issuer does not publish/],
    [`${part({ alg: 'ES256', kid: published?.kid, crit: ['x'], x: 1 })}.${body}.${signature}`, /not a valid signed JWT/],
    [`${part({ alg: 'ES256', kid: published?.kid, b64: false, crit: ['b64'] })}.${body}.${signature}`, /does not verify|not a valid/],
    [`${part({ kid: published?.kid })}.${body}.${signature}`, /not a valid signed JWT/],
    [`e30.${body}.${signature}`, /not a valid signed JWT/],
    [`!.${body}.${signature}`, /not a valid signed JWT/],
    [`${head}.e30.${signature}`, /names its issuer/],
    [`${head}.bm90IGpzb24.${signature}`, /names its issuer/],
    ['a.b.c', /names its issuer/],
    [await impostor.sign(claims), /does not verify/],
    [await impostor.sign(claims, { jwk: impostor.jwks().keys[0] }), /does not verify/],
    [await impostor.sign(claims, { kid: 'other' }), /key that its issuer does not publish/],
  ];
  for (const [text, reason] of wrong) {
    const found = await verifier.verify(text);
    t.match(found, reason, text.slice(0, 80));
    t.notMatch(found, 'kube-system');
  }
  t.match(await verifier.verify(token), { subject: SUBJECT }, 'and the good one stays good');
});

t.test('keys that are published and cannot be used', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const weak = { ...generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' }), kid: 'weak' };
  const broken = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', kid: 'broken' };
  const { verifier, sign, clock } = await setUp(t, { ...issuer, jwks: () => ({ keys: [...issuer.jwks().keys, weak, broken] }) });
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = part({ iss: ISSUER, sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 });
  for (const [alg, kid] of [['RS256', 'weak'], ['ES256', 'broken']] as const) t.match(await verifier.verify(`${part({ alg, kid })}.${claims}.AAAA`), /^the key that its issuer publishes for the token cannot be used/, kid);
  t.match(await verifier.verify(await sign()), { subject: SUBJECT }, 'the others can');
});

t.test('a file that changes', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const { verifier, sign, clock, file, faults } = await setUp(t, issuer);
  const old = await sign();
  const verified = await verifier.verify(old);
  if (typeof verified === 'string') {
    t.fail(verified);
    return;
  }
  t.ok(verified.stillHolds());

  await issuer.rotate();
  // As the kubelet does it: another file under the same name.
  await writeFile(`${file}.new`, JSON.stringify(issuer.jwks()));
  await rename(`${file}.new`, file);
  const young = await sign();
  clock.pass(1_000);
  t.match(await verifier.verify(young), { subject: SUBJECT }, 'a key not seen before has the file read');
  t.notOk(verified.stillHolds(), 'what the old key signed is verified anew');
  t.match(await verifier.verify(old), /key that its issuer does not publish/);

  await writeFile(file, '{"keys":[');
  clock.pass(10_000);
  t.match(await verifier.verify(young), { subject: SUBJECT }, 'a broken file changes nothing');
  while (faults.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.match(faults, [/^https:\/\/kubernetes\.default\.svc: Error: .*jwks\.json is not JSON/]);
});

t.test('a server that rotates, fails, hangs and comes back', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const server = await startKeyServer(t, issuer);
  const { verifier, sign, clock, faults, config } = await setUp(t, issuer);
  server.answer((_req, res) => res.writeHead(503).end());
  verifier.update([clientWith({ ...config, jwks: { kind: 'url', url: server.url } })]);
  t.match(await verifier.verify(await sign()), /keys of the issuer cannot be read now/);
  t.match(faults, [/answered 503/]);
  t.match(await verifier.verify(await sign()), /cannot be read now/);
  t.equal(server.requests(), 1, 'no request while resting');

  server.answer((_req, res) => res.end(JSON.stringify(issuer.jwks())));
  clock.pass(10_000);
  const answers = await Promise.all(Array.from({ length: 20 }, async () => verifier.verify(await sign())));
  for (const found of answers) t.match(found, { subject: SUBJECT });
  t.equal(server.requests(), 2, 'one fetch for all');

  await issuer.rotate();
  t.match(await verifier.verify(await sign()), /does not publish/, 'resting');
  clock.pass(10_000);
  t.match(await verifier.verify(await sign()), { subject: SUBJECT });
  t.equal(server.requests(), 3);

  server.answer(() => {});
  clock.pass(10 * MINUTE);
  t.match(await verifier.verify(await sign()), { subject: SUBJECT }, 'a server that hangs holds nobody up whose key is known');
  const stranger = await issuer.sign({ sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 }, { kid: 'stranger' });
  t.match(await verifier.verify(stranger), /does not publish/, 'and an unknown key only until the timeout');
  t.match(faults.at(-1), /cannot be fetched: .*timeout/);
  clock.pass(23 * 60 * MINUTE);
  t.match(await verifier.verify(await sign()), { subject: SUBJECT }, 'the last good keys serve on');
  clock.pass(2 * 60 * MINUTE);
  t.match(await verifier.verify(await sign()), /cannot be read now/, 'for a day');
});

t.test('several clients, audiences and issuers', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const other = await createIssuer('https://other.example');
  const { verifier, sign, clock, config, file: ownFile } = await setUp(t, issuer);
  const file = join(dirname(ownFile), 'other.json');
  await writeFile(file, JSON.stringify(other.jwks()));
  const otherConfig = { issuer: other.name, audience: 'eco-egress', jwks: { kind: 'file', path: file } } as const;
  verifier.update([clientWith(config), clientWith({ ...config, audience: 'second' }, otherConfig)]);

  t.match(await verifier.verify(await sign({ aud: ['second', 'third', 'eco-egress'] })), { audiences: ['second', 'eco-egress'] });
  t.match(await verifier.verify(await sign({ aud: 'third' })), /not meant for eco-egress or second/);
  const claims = { sub: 'x', aud: 'eco-egress', exp: clock.seconds() + 600 };
  t.match(await verifier.verify(await other.sign(claims)), { issuer: other.name });
  t.match(await verifier.verify(await other.sign({ ...claims, aud: 'second' })), /not meant for eco-egress$/, 'an audience is its issuer\'s');
  t.match(await verifier.verify(await other.sign({ ...claims, iss: ISSUER }, { kid: 'key-1' })), /does not verify/, 'no issuer speaks for another');
});

t.test('another configuration', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const server = await startKeyServer(t, issuer);
  const { verifier, sign, config } = await setUp(t, issuer);
  const byUrl = { ...config, jwks: { kind: 'url', url: server.url } } as const;
  verifier.update([clientWith(byUrl)]);
  const verified = await verifier.verify(await sign());
  if (typeof verified === 'string') {
    t.fail(verified);
    return;
  }

  for (let i = 0; i < 100; i += 1) verifier.update([clientWith({ ...byUrl })]);
  t.ok(verified.stillHolds(), 'the same again changes nothing');
  t.equal(server.requests(), 1, 'and fetches nothing');
  verifier.update([clientWith(byUrl, { ...byUrl, audience: 'second' })]);
  t.notOk(verified.stillHolds(), 'another audience has tokens looked at again');
  t.match(await verifier.verify(await sign({ aud: ['second', 'eco-egress'] })), { audiences: ['second', 'eco-egress'] });
  t.equal(server.requests(), 1, 'with the keys that are there');

  const again = await verifier.verify(await sign());
  verifier.update([]);
  t.match(await verifier.verify(await sign()), /issuer that no client lists/);
  if (typeof again !== 'string') t.notOk(again.stillHolds());
});
