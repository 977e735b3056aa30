/**
 * The admin listener: metrics, health, readiness, explanations and a status
 * page. It is never served on a proxy port. It answers one request at a time
 * for each connection, in slices, so its callers cost the requests on the other
 * ports almost nothing.
 */
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { AdminListenerConfig, ListenAddress } from '../config/config.ts';
import { createServer, NO_SCHEMAS } from '../lean-imports.ts';
import type { SourceView } from '../source-ip/source-proof.ts';
import type { AdminRefusal } from '../telemetry/cells.ts';
import { HISTORY_STEP } from '../telemetry/history.ts';
import { Turns } from '../turns.ts';
import { refuseCaller } from './callers.ts';
import {
  addConfigRoutes,
  addExplainRoutes,
  addIncidentRoutes,
  addTrafficRoutes,
  type ConfigRoutes,
  type Explaining,
  INCIDENT_PATH,
  type IncidentAnswers,
  type Traffic,
} from './routes.ts';
import { ConnectionPlaces } from './connections.ts';
import { type ProblemStatus, rawProblem, sendProblem } from './problem.ts';
import { addStatusRoutes } from './status-page.ts';
import type { AdminInfo, Readiness, StatusSources } from './status-sources.ts';

/** It has few clients: probes, a scraper, a person. Times in ms. */
const ADMIN_CONNECTIONS = 256;
const MAX_OF_ONE_ADDRESS = 64;
/** Refused connections that get an answer; further ones are closed without one. */
const MAX_REFUSED = 32;
const ADMIN_HEADER_BYTES = 16_384;
const REQUEST_TIMEOUT = 5_000;
/** Idle time while a request is answered. */
const STALL_TIMEOUT = 30_000;
/** Above the usual scrape interval, so that a scraper keeps its connection. */
const ADMIN_KEEP_ALIVE = 65_000;
const ADMIN_LINGER = 1000;

const ELSEWHERE = 'This is the admin port of eco-egress; requests to be forwarded belong to its proxy ports.';
/** They have side effects, so a link must not trigger them: what to do instead. */
const POSTED: ReadonlyMap<string, string> = new Map([
  ['/reload', 'A reload changes something: send POST, or run npx eco-egress reload.'],
  [INCIDENT_PATH, 'This question makes the proxy connect to partners: send POST, or run npx eco-egress doctor --incident.'],
]);
/** Answered for any caller and any host name: their content is public. */
const PROBES: ReadonlySet<string> = new Set(['/healthz', '/readyz']);

/** The sources of the admin port, each read at the time of a request, and its callbacks for refusals and failures. */
export interface AdminOptions {
  readonly exposition: { readonly contentType: string; slices(): AsyncIterable<string> };
  /** Called at every `/readyz`; must not throw. */
  readonly readiness: () => Readiness;
  /** Called at every status page; must not throw. */
  readonly info: () => AdminInfo;
  readonly explainer: Explaining;
  readonly configuration: ConfigRoutes;
  readonly traffic: Traffic;
  /** Called at every `/source-ip` and status page; must not throw. */
  readonly sourceIp: () => SourceView;
  /** See `StatusSources`. */
  readonly circuits?: StatusSources['circuits'];
  /** Answers the incident question; absent: not served. */
  readonly incidents?: IncidentAnswers;
  /** Called for each refusal, with the caller; must not throw. */
  readonly onRefused?: (reason: AdminRefusal, address: string) => void;
  /** Called with the reason when an answer failed or was cut; must not throw. */
  readonly onFailed?: (error: Error) => void;
  /** Whether file descriptors are so short that a new connection should be accepted only after closing another. */
  readonly tight?: () => boolean;
  /** Longest time a request may take to arrive, ms. */
  readonly requestTimeout?: number;
}

/** The admin port while it listens; the caller of `listenAdmin` closes it. */
export interface Admin {
  readonly address: AddressInfo;
  /** Stops listening and closes every connection, in use or not. */
  close(): Promise<void>;
}

/** Opens the admin port. Rejects, and leaves nothing open, when the address cannot be bound; port 0 lets the system choose. */
export async function listenAdmin(
  options: AdminOptions,
  { host, port, hosts = [] }: ListenAddress & Partial<AdminListenerConfig>,
): Promise<Admin> {
  const app = createApp(options, hosts);
  try {
    await app.listen({ host, port });
    const address = app.server.address();
    if (address === null || typeof address === 'string') throw new Error('the admin listener has no address');
    return { address, close: () => app.close() };
  } catch (error) {
    await app.close();
    throw error;
  }
}

