/** What a parent may do to the way at each step, and what is then said. */
import t from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { authority, clientTls, dialBy, faultOf, type SCHEMES, serverTls, startEcho, startOdd } from '../support/hop-door.ts';
import { startFullListener } from '../support/full-listener.ts';
import { untilSockets } from '../support/open-sockets.ts';
import { startParent } from '../support/parents.ts';
import { makeHop, parentAt } from '../support/way.ts';

t.test('a parent that hangs, at each step, has this hop’s clock', async (t) => {
  const silent = await startOdd(t, 'http', (socket) => socket.resume());
  const full = await startFullListener(t);
  const half = await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 200 OK\r\nX: '));
  const silentTls = await startOdd(t, 'https', (socket) => socket.resume());
  const silentLater = await startOdd(t, 'http', (socket) => socket.write('\x05\x00'));
  const halfSocks = await startOdd(t, 'http', (socket) => socket.write('\x05'));
  const table: [scheme: (typeof SCHEMES)[number], port: number, told: RegExp][] = [
    ['http', full, /127\.0\.0\.1: no answer in 500 ms/],
    ['https', silent, /the TLS handshake did not end in 500 ms/],
    ['http', silent, /no answer to CONNECT 127\.0\.0\.1:1 in 500 ms/],
    ['https', silentTls, /no answer to CONNECT 127\.0\.0\.1:1 in 500 ms/],
    ['http', half, /no complete answer to CONNECT 127\.0\.0\.1:1 in 500 ms/],
    ['socks5', silent, /no answer to the SOCKS greeting in 500 ms/],
    ['socks5', silentLater, /no answer to SOCKS CONNECT 127\.0\.0\.1:1 in 500 ms/],
    ['socks5', halfSocks, /no complete answer to the SOCKS greeting/],
  ];
  await Promise.all(
    table.map(async ([scheme, port, told]) => {
      const fault = await faultOf(dialBy([makeHop('edge', [parentAt(port, scheme)], { tls: clientTls, connect: 500 })], 1));
      t.equal(fault.code, 'hop-timeout', String(told));
      t.match(fault.message, told);
      t.match(fault.message, `hop edge (parent.test:${port}): `);
      t.ok(fault.remedy);
    }),
  );
});

t.test('a parent that refuses or cuts, at each step, is named', async (t) => {
  const nobody = await findUnusedPort();
  const cutting = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.end()));
  const cuttingHead = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n')));
  const resetting = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.resetAndDestroy()));
  const cuttingTls = await startOdd(t, 'https', (socket) => socket.once('data', () => socket.end()));
  const table: [scheme: (typeof SCHEMES)[number], port: number, told: RegExp][] = [
    ['http', nobody, /127\.0\.0\.1: ECONNREFUSED/],
    ['https', cutting, /closed the connection during the handshake/],
    ['http', cutting, /closed the connection without an answer to CONNECT/],
    ['http', cuttingHead, /closed the connection in the middle of its answer/],
    ['http', resetting, /broke the connection \(ECONNRESET\) without an answer/],
    ['https', cuttingTls, /closed the connection without an answer/],
    ['socks5', cutting, /closed the connection without an answer to the SOCKS greeting/],
    ['https', await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')), /is not TLS/],
    ['http', await startOdd(t, 'http', (socket) => socket.write('SSH-2.0-x\r\n')), /sent something else instead of an HTTP answer/],
    ['socks5', await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')), /sent something else instead of a SOCKS5 answer/],
    ['http', await startOdd(t, 'http', (socket) => socket.write(`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4_000)}`)), /more than 16384 bytes of header/],
  ];
  for (const [scheme, port, told] of table) {
    const fault = await faultOf(dialBy([makeHop('edge', [parentAt(port, scheme)], { tls: clientTls })], 1));
    t.equal(fault.code, 'hop-failed', String(told));
    t.match(fault.message, told);
    t.ok(fault.message.startsWith(`hop edge (parent.test:${port}): `), fault.message);
    t.ok(fault.remedy);
  }
});

t.test('TLS of a parent is verified, by its own settings', async (t) => {
  const port = await startEcho(t);
  const parent = await startParent(t, { scheme: 'https', tls: serverTls });
  const table: [change: Partial<HopConfig>, host: string, told: RegExp, remedy: RegExp][] = [
    [{}, 'parent.test', /signed by CN=eco-egress test authority, whose certificate is not sent, and not trusted here/, /hops\.edge\.tls\.caFile/],
    [{ tls: clientTls }, 'other.test', /the certificate is not for other\.test/, /hops\.edge\.tls\.serverName/],
  ];
  for (const [change, host, told, remedy] of table) {
    const fault = await faultOf(dialBy([makeHop('edge', [parentAt(parent.port, 'https', host)], change)], port));
    t.equal(fault.code, 'hop-failed');
    t.match(fault.message, told);
    t.match(fault.remedy, remedy);
  }
  const { socket } = await dialBy([makeHop('edge', [parentAt(parent.port, 'https', 'other.test')], { tls: { ...clientTls, serverName: 'parent.test' } })], port);
  socket.destroy();

  const asking = await startParent(t, { scheme: 'https', tls: { ...serverTls, ca: authority.certPem, requestCert: true, minVersion: 'TLSv1.3' } });
  const fault = await faultOf(dialBy([makeHop('edge', [parentAt(asking.port, 'https')], { tls: clientTls })], port));
  t.equal(fault.code, 'hop-failed');
  t.match(fault.message, /^hop edge \(parent\.test:\d+\): .*CERTIFICATE_REQUIRED/, 'refused after the handshake, in TLS 1.3');
  t.match(fault.remedy, /hops\.edge\.tls\.certFile/);
  const client = await authority.issue({ names: ['eco-egress.test'], clientAuth: true });
  (await dialBy([makeHop('edge', [parentAt(asking.port, 'https')], { tls: { ...clientTls, cert: client.certPem, key: client.keyPem } })], port)).socket.destroy();
  await untilSockets(0);
});
