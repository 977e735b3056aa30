/** One request to a listener that is not as it should be. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { askListener, type OwnConnection, type ProbeAnswer } from '../../src/self-test/ask-listener.ts';
import type { SelfTestProbe } from '../../src/self-test/probes.ts';
import { listen } from '../support/listen.ts';

/** So short that a test need not wait, ms. */
const SOON = 50;
const LONG = 60_000;

const probe = (port: number): SelfTestProbe => ({ what: 'connect', host: '127.0.0.1', port, preface: 'PROXY UNKNOWN\r\n', serverName: null, request: 'CONNECT x.invalid:443 HTTP/1.1\r\n\r\n', asker: null, expected: ['host-not-allowed'] });

/** @param claim whether the listener finds the connection to be of this process */
async function ask(t: Test, { claim = true, timeout = LONG, answer }: { claim?: boolean; timeout?: number; answer: (socket: Socket, heard: string) => void }): Promise<{ answer: ProbeAnswer; heard: string }> {
  let own: OwnConnection | null = null;
  let heard = '';
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    if (claim) own?.arrived();
    socket.on('data', (chunk) => {
      heard += chunk.toString();
      answer(socket, heard);
    });
  });
  const port = await listen(t, server);
  const found = await askListener(probe(port), (connection) => { own = connection; }, timeout, new AbortController().signal);
  return { answer: found, heard };
}

t.test('a refusal is read, in pieces too', async (t) => {
  const found = await ask(t, {
    answer: (socket, heard) => {
      if (!heard.endsWith('\r\n\r\n')) return;
      socket.write('HTTP/1.1 403 Egress denied: x\r\n\r\n{"co');
      setImmediate(() => socket.write('de":"host-not-allowed"}'));
    },
  });
  t.strictSame(found.answer, { kind: 'refused', code: 'host-not-allowed' });
  t.equal(found.heard, 'PROXY UNKNOWN\r\nCONNECT x.invalid:443 HTTP/1.1\r\n\r\n');
});

t.test('an answer that is no refusal', async (t) => {
  t.strictSame((await ask(t, { answer: (socket) => socket.write('HTTP/1.1 200 OK\r\n\r\n') })).answer, { kind: 'served', with: 'status 200' });
  t.match((await ask(t, { answer: (socket) => socket.end('HTTP/1.1 404 Not Found\r\n\r\n') })).answer, { kind: 'none', why: 'the answer is not a refusal of this proxy' });
  t.match((await ask(t, { answer: (socket) => socket.end() })).answer, { kind: 'none', why: 'the connection was closed without an answer' });
  t.match((await ask(t, { answer: (socket) => socket.write('x'.repeat(20_000)) })).answer, { kind: 'none', why: 'the answer is too long for a refusal' });
});

t.test('a listener that does not find the connection gets no byte', async (t) => {
  const { answer, heard } = await ask(t, { claim: false, timeout: SOON, answer: () => {} });
  t.strictSame(answer, { kind: 'none', why: `it was not accepted as a connection of this process within ${SOON} ms` });
  t.equal(heard, '');
});

t.test('a listener that does not answer', async (t) => {
  t.strictSame((await ask(t, { timeout: SOON, answer: () => {} })).answer, { kind: 'none', why: `it was not answered within ${SOON} ms` });
});

t.test('nothing listens', async (t) => {
  const server = createServer();
  const port = await listen(t, server);
  server.close();
  await once(server, 'close');
  t.match(await askListener(probe(port), () => {}, LONG, new AbortController().signal), { kind: 'none', why: /ECONNREFUSED/ });
});

t.test('the end of the self-test ends it', async (t) => {
  const controller = new AbortController();
  const port = await listen(t, createServer((socket) => { socket.on('error', () => {}); controller.abort(); }));
  t.match(await askListener(probe(port), () => {}, LONG, controller.signal), { kind: 'none', why: 'the self-test has ended' });
  t.match(await askListener(probe(port), () => {}, LONG, controller.signal), { kind: 'none' }, 'and one that has not begun');
});