type OnRefused = NonNullable<AdminOptions['onRefused']>;

function createApp(options: AdminOptions, hosts: readonly string[]): FastifyInstance {
  const { requestTimeout = REQUEST_TIMEOUT, onRefused = () => {}, tight = () => false } = options;
  const places = new ConnectionPlaces({ most: ADMIN_CONNECTIONS, mostOfOne: MAX_OF_ONE_ADDRESS, tight, onRefused });
  const app = fastify({
    logger: false,
    bodyLimit: 1024,
    schemaController: NO_SCHEMAS,
    forceCloseConnections: true,
    serverFactory: (handle) => openServer(handle, requestTimeout, places, onRefused),
    clientErrorHandler: (error, socket) => {
      if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
      else if (places.owes(socket)) cutPipelined(socket, onRefused);
      else answerAndClose(socket, describeUnreadable(error.code, error.rawPacket));
    },
    routerOptions: { maxParamLength: ADMIN_HEADER_BYTES },
    frameworkErrors: (_error, _request, reply) => {
      refuseRequest(reply, 400, 'The path is not valid.');
    },
  });
  refuseContent(app);
  addChecks(app, hosts, onRefused);
  addRoutes(app, options, hosts);
  addRefusals(app, options.onFailed);
  return app;
}

function openServer(
  handle: Parameters<typeof createServer>[1] & {},
  requestTimeout: number,
  places: ConnectionPlaces,
  onRefused: OnRefused,
): Server {
  let refused = 0;
  const server = createServer(
    {
      maxHeaderSize: ADMIN_HEADER_BYTES,
      requestTimeout,
      headersTimeout: requestTimeout,
      connectionsCheckingInterval: requestTimeout / 2,
      keepAliveTimeout: ADMIN_KEEP_ALIVE,
      noDelay: true,
    },
    (req, res) => {
      const { socket } = req;
      if (places.begin(req)) {
        res.once('finish', () => {
          places.finish(socket);
        });
        handle(req, res);
      } else if (places.has(socket)) cutPipelined(socket, onRefused);
    },
  );
  server.setTimeout(STALL_TIMEOUT);
  server.prependListener('connection', (socket: Socket) => {
    if (places.enter(socket)) return;
    if (refused >= MAX_REFUSED) {
      socket.destroy();
      return;
    }
    refused += 1;
    socket.once('close', () => {
      refused -= 1;
    });
    answerAndClose(
      socket,
      rawProblem(
        503,
        `All ${ADMIN_CONNECTIONS} connections, or the ${MAX_OF_ONE_ADDRESS} of one address, are in use. Close some, or ask again.`,
      ),
    );
  });
  // Node would close such a connection without an answer.
  server.on('connect', (request, socket) => {
    if (places.begin(request))
      answerAndClose(socket, rawProblem(405, 'This is the admin port of eco-egress; CONNECT belongs to its proxy ports.'));
    else if (places.has(request.socket)) cutPipelined(request.socket, onRefused);
  });
  return server;
}

/** A client that pipelines could request any number of answers, and what is behind them may need one at once: no legitimate client of this port does. */
function cutPipelined(socket: Socket, onRefused: OnRefused): void {
  // The requests behind it, of the same segment, come here too.
  if (socket.destroyed) return;
  onRefused('pipelined', socket.remoteAddress ?? '');
  // Node has taken its listener away after a CONNECT.
  socket.on('error', () => {}).destroy();
}

/** Content of any type is refused, and none is none: curl and others name a type for it, too. */
function refuseContent(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, content, done) => {
    done(content.length === 0 ? null : Object.assign(new Error('content'), { statusCode: 400 }));
  });
}

function addChecks(app: FastifyInstance, hosts: readonly string[], onRefused: OnRefused): void {
  app.addHook('onRequest', (request, reply, next) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
    // The router would use the path only, and the client would take our page for the
    // partner's.
    if (request.raw.url?.startsWith('/') !== true) {
      refuseRequest(reply, 404, ELSEWHERE);
      return;
    }
    const refusal = PROBES.has(request.routeOptions.url ?? '') ? null : refuseCaller(request.headers, hosts);
    if (refusal !== null) {
      onRefused(refusal.reason, request.ip);
      refuseRequest(reply, refusal.status, refusal.detail);
      return;
    }
    const path = pathAsked(request);
    const reads = request.method === 'GET' || request.method === 'HEAD';
    if (POSTED.has(path) ? request.method !== 'POST' : !reads)
      refuseRequest(reply, 405, POSTED.get(path) ?? 'Only GET and HEAD are served here, and POST for /reload and /incident.');
    else next();
  });
}

