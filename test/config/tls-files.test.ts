/** Certificate files of a destination: read, held to be what they should be, and to fit together. */
import t from 'tap';
// @peculiar/x509 needs this polyfill loaded before it.
import 'reflect-metadata';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { KeyUsageFlags, KeyUsagesExtension, PemConverter, X509CertificateGenerator } from '@peculiar/x509';
import { loadConfig, type LoadResult } from '../../src/config/load.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { secure } from '../../src/dial/tls.ts';
import { listen } from '../support/listen.ts';

const authority = await createAuthority();
const ours = await authority.issue({ names: ['client.example'], clientAuth: true });
const other = await authority.issue({ names: ['other.example'], clientAuth: true });
const second = await createAuthority('second');
const issuing = await authority.issueAuthority('issuing');
const below = await issuing.issue({ names: ['client.example'], clientAuth: true });
const server = await authority.issue({ names: ['eco.example'] });
const serverOfSecond = await second.issue({ names: ['eco.example'] });
/** Signed like any other, but the last month is the thirteenth. */
const undated = await authority.issue({ names: ['client.example'], clientAuth: true, notAfter: Object.assign(new Date(), { toISOString: () => '2039-13-31T23:59:59Z' }) });
const lockedKey = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' },
}).privateKey;

/** `openssl ecparam -name secp256k1 -genkey -noout`, then `openssl req -x509`: valid for a hundred years. */
const ODD_CURVE = '-----BEGIN CERTIFICATE-----\nMIIBfzCCASSgAwIBAgIUJ+Xvn7p/4JmphJqCVNRI30XPuSEwCgYIKoZIzj0EAwIw\nFTETMBEGA1UEAwwKazEuZXhhbXBsZTAgFw0yNjExMzAwMDExMDZaGA8yMTI2MTEw\nNjAwMTEwNlowFTETMBEGA1UEAwwKazEuZXhhbXBsZTBWMBAGByqGSM49AgEGBSuB\nBAAKA0IABKNgsUyTl9xYZQIme+1PG9hKgyPWgPWe8Rjb07XKB5pspHarTFLj5clr\nBmKStn3xrawBNxiOVRpXgbfnnrOD1ZCjUzBRMB0GA1UdDgQWBBQMgsaInzZAmrU9\n3tX4IGCXOgp8ejAfBgNVHSMEGDAWgBQMgsaInzZAmrU93tX4IGCXOgp8ejAPBgNV\nHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDDLlwbK2eJ65MkAel4XcPs\n02ra0rxW7fRIV2dHXbAX2wIhAKSzmd44o8oivy6U2rWYFdyKI40SsVa+RPDoyngZ\nUPpN\n-----END CERTIFICATE-----\n';

const FILES: Record<string, string> = {
  '/etc/eco/odd-curve.pem': ODD_CURVE,
  '/etc/eco/ca.pem': authority.certPem,
  '/etc/eco/bundle.pem': `# two\n${authority.certPem}\n${second.certPem}`,
  '/etc/eco/cert.pem': `${ours.certPem}\n${authority.certPem}`,
  '/etc/eco/key.pem': ours.keyPem,
  '/etc/eco/other-key.pem': other.keyPem,
  '/etc/eco/locked.pem': lockedKey,
  '/etc/eco/old-locked.pem': '-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n',
  '/etc/eco/cut.pem': `${authority.certPem}\n${ours.certPem.slice(0, 200)}`,
  '/etc/eco/garbled.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  '/etc/eco/undated.pem': authority.certPem + undated.certPem,
  '/etc/eco/ca.der': '0\ufffd\u0001',
  '/etc/eco/store.p12': '0\ufffd\u0009\ufffd\u0002\u0001\u00030',
  '/etc/eco/twice.pem': Buffer.from(authority.certPem).toString('base64'),
  '/etc/eco/one-line.pem': authority.certPem.replaceAll('\n', '\\n'),
  '/etc/eco/indented.pem': authority.certPem.replace(/^/gm, '    '),
  '/etc/eco/text.pem': 'PuTTY-User-Key-File-3: ssh-ed25519\n',
  '/etc/eco/request.pem': '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n',
  '/etc/eco/ssh.pem': '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n',
  '/etc/eco/trusted.pem': authority.certPem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'),
  '/etc/eco/empty.pem': ' \n',
  '/etc/eco/chain.pem': below.certPem.trimEnd() + issuing.certPem,
  '/etc/eco/turned.pem': issuing.certPem + below.certPem,
  '/etc/eco/skips.pem': below.certPem + second.certPem,
  '/etc/eco/below-key.pem': below.keyPem,
  '/etc/eco/both-keys.pem': below.keyPem + ours.keyPem,
  '/etc/eco/server.pem': server.certPem,
  '/etc/eco/server-key.pem': server.keyPem,
  '/etc/eco/with-key.pem': authority.certPem + ours.keyPem,
  '/etc/eco/broken-key.pem': '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
  '/elsewhere/ca.pem': authority.certPem,
};

