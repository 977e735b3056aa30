/**
 * What one client at its worst costs another: the proxy with its default
 * limits, a client that asks at a steady rate, and beside it one that does one
 * greedy thing after the other. Prints Markdown.
 * Run: bin/node bench/greedy.ts. Options: --help
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hashPassword } from '../src/identity/proxy-authorization.ts';
import { chooseByName, readNumber, readOptions } from '../test/support/command-line.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';
import { askSteadily, type SteadyQuestions } from './load/ask-steadily.ts';
import { startProgram } from './machine/program.ts';
import { formatFigure, renderTable } from './report/table.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const GREEDY = '127.0.0.1';
const POLITE = '127.0.0.2';
/** Requests of the polite client, a second: no more than leave the proxy idle most of the time. */
const RATE = 100;
/** Connections that the greedy client holds, or tries to. */
const MANY = 600;
/** Those that are not read: what lies in them takes memory of the kernel, which resets everybody's when it has no more. */
const UNREAD = 50;
/** Of programs that only the greedy client uses: what they take of the machine's cores must not delay what is measured. */
const LOWEST_PRIORITY = 19;
/** After this the polite client gives a request up, ms. */
const PATIENCE = 10_000;

interface Ports {
  readonly proxy: number;
  readonly admin: number;
  /** The partner of both clients. */
  readonly partner: number;
  /** Another, for what pours: what that costs a partner must not delay what is measured. */
  readonly pouring: number;
}

/** What the greedy client does, by name. Each goes on until the process ends. */
const WORST: Readonly<Record<string, (ports: Ports) => void>> = {
  'bodies that never come': ({ proxy, partner }) => {
    hold(MANY, proxy, `POST http://127.0.0.1:${partner}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n`);
  },
  'answers that take long': ({ proxy, partner }) => {
    hold(MANY, proxy, `GET http://127.0.0.1:${partner}/wait HTTP/1.1\r\nHost: x\r\n\r\n`);
  },
  'answers that are never read': ({ proxy, pouring }) => {
    hold(UNREAD, proxy, `GET http://127.0.0.1:${pouring}/large HTTP/1.1\r\nHost: x\r\n\r\n`, false);
  },
  'tunnels that are never read': ({ proxy, pouring }) => {
    hold(UNREAD, proxy, `CONNECT 127.0.0.1:${pouring} HTTP/1.1\r\nHost: x\r\n\r\nGET /large HTTP/1.1\r\nHost: x\r\n\r\n`, false);
  },
  'connections that say nothing': ({ proxy }) => {
    hold(MANY, proxy, '');
  },
  'connections that come and go, 20 at a time': ({ proxy }) => {
    again(20, proxy, 'GET http://elsewhere.example/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  },
  'wrong passwords, 50 at a time': ({ proxy, partner }) => {
    again(50, proxy, `GET http://127.0.0.1:${partner}/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic ${btoa(`greedy:${Math.random()}`)}\r\nConnection: close\r\n\r\n`);
  },
  'scrapes of the admin port, 50 at a time': ({ admin }) => {
    again(50, admin, 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n');
  },
  'requests as fast as they are answered, on 50 connections': ({ proxy, partner }) => {
    const request = `GET http://127.0.0.1:${partner}/ HTTP/1.1\r\nHost: x\r\n\r\n`;
    for (let i = 0; i < 50; i += 1) {
      const socket = connect({ host: '127.0.0.1', port: proxy, localAddress: GREEDY });
      socket.on('error', () => {}).on('data', () => socket.write(request));
      socket.write(request);
    }
  },
};

/** Keeps so many connections open, each with the same words; one that closes is opened again a moment later. */
function hold(count: number, port: number, words: string, reads = true): void {
  const open = (): void => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: GREEDY });
    socket.on('error', () => {}).on('close', () => setTimeout(open, 100));
    if (words !== '') socket.write(words);
    if (reads) socket.resume();
    else socket.pause();
  };
  for (let i = 0; i < count; i += 1) open();
}

/** Asks on a new connection as soon as the one before has closed. */
function again(count: number, port: number, words: string): void {
  const open = (): void => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: GREEDY });
    socket.on('error', () => {}).on('close', () => setImmediate(open)).resume();
    socket.write(words);
  };
  for (let i = 0; i < count; i += 1) open();
}

const UPSTREAM = 'upstream';

