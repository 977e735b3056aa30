/** TLS towards clients: its keys belong together, its files are read and held to what a handshake needs. */
import t from 'tap';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
// @peculiar/x509 needs this polyfill loaded before it.
import 'reflect-metadata';
import { Extension } from '@peculiar/x509';
import { chmodSync, writeFileSync } from 'node:fs';
import type { TlsServerConfig } from '../../src/config/config.ts';
import { loadConfig, type LoadResult } from '../../src/config/load.ts';
import { serverContext } from '../../src/config/tls-context.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { MINIMAL } from '../support/load-text.ts';
import { createRevokingAuthority } from '../support/revoking-authority.ts';

const OWN = 'eco-egress.eco-egress.svc';
const authority = await createAuthority();
const ours = await authority.issue({ names: [OWN, '*.egress.example'] });
const other = await authority.issue({ names: ['other.example'] });
const [common, part] = [await authority.issue({ names: [], uris: [OWN] }), await authority.issue({ names: ['f*.b.example'] })];
const expired = await authority.issue({ names: [OWN], notBefore: new Date(0), notAfter: new Date(1) });
const { privateKey: noCertificate } = generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } });

const revoking = await createRevokingAuthority('revoking');
const below = await revoking.subordinate('below');

const noLists = await createRevokingAuthority('no lists', false);
/** A list with an issuing distribution point, whose content is in hexadecimal. */
const scoped = (...parts: string[]): Promise<string> => {
  const content = parts.join('');
  return revoking.list([], undefined, { extensions: [new Extension('2.5.29.28', true, Buffer.from(`30${(content.length / 2).toString(16).padStart(2, '0')}${content}`, 'hex'))] });
};

const FILES: Readonly<Record<string, string>> = {
  '/etc/eco/tls.crt': `${ours.certPem}${authority.certPem}`,
  '/etc/eco/tls.key': ours.keyPem,
  '/etc/eco/other.crt': other.certPem,
  '/etc/eco/other.key': other.keyPem,
  '/etc/eco/none.key': noCertificate,
  // Only Go, Python and browsers insist on alternative names; of a wildcard, curl too does not take a part of a label.
  '/etc/eco/common.crt': common.certPem,
  '/etc/eco/common.key': common.keyPem,
  '/etc/eco/part.crt': part.certPem,
  '/etc/eco/part.key': part.keyPem,
  '/etc/eco/old.crt': expired.certPem,
  '/etc/eco/old.key': expired.keyPem,
  '/etc/eco/clients.pem': authority.certPem,
  '/etc/eco/revoking.pem': revoking.certPem,
  '/etc/eco/both.pem': `${revoking.certPem}\n${authority.certPem}`,
  '/etc/eco/revoked.crl': await revoking.list([]),
  '/etc/eco/below.pem': below.certPem,
  '/etc/eco/chain.pem': `${below.certPem}\n${revoking.certPem}`,
  '/etc/eco/below.crl': await below.list([]),
  '/etc/eco/two.crl': `${await below.list([])}${await revoking.list([])}`,
  '/etc/eco/der.crl': '0\u0082\u0001',
  '/etc/eco/late.crl': await revoking.list([], new Date(0)),
  '/etc/eco/early.crl': await revoking.list([], new Date(4e12), { thisUpdate: new Date(3e12) }),
  '/etc/eco/delta.crl': `${await revoking.list([])}${await revoking.list([], undefined, { extensions: [new Extension('2.5.29.27', true, Buffer.from('020101', 'hex'))] })}`,
  // Of a former key of the same authority, and what other programs than OpenSSL understand.
  '/etc/eco/former.crl': await (await createRevokingAuthority('revoking')).list([]),
  '/etc/eco/unknown.crl': await revoking.list([], undefined, { extensions: [new Extension('1.2.3.4', true, Buffer.from('0500', 'hex'))] }),
  '/etc/eco/entry.crl': await revoking.list([], undefined, { entries: [{ serialNumber: '05', extensions: [new Extension('1.2.3.4', true, Buffer.from('0500', 'hex'))] }] }),
  '/etc/eco/known.crl': await revoking.list([], undefined, { extensions: [new Extension('1.2.3.4', false, Buffer.from('0500', 'hex')), new Extension('2.5.29.28', true, Buffer.from('3000', 'hex'))] }),
  // For other certificates than those that a chain needs (RFC 5280 §5.2.5).
  '/etc/eco/point.crl': await scoped('a014a0128610', Buffer.from('http://crl/1.crl').toString('hex')),
  '/etc/eco/users.crl': await scoped('8101ff'),
  '/etc/eco/authorities.crl': await scoped('8201ff'),
  '/etc/eco/reasons.crl': await scoped('83020640'),
  '/etc/eco/indirect.crl': await scoped('8401ff'),
  '/etc/eco/attributes.crl': await scoped('8501ff'),
  '/etc/eco/halves.crl': `${await scoped('8101ff')}${await scoped('8201ff')}`,
  '/etc/eco/joined.crl': `${(await below.list([])).trimEnd()}${await revoking.list([])}`,
  '/etc/eco/cut.crl': `${await revoking.list([])}${(await below.list([])).slice(0, 100)}`,
  '/etc/eco/issues.crl': `${await revoking.list([], new Date(0), { thisUpdate: new Date(-1) })}${await revoking.list([])}${await revoking.list([], new Date(4e12), { thisUpdate: new Date(3e12) })}`,
  '/etc/eco/noLists.pem': noLists.certPem,
  '/etc/eco/noLists.crl': await noLists.list([]),
  '/etc/eco/damaged.crl': (await revoking.list([])).replace(/\n[^-]{20}/, '\n'),
};

