/** How Proxy-Authorization is read: exactly, or not at all. */
import t from 'tap';
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import { readProxyAuthorization } from '../../src/identity/proxy-authorization.ts';

const base64 = (text: string | Uint8Array): string => Buffer.from(text).toString('base64');
const basic = (text: string | Uint8Array): string => `Basic ${base64(text)}`;

t.test('Basic', async (t) => {
  const read: [value: string, user: string, password: string][] = [
    // RFC 7617 §2 and §2.1.
    ['Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==', 'Aladdin', 'open sesame'],
    ['Basic dGVzdDoxMjPCow==', 'test', '123\u00a3'],
    ['basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==', 'Aladdin', 'open sesame'],
    ['BASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ==', 'Aladdin', 'open sesame'],
    [basic('user:'), 'user', ''],
    [basic('user:a:b:'), 'user', 'a:b:'],
    [basic(' user : pass '), ' user ', ' pass '],
    [basic('u\u0308ser:p'), '\u00fcser', 'p'],
    [basic('\ufeffuser:p'), '\ufeffuser', 'p'],
    // ISO-8859-1, as Python's requests, urllib3 and aiohttp send it.
    [basic(Buffer.from('b\u00e4r:p\u00e9', 'latin1')), 'b\u00e4r', 'p\u00e9'],
    [basic(Uint8Array.of(0x75, 0x3a, 0xc0, 0xba)), 'u', '\u00c0\u00ba'],
  ];
  for (const [value, user, password] of read) t.strictSame(readProxyAuthorization(value), { scheme: 'basic', user, password }, value);
});

t.test('Bearer', async (t) => {
  const token = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln_-0';
  t.strictSame(readProxyAuthorization(`Bearer ${token}`), { scheme: 'bearer', token });
  t.strictSame(readProxyAuthorization(`bearer  ${token}`), { scheme: 'bearer', token });
});

t.test('anything else is refused', async (t) => {
  const good = base64('user:secret');
  const wrong: [value: string, reason: RegExp][] = [
    ['', /one word/],
    ['Basic', /one word/],
    ['Basic ', /one word/],
    [`Basic${good}`, /one word/],
    [`Basic\t${good}`, /one word/],
    [` Basic ${good}`, /one word/],
    [`Basic ${good} `, /one word/],
    [`Basic ${good}, Basic ${good}`, /one word/],
    [`Basic ${good},`, /one word/],
    [`Basic ${good} ${good}`, /one word/],
    [`Basic "${good}"`, /one word/],
    [`Basic ${good}\u00a0`, /one word/],
    [`Basic ${good}\n`, /one word/],
    [`Basic ${base64('user:secre')}=`, /one word|exact base64/],
    [`Basic ${good.replace('=', '')}`, /exact base64/],
    ['Basic dXNlcjpzZWNyZXR=', /exact base64/],
    ['Basic dXNlcjpz_WNyZXQ=', /exact base64/],
    ['Basic dXNlcjpzZWNyZXQ==', /exact base64/],
    ['Basic dXNl.jpzZWNyZXQ=', /exact base64/],
    [basic('user'), /no colon/],
    [basic(':secret'), /no user/],
    [basic('us\0er:secret'), /control/],
    [basic('user:sec\nret'), /control/],
    [basic('user:sec\x7fret'), /control/],
    [basic('user:sec\u0085ret'), /control/],
    [basic(Uint8Array.of(0x75, 0x3a, 0xed, 0xa0, 0x80)), /control/],
    ['Bearer abc', /not a signed JWT/],
    ['Bearer a.b', /not a signed JWT/],
    ['Bearer a.b.', /not a signed JWT|one word/],
    ['Bearer a.b.c.d.e', /not a signed JWT/],
    ['Bearer a.b.c=', /not a signed JWT/],
    ['Bearer .b.c', /not a signed JWT/],
    ['Bearer a.b.c+', /not a signed JWT/],
    ['Digest username="x", realm="y"', /one word/],
    ['Digest abc', /scheme other than/],
    ['Negotiate YII=', /scheme other than/],
    [`Basic ${'A'.repeat(20_000)}`, /too long/],
  ];
  for (const [value, reason] of wrong) t.match(readProxyAuthorization(value), reason, value.slice(0, 60));
});

t.test('a reason never repeats what was sent', async (t) => {
  const secret = 'hunter2hunter2';
  for (const value of [secret, `Basic ${secret}!`, basic(secret), basic(`:${secret}`), basic(`a:${secret}\n`), `Bearer ${secret}`, `${secret} abc`, `${secret} ${secret}`]) {
    const reason = readProxyAuthorization(value);
    t.type(reason, 'string');
    t.notMatch(reason, secret);
    t.notMatch(reason, base64(secret).slice(0, 12));
  }
});

t.test('no value throws, and each that is read has one meaning', async (t) => {
  const user = fc.string({ unit: 'grapheme', minLength: 1 });
  const value = fc.oneof(
    fc.string(),
    fc.tuple(fc.constantFrom('Basic ', 'basic ', 'Bearer ', 'Basic  ', ''), fc.oneof(fc.string(), fc.base64String(), fc.string().map(base64))).map((parts) => parts.join('')),
    fc.uint8Array().map(basic),
    fc.tuple(user, user).map(([name, password]) => basic(`${name}:${password}`)),
  );
  let read = 0;
  fc.assert(
    fc.property(value, (text) => {
      const found = readProxyAuthorization(text);
      if (typeof found === 'string') return;
      read += 1;
      const word = text.slice(text.lastIndexOf(' ') + 1);
      if (found.scheme === 'bearer') assert.equal(found.token, word);
      else {
        const bytes = Buffer.from(word, 'base64');
        const encoding = isUtf8(bytes) ? 'utf8' : 'latin1';
        const decoded = bytes.toString(encoding);
        assert.equal(Buffer.from(decoded, encoding).toString('base64'), word, 'no byte was dropped or replaced');
        assert.equal(`${found.user}:${found.password}`, decoded.slice(0, decoded.indexOf(':')).normalize('NFC') + decoded.slice(decoded.indexOf(':')));
      }
    }),
    { numRuns: 20_000 },
  );
  t.ok(read > 1_000);
});