function load(tls: string, now = Date.now): LoadResult {
  const yaml = `version: 1
clients: { pods: { addresses: 10.0.0.0/8 } }
destinations:
  eco: { hosts: eco.example, ports: 443, tls: { ${tls} } }
rules: [{ clients: pods, destinations: eco }]
`;
  const readFile = (path: string): string => {
    if (path === '/etc/eco/egress.yaml') return yaml;
    const text = FILES[path];
    if (text === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: path.endsWith('secret.pem') ? 'EACCES' : 'ENOENT' });
    return text;
  };
  return loadConfig({ file: '/etc/eco/egress.yaml', env: {}, readFile, now });
}

/** As it is handed to TLS: certificates alone, one below the other. */
const pem = (...of: readonly { readonly certPem: string }[]): string => of.map(({ certPem }) => certPem).join('');

t.test('good files are read, beside the configuration file or where they say', async (t) => {
  for (const [tls, expected] of [
    ['caFile: ca.pem', { ca: pem(authority), cert: null, key: null }],
    ['caFile: ../../elsewhere/ca.pem', { ca: pem(authority) }],
    ['caFile: /etc/eco/bundle.pem', { ca: pem(authority, second) }],
    ['certFile: cert.pem, keyFile: key.pem', { ca: null, cert: pem(ours, authority), key: ours.keyPem },],
  ] as const) {
    t.match(load(tls), { ok: true, warnings: { length: 0 }, config: { destinations: [{ tls: expected }] } }, tls);
  }
});

t.test('each fault is reported at its key', async (t) => {
  const table: [tls: string, faults: { path: string; problem: RegExp }[]][] = [
    ['caFile: nope.pem', [{ path: 'caFile', problem: /^"\/etc\/eco\/nope\.pem" cannot be read: there is no such file/ }]],
    ['caFile: secret.pem', [{ path: 'caFile', problem: /cannot be read: permission denied/ }]],
    ['caFile: ca.der', [{ path: 'caFile', problem: /is not a PEM file/ }]],
    ['certFile: cert.pem, keyFile: ca.der', [{ path: 'keyFile', problem: /is not a PEM file/ }]],
    ['caFile: key.pem', [{ path: 'caFile', problem: /holds no certificate, but "PRIVATE KEY"\.$/ }]],
    ['caFile: request.pem', [{ path: 'caFile', problem: /holds no certificate, but "CERTIFICATE REQUEST"\.$/ }]],
    ['caFile: cut.pem', [{ path: 'caFile', problem: /ends inside a CERTIFICATE block/ }]],
    ['caFile: empty.pem', [{ path: 'caFile', problem: /is empty/ }]],
    ['caFile: trusted.pem', [{ path: 'caFile', problem: /TRUSTED CERTIFICATE/ }]],
    ['certFile: turned.pem, keyFile: below-key.pem', [{ path: 'keyFile', problem: /belongs to certificate 2 of certFile/ }]],
    ['certFile: chain.pem, keyFile: both-keys.pem', [{ path: 'keyFile', problem: /holds 2 private keys/ }]],
    ['certFile: chain.pem, keyFile: broken-key.pem', [{ path: 'keyFile', problem: /private key is damaged/ }]],
    ['certFile: chain.pem, keyFile: empty.pem', [{ path: 'keyFile', problem: /is empty/ }]],
    ['caFile: garbled.pem', [{ path: 'caFile', problem: /Certificate 1 of 1 in the file is damaged/ }]],
    ['caFile: undated.pem', [{ path: 'caFile', problem: /Certificate 2 of 2 in the file is damaged: its validity does not begin and end at times\.$/ }]],
    ['certFile: cert.pem', [{ path: 'certFile', problem: /cannot be used without its key/ }]],
    ['keyFile: key.pem', [{ path: 'keyFile', problem: /cannot be used without its client certificate/ }]],
    ['certFile: cert.pem, keyFile: other-key.pem', [{ path: 'keyFile', problem: /does not belong to the certificate/ }]],
    ['certFile: cert.pem, keyFile: locked.pem', [{ path: 'keyFile', problem: /encrypted with a passphrase/ }]],
    ['certFile: cert.pem, keyFile: old-locked.pem', [{ path: 'keyFile', problem: /encrypted with a passphrase/ }]],
    ['certFile: odd-curve.pem, keyFile: key.pem', [{ path: 'certFile', problem: /a key on the curve secp256k1, with which no TLS handshake succeeds/ }, { path: 'keyFile', problem: /does not belong/ }]],
    ['certFile: cert.pem, keyFile: ca.pem', [{ path: 'keyFile', problem: /holds no private key, but "CERTIFICATE"\.$/ }]],
    ['certFile: cert.pem, keyFile: ssh.pem', [{ path: 'keyFile', problem: /in the format of OpenSSH/ }]],
    ['caFile: nope.pem, certFile: cut.pem', [{ path: 'caFile', problem: /no such file/ }, { path: 'certFile', problem: /ends inside a CERTIFICATE block/ }, { path: 'certFile', problem: /without its key/ }]],
    ['caFile: 5', [{ path: 'caFile', problem: /5 is not a text/ }]],
  ];
  for (const [tls, faults] of table) {
    const result = load(tls);
    const told = result.ok ? [] : result.faults;
    t.equal(told.length, faults.length, tls);
    t.match(told, faults.map(({ path, problem }) => ({ path: `destinations.eco.tls.${path}`, line: 4, problem })), tls);
  }
});