/** Answers, or does not, until the process that started this one ends; sends it the port. */
async function serveUpstream(): Promise<void> {
  const large = Buffer.alloc(8 * 1024 * 1024);
  const server = createServer((request, response) => {
    if (request.url === '/large') response.end(large);
    else if (request.url !== '/wait') request.resume().on('end', () => response.end('ok'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send?.((server.address() as AddressInfo).port);
  process.on('disconnect', () => process.exit());
}

/** @param greed what the greedy client does, one after the other */
async function measure(seconds: number, greed: readonly string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-greedy-'));
  const upstreams = [0, LOWEST_PRIORITY].map((priority) => fork(import.meta.filename, ['--do', UPSTREAM, '--priority', String(priority)]));
  const [partner = 0, pouring = 0] = await Promise.all(upstreams.map(async (server) => ((await once(server, 'message')) as [number])[0]));
  const ports: Ports = { proxy: await findUnusedPort(), admin: await findUnusedPort(), partner, pouring };
  const config = join(directory, 'egress.yaml');
  writeFileSync(
    config,
    `version: 1
listeners: { http: ["0.0.0.0:${ports.proxy}"], tls: off, admin: "0.0.0.0:${ports.admin}" }
clients:
  greedy: { addresses: ["${GREEDY}"] }
  polite: { addresses: ["${POLITE}"] }
  known: { addresses: ["${GREEDY}"], basic: [{ user: greedy, hash: "${await hashPassword('right')}" }] }
destinations:
  upstream: { hosts: ["127.0.0.1"], ports: [${pouring}, ${partner}], addresses: ["127.0.0.0/8"] }
rules: [{ clients: [greedy, polite, known], destinations: [upstream] }]
`,
  );
  const program = await startProgram({ command: process.execPath, args: [MAIN, 'serve', '--config', config] }, directory, ports.proxy);
  try {
    const polite: SteadyQuestions = { proxy: ports.proxy, path: `http://127.0.0.1:${partner}/`, from: POLITE, rate: RATE, patience: PATIENCE };
    await askSteadily(polite, 3);
    const rows: string[][] = [];
    let alone = await askSteadily(polite, seconds);
    rows.push(['nothing', formatFigure(alone.p50), formatFigure(alone.p99), '', String(alone.failed)]);
    for (const name of greed) {
      process.stderr.write(`${name}\n`);
      const greedy = fork(import.meta.filename, ['--do', name, '--priority', String(LOWEST_PRIORITY), '--ports', JSON.stringify(ports)]);
      await delay(1000);
      const beside = await askSteadily(polite, seconds);
      const ended = once(greedy, 'exit');
      if (!greedy.kill('SIGKILL')) throw new Error(`it ended by itself: ${name}`);
      await ended;
      await delay(1000);
      // Before and after: what the machine does at the time is not the client's doing.
      const after = await askSteadily(polite, seconds);
      const p99 = (alone.p99 + after.p99) / 2;
      rows.push([name, formatFigure(beside.p50), formatFigure(beside.p99), `${formatFigure(beside.p99 / p99)}×`, String(beside.failed)]);
      alone = after;
    }
    return `${RATE} requests a second of the other client, for ${seconds} s each; ms from when a request was due until its answer is whole.\n\n${renderTable(['one client does', 'p50', 'p99', 'of p99 alone', 'failed'], rows)}`;
  } finally {
    await program.stop();
    for (const server of upstreams) server.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

const USAGE = `bin/node bench/greedy.ts [--seconds N] [--only TEXT]
  --seconds N  of the other client, beside each greedy thing; 10 by default
  --only TEXT  only greedy things with that in their name
`;
// The last three are for the processes that this one starts.
const values = readOptions({ seconds: { type: 'string', default: '10' }, only: { type: 'string', default: '' }, do: { type: 'string' }, priority: { type: 'string', default: '0' }, ports: { type: 'string', default: '{}' } }, USAGE);
setPriority(Number(values.priority));
if (values.do === undefined) process.stdout.write(`${await measure(readNumber('--seconds', values.seconds, USAGE, 1), chooseByName(Object.keys(WORST), values.only, (name) => name, USAGE))}\n`);
else if (values.do === UPSTREAM) await serveUpstream();
else {
  WORST[values.do]?.(JSON.parse(values.ports) as Ports);
  // Sockets that are not read keep no process alive. It ends with the one that started it.
  process.on('disconnect', () => process.exit());
}
