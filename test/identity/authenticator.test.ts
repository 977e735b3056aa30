/**
 * Who a request proves to be: what is verified, what is remembered, and what a flood of wrong credentials costs.
 *
 * Longer than 400 lines: passwords and tokens are remembered, limited and withdrawn in the same ways.
 */
import t from 'tap';
import { createHook } from 'node:async_hooks';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { ClientConfig } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { type Asker, type Authenticator, type AuthenticatorOptions, createAuthenticator, type VerifiedCredentials } from '../../src/identity/authenticator.ts';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { buildClientTable } from '../../src/policy/client-table.ts';
import { createClock, createIssuer, startKeyServer } from '../support/issuer.ts';

const ISSUER = 'https://kubernetes.default.svc';
const SUBJECT = 'system:serviceaccount:dynatrace-sit:activegate';
const from = (address: string): Asker => ({ address, sans: [] });
const PEER = from('10.8.0.1');
const MINUTE = 60_000;
const NOTHING = { user: null, token: null, rejected: null };
const WRONG = { user: null, token: null, rejected: 'the user or the password is wrong' };

/** Every scrypt that Node begins, whoever asks for it. */
let hashes = 0;
createHook({
  init(_id, type) {
    if (type === 'SCRYPTREQUEST') hashes += 1;
  },
}).enable();

const [aliceHash, bobHash] = await Promise.all([hashPassword('correct horse'), hashPassword('battery: staple')]);

const client = (entries: Partial<ClientConfig>): ClientConfig => ({ name: 'c', addresses: null, basic: null, tokens: null, certificates: null, ...entries });
const ALICE = client({ basic: [{ user: 'alice', hash: aliceHash }] });
const BOB = client({ basic: [{ user: 'b\u00f6b', hash: bobHash }] });
const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const HOUR = 60 * MINUTE;
const CHEAP = '$scrypt$ln=14,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E';
const alice = basic('alice', 'correct horse');

/** As the policy of these clients says it: their addresses are looked at, and nothing else. */
function wants(clients: readonly ClientConfig[]): AuthenticatorOptions['wanting'] {
  const { wanting } = buildClientTable(clients);
  return wanting;
}

function start(t: Test, clients: readonly ClientConfig[], fetchTimeout = 5_000) {
  const clock = createClock();
  /** Ms by which the time of day has been set. */
  const wall = { offset: 0 };
  const faults: unknown[] = [];
  const authenticator = createAuthenticator({ clients, wanting: wants(clients), now: () => clock.now() + wall.offset, monotonic: clock.now, fetchTimeout, onKeyFault: (_issuer, error) => faults.push(error) });
  t.teardown(() => {
    authenticator.close();
  });
  return { clock, wall, faults, authenticator };
}

type Answer = Omit<VerifiedCredentials, 'proof'>;

/** Without the proof, which has a test of its own. */
function plain({ user, token, rejected }: VerifiedCredentials): Answer {
  return { user, token, rejected };
}

/** What is known at once. */
function known(authenticator: Authenticator, fields: readonly string[], asker = PEER): Answer {
  const answer = authenticator.check(fields, asker);
  if (answer instanceof Promise) throw new Error('it has to be verified');
  return plain(answer);
}

/** The answer, and whether it had to be verified. */
async function ask(authenticator: Authenticator, field: string, asker = PEER): Promise<{ answer: Answer; verified: boolean }> {
  const answer = authenticator.check([field], asker);
  return { answer: plain(await answer), verified: answer instanceof Promise };
}

t.test('no header, or no client with credentials', async (t) => {
  const { authenticator } = start(t, [ALICE]);
  t.strictSame(known(authenticator, []), NOTHING);
  const byAddress = start(t, [client({ addresses: ['10.0.0.0/8'] })]).authenticator;
  t.strictSame(known(byAddress, [alice]), NOTHING);
  t.strictSame(known(byAddress, ['nonsense', 'more']), NOTHING);
});

