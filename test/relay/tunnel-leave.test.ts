/** How a tunnel is ended in order, by a proxy that shuts down. */
import { once } from 'node:events';
import { mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { Script, setUpTunnel } from '../support/tunnel-bench.ts';

t.test('left at a quiet moment: both sides see the end, their closing words are thrown away', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel();
  tunnel.start(null);
  bench.client.send('ping');
  await bench.upstream.until('ping');
  bench.upstream.send('pong');
  await bench.client.until('pong');
  t.ok(tunnel.still);
  t.notOk(tunnel.ending);
  const seen = Promise.all([once(bench.client.socket, 'end'), once(bench.upstream.socket, 'end')]);
  tunnel.leave(new Fault('draining', 'the end'));
  t.ok(tunnel.ending);
  await seen;
  for (const { socket } of [bench.client, bench.upstream]) socket.end(Buffer.alloc(64));
  t.match([await bench.client.ended, await bench.upstream.ended], [{ heard: 'pong', how: 'fin' }, { heard: 'ping', how: 'fin' }]);
  t.match(await bench.ending, { fault: { code: 'draining' }, closedBy: 'proxy' });
  t.match(bench.record, { bytesSent: 4, bytesReceived: 4 });
});

t.test('left, and a side has more to say than closing words: a reset, so that what is lost does not look complete', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    for (const bulk of [false, true]) {
      const bench = await setUpTunnel(t);
      const tunnel = bench.tunnel();
      tunnel.start(null);
      if (bulk) {
        for (let count = 0; count < 20; count += 1) {
          bench[side].send('a chunk ');
          await bench[side === 'client' ? 'upstream' : 'client'].until(new RegExp(`^(?:a chunk ){${count + 1}}$`));
        }
      }
      const seen = once(bench[side].socket, 'end');
      tunnel.leave(new Fault('draining', 'the end'));
      await seen;
      const resets = mock.method(bench.inner[side], 'resetAndDestroy');
      bench[side].send(Buffer.alloc(2000));
      for (const { socket } of [bench.client, bench.upstream]) socket.end();
      t.match(await bench.ending, { fault: { code: 'draining' }, closedBy: 'proxy' });
      t.equal(resets.mock.callCount(), 1, `${side}${bulk ? ', read in bulk' : ''}`);
    }
  }
});

t.test('left, and one side breaks: the other one keeps its end', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel();
  tunnel.start(null);
  const seen = once(bench.upstream.socket, 'end');
  tunnel.leave(new Fault('draining', 'the end'));
  await seen;
  bench.client.socket.resetAndDestroy();
  while (!bench.inner.client.closed) await setImmediate();
  t.notOk(bench.inner.upstream.destroyed);
  bench.upstream.socket.end();
  t.equal((await bench.upstream.ended).how, 'fin');
  t.match(await bench.ending, { fault: { code: 'draining' }, closedBy: 'proxy' });
});

t.test('left, and never closed: a reset ends it', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel();
  tunnel.start(null);
  tunnel.leave(new Fault('draining', 'the end'));
  tunnel.end(new Fault('idle-timeout', 'another'));
  t.match(await bench.ending, { fault: { code: 'draining' }, closedBy: 'proxy' });
});

t.test('not still: bytes that one side has yet to take, or that are held', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel();
  tunnel.start(null);
  bench.client.socket.pause();
  bench.upstream.send(Buffer.alloc(32 * 1024 * 1024));
  while (bench.inner.client.writableLength === 0) await setImmediate();
  t.notOk(tunnel.still);
  const holding = await setUpTunnel(t);
  const held = holding.tunnel(new Script('hold', 'done'));
  held.start(Buffer.from('held'));
  t.notOk(held.still);
});
