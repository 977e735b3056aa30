/** The encoding of certificates, beside the examples of X.690 and what OpenSSL reads of it. */
import t from 'tap';
import { bits, der, explicit, implicit, integer, octets, oid, sequence, set, time, TRUE, utf8 } from '../../src/demo/authority.ts';

const hex = (bytes: Buffer): string => bytes.toString('hex');

t.test('lengths take as few bytes as they can', async (t) => {
  for (const [length, head] of [[0, '0400'], [1, '0401'], [127, '047f'], [128, '048180'], [255, '0481ff'], [256, '04820100'], [65_535, '0482ffff'], [65_536, '0483010000']] as const) {
    const written = octets(Buffer.alloc(length));
    t.equal(hex(written.subarray(0, head.length / 2)), head, `${length}`);
    t.equal(written.length, head.length / 2 + length);
  }
});

t.test('numbers are never negative', async (t) => {
  for (const [bytes, written] of [[[0x7f], '02017f'], [[0x80], '02020080'], [[0x01, 0x00], '02020100'], [[0xff, 0xff], '020300ffff']] as const) t.equal(hex(integer(Buffer.from(bytes))), written);
});

t.test('object identifiers', async (t) => {
  for (const [dotted, written] of [['2.5.29.17', '0603551d11'], ['1.2.840.10045.4.3.2', '06082a8648ce3d040302'], ['1.2.840.113549', '06062a864886f70d'], ['1.2.127', '06022a7f'], ['1.2.128', '06032a8100'], ['1.2.16383', '06032aff7f'], ['1.2.16384', '06042a818000']] as const) t.equal(hex(oid(dotted)), written, dotted);
});

t.test('times, and the year in which their type changes', async (t) => {
  for (const [at, tag, text] of [['1949-12-31T23:59:59Z', 0x18, '19491231235959Z'], ['1950-01-01T00:00:00Z', 0x17, '500101000000Z'], ['2026-03-02T12:03:04.999Z', 0x17, '260302120304Z'], ['2049-12-31T23:59:59Z', 0x17, '491231235959Z'], ['2050-01-01T00:00:00Z', 0x18, '20500101000000Z']] as const) {
    t.strictSame(time(new Date(at)), der(tag, Buffer.from(text)), at);
  }
});

t.test('the rest', async (t) => {
  t.equal(hex(TRUE), '0101ff');
  t.equal(hex(utf8('é')), '0c02c3a9');
  t.equal(hex(bits(Buffer.of(0x06), 1)), '03020106');
  t.equal(hex(sequence(set(), octets(Buffer.of(1)))), '30053100040101');
  t.equal(hex(explicit(3, sequence())), 'a3023000');
  t.equal(hex(implicit(2, Buffer.from('a'))), '820161');
});
