/** Hashes made and verified with the real scrypt. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import t from 'tap';
import { decoyOf, hashPassword, readPhc, verifyPassword } from '../../src/identity/proxy-authorization.ts';

t.test('what hashPassword makes, verifyPassword takes', async (t) => {
  const hash = await hashPassword('correct horse');
  t.match(hash, /^\$scrypt\$ln=15,r=8,p=1\$[\w+/]{22}\$[\w+/]{43}$/);
  t.equal(await verifyPassword(hash, 'correct horse'), true);
  for (const wrong of ['correct hors', 'correct horse ', 'Correct horse', '', 'correct\0horse']) t.equal(await verifyPassword(hash, wrong), false, wrong);
  t.not(await hashPassword('correct horse'), hash, 'another salt each time');
});

t.test('what is derived is compared in constant time', async (t) => {
  const hash = await hashPassword('correct horse');
  const compare = crypto.timingSafeEqual;
  const lengths: number[][] = [];
  crypto.timingSafeEqual = (a, b) => {
    lengths.push([a.byteLength, b.byteLength]);
    return compare(a, b);
  };
  syncBuiltinESMExports();
  t.teardown(() => {
    crypto.timingSafeEqual = compare;
    syncBuiltinESMExports();
  });
  t.equal(await verifyPassword(hash, 'correct horse'), true);
  t.equal(await verifyPassword(hash, 'correct hors'), false);
  t.strictSame(lengths, [[32, 32], [32, 32]]);
});

t.test('hashes of another maker', async (t) => {
  // From the documentation of Python's passlib.
  const hash = '$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E';
  t.equal(await verifyPassword(hash, 'password'), true);
  t.equal(await verifyPassword(hash, 'passwore'), false);
});

t.test('one password, however the keyboard composed it', async (t) => {
  const hash = await hashPassword('b\u00e4ttery');
  t.equal(await verifyPassword(hash, 'ba\u0308ttery'), true);
  t.equal(await verifyPassword(hash, 'battery'), false);
});

t.test('the dearest parameters that are allowed do work', async (t) => {
  const hash = `$scrypt$ln=17,r=8,p=1$${'a'.repeat(21)}A$${'b'.repeat(42)}A`;
  t.equal(await verifyPassword(hash, 'x'), false);
});

t.test('a decoy costs what the original does, and has no password', async (t) => {
  const like = '$scrypt$ln=14,r=8,p=2$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E';
  const decoy = decoyOf(like);
  t.match(readPhc(decoy), { cost: 2 ** 14, blockSize: 8, parallelization: 2, salt: { length: 16 }, hash: { length: 32 } });
  t.not(decoy, like);
  t.equal(await verifyPassword(decoy, ''), false);
});

t.test('text that is no hash is a mistake of ours', async (t) => {
  await t.rejects(verifyPassword('plain', 'plain'), { name: 'TypeError', message: /the hash is not written as/ });
  t.throws(() => decoyOf(''), { name: 'TypeError' });
});
