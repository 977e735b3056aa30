/** Clients that ask for more than they read or finish, against a proxy with as little memory as it is shipped with. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type ChildProxy, startChildProxy } from '../support/child-proxy.ts';
import { type Draft, ECO, labCertificates, startUpstream } from '../support/lab.ts';

t.setTimeout(300_000);

/** As a container with 768 MiB leaves it. */
const HEAP_MEGABYTES = 384;

async function start(t: Test, configure?: (draft: Draft) => void): Promise<{ proxy: ChildProxy; authority: string }> {
  const { certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, (req, res) => {
    req.resume();
    res.end(req.url === '/big' ? Buffer.alloc(100_000) : 'ok');
  });
  const proxy = await startChildProxy({
    directory: t.testdir(),
    ports: { https: upstream.httpsPort, http: upstream.httpPort },
    heapMegabytes: HEAP_MEGABYTES,
    // A line for each of a million requests is not what is tried here.
    onLine: () => {},
    configure: (draft) => {
      draft.clients['pods'] = { addresses: ['127.0.0.1/32'] };
      configure?.(draft);
    },
  });
  t.teardown(() => proxy.close());
  return { proxy, authority: `${ECO}:${upstream.httpPort}` };
}

async function open(port: number, from = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from, noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect').catch(() => {});
  return socket;
}

/** Of one good request on a connection of its own, ms; null: not answered in time. */
async function latency({ port }: ChildProxy, authority: string, patience = 15_000): Promise<number | null> {
  const began = performance.now();
  const socket = await open(port);
  let heard = '';
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
  });
  socket.write(`GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
  await Promise.race([new Promise((resolve) => socket.once('close', resolve)), delay(patience)]);
  socket.destroy();
  return heard.startsWith('HTTP/1.1 200 ') ? performance.now() - began : null;
}

/** Writes until all has been taken, the connection ends or the time is over. */
async function pour(socket: Socket, bytes: Buffer, times: number, within: number): Promise<void> {
  const over = delay(within).then(() => true);
  for (let i = 0; i < times && !socket.destroyed; i += 1) {
    if (socket.write(bytes)) continue;
    const drained = new Promise<boolean>((resolve) => {
      socket.once('drain', () => { resolve(false); }).once('close', () => { resolve(true); });
    });
    if (await Promise.race([drained, over])) return;
  }
}

for (const reads of [true, false]) {
  t.test(`13 MB of pipelined requests on one connection, whose client ${reads ? 'reads' : 'does not read'}`, async (t) => {
    const { proxy, authority } = await start(t);
    for (const [what, request, times] of [
      ['forward', `GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\n\r\n`, 130],
      ['gateway, large answers', 'GET /eco/big HTTP/1.1\r\nHost: x\r\n\r\n', 130],
      ['denied', 'GET http://evil.example/ HTTP/1.1\r\nHost: e\r\n\r\n', 130],
    ] as const) {
      const socket = await open(proxy.port);
      if (reads) socket.resume();
      await pour(socket, Buffer.from(request.repeat(Math.ceil(100_000 / request.length))), times, 4000);
      const took = await latency(proxy, authority);
      t.equal(proxy.death, null, `${what}: it lives`);
      t.ok(took !== null, `${what}: others are served`);
      socket.destroy();
      if (proxy.death !== null) break;
    }
  });
}

t.test('denied requests of a stranger, pipelined on 50 connections: a client is served meanwhile', async (t) => {
  const { proxy, authority } = await start(t);
  const quiet = (await latency(proxy, authority)) ?? NaN;
  const batch = Buffer.from('GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n'.repeat(2000));
  const sockets = await Promise.all(Array.from({ length: 50 }, () => open(proxy.port, '127.0.0.2')));
  const pouring = Promise.all(sockets.map((socket) => pour(socket.resume(), batch, 20, 8000)));
  await delay(200);
  const during: (number | null)[] = [];
  for (let i = 0; i < 5; i += 1) during.push(await latency(proxy, authority));
  await pouring;
  for (const socket of sockets) socket.destroy();
  t.equal(proxy.death, null);
  // Not a limit on time, but on waiting for fifty strangers' whole pipelines.
  t.ok(during.every((took) => took !== null && took < 2000 + 20 * quiet), `${during.map((took) => (took === null ? 'no answer' : `${Math.round(took)} ms`)).join(', ')}; ${Math.round(quiet)} ms in quiet`);
});

t.test('1,900 connections with unfinished header sections of 12,000 tiny fields each', async (t) => {
  const { proxy, authority } = await start(t, (draft) => Object.assign(draft.timeouts, { requestHeaders: '30s' }));
  const fields = Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${'a:\r\n'.repeat(12_000)}`);
  const sockets: Socket[] = [];
  for (let i = 0; i < 1900 && proxy.death === null; i += 100) {
    const more = await Promise.all(Array.from({ length: 100 }, () => open(proxy.port, '127.0.0.2')));
    sockets.push(...more);
    await Promise.all(more.map((socket) => pour(socket.resume(), fields, 1, 5000)));
  }
  t.equal(proxy.death, null, 'it lives');
  if (proxy.death === null) t.ok((await latency(proxy, authority)) !== null, 'and serves');
  for (const socket of sockets) socket.destroy();
});
