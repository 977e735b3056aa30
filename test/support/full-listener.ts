/**
 * A loopback port that answers no SYN: a listener that never accepts, with its
 * backlog filled. The nearest thing to a black hole that needs no network.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { Test } from 'tap';

/** Listens, then blocks its thread, so that the kernel queues connections and nobody takes them. */
const LISTEN_AND_BLOCK = `
  const { createServer } = require('node:net');
  const { parentPort, workerData } = require('node:worker_threads');
  const server = createServer();
  server.listen({ host: workerData.host, port: 0, backlog: 1 }, () => {
    parentPort.postMessage(server.address().port);
    Atomics.wait(new Int32Array(workerData.gate), 0, 0);
  });
`;
/** A loopback connection that takes longer than this is not going to be. */
const PATIENCE_MS = 100;

/** Ends with the test. @returns the port */
export async function startFullListener(t: Test, host = '127.0.0.1'): Promise<number> {
  const gate = new SharedArrayBuffer(4);
  const worker = new Worker(LISTEN_AND_BLOCK, { eval: true, workerData: { host, gate } });
  const [port] = (await once(worker, 'message')) as [number];
  const queued: Socket[] = [];
  t.teardown(async () => {
    await Promise.all(queued.map((socket) => once(socket.destroy(), 'close')));
    Atomics.notify(new Int32Array(gate), 0);
    await worker.terminate();
  });
  for (let connected = true; connected; ) {
    const socket = connect({ host, port });
    socket.on('error', () => {});
    queued.push(socket);
    connected = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS, false);
      socket.once('connect', () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }
  return port;
}