t.test('what cannot be credentials is refused at once', async (t) => {
  const { authenticator } = start(t, [ALICE]);
  const before = hashes;
  t.match(authenticator.check([alice, alice], PEER), { user: null, rejected: /several Proxy-Authorization fields/ });
  t.match(authenticator.check([''], PEER), { user: null, rejected: /one word/ });
  t.match(authenticator.check([`${alice}, ${alice}`], PEER), { user: null, rejected: /one word/ });
  t.match(authenticator.check(['Digest abc'], PEER), { user: null, rejected: /scheme/ });
  t.match(authenticator.check(['Bearer a.b.c'], PEER), { token: null, rejected: /Bearer tokens are not accepted here/ });
  const { authenticator: tokensOnly } = start(t, [client({ tokens: [{ issuer: ISSUER, audience: 'a', subjects: ['*'], jwks: { kind: 'file', path: '/nonexistent' } }] })]);
  t.match(tokensOnly.check([alice], PEER), { user: null, rejected: /Basic credentials are not accepted here/ });
  t.equal(hashes, before);
});

t.test('a password is verified once, and then known for an hour', async (t) => {
  const { authenticator, clock } = start(t, [ALICE, BOB]);
  const before = hashes;
  t.strictSame(await ask(authenticator, alice), { answer: { user: 'alice', token: null, rejected: null }, verified: true });
  for (let i = 0; i < 1_000; i += 1) t.match(authenticator.check([alice], from(`10.8.1.${i % 250}`)), { user: 'alice' });
  t.equal(hashes, before + 1);
  clock.pass(60 * MINUTE - 1);
  t.strictSame(await ask(authenticator, alice), { answer: { user: 'alice', token: null, rejected: null }, verified: false });
  clock.pass(1);
  t.match(await ask(authenticator, alice), { answer: { user: 'alice' }, verified: true });
  t.equal(hashes, before + 2);
  t.match(await ask(authenticator, basic('bo\u0308b', 'battery: staple')), { answer: { user: 'b\u00f6b' } }, 'one user, however composed');
});

t.test('wrong passwords and unknown users: the same answer at the same cost', async (t) => {
  const { authenticator, clock } = start(t, [ALICE, BOB]);
  for (const field of [basic('alice', 'correct horsf'), basic('alice', ''), basic('Alice', 'correct horse'), basic('carol', 'correct horse'), basic('alice', 'battery: staple'), basic('b\u00f6b', 'correct horse')]) {
    const before = hashes;
    t.strictSame(await ask(authenticator, field), { answer: WRONG, verified: true });
    t.equal(hashes, before + 1);
    t.strictSame(await ask(authenticator, field), { answer: WRONG, verified: false }, 'known to be wrong');
    t.equal(hashes, before + 1);
  }
  clock.pass(10 * MINUTE - 1);
  t.strictSame(await ask(authenticator, basic('alice', 'correct horsf')), { answer: WRONG, verified: false });
  clock.pass(1);
  t.strictSame(await ask(authenticator, basic('alice', 'correct horsf')), { answer: WRONG, verified: true }, 'for ten minutes');
});

t.test('many at once with the same credentials are one verification', async (t) => {
  const { authenticator } = start(t, [ALICE]);
  const before = hashes;
  const answers = await Promise.all(Array.from({ length: 500 }, async () => authenticator.check([alice], PEER)));
  for (const answer of answers) t.equal(answer.user, 'alice');
  t.equal(hashes, before + 1);
});