function load(tlsServer: string, rest = '', env = {}): LoadResult {
  return loadConfig({
    file: '/etc/eco/egress.yaml',
    env,
    readFile: (path) => {
      const text = path.endsWith('.yaml') ? `${MINIMAL}tlsServer: ${tlsServer}\n${rest}` : FILES[path];
      if (text === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' });
      return text;
    },
  });
}

const WHOLE = `names: [${OWN}, a.egress.example], certFile: tls.crt, keyFile: tls.key`;

/** As it is understood: what a file has besides goes no further. */
const normal = (pem: string): string => new X509Certificate(pem).toString();

t.test('what is good is taken over', async (t) => {
  const base = { names: [OWN, 'a.egress.example'], cert: FILES['/etc/eco/tls.crt'], key: ours.keyPem, clientCa: null, crl: null, clientCertificate: 'none' };
  for (const [text, tlsServer] of [
    ['{}', null],
    [`{ ${WHOLE} }`, base],
    [`{ names: "ECO-EGRESS.eco-egress.svc., a.egress.example", certFile: tls.crt, keyFile: /etc/eco/tls.key }`, base],
    [`{ ${WHOLE}, clientCaFile: clients.pem, clientCertificate: request }`, { ...base, clientCa: authority.certPem, clientCertificate: 'request' }],
    [`{ ${WHOLE}, clientCaFile: clients.pem, clientCertificate: require }`, { ...base, clientCa: authority.certPem, clientCertificate: 'require' }],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: issues.crl, clientCertificate: require }`, { ...base, clientCa: normal(revoking.certPem), crl: FILES['/etc/eco/issues.crl'], clientCertificate: 'require' }],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: revoked.crl, clientCertificate: require }`, { ...base, clientCa: normal(revoking.certPem), crl: FILES['/etc/eco/revoked.crl'], clientCertificate: 'require' }],
  ] as const) {
    const result = load(text);
    t.match(result, { ok: true, warnings: { length: 0 } }, text);
    if (result.ok) t.strictSame(result.config.tlsServer, tlsServer, text);
  }
});

