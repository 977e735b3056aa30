// @peculiar/x509 needs this polyfill loaded before it.
import 'reflect-metadata';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, createServer } from 'node:tls';
import { promisify } from 'node:util';
import { AuthorityKeyIdentifierExtension, BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, SubjectAlternativeNameExtension, SubjectKeyIdentifierExtension, X509Certificate as Certificate } from '@peculiar/x509';
import t from 'tap';
import { createAuthority } from '../../src/demo/authority.ts';
import { listen } from '../support/listen.ts';

const run = promisify(execFile);
const authority = await createAuthority();
const issued = await authority.issue({ names: ['eco.test', '*.eco.test'], addresses: ['127.0.0.1', '::1'] });

t.test('Node takes the chain in a handshake, for every name on it', async (t) => {
  const server = createServer({ cert: issued.certPem, key: issued.keyPem }, (socket) => socket.end());
  const port = await listen(t, server);
  for (const host of ['eco.test', 'a.eco.test', '127.0.0.1', '::1']) {
    const socket = connect({ port, host: '127.0.0.1', ca: authority.certPem, checkServerIdentity: () => undefined, servername: 'eco.test' });
    await once(socket, 'secureConnect');
    t.ok(socket.authorized);
    const certificate = new X509Certificate(socket.getPeerCertificate().raw);
    t.ok(host.includes('test') ? certificate.checkHost(host) : certificate.checkIP(host), host);
    socket.destroy();
  }
});

t.test('the root is an authority and nothing else, the leaf is not one', async (t) => {
  const root = new X509Certificate(authority.certPem);
  const leaf = new X509Certificate(issued.certPem);
  t.equal(root.ca, true);
  t.equal(leaf.ca, false);
  t.ok(leaf.checkIssued(root));
  t.ok(leaf.verify(root.publicKey));
  t.same(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1'], 'server');
  const client = new X509Certificate((await authority.issue({ names: ['pod'], clientAuth: true })).certPem);
  t.same(client.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'client');
  t.not(leaf.serialNumber, client.serialNumber);
});

t.test('every extension is one that another reader of certificates finds, and none is broken', async (t) => {
  const middle = await authority.issueAuthority('middle');
  const { certPem } = await middle.issue({ names: ['pod.test'], addresses: ['10.8.0.1', 'fd00::1'], uris: ['spiffe://cluster.local/ns/a/sa/b'], clientAuth: true });
  const [root, between, leaf] = [authority.certPem, middle.certPem, certPem].map((pem) => new Certificate(pem));
  t.strictSame(leaf?.getExtension(SubjectAlternativeNameExtension)?.names.toJSON(), [
    { type: 'dns', value: 'pod.test' }, { type: 'ip', value: '10.8.0.1' }, { type: 'ip', value: 'fd00::1' }, { type: 'url', value: 'spiffe://cluster.local/ns/a/sa/b' },
  ]);
  t.strictSame([root, between, leaf].map((one) => one?.getExtension(BasicConstraintsExtension)?.ca), [true, true, false]);
  t.strictSame([root, between, leaf].map((one) => one?.getExtension(KeyUsagesExtension)?.usages), [KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, KeyUsageFlags.digitalSignature]);
  t.strictSame([...(leaf?.extensions ?? [])].filter(({ critical }) => critical).map(({ type }) => type), ['2.5.29.19', '2.5.29.15']);
  const own = [root, between, leaf].map((one) => one?.getExtension(SubjectKeyIdentifierExtension)?.keyId);
  t.strictSame([root, between, leaf].map((one) => one?.getExtension(AuthorityKeyIdentifierExtension)?.keyId), [undefined, own[0], own[1]]);
  t.equal(own[0], (await SubjectKeyIdentifierExtension.create(await new Certificate(authority.certPem).publicKey.export())).keyId, 'as the library computes it');
  t.strictSame([root, between, leaf].map((one) => [one?.issuer, one?.subject]), [['CN=eco-egress test authority', 'CN=eco-egress test authority'], ['CN=eco-egress test authority', 'CN=middle'], ['CN=middle', 'CN=pod.test']]);
});

t.test('validity is as asked', async (t) => {
  const notBefore = new Date('2001-02-03T04:05:06Z');
  const notAfter = new Date('2052-02-03T04:05:06Z');
  const old = new X509Certificate((await authority.issue({ names: ['old.test'], notBefore, notAfter })).certPem);
  t.equal(old.validFromDate.getTime(), notBefore.getTime());
  t.equal(old.validToDate.getTime(), notAfter.getTime());
});

t.test('strict verifiers take the chain, and refuse it under another root', async (t) => {
  const other = await createAuthority();
  const dir = t.testdir({});
  const file = async (name: string, content: string): Promise<string> => {
    await writeFile(join(dir, name), content);
    return join(dir, name);
  };
  const root = await file('root.pem', authority.certPem);
  const leaf = await file('leaf.pem', issued.certPem);
  const args = ['verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'eco.test'];
  try {
    const { stdout } = await run('openssl', [...args, '-CAfile', root, leaf]);
    t.match(stdout, ': OK');
    await t.rejects(run('openssl', [...args, '-CAfile', await file('other.pem', other.certPem), leaf]));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    t.comment('the openssl program is not here: Node alone has judged the chain');
  }
});
