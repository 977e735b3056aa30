/** The admin listener: metrics, health, readiness, explanations and a status page. Nothing of it is ever on a proxy port. */
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import fastify from 'fastify';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Registry } from 'prom-client';
import type { ListenAddress } from '../config/config.ts';
import type { SourceView } from '../source-ip/source-view.ts';
import { addExplainRoutes, type Explaining } from './explain-routes.ts';
import { PROBLEM_TYPE, problemBody, rawProblem } from './problem.ts';
import type { ProblemStatus } from './problem.ts';
import type { AdminInfo, Readiness } from './status-page.ts';
import { STATUS_PAGE_CSP, renderStatusPage } from './status-page.ts';

/** Few and small clients come here: probes, a scraper, a person. Times in ms. */
const MAX_CONNECTIONS = 256;
const MAX_HEADER_BYTES = 16_384;
const REQUEST_TIMEOUT = 10_000;
/** Above the usual scrape interval, so that a scraper keeps its connection. */
const KEEP_ALIVE = 65_000;
const IDLE_TIMEOUT = 75_000;
const LINGER = 1000;
/** The most frequent denials on the status page. */
const DENIALS_SHOWN = 10;

const ELSEWHERE = 'This is the admin port of eco-egress; requests to be forwarded belong to its proxy ports.';

export interface AdminOptions {
  readonly registry: Registry;
  /** Asked at every `/readyz`; must not throw. */
  readonly readiness: () => Readiness;
  /** Asked at every status page; must not throw. */
  readonly info: () => AdminInfo;
  readonly explainer: Explaining;
  /** Asked at every `/source-ip` and status page; must not throw. */
  readonly sourceIp: () => SourceView;
  /** Longest time a request may take to arrive, ms. */
  readonly requestTimeout?: number;
}

export interface Admin {
  readonly address: AddressInfo;
  /** Stops listening and closes every connection, in use or not. */
  close(): Promise<void>;
}

export interface AdminApp {
  /** Rejects, and leaves nothing open, when the address cannot be bound; port 0 lets the system choose. */
  listen(address: ListenAddress): Promise<Admin>;
}

export function createAdmin(options: AdminOptions): AdminApp {
  const { requestTimeout = REQUEST_TIMEOUT } = options;
  const app = fastify({
    logger: false,
    bodyLimit: 1024,
    requestTimeout,
    keepAliveTimeout: KEEP_ALIVE,
    connectionTimeout: IDLE_TIMEOUT,
    forceCloseConnections: true,
    http: { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: requestTimeout, connectionsCheckingInterval: requestTimeout / 2 },
    clientErrorHandler: answerUnreadable,
    frameworkErrors: (_error, _request, reply) => {
      refuse(reply, 400, 'The path is not valid.');
    },
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  // Node would cut such a connection without a word.
  app.server.on('connect', (_request, socket) => {
    answerAndClose(socket, rawProblem(405, 'This is the admin port of eco-egress; CONNECT belongs to its proxy ports.'));
  });
  addRoutes(app, options);
  addRefusals(app);

  return {
    listen: async ({ host, port }) => {
      try {
        await app.listen({ host, port });
        const address = app.server.address();
        if (address === null || typeof address === 'string') throw new Error('the admin listener has no address');
        return { address, close: () => app.close() };
      } catch (error) {
        await app.close();
        throw error;
      }
    },
  };
}

function addRoutes(app: FastifyInstance, { registry, readiness, info, explainer, sourceIp }: AdminOptions): void {
  app.addHook('onRequest', (request, reply, next) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
    if (request.method !== 'GET' && request.method !== 'HEAD') refuse(reply, 405, 'The admin port changes nothing, it only shows.');
    // A router would look at the path alone, and the client take our page for the partner's.
    else if (request.raw.url?.startsWith('/') !== true) refuse(reply, 404, ELSEWHERE);
    else next();
  });
  app.get('/', (_request, reply) => {
    reply.type('text/html; charset=utf-8').header('content-security-policy', STATUS_PAGE_CSP).header('referrer-policy', 'no-referrer');
    reply.send(renderStatusPage(info(), readiness(), sourceIp(), explainer.denials(DENIALS_SHOWN, 0), process.uptime()));
  });
  app.get('/metrics', async (_request, reply) => {
    reply.type(registry.contentType);
    return registry.metrics();
  });
  app.get('/healthz', (_request, reply) => {
    reply.send({ status: 'alive' });
  });
  app.get('/readyz', (_request, reply) => {
    const { ready, reasons, warnings } = readiness();
    reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', reasons, warnings });
  });
  app.get('/source-ip', (_request, reply) => {
    reply.send(sourceIp());
  });
  addExplainRoutes(app, explainer);
}

function addRefusals(app: FastifyInstance): void {
  app.setNotFoundHandler((_request, reply) => {
    refuse(reply, 404, ELSEWHERE);
  });
  app.setErrorHandler((_error, _request, reply) => {
    refuse(reply, 500, 'The answer could not be made; the process itself goes on.');
  });
}

function refuse(reply: FastifyReply, status: ProblemStatus, detail: string): void {
  // A refused request may have a body we will not read: the connection cannot be used again.
  if (status === 405) reply.header('allow', 'GET, HEAD').header('connection', 'close');
  reply.code(status).type(PROBLEM_TYPE).send(problemBody(status, detail));
}

/** Bytes that are no request. The socket is ours to close. */
function answerUnreadable(error: Error & { code?: string; rawPacket?: unknown }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
  else answerAndClose(socket, describeUnreadable(error.code, error.rawPacket));
}

function describeUnreadable(code: string | undefined, packet: unknown): string {
  if (code === 'HPE_HEADER_OVERFLOW') return rawProblem(431, `At most ${MAX_HEADER_BYTES} bytes.`);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return rawProblem(408, 'Send it faster, or ask again.');
  // A TLS record of a handshake begins with 22 (RFC 8446 §5.1).
  if (Buffer.isBuffer(packet) && packet[0] === 22) return rawProblem(400, 'TLS was spoken to the admin port, which is plain HTTP: use http://.');
  return rawProblem(400, 'The bytes received are not an HTTP/1.1 request.');
}

/** Reads on for a moment, because closing over unread bytes would reset the connection and lose the answer (RFC 9112 §9.6). */
function answerAndClose(socket: Duplex & { setTimeout?: Socket['setTimeout'] }, answer: string): void {
  // The client went away by itself: nobody is left to tell, and the socket closes.
  socket.on('error', () => {});
  socket.setTimeout?.(LINGER, () => {
    socket.destroy();
  });
  socket.end(answer);
  socket.resume();
}