t.test('all of it can be left to variables', async (t) => {
  const text = '{ names: "${NAMES:-}", certFile: "${CERT:-}", keyFile: "${KEY:-}", clientCaFile: "${CA:-}", clientCertificate: "${ASK:-none}" }';
  t.match(load(text), { ok: true, warnings: { length: 0 }, config: { tlsServer: null } }, 'none set');
  const env = { NAMES: OWN, CERT: 'tls.crt', KEY: 'tls.key', CA: 'clients.pem', ASK: 'require' };
  t.match(load(text, '', env), { ok: true, warnings: { length: 0 }, config: { tlsServer: { names: [OWN], clientCertificate: 'require' } } }, 'all set');
});

t.test('each fault is reported at its key', async (t) => {
  const table: [text: string, faults: { path: string; problem: RegExp }[]][] = [
    [`{ names: ${OWN} }`, [{ path: 'tlsServer', problem: /certFile is missing/ }]],
    [`{ names: ${OWN}, certFile: tls.crt }`, [{ path: 'tlsServer', problem: /keyFile is missing/ }]],
    ['{ certFile: tls.crt, keyFile: tls.key }', [{ path: 'tlsServer', problem: /names is missing/ }]],
    ['{ keyFile: tls.key }', [{ path: 'tlsServer', problem: /names is missing/ }]],
    ['{ clientCaFile: clients.pem }', [{ path: 'tlsServer', problem: /names is missing/ }]],
    ['{ clientCertificate: request }', [{ path: 'tlsServer', problem: /clientCaFile is missing/ }]],
    [`{ ${WHOLE}, clientCertificate: require }`, [{ path: 'tlsServer', problem: /clientCaFile is missing/ }]],
    [`{ ${WHOLE}, clientCertificate: maybe }`, [{ path: 'tlsServer.clientCertificate', problem: /"maybe" is not possible here/ }]],
    [`{ names: [10.0.0.1], certFile: tls.crt, keyFile: tls.key }`, [{ path: 'tlsServer.names[0]', problem: /"10.0.0.1" is not a host name/ }]],
    [`{ names: ["*.x.example"], certFile: tls.crt, keyFile: tls.key }`, [{ path: 'tlsServer.names[0]', problem: /is not a host name/ }]],
    [`{ names: ${OWN}, certFile: nope.crt, keyFile: tls.key }`, [{ path: 'tlsServer.certFile', problem: /no such file/ }]],
    [`{ names: ${OWN}, certFile: tls.key, keyFile: tls.key }`, [{ path: 'tlsServer.certFile', problem: /holds no certificate/ }]],
    [`{ names: ${OWN}, certFile: tls.crt, keyFile: none.key }`, [{ path: 'tlsServer.keyFile', problem: /does not belong to the certificate/ }]],
    [`{ ${WHOLE}, clientCaFile: tls.key, clientCertificate: request }`, [{ path: 'tlsServer.clientCaFile', problem: /holds no certificate/ }]],
    [`{ ${WHOLE}, crlFile: revoked.crl }`, [{ path: 'tlsServer', problem: /clientCaFile is missing/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: tls.crt, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /holds no list of revoked certificates/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: delta.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /List 2 of 2 in the file has only the changes since another list/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: former.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /list of the authority "CN=revoking" was signed with another key/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: unknown.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /List 1 of 1 in the file has a critical extension/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: entry.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /List 1 of 1 in the file has a critical extension/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: known.crl, clientCertificate: require }`, []],
    ...['point', 'users', 'reasons', 'indirect', 'attributes'].map((name): (typeof table)[number] => [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: ${name}.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /No list of the file says whether the authority "CN=revoking" itself is revoked/ }]]),
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: authorities.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /for the certificates of authorities only/ }]],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: halves.crl, clientCertificate: require }`, []],
    [`{ ${WHOLE}, clientCaFile: chain.pem, crlFile: joined.crl, clientCertificate: require }`, []],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: cut.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /ends inside a CRL block/ }]],
    [`{ ${WHOLE}, clientCaFile: noLists.pem, crlFile: noLists.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /"CN=no lists" does not permit it to sign lists/ }]],
    [`{ ${WHOLE}, clientCaFile: both.pem, crlFile: revoked.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /no list of the authority "CN=/ }]],
    [`{ ${WHOLE}, clientCaFile: below.pem, crlFile: below.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /"CN=below" was issued by one that is not in clientCaFile/ }]],
    [`{ ${WHOLE}, clientCaFile: below.pem, crlFile: two.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /"CN=below" was issued by one that is not in clientCaFile/ }]],
    [`{ ${WHOLE}, clientCaFile: chain.pem, crlFile: below.crl, clientCertificate: require }`, [{ path: 'tlsServer.crlFile', problem: /no list of the authority "CN=revoking"/ }]],
    [`{ ${WHOLE}, clientCaFile: chain.pem, crlFile: two.crl, clientCertificate: require }`, []],
    ['{ names: Eco.Example., certFile: tls.crt, keyFile: tls.key }', [{ path: 'tlsServer.names', problem: /"eco.example" is a host of destination eco/ }]],
  ];
  for (const [text, faults] of table) {
    const result = load(text);
    t.match(result.ok ? [] : result.faults, faults, text);
    t.equal(result.ok ? 0 : result.faults.length, faults.length, text);
  }
});

