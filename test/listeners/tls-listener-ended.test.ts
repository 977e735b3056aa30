/**
 * TLS that ends at the listener: handshakes that fail, client certificates, trusted peers before it, reloads under it.
 *
 * Longer than 400 lines: one lab of certificates serves all of it.
 */
import t from 'tap';
import { once } from 'node:events';
import { connect as connectTcp, createServer } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { webcrypto } from 'node:crypto';
// @peculiar/x509 needs this polyfill loaded before it.
import 'reflect-metadata';
import { Extension, PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import type { Test } from 'tap';
import { createAuthority, type IssuedCertificate } from '../../src/demo/authority.ts';
import { accessLines, readAnswers } from '../support/hostile.ts';
import { captureNode } from '../support/hello.ts';
import { type Draft, ECO, labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { binary, LOCAL, line as proxyLine } from '../support/proxy-header.ts';
import { createRevokingAuthority } from '../support/revoking-authority.ts';
import { issueClient, openOwn, openTls, OWN, ownCertificate, speak, startTlsLab, type TlsLab, type TlsLabOptions } from '../support/tls-lab.ts';
import { openWire, wireOf } from '../support/wire.ts';

const { authority } = await labCertificates();
const strangers = await createAuthority('another authority');
const pods = await issueClient(authority, 'dynatrace-sit');

const get = (lab: TlsLab, fields = '', path = '/eco/x'): string => `GET ${path} HTTP/1.1\r\nHost: ${OWN}:${lab.tlsPort}\r\nConnection: close\r\n${fields}\r\n`;
const status = (heard: string): number => readAnswers(heard)[0]?.status ?? 0;

/** The answer to a gateway request over TLS that ends here. */
async function ask(t: Test, lab: TlsLab, options: ConnectionOptions = {}, fields = ''): Promise<{ status: number; heard: string }> {
  const heard = await speak(await openOwn(t, lab, options), get(lab, fields));
  return { status: status(heard), heard };
}

t.test('handshakes that do not come about', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.timeouts['tls'] = '300ms') });
  const fails: [what: string, options: ConnectionOptions, client: RegExp, line: Record<string, unknown>][] = [
    ['HTTP/2 alone', { ALPNProtocols: ['h2'] }, /no application protocol/, { code: 'client-tls-failed', detail: /no application protocol; Let the client use TLS 1\.2 or 1\.3 and HTTP\/1\.1/ }],
    ['TLS 1.1', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }, /protocol version/, { code: 'client-tls-failed', detail: /unsupported protocol/ }],
    ['no common cipher', { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' }, /handshake failure/, { code: 'client-tls-failed', detail: /no shared cipher/ }],
    ['a client that trusts another authority', { ca: strangers.certPem }, /unable to get local issuer|unable to verify|self-signed/, { code: 'client-closed', closedBy: 'client', detail: /do not accept the certificate/ }],
  ];
  for (const [what, options, client, line] of fails) {
    const before = accessLines(lab).length;
    await t.rejects(openOwn(t, lab, options), client, what);
    t.match(await lab.logged((entry) => accessLines(lab).indexOf(entry) >= before), { form: '-', client: 'pods', clientAddress: '127.0.0.1', status: 0, ...line }, what);
  }

  const hello = await captureNode(t, { servername: OWN });
  const silent = await openWire(t, lab.tlsPort);
  silent.send(hello);
  await silent.ended;
  t.match(await lab.logged((line) => line.code === 'request-timeout'), { status: 0, detail: /did not end within 300 ms/ });
  const left = await openWire(t, lab.tlsPort);
  left.send(hello);
  await once(left.socket, 'data');
  left.socket.resetAndDestroy();
  const gone = accessLines(lab).length;
  await lab.logged((line) => line.code === 'client-closed' && accessLines(lab).indexOf(line) >= gone);
  t.equal(lab.upstream.connections, 0);
  t.match(await ask(t, lab), { status: 200 }, 'and the next one is served');
});

