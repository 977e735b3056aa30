/**
 * What test/integration/tunnel.test.ts does not reach: how a tunnel begins, and how it is refused or ends.
 * Longer than 400 lines: one bench stands behind all of these tests.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { mock } from 'node:test';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, type ConnectionOptions, createServer as createTlsServer } from 'node:tls';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import { readOnAfterFailedWrites, WRITE_FAILED } from '../../src/relay/failed-writes.ts';
import type { TunnelSocket } from '../../src/relay/tunnel.ts';
import { ECO, labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { type Bench, refusal, Script, setUpTunnel, stopTime, untilShown } from '../support/tunnel-bench.ts';
import { wireOf } from '../support/wire.ts';

t.test('who only looks delays nothing, and is asked no more when it has seen enough', async (t) => {
  const bench = await setUpTunnel(t);
  const script = new Script('pass', 'done');
  bench.tunnel(script).start(Buffer.from('head '));
  await bench.upstream.until('head ');
  bench.client.send('first ');
  await bench.upstream.until('first ');
  bench.client.send('second!');
  await bench.upstream.until('second!');
  bench.client.send('third');
  t.equal(await bench.upstream.until('third'), 'head first second!third');
  t.same(script.shown.join(''), 'head first second!');
  bench.client.socket.end();
  bench.upstream.socket.end();
  t.same(await bench.ending, { fault: null, closedBy: 'client' });
  t.match(bench.record, { bytesSent: 23, bytesReceived: 0 });
});

t.test('what is held passes in order with the verdict, unchanged; the other direction never waits', async (t) => {
  for (const head of [null, Buffer.from('early ')]) {
    const bench = await setUpTunnel(t);
    const script = new Script('hold', 'done');
    bench.tunnel(script).start(head);
    bench.upstream.send('a greeting');
    await bench.client.until('a greeting');
    bench.client.send('held ');
    await untilShown(script, 'held ');
    t.equal(bench.upstream.heard, '', 'nothing has passed');
    t.equal(bench.record.bytesSent, 0);
    bench.client.send('now!');
    const expected = `${head?.toString() ?? ''}held now!`;
    t.equal(await bench.upstream.until('now!'), expected);
    bench.client.send(' and on');
    t.equal(await bench.upstream.until('and on'), `${expected} and on`);
    bench.client.socket.end();
    bench.upstream.socket.end();
    t.same(await bench.ending, { fault: null, closedBy: 'client' });
    t.equal(bench.record.bytesSent, expected.length + 7);
  }
});

t.test('refused: not a byte reaches the upstream, and the client hears the last words to the end', async (t) => {
  for (const [lastWords, heard] of [
    [Buffer.of(21, 3, 3, 0, 2, 2, 112), '\x15\x03\x03\0\x02\x02p'],
    [null, ''],
    ['some words', 'some words'],
  ] as const) {
    for (const early of [true, false]) {
      const bench = await setUpTunnel(t);
      const script = new Script('hold', refusal(lastWords));
      bench.tunnel(script).start(early ? Buffer.from('wrong!') : null);
      if (!early) {
        bench.client.send('very ');
        await untilShown(script, 'very ');
        bench.client.send('wrong!');
      }
      // A client that has not heard yet goes on: unread bytes at the close would reset the connection.
      bench.client.send(Buffer.alloc(300_000));
      await once(bench.client.socket, 'end');
      t.equal(bench.client.heard, heard);
      bench.client.socket.end();
      t.equal((await bench.client.ended).how, 'fin', 'without a reset');
      bench.upstream.socket.end();
      t.equal((await bench.upstream.ended).heard, '');
      t.match(await bench.ending, { fault: { code: 'sni-mismatch' }, closedBy: 'proxy' });
      t.match(bench.record, { bytesSent: 0 });
      t.match(script.shown.at(-1), /^wrong!\0*$/, 'the rest was not looked at');
    }
  }
});

t.test('a refused client that does not close is closed', async (t) => {
  const bench = await setUpTunnel(t);
  stopTime(t);
  bench.tunnel(new Script('hold', refusal('no'))).start(Buffer.from('wrong!'));
  await once(bench.client.socket, 'end');
  mock.timers.tick(4_999);
  t.notOk(bench.inner.client.destroyed);
  mock.timers.tick(1);
  await setImmediate();
  t.ok(bench.inner.client.destroyed);
  t.match(await bench.ending, { fault: { code: 'sni-mismatch' } });
});

t.test('bytes are held for so long, from the first of them', async (t) => {
  const bench = await setUpTunnel(t);
  stopTime(t);
  const script = new Script('hold', 'done', 1000);
  const tunnel = bench.tunnel(script);
  tunnel.start(null);
  mock.timers.tick(5_000);
  t.same(script.gaveUp, [], 'a client that is silent holds nothing');
  tunnel.received('client', Buffer.from('a'));
  mock.timers.tick(600);
  tunnel.received('client', Buffer.from('b'));
  mock.timers.tick(399);
  t.same(script.gaveUp, []);
  mock.timers.tick(1);
  await once(bench.client.socket, 'end');
  t.same(script.gaveUp, ['late']);
  t.equal(bench.client.heard, 'too late');
  bench.client.socket.end();
  t.match(await bench.ending, { fault: { code: 'sni-mismatch' }, closedBy: 'proxy' });
});

t.test('what came while the process stood still is read before the time is over', async (t) => {
  const bench = await setUpTunnel(t);
  bench.tunnel(new Script('hold', 'done', 50)).start(Buffer.from('held '));
  bench.client.send('now!');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  t.equal(await bench.upstream.until('now!'), 'held now!');
});

t.test('a verdict in time ends the wait', async (t) => {
  const bench = await setUpTunnel(t);
  stopTime(t);
  const script = new Script('hold', 'done', 1000);
  const tunnel = bench.tunnel(script);
  tunnel.start(null);
  tunnel.received('client', Buffer.from('a'));
  tunnel.received('client', Buffer.from('b!'));
  mock.timers.tick(10_000);
  t.same(script.gaveUp, []);
  t.equal(await bench.upstream.until('ab!'), 'ab!');
});

t.test('a client that ends while its bytes are held is refused; one that never said anything just ends', async (t) => {
  const bench = await setUpTunnel(t);
  const script = new Script('hold', 'done');
  bench.tunnel(script).start(null);
  bench.client.send('half a hel');
  bench.client.socket.end();
  t.same(await bench.client.ended, { heard: 'too late', how: 'fin' });
  t.match(await bench.ending, { fault: { code: 'sni-mismatch' }, closedBy: 'proxy' });
  t.same(script.gaveUp, ['ended']);

  const silent = await setUpTunnel(t);
  const unused = new Script('hold', 'done');
  silent.tunnel(unused).start(null);
  silent.client.socket.end();
  await once(silent.upstream.socket, 'end');
  silent.upstream.socket.end('answer');
  t.same(await silent.client.ended, { heard: 'answer', how: 'fin' });
  t.same(await silent.ending, { fault: null, closedBy: 'client' });
  t.same(unused.gaveUp, []);
});

t.test('either side may break while bytes are held', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    const bench = await setUpTunnel(t);
    const script = new Script('hold', 'done');
    bench.tunnel(script).start(Buffer.from('held'));
    bench[side].socket.resetAndDestroy();
    const other = side === 'client' ? bench.upstream : bench.client;
    t.same(await other.ended, { heard: '', how: 'reset' }, `reset by the ${side}`);
    t.match(await bench.ending, { fault: { code: side === 'client' ? 'client-closed' : 'upstream-cut' }, closedBy: side });
    t.same(script.gaveUp, []);
  }
});

t.test('a CONNECT among the early data is refused before it is inspected, with the reason', async (t) => {
  const bench = await setUpTunnel(t);
  const script = new Script('hold', 'done');
  bench.tunnel(script).start(Buffer.from('CONNECT other.example:443 HTTP/1.1\r\n\r\n'));
  await once(bench.client.socket, 'end');
  t.equal(bench.client.heard, 'last words: connect-in-tunnel');
  bench.client.socket.end();
  bench.upstream.socket.end();
  t.equal((await bench.upstream.ended).heard, '');
  t.match(await bench.ending, { fault: { code: 'connect-in-tunnel' }, closedBy: 'proxy' });
  t.same(script.shown, []);
});

t.test('a side that was gone before the tunnel began ends the other', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    for (const closed of [true, false]) {
      const bench = await setUpTunnel(t);
      bench.inner[side].destroy();
      if (closed) await once(bench.inner[side], 'close');
      bench.tunnel().start(Buffer.from('early'));
      const other = side === 'client' ? bench.upstream : bench.client;
      t.same(await other.ended, { heard: '', how: 'reset' }, `the ${side}, ${closed ? 'closed' : 'closing'}`);
      t.match(await bench.ending, { fault: { code: side === 'client' ? 'client-closed' : 'upstream-cut' }, closedBy: side });
    }
  }
});

t.test('a side that the system gave up has closed nothing', async (t) => {
  const lost = Object.assign(new Error('read ETIMEDOUT'), { code: 'ETIMEDOUT' });
  for (const side of ['client', 'upstream'] as const) {
    const bench = await setUpTunnel(t);
    bench.tunnel().start(null);
    bench.client.send('a');
    await once(bench.upstream.socket, 'data');
    bench.upstream.send('b');
    await once(bench.client.socket, 'data');
    bench.inner[side].destroy(lost);
    t.match(await bench.ending, side === 'client' ? { fault: { code: 'client-closed' }, closedBy: 'client' } : { fault: { code: 'upstream-silent' }, closedBy: 'proxy' });
  }
});

t.test('nor has one that had ended, or had been sent the end', async (t) => {
  const lost = Object.assign(new Error('read ETIMEDOUT'), { code: 'ETIMEDOUT' });
  for (const first of ['client', 'upstream'] as const) {
    for (const side of ['client', 'upstream'] as const) {
      const bench = await setUpAnswered(t);
      bench[first].socket.end();
      await once(bench[first === 'client' ? 'upstream' : 'client'].socket, 'end');
      bench.inner[side].destroy(lost);
      // The other one has its second.
      while (!bench.inner[side].closed) await setImmediate();
      // Its error is emitted only then.
      await setImmediate();
      mock.timers.tick(1_000);
      t.match(await bench.ending, side === 'client' ? { fault: { code: 'client-closed' }, closedBy: 'client' } : { fault: { code: 'upstream-silent' }, closedBy: 'proxy' }, `the ${first} ends, the ${side} is lost`);
      mock.timers.reset();
    }
  }
});

/** A client that reads only after the gate has opened, in a thread of its own: also while this one stands still. */
const READ_BEHIND_GATE = `
  const { workerData: { port, gate }, parentPort } = require('node:worker_threads');
  const socket = require('node:net').connect(port, '127.0.0.1').on('error', () => {});
  let length = 0;
  socket.on('data', (chunk) => { length += chunk.length; }).on('close', () => { parentPort.postMessage(length); }).pause();
  const look = setInterval(() => {
    if (Atomics.load(new Int32Array(gate), 0) === 0) return;
    clearInterval(look);
    socket.resume();
  }, 5);
`;

