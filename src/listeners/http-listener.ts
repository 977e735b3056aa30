/**
 * One HTTP port: the server, its clocks and limits, and what is not HTTP at
 * all. Requests go to HttpForms; this file knows nothing of what they ask for.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Config, HttpListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { quote } from '../target/quote.ts';
import type { ConnectionCount } from './connection-count.ts';
import type { Arrival, HttpForms } from './http-forms.ts';
import { parserFault, type ParserError } from './parser-fault.ts';
import { receiveProxyHeader } from './proxied-socket.ts';
import { closeGently, refuseSocket } from './refuse.ts';
import { connectionPeer, createPeerReader, noteProxyHeader, type PeerReader } from './trusted-peers.ts';
import { isAnswering, isOver, noteDeclinedUpgrade, noteResponse } from './turn.ts';
import { endUnread, type VisitContext, visitOf } from './visit.ts';

export interface HttpListenerOptions {
  readonly listener: HttpListenerConfig;
  readonly config: Pick<Config, 'name' | 'limits' | 'timeouts'>;
  readonly forms: HttpForms;
  readonly connections: ConnectionCount;
  readonly context: VisitContext;
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
    shouldUpgradeCallback: (request) => {
      if (request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket') return true;
      noteDeclinedUpgrade(request.socket);
      return false;
    },
  });
  // Node would drop fields beyond its own limit in silence; HttpForms counts them aloud.
  server.maxHeadersCount = 0;
  const sockets = new Set<Socket>();
  /** Those among them whose PROXY header has not come yet: the server does not know of them. */
  const awaited = new Set<Socket>();
  attach(server, sockets, awaited, options);
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
      for (const socket of awaited) socket.destroy();
      // Node takes a connection for idle only after its first request. What has arrived is read in the turn between.
      setImmediate(setImmediate, () => {
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      });
    },
    destroy() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function attach(server: Server, sockets: Set<Socket>, awaited: Set<Socket>, options: HttpListenerOptions): void {
  const { forms, listener, connections } = options;
  const peers = createPeerReader(listener);
  const arrive = (req: IncomingMessage, expectsContinue: boolean, upgradeHead: Buffer | null): Arrival => {
    const neighbour = connectionPeer(req.socket);
    const peer = peers.read(req.socket, req.rawHeaders);
    const fault = peer instanceof Fault ? peer : null;
    return { forms: listener.forms, peer: peer instanceof Fault ? neighbour : peer, neighbour: neighbour.address, fault, expectsContinue, upgradeHead };
  };

  const admit = (socket: Socket): boolean => {
    if (!connections.enter()) {
      refuseConnection(socket, new Fault('limit-reached', `${connections.limit} client connections are open`, { retryAfter: 1, remedy: 'raise limits.connections' }), options);
      return false;
    }
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      connections.leave();
    });
    return true;
  };
  if (listener.proxyProtocol === 'off') server.on('connection', admit);
  else serveBehindProxyHeader(server, admit, awaited, peers, options);
  // A connection that was refused above still has Node's parser on it: what it sends is not served.
  const refused = (req: IncomingMessage): boolean => !sockets.has(req.socket) || isOver(req.socket);
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
 * Connections of trusted peers are given to node:http once their PROXY header
 * has been read. The server listens itself all the same: its own clocks run
 * only then (docs/decisions/0080-proxy-protocol.md).
 */
function serveBehindProxyHeader(server: Server, admit: (socket: Socket) => boolean, awaited: Set<Socket>, peers: PeerReader, options: HttpListenerOptions): void {
  const serve = server.listeners('connection');
  server.removeAllListeners('connection');
  const handOver = (socket: Socket): void => {
    for (const listener of serve) listener.call(server, socket);
  };
  server.on('connection', (socket: Socket) => {
    if (!admit(socket)) return;
    if (!peers.trusts(socket)) {
      handOver(socket);
      return;
    }
    awaited.add(socket);
    receiveProxyHeader(socket, {
      timeout: options.config.timeouts.requestHeaders,
      onHeader(header) {
        noteProxyHeader(socket, header);
        handOver(socket);
      },
      onFault(fault) {
        refuseConnection(socket, fault, options);
      },
      onEnd() {
        awaited.delete(socket);
      },
    });
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
  // Nor are its clocks heard any more: the exchange sets them for a client that does not read.
  const onTimeout = (): void => {
    if (!res.emit('timeout')) socket.destroy();
  };
  socket.once('close', onClose);
  socket.on('timeout', onTimeout);
  res.once('finish', () => {
    socket.off('close', onClose);
    socket.off('timeout', onTimeout);
    res.detachSocket(socket);
    socket.end();
    closeGently(socket);
  });
  return res;
}

function onClientError(error: ParserError, socket: Socket, options: HttpListenerOptions): void {
  const code = error.code ?? '';
  const visit = visitOf(socket);
  // Bytes behind the last request; those of its own body are another matter.
  if (code.startsWith('HPE_') && isOver(socket) && visit?.req.complete !== false) return;
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

function refuseConnection(socket: Socket, fault: Fault, options: HttpListenerOptions): void {
  const record = options.forms.record(connectionPeer(socket).address);
  refuseSocket(socket, fault, record.requestId, options.config.name);
  endUnread(options.context, record, fault);
}

/** Where an answer would stand in the middle of another one: the client sees that one cut off, the log says why. */
function cutConnection(socket: Socket, fault: Fault, options: HttpListenerOptions): void {
  endUnread(options.context, options.forms.record(connectionPeer(socket).address), fault);
  socket.destroy();
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
