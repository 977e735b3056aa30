/**
 * All limits at once, at their defaults, in a process with the heap that the
 * shipped container leaves it: docs/configuration.md has the arithmetic.
 *
 * In a network of its own where that can be had, with small buffers: what
 * thousands of sockets leave unread would fill the kernel's memory for TCP,
 * and then it resets connections of everybody on the machine.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { parse } from 'yaml';
import { startChildProxy } from '../support/child-proxy.ts';
import { ECO } from '../support/lab.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';
import { sumOf } from '../support/prometheus.ts';

t.setTimeout(300_000);

const ROOT = new URL('../../', import.meta.url);
const { limits } = configOf(MINIMAL);
const MEBIBYTE = 1024 * 1024;
/** Node takes half of what a container has for its heap. */
const HEAP_SHARE = 1 / 2;
/** What is left for the kernel's buffers, which count as the container's memory too. */
const KERNEL_SHARE = 1 / 4;

function shippedMemory(): number {
  const deployment = parse(readFileSync(new URL('deploy/kubernetes/base/deployment.yaml', ROOT), 'utf8')) as { spec: { template: { spec: { containers: { name: string; resources: { limits: { memory: string } } }[] } } } };
  return Number(/^(\d+)Mi$/.exec(deployment.spec.template.spec.containers[0]?.resources.limits.memory ?? '')?.[1]) * MEBIBYTE;
}

const CHUNK = Buffer.alloc(64 * 1024, 'x');

/** Writes as long as the other side takes it, and never reads. */
function flood(socket: Socket): void {
  const pump = (): void => {
    while (!socket.destroyed && socket.write(CHUNK));
  };
  socket.on('drain', pump);
  pump();
}

/** A network of loopback alone, for whatever program follows. */
const OWN_NETWORK = ['-rn', 'sh', '-c', 'ip link set lo up mtu 1500 && for way in r w; do echo 4096 16384 16384 >/proc/sys/net/ipv4/tcp_${way}mem || exit; done && exec "$@"', 'sh'];
const INSIDE = 'ECO_TEST_OWN_NETWORK';

if (process.env[INSIDE] === undefined && spawnSync('unshare', [...OWN_NETWORK, 'true']).status === 0) {
  void t.spawn('unshare', [...OWN_NETWORK, process.execPath, ...process.execArgv, import.meta.filename], { env: { ...process.env, [INSIDE]: '1' } }, 'in a network of its own');
} else t.test('tunnels, exchanges and header sections, as many as the limits permit, with clients that do not read', async (t) => {
  const memory = shippedMemory();
  const taken: Socket[] = [];
  const partner = createServer((socket) => {
    taken.push(socket);
    socket.on('error', () => {});
    socket.once('data', (bytes: Buffer) => {
      socket.pause();
      if (bytes.toString('latin1').startsWith('POST ')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n');
      flood(socket);
    });
  });
  partner.listen(0, '127.0.0.1');
  await once(partner, 'listening');
  const { port } = partner.address() as { port: number };
  const proxy = await startChildProxy({
    directory: t.testdir(),
    ports: { https: port, http: port === 65_535 ? 1 : port + 1 },
    heapMegabytes: (memory * HEAP_SHARE) / MEBIBYTE,
    onLine: () => {},
    configure: (draft) => {
      draft.clients['pods'] = { addresses: ['127.0.1.0/24'] };
      // One partner is to have all exchanges: several would have as many in all.
      Object.assign(draft.limits, { upstreamConnections: limits.exchanges * 2 });
      // Nobody is to give up before all have come; an exchange waits for a connection as long as for a dial.
      Object.assign(draft.timeouts, { requestHeaders: '120s', connect: '120s' });
    },
  });
  const sockets: Socket[] = [];
  t.teardown(async () => {
    for (const socket of [...sockets, ...taken]) socket.destroy();
    partner.close();
    await proxy.close();
  });
  const atStart = proxy.residentBytes();
  let most = atStart;
  const open = async (count: number, from: (i: number) => string, says: string): Promise<void> => {
    for (let i = 0; i < count && proxy.death === null; i += 1) {
      const socket = connect({ host: '127.0.0.1', port: proxy.port, localAddress: from(i) });
      sockets.push(socket);
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(says);
      // Behind the answer, which shows that it is a tunnel or an exchange.
      socket.once('data', () => {
        socket.pause();
        flood(socket);
      });
      if (i % 50 === 0) most = Math.max(most, proxy.residentBytes());
    }
  };
  const client = (perClient: number) => (i: number) => `127.0.1.${1 + Math.floor(i / perClient)}`;
  const gauge = async (name: string): Promise<number> => sumOf(await proxy.scrape(), `eco_egress_${name}`);
  await open(limits.exchanges, client(limits.exchangesPerClient), `POST http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nContent-Length: 999999999999\r\n\r\n`);
  await open(limits.tunnels, client(limits.tunnelsPerClient), `CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: x\r\n\r\n x`);
  await open(limits.connections - limits.exchanges - limits.tunnels, (i) => `127.0.2.${1 + Math.floor(i / limits.connectionsPerClient)}`, `GET / HTTP/1.1\r\nHost: x\r\n${`X: ${'a'.repeat(1000)}\r\n`.repeat(Math.floor(limits.headerBytes / 1005) - 1)}`);
  for (let i = 0; i < 20 && proxy.death === null; i += 1) {
    await delay(250);
    most = Math.max(most, proxy.residentBytes());
  }
  t.equal(proxy.death, null, 'it lives');
  t.equal(await gauge('client_connections'), limits.connections, 'as many connections as may be');
  t.equal(await gauge('tunnels_active'), limits.tunnels, 'of these, as many tunnels as may be');
  const megabytes = (bytes: number): number => Math.round(bytes / MEBIBYTE);
  t.comment(`${megabytes(atStart)} MiB at the start, ${megabytes(most)} at most, of ${megabytes(memory)}`);
  t.ok(most < memory * (1 - KERNEL_SHARE), `${megabytes(most)} of ${megabytes(memory)} MiB`);
  for (const socket of [...sockets, ...taken]) socket.destroy();
  // Long before timeouts.tunnelIdle: both sides of each tunnel are gone, and neither was read.
  for (let i = 0; i < 300 && proxy.death === null && (await gauge('client_connections')) > 0; i += 1) await delay(100);
  t.equal(await gauge('client_connections'), 0, 'nothing is left of them');
  t.equal(proxy.death, null, 'and when all have gone');
});
