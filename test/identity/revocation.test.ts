/** Lists of revoked certificates: what they say, and every way in which one can be damaged. */
import t from 'tap';
import { constants, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { authorityNameOf, firstListEnd, idOf, isListSignedWith, isRevoked, readRevocationLists } from '../../src/identity/revocation.ts';
import { createRevokingAuthority } from '../support/revoking-authority.ts';

const [one, other] = await Promise.all([createRevokingAuthority('one'), createRevokingAuthority('other')]);
const [revoked, good, elsewhere] = await Promise.all([one.issue('spiffe://x/revoked'), one.issue('spiffe://x/good'), other.issue('spiffe://x/else')]);
const UNTIL = new Date(Math.floor(Date.now() / 1000) * 1000 + 60_000);
const pem = await one.list([revoked], UNTIL);

t.test('a list names its authority, its end, and what it revokes', async (t) => {
  const lists = readRevocationLists(`${pem}${await other.list([])}`).filter((list) => list !== null);
  t.equal(lists.length, 2);
  t.equal(lists[0]?.issuer, authorityNameOf(new X509Certificate(one.certPem)));
  t.not(lists[0]?.issuer, lists[1]?.issuer);
  t.equal(lists[0]?.until, UNTIL.getTime());
  const has = ({ certPem }: { certPem: string }): boolean => {
    const id = idOf(new X509Certificate(certPem));
    return id !== null && isRevoked(lists, id);
  };
  t.ok(has(revoked));
  t.notOk(has(good), 'another number');
  t.notOk(has(elsewhere), 'the same number of another authority');
  t.equal(idOf(new X509Certificate(elsewhere.certPem))?.serial, idOf(new X509Certificate(revoked.certPem))?.serial);
});

t.test('of several issues of a list, the latest valid one counts', async (t) => {
  const id = idOf(new X509Certificate(revoked.certPem)) ?? { issuer: '', serial: '' };
  const ago = (hours: number): { thisUpdate: Date } => ({ thisUpdate: new Date(Date.now() - hours * 3_600_000) });
  const [late, early] = [new Date(Date.now() + 2e9), new Date(Date.now() + 1e9)];
  const later = await one.list([], late, ago(1));
  for (const [issues, revokes, end] of [
    [[await one.list([revoked], early, ago(2)), later], false, late],
    [[later, await one.list([revoked], early, ago(0.5))], true, late],
    [[await one.list([revoked], early, ago(3)), await one.list([], new Date(Date.now() - 1000), ago(2))], true, early],
    [[await one.list([revoked], early, ago(2)), await one.list([], late, ago(-1))], true, late],
    [[await one.list([revoked], early), await other.list([], late)], true, early],
  ] as const) {
    const text = issues.join('');
    t.equal(isRevoked(readRevocationLists(text).filter((list) => list !== null), id), revokes);
    t.equal(firstListEnd(text), Math.floor(end.getTime() / 1000) * 1000);
  }
});

t.test('a text that was read last is not read again', async (t) => {
  const lists = readRevocationLists(pem);
  t.equal(readRevocationLists(`${pem} `.slice(0, -1)), lists);
  const others = await other.list([]);
  t.not(readRevocationLists(others), lists);
  t.strictSame(readRevocationLists(pem), lists);
});

t.test('the key with which a list was signed, whatever the algorithm', (t) => {
  const keys = {
    rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ec: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    ed25519: generateKeyPairSync('ed25519'),
  };
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING };
  const element = (tag: number, ...parts: readonly Buffer[]): Buffer => {
    const content = Buffer.concat(parts);
    return Buffer.concat([Buffer.of(tag, 0x82, content.length >> 8, content.length & 0xff), content]);
  };
  const content = element(0x30, Buffer.from('what is signed'));
  const wrap = (signature: Buffer): string => `-----BEGIN X509 CRL-----\n${element(0x30, content, element(0x30), element(0x03, Buffer.of(0), signature)).toString('base64')}\n-----END X509 CRL-----\n`;
  const table: readonly (readonly [keyof typeof keys, hash: string | null, more?: object])[] = [['rsa', 'sha256'], ['rsa', 'sha512'], ['rsa', 'sha3-256'], ['rsa', 'sha384', pss], ['ec', 'sha256'], ['ec', 'sha384'], ['ec', 'sha3-512'], ['ed25519', null]];
  for (const [kind, hash, more] of table) {
    const list = wrap(sign(hash, content, { key: keys[kind].privateKey, ...more }));
    for (const other of ['rsa', 'ec', 'ed25519'] as const) t.equal(isListSignedWith(list, 0, keys[other].publicKey), other === kind, `${kind} ${hash ?? ''}: ${other}`);
    t.notOk(isListSignedWith(list, 1, keys[kind].publicKey), 'there is no such list');
  }
  t.notOk(isListSignedWith(pem, 0, keys.ec.publicKey));
  t.end();
});

t.test('a name is the same in another type of text, another case and with more blanks', async (t) => {
  const named = await createRevokingAuthority('one of two');
  const list = await named.list([]);
  const renamed = (change: (name: Buffer) => void): string | undefined => {
    const der = Buffer.from(list.replace(/-----[^-]+-----|\s/g, ''), 'base64');
    const at = der.indexOf('one of two');
    change(der.subarray(at - 2, at + 10));
    return readRevocationLists(`-----BEGIN X509 CRL-----\n${der.toString('base64')}\n-----END X509 CRL-----\n`)[0]?.issuer;
  };
  const name = authorityNameOf(new X509Certificate(named.certPem)) ?? '';
  // UTF8String, PrintableString, TeletexString, IA5String and VisibleString.
  for (const type of [0x0c, 0x13, 0x14, 0x16, 0x1a]) t.equal(renamed((text) => { text[0] = type; }), name);
  t.equal(renamed((text) => { text.write('ONE Of twO', 2); }), name);
  t.not(renamed((text) => { text.write('one of owt', 2); }), name);
  t.not(renamed((text) => { text[0] = 0x04; }), name, 'no text');
  t.equal(renamed((text) => { text.write('one  of  t', 2); }), renamed((text) => { text.write(' one of t ', 2); }));
});

t.test('a name in characters of two or four bytes is the same', async (t) => {
  const text = 'Autorité of One';
  const names = await Promise.all([text, { bmpString: text }, { universalString: text }].map(async (commonName) => {
    const authority = await createRevokingAuthority(commonName);
    return [authorityNameOf(new X509Certificate(authority.certPem)), readRevocationLists(await authority.list([]))[0]?.issuer];
  }));
  t.match(names[0]?.[0], /autorité of one/);
  t.strictSame(new Set(names.flat()).size, 1);
});

t.test('what is damaged is no list, and never throws', async (t) => {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const wrap = (bytes: Buffer): string => `-----BEGIN X509 CRL-----\n${bytes.toString('base64')}\n-----END X509 CRL-----\n`;
  t.equal(readRevocationLists(wrap(der)).length, 1);
  for (let length = 0; length < der.length; length += 1) t.strictSame(readRevocationLists(wrap(der.subarray(0, length))), [null]);
  for (let at = 0; at < der.length; at += 1) for (const byte of [0, 0x80, 0x84, 0xff]) {
    const damaged = Buffer.from(der);
    damaged[at] = byte;
    t.doesNotThrow(() => readRevocationLists(wrap(damaged)));
  }
  t.strictSame(readRevocationLists(''), []);
  t.equal(idOf({ raw: Buffer.of(0x30, 0) }), null);
  t.equal(authorityNameOf({ raw: Buffer.alloc(0) }), null);
});
