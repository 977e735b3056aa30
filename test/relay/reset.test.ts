import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { noteUnder, resetSocket } from '../../src/relay/failed-writes.ts';
import { labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';

async function pair(t: Test): Promise<{ ours: Socket; theirs: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  const port = await listen(t, server);
  const accepted = once(server, 'connection');
  const ours = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [theirs] = (await accepted) as [Socket];
  await once(ours, 'connect').catch(() => {});
  return { ours, theirs };
}

const closed = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.once('close', resolve));

t.test('the other side sees a reset', async (t) => {
  const { ours, theirs } = await pair(t);
  const seen = new Promise<unknown>((resolve) => {
    theirs.once('error', resolve).once('end', () => {
      resolve('a clean end');
    });
  });
  theirs.resume();
  const gone = closed(ours);
  resetSocket(ours);
  await gone;
  t.match(await seen, { code: 'ECONNRESET' });
});

t.test('a socket whose end is on its way is closed all the same', async (t) => {
  const { ours } = await pair(t);
  const gone = closed(ours);
  ours.end();
  // By now the end is with the system, and has not been reported back.
  await new Promise<void>((resolve) => {
    process.nextTick(resolve);
  });
  resetSocket(ours);
  await gone;
  t.pass('closed');
});

t.test('a socket whose end waits behind bytes is reset: what is cut does not look complete', async (t) => {
  const { ours, theirs } = await pair(t);
  theirs.pause();
  // More than the system takes for a reader that does not read.
  while (ours.writableLength === 0) {
    ours.write(Buffer.alloc(262_144));
    await new Promise(setImmediate);
  }
  const seen = new Promise<unknown>((resolve) => {
    theirs.once('error', resolve).once('end', () => {
      resolve('a clean end');
    });
  });
  const gone = closed(ours);
  ours.end();
  resetSocket(ours);
  await gone;
  theirs.resume();
  t.match(await seen, { code: 'ECONNRESET' });
});

t.test('once the end has been sent, there is a reset again', async (t) => {
  const { ours, theirs } = await pair(t);
  theirs.resume();
  const ended = once(theirs, 'end');
  ours.end();
  await ended;
  if (!ours.writableFinished) await once(ours, 'finish');
  const broken = new Promise<Error>((resolve) => theirs.once('error', resolve));
  const gone = closed(ours);
  resetSocket(ours);
  theirs.write('more');
  await gone;
  t.match(await broken, { code: /ECONNRESET|EPIPE/ });
});

t.test('TLS on a connection that we hold is reset with it', async (t) => {
  const { authority } = await labCertificates();
  const { certPem: cert, keyPem: key } = await authority.issue({ names: ['tls.example'] });
  const server = createTlsServer({ cert, key });
  const { ours, theirs } = await pair(t);
  server.emit('connection', ours);
  const client = connectTls({ socket: theirs, servername: 'tls.example', ca: authority.certPem });
  const [tls] = (await once(server, 'secureConnection')) as [TLSSocket];
  noteUnder(tls, ours);
  const broken = new Promise<Error>((resolve) => client.once('error', resolve));
  const gone = Promise.all([closed(tls), closed(ours)]);
  resetSocket(tls);
  await gone;
  t.match(await broken, { code: 'ECONNRESET' });
});