t.test('10,000 wrong passwords: bounded work, bounded memory, and the others are served', async (t) => {
  const { authenticator } = start(t, [client({ basic: [{ user: 'dave', hash: CHEAP }] }), ALICE, BOB]);
  await ask(authenticator, alice);
  const before = hashes;
  const taken: Promise<VerifiedCredentials>[] = [];
  let turnedAway = 0;
  const guess = (i: number): void => {
    try {
      taken.push(Promise.resolve(authenticator.check([basic('dave', `guess ${i}`)], from('10.8.0.66'))));
    } catch (error) {
      turnedAway += 1;
      if (turnedAway === 1) t.match(error, { name: 'Fault', code: 'limit-reached', retryAfter: 1 });
      if (!(error instanceof Fault)) throw error;
    }
  };
  for (let i = 0; i < 5_000; i += 1) guess(i);
  t.equal(taken.length, 16, 'one address has its share');
  const bob = authenticator.check([basic('b\u00f6b', 'battery: staple')], from('10.8.0.2'));
  t.match(authenticator.check([alice], from('10.8.0.66')), { user: 'alice' }, 'who is known is known');
  for (let i = 0; i < 5_000; i += 1) guess(5_000 + i);
  t.equal(turnedAway, 10_000 - 16);
  for (const answer of await Promise.all(taken)) t.strictSame(plain(answer), WRONG);
  t.match(await bob, { user: 'b\u00f6b' });
  t.equal(hashes, before + 17);
  t.strictSame(await ask(authenticator, basic('dave', 'after the flood')), { answer: WRONG, verified: true });
});

t.test('mixed parameters: an unknown user is held against some known one', async (t) => {
  const { authenticator, clock } = start(t, [ALICE, client({ basic: [{ user: 'dave', hash: CHEAP }] })]);
  for (let i = 0; i < 3; i += 1) {
    t.strictSame(await ask(authenticator, basic('nobody', `guess ${i}`)), { answer: WRONG, verified: true });
    clock.pass(10 * MINUTE);
  }
});

t.test('another configuration', async (t) => {
  const { authenticator } = start(t, [ALICE, BOB]);
  const bob = basic('b\u00f6b', 'battery: staple');
  const wrong = basic('alice', 'new password');
  await Promise.all([ask(authenticator, alice), ask(authenticator, bob)]);
  t.strictSame((await ask(authenticator, wrong)).answer, WRONG);
  const newHash = await hashPassword('new password');

  const before = hashes;
  for (let i = 0; i < 1_000; i += 1) authenticator.update([structuredClone(BOB), structuredClone(ALICE)]);
  t.match(await ask(authenticator, alice), { answer: { user: 'alice' }, verified: false }, 'what did not change stays known');
  t.equal(hashes, before);

  authenticator.update([client({ basic: [{ user: 'alice', hash: newHash }] }), BOB]);
  t.strictSame(await ask(authenticator, alice), { answer: WRONG, verified: true }, 'the old password ends with the reload');
  t.match(await ask(authenticator, wrong), { answer: { user: 'alice' }, verified: true }, 'the new one begins with it');
  t.match(await ask(authenticator, bob), { answer: { user: 'b\u00f6b' }, verified: false });

  authenticator.update([ALICE]);
  t.strictSame((await ask(authenticator, bob)).answer, WRONG, 'a user who is gone');
  authenticator.update([]);
  t.strictSame(known(authenticator, [alice]), NOTHING);
  t.throws(() => {
    authenticator.update([ALICE, client({ basic: [{ user: 'alice', hash: newHash }] })]);
  }, /the user alice has two entries/);
});

t.test('a reload while a password is being verified', async (t) => {
  const { authenticator } = start(t, [ALICE]);
  const newHash = await hashPassword('new password');
  const underWay = authenticator.check([alice], PEER);
  const guess = authenticator.check([basic('alice', 'new password')], PEER);
  authenticator.update([client({ basic: [{ user: 'alice', hash: newHash }] })]);
  t.strictSame(plain(await underWay), WRONG, 'is judged by what is in force when it ends');
  t.match(await guess, { user: 'alice' });
  t.match(await ask(authenticator, basic('alice', 'new password')), { answer: { user: 'alice' }, verified: false });

  const last = authenticator.check([alice], PEER);
  authenticator.update([]);
  t.match(await last, { user: null });
});

