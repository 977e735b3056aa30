/** Users, hashes, claims, subjects and certificate names, each with the neighbour just outside. */
import t, { type Test } from 'tap';
import { readCertificateName, readClaim, readJwksUrl, readPasswordHash, readSubject, readUser } from '../../src/config/read-sections.ts';
import type { Read } from '../../src/config/read-scalar.ts';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';

function wordsOf(result: Read<unknown>): string {
  return 'problem' in result ? `${result.problem} ${result.instead}` : `taken as ${JSON.stringify(result.value)}`;
}

function taken(t: Test, read: (value: unknown) => Read<string>, values: [written: string, value?: string][]): void {
  for (const [written, value = written] of values) t.strictSame(read(written), { value }, written);
}

function refused(t: Test, read: (value: unknown) => Read<string>, values: [written: unknown, words: RegExp][]): void {
  for (const [written, words] of values) t.match(wordsOf(read(written)), words, JSON.stringify(written));
}

t.test('users', async (t) => {
  taken(t, readUser, [['sit'], ['dynatrace sit'], ['cafe\u0301', 'caf\u00e9']]);
  refused(t, readUser, [['', /not a user/], [7, /not a user/], ['a:b', /colon/], ['a\nb', /invisible character/]]);
});

t.test('password hashes', async (t) => {
  const made = await hashPassword('hunter22');
  taken(t, readPasswordHash, [[made]]);
  refused(t, readPasswordHash, [
    ['hunter22', /^This password hash is not written as .*eco-egress hash-password/],
    [7, /not a password hash/],
    [made.replace('scrypt', 'argon2id'), /is not written as/],
    [made.replace('ln=15', 'ln=18'), /ln=18/],
    [`${made}=`, /is not written as/],
  ]);
  t.notMatch(wordsOf(readPasswordHash('hunter22')), 'hunter22', 'a password written by mistake is not repeated');
});

t.test('issuers and audiences', async (t) => {
  taken(t, readClaim, [['https://kubernetes.default.svc.cluster.local'], ['eco-egress']]);
  refused(t, readClaim, [['', /not a text/], [1, /not a text/], [' a', /not a text/], ['a\0', /not a text/], ['https://*.example', /character by character/]]);
});

t.test('subjects', async (t) => {
  taken(t, readSubject, [['system:serviceaccount:dynatrace-sit:egress'], ['system:serviceaccount:dynatrace-sit:*'], ['system:serviceaccount:*:egress'], ['*']]);
  refused(t, readSubject, [['', /not a subject/], [1, /not a subject/], ['a ', /not a subject/], ['a:**', /two \* in a row/]]);
});

t.test('names of certificates', async (t) => {
  taken(t, readCertificateName, [
    ['spiffe://cluster.local/ns/dynatrace-sit/sa/egress', 'URI:spiffe://cluster.local/ns/dynatrace-sit/sa/egress'],
    ['URI:spiffe://cluster.local/ns/dynatrace-sit/*', 'URI:spiffe://cluster.local/ns/dynatrace-sit/*'],
    ['spiffe://cluster.local/ns/*/sa/egress', 'URI:spiffe://cluster.local/ns/*/sa/egress'],
    ['spiffe://cluster.local', 'URI:spiffe://cluster.local'],
    ['Pods.Example.', 'DNS:pods.example'],
    ['DNS:*.pods.example', 'DNS:*.pods.example'],
    ['egress', 'DNS:egress'],
  ]);
  refused(t, readCertificateName, [
    ['spiffe://*/ns/x', /host of its own/],
    ['spiffe://cluster.*/ns/x', /host of its own/],
    ['spiffe:///ns/x', /host of its own/],
    ['*://x/y', /neither/],
    ['spiffe://cluster.local/ns/**', /two \* in a row/],
    ['spiffe://cluster.local/ns/x?y', /host of its own/],
    ['URI:urn:x', /host of its own/],
    ['*', /neither/],
    ['a.*.b', /neither/],
    ['10.0.0.1', /neither/],
    ['fd00::1', /neither/],
    ['DNS:', /neither/],
    ['email:x@y.example', /neither/],
    [7, /not a name of a certificate/],
  ]);
});

t.test('places of keys', async (t) => {
  taken(t, readJwksUrl, [['https://issuer.example/keys'], ['https://issuer.example', 'https://issuer.example/'], ['http://127.0.0.1:8001/keys'], ['http://[::1]/keys'], ['http://localhost:1/keys']]);
  refused(t, readJwksUrl, [
    ['http://issuer.example/keys', /plain http/],
    ['http://127.0.0.1.evil.example/keys', /plain http/],
    ['http://128.0.0.1/keys', /plain http/],
    ['ftp://issuer.example/keys', /not an https URL/],
    ['keys.json', /not an https URL/],
    ['https://user:secret@issuer.example/keys', /Leave user, password/],
    ['https://issuer.example/keys#x', /fragment/],
    [7, /not an https URL/],
  ]);
});
