/**
 * TLS towards a partner: what is verified, which sessions are resumed, and how each failure is reported.
 *
 * Longer than 400 lines: one authority and one way to shake hands serve all of it.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect as netConnect, createServer as createTcpServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import tls, { createServer, getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { BasicConstraintsExtension, Extension, PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import t from 'tap';
import type { Test } from 'tap';
import type { UpstreamTlsConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { lateTlsFault, tlsFault } from '../../src/dial/tls-fault.ts';
import { secure, trustEndOf } from '../../src/dial/tls.ts';
import type { SecureRequest } from '../../src/dial/tls.ts';
import { Fault } from '../../src/errors.ts';
import { listen } from '../support/listen.ts';
import { untilSockets } from '../support/open-sockets.ts';

const authority = await createAuthority();
const stranger = await createAuthority('a stranger');
const issued = await authority.issue({ names: ['eco.test', '*.wild.test'], addresses: ['127.0.0.1'] });
const trusting: UpstreamTlsConfig = { ca: authority.certPem, cert: null, key: null, serverName: null };

/** Every accepted connection says what it saw of us, then ends. */
function startServer(t: Test, options: TlsOptions = {}): Promise<number> {
  const server = createServer({ cert: issued.certPem, key: issued.keyPem, ...options }, (socket) => {
    socket.on('error', () => {});
    socket.end(
      JSON.stringify({
        sni: socket.servername,
        alpn: socket.alpnProtocol,
        reused: socket.isSessionReused(),
        client: socket.authorized,
      }),
    );
  });
  server.on('tlsClientError', () => {});
  return listen(t, server);
}

async function shake(port: number, more: Partial<SecureRequest> = {}): Promise<TLSSocket> {
  const socket = netConnect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  return secure({
    socket,
    host: 'eco.test',
    port,
    config: trusting,
    timeout: 10_000,
    signal: new AbortController().signal,
    ...more,
  });
}

async function read(socket: TLSSocket): Promise<unknown> {
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) text += String(chunk);
  return JSON.parse(text);
}

/** The Fault of a handshake that fails, once no socket is left of it. */
async function refusal(port: number, more: Partial<SecureRequest> = {}): Promise<Fault> {
  try {
    (await shake(port, more)).destroy();
  } catch (error) {
    await untilSockets(0);
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('the handshake succeeded');
}

t.test('a good certificate: name, address, wildcard, and the name asked for instead', async (t) => {
  const port = await startServer(t);
  for (const [host, serverName, sni] of [
    ['eco.test', null, 'eco.test'],
    ['a.wild.test', null, 'a.wild.test'],
    ['127.0.0.1', null, false],
    ['10.1.2.3', 'eco.test', 'eco.test'],
    ['alias.test', '127.0.0.1', false],
  ] as const) {
    const socket = await shake(port, { host, config: { ...trusting, serverName } });
    t.equal(socket.authorized, true);
    t.equal(socket.listenerCount('error'), 0, 'errors are for the owner from now on');
    t.same(await read(socket), { sni, alpn: false, reused: false, client: false }, host);
  }
});

t.test('HTTP/1.1 is the only protocol offered', async (t) => {
  const both = await startServer(t, { ALPNProtocols: ['h2', 'http/1.1'] });
  t.match(await read(await shake(both)), { alpn: 'http/1.1' });
  const two = await startServer(t, { ALPNProtocols: ['h2'] });
  t.equal((await refusal(two)).code, 'tls-failed');
});

t.test('a session ends with the certificates that it was verified by', async (t) => {
  const ends = new Date(Math.ceil(Date.now() / 1000) * 1000 + 4_000);
  const short = await authority.issue({ names: ['eco.test'], notAfter: ends });
  const [root, middle, own] = [await generate(), await generate(), await generate()];
  const ofShort = { cert: `${await make('eco.test', own, 'middle', middle)}${await make('middle', middle, 'root', root, ends)}`, key: await pkcs8(own), ca: new X509Certificate(await make('root', root, 'root', root)).toString() };
  const kinds = [{ cert: short.certPem, key: short.keyPem, ca: authority.certPem }, ofShort];
  const versions = await Promise.all((['TLSv1.2', 'TLSv1.3'] as const).flatMap((maxVersion) => kinds.map(async ({ ca, ...files }) => ({ maxVersion, config: { ...trusting, ca }, port: await startServer(t, { ...files, maxVersion }) }))));
  for (const { maxVersion, config, port } of versions) {
    t.match(await read(await shake(port, { config })), { reused: false }, maxVersion);
    t.match(await read(await shake(port, { config })), { reused: true }, maxVersion);
  }
  while (Date.now() <= ends.getTime() + 1_000) await delay(100);
  for (const { maxVersion, config, port } of versions) t.match(await refusal(port, { config }), { code: 'tls-certificate', message: /expired/ }, maxVersion);
});

t.test('a session is resumed for an hour after what was verified, however often it has been renewed', async (t) => {
  const now = performance.now.bind(performance);
  let ahead = 0;
  t.intercept(performance, 'now', { value: () => now() + ahead });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const port = await startServer(t, { maxVersion });
    const config = { ...trusting };
    const start = ahead;
    for (const [minutes, reused] of [[0, false], [30, true], [59, true], [61, false], [119, true]] as const) {
      ahead = start + minutes * 60_000;
      t.match(await read(await shake(port, { config })), { reused }, `${maxVersion} after ${minutes} minutes`);
    }
  }
});