t.test('tokens', async (t) => {
  const issuer = await createIssuer(ISSUER, 'RS256');
  const file = join(t.testdir(), 'jwks.json');
  await writeFile(file, JSON.stringify(issuer.jwks()));
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'file', path: file } }] as const;
  const { authenticator, clock, faults } = start(t, [client({ tokens }), ALICE]);
  const sign = async (seconds: number): Promise<string> => `Bearer ${await issuer.sign({ sub: SUBJECT, aud: ['eco-egress', 'other'], exp: clock.seconds() + seconds })}`;
  const token = { issuer: ISSUER, audiences: ['eco-egress'], subject: SUBJECT };

  const long = await sign(3_600);
  t.strictSame(await ask(authenticator, long), { answer: { user: null, token, rejected: null }, verified: true });
  t.match(await ask(authenticator, long), { verified: false });
  clock.pass(5 * MINUTE);
  t.match(await ask(authenticator, long), { answer: { token }, verified: true });

  const short = await sign(60);
  t.match(await ask(authenticator, short), { answer: { token }, verified: true });
  clock.pass(90_000 - 1);
  t.match(await ask(authenticator, short), { answer: { token }, verified: false });
  clock.pass(1);
  t.strictSame(await ask(authenticator, short), { answer: { user: null, token: null, rejected: 'the token has expired' }, verified: true }, 'no longer than the token itself');

  t.match(await ask(authenticator, `${long.slice(0, -8)}AAAAAAAA`), { answer: { token: null, rejected: /signature/ } });
  t.match(await ask(authenticator, alice), { answer: { user: 'alice' } }, 'beside passwords');

  await issuer.rotate();
  await writeFile(file, JSON.stringify(issuer.jwks()));
  clock.pass(10_000);
  t.match(await ask(authenticator, long), { answer: { token }, verified: false }, 'has the file looked at');
  let last = await ask(authenticator, long);
  while (!last.verified) {
    await new Promise((resolve) => setImmediate(resolve));
    last = await ask(authenticator, long);
  }
  t.match(last.answer, { token: null, rejected: /key that its issuer does not publish/ }, 'a key that is withdrawn withdraws what it signed');
  t.strictSame(faults, []);
});

t.test('a clock that is set back makes nothing last longer', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const file = join(t.testdir(), 'jwks.json');
  await writeFile(file, JSON.stringify(issuer.jwks()));
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'file', path: file } }] as const;
  const { authenticator, clock, wall } = start(t, [ALICE, client({ tokens })]);
  for (let i = 0; i < 3; i += 1) await ask(authenticator, basic('alice', `wrong ${i}`));
  await issuer.rotate();
  const fresh = `Bearer ${await issuer.sign({ sub: 's', aud: 'eco-egress', iat: clock.seconds() - HOUR / 1000, exp: clock.seconds() + 600 })}`;
  t.match(await ask(authenticator, fresh), { answer: { token: null }, verified: true }, 'its key is not known yet');
  wall.offset = -HOUR;
  t.match(await ask(authenticator, alice), { answer: { user: 'alice' }, verified: true }, 'three failures do not become thousands');
  await writeFile(file, JSON.stringify(issuer.jwks()));
  clock.pass(11_000);
  t.match(await ask(authenticator, fresh), { answer: { token: { subject: 's' } }, verified: true }, 'keys are read again, and what was refused is looked at again');
  // What it says of times is about the time of day.
  wall.offset = HOUR;
  t.match(await ask(authenticator, fresh), { answer: { token: null, rejected: /expired/ } }, 'remembered as good for five minutes, and expired by the clock');
});

t.test('a flood of wrong tokens', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const server = await startKeyServer(t, issuer);
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'url', url: server.url } }] as const;
  const { authenticator, clock } = start(t, [client({ tokens })]);
  const claims = { sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 };
  const good = `Bearer ${await issuer.sign(claims)}`;
  t.match((await ask(authenticator, good)).answer, { token: { subject: SUBJECT } });
  clock.pass(10_000);
  const outcomes: Promise<string>[] = [];
  for (let i = 0; i < 200; i += 1) {
    const head = Buffer.from(JSON.stringify({ alg: 'ES256', kid: `stranger-${i}` })).toString('base64url');
    const field = `Bearer ${head}.${good.split('.')[1] ?? ''}.AAAA`;
    outcomes.push(ask(authenticator, field).then(({ answer }) => (answer.rejected === null ? 'accepted' : 'rejected'), (error: unknown) => (error instanceof Fault ? error.code : String(error))));
    if (i % 40 === 39) await ask(authenticator, `Bearer ${await issuer.sign({ ...claims, jti: String(i) })}`, from('10.8.0.2'));
  }
  const count = (outcome: string, all: readonly string[]): number => all.filter((one) => one === outcome).length;
  const all = await Promise.all(outcomes);
  t.equal(count('rejected', all) + count('limit-reached', all), 200);
  t.ok(count('limit-reached', all) > 0 && count('rejected', all) >= 16);
  t.equal(server.requests(), 2, 'unknown keys have the set fetched once');
});

