/**
 * The `/eco/*` reverse path: a Fastify application in which @fastify/http-proxy
 * owns each prefix, strips it and refuses paths that would escape it. The
 * exchange itself is shared by all forms, and passed to http-proxy as its
 * `handler` (docs/decisions/0003-gateway.md has the reasons and the figures).
 */
import type http from 'node:http';
import { Socket } from 'node:net';
import httpProxy from '@fastify/http-proxy';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { DestinationConfig, GatewayConfig } from '../config/config.ts';
import type { Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import { IncomingMessage, NO_SCHEMAS, ServerResponse } from '../lean-imports.ts';
import type { MapField } from '../relay/headers.ts';
import { formatAuthority } from '../targets/host.ts';
import { findAmbiguity, pathOf } from '../targets/path.ts';
import { quote } from '../targets/quote.ts';
import { createResponseFields } from './response-fields.ts';

/** The target of a path below a prefix. */
export interface GatewayRoute {
  readonly destination: string;
  readonly origin: Origin;
  /** Path and query for the upstream. */
  readonly target: string;
  /** Maps the upstream's references to itself to the prefix. @param secure whether the client's connection is TLS */
  readonly mapFields: (secure: boolean) => MapField;
}

/** Exactly one is called, once; `onRoute` and `onNone` may throw a Fault, which is passed to `onError`. */
export interface RouteCallbacks {
  onRoute(route: GatewayRoute): void;
  onNone(): void;
  onError(error: unknown): void;
}

/** Routes of all gateway prefixes of one configuration; its creator closes it. */
export interface GatewayRouter {
  readonly prefixes: readonly string[];
  /** @param target path and query as in the request line */
  route(target: string, callbacks: RouteCallbacks): void;
  /** The same as a promise. @returns null when the path is below no prefix; rejects with the Fault that the request would get */
  find(target: string): Promise<GatewayRoute | null>;
  close(): Promise<void>;
}

const kCallbacks = Symbol('callbacks');
type Routed = http.IncomingMessage & { [kCallbacks]?: RouteCallbacks };

/** Fastify finds the route, and does not answer: it never touches the connection of the request. */
const unconnectedSocket = new Socket();

/** What a router depends on in a destination: equal terms make an equal router. */
export type RouteTerms = Pick<DestinationConfig, 'name' | 'gateway'>;

/** What a router is built from; a reload that does not change it needs no other router. */
export function routeTerms({ name, gateway }: DestinationConfig): RouteTerms {
  return { name, gateway };
}

/**
 * Prefixes in one plugin. When it gets ready, Fastify recurses over them, and
 * some thousands are too many for the stack; a plugin that contains others
 * starts a new recursion.
 */
const GROUP = 256;

/** Resolves when the routes are ready; `close` ends the application, which never listens itself. */
export async function createGatewayRouter(destinations: readonly RouteTerms[]): Promise<GatewayRouter> {
  const app = fastify({
    logger: false,
    exposeHeadRoutes: false,
    schemaController: NO_SCHEMAS,
    routerOptions: { maxParamLength: 65_536 },
    frameworkErrors: (error, request, reply) => {
      failRoute(error, request, reply);
    },
  });
  app.setNotFoundHandler((request, reply) => {
    reply.hijack();
    const callbacks = callbacksOf(request);
    try {
      callbacks.onNone();
    } catch (error) {
      callbacks.onError(error);
    }
  });
  app.setErrorHandler(failRoute);
  const served = destinations.flatMap(({ name, gateway }) => (gateway === null ? [] : [{ name, gateway }]));
  for (let at = 0; at < served.length; at += GROUP) {
    await app.register(async (group) => {
      for (const { name, gateway } of served.slice(at, at + GROUP)) await registerPrefix(group, name, gateway);
    });
  }
  await app.ready();
  const prefixes = served.map(({ gateway }) => gateway.prefix);
  const route = (target: string, callbacks: RouteCallbacks): void => {
    const req: Routed = new IncomingMessage(unconnectedSocket);
    // A prefix owns its paths for every method; the policy decides on methods.
    req.method = 'GET';
    req.url = target;
    req[kCallbacks] = callbacks;
    app.routing(req, new ServerResponse(req));
  };
  return {
    prefixes,
    route,
    find: (target) =>
      new Promise((resolve, reject) => {
        route(target, {
          onRoute: resolve,
          onNone: () => {
            resolve(null);
          },
          onError: reject,
        });
      }),
    close: () => app.close(),
  };
}

async function registerPrefix(app: FastifyInstance, destination: string, gateway: GatewayConfig): Promise<void> {
  const { scheme, host, port } = gateway;
  const origin: Origin = { scheme, host, port };
  const fields = createResponseFields(gateway);
  await app.register(httpProxy, {
    upstream: `${scheme}://${formatAuthority(host, port)}`,
    prefix: gateway.prefix,
    rewritePrefix: gateway.basePath === '' ? '/' : gateway.basePath,
    httpMethods: ['GET'],
    handler: (request: FastifyRequest, reply: FastifyReply, path: string) => {
      reply.hijack();
      const callbacks = callbacksOf(request);
      try {
        const url = request.raw.url ?? '';
        const query = url.indexOf('?');
        const target = (path === '' ? '/' : path) + (query === -1 ? '' : url.slice(query));
        callbacks.onRoute({ destination, origin, target, mapFields: (secure) => fields.mapFor(target, secure) });
      } catch (error) {
        callbacks.onError(error);
      }
    },
  } as Parameters<typeof httpProxy>[1]);
}

function callbacksOf(request: FastifyRequest): RouteCallbacks {
  const callbacks = (request.raw as Routed)[kCallbacks];
  if (callbacks === undefined) throw new Fault('internal', 'a request reached the gateway past its listener');
  return callbacks;
}

/** http-proxy and the router refuse paths that could leave the prefix or cannot be decoded. */
function failRoute(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  reply.hijack();
  const status = (error as { statusCode?: unknown }).statusCode;
  const refused = !(error instanceof Fault) && typeof status === 'number' && status < 500;
  callbacksOf(request).onError(refused ? ambiguous(request, error) : error);
}

function ambiguous(request: FastifyRequest, error: unknown): Fault {
  const path = pathOf(request.raw.url ?? '');
  // They never refuse an encoded slash.
  const detail = `the path ${quote(path)} ${findAmbiguity(path, 'allow') ?? findAmbiguity(path) ?? 'is not valid'}`;
  return new Fault('path-ambiguous', detail, { cause: error, remedy: 'write it without empty and dot segments, backslashes and encoded slashes' });
}