t.test('after a pause of the process, a side still has its time to read what came before the reset', async (t) => {
  const bench = await setUpTunnel(t);
  const accepted = Promise.withResolvers<Socket>();
  const port = await listen(t, createServer({ allowHalfOpen: true }, accepted.resolve));
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const reader = new Worker(READ_BEHIND_GATE, { eval: true, workerData: { port, gate: gate.buffer } });
  t.teardown(() => reader.terminate());
  const read = once(reader, 'message');
  const client = await accepted.promise;
  const tunnel = bench.tunnel(null, { client });
  tunnel.start(null);
  // More than the system takes for a client that does not read.
  for (let sent = 0; sent < 64 && client.writableLength === 0; sent += 1) {
    tunnel.received('upstream', Buffer.alloc(262_144));
    await setImmediate();
  }
  t.ok(client.writableLength > 0, 'not all of it has been accepted');
  tunnel.broke('upstream', new Error('reset'));
  Atomics.store(gate, 0, 1);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_200);
  t.equal((await read)[0], bench.record.bytesReceived);
  t.match(await bench.ending, { fault: { code: 'upstream-cut' } });
});

t.test('read in bulk, and the other side does not keep up: a failed write costs no byte of what is still to be read', async (t) => {
  const bench = await setUpTunnel(t);
  bench.client.socket.pause();
  readOnAfterFailedWrites(bench.inner.upstream);
  bench.tunnel().start(null);
  const { upstream } = bench.inner;
  // More than the system takes on both ways.
  for (let moved = -1; moved < upstream.bytesRead || bench.inner.client.writableLength === 0; ) {
    moved = upstream.bytesRead;
    if (!bench.upstream.socket.writableNeedDrain) bench.upstream.send(Buffer.alloc(1024 * 1024));
    await delay(50);
  }
  const failed = once(upstream, WRITE_FAILED);
  bench.upstream.socket.resetAndDestroy();
  bench.client.send('more');
  await failed;
  const { bytesReceived } = bench.record;
  const ended = new Promise((resolve) => bench.client.socket.once('end', () => { resolve('an end'); }));
  bench.client.socket.resume();
  t.equal(await Promise.race([bench.client.ended.then(({ how }) => how), ended]), 'reset');
  t.ok(bench.record.bytesReceived > bytesReceived, `${bench.record.bytesReceived - bytesReceived} bytes more`);
  t.equal(bench.client.heard.length, bench.record.bytesReceived);
});