t.test('a key server that hangs delays no token whose key is known', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const server = await startKeyServer(t, issuer);
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'url', url: server.url } }] as const;
  const { authenticator, clock } = start(t, [client({ tokens })]);
  const claims = { sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 };
  const sign = async (jti: string, header = {}): Promise<string> => `Bearer ${await issuer.sign({ ...claims, jti }, header)}`;
  await ask(authenticator, await sign('first'));
  clock.pass(10_000);
  const hanging: (() => void)[] = [];
  server.answer((_req, res) => hanging.push(() => res.end(JSON.stringify(issuer.jwks()))));
  const strangers = await Promise.all(Array.from({ length: 300 }, async (_, i) => sign('x', { kid: `stranger-${i}` })));
  const waiting = strangers.map((field, i) => ask(authenticator, field, from(`10.9.${i >> 4}.1`)).then(({ answer }) => answer.rejected, (error: unknown) => (error as Fault).code));
  t.match(await ask(authenticator, await sign('second'), from('10.8.0.2')), { answer: { token: { subject: SUBJECT } } });
  while (hanging.length === 0) await new Promise((resolve) => setImmediate(resolve));
  for (const answer of hanging) answer();
  const reasons = await Promise.all(waiting);
  t.equal(server.requests(), 2);
  t.equal(reasons.filter((reason) => reason === 'limit-reached').length, 300 - 256, 'so many wait, and no more');
});

t.test('what cannot make the asker a client costs nothing', async (t) => {
  const inside = client({ addresses: ['10.30.0.0/16'], basic: [{ user: 'dave', hash: CHEAP }] });
  const certified = client({ name: 'd', certificates: ['URI:spiffe://x/*'], basic: [{ user: 'erin', hash: CHEAP }] });
  const { authenticator } = start(t, [inside, certified, client({ name: 'e', addresses: ['10.8.0.0/14'] })]);
  const before = hashes;
  for (let i = 0; i < 1_000; i += 1) t.strictSame(known(authenticator, [basic('dave', `guess ${i}`)], from(`10.8.${i >> 8}.${i & 255}`)), NOTHING);
  t.strictSame(known(authenticator, ['nonsense'], from('10.8.0.1')), NOTHING);
  t.equal(hashes, before);
  t.match(await ask(authenticator, basic('dave', 'guess'), from('10.30.0.1')), { verified: true });
  t.match(await ask(authenticator, basic('erin', 'guess'), { address: '10.8.0.1', sans: ['URI:spiffe://x/pod'] }), { verified: true });
  t.equal(hashes, before + 2);
});

t.test('six strangers who may be clients by their address do not keep a right first log-in out', async (t) => {
  const { authenticator } = start(t, [ALICE, client({ name: 'd', basic: [{ user: 'dave', hash: bobHash }] })]);
  let guesses = 0;
  let over = false;
  /** As fast as it is answered, with 8 at once. */
  const guess = async (address: string): Promise<void> => {
    while (!over) {
      guesses += 1;
      await ask(authenticator, basic('dave', `guess ${guesses}`), from(address)).catch(() => new Promise((resolve) => setImmediate(resolve)));
    }
  };
  const guessing = Array.from({ length: 48 }, (_, i) => guess(`10.8.0.${i % 6}`));
  while (hashes === 0 || guesses < 48) await new Promise((resolve) => setImmediate(resolve));
  const before = hashes;
  t.match(await ask(authenticator, alice, from('10.8.1.1')), { answer: { user: 'alice' } });
  // Its own, and what the one place for those who have failed does meanwhile: not the 48 that were there before it.
  t.ok(hashes - before <= 8, `${hashes - before} passwords were looked at meanwhile`);
  over = true;
  await Promise.all(guessing);
});