t.test('what is probably not meant is warned about', async (t) => {
  const table: [text: string, rest: string, path: string, problem: RegExp][] = [
    [`{ names: [${OWN}, eco-egress], certFile: tls.crt, keyFile: tls.key }`, '', 'tlsServer.names[1]', /not for "eco-egress"/],
    [`{ names: [${OWN}], certFile: common.crt, keyFile: common.key }`, '', 'tlsServer.names[0]', /not for "eco-egress.eco-egress.svc": clients will refuse it/],
    [`{ names: [foo.b.example], certFile: part.crt, keyFile: part.key }`, '', 'tlsServer.names[0]', /not for "foo.b.example": clients will refuse it/],
    [`{ names: ${OWN}, certFile: old.crt, keyFile: old.key }`, '', 'tlsServer.certFile', /expired at 1970-01-01/],
    [`{ ${WHOLE}, clientCaFile: clients.pem }`, '', 'tlsServer.clientCaFile', /No client is asked/],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: late.crl, clientCertificate: require }`, '', 'tlsServer.crlFile', /List 1 of 1 in the file is out of date since 1970-01-01/],
    [`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: early.crl, clientCertificate: require }`, '', 'tlsServer.crlFile', /List 1 of 1 in the file is valid only from 2065-01-24/],
    [`{ ${WHOLE} }`, 'listeners: { tls: off }\n', 'tlsServer', /There is no TLS listener/],
    [`{ ${WHOLE} }`, 'listeners: { tls: [{ address: "0.0.0.0:1", forms: sni }] }\n', 'tlsServer', /No TLS listener takes anything but sni/],
  ];
  for (const [text, rest, path, problem] of table) {
    const result = load(text, rest);
    t.match(result, { ok: true, warnings: [{ path, problem }] }, `${text} ${rest}`);
  }
});

t.test('the listeners', async (t) => {
  const table: [text: string, expected: unknown][] = [
    ['{}', { ok: true, config: { listeners: { tls: [{ host: '0.0.0.0', port: 8443 }] } } }],
    ['{ tls: off }', { ok: true, config: { listeners: { tls: [] } } }],
    ['{ tls: [] }', { ok: true, config: { listeners: { tls: [] } } }],
    ['{ tls: "127.0.0.1:1, [::1]:2" }', { ok: true, config: { listeners: { tls: [{ port: 1 }, { host: '::1', port: 2 }] } } }],
    ['{ tls: [{ address: "0.0.0.0:1", forms: [gateway, sni], proxyProtocol: from-trusted, trustedPeers: 10.0.0.1 }] }', { ok: true, config: { listeners: { tls: [{ forms: ['gateway', 'sni'], trustedPeers: ['10.0.0.1/32'], proxyProtocol: 'from-trusted', believe: [] }] } } }],
    ['{ tls: "0.0.0.0:8080" }', { ok: false, faults: [{ path: 'listeners.tls', problem: /0\.0\.0\.0:8080 is taken by listeners\.http\[0\]/ }] }],
    ['{ admin: "0.0.0.0:8443" }', { ok: false, faults: [{ path: 'listeners.admin', problem: /taken by listeners\.tls\[0\]/ }] }],
    ['{ tls: [{ address: "0.0.0.0:1", proxyProtocol: from-trusted }] }', { ok: false, faults: [{ problem: /trustedPeers is missing in listeners\.tls\[0\]/ }] }],
    ['{ http: [{ address: "0.0.0.0:1", forms: sni }] }', { ok: false, faults: [{ path: 'listeners.http[0].forms', problem: /"sni" is not possible here/ }] }],
  ];
  for (const [text, expected] of table) {
    t.match(loadConfig({ file: 'egress.yaml', env: {}, readFile: () => `${MINIMAL}listeners: ${text}\n` }), expected, text);
  }
});

t.test('a list in DER, as authorities publish it', async (t) => {
  const result = load(`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: der.crl, clientCertificate: require }`);
  t.match(result.ok ? [] : result.faults[0], { path: 'tlsServer.crlFile', problem: /is not a PEM file/, instead: /openssl crl -inform der\.$/ });
});

t.test('the same configuration has the same context, and another one its own', (t) => {
  const configOf = (...args: Parameters<typeof load>): TlsServerConfig => {
    const result = load(...args);
    if (!result.ok || result.config.tlsServer === null) throw new Error('it can be served');
    return result.config.tlsServer;
  };
  const text = `{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: revoked.crl, clientCertificate: require }`;
  const context = serverContext(configOf(text));
  t.equal(serverContext(configOf(text)), context, 'a reload that changes nothing of it');
  t.not(serverContext(configOf(text.replace('require', 'request'))), context);
  t.end();
});

t.test('a damaged list', async (t) => {
  const result = load(`{ ${WHOLE}, clientCaFile: revoking.pem, crlFile: damaged.crl, clientCertificate: require }`);
  t.match(result.ok ? [] : result.faults[0], { path: 'tlsServer.crlFile', problem: /TLS cannot use the lists: Failed to parse CRL/ });
});

t.test('a key or password that every user may read causes a warning', async (t) => {
  const directory = t.testdir({ 'tls.crt': ours.certPem, 'tls.key': ours.keyPem, 'eco.crt': other.certPem, 'eco.key': other.keyPem, hop: 'user:password' });
  const text = `version: 1
