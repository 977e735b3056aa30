/** Tunnels that move much are read in bulk: nothing of what a tunnel does may change by it, and no buffer may be used twice at once. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import t from 'tap';
import { type BulkConnection, readInBulk } from '../../src/relay/bulk.ts';
import { readBuffer } from '../../src/relay/node-internals.ts';
import { listen } from '../support/listen.ts';
import { openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';

const MIB = 1024 * 1024;
/** No block is like another, so that bytes of the wrong one cannot pass unseen. */
const BLOCK = randomBytes(MIB + 4099);

/** Sends `count` blocks, each with its number, as fast as the other end takes them. */
async function pour(socket: Socket, count: number): Promise<string> {
  const hash = createHash('sha256');
  for (let i = 0; i < count; i += 1) {
    const block = Buffer.from(BLOCK);
    block.writeUInt32BE(i);
    hash.update(block);
    if (!socket.write(block)) await once(socket, 'drain');
  }
  return hash.digest('hex');
}

/** Reads `length` bytes; `rest` after each chunk makes a reader slow. */
async function drink(socket: Socket, length: number, rest = 0): Promise<string> {
  const hash = createHash('sha256');
  let left = length;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    hash.update(chunk as Buffer);
    left -= (chunk as Buffer).length;
    if (left <= 0) break;
    if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
  }
  return hash.digest('hex');
}

/** Closed, be it by a reset. */
function closed(socket: Socket): Promise<unknown> {
  socket.on('error', () => {});
  return new Promise((resolve) => socket.once('close', resolve));
}

t.test('both ways at once, fast and slow readers, and then small talk', async (t) => {
  const lab = await startTunnelLab(t);
  for (const rest of [0, 1]) {
    const { client, upstream } = await openTunnel(t, lab);
    for (const { socket } of [client, upstream]) socket.removeAllListeners('data').pause();
    const count = rest === 0 ? 40 : 12;
    const length = count * BLOCK.length;
    const [up, down, upRead, downRead] = await Promise.all([pour(client.socket, count), pour(upstream.socket, count), drink(upstream.socket, length, rest), drink(client.socket, length, rest)]);
    t.equal(upRead, up, `up, ${rest} ms`);
    t.equal(downRead, down, `down, ${rest} ms`);
    // Small bytes after large ones: each comes alone and at once.
    for (let i = 0; i < 50; i += 1) {
      client.socket.write(`ping ${i}`);
      upstream.socket.resume();
      t.equal(String((await once(upstream.socket, 'data'))[0]), `ping ${i}`);
      upstream.socket.write(`pong ${i}`);
      client.socket.resume();
      t.equal(String((await once(client.socket, 'data'))[0]), `pong ${i}`);
    }
    client.socket.end();
    upstream.socket.end();
    await Promise.all([client.ended, upstream.ended]);
    const line = await lab.logged((line) => line['bytesSent'] === length + 340);
    t.match(line, { code: 'ok', bytesReceived: length + 340 });
  }
});

t.test('each direction ends on its own, with all that was sent before', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  for (const { socket } of [client, upstream]) socket.removeAllListeners('data').pause();
  const sent = pour(client.socket, 20).then((hash) => {
    client.socket.end();
    return hash;
  });
  t.equal(await drink(upstream.socket, 20 * BLOCK.length), await sent);
  upstream.socket.resume();
  await once(upstream.socket, 'end');
  const answered = pour(upstream.socket, 20);
  t.equal(await drink(client.socket, 20 * BLOCK.length), await answered, 'the other direction is still open');
  upstream.socket.end();
  await client.ended;
  t.match(await lab.logged((line) => line['form'] === 'connect'), { code: 'ok', closedBy: 'client' });
});

t.test('a reset in the middle is a reset on the other side', async (t) => {
  const lab = await startTunnelLab(t);
  for (const side of ['client', 'upstream'] as const) {
    const tunnel = await openTunnel(t, lab);
    const other = side === 'client' ? 'upstream' : 'client';
    for (const { socket } of [tunnel.client, tunnel.upstream]) socket.removeAllListeners('data').pause();
    const reading = drink(tunnel[other].socket, 8 * BLOCK.length);
    await pour(tunnel[side].socket, 8);
    await reading;
    tunnel[other].socket.resume();
    const gone = closed(tunnel[other].socket);
    tunnel[side].socket.resetAndDestroy();
    await gone;
    const code = side === 'client' ? 'client-closed' : 'upstream-cut';
    t.match(await lab.logged((line) => line.code === code), { bytesSent: side === 'client' ? 8 * BLOCK.length : 0 });
  }
});

