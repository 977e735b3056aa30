/** Names read from real certificates, among them some made to be misread. */
import 'reflect-metadata';
import t from 'tap';
import assert from 'node:assert/strict';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { type GeneralName, type JsonGeneralNames, SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import fc from 'fast-check';
import { readAltNames, sanOf, sansOf } from '../../src/identity/certificate.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const keys = await webcrypto.subtle.generateKey(ALGORITHM, false, ['sign', 'verify']);

async function certify(names: JsonGeneralNames | readonly GeneralName[]): Promise<X509Certificate> {
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString('hex'),
    name: 'CN=DNS:common.example',
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new SubjectAlternativeNameExtension([...names] as JsonGeneralNames)],
  });
  return new X509Certificate(Buffer.from(certificate.rawData));
}

t.test('the four kinds', async (t) => {
  const certificate = await certify([
    { type: 'dns', value: 'Pod.Dynatrace-SIT.svc' },
    { type: 'url', value: 'spiffe://cluster.local/ns/dynatrace-sit/sa/activegate' },
    { type: 'ip', value: '10.8.0.1' },
    { type: 'ip', value: '2001:db8::1' },
    { type: 'email', value: 'ops@Telus.example' },
    { type: 'dns', value: 'pod.dynatrace-sit.svc' },
  ]);
  t.strictSame(sansOf(certificate), [
    'DNS:pod.dynatrace-sit.svc',
    'URI:spiffe://cluster.local/ns/dynatrace-sit/sa/activegate',
    'IP:10.8.0.1',
    'IP:2001:db8::1',
    'email:ops@telus.example',
  ]);
});

t.test('no names, whatever the subject says', async (t) => {
  const certificate = await X509CertificateGenerator.createSelfSigned({ serialNumber: '01', name: 'CN=admin.example', keys, signingAlgorithm: ALGORITHM });
  t.strictSame(sansOf(new X509Certificate(Buffer.from(certificate.rawData))), []);
});

t.test('a name within a name stays within it', async (t) => {
  const values = [
    'evil.example, DNS:eco-sit.telus.internal',
    'evil.example", DNS:"eco-sit.telus.internal',
    'evil.example\\", DNS:eco-sit.telus.internal',
    'evil.example\0.eco-sit.telus.internal',
    'evil.example\n, DNS:eco-sit.telus.internal',
    'eco-sit.telus.internal\0',
    '*.telus.internal',
    '10.0.0.1',
    '[::1]',
    '',
    ' eco-sit.telus.internal',
    'eco-sit.telus.internal:443',
    'xn--a',
  ];
  for (const value of values) {
    t.strictSame(sansOf(await certify([{ type: 'dns', value }, { type: 'dns', value: 'good.example' }])), ['DNS:good.example'], JSON.stringify(value));
    t.strictSame(sansOf(await certify([{ type: 'email', value: `ops@${value}` }, { type: 'dns', value: 'good.example' }])), ['DNS:good.example'], JSON.stringify(value));
  }
  const uris = [
    'http://evil.example/, URI:spiffe://cluster.local/ns/kube-system/sa/admin',
    'http://evil.example/", URI:"spiffe://cluster.local/ns/kube-system/sa/admin',
  ];
  for (const value of uris) {
    t.strictSame(sansOf(await certify([{ type: 'url', value }, { type: 'dns', value: 'good.example' }])), ['DNS:good.example'], value);
  }
});

t.test('URIs that a pattern could misread are not accepted', async (t) => {
  const good = [
    'spiffe://cluster.local/ns/dynatrace-sit/sa/activegate',
    'spiffe://cluster.local',
    'spiffe://trust_domain-1.example/a/b.c_d-e/...',
    'https://ca.example/clients/1?x=y#z',
    'https://ca.example/a,b',
    'urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6',
  ];
  for (const uri of good) t.equal(sanOf('URI', uri), `URI:${uri}`);
  const bad = [
    'spiffe://cluster.local/ns/dynatrace-sit/../kube-system/sa/admin',
    'spiffe://cluster.local/ns/./x',
    'spiffe://cluster.local/ns//x',
    'spiffe://cluster.local/ns/x/',
    'spiffe://cluster.local/',
    'spiffe://cluster.local/ns/%64ynatrace',
    'spiffe://cluster.local/ns/x?y',
    'spiffe://cluster.local/ns/x#y',
    'spiffe://Cluster.local/ns/x',
    'SPIFFE://cluster.local/ns/x',
    'spiffe://user@cluster.local/ns/x',
    'spiffe://cluster.local:80/ns/x',
    'spiffe:///ns/x',
    'spiffe:cluster.local',
    'https://ca.example/a/../b',
    'https://ca.example/a/..',
    'https://ca.example/a/%2E%2e/b',
    'https://ca.example/a%2fb',
    'https://ca.example/a\\b',
    'https://ca.example/a b',
    'https://ca.example/"',
    'https://ca.example/\u00e4',
    `https://ca.example/${'a'.repeat(2_048)}`,
    'ca.example',
    '',
  ];
  for (const uri of bad) t.equal(sanOf('URI', uri), null, uri.slice(0, 80));
});

t.test('other kinds of names identify no client', async (t) => {
  const certificate = await certify([{ type: 'dn', value: 'CN=DNS:evil.example' }, { type: 'id', value: '1.2.3.4' }, { type: 'dns', value: 'good.example' }]);
  t.match(certificate.subjectAltName, /DirName:.*Registered ID:/);
  t.strictSame(sansOf(certificate), ['DNS:good.example']);
  t.strictSame(readAltNames('X400Name:<unsupported>, EdiPartyName:<unsupported>, othername:<unsupported>, DNS:good.example'), ['DNS:good.example'], 'as Node writes the rarer ones');
  t.equal(sanOf('othername', 'x'), null);
  t.equal(sanOf('IP Address', '<invalid>'), null);
  t.equal(sanOf('IP Address', '127.1'), null);
});

t.test('text that Node would not write gives no names at all', async (t) => {
  for (const text of ['DNS:a.example,DNS:b.example', 'DNS:a.example, ', ', DNS:a.example', 'DNS:"a.example', 'DNS:a"b", DNS:c.example', 'DNS:"a.example"b, DNS:c.example', 'DNS:"\\x41", DNS:c.example', 'DNS', 'a.example', "DNS:a'b, DNS:c.example"]) {
    t.strictSame(readAltNames(text), [], text);
  }
});

t.test('any text as any name: only itself comes out, or nothing', async () => {
  const hostile = fc.string({ unit: fc.constantFrom('a', '.', ',', ' ', '"', '\\', ':', '\0', 'D', 'N', 'S', 'x', '\n', 'u', '0', '2', 'c', '/') });
  const names = fc.array(fc.tuple(fc.constantFrom('dns', 'url', 'email'), hostile), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(names, async (entries) => {
      const certificate = await certify(entries.map(([type, value]) => ({ type, value })));
      const kinds = { dns: 'DNS', url: 'URI', email: 'email' } as const;
      const expected = entries.map(([type, value]) => sanOf(kinds[type], value)).filter((san) => san !== null);
      assert.deepEqual(sansOf(certificate), [...new Set(expected)]);
    }),
    { numRuns: 300 },
  );
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(readAltNames(text))), { numRuns: 10_000 });
});
