/**
 * HTTP/1.1 on the connections of a listener, plain or inside TLS: the parser,
 * its clocks and limits, and what is not HTTP at all. Requests go to
 * HttpForms; this file knows nothing of what they ask for.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Config, ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { quote } from '../target/quote.ts';
import type { Arrival, HttpForms } from './http-forms.ts';
import { parserFault, type ParserError } from './parser-fault.ts';
import { closeGently, refuseSocket } from './refuse.ts';
import { connectionFault, connectionPeer, type PeerReader } from './trusted-peers.ts';
import { isAnswering, isOver, noteDeclinedUpgrade, noteResponse } from './turn.ts';
import { endUnread, type VisitContext, visitOf } from './visit.ts';

export interface HttpServerOptions {
  readonly listener: ListenerConfig;
  readonly config: Pick<Config, 'name' | 'limits' | 'timeouts'>;
  readonly forms: HttpForms;
  readonly context: VisitContext;
  readonly peers: PeerReader;
  /** Whether a connection was let in: Node's parser reads also from others. */
  readonly serves: (socket: Socket) => boolean;
}

/** Not yet listening. Whoever makes it listen owns its connections. */
export function createHttpServer(options: HttpServerOptions): Server {
  const { limits, timeouts } = options.config;
  const server = createServer({
    // Missing Host is refused in our own words (target/request-target.ts).
    requireHostHeader: false,
    maxHeaderSize: limits.headerBytes,
    headersTimeout: timeouts.requestHeaders,
    // Bodies may take as long as they move: exchanges have their own clocks.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.max(50, Math.min(5_000, timeouts.requestHeaders / 4)),
    keepAliveTimeout: timeouts.keepAlive,
    noDelay: true,
    // Only WebSocket leaves HTTP; h2c and others are served as plain requests (RFC 9110 §7.8 lets a server ignore Upgrade).
    shouldUpgradeCallback: (request) => {
      if (request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket') return true;
      noteDeclinedUpgrade(request.socket);
      return false;
    },
  });
  // Node would drop fields beyond its own limit in silence; HttpForms counts them aloud.
  server.maxHeadersCount = 0;
  attach(server, options);
  return server;
}

function attach(server: Server, options: HttpServerOptions): void {
  const { forms, listener, peers, serves } = options;
  const arrive = (req: IncomingMessage, expectsContinue: boolean, upgradeHead: Buffer | null): Arrival => {
    const { socket } = req;
    const neighbour = connectionPeer(socket);
    const peer = peers.read(socket, req.rawHeaders);
    return {
      forms: listener.forms,
      peer: peer instanceof Fault ? neighbour : peer,
      neighbour: neighbour.address,
      scheme: socket instanceof TLSSocket ? 'https' : 'http',
      fault: connectionFault(socket) ?? (peer instanceof Fault ? peer : null),
      expectsContinue,
      upgradeHead,
    };
  };
  // A connection that was turned away still has Node's parser on it: what it sends is not served.
  const refused = (req: IncomingMessage): boolean => !serves(req.socket) || isOver(req.socket);
  server.on('request', (req, res) => {
    if (refused(req)) return;
    noteResponse(req.socket, res);
    forms.onRequest(req, res, arrive(req, false, null));
  });
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    if (refused(req)) return;
    noteResponse(req.socket, res);
    forms.onRequest(req, res, arrive(req, true, null));
  });
  server.on('checkExpectation', (req: IncomingMessage, res: ServerResponse) => {
    if (refused(req)) return;
    noteResponse(req.socket, res);
    // RFC 9110 §10.1.1.
    forms.refuse(req, res, arrive(req, false, null), new Fault('expectation-failed', `the expectation is ${quote(req.headers.expect ?? '')}`));
  });
  server.on('connect', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    if (!refused(req) && takeOver(req, socket, options)) forms.onConnect(req, socket, head, arrive(req, false, null));
  });
  server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    if (!refused(req) && takeOver(req, socket, options)) forms.onRequest(req, responseOn(req, socket), arrive(req, false, head));
  });
  server.on('clientError', (error: ParserError, socket: Socket) => {
    onClientError(error, socket, options);
  });
}

/**
 * Node lets go of the socket of a CONNECT or an upgrade: its clocks end, and its errors need somebody to hear them.
 * @returns false when the connection was cut instead: the client did not wait for an earlier answer, so there is no
 *   place for this one.
 */
function takeOver(req: IncomingMessage, socket: Socket, options: HttpServerOptions): boolean {
  socket.setTimeout(0);
  // 'close' follows, which every owner of the socket listens for.
  socket.on('error', () => {});
  if (!isAnswering(socket)) return true;
  const what = req.method === 'CONNECT' ? 'a CONNECT' : 'an upgrade';
  cutConnection(socket, new Fault('framing-forbidden', `${what} was sent before the request ahead of it was answered`, { remedy: 'wait for the answer, or use another connection' }), options);
  return false;
}

/** Node leaves a socket that asked for an upgrade without a response; this one answers when there is none, and then closes. */
function responseOn(req: IncomingMessage, socket: Socket): ServerResponse {
  const res = new ServerResponse(req);
  res.shouldKeepAlive = false;
  res.assignSocket(socket);
  const onClose = (): void => {
    res.emit('close');
  };
  const onEnd = (): void => {
    if (res.socket !== null) socket.destroy();
  };
  // Nor are its clocks heard any more: the exchange sets them for a client that does not read.
  const onTimeout = (): void => {
    if (!res.emit('timeout')) socket.destroy();
  };
  socket.once('close', onClose);
  // Whoever wants a WebSocket does not end its half before it has one.
  socket.once('end', onEnd);
  socket.on('timeout', onTimeout);
  res.once('finish', () => {
    socket.off('close', onClose);
    socket.off('end', onEnd);
    socket.off('timeout', onTimeout);
    res.detachSocket(socket);
    socket.end();
    closeGently(socket);
  });
  return res;
}

function onClientError(error: ParserError, socket: Socket, options: HttpServerOptions): void {
  const code = error.code ?? '';
  const visit = visitOf(socket);
  // Bytes behind the last request; those of its own body are another matter.
  if (code.startsWith('HPE_') && isOver(socket) && visit?.bodyPending !== true) return;
  // Too slow with the next request: the one before it is answered all the same, and is then the last.
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT' && visit !== null && !visit.bodyPending) {
    visit.closeAfter();
    return;
  }
  const fault = socket.writable ? parserFault(error, socket, options.listener.proxyProtocol) : null;
  if (fault === null) {
    // Gone, or never said anything: a health check, a scan. Nobody to answer, nothing to report.
    socket.destroy();
    return;
  }
  if (visit !== null) {
    visit.broke(fault);
    socket.destroySoon();
  } else if (isAnswering(socket)) cutConnection(socket, fault, options);
  else refuseConnection(socket, fault, options);
}

type Telling = Pick<HttpServerOptions, 'config' | 'forms' | 'context'>;

/** Answers, in HTTP, on a connection that no request belongs to, and closes it. */
export function refuseConnection(socket: Socket, fault: Fault, { config, forms, context }: Telling): void {
  const record = forms.record(connectionPeer(socket).address);
  refuseSocket(socket, fault, record.requestId, config.name);
  endUnread(context, record, fault, fault.kind.status);
}

/** Where an answer would stand in the middle of another one: the client sees that one cut off, the log says why. */
function cutConnection(socket: Socket, fault: Fault, { forms, context }: Telling): void {
  endUnread(context, forms.record(connectionPeer(socket).address), fault, fault.kind.status);
  socket.destroy();
}
