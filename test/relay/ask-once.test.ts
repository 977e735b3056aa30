/** One question on a connection of its own: what is asked, what is read of the answer, and that the connection ends. */
import t, { type Test } from 'tap';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { connect } from 'node:net';
import { Fault } from '../../src/errors.ts';
import { askOnce, type OneQuestion } from '../../src/relay/ask-once.ts';
import { listen } from '../support/listen.ts';

async function ask(t: Test, answer: RequestListener, question: Partial<OneQuestion> = {}) {
  const port = await listen(t, createServer(answer));
  const socket = connect({ host: '127.0.0.1', port });
  await once(socket, 'connect');
  const asked = askOnce({ socket }, { origin: `http://127.0.0.1:${port}`, path: '/', headers: {}, longest: 10, signal: AbortSignal.timeout(5_000), ...question });
  return { asked, socket };
}

t.test('method, path and fields as they are given, those of a proxy too', async (t) => {
  const { asked, socket } = await ask(t, (req, res) => res.setHeader('x-seen', `${req.method ?? ''} ${req.url ?? ''} ${req.headers.host ?? ''}`).end('no body'), { method: 'HEAD', path: 'http://eco.example/x?y', headers: { host: 'eco.example' } });
  t.match(await asked, { status: 200, location: null, body: '', headers: { 'x-seen': 'HEAD http://eco.example/x?y eco.example' } });
  t.ok(socket.destroyed);
});

t.test('a body up to its length, or none at all', async (t) => {
  t.match(await (await ask(t, (_, res) => res.end('0123456789'))).asked, { body: '0123456789' });
  await t.rejects((await ask(t, (_, res) => res.end('0123456789x'))).asked, { code: 'upstream-malformed' });
  const endless: RequestListener = (_, res) => {
    res.writeHead(302, { location: '/there' });
    res.write('and on it goes');
  };
  const { asked, socket } = await ask(t, endless, { longest: null });
  t.match(await asked, { status: 302, location: '/there', body: '' });
  t.ok(socket.destroyed);
});

t.test('no answer: what the caller aborted with', async (t) => {
  const clock = new AbortController();
  const { asked, socket } = await ask(t, () => {
    clock.abort(new Fault('upstream-silent', 'too late'));
  }, { signal: clock.signal });
  await t.rejects(asked, { code: 'upstream-silent', message: 'too late' });
  t.ok(socket.destroyed);
});
