/**
 * A client that works all the time and prints a line of JSON for each call:
 * what it was, when it began, what came of it. Run: node client.ts KIND PROXY HOST CA TUNNELS
 */
import { readFileSync } from 'node:fs';
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

/** How it reaches the partner. */
export type ClientKind = 'gateway' | 'forward' | 'connect' | 'tunnel' | 'parent';

/** What came of one call. */
export interface CallReport {
  readonly kind: ClientKind;
  /** Ms since the epoch, when it began. */
  readonly at: number;
  readonly ms: number;
  /** `ok`; `500` of the partner itself; `503 circuit-open` of the proxy; `reset`, `timeout`, `refused`, `tls` of the connection. */
  readonly outcome: string;
}

/** A tunnel is open. */
export interface OpenedReport {
  readonly kind: ClientKind;
  /** Ms since the epoch. */
  readonly opened: number;
}

const [kind, proxy, host, caFile, tunnels] = process.argv.slice(2) as [ClientKind, string, string, string, string];
const ca = readFileSync(caFile);
const EVERY_MS = 100;
const TIMEOUT_MS = 6000;
/** Calls under way at once: beyond, the client waits, as a pod of threads does. */
const MOST_AT_ONCE = 20;
/** Requests over one tunnel before the next is opened, and over one connection: so that each replica has some of everything. */
const USES = 10;
const agent = new Agent({ keepAlive: true, maxSockets: MOST_AT_ONCE });

function report(at: number, outcome: string): void {
  process.stdout.write(`${JSON.stringify({ kind, at, ms: Date.now() - at, outcome } satisfies CallReport)}\n`);
}

/** The code stands first in the details of Proxy-Status (RFC 9209). */
function outcomeOf({ statusCode = 0, headers }: IncomingMessage): string {
  const code = /details="([a-z-]+)/.exec(String(headers['proxy-status'] ?? ''))?.[1];
  return statusCode === 200 ? 'ok' : `${statusCode}${code === undefined ? '' : ` ${code}`}`;
}

function nameOf(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ECONNRESET' || code === 'EPIPE' || message === 'aborted' || message === 'socket hang up') return 'reset';
  if (code === 'ECONNREFUSED') return 'refused';
  if (message === 'timeout' || code === 'ETIMEDOUT') return 'timeout';
  return /^(?:CERT|ERR_TLS|ERR_SSL|UNABLE|DEPTH|SELF)/.test(code) ? 'tls' : `failed ${code}`;
}

/** Sends it and reads the whole answer. */
function finish(asked: ClientRequest): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => asked.destroy(new Error('timeout')), TIMEOUT_MS);
    asked.on('error', reject).on('close', () => { clearTimeout(timer); });
    asked.on('response', (response) => {
      response.on('error', reject).on('end', () => {
        if (response.complete) resolve(outcomeOf(response));
        else reject(new Error('aborted'));
      });
      response.resume();
    });
    asked.end();
  });
}

/** @param reused whether the connection has carried a request before: one that is closed without a byte of the answer is asked for again on another, and only that counts (RFC 9112 §9.3.1) */
async function call(asked: () => ClientRequest, reused = false): Promise<boolean> {
  const at = Date.now();
  try {
    const outcome = await finish(asked());
    report(at, outcome);
    return outcome === 'ok';
  } catch (error) {
    if (!reused || nameOf(error) !== 'reset' || (error as Error).message === 'aborted') report(at, nameOf(error));
    return false;
  }
}

/** Below those that the system gives. */
const OWN_PORTS = [10_000, 32_000] as const;
let ownPort: number = OWN_PORTS[0];

/**
 * A port that no connection of this host has had for minutes. The system may
 * give one again at once that a tunnel had, and where that one was reset, the
 * connection tracking of the Service leads the new one to the same replica,
 * which is gone (docs/chaos.md#restarts).
 */
function nextPort(): number {
  ownPort = ownPort + 1 < OWN_PORTS[1] ? ownPort + 1 : OWN_PORTS[0];
  return ownPort;
}

function openTunnel(target: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: proxy, port: 3128, method: 'CONNECT', path: target, agent: false, localPort: nextPort() });
    const timer = setTimeout(() => asked.destroy(new Error('timeout')), TIMEOUT_MS);
    asked.on('error', reject).on('close', () => { clearTimeout(timer); });
    asked.on('connect', (response: IncomingMessage, socket: Socket) => {
      clearTimeout(timer);
      if (response.statusCode === 200) resolve(socket);
      else {
        socket.destroy();
        reject(Object.assign(new Error('refused'), { outcome: outcomeOf(response) }));
      }
    });
    asked.end();
  });
}

function secure(socket: Socket): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const tls = connectTls({ socket, servername: host, ca });
    const timer = setTimeout(() => tls.destroy(new Error('timeout')), TIMEOUT_MS);
    tls.once('secureConnect', () => { clearTimeout(timer); resolve(tls); });
    tls.on('error', reject).on('close', () => { clearTimeout(timer); reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' })); });
  });
}

/** A tunnel with requests in it: each request is a call, and so is a tunnel that does not come about. */
async function session(target: string, uses: number, between: number): Promise<void> {
  const at = Date.now();
  let socket: Socket;
  try {
    const tunnel = await openTunnel(target);
    socket = target.endsWith(':443') ? await secure(tunnel) : tunnel;
  } catch (error) {
    report(at, (error as { outcome?: string }).outcome ?? nameOf(error));
    await pause(EVERY_MS);
    return;
  }
  process.stdout.write(`${JSON.stringify({ kind, opened: Date.now() } satisfies OpenedReport)}\n`);
  const one = new Agent({ keepAlive: true, maxSockets: 1 });
  Object.assign(one, { createConnection: () => socket });
  // A pause ends with the tunnel, so that the next one is opened when the proxy has ended this one. After a call that failed it does not.
  const ended = new AbortController();
  socket.once('close', () => { ended.abort(); });
  for (let use = 0; use < uses && !socket.destroyed; use += 1) {
    // Between two requests, a tunnel that ends is no failure: the next one is opened.
    const isOk = await call(() => request({ host, agent: one, path: '/api/status', headers: { host } }), use > 0);
    await pause(between, undefined, isOk ? { signal: ended.signal } : {}).catch(() => {});
    if (!isOk) break;
  }
  socket.destroy();
}

async function forever(work: () => Promise<unknown>): Promise<never> {
  for (;;) await work();
}

if (kind === 'connect') for (let number = 0; number < 3; number += 1) void forever(() => session(`${host}:443`, USES, EVERY_MS));
else if (kind === 'tunnel') for (let number = 0; number < Number(tunnels); number += 1) void forever(() => session(`${host}:80`, Infinity, 10 * EVERY_MS));
else {
  let under = 0;
  let number = 0;
  const ask = (): ClientRequest => {
    number += 1;
    const headers = { host: kind === 'forward' ? host : proxy, ...(number % USES === 0 ? { connection: 'close' } : {}) };
    return kind === 'forward' ? request({ host: proxy, port: 3128, agent, path: `http://${host}/api/status`, headers }) : request({ host: proxy, port: 8080, agent, path: `/${kind === 'parent' ? 'parent' : 'eco'}/api/status`, headers });
  };
  setInterval(() => {
    if (under >= MOST_AT_ONCE) return;
    under += 1;
    void call(ask).then(() => (under -= 1));
  }, EVERY_MS);
}
process.stdout.write('ready\n');
