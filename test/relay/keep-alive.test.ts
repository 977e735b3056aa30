import { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { TLSSocket } from 'node:tls';
import t from 'tap';
import { keepAlive } from '../../src/relay/reuse.ts';
import { setUpTunnel } from '../support/tunnel-bench.ts';

t.test('sockets are kept alive, TLS on them too; other streams have nothing to keep', async (t) => {
  for (const socket of [new Socket(), new TLSSocket(new Socket())]) {
    const calls: unknown[][] = [];
    socket.setKeepAlive = (...given) => {
      calls.push(given);
      return socket;
    };
    keepAlive(socket);
    t.same(calls, [[true, 30_000, 10_000, 6]], 'an outage of less than a minute ends nothing');
    socket.destroy();
  }
  t.doesNotThrow(() => {
    keepAlive(new PassThrough());
  });
});

t.test('a tunnel that lasts is due once soon after its beginning, and at the age limit', async (t) => {
  const bench = await setUpTunnel(t);
  const began = performance.now();
  const tunnel = bench.tunnel();
  tunnel.start(null);
  const since = tunnel.dueBy(0);
  t.equal(tunnel.dueBy(60_000), since + 5_000);
  t.ok(since >= began && since <= performance.now());
  t.equal(tunnel.dueBy(1_000), since + 1_000, 'an age limit that comes first');
  let probes = 0;
  bench.inner.client.setKeepAlive = () => {
    probes += 1;
    return bench.inner.client;
  };
  tunnel.onDue(since + 5_000, 60_000);
  t.equal(probes, 1, 'what lasts is probed');
  t.equal(tunnel.dueBy(60_000), since + 60_000);
  tunnel.onDue(since + 60_000, 60_000);
  t.equal(bench.inner.client.destroyed, true);
  t.match(await bench.ending, { fault: { code: 'age-limit' }, closedBy: 'proxy' });
});
