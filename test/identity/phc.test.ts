/** Which hashes a configuration may have, and the parameters just outside. */
import t from 'tap';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatPhc, readPhc } from '../../src/identity/proxy-authorization.ts';

const SALT = 'aM15713r3Xsvxbi31lqr1Q';
const HASH = 'nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E';
const base64 = (bytes: number): string => Buffer.alloc(bytes, 7).toString('base64').replace(/=+$/, '');

t.test('read and written back', async (t) => {
  for (const text of [
    `$scrypt$ln=14,r=8,p=1$${SALT}$${HASH}`,
    `$scrypt$ln=17,r=8,p=4$${SALT}$${HASH}`,
    `$scrypt$ln=16,r=16,p=1$${SALT}$${HASH}`,
    `$scrypt$ln=14,r=64,p=1$${base64(16)}$${base64(32)}`,
    `$scrypt$ln=15,r=8,p=1$${base64(64)}$${base64(64)}`,
  ]) {
    const phc = readPhc(text);
    if (typeof phc === 'string') t.fail(`${text} ${phc}`);
    else t.equal(formatPhc(phc), text);
  }
});

t.test('refused, with the reason', async (t) => {
  const wrong: [text: string, reason: RegExp][] = [
    [`$scrypt$ln=13,r=8,p=1$${SALT}$${HASH}`, /ln=13; it must be from 14 to 17/],
    [`$scrypt$ln=18,r=8,p=1$${SALT}$${HASH}`, /ln=18/],
    [`$scrypt$ln=63,r=8,p=1$${SALT}$${HASH}`, /ln=63/],
    [`$scrypt$ln=15,r=7,p=1$${SALT}$${HASH}`, /r=7; it must be at least 8/],
    [`$scrypt$ln=17,r=9,p=1$${SALT}$${HASH}`, /needs 144 MiB for each look; 128 MiB are allowed/],
    [`$scrypt$ln=14,r=65,p=1$${SALT}$${HASH}`, /needs 130 MiB/],
    [`$scrypt$ln=15,r=8,p=5$${SALT}$${HASH}`, /p=5; it must be from 1 to 4/],
    [`$scrypt$ln=15,r=8,p=0$${SALT}$${HASH}`, /not written as/],
    [`$scrypt$ln=015,r=8,p=1$${SALT}$${HASH}`, /not written as/],
    [`$scrypt$ln=115,r=8,p=1$${SALT}$${HASH}`, /not written as/],
    [`$scrypt$r=8,ln=15,p=1$${SALT}$${HASH}`, /not written as/],
    [`$scrypt$ln=15,r=8,p=1$${base64(15)}$${HASH}`, /a salt that is not 16 to 64 bytes/],
    [`$scrypt$ln=15,r=8,p=1$${base64(65)}$${HASH}`, /a salt/],
    [`$scrypt$ln=15,r=8,p=1$${SALT}$${base64(31)}`, /a last part that is not 32 to 64 bytes/],
    [`$scrypt$ln=15,r=8,p=1$${SALT}$${base64(65)}`, /a last part/],
    [`$scrypt$ln=15,r=8,p=1$${SALT.slice(0, -1)}R$${HASH}`, /a salt/],
    [`$scrypt$ln=15,r=8,p=1$${SALT}==$${HASH}`, /not written as/],
    [`$scrypt$ln=15,r=8,p=1$${SALT}$${HASH}\n`, /not written as/],
    [` $scrypt$ln=15,r=8,p=1$${SALT}$${HASH}`, /not written as/],
    [`$argon2id$v=19$m=65536,t=3,p=4$${SALT}$${HASH}`, /not written as/],
    ['$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW', /not written as/],
    ['correct horse', /not written as/],
    ['', /not written as/],
  ];
  for (const [text, reason] of wrong) t.match(readPhc(text), reason, text);
});

t.test('no text throws, and what is read is bounded and has one spelling', async (t) => {
  const part = fc.oneof({ weight: 9, arbitrary: fc.uint8Array({ minLength: 14, maxLength: 68, size: 'max' }).map((bytes) => Buffer.from(bytes).toString('base64').replace(/=+$/, '')) }, fc.base64String(), fc.string());
  const text = fc
    .tuple(fc.integer({ min: 12, max: 19 }), fc.integer({ min: 6, max: 20 }), fc.integer({ min: 0, max: 6 }), part, part)
    .map(([ln, r, p, salt, hash]) => `$scrypt$ln=${ln},r=${r},p=${p}$${salt}$${hash}`);
  let read = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: text }, fc.string()), (candidate) => {
      const phc = readPhc(candidate);
      if (typeof phc === 'string') return;
      read += 1;
      assert.equal(formatPhc(phc), candidate);
      assert.ok(128 * phc.cost * phc.blockSize <= 128 * 1024 * 1024 && phc.parallelization <= 4);
    }),
    { numRuns: 10_000 },
  );
  t.ok(read > 300);
});