t.test('the end of the proxy ends them, and nothing stays counted', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  for (const { socket } of [client, upstream]) socket.removeAllListeners('data').pause();
  const reading = drink(upstream.socket, 8 * BLOCK.length);
  await pour(client.socket, 8);
  await reading;
  t.equal((await lab.scrape()).samples.get('eco_egress_client_connections'), 1);
  upstream.socket.resume();
  client.socket.resume();
  const gone = Promise.all([closed(client.socket), closed(upstream.socket)]);
  await lab.service.close();
  await gone;
  t.match(await lab.logged((line) => line.code === 'draining'), { bytesSent: 8 * BLOCK.length });
});

t.test('what cannot be read in bulk stays as it is', async (t) => {
  const never = { onBytes: () => t.fail('nothing is read'), answered: () => 0 };
  t.equal(readInBulk(new PassThrough(), never), null, 'no socket');
  t.equal(readInBulk(new Socket(), never), null, 'not connected');
});

t.test('who sends 2 to 64 KiB at a time is read without memory for each', async (t) => {
  for (const [size, pieces] of [[1_000, null], [16_384, 3], [65_536, 3]] as const) {
    const memory = new Set<ArrayBufferLike>();
    let got = 0;
    const accepted = Promise.withResolvers<BulkConnection | null>();
    const server = createServer((socket) => {
      const reader = readInBulk(socket, {
        onBytes: (bytes) => {
          memory.add(bytes.buffer);
          got += bytes.length;
          socket.write('more');
          return true;
        },
        answered: () => got,
      });
      accepted.resolve(reader);
      socket.resume().on('end', () => socket.end());
    });
    const socket = connect({ host: '127.0.0.1', port: await listen(t, server) });
    for (let i = 0; i < 40; i += 1) {
      socket.write(Buffer.alloc(size));
      while (got < (i + 1) * size) await once(socket, 'data');
    }
    socket.end();
    await once(socket, 'close');
    (await accepted.promise)?.release();
    if (pieces !== null) t.ok(memory.size <= pieces, `${size} bytes at a time: ${memory.size} pieces of memory`);
    t.notOk(memory.has(readBuffer.buffer), 'nothing is handed out of the shared one');
  }
});

/** Counts how often the system is told to stop reading the socket. */
function countStops(socket: Socket): () => number {
  let stops = 0;
  const handle = (socket as unknown as { _handle: { readStop(): number } })._handle;
  const readStop = handle.readStop.bind(handle);
  handle.readStop = () => {
    stops += 1;
    return readStop();
  };
  return () => stops;
}

t.test('a stream of short reads rests until more has come; a dialogue never does', async (t) => {
  // `pause` is in ms: one of many streams gets a write only now and then.
  for (const [dialogue, messages, size, pause] of [[false, 10_000, 100, 0], [false, 1_000, 65_536, 0], [false, 500, 32_768, 0.6], [true, 10_000, 100, 0]] as const) {
    let sent = size;
    let got = 0;
    let answered = 0;
    let stops = (): number => 0;
    const server = createServer((socket) => {
      stops = countStops(socket);
      readInBulk(socket, {
        onBytes: (bytes) => {
          got += bytes.length;
          if (got === sent && sent < messages * size) send(performance.now() + pause);
          if (dialogue) answered += 1;
          return true;
        },
        answered: () => answered,
      });
      socket.resume().on('end', () => socket.end());
    });
    const message = Buffer.alloc(size);
    const send = (due: number): void => {
      if (performance.now() < due) {
        setImmediate(send, due);
        return;
      }
      client.write(message);
      sent += size;
    };
    const client = connect({ host: '127.0.0.1', port: await listen(t, server), noDelay: true });
    client.resume().write(message);
    while (got < messages * size) await new Promise((resolve) => setTimeout(resolve, 5));
    t.equal(got, messages * size);
    if (dialogue) t.equal(stops(), 0, 'a dialogue: no rest');
    else t.ok(stops() > 0, `a stream of ${size} bytes at a time, ${pause} ms apart: ${stops()} rests`);
    client.end();
    await once(client, 'close');
  }
});
