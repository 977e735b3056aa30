/**
 * The same bytes to the proxy and to Node's own server, whose parser is strict:
 * wherever the proxy passes on what Node refuses, or takes other bytes for the
 * content or for the next request, two parties on one wire would disagree.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startChildProxy } from '../support/child-proxy.ts';
import { seeded } from '../support/random.ts';
import { conversation, pieces } from './grammar.ts';

export interface DifferOptions {
  readonly seed: number;
  readonly from: number;
  readonly cases: number;
  readonly within: number;
  readonly say: (line: string) => void;
}

export interface DifferReport {
  readonly done: number;
  /** Requests that both took, over all cases. */
  readonly agreed: number;
  readonly findings: readonly string[];
}

/** Codes of llhttp for a request line that it does not take. */
const REQUEST_LINE = /^HPE_INVALID_(?:METHOD|URL|VERSION|CONSTANT)$/;
/** One after the other within a lane: what reaches a lane's partner is of its case. */
const LANES = 16;
/** `limits.headerBytes` of both. */
const HEADER_BYTES = 64 * 1024;

interface Taken {
  readonly method: string;
  /** As the request itself says. */
  readonly number: number;
  readonly body: string;
}

/** A strict server that says what it took. */
class Reader {
  readonly server: Server;
  taken: Taken[] = [];
  /** Requests whose end has not come. */
  open = 0;
  /**
   * It read nothing more, where the proxy may go on: behind a CONNECT, which the proxy may refuse alone,
   * behind a request line that it does not take (the proxy serves any method, RFC 9110 §16.1, and refuses a target alone),
   * and behind content, or chunks without any, that came with an Upgrade which it ignored: there Node stops, although RFC 9110 §7.8 has it go on.
   */
  readsNoFurther = false;

  constructor() {
    const take = (req: IncomingMessage, res: ServerResponse): void => {
      let body = '';
      this.open += 1;
      req.on('data', (chunk: Buffer) => {
        body += chunk.toString('latin1');
      });
      req.once('end', () => {
        // RFC 9112 §3.2: a request without Host is refused, and no more than that. Where the next one begins is plain.
        if (req.headers.host !== undefined || req.httpVersion === '1.0') this.taken.push({ method: req.method ?? '', number: Number(req.headers['x-case'] ?? /\/case\/(\d+)/.exec(req.url ?? '')?.[1] ?? NaN), body });
        this.readsNoFurther ||= (body !== '' || req.headers['transfer-encoding'] !== undefined) && req.headers.upgrade !== undefined;
        res.end('ok');
      });
      req.once('error', () => {});
      res.once('close', () => {
        this.open -= 1;
      });
    };
    // Node would close for want of Host: `take` refuses that request alone. The limit is that of the proxy.
    this.server = createServer({ insecureHTTPParser: false, requireHostHeader: false, maxHeaderSize: HEADER_BYTES, keepAliveTimeout: 1000, requestTimeout: 3000, headersTimeout: 3000, connectionsCheckingInterval: 500 }, take);
    this.server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
      // Without it Node closes behind its answer, and takes of what follows only what it has read by then.
      res.writeContinue();
      take(req, res);
    });
    this.server.on('connect', (_req, socket) => {
      this.readsNoFurther = true;
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
    this.server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      this.readsNoFurther ||= REQUEST_LINE.test(error.code ?? '');
      if (!socket.destroyed) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    const address = this.server.address();
    if (address === null || typeof address === 'string') throw new Error('not a TCP server');
    return address.port;
  }
}

