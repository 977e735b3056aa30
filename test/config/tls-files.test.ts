/** Certificate files of a destination: read, held to be what they should be, and to fit together. */
import t from 'tap';
import { generateKeyPairSync } from 'node:crypto';
import { loadConfig, type LoadResult } from '../../src/config/load.ts';
import { createAuthority } from '../../src/demo/authority.ts';

const authority = await createAuthority();
const ours = await authority.issue({ names: ['client.example'], clientAuth: true });
const other = await authority.issue({ names: ['other.example'], clientAuth: true });
const lockedKey = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' },
}).privateKey;

const FILES: Readonly<Record<string, string>> = {
  '/etc/eco/ca.pem': authority.certPem,
  '/etc/eco/bundle.pem': `# two\n${authority.certPem}\n${other.certPem}`,
  '/etc/eco/cert.pem': `${ours.certPem}\n${authority.certPem}`,
  '/etc/eco/key.pem': ours.keyPem,
  '/etc/eco/other-key.pem': other.keyPem,
  '/etc/eco/locked.pem': lockedKey,
  '/etc/eco/old-locked.pem': '-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n',
  '/etc/eco/cut.pem': `${authority.certPem}\n${ours.certPem.slice(0, 200)}`,
  '/etc/eco/garbled.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  '/etc/eco/ca.der': '0\u0082\u0001',
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

t.test('good files are read, beside the configuration file or where they say', async (t) => {
  for (const [tls, expected] of [
    ['caFile: ca.pem', { ca: authority.certPem, cert: null, key: null }],
    ['caFile: ../../elsewhere/ca.pem', { ca: authority.certPem }],
    ['caFile: /etc/eco/bundle.pem', { ca: FILES['/etc/eco/bundle.pem'] }],
    ['certFile: cert.pem, keyFile: key.pem', { ca: null, cert: FILES['/etc/eco/cert.pem'], key: ours.keyPem }],
  ] as const) {
    t.match(load(tls), { ok: true, warnings: [], config: { destinations: [{ tls: expected }] } }, tls);
  }
});

t.test('each thing that is wrong is told at its key', async (t) => {
  const table: [tls: string, faults: { path: string; problem: RegExp }[]][] = [
    ['caFile: nope.pem', [{ path: 'caFile', problem: /^"\/etc\/eco\/nope\.pem" cannot be read: there is no such file/ }]],
    ['caFile: secret.pem', [{ path: 'caFile', problem: /cannot be read: permission denied/ }]],
    ['caFile: ca.der', [{ path: 'caFile', problem: /is not a PEM file/ }]],
    ['caFile: key.pem', [{ path: 'caFile', problem: /holds no certificate/ }]],
    ['caFile: cut.pem', [{ path: 'caFile', problem: /has no end/ }]],
    ['caFile: garbled.pem', [{ path: 'caFile', problem: /Certificate 1 of 1 in the file is damaged/ }]],
    ['certFile: cert.pem', [{ path: 'certFile', problem: /of no use without its key/ }]],
    ['keyFile: key.pem', [{ path: 'keyFile', problem: /of no use without its client certificate/ }]],
    ['certFile: cert.pem, keyFile: other-key.pem', [{ path: 'keyFile', problem: /does not belong to the certificate/ }]],
    ['certFile: cert.pem, keyFile: locked.pem', [{ path: 'keyFile', problem: /encrypted with a passphrase/ }]],
    ['certFile: cert.pem, keyFile: old-locked.pem', [{ path: 'keyFile', problem: /encrypted with a passphrase/ }]],
    ['certFile: cert.pem, keyFile: ca.pem', [{ path: 'keyFile', problem: /holds no private key/ }]],
    ['caFile: nope.pem, certFile: cut.pem', [{ path: 'caFile', problem: /no such file/ }, { path: 'certFile', problem: /has no end/ }, { path: 'certFile', problem: /without its key/ }]],
    ['caFile: 5', [{ path: 'caFile', problem: /5 is not a text/ }]],
  ];
  for (const [tls, faults] of table) {
    const result = load(tls);
    const told = result.ok ? [] : result.faults;
    t.equal(told.length, faults.length, tls);
    t.match(told, faults.map(({ path, problem }) => ({ path: `destinations.eco.tls.${path}`, line: 4, problem })), tls);
  }
});

t.test('an expired certificate is a warning', async (t) => {
  const inTenYears = Date.now() + 10 * 365.25 * 86_400_000;
  t.match(load('caFile: ca.pem', () => inTenYears + 86_400_000 * 30), {
    ok: true,
    warnings: [{ path: 'destinations.eco.tls.caFile', problem: /^The certificate of "CN=.*" expired on \d{4}-\d\d-\d\d\.$/ }],
  });
});