t.test('the TLS health checks of a load balancer, which end with a reset, are neither logged nor counted', async (t) => {
  const lab = await startTlsLab(t, { listener: { trustedPeers: ['127.0.0.1'], proxyProtocol: 'from-trusted' } });
  const hello = await captureNode(t, { servername: OWN });
  for (const header of [binary(LOCAL, 0, Buffer.alloc(0)), proxyLine('UNKNOWN'), proxyLine('TCP4 127.0.0.9 10.0.0.1 56324 8443')]) {
    const check = await openWire(t, lab.tlsPort);
    check.send(Buffer.concat([header, hello]));
    await once(check.socket, 'data');
    check.socket.resetAndDestroy();
  }
  t.match(await lab.logged(({ code }) => code === 'client-closed'), { clientAddress: '127.0.0.9' }, 'that of a client is');
  t.equal(accessLines(lab).length, 1);
});

t.test('what stands inside TLS is held to the same rules', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.timeouts['requestHeaders'] = '400ms'), listener: { forms: ['gateway', 'connect'] } });
  const table: [what: string, bytes: string, status: number, code: string][] = [
    ['a form that the listener does not take', `GET http://${ECO}:${lab.upstream.httpPort}/ HTTP/1.1\r\nHost: ${ECO}:${lab.upstream.httpPort}\r\nConnection: close\r\n\r\n`, 403, 'form-not-allowed'],
    ['a host in no destination', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n', 403, 'host-not-allowed'],
    ['what is no HTTP', 'no HTTP at all\r\n\r\n', 400, 'request-malformed'],
    ['TLS inside TLS', '\x16\x03\x01\x00\x05', 400, 'tls-on-http-port'],
    ['a PROXY header behind the handshake', proxyLine('TCP4 10.0.0.1 10.0.0.2 1 2').toString(), 403, 'peer-not-trusted'],
    ['a header that does not end', 'GET /eco/ HTTP/1.1\r\nHost: x\r\n', 408, 'request-timeout'],
    ['a path out of the prefix', get(lab, '', '/eco/%2e%2e/x'), 400, 'path-ambiguous'],
  ];
  for (const [what, bytes, expected, code] of table) {
    const heard = await speak(await openOwn(t, lab), bytes);
    t.match(readAnswers(heard)[0], { status: expected, line: new RegExp(`${code}$`) }, what);
    t.match(await lab.logged((line) => line.code === code), { status: expected, clientAddress: '127.0.0.1' }, what);
  }
  t.equal(lab.upstream.requests.length, 0);
});

const CLIENTS = { 'by-certificate': { certificates: ['spiffe://cluster.local/ns/dynatrace-sit/*'] } };

function certificateLab(t: Test, clientCertificate: string, more: TlsLabOptions = {}): Promise<TlsLab> {
  return startTlsLab(t, {
    ...more,
    tlsServer: { clientCaFile: 'ca.pem', clientCertificate },
    configure: (draft, ports) => {
      Object.assign(draft, { clients: CLIENTS });
      draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
      more.configure?.(draft, ports);
    },
  });
}

const shown = ({ certPem: cert, keyPem: key }: IssuedCertificate): ConnectionOptions => ({ cert, key });