t.test('a reset that a write meets first is a reset for the other side, not an end', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    const bench = await setUpTunnel(t);
    readOnAfterFailedWrites(bench.inner.upstream);
    const tunnel = bench.tunnel();
    tunnel.start(null);
    const other = side === 'client' ? 'upstream' : 'client';
    const ended = new Promise((resolve) => bench[other].socket.once('end', () => { resolve('an end'); }));
    bench[side].send('half of a mess');
    await bench[other].until('mess');
    bench[side].socket.resetAndDestroy();
    // Now: the system tells a reset once, and then an end.
    tunnel.received(other, Buffer.from('more'));
    t.same(await Promise.race([bench[other].ended, ended]), { heard: 'half of a mess', how: 'reset' }, `reset by the ${side}`);
    t.match(await bench.ending, { fault: { code: side === 'client' ? 'client-closed' : 'upstream-cut' }, closedBy: side });
  }
});

t.test('a side that reads slowly gets all that was sent to it, and then the reset', async (t) => {
  const bench = await setUpTunnel(t);
  bench.client.socket.pause();
  const tunnel = bench.tunnel();
  tunnel.start(null);
  while (bench.inner.client.writableLength === 0) {
    tunnel.received('upstream', Buffer.alloc(262_144));
    await setImmediate();
  }
  stopTime(t);
  const aSecond = async (): Promise<void> => {
    mock.timers.tick(1_000);
    // The limit looks at the sockets once more.
    await setImmediate();
    await setImmediate();
  };
  tunnel.broke('upstream', new Error('reset'));
  for (let seconds = 0; seconds < 5; seconds += 1) await aSecond();
  t.notOk(bench.inner.client.destroyed, 'in five seconds it has taken nothing');
  bench.client.socket.resume();
  while (bench.client.heard.length < bench.record.bytesReceived) await setImmediate();
  await aSecond();
  t.notOk(bench.inner.client.destroyed, 'the last of it has a second for its way');
  await aSecond();
  t.equal((await bench.client.ended).how, 'reset');
  t.match(await bench.ending, { fault: { code: 'upstream-cut' } });
});