export async function differ({ seed, from, cases, within, say }: DifferOptions): Promise<DifferReport> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-differ-'));
  const lanes = await Promise.all(
    Array.from({ length: LANES }, async (_, i) => {
      const [node, partner] = [new Reader(), new Reader()];
      return { node, partner, nodePort: await node.listen(), partnerPort: await partner.listen(), host: `lane${i}.telus.internal` };
    }),
  );
  const [first] = lanes;
  if (first === undefined) throw new Error('no lanes');
  const proxy = await startChildProxy({
    directory,
    ports: { https: first.partnerPort, http: first.partnerPort },
    onLine: () => {},
    configure: (draft) => {
      draft.destinations.eco['gateway'] = undefined;
      lanes.forEach(({ host, partnerPort }, i) => {
        draft.destinations[`lane${i}`] = { hosts: [host], ports: [partnerPort], addresses: ['127.0.0.0/8'], gateway: { prefix: `/lane${i}`, url: `http://${host}:${partnerPort}` } };
        draft.rules.push({ clients: ['pods'], destinations: [`lane${i}`] });
      });
      draft.limits['headerBytes'] = `${HEADER_BYTES}B`;
      Object.assign(draft.timeouts, { requestHeaders: '2s', body: '2s', responseHeaders: '5s', keepAlive: '1s' });
    },
  });
  const findings: string[] = [];
  const began = performance.now();
  let next = from;
  let done = 0;
  let agreed = 0;
  const run = async ({ node, partner, nodePort, partnerPort, host }: (typeof lanes)[number], lane: number): Promise<void> => {
    while (next < from + cases && performance.now() - began < within && proxy.death === null) {
      const number = next;
      next += 1;
      const random = seeded((Math.imul(seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b)) >>> 0);
      // Said for a host of its own, so that a case is the same in every lane.
      const said = conversation(random, { host: 'HOST', others: [], prefix: '/PREFIX', path: `/case/${number}` });
      const text = said.replaceAll('HOST', `${host}:${partnerPort}`).replaceAll('/PREFIX', `/lane${lane}`);
      const cut = pieces(random, text);
      [node.taken, partner.taken, node.readsNoFurther] = [[], [], false];
      await Promise.all([talk(nodePort, cut), talk(proxy.port, cut)]);
      // What the partner has of it ends with the proxy's exchange, a moment after the client's connection.
      for (let i = 0; i < 100 && partner.open > 0; i += 1) await delay(5);
      // A late one of the case before is not of this one.
      const ours = partner.taken.filter((taken) => taken.number === number);
      const finding = compare(node, ours);
      if (finding === null) agreed += Math.min(node.taken.length, ours.length);
      else findings.push(`case ${number}: ${finding}; bytes: ${JSON.stringify(said.slice(0, 1500))}`);
      done += 1;
      if (done % 10_000 === 0) say(`${done} cases, ${Math.round((performance.now() - began) / 1000)} s, ${findings.length} findings`);
    }
  };
  await Promise.all(lanes.map(run));
  if (proxy.death !== null) findings.push(`the process died at or before case ${next - 1}: ${proxy.death}`);
  for (const { node, partner } of lanes) {
    for (const { server } of [node, partner]) {
      server.closeAllConnections();
      server.close();
    }
  }
  await proxy.close();
  rmSync(directory, { recursive: true, force: true });
  return { done, agreed, findings };
}

/** What the proxy passed on has to be among what the strict server took, in its order: the proxy may refuse more, never less. */
function compare({ taken: node, readsNoFurther }: Reader, ours: readonly Taken[]): string | null {
  let at = 0;
  for (const { method, body } of ours) {
    // Targets and fields are rewritten: method and content tell messages apart.
    while (at < node.length && (node[at]?.method !== method || node[at]?.body !== body)) at += 1;
    if (at === node.length) return readsNoFurther ? null : `the proxy passed on ${list(ours)}, and a strict server takes ${list(node)}`;
    at += 1;
  }
  return null;
}

const list = (all: readonly Taken[]): string => (all.length === 0 ? 'nothing' : all.map(({ method, body }) => `${method} with ${JSON.stringify(body.slice(0, 60))}`).join(', '));

/** Says all of it and then that this is all; settles when the connection is over. */
async function talk(port: number, cut: readonly string[]): Promise<void> {
  const socket: Socket = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
  socket.on('error', () => {});
  socket.resume();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  for (const piece of cut) {
    if (socket.destroyed) break;
    socket.write(piece, 'latin1');
    if (cut.length > 1) await delay(1);
  }
  // An end at once would be a client that has left: the answers are waited for.
  await Promise.race([closed, new Promise((resolve) => socket.once('end', resolve)), quiet(socket)]);
  socket.end();
  const clock = new AbortController();
  await Promise.race([closed, delay(6000, undefined, { signal: clock.signal }).catch(() => {})]);
  clock.abort();
  socket.destroy();
}

/** Settles when nothing has come for a while. */
async function quiet(socket: Socket): Promise<void> {
  for (let seen = -1; seen !== socket.bytesRead; ) {
    seen = socket.bytesRead;
    await delay(150);
  }
}