t.test('a client certificate says who asks', async (t) => {
  const others = await issueClient(authority, 'dynatrace-sit-2');
  const expired = await issueClient(authority, 'dynatrace-sit', { notBefore: new Date(0), notAfter: new Date(Date.now() - 1000) });
  const early = await issueClient(authority, 'dynatrace-sit', { notBefore: new Date(Date.now() + 3_600_000) });
  const foreign = await issueClient(strangers, 'dynatrace-sit');
  const server = await authority.issue({ names: ['x.example'], uris: ['spiffe://cluster.local/ns/dynatrace-sit/sa/default'] });
  const table: [what: string, options: ConnectionOptions, inBoth: string | null, whenRequested: string | null, detail?: RegExp][] = [
    ['the right one', shown(pods), null, null],
    ['the right one, TLS 1.2', { ...shown(pods), maxVersion: 'TLSv1.2' }, null, null],
    ['the right one, and others that did not issue it', { ...shown(pods), cert: `${pods.certPem}${expired.certPem}${foreign.certPem}` }, null, null],
    ['of another name', shown(others), 'client-not-allowed', null, /ns\/dynatrace-sit-2\/sa\/default|dynatrace-sit-2\.pods/],
    ['none', {}, 'client-certificate', 'client-not-allowed', /showed no certificate/],
    ['expired', shown(expired), 'client-certificate', null, /it has expired/],
    ['not yet valid', shown(early), 'client-certificate', null, /not valid yet/],
    ['of another authority', shown(foreign), 'client-certificate', null, /none of the authorities/],
    ['not for clients', shown(server), 'client-certificate', null, /not for clients/],
  ];
  for (const mode of ['require', 'request']) {
    const lab = await certificateLab(t, mode);
    for (const [what, options, inBoth, whenRequested, detail] of table) {
      const code = mode === 'request' ? (whenRequested ?? inBoth) : inBoth;
      const before = accessLines(lab).length;
      const answer = await ask(t, lab, options);
      t.equal(answer.status, code === null ? 200 : 403, `${mode}, ${what}`);
      const line = await lab.logged((entry) => accessLines(lab).indexOf(entry) >= before);
      t.match(line, { code: code ?? 'ok', client: code === null ? 'by-certificate' : '-', method: 'GET' }, `${mode}, ${what}: the line`);
      if (detail !== undefined && code === inBoth) t.match(line['detail'], detail, `${mode}, ${what}: the detail`);
    }
    t.equal(lab.upstream.requests.length, 3, 'only the right ones reached the partner');
  }
});