function addRoutes(
  app: FastifyInstance,
  {
    exposition,
    readiness,
    info,
    explainer,
    configuration,
    traffic,
    sourceIp,
    circuits,
    incidents,
    onRefused = () => {},
    onFailed = () => {},
  }: AdminOptions,
  hosts: readonly string[],
): void {
  const turns = new Turns();
  const onBusy = (address: string): void => {
    onRefused('busy', address);
  };
  addStatusRoutes(app, {
    sources: { readiness, info, explainer, traffic, sourceIp, ...(circuits === undefined ? {} : { circuits }) },
    stepSeconds: HISTORY_STEP / 1000,
    turns,
    onBusy,
  });
  app.get('/metrics', (_request, reply) => {
    // At the pace of the scraper. Once the status has been sent, an error only cuts the answer.
    reply.type(exposition.contentType).send(Readable.from(exposition.slices(), { objectMode: false }).on('error', onFailed));
  });
  app.get('/healthz', (_request, reply) => {
    reply.send({ status: 'alive' });
  });
  app.get('/readyz', (request: FastifyRequest, reply) => {
    const { ready, reasons, warnings, notes = [], policyChange = null } = readiness();
    const status = ready ? 'ready' : 'not ready';
    // The reasons may name parts of the configuration: a probe needs only the
    // status.
    const answer =
      refuseCaller(request.headers, hosts) === null
        ? {
            status,
            reasons,
            warnings: [...warnings, ...notes],
            ...(policyChange?.different === true
              ? { policyChange: { at: policyChange.at, sentence: policyChange.sentence, classes: policyChange.classes } }
              : {}),
          }
        : { status };
    reply.code(ready ? 200 : 503).send(answer);
  });
  app.get('/source-ip', (_request, reply) => {
    reply.send(sourceIp());
  });
  addConfigRoutes(app, configuration, turns);
  addTrafficRoutes(app, traffic, turns);
  addExplainRoutes(app, explainer, turns, onBusy);
  if (incidents !== undefined) addIncidentRoutes(app, incidents, onBusy);
}

function addRefusals(app: FastifyInstance, onFailed: (error: Error) => void = () => {}): void {
  app.setNotFoundHandler((_request, reply) => {
    refuseRequest(reply, 404, ELSEWHERE);
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    // Content that is too large, or of an unsupported type.
    if (error.statusCode !== undefined && error.statusCode < 500) {
      refuseRequest(
        reply,
        400,
        'Send it without content; what there is to ask is in the path and its query.',
        'The content of the request is not read here',
      );
      return;
    }
    onFailed(error);
    refuseRequest(reply, 500, 'The answer could not be made; the process itself goes on.');
  });
}

/** Of the route, else as it was sent. */
const pathAsked = ({ routeOptions, url }: FastifyRequest): string => routeOptions.url ?? url.split(/[?#]/)[0] ?? '';

function refuseRequest(reply: FastifyReply, status: ProblemStatus, detail: string, title?: string): void {
  // A refused request may have a body that is not read: the connection cannot be reused.
  if (status === 405) reply.header('allow', POSTED.has(pathAsked(reply.request)) ? 'POST' : 'GET, HEAD').header('connection', 'close');
  sendProblem(reply, status, detail, title);
}

/** Bytes that are not a request. */
function describeUnreadable(code: string | undefined, packet: unknown): string {
  if (code === 'HPE_HEADER_OVERFLOW') return rawProblem(431, `At most ${ADMIN_HEADER_BYTES} bytes.`);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return rawProblem(408, 'Send it faster, or ask again.');
  // A TLS record of a handshake begins with 22 (RFC 8446 §5.1).
  if (Buffer.isBuffer(packet) && packet[0] === 22)
    return rawProblem(400, 'TLS was spoken to the admin port, which is plain HTTP: use http://.');
  return rawProblem(400, 'The bytes received are not an HTTP/1.1 request.');
}

/** Reads on for a moment, because closing over unread bytes would reset the connection and lose the answer (RFC 9112 §9.6). */
function answerAndClose(socket: Duplex, answer: string): void {
  // The client disconnected: no answer is possible, and the socket closes.
  socket.on('error', () => {});
  // Not the timeout of the socket: the server sets that for each new connection, and a client that sends on prolongs it.
  const clock = setTimeout(() => {
    socket.destroy();
  }, ADMIN_LINGER);
  socket.once('close', () => {
    clearTimeout(clock);
  });
  socket.end(answer);
  socket.resume();
}