t.test('what is advised fits what is in the file, and what the key names', async (t) => {
  for (const [tls, instead] of [
    ['caFile: ca.der', 'Convert it with: openssl x509 -inform der.'],
    ['certFile: ca.der, keyFile: key.pem', 'Convert it with: openssl x509 -inform der.'],
    ['certFile: cert.pem, keyFile: ca.der', 'Convert it with: openssl pkey -inform der.'],
    ['certFile: cert.pem, keyFile: store.p12', 'openssl pkcs12 -nodes'],
    ['caFile: twice.pem', 'base64 -d'],
    ['caFile: one-line.pem', 'each line of the PEM block on a line of its own'],
    ['caFile: indented.pem', 'Take them out.'],
    ['caFile: text.pem', 'PEM is text with "-----BEGIN …-----" lines.'],
  ] as const) {
    const result = load(tls);
    t.match(result.ok ? [] : result.faults, [{ instead }], tls);
  }
});

t.test('the content of a file in place of its path is not shown', async (t) => {
  for (const content of ['"-----BEGIN PRIVATE KEY-----\\nMIGHAgEA\\n-----END PRIVATE KEY-----"', '"Authorization: Api-Token MIGHAgEA"', 'user:MIGHAgEA/x', 'Bearer MIGHAgEA']) {
    const result = load(`certFile: cert.pem, keyFile: ${content}`);
    t.match(result.ok ? [] : result.faults, [{ path: 'destinations.eco.tls.keyFile', problem: /^This looks like the content of the file, so it is not shown\.$/, excerpt: null }], content);
    t.notMatch(JSON.stringify(result), 'MIGHAgEA', 'nor is its line');
  }
  for (const path of ['"C:\\\\certs\\\\key.pem"', 'C:/key.pem', 'certs/a:b.pem', '/etc/a:b.pem', 'file:///etc/key.pem']) {
    const result = load(`certFile: cert.pem, keyFile: ${path}`);
    t.match(result.ok ? [] : result.faults, [{ problem: /cannot be read: there is no such file/ }], path);
  }
});

t.test('an expired certificate is a warning', async (t) => {
  const inTenYears = Date.now() + 10 * 365.25 * 86_400_000;
  t.match(load('caFile: ca.pem', () => inTenYears + 86_400_000 * 30), {
    ok: true,
    warnings: [{ path: 'destinations.eco.tls.caFile', problem: /^The certificate of "CN=.*" expired at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\.$/ }],
  });
});