t.test('the idle clock sees both directions, and bytes that are held', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel(new Script('hold', 'done'));
  tunnel.start(null);
  const before = tunnel.moved;
  tunnel.received('client', Buffer.from('abc'));
  t.equal(tunnel.moved, before + 3);
  bench.upstream.send('de');
  await bench.client.until('de');
  t.equal(tunnel.moved, before + 5);
  tunnel.onIdle();
  t.same([(await bench.client.ended).how, (await bench.upstream.ended).how], ['reset', 'reset']);
  t.match(await bench.ending, { fault: { code: 'idle-timeout' }, closedBy: 'proxy' });
});

t.test('only the first end counts', async (t) => {
  const bench = await setUpTunnel(t);
  const tunnel = bench.tunnel();
  tunnel.start(null);
  tunnel.onDue(Infinity, 1000);
  tunnel.onIdle();
  tunnel.end(new Fault('draining', 'later'));
  t.match(await bench.ending, { fault: { code: 'age-limit' }, closedBy: 'proxy' });
});

t.test('a client behind TLS is closed where others are reset', async (t) => {
  const { authority, certPem, keyPem } = await labCertificates();
  for (const first of ['upstream', 'proxy'] as const) {
    const bench = await setUpTunnel(t);
    const server = createTlsServer({ cert: certPem, key: keyPem, allowHalfOpen: true });
    const socket = connectTls({ port: await listen(t, server), host: '127.0.0.1', servername: ECO, ca: authority.certPem });
    t.teardown(() => socket.destroy());
    const [[inner]] = (await Promise.all([once(server, 'secureConnection'), once(socket, 'secureConnect')])) as [[TunnelSocket], unknown];
    const client = wireOf(socket);
    const tunnel = bench.tunnel(null, { client: inner });
    tunnel.start(null);
    client.send('ping');
    await bench.upstream.until('ping');
    bench.upstream.send('half an ans');
    await client.until('half an ans');
    if (first === 'upstream') bench.upstream.socket.resetAndDestroy();
    else tunnel.end(new Fault('draining', 'the end'));
    t.equal((await client.ended).heard, 'half an ans');
    await bench.upstream.ended;
    t.match(await bench.ending, { fault: { code: first === 'proxy' ? 'draining' : 'upstream-cut' }, closedBy: first });
  }
});