clients: { pods: { addresses: 10.0.0.0/8 } }
destinations: { eco: { hosts: eco.example, ports: 443, via: [edge], tls: { certFile: eco.crt, keyFile: eco.key } } }
rules: [{ clients: pods, destinations: eco }]
hops: { edge: { url: "https://edge.example:3128", credentialsFile: hop } }
tlsServer: { names: ${OWN}, certFile: tls.crt, keyFile: tls.key }
`;
  writeFileSync(`${directory}/egress.yaml`, text);
  const secrets = ['tls.key', 'eco.key', 'hop'];
  const read = (mode: number): string[] => {
    for (const name of secrets) chmodSync(`${directory}/${name}`, mode);
    const result = loadConfig({ file: `${directory}/egress.yaml`, env: {} });
    return result.ok ? result.warnings.filter(({ problem }) => problem.includes('may be read by every user')).map(({ path }) => path).sort() : result.faults.map(({ problem }) => problem);
  };
  t.strictSame(read(0o644), ['destinations.eco.tls.keyFile', 'hops.edge.credentialsFile', 'tlsServer.keyFile']);
  t.strictSame(read(0o604), ['destinations.eco.tls.keyFile', 'hops.edge.credentialsFile', 'tlsServer.keyFile']);
  t.strictSame(read(0o640), []);
  t.strictSame(read(0o600), []);
});
