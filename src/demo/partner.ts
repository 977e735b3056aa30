/** The stand-in ECO SIT: the same endpoints over HTTPS and over plain HTTP, with a certificate of the authority it is given. */
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { crc32 } from 'node:zlib';
import type { ListenAddress } from '../config/config.ts';
import type { CertificateAuthority } from './authority.ts';

interface PartnerOptions {
  /** Signs the server certificate. */
  readonly authority: Pick<CertificateAuthority, 'issue'>;
  /** Host name the certificate is for. */
  readonly name: string;
  readonly https: ListenAddress;
  readonly http: ListenAddress;
}

interface PartnerAddresses {
  readonly https: AddressInfo;
  readonly http: AddressInfo;
}

interface Partner {
  /** Resolves once both servers accept; rejects with the bind error, and then neither does. */
  start(): Promise<PartnerAddresses>;
  /** Where it listens. Throws before `start` has resolved. */
  readonly addresses: PartnerAddresses;
  /** Stops accepting and cuts what is open. Safe to call twice. */
  close(): Promise<void>;
}

/** Longer than any client's pool keeps an idle connection, so that this side never closes one during a request. */
const KEEP_ALIVE_MS = 120_000;

/** A stand-in that listens from `start` to `close`; `start` rejects, and leaves nothing open, where a port is taken. */
export function createPartner(options: PartnerOptions): Partner {
  const servers: Server[] = [];
  let addresses: PartnerAddresses | null = null;

  const close = async (): Promise<void> => {
    await Promise.all(servers.splice(0).map(closeServer));
  };

  return {
    async start() {
      const { certPem, keyPem } = await options.authority.issue({ names: [options.name] });
      const handle = createPartnerEndpoints();
      const https = createHttpsServer({ cert: certPem, key: keyPem }, handle);
      const http = createHttpServer(handle);
      servers.push(https, http);
      try {
        addresses = { https: await listenAsPartner(https, options.https), http: await listenAsPartner(http, options.http) };
      } catch (error) {
        await close();
        throw error;
      }
      return addresses;
    },
    get addresses() {
      if (addresses === null) throw new Error('The stand-in partner has not started');
      return addresses;
    },
    close,
  };
}

async function listenAsPartner(server: Server, { host, port }: ListenAddress): Promise<AddressInfo> {
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, host);
  // `once` rejects when the server emits 'error', which is how a bind failure arrives.
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The stand-in partner has no TCP address');
  return address;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // The only error here is "not running", which is what was asked for.
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}

// The answers of the stand-in ECO SIT: endpoints that show the received request, and bodies of
// every kind.

const STAND_IN_NAME = 'ECO SIT stand-in';
const CHUNK = Buffer.alloc(65_536, 'eco-egress demo\n');
/** Greatest `/slow/MS`: five minutes. */
const LONGEST_WAIT_MS = 300_000;

interface Endpoint {
  readonly does: string;
  /** `number` is what follows the last slash of a path such as `/bytes/N`, NaN where that is no number. */
  answer(request: IncomingMessage, response: ServerResponse, number: number): void;
}

/** By exact path; a path that ends in a slash, `/` apart, takes one number after it. */
const ENDPOINTS = new Map<string, Endpoint>([
  [
    '/',
    {
      does: 'what this request looked like from here',
      answer: (request, response) => {
        respondJson(response, 200, { service: STAND_IN_NAME, ...describeRequest(request), endpoints: HELP });
      },
    },
  ],
  [
    '/api/status',
    {
      does: 'a small JSON answer',
      answer: (request, response) => {
        respondJson(response, 200, { service: STAND_IN_NAME, status: 'ok', ...describeRequest(request) });
      },
    },
  ],
  [
    '/headers',
    {
      does: 'the request headers, as they arrived',
      answer: (request, response) => {
        respondJson(response, 200, request.headers);
      },
    },
  ],
  ['/echo', { does: 'the request body, streamed back, whatever the method', answer: echo }],
  ['/bytes/', { does: 'that many bytes', answer: sendBytes }],
  ['/slow/', { does: 'an answer after that many milliseconds', answer: sendLater }],
  ['/status/', { does: 'an answer with that status, 200 to 599', answer: sendStatus }],
  ['/trailers', { does: 'a chunked body with a trailer field', answer: sendTrailers }],
  [
    '/redirect',
    {
      does: '302 to /api/status',
      answer: (_request, response) => {
        response.writeHead(302, { location: '/api/status' }).end();
      },
    },
  ],
]);
const HELP = Object.fromEntries([
  ...Array.from(ENDPOINTS, ([path, { does }]) => [path, does]),
  ['/metrics', 'metrics of ECO, not of the proxy'],
]) as Record<string, string>;