t.test('TLS whose client ended first gets the end all the same (close_notify)', async (t) => {
  const { authority, certPem, keyPem } = await labCertificates();
  const bench = await setUpTunnel(t);
  const server = createTlsServer({ cert: certPem, key: keyPem, allowHalfOpen: true });
  const port = await listen(t, server);
  const types: number[] = [];
  // Between the two, where the types of records can be read: a TLS 1.2 alert is one in plain sight (RFC 5246 §6.2.1).
  const between = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let rest = Buffer.alloc(0);
    far.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt16BE(3)) {
        types.push(rest.readUInt8(0));
        rest = rest.subarray(5 + rest.readUInt16BE(3));
      }
    });
    near.pipe(far).pipe(near);
  });
  const raw = connect({ port: await listen(t, between), host: '127.0.0.1', allowHalfOpen: true });
  const socket = connectTls({ socket: raw, servername: ECO, ca: authority.certPem, maxVersion: 'TLSv1.2', allowHalfOpen: true } as ConnectionOptions);
  t.teardown(() => socket.destroy());
  const [[inner]] = (await Promise.all([once(server, 'secureConnection'), once(socket, 'secureConnect')])) as [[TunnelSocket], unknown];
  bench.tunnel(null, { client: inner }).start(null);
  const client = wireOf(socket);
  socket.end('ask');
  await bench.upstream.until('ask');
  await once(bench.upstream.socket, 'end');
  bench.upstream.socket.end('an answer');
  t.equal((await client.ended).heard, 'an answer');
  t.same(await bench.ending, { fault: null, closedBy: 'client' });
  t.same(types.slice(-2), [23, 21], 'the answer, then an alert');
});

t.test('a client that ends and then goes has ended the tunnel in order', async (t) => {
  const bench = await setUpTunnel(t);
  bench.tunnel(null).start(null);
  bench.client.socket.end();
  await once(bench.upstream.socket, 'end');
  bench.client.socket.resetAndDestroy();
  bench.upstream.socket.write('nobody reads this');
  t.same(await bench.ending, { fault: null, closedBy: 'client' });
  bench.upstream.socket.destroy();
});

/** A tunnel with a question and its answer. No time passes for it. */
async function setUpAnswered(t: Test): Promise<Bench> {
  const bench = await setUpTunnel(t);
  stopTime(t);
  bench.tunnel(null).start(null);
  bench.client.send('a question');
  await bench.upstream.until('a question');
  bench.upstream.send('an answer');
  await bench.client.until('an answer');
  return bench;
}

t.test('a client that resets when it has been sent the end of the upstream was through, and no port waits for it', async (t) => {
  const bench = await setUpAnswered(t);
  bench.upstream.socket.end();
  await once(bench.client.socket, 'end');
  bench.client.socket.resetAndDestroy();
  t.equal((await bench.upstream.ended).how, 'reset');
  t.same(await bench.ending, { fault: null, closedBy: 'upstream' });
});

t.test('an upstream that ends has read what came before the reset of the client, and no port waits for it', async (t) => {
  const bench = await setUpAnswered(t);
  bench.client.socket.resetAndDestroy();
  while (!bench.inner.client.closed) await setImmediate();
  t.notOk(bench.inner.upstream.destroyed, 'it has its time');
  bench.upstream.socket.end();
  t.equal((await bench.upstream.ended).how, 'reset');
  t.match(await bench.ending, { fault: { code: 'client-closed' }, closedBy: 'client' });
});
