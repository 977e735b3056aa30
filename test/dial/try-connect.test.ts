/** One connection that is tried: each outcome, with our port, and nothing left open. */
import t from 'tap';
import { createServer } from 'node:net';
import { tryConnect } from '../../src/dial/try-connect.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';

const never = new AbortController().signal;
const OURS = /^127\.0\.0\.1:\d+$/;

t.test('accepted, refused, silent, with no route', async (t) => {
  const port = await listen(t, createServer((socket) => socket.on('error', () => {}).resume()));
  t.match(await tryConnect('127.0.0.1', port, 1_000, never), { outcome: 'open', from: OURS, detail: '' });
  t.match(await tryConnect('127.0.0.1', await findUnusedPort(), 1_000, never), { outcome: 'refused', from: OURS, detail: 'ECONNREFUSED' });
  t.match(await tryConnect('127.0.0.1', await startFullListener(t), 100, never), { outcome: 'silent', from: OURS });
  // TCP knows no broadcast: the system sends nothing.
  t.match(await tryConnect('255.255.255.255', 443, 1_000, never), { outcome: /^(?:unsent|unreachable)$/, from: null });
});

t.test('given up before and meanwhile', async (t) => {
  const full = await startFullListener(t);
  t.match(await tryConnect('127.0.0.1', full, 60_000, AbortSignal.abort()), { outcome: 'silent' });
  const controller = new AbortController();
  const tried = tryConnect('127.0.0.1', full, 60_000, controller.signal);
  controller.abort();
  t.match(await tried, { outcome: 'silent' });
});