/** One handler for both servers, with one count of the requests seen. It reads unused bodies to their end. */
function createPartnerEndpoints(): RequestListener {
  let requests = 0;

  return (request, response) => {
    requests += 1;
    const [path = '/'] = (request.url ?? '/').split('?', 1);
    if (path !== '/echo') request.resume();
    // The request did not come through a proxy that would reuse the connection: a single request gets an orderly close,
    // by this side first.
    if (request.headers.via === undefined) response.shouldKeepAlive = false;
    if (path === '/metrics') {
      sendMetrics(response, requests);
      return;
    }
    const slash = path.lastIndexOf('/') + 1;
    const endpoint = ENDPOINTS.get(path) ?? (slash > 1 ? ENDPOINTS.get(path.slice(0, slash)) : undefined);
    if (endpoint === undefined) respondJson(response, 404, { service: STAND_IN_NAME, error: `There is no ${path} here`, endpoints: HELP });
    else endpoint.answer(request, response, slash < path.length ? Number(path.slice(slash)) : NaN);
  };
}

function describeRequest(request: IncomingMessage): Record<string, unknown> {
  return {
    method: request.method,
    path: request.url,
    tls: request.socket instanceof TLSSocket,
    sourceAddress: request.socket.remoteAddress,
    headers: request.headers,
  };
}

function respondJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body, null, 2)}\n`);
}

function sendExpected(response: ServerResponse, expected: string): void {
  respondJson(response, 400, { service: STAND_IN_NAME, error: `Expected ${expected}` });
}

function sendMetrics(response: ServerResponse, requests: number): void {
  response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
  response.end(
    '# HELP eco_sit_requests_total Requests that ECO SIT has seen.\n' +
      '# TYPE eco_sit_requests_total counter\n' +
      `eco_sit_requests_total ${requests}\n`,
  );
}

function echo(request: IncomingMessage, response: ServerResponse): void {
  const { 'content-type': type, 'content-length': length } = request.headers;
  if (type !== undefined) response.setHeader('content-type', type);
  if (length !== undefined) response.setHeader('content-length', length);
  // A client that disconnects during the body is no error here; the pipeline destroys both
  // sides.
  pipeline(request, response, () => {});
}

function sendBytes(_request: IncomingMessage, response: ServerResponse, length: number): void {
  if (!Number.isSafeInteger(length) || length < 0) {
    sendExpected(response, '/bytes/N, N a number of bytes');
    return;
  }
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': length });
  // As in echo.
  pipeline(Readable.from(chunks(length)), response, () => {});
}

function* chunks(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= CHUNK.length) yield left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
}

function sendLater(_request: IncomingMessage, response: ServerResponse, wait: number): void {
  if (!(wait >= 0 && wait <= LONGEST_WAIT_MS)) {
    sendExpected(response, `/slow/MS, MS from 0 to ${LONGEST_WAIT_MS}`);
    return;
  }
  const timer = setTimeout(() => {
    respondJson(response, 200, { service: STAND_IN_NAME, waitedMs: wait });
  }, wait);
  response.once('close', () => {
    clearTimeout(timer);
  });
}

function sendStatus(_request: IncomingMessage, response: ServerResponse, status: number): void {
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    sendExpected(response, '/status/NNN, NNN from 200 to 599');
    return;
  }
  // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these three carry no content.
  if (status === 204 || status === 205 || status === 304) response.writeHead(status).end();
  else respondJson(response, status, { service: STAND_IN_NAME, status });
}

function sendTrailers(_request: IncomingMessage, response: ServerResponse): void {
  const body = 'a body, and after it a trailer field with its checksum\n';
  response.writeHead(200, { 'content-type': 'text/plain', trailer: 'X-Eco-Checksum' });
  response.write(body);
  response.addTrailers({ 'X-Eco-Checksum': `crc32=${crc32(body).toString(16)}` });
  response.end();
}