t.test('a clock that is set back does not prolong the hour', async (t) => {
  const wall = Date.now;
  const monotonic = performance.now.bind(performance);
  let passed = 0;
  let back = 0;
  t.intercept(Date, 'now', { value: () => wall() + passed - back });
  t.intercept(performance, 'now', { value: () => monotonic() + passed });
  const port = await startServer(t, { maxVersion: 'TLSv1.2' });
  const config = { ...trusting };
  t.match(await read(await shake(port, { config })), { reused: false });
  back = 86_400_000;
  t.match(await read(await shake(port, { config })), { reused: true });
  passed = 61 * 60_000;
  t.match(await read(await shake(port, { config })), { reused: false });
});

t.test('sessions are resumed, for the same name and the same settings only', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const ticketKeys = randomBytes(48);
    const port = await startServer(t, { maxVersion, ticketKeys });
    const config = { ...trusting };
    t.match(await read(await shake(port, { config })), { reused: false }, maxVersion);
    t.match(await read(await shake(port, { config })), { reused: true }, maxVersion);
    // It could: the two have their keys in common.
    t.match(await read(await shake(await startServer(t, { maxVersion, ticketKeys }), { config })), { reused: false }, 'another port');
    t.match(await read(await shake(port, { config, host: 'a.wild.test' })), { reused: false }, 'another name');
    t.match(await read(await shake(port, { config: { ...trusting } })), { reused: false }, 'another destination');
    t.match(await read(await shake(port, { config })), { reused: true }, 'the first name still has its own');
    // Without SNI the server cannot tell the two apart and would resume.
    t.match(await read(await shake(port, { config, host: '127.0.0.1' })), { reused: false });
    t.equal((await refusal(port, { config, host: '127.0.0.2' })).code, 'tls-certificate', 'a session is no way around the name check');
  }
});