t.test('a proof lapses with what it rests on', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const file = join(t.testdir(), 'jwks.json');
  await writeFile(file, JSON.stringify(issuer.jwks()));
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'file', path: file } }] as const;
  const pods = client({ name: 'd', tokens });
  const { authenticator, clock } = start(t, [ALICE, pods]);
  const prove = async (field: string): Promise<(now?: number) => string | null> => {
    const { proof } = await authenticator.check([field], PEER);
    return (now = clock.now()) => (proof === null ? 'there is none' : proof.lapsed(now));
  };
  const sign = async (seconds: number): Promise<string> => `Bearer ${await issuer.sign({ sub: SUBJECT, aud: ['eco-egress', 'other'], exp: clock.seconds() + seconds })}`;

  const password = await prove(alice);
  const [long, short] = [await prove(await sign(3_600)), await prove(await sign(60))];
  authenticator.update([structuredClone(pods), structuredClone(ALICE)]);
  t.strictSame([password(), long(), short()], [null, null, null], 'a reload that changes nothing about them');
  authenticator.update([ALICE, client({ name: 'd', tokens: [...tokens, { ...tokens[0], audience: 'other' }] })]);
  t.equal(long(), null, 'nor does one that adds an audience');
  t.equal(short(clock.now() + 90_000 - 1), null);
  t.equal(short(clock.now() + 90_000), 'the token has expired');

  const other = await createIssuer(ISSUER);
  // Of another name than the first: a token that names it waits until the file has been read.
  await other.rotate();
  await writeFile(file, JSON.stringify({ keys: [...other.jwks().keys, ...issuer.jwks().keys.map((key) => ({ ...key, kid: 'renamed' }))] }));
  clock.pass(10_000);
  long();
  t.equal((await prove(`Bearer ${await other.sign({ sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 })}`))(), null);
  t.equal(long(), null, 'the key is still there, beside another');
  await writeFile(file, JSON.stringify(other.jwks()));
  clock.pass(10_000);
  while (long() === null) await new Promise((resolve) => setImmediate(resolve));
  t.equal(long(), 'the key that signed the token is no longer accepted');

  authenticator.update([client({ basic: [{ user: 'alice', hash: bobHash }] }), pods]);
  t.equal(password(), 'the password has been changed or taken away');
  authenticator.update([ALICE]);
  t.equal(password(), 'the password has been changed or taken away', 'for good, even if it comes back');
  t.equal(long(), 'the key that signed the token is no longer accepted', 'and the issuer is gone');
});

t.test('a key server that hangs: others are not held up, and nothing stays behind', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const server = await startKeyServer(t, issuer);
  server.answer(() => {});
  const tokens = [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwks: { kind: 'url', url: server.url } }] as const;
  const { authenticator, clock, faults } = start(t, [client({ tokens }), ALICE], 300);
  const waiting = ask(authenticator, `Bearer ${await issuer.sign({ sub: SUBJECT, aud: 'eco-egress', exp: clock.seconds() + 600 })}`);
  t.match(await ask(authenticator, alice), { answer: { user: 'alice' } });
  t.match(await waiting, { answer: { token: null, rejected: /keys of the issuer cannot be read now/ } });
  t.match(faults, [{ message: /cannot be fetched: .*timeout/ }]);
});

t.test('no reason holds anything of the secret', async (t) => {
  const { authenticator } = start(t, [ALICE]);
  for (const field of [basic('alice', 'hunter2hunter2'), basic('hunter2hunter2', 'x'), 'Bearer hunter2hunter2', 'hunter2hunter2 abc', 'Basic hunter2hunter2']) {
    const { answer } = await ask(authenticator, field);
    t.type(answer.rejected, 'string');
    t.notMatch(JSON.stringify(answer), 'hunter2');
  }
});