t.test('what probably cannot serve is a warning', async (t) => {
  for (const [tls, path, problem] of [
    ['caFile: with-key.pem', 'caFile', /also holds "PRIVATE KEY", which is not used here/],
    ['caFile: server.pem', 'caFile', /is not an authority: the file trusts this one certificate/],
    ['certFile: skips.pem, keyFile: below-key.pem', 'certFile', /Certificate 2 of the file did not issue the one before it/],
    ['certFile: server.pem, keyFile: server-key.pem', 'certFile', /is not for a TLS client/],
  ] as const) {
    t.match(load(tls), { ok: true, warnings: [{ path: `destinations.eco.tls.${path}`, problem }] }, tls);
  }
  t.match(load('caFile: ca.pem', () => Date.now() - 86_400_000), { ok: true, warnings: [{ problem: /is valid only from/ }] });
  t.match(load('certFile: chain.pem, keyFile: below-key.pem'), { ok: true, warnings: { length: 0 } }, 'a whole chain');
});

t.test('what other authorities than ours issue, and peers refuse, is a warning', async (t) => {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const make = async (usage: KeyUsageFlags | null, hash: string, issuer = 'CN=us'): Promise<string> => {
    const extensions = usage === null ? [] : [new KeyUsagesExtension(usage, true)];
    return (await X509CertificateGenerator.create({ subject: 'CN=us', issuer, publicKey: keys.publicKey, signingKey: keys.privateKey, signingAlgorithm: { name: 'ECDSA', hash }, extensions, notBefore: new Date(0), notAfter: new Date(Date.now() + 1e9) })).toString('pem');
  };
  FILES['/etc/eco/us.key'] = PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  for (const [key, usage, hash, issuer, problem] of [
    ['certFile', KeyUsageFlags.keyCertSign, 'SHA-256', 'CN=x', /key usage of the certificate of "CN=us" does not permit signatures/],
    ['certFile', KeyUsageFlags.digitalSignature, 'SHA-1', 'CN=x', /certificate of "CN=us" is signed with ecdsa-with-SHA1: peers refuse it/],
    ['certFile', null, 'SHA-1', 'CN=us', null],
    ['certFile', KeyUsageFlags.digitalSignature, 'SHA-256', 'CN=x', null],
    // Without basic constraints, as some old authorities are.
    ['caFile', KeyUsageFlags.keyCertSign, 'SHA-256', 'CN=us', null],
    ['caFile', KeyUsageFlags.digitalSignature, 'SHA-256', 'CN=us', /is not an authority/],
  ] as const) {
    FILES['/etc/eco/us.pem'] = await make(usage, hash, issuer);
    const warnings = problem === null ? { length: 0 } : [{ path: `destinations.eco.tls.${key}`, problem }];
    t.match(load(`${key}: us.pem${key === 'certFile' ? ', keyFile: us.key' : ''}`), { ok: true, warnings }, String(problem));
  }
});

t.test('every authority that the text means to hold is trusted in a handshake', async (t) => {
  const ports = await Promise.all([server, serverOfSecond].map(({ certPem, keyPem }) => listen(t, createServer({ cert: certPem, key: keyPem }, (socket: TLSSocket) => socket.on('error', () => {}).end()))));
  const a = authority.certPem;
  const b = second.certPem;
  for (const [name, text] of Object.entries({
    joined: a.trimEnd() + b,
    'joined on one line': `${a.trimEnd()}   ${b.trimEnd()}`,
    crlf: (a + b).replaceAll('\n', '\r\n'),
    bom: `\uFEFF${a}\uFEFF${b}`,
    comments: `# first\nsubject: A\n${a}\n=== second ===\n${b}trailing`,
    'an old label': a + b.replaceAll('CERTIFICATE', 'X509 CERTIFICATE'),
    'a key between': a + ours.keyPem + b,
    'one twice': a + a + b,
  })) {
    const yaml = 'version: 1\nclients: { pods: { addresses: 10.0.0.0/8 } }\ndestinations:\n  eco: { hosts: eco.example, ports: 443, tls: { caFile: a.pem } }\nrules: [{ clients: pods, destinations: eco }]\n';
    const loaded = loadConfig({ file: '/etc/eco/egress.yaml', env: {}, readFile: (path) => (path.endsWith('.yaml') ? yaml : text) });
    const config = loaded.ok ? loaded.config.destinations[0]?.tls : undefined;
    if (config === undefined) {
      t.fail(`${name}: ${JSON.stringify(loaded)}`);
      continue;
    }
    for (const port of ports) {
      const socket = connectTcp(port, '127.0.0.1');
      await once(socket, 'connect');
      const tls = await secure({ socket, host: 'eco.example', port, config, timeout: 10_000, signal: new AbortController().signal });
      t.ok(tls.authorized, name);
      tls.destroy();
    }
  }
});