t.test('a client certificate that OpenSSL refuses for a reason without a name in Node', async (t) => {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const own = await X509CertificateGenerator.createSelfSigned({ name: [{ CN: ['pods'] }], keys, signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' }, serialNumber: '01', extensions: [new Extension('1.2.3.4.5', true, new Uint8Array([5, 0]))] });
  const cert = own.toString('pem');
  const lab = await certificateLab(t, 'require', { files: { '/lab/ca.pem': cert } });
  t.equal((await ask(t, lab, { cert, key: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY') })).status, 403);
  t.match(await lab.logged((line) => line.code === 'client-certificate'), { detail: /is not accepted: OpenSSL refuses it: its key may be too short, its authority may not issue its names or sign lists, or it has a critical extension that is not known/ });
});

t.test('only suites with forward secrecy and authenticated encryption (RFC 9325)', async (t) => {
  const pair = await webcrypto.subtle.generateKey({ name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: Buffer.of(1, 0, 1), hash: 'SHA-256' }, true, ['sign', 'verify']);
  const rsa = await X509CertificateGenerator.createSelfSigned({ name: [{ CN: [OWN] }], keys: pair, signingAlgorithm: { name: 'RSASSA-PKCS1-v1_5' }, serialNumber: '01', extensions: [new SubjectAlternativeNameExtension([{ type: 'dns', value: OWN }])] });
  const [ca, key] = [rsa.toString('pem'), PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', pair.privateKey), 'PRIVATE KEY')];
  const labs = { ECDSA: { lab: await startTlsLab(t), ca: authority.certPem }, RSA: { lab: await startTlsLab(t, { files: { '/lab/tls.crt': ca, '/lab/tls.key': key } }), ca } };
  for (const [kind, { lab, ca: trusted }] of Object.entries(labs)) {
    const open = (suite: string): Promise<TLSSocket> => openOwn(t, lab, { ca: trusted, maxVersion: 'TLSv1.2', ciphers: `${suite}:@SECLEVEL=0` });
    for (const suite of ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305']) t.equal((await open(`ECDHE-${kind}-${suite}`)).getCipher().name, `ECDHE-${kind}-${suite}`);
    for (const suite of ['AES128-SHA256', 'AES256-SHA384', 'AES128-SHA', 'AES256-SHA']) await t.rejects(open(`ECDHE-${kind}-${suite}`), /handshake failure/, `CBC: ECDHE-${kind}-${suite}`);
  }
  for (const suite of ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'AES128-SHA256', 'AES128-SHA']) await t.rejects(openOwn(t, labs.RSA.lab, { ca, maxVersion: 'TLSv1.2', ciphers: `${suite}:@SECLEVEL=0` }), /handshake failure/, `RSA key exchange: ${suite}`);
});

t.test('a client that renegotiates TLS 1.2 is refused', async (t) => {
  const socket = await openOwn(t, await startTlsLab(t), { maxVersion: 'TLSv1.2' });
  const failed = new Promise<Error | null>((resolve) => {
    socket.on('error', resolve);
    socket.renegotiate({}, resolve);
  });
  t.match((await failed)?.message, /no renegotiation/);
});

t.test('a certificate on the list of revoked ones', async (t) => {
  const revoking = await createRevokingAuthority('revoking');
  const clients = await Promise.all(['one', 'two', 'three'].map((name) => revoking.issue(`spiffe://cluster.local/ns/dynatrace-sit/sa/${name}`)));
  const [one, two, three] = clients.map(shown);
  const lab = await startTlsLab(t, {
    files: { '/lab/clients.crt': revoking.certPem, '/lab/revoked.crl': await revoking.list(clients.slice(0, 1)) },
    tlsServer: { clientCaFile: 'clients.crt', crlFile: 'revoked.crl', clientCertificate: 'request' },
    configure: (draft) => {
      Object.assign(draft, { clients: CLIENTS });
      draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
    },
  });
  t.match(await ask(t, lab, one), { status: 403, heard: /client-certificate/ });
  t.match(await lab.logged((line) => line.code === 'client-certificate'), { detail: /it has been revoked/ });
  t.match(await ask(t, lab, two), { status: 200 });

  const [tunnel, kept] = [wireOf(await openOwn(t, lab, two)), wireOf(await openOwn(t, lab, three))];
  for (const wire of [tunnel, kept]) {
    wire.send(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
    await wire.until('200');
  }
  lab.files['/lab/revoked.crl'] = await revoking.list(clients.slice(0, 2));
  t.match(await lab.reload((draft) => {
    Object.assign(draft, { clients: CLIENTS });
    draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
  }), { result: 'applied', tunnelsCut: 1 });
  await tunnel.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { detail: /the client's certificate has been revoked/ });
  t.notOk(kept.socket.destroyed, 'another one goes on');
  t.match(await ask(t, lab, two), { status: 403 });
  t.match(await ask(t, lab, three), { status: 200 });

  // An earlier issue has it, as while it was on hold: OpenSSL uses the later one.
  lab.files['/lab/revoked.crl'] = `${await revoking.list(clients, undefined, { thisUpdate: new Date(Date.now() - 7_200_000) })}${await revoking.list(clients.slice(0, 2))}`;
  t.match(await lab.reload((draft) => {
    Object.assign(draft, { clients: CLIENTS });
    draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
  }), { result: 'applied', tunnelsCut: 0 });
  t.match(await ask(t, lab, three), { status: 200 });
  t.notOk(kept.socket.destroyed);
});

t.test('an authority that another one issued is trusted by itself, and with lists beside that one', async (t) => {
  const root = await createRevokingAuthority('root');
  const below = await root.subordinate('below');
  const client = shown(await below.issue('spiffe://cluster.local/ns/dynatrace-sit/sa/one'));
  const configure = (draft: Draft): void => {
    Object.assign(draft, { clients: CLIENTS });
    draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
  };
  const alone = await startTlsLab(t, { files: { '/lab/clients.crt': below.certPem }, tlsServer: { clientCaFile: 'clients.crt', clientCertificate: 'request' }, configure });
  t.match(await ask(t, alone, client), { status: 200 });
  t.match(await ask(t, alone, shown(await root.issue('spiffe://cluster.local/ns/dynatrace-sit/sa/one'))), { status: 403, heard: /client-certificate/ }, 'the other one is not');
  const files = { '/lab/clients.crt': `${below.certPem}\n${root.certPem}`, '/lab/revoked.crl': `${await below.list([])}${await root.list([])}` };
  const both = await startTlsLab(t, { files, tlsServer: { clientCaFile: 'clients.crt', crlFile: 'revoked.crl', clientCertificate: 'request' }, configure });
  t.match(await ask(t, both, client), { status: 200 });

  const tunnel = wireOf(await openOwn(t, both, client));
  tunnel.send(`CONNECT ${ECO}:${both.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  await tunnel.until('200');
  both.files['/lab/revoked.crl'] = `${await below.list([])}${await root.list([below])}`;
  t.match(await both.reload(configure), { result: 'applied', tunnelsCut: 1 }, 'an authority that the client does not send has been revoked');
  await tunnel.ended;
  t.match(await ask(t, both, client), { status: 403 });
});

t.test('where none is asked for, none counts', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void Object.assign(draft.clients, { pods: CLIENTS['by-certificate'] }) });
  t.match(await ask(t, lab, shown(pods)), { status: 403, heard: /client-not-allowed/ });
});

t.test('no session is resumed where certificates are asked for', async (t) => {
  for (const [mode, reused] of [['require', false], ['none', true]] as const) {
    const lab = mode === 'none' ? await startTlsLab(t) : await certificateLab(t, mode);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      let session: Buffer | undefined;
      const first = await openOwn(t, lab, { ...shown(pods), maxVersion });
      first.on('session', (ticket: Buffer) => {
        session = ticket;
      });
      // TLS 1.2 has it by now, TLS 1.3 sends tickets later.
      session ??= first.getSession();
      await speak(first, get(lab));
      const second = await openOwn(t, lab, { ...shown(pods), maxVersion, ...(session === undefined ? {} : { session }) });
      t.equal(second.isSessionReused(), reused, `${mode}, ${maxVersion}`);
      t.equal(status(await speak(second, get(lab))), 200);
    }
  }
});

t.test('trusted peers before and inside the TLS', async (t) => {
  const lab = await certificateLab(t, 'request', {
    listener: { trustedPeers: ['127.0.0.1/32'], proxyProtocol: 'from-trusted', believe: ['x-forwarded-for', 'x-forwarded-client-cert'] },
    configure: (draft) => {
      Object.assign(draft, { clients: { pod: { addresses: ['10.8.0.0/14'] }, ...CLIENTS } });
      draft.rules[0] = { clients: ['pod', 'by-certificate'], destinations: ['eco'] };
    },
  });
  const behind = async (source: string, servername: string, options: ConnectionOptions = {}): Promise<TLSSocket> => {
    const raw = connectTcp({ host: '127.0.0.1', port: lab.tlsPort });
    t.teardown(() => raw.destroy());
    raw.write(proxyLine(source));
    const socket = connectTls({ socket: raw, servername, ca: authority.certPem, ...options });
    await once(socket, 'secureConnect');
    return socket;
  };
  const local = 'TCP4 127.0.0.1 10.0.0.1 1 2';
  const table: [what: string, source: string, options: ConnectionOptions, fields: string, client: string, address: string][] = [
    ['the address of the header', 'TCP4 10.8.3.17 10.0.0.1 1 2', {}, '', 'pod', '10.8.3.17'],
    ['and the certificate behind it', 'TCP4 192.0.2.1 10.0.0.1 1 2', shown(pods), '', 'by-certificate', '192.0.2.1'],
    ['a stranger has no say', 'TCP4 192.0.2.1 10.0.0.1 1 2', {}, 'X-Forwarded-For: 10.8.3.17\r\n', '-', '192.0.2.1'],
    ['a trusted peer has', local, {}, 'X-Forwarded-For: 10.8.3.17\r\n', 'pod', '10.8.3.17'],
    ['and lends nobody its certificate', local, shown(pods), 'X-Forwarded-For: 192.0.2.1\r\n', '-', '192.0.2.1'],
    ['which is its own', local, shown(pods), '', 'by-certificate', '127.0.0.1'],
    ['but may say whose it is', local, {}, 'X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/dynatrace-sit/sa/x\r\n', 'by-certificate', '127.0.0.1'],
  ];
  for (const [what, source, options, fields, client, address] of table) {
    const before = accessLines(lab).length;
    t.equal(status(await speak(await behind(source, OWN, options), get(lab, fields))), client === '-' ? 403 : 200, what);
    t.match(await lab.logged((line) => accessLines(lab).indexOf(line) >= before), { client, clientAddress: address }, what);
  }
  const steered = await behind('TCP4 10.8.3.17 10.0.0.1 1 2', ECO);
  t.match(await speak(steered, `GET / HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /);
  t.match(await lab.logged((line) => line['form'] === 'sni'), { client: 'pod', clientAddress: '10.8.3.17', code: 'ok' });
  const wire = await openWire(t, lab.tlsPort);
  wire.send(await captureNode(t, { servername: ECO }));
  t.equal((await wire.ended).heard, Buffer.from([21, 3, 3, 0, 2, 2, 80]).toString('latin1'), 'without its header');
  t.match(await lab.logged((line) => line.code === 'proxy-protocol-malformed'), { status: 0 });
});

t.test('a reload brings another certificate, and connections keep theirs', async (t) => {
  const lab = await startTlsLab(t);
  const serial = (socket: TLSSocket): string | undefined => socket.getPeerX509Certificate()?.serialNumber;
  const old = await openOwn(t, lab);
  const [next, own] = [await authority.issue({ names: [OWN] }), await ownCertificate()];
  const reload = (): ReturnType<TlsLab['reload']> => lab.reload(() => {});
  Object.assign(lab.files, { '/lab/tls.crt': next.certPem });
  t.match(await reload(), { result: 'refused', reasons: [/key does not belong/] }, 'half of it is not taken');
  t.equal(serial(await openOwn(t, lab)), serial(old));
  Object.assign(lab.files, { '/lab/tls.key': next.keyPem });
  t.match(await reload(), { result: 'applied', needRestart: { length: 0 } });
  const fresh = await openOwn(t, lab);
  t.not(serial(fresh), serial(old));
  t.equal(status(await speak(old, get(lab))), 200, 'the old connection is served');
  t.equal(status(await speak(fresh, get(lab))), 200);
  Object.assign(lab.files, { '/lab/tls.crt': own.certPem, '/lab/tls.key': own.keyPem });
  await reload();
  t.match(await lab.reload((draft) => delete draft.tlsServer), { result: 'applied' });
  await t.rejects(openOwn(t, lab), /unrecognized name/, 'and without tlsServer no TLS ends here');
});

/** A handshake whose second flight, with the client's certificate, is held back until the function is called. */
async function startHeldHandshake(t: Test, lab: TlsLab): Promise<() => Promise<TLSSocket>> {
  let release = (): void => {};
  const held = Promise.withResolvers<undefined>();
  const server = createServer((client) => {
    const upstream = connectTcp({ host: '127.0.0.1', port: lab.tlsPort });
    upstream.pipe(client);
    client.once('data', (hello: Buffer) => {
      upstream.write(hello);
      client.once('data', (flight: Buffer) => {
        client.pause();
        release = () => {
          upstream.write(flight);
          client.pipe(upstream);
        };
        held.resolve(undefined);
      });
    });
  });
  const socket = connectTls({ host: '127.0.0.1', port: await listen(t, server), servername: OWN, ca: authority.certPem, maxVersion: 'TLSv1.2', ...shown(pods) });
  const secure = once(socket, 'secureConnect');
  await held.promise;
  return async () => {
    release();
    await secure;
    return socket;
  };
}

t.test('another authority for clients ends what the old one vouched for', async (t) => {
  const lab = await certificateLab(t, 'require', { files: { '/lab/clients.pem': strangers.certPem } });
  const idle = await openOwn(t, lab, shown(pods));
  idle.write(`GET /eco/ HTTP/1.1\r\nHost: ${OWN}\r\n\r\n`);
  await once(idle, 'data');
  const tunnel = await openOwn(t, lab, shown(pods));
  tunnel.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  const [established] = (await once(tunnel, 'data')) as [Buffer];
  t.match(established.toString(), /^HTTP\/1\.1 200 /);
  const steered = await openTls(t, lab.tlsPort, { servername: ECO }).catch((error: unknown) => error);
  t.match(steered, { message: /access denied/ }, 'a steered client cannot show its certificate');
  const half = await openOwn(t, lab, shown(pods));
  half.write(get(lab).slice(0, -2));
  await speak(await openOwn(t, lab, shown(pods)), get(lab));

  // In the middle of its handshake: the client has got our certificate and has yet to answer.
  const slow = await startHeldHandshake(t, lab);
  const ended = Promise.all([once(idle, 'close'), once(tunnel, 'close').catch(() => {})]);
  tunnel.on('error', () => {});
  t.match(
    await lab.reload((draft) => {
      Object.assign(draft.tlsServer ?? {}, { clientCaFile: 'clients.pem' });
      Object.assign(draft, { clients: CLIENTS });
      draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
    }),
    { result: 'applied' },
  );
  await ended;
  t.match(await lab.logged((line) => line['form'] === 'connect'), { code: 'revoked', closedBy: 'proxy' });
  t.match(readAnswers(await speak(half, '\r\n'))[0], { status: 403, line: /revoked$/ }, 'a request that was under way');
  t.match(readAnswers(await speak(await slow(), get(lab)))[0], { status: 403, line: /revoked$/ }, 'a handshake that was under way');
  t.match(await ask(t, lab, shown(pods)), { status: 403, heard: /client-certificate/ });
  t.match(await ask(t, lab, shown(await issueClient(strangers, 'dynatrace-sit'))), { status: 200 });
});

t.test('an authority that is added ends only what has no accepted certificate', async (t) => {
  const lab = await certificateLab(t, 'request', { files: { '/lab/both.pem': `${strangers.certPem}${authority.certPem}`, '/lab/strangers.pem': strangers.certPem } });
  const [verified, without, tunnel] = [await openOwn(t, lab, shown(pods)), await openOwn(t, lab), await openOwn(t, lab, shown(pods))];
  const keep = get(lab).replace('Connection: close\r\n', '');
  for (const idle of [verified, without]) {
    idle.write(keep);
    await once(idle, 'data');
  }
  tunnel.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  t.match(String((await once(tunnel, 'data'))[0]), /^HTTP\/1\.1 200 /);
  const slow = await startHeldHandshake(t, lab);
  const trust = (clientCaFile: string) =>
    lab.reload((draft) => {
      Object.assign(draft.tlsServer ?? {}, { clientCaFile });
      Object.assign(draft, { clients: CLIENTS });
      draft.rules[0] = { clients: Object.keys(CLIENTS), destinations: ['eco'] };
    });
  const gone = once(without, 'close');
  t.match(await trust('both.pem'), { result: 'applied', tunnelsCut: 0 });
  await gone;
  t.match(readAnswers(await speak(await slow(), get(lab)))[0], { status: 200 }, 'a handshake that was under way');
  tunnel.write('GET /x HTTP/1.1\r\nHost: x\r\n\r\n');
  t.match(String((await once(tunnel, 'data'))[0]), /^HTTP\/1\.1 200 /, 'the tunnel goes on');
  const ended = once(tunnel, 'close').catch(() => {});
  tunnel.on('error', () => {});
  verified.write(keep);
  t.match(String((await once(verified, 'data'))[0]), /^HTTP\/1\.1 200 /);
  t.match(await trust('strangers.pem'), { result: 'applied', tunnelsCut: 1 }, 'the old one is taken out');
  await ended;
});
