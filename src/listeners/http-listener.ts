/**
 * One HTTP port: the server, its clocks and limits, and what is not HTTP at
 * all. Requests go to HttpForms; this file knows nothing of what they ask for.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Config, HttpListenerConfig } from '../config/config.ts';
import { Fault, type FaultCode } from '../errors.ts';
import { quote } from '../target/quote.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import type { Arrival, HttpForms } from './http-forms.ts';
import { closeGently, refuseSocket } from './refuse.ts';
import { isAnswering, isLastAnswered, noteResponse } from './turn.ts';
import { visitOf } from './visit.ts';
import { recognise } from './wrong-protocol.ts';

/** Client connections of all listeners together. */
export interface ConnectionCount {
  /** False when the limit is reached. Each true is answered by one `leave`. */
  enter(): boolean;
  leave(): void;
}

export interface HttpListenerOptions {
  readonly listener: HttpListenerConfig;
  readonly config: Pick<Config, 'name' | 'limits' | 'timeouts'>;
  readonly forms: HttpForms;
  readonly connections: ConnectionCount;
  /** Told of each fault that no request belongs to, when it has been answered. */
  readonly onConnectionFault: (record: AccessRecord, fault: Fault) => void;
}

export interface HttpListener {
  readonly address: AddressInfo;
  /** Accepts no more connections and closes idle ones; the others close after their response. */
  stop(): void;
  /** Resolves when every connection is closed. */
  readonly closed: Promise<void>;
  /** Closes every connection now. */
  destroy(): void;
}

/** TCP keep-alive, ms: below the idle timeouts of NAT and firewalls on the way. */
const TCP_KEEPALIVE = 30_000;

/** Faults of Node's parser that are about where the message ends, the ground of request smuggling. */
const FRAMING_ERRORS: ReadonlySet<string> = new Set([
  'HPE_INVALID_TRANSFER_ENCODING',
  'HPE_UNEXPECTED_CONTENT_LENGTH',
  'HPE_INVALID_CONTENT_LENGTH',
  'HPE_INVALID_CHUNK_SIZE',
  'HPE_CHUNK_EXTENSIONS_OVERFLOW',
  'HPE_STRICT',
]);

/** @throws when the address cannot be bound, with the system's error */
export async function openHttpListener(options: HttpListenerOptions): Promise<HttpListener> {
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
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEPALIVE,
    noDelay: true,
    // Only WebSocket leaves HTTP; h2c and others are served as plain requests (RFC 9110 §7.8 lets a server ignore Upgrade).
    shouldUpgradeCallback: (request) => request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket',
  });
  // Node would drop fields beyond its own limit in silence; HttpForms counts them aloud.
  server.maxHeadersCount = 0;
  const sockets = new Set<Socket>();
  attach(server, sockets, options);
  await listen(server, options.listener);
  const closed = new Promise<void>((resolve) => {
    server.once('close', resolve);
  });
  return {
    // A server listening on an IP address has no other kind of address.
    address: server.address() as AddressInfo,
    closed,
    stop() {
      server.close();
    },
    destroy() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function attach(server: Server, sockets: Set<Socket>, options: HttpListenerOptions): void {
  const { forms, listener, connections } = options;
  const arrive = (req: IncomingMessage, expectsContinue: boolean, upgradeHead: Buffer | null): Arrival => ({
    forms: listener.forms,
    clientAddress: addressOf(req.socket),
    expectsContinue,
    upgradeHead,
  });

  server.on('connection', (socket: Socket) => {
    if (!connections.enter()) {
      refuseConnection(socket, new Fault('limit-reached', `${options.config.limits.connections} client connections are open`, { retryAfter: 1, remedy: 'raise limits.connections' }), options);
      return;
    }
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      connections.leave();
    });
  });
  // A connection that was refused above still has Node's parser on it: what it sends is not served. Neither is what
  // stands behind the request whose answer was announced as the last (RFC 9112 §9.6).
  const refused = (req: IncomingMessage): boolean => !sockets.has(req.socket) || isLastAnswered(req.socket);
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
function takeOver(req: IncomingMessage, socket: Socket, options: HttpListenerOptions): boolean {
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
  socket.once('close', onClose);
  res.once('finish', () => {
    socket.off('close', onClose);
    res.detachSocket(socket);
    socket.end();
    closeGently(socket);
  });
  return res;
}

type ParserError = NodeJS.ErrnoException & { reason?: string; rawPacket?: Buffer };

function onClientError(error: ParserError, socket: Socket, options: HttpListenerOptions): void {
  const code = error.code ?? '';
  // What comes after the last answer, or after the request that was to be the last, is not looked at (RFC 9112 §9.6).
  if (code.startsWith('HPE_') && (isLastAnswered(socket) || (code === 'HPE_CLOSED_CONNECTION' && isAnswering(socket)))) return;
  const fault = socket.writable ? faultOf(error, code, socket) : null;
  if (fault === null) {
    // Gone, or never said anything: a health check, a scan. Nobody to answer, nothing to report.
    socket.destroy();
    return;
  }
  const visit = visitOf(socket);
  if (visit !== null) {
    visit.broke(fault);
    socket.destroySoon();
  } else if (isAnswering(socket)) cutConnection(socket, fault, options);
  else refuseConnection(socket, fault, options);
}

function refuseConnection(socket: Socket, fault: Fault, options: HttpListenerOptions): void {
  const record = options.forms.record(addressOf(socket));
  refuseSocket(socket, fault, record.requestId, options.config.name);
  options.onConnectionFault(record, fault);
}

/** Where an answer would stand in the middle of another one: the client sees that one cut off, the log says why. */
function cutConnection(socket: Socket, fault: Fault, options: HttpListenerOptions): void {
  options.onConnectionFault(options.forms.record(addressOf(socket)), fault);
  socket.destroy();
}

function faultOf(error: ParserError, code: string, socket: Socket): Fault | null {
  const { rawPacket } = error;
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return socket.bytesRead === 0 ? null : new Fault('request-timeout', 'the request headers did not arrive in time', { cause: error });
  }
  if (code === 'HPE_HEADER_OVERFLOW') return new Fault('headers-too-large', 'the header section is larger than limits.headerBytes', { cause: error });
  if (code === 'HPE_INVALID_EOF_STATE' || !code.startsWith('HPE_')) return null;
  // Only what stands first on a connection can be another protocol.
  const mistake = socket.bytesRead === rawPacket?.length ? recognise(rawPacket) : null;
  if (mistake !== null) return mistake;
  const kind: FaultCode = FRAMING_ERRORS.has(code) ? 'framing-forbidden' : 'request-malformed';
  return new Fault(kind, `${error.reason ?? error.message} (${code})`, { cause: error });
}

/** An IPv4 client of a dual-stack listener is known by its IPv4 address. */
function addressOf(socket: Socket): string {
  const address = socket.remoteAddress ?? '-';
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

function listen(server: Server, { host, port }: HttpListenerConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
