/**
 * The `/eco/*` reverse path: a Fastify application in which @fastify/http-proxy
 * owns each prefix, strips it and refuses what would escape it. The exchange
 * itself is the one all forms share, given to http-proxy as its `handler`
 * (docs/decisions/0003-gateway.md has the reasons and the figures).
 */
import { METHODS, type IncomingMessage, type ServerResponse } from 'node:http';
import httpProxy from '@fastify/http-proxy';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { DestinationConfig, GatewayConfig } from '../config/config.ts';
import type { Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import { formatAuthority } from '../target/host.ts';
import { findAmbiguity, pathOf } from '../target/path.ts';
import { quote } from '../target/quote.ts';

export interface GatewayRoute {
  readonly destination: string;
  readonly origin: Origin;
  /** Path and query for the upstream. */
  readonly target: string;
  /** Keeps redirects of the upstream inside the prefix. */
  readonly mapLocation: (value: string) => string;
}

/** Exactly one is called, once; `onRoute` and `onNone` may throw a Fault, which comes back by `onError`. */
export interface RouteCallbacks {
  onRoute(route: GatewayRoute): void;
  onNone(): void;
  onError(error: unknown): void;
}

export interface GatewayRouter {
  readonly prefixes: readonly string[];
  route(req: IncomingMessage, res: ServerResponse, callbacks: RouteCallbacks): void;
  close(): Promise<void>;
}

const kCallbacks = Symbol('callbacks');
type Routed = IncomingMessage & { [kCallbacks]?: RouteCallbacks };

/** What may follow a whole authority or path prefix (RFC 3986 §3). */
const AFTER_WHOLE = /^(?:[/?#]|$)/;

/** Resolves when the routes are ready; `close` ends the application, which never listens itself. */
export async function createGatewayRouter(destinations: readonly DestinationConfig[]): Promise<GatewayRouter> {
  const app = fastify({
    logger: false,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 65_536 },
    frameworkErrors: (error, request, reply) => {
      fail(error, request, reply);
    },
  });
  // Every method Node can parse (CONNECT never comes here). `hasBody: false` keeps Fastify's parsers away from
  // bodies and Content-Type: they stream through the exchange, whatever they are.
  for (const method of METHODS) {
    if (method !== 'CONNECT') app.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  }
  app.setNotFoundHandler((request, reply) => {
    reply.hijack();
    const callbacks = callbacksOf(request);
    try {
      callbacks.onNone();
    } catch (error) {
      callbacks.onError(error);
    }
  });
  app.setErrorHandler(fail);
  const prefixes: string[] = [];
  for (const { name, gateway } of destinations) {
    if (gateway === null) continue;
    prefixes.push(gateway.prefix);
    await registerPrefix(app, name, gateway);
  }
  await app.ready();
  return {
    prefixes,
    route(req: Routed, res, callbacks) {
      req[kCallbacks] = callbacks;
      app.routing(req, res);
    },
    close: () => app.close(),
  };
}

async function registerPrefix(app: FastifyInstance, destination: string, gateway: GatewayConfig): Promise<void> {
  const { scheme, host, port } = gateway;
  const origin: Origin = { scheme, host, port };
  const mapLocation = createLocationMap(gateway);
  await app.register(httpProxy, {
    upstream: `${scheme}://${formatAuthority(host, port)}`,
    prefix: gateway.prefix,
    rewritePrefix: gateway.basePath === '' ? '/' : gateway.basePath,
    httpMethods: app.supportedMethods.filter((method) => method !== 'CONNECT'),
    handler: (request: FastifyRequest, reply: FastifyReply, path: string) => {
      reply.hijack();
      const callbacks = callbacksOf(request);
      try {
        const url = request.raw.url ?? '';
        const query = url.indexOf('?');
        const target = (path === '' ? '/' : path) + (query === -1 ? '' : url.slice(query));
        callbacks.onRoute({ destination, origin, target, mapLocation });
      } catch (error) {
        callbacks.onError(error);
      }
    },
  } as Parameters<typeof httpProxy>[1]);
}

/**
 * Rewrites the origin's own absolute URLs and absolute paths to the prefix, so
 * that a client following them comes back here; other values are left alone.
 */
function createLocationMap({ scheme, host, port, prefix, basePath }: GatewayConfig): (value: string) => string {
  const authority = formatAuthority(host, port);
  const standard = (scheme === 'https' ? 443 : 80) === port;
  const origins = [`${scheme}://${authority}`, ...(standard ? [`${scheme}://${authority.slice(0, authority.lastIndexOf(':'))}`] : [])];
  return (value) => {
    let path = value;
    for (const origin of origins) {
      const rest = value.slice(origin.length);
      // RFC 3986 §6.2.3: an empty path is the root.
      if (value.toLowerCase().startsWith(origin) && /^(?:[/?#]|$)/.test(rest)) path = rest.startsWith('/') ? rest : `/${rest}`;
    }
    // `//host/path` names another host (RFC 3986 §4.2).
    if (!path.startsWith('/') || path.startsWith('//')) return value;
    const rest = path.slice(basePath.length);
    if (!path.startsWith(basePath) || !AFTER_WHOLE.test(rest)) return value;
    return prefix + rest;
  };
}

function callbacksOf(request: FastifyRequest): RouteCallbacks {
  const callbacks = (request.raw as Routed)[kCallbacks];
  if (callbacks === undefined) throw new Fault('internal', 'a request reached the gateway past its listener');
  return callbacks;
}

/** What http-proxy or the router refuse is a path that could leave the prefix or cannot be decoded. */
function fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  reply.hijack();
  const status = (error as { statusCode?: unknown }).statusCode;
  const refused = !(error instanceof Fault) && typeof status === 'number' && status < 500;
  callbacksOf(request).onError(refused ? ambiguous(request, error) : error);
}

function ambiguous(request: FastifyRequest, error: unknown): Fault {
  const path = pathOf(request.raw.url ?? '');
  const detail = `the path ${quote(path)} ${findAmbiguity(path) ?? 'is not valid'}`;
  return new Fault('path-ambiguous', detail, { cause: error, remedy: 'write it without empty and dot segments, backslashes and encoded slashes' });
}
