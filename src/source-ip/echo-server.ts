/**
 * Answers every caller with its source address: the endpoint for probes, on the
 * partner's side or on a VM. Keeps no data, and limits everything that a caller
 * can make it hold.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { ListenAddress, PeerHeader } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { createServer } from '../lean-imports.ts';
import { bindServer } from '../listeners/connection-gate.ts';
import { receiveProxyHeader } from '../listeners/proxy-protocol.ts';
import { type ClientPeer, createPeerReader, peerInHeader, peerOf, type PeerReader } from '../listeners/trusted-peers.ts';

/** Where the endpoint listens, and which peers it trusts. */
export interface EchoServerOptions {
  readonly listen: ListenAddress;
  /** CIDRs of the load balancers that may name their callers. */
  readonly trustedPeers: readonly string[];
  /** Connections of trusted peers begin with a PROXY header. */
  readonly proxyProtocol: boolean;
  /** Headers of trusted peers that are used. */
  readonly believe: readonly PeerHeader[];
}

/** A running endpoint; its creator closes it. */
export interface Echo {
  readonly address: AddressInfo;
  /** Accepts no more; current answers may end within a moment, the rest is cut. */
  close(): Promise<void>;
}

/** How the address is determined. */
type Via = 'connection' | 'proxy-protocol' | 'x-forwarded-for';

const ECHO_CONNECTIONS = 1024;
const ECHO_HEADER_BYTES = 8192;
/** Time limit for a PROXY header, and for a request, ms. */
const ARRIVAL = 10_000;
const ECHO_KEEP_ALIVE = 5_000;
/** Time for current answers at the end, ms. */
const ECHO_LINGER = 2_000;

/** Rejects with the system's error when the address cannot be bound. */
export async function openEcho(options: EchoServerOptions): Promise<Echo> {
  const peers = createPeerReader(options);
  const proxied = new WeakMap<Socket, ClientPeer>();
  const server = createServer(
    {
      maxHeaderSize: ECHO_HEADER_BYTES,
      headersTimeout: ARRIVAL,
      requestTimeout: ARRIVAL,
      keepAliveTimeout: ECHO_KEEP_ALIVE,
      connectionsCheckingInterval: ARRIVAL / 2,
    },
    (request, response) => {
      answer(request, response, () => readCaller(request, { peers, proxied, believes: options.believe.length > 0 }));
    },
  );
  server.maxConnections = ECHO_CONNECTIONS;
  if (options.proxyProtocol) receiveHeaders(server, peers, proxied);
  const sockets = keepSockets(server);
  await bindServer(server, options.listen);
  return {
    // A server listening on an IP address has no other kind of address.
    address: server.address() as AddressInfo,
    close: () => end(server, sockets),
  };
}

interface Caller {
  readonly ip: string;
  /** 0: unknown, because a trusted peer gave the address only. */
  readonly port: number;
  readonly via: Via;
}

interface Knowledge {
  readonly peers: PeerReader;
  /** Connections whose PROXY header named the caller. */
  readonly proxied: WeakMap<Socket, ClientPeer>;
  readonly believes: boolean;
}

function readCaller({ socket, rawHeaders, headers }: IncomingMessage, { peers, proxied, believes }: Knowledge): Caller | Fault {
  const own = proxied.get(socket) ?? peerOf(socket);
  const peer = peers.read(own, rawHeaders);
  if (peer instanceof Fault) return peer;
  const forwarded = believes && headers['x-forwarded-for'] !== undefined && peers.trusts(own.address);
  return { ip: peer.address, port: peer.port, via: forwarded ? 'x-forwarded-for' : proxied.has(socket) ? 'proxy-protocol' : 'connection' };
}

function answer(request: IncomingMessage, response: ServerResponse, whoAsks: () => Caller | Fault): void {
  // A body has no meaning here: it is not waited for.
  if (request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined)
    response.setHeader('connection', 'close');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    send(response, 405, 'Only GET and HEAD are served here.\n');
    return;
  }
  const path = request.url?.split('?')[0];
  if (path === '/healthz') {
    send(response, 200, 'alive\n');
    return;
  }
  if (path !== '/' && path !== '/json') {
    send(response, 404, 'GET / tells the address you come from, GET /json the same as JSON.\n');
    return;
  }
  const caller = whoAsks();
  if (caller instanceof Fault) send(response, 400, `${caller.advice}\n`);
  else if (path === '/json' || wantsJson(request.headers.accept))
    send(response, 200, `${JSON.stringify(caller)}\n`, 'application/json; charset=utf-8');
  else send(response, 200, `${caller.ip}\n`);
}

/** RFC 9110 §12.5.1, as needed for two choices: JSON if it is named and plain text is not. */
function wantsJson(accept = ''): boolean {
  return /\bapplication\/json\b/i.test(accept) && !/\btext\/plain\b/i.test(accept);
}

function send(response: ServerResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    vary: 'Accept',
    'x-content-type-options': 'nosniff',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

/** Every connection of a trusted peer must begin with a header; one without a valid one is closed. */
function receiveHeaders(server: Server, peers: PeerReader, proxied: WeakMap<Socket, ClientPeer>): void {
  const serve = takeConnections(server);
  server.on('connection', (socket: Socket) => {
    if (!peers.trusts(peerOf(socket).address)) {
      serve(socket);
      return;
    }
    receiveProxyHeader(socket, {
      timeout: ARRIVAL,
      onHeader(header) {
        const peer = peerInHeader(header);
        if (peer !== null) proxied.set(socket, peer);
        serve(socket);
      },
      onFault({ advice }) {
        socket.on('error', () => {});
        socket.end(
          `HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(advice) + 1}\r\n\r\n${advice}\n`,
          () => {
            socket.destroy();
          },
        );
      },
      onReset() {},
    });
  });
}

function keepSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
    });
  });
  return sockets;
}

function end(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, ECHO_LINGER);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
  });
}

// Intercepts the new connections of an HTTP server.

/**
 * Takes over a server's handler of new connections, for a listener that has to
 * inspect the connection first. Call it with the socket once that is HTTP. The
 * server itself must still listen: its own timers run only then
 * (docs/decisions/0080-proxy-protocol.md).
 */
function takeConnections(server: Server): (socket: Socket) => void {
  const serve = server.listeners('connection');
  server.removeAllListeners('connection');
  return (socket) => {
    for (const listener of serve) listener.call(server, socket);
  };
}