t.test('certificates that are not acceptable', async (t) => {
  const day = 86_400_000;
  const yesterday = new Date(Date.now() - day);
  const expired = await authority.issue({ names: ['eco.test'], notBefore: new Date(Date.now() - 2 * day), notAfter: yesterday });
  const early = await authority.issue({ names: ['eco.test'], notBefore: new Date(Date.now() + day), notAfter: new Date(Date.now() + 2 * day) });
  const forClients = await authority.issue({ names: ['eco.test'], clientAuth: true });
  const strange = await stranger.issue({ names: ['eco.test'] });
  const lonely = await selfSigned();

  for (const [options, host, config, message, remedy] of [
    [expired, 'eco.test', trusting, 'CERT_HAS_EXPIRED', 'renew'],
    [early, 'eco.test', trusting, 'CERT_NOT_YET_VALID', 'clock'],
    [forClients, 'eco.test', trusting, 'INVALID_PURPOSE', 'TLS server'],
    [strange, 'eco.test', trusting, 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', "Or add that certificate to the file in the destination's tls.caFile"],
    [strange, 'eco.test', { ...trusting, ca: null }, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', "name it in the destination's tls.caFile"],
    [lonely, 'eco.test', trusting, 'DEPTH_ZERO_SELF_SIGNED_CERT', 'tls.caFile'],
    [{ cert: strange.certPem + stranger.certPem, key: strange.keyPem }, 'eco.test', trusting, 'SELF_SIGNED_CERT_IN_CHAIN', 'tls.caFile'],
    [issued, 'other.test', trusting, 'not for other.test', 'tls.serverName'],
    [issued, 'b.a.wild.test', trusting, 'not for b.a.wild.test', 'tls.serverName'],
    [issued, '127.0.0.2', trusting, 'not for 127.0.0.2', 'tls.serverName'],
    [issued, 'eco.test', { ...trusting, serverName: 'partner.test' }, 'not for partner.test', 'tls.serverName'],
  ] as const) {
    const port = await startServer(t, 'certPem' in options ? { cert: options.certPem, key: options.keyPem } : options);
    const fault = await refusal(port, { host, config });
    t.equal(fault.code, 'tls-certificate', message);
    t.match(fault.message, message);
    t.match(fault.message, `${host}:${port}: `);
    t.match(fault.remedy, remedy);
  }
});

t.test('an upstream that omits its intermediate, and the ways to go on', async (t) => {
  const issuing = await authority.issueAuthority('Issuing CA');
  const inner = await issuing.issueAuthority('Inner CA');
  const leaf = await inner.issue({ names: ['eco.test'] });
  const start = (...chain: string[]): Promise<number> => startServer(t, { cert: [leaf.certPem, ...chain].join(''), key: leaf.keyPem });
  const whole = await start(inner.certPem, issuing.certPem);
  const short = await start(inner.certPem);
  const alone = await start();
  // As after a renewal by another authority.
  const wrong = await start(issuing.certPem);

  (await shake(whole)).destroy();
  for (const [port, sent, issuer] of [[alone, 'its own certificate alone', 'CN=Inner CA'], [short, 'an incomplete chain', 'CN=Issuing CA'], [wrong, 'an incomplete chain', 'CN=Inner CA']] as const) {
    const { code, message, remedy } = await refusal(port);
    t.equal(code, 'tls-certificate');
    t.match(message, `the upstream sent ${sent}, signed by ${issuer}, whose certificate is not sent, and not trusted here`);
    t.match(remedy, `If ${issuer} is an intermediate authority, the upstream omits it`);
  }
  t.match((await refusal(alone, { config: { ...trusting, ca: null } })).remedy, 'Otherwise put that certificate into a PEM file');

  // What the remedy says: each certificate of caFile is trusted, whoever issued it.
  for (const port of [whole, short, alone]) (await shake(port, { config: { ...trusting, ca: inner.certPem } })).destroy();
  (await shake(short, { config: { ...trusting, ca: issuing.certPem } })).destroy();
  (await shake(alone, { config: { ...trusting, ca: authority.certPem + inner.certPem } })).destroy();
  const cousin = await authority.issueAuthority('Cousin CA');
  for (const port of [whole, short, alone]) t.equal((await refusal(port, { config: { ...trusting, ca: cousin.certPem } })).code, 'tls-certificate');
  t.equal((await refusal(short, { config: { ...trusting, ca: leaf.certPem.replace('BEGIN', 'END') } })).code, 'tls-certificate', 'no authority at all');
});

const signingAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const generate = (): Promise<webcrypto.CryptoKeyPair> => webcrypto.subtle.generateKey(signingAlgorithm, true, ['sign', 'verify']);
const pkcs8 = async ({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> => PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', privateKey), 'PRIVATE KEY');
/** Without key identifiers: names alone say who has issued it. */
const make = async (name: string, { publicKey }: webcrypto.CryptoKeyPair, issuer: string, { privateKey: signingKey }: webcrypto.CryptoKeyPair, notAfter = new Date(Date.now() + 1e9)): Promise<string> =>
  (await X509CertificateGenerator.create({ subject: name === '' ? '' : `CN=${name}`, publicKey, issuer: issuer === '' ? '' : `CN=${issuer}`, signingKey, signingAlgorithm, notBefore: new Date(0), notAfter, extensions: name === 'eco.test' ? [new SubjectAlternativeNameExtension([{ type: 'dns', value: name }])] : [new BasicConstraintsExtension(true)] })).toString('pem') + '\n';

t.test('not its own certificate has expired, but one that vouches for it', async (t) => {
  const [root, old, own] = [await generate(), await generate(), await generate()];
  const [leaf, crossed, ended, trusted] = [await make('eco.test', own, 'old', old), await make('old', old, 'root', root, new Date(1)), await make('old', old, 'old', old, new Date(1)), await make('root', root, 'root', root)];
  const key = await pkcs8(own);
  for (const [cert, ca, says, remedy] of [
    [leaf + crossed, trusted, 'the certificate of CN=old, which the upstream sends with its own, has expired', 'replaced there'],
    [leaf, ended, 'the authority that is trusted here has expired', "into the destination's tls.caFile"],
    [leaf + ended, ended, 'the authority that is trusted here has expired', "into the destination's tls.caFile"],
  ] as const) {
    const { code, message, remedy: said } = await refusal(await startServer(t, { cert, key }), { config: { ...trusting, ca: new X509Certificate(ca).toString() } });
    t.match({ code, message, said }, { code: 'tls-certificate', message: `${says} (CERT_HAS_EXPIRED)`, said: remedy });
  }
});

t.test('an authority that was made anew with the same name, and one without a name', async (t) => {
  const [former, current, own] = [await generate(), await generate(), await generate()];
  const key = await pkcs8(own);
  const text = async (...certificates: Promise<string>[]): Promise<string> => (await Promise.all(certificates)).map((pem) => new X509Certificate(pem).toString()).join('');
  const port = await startServer(t, { cert: await make('eco.test', own, 'Our CA', current), key });
  const [one, other] = [make('Our CA', former, 'Our CA', former), make('Our CA', current, 'Our CA', current)];
  for (const ca of [await text(one), await text(one, other)])
    t.match(await refusal(port, { config: { ...trusting, ca } }), {
      code: 'tls-certificate',
      message: "the certificate of CN=eco.test is signed by CN=Our CA, but with another key than that of this name in the destination's tls.caFile, so it is not trusted here (CERT_SIGNATURE_FAILURE)",
      remedy: /put its current certificate into the destination's tls.caFile, and take the former one out/,
    });
  (await shake(port, { config: { ...trusting, ca: await text(other) } })).destroy();
  const wrong = await startServer(t, { cert: `${await make('eco.test', own, 'Our CA', current)}${await make('Our CA', former, 'root', current)}`, key });
  t.match(await refusal(wrong, { config: { ...trusting, ca: await text(make('root', current, 'root', current)) } }), { message: 'certificate signature failure (CERT_SIGNATURE_FAILURE)' }, 'it is not trusted here');
  const nameless = await startServer(t, { cert: await make('eco.test', own, '', current), key });
  t.match(await refusal(nameless), { message: 'signed by (no name), whose certificate' });
});

t.test('a chain is trusted until the first of its certificates expires', async (t) => {
  const [root, middle, own] = [await generate(), await generate(), await generate()];
  const key = await pkcs8(own);
  const now = Math.floor(Date.now() / 1000) * 1000;
  const inDays = (days: number): Date => new Date(now + days * 86_400_000);
  const [leaf, five, fifty, trusted, ending, renewed] = await Promise.all([
    make('eco.test', own, 'middle', middle, inDays(90)),
    make('middle', middle, 'root', root, inDays(5)),
    make('middle', middle, 'root', root, inDays(50)),
    make('root', root, 'root', root, inDays(900)),
    make('root', root, 'root', root, inDays(3)),
    make('root', root, 'root', root, inDays(40)),
  ]);
  for (const [what, cert, ca, days] of [
    ['an intermediate', leaf + five, trusted, 5],
    ['the longer one of two', leaf + five + fifty, trusted, 50],
    ['in any order', leaf + fifty + five, trusted, 50],
    ['one that is trusted here and not sent', leaf, five, 5],
    ['the authority', leaf + fifty, ending, 3],
    ['the authority, renewed with the same key', leaf + fifty, ending + renewed, 40],
    ['its own', leaf + fifty + trusted, leaf, 90],
  ] as const) {
    const config = { ...trusting, ca: ca.split(/(?<=END CERTIFICATE-----\n)/).map((pem) => new X509Certificate(pem).toString()).join('') };
    const port = await startServer(t, { cert, key });
    for (const reused of [false, true]) {
      const socket = await shake(port, { config });
      t.equal(trustEndOf(socket), inDays(days).getTime(), what);
      t.match(await read(socket), { reused }, what);
    }
  }
});

t.test('verification cannot be switched off from outside', async (t) => {
  const port = await startServer(t);
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.teardown(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
  t.equal((await refusal(port, { config: { ...trusting, ca: stranger.certPem } })).code, 'tls-certificate');
});

t.test('without an authority of its own a destination trusts the system, with one that one alone', async (t) => {
  const port = await startServer(t);
  const defaults = getCACertificates('default');
  setDefaultCACertificates([authority.certPem]);
  t.teardown(() => {
    setDefaultCACertificates(defaults);
  });
  (await shake(port, { config: { ...trusting, ca: null } })).destroy();
  t.equal((await refusal(port, { config: { ...trusting, ca: stranger.certPem } })).code, 'tls-certificate');
});

t.test('a client certificate', async (t) => {
  const client = await authority.issue({ names: ['proxy.test'], clientAuth: true });
  const required = { requestCert: true, rejectUnauthorized: true, ca: authority.certPem };
  const withCertificate = { ...trusting, cert: client.certPem, key: client.keyPem };

  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const port = await startServer(t, { ...required, maxVersion });
    t.match(await read(await shake(port, { config: withCertificate })), { client: true }, maxVersion);
  }

  const older = await startServer(t, { ...required, maxVersion: 'TLSv1.2' });
  const fault = await refusal(older);
  t.equal(fault.code, 'tls-failed');
  t.match(fault.remedy, 'tls.certFile');

  // RFC 8446 §4.4.2.4: in TLS 1.3 the server's refusal arrives when our side has finished already.
  const newer = await startServer(t, { ...required, minVersion: 'TLSv1.3' });
  const socket = await shake(newer);
  const [error] = (await once(socket, 'error')) as [Error];
  const late = lateTlsFault(error, { where: 'eco.test:443', name: 'eco.test', config: trusting, keys: "the destination's tls" });
  t.equal(late.code, 'tls-failed');
  t.match(late.message, 'CERTIFICATE_REQUIRED');
  t.match(late.remedy, "the destination's tls.certFile and the destination's tls.keyFile");
  t.match(tlsFault(error, { where: 'eco.test:443', name: 'eco.test', config: withCertificate, keys: 'hops.edge.tls' }).remedy, 'the client certificate in hops.edge.tls.certFile');
  const broken = Object.assign(new Error('long'), { code: 'ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC' });
  t.match(lateTlsFault(broken, { where: 'eco.test:443', name: 'eco.test', config: trusting, keys: "the destination's tls" }), { message: 'eco.test:443: the upstream ended TLS (ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC)', remedy: 'Ask the operator of eco.test:443 why, with the time of this request.', facts: { alert: { id: 20, message: 'bad_record_mac' } } });
  await untilSockets(0);
});

t.test('a certificate that OpenSSL refuses for a reason without a name in Node', async (t) => {
  const { cert, key } = await selfSigned([new Extension('1.2.3.4.5', true, new Uint8Array([5, 0]))]);
  const fault = await refusal(await startServer(t, { cert, key }), { config: { ...trusting, ca: cert } });
  t.match(fault, { code: 'tls-certificate', detail: /unhandled critical extension/, remedy: /^A certificate/ });
});

t.test('each alert that ends a handshake is named, as OpenSSL spells it', async (t) => {
  // RFC 8446 §6.
  const alerts = { 10: 'unexpected_message', 20: 'bad_record_mac', 22: 'record_overflow', 40: 'handshake_failure', 42: 'bad_certificate', 43: 'unsupported_certificate', 44: 'certificate_revoked', 45: 'certificate_expired', 46: 'certificate_unknown', 47: 'illegal_parameter', 48: 'unknown_ca', 49: 'access_denied', 50: 'decode_error', 51: 'decrypt_error', 70: 'protocol_version', 71: 'insufficient_security', 80: 'internal_error', 86: 'inappropriate_fallback', 109: 'missing_extension', 110: 'unsupported_extension', 112: 'unrecognized_name', 116: 'certificate_required', 120: 'no_application_protocol' };
  let next = 0;
  const port = await listen(t, createTcpServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(Buffer.from([21, 3, 3, 0, 2, 2, next])))));
  for (const [id, message] of Object.entries(alerts)) {
    next = Number(id);
    const fault = await refusal(port);
    t.match(fault, { code: 'tls-failed', facts: { alert: { id: next, message } } }, message);
    if (message.includes('certificate')) t.match(fault.remedy, /client certificate/, message);
    if (message === 'unrecognized_name') t.match(fault, { detail: /does not serve eco\.test/, remedy: /set the destination's tls\.serverName/ });
  }
});

t.test('an upstream with no cipher suite in common is not said to want a client certificate', async (t) => {
  for (const options of [{ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }, { ecdhCurve: 'secp256k1' }] as const)
    t.match(await refusal(await startServer(t, options)), { code: 'tls-failed', detail: /^the upstream accepts nothing that is offered/, remedy: /^Check there which cipher suites, curves/, facts: { alert: { id: 40 } } });
});

t.test('what is no TLS, too old or too short', async (t) => {
  // So that the cipher list is not what stops it.
  const { DEFAULT_CIPHERS } = tls;
  tls.DEFAULT_CIPHERS = 'DEFAULT@SECLEVEL=0';
  t.teardown(() => {
    tls.DEFAULT_CIPHERS = DEFAULT_CIPHERS;
  });
  const old = await startServer(t, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  t.equal((await refusal(old, { config: { ...trusting } })).code, 'tls-failed', 'TLS 1.1');

  const http = await listen(t, createTcpServer((socket) => socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n')));
  const plain = await refusal(http);
  t.equal(plain.code, 'tls-failed');
  t.match(plain.remedy, 'plain HTTP');

  const closing = await listen(t, createTcpServer((socket) => socket.resume().end()));
  t.match(await refusal(closing), { code: 'tls-failed' }, 'closed at once');
  const leaving = await listen(t, createTcpServer((socket) => socket.once('data', () => socket.resetAndDestroy())));
  t.match(await refusal(leaving), { code: 'tls-failed', message: /closed the connection/ }, 'reset after our hello');
});

t.test('a handshake that was answered while the process stood still is no timeout', async (t) => {
  const code = `const { parentPort, workerData } = require('node:worker_threads');
    require('node:tls').createServer(workerData, (socket) => socket.on('error', () => {})).listen(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port); });`;
  const upstream = new Worker(code, { eval: true, workerData: { cert: issued.certPem, key: issued.keyPem } });
  t.teardown(() => upstream.terminate());
  const [port] = (await once(upstream, 'message')) as [number];
  // What only the first handshake of the upstream needs.
  (await shake(port)).destroy();
  const socket = netConnect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  const shaking = secure({ socket, host: 'eco.test', port, config: trusting, timeout: 20, signal: new AbortController().signal });
  // The upstream answers meanwhile; then the timer is due first.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  (await shaking).destroy();
});

t.test('an upstream that never answers runs into the time limit', async (t) => {
  const silent = await listen(t, createTcpServer((socket) => socket.resume()));
  const fault = await refusal(silent, { timeout: 50 });
  t.equal(fault.code, 'tls-timeout');
  t.match(fault.remedy, /path MTU/);
  t.match(fault.message, '50 ms');
});

t.test('an abort, before and during', async (t) => {
  const silent = await listen(t, createTcpServer((socket) => socket.resume()));
  t.equal((await refusal(silent, { signal: AbortSignal.abort() })).code, 'client-closed');
  const controller = new AbortController();
  const handshake = refusal(silent, { signal: controller.signal });
  setImmediate(() => {
    controller.abort(new Fault('draining', 'shutting down'));
  });
  t.equal((await handshake).code, 'draining');
});

t.test('certificates that cannot be read are our own fault', async (t) => {
  const port = await startServer(t);
  for (const config of [
    { ...trusting, cert: 'no PEM', key: 'no PEM' },
    { ...trusting, cert: issued.certPem, key: (await stranger.issue({ names: ['x'] })).keyPem },
  ]) {
    const fault = await refusal(port, { config });
    t.equal(fault.code, 'internal');
    t.match(fault.remedy, 'tls.certFile');
  }
});

/** A server certificate that vouches for itself. */
async function selfSigned(extensions: Extension[] = []): Promise<{ cert: string; key: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({ name: 'CN=eco.test', keys, signingAlgorithm: algorithm, extensions });
  const key = PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { cert: certificate.toString('pem'), key };
}
