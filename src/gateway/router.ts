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
import { createResponseFields, type ResponseFields, rootOf } from './response-fields.ts';

/** The target of a path below a prefix. */
export interface GatewayRoute {
  readonly destination: string;
  readonly origin: Origin;
  /** Path and query for the upstream. */
  readonly target: string;
  /** Maps the upstream's references to itself to the prefix. @param secure whether the client's connection is TLS */
  mapFields(secure: boolean): MapField;
}

/** Routes of all gateway prefixes of one configuration; its creator closes it. */
export interface GatewayRouter {
  readonly prefixes: readonly string[];
  /**
   * @param target path and query as in the request line
   * @returns null when the path is below no prefix
   * @throws {Fault} where the path could leave its prefix, or cannot be decoded
   */
  route(target: string): GatewayRoute | null;
  close(): Promise<void>;
}

/** What Fastify and http-proxy make of a path. It does not depend on the query. */
interface Place {
  readonly destination: string;
  readonly origin: Origin;
  /** For the upstream. */
  readonly path: string;
  readonly fields: ResponseFields;
}

const kOutcome = Symbol('outcome');
/** The outcome is set before `routing` returns: nothing on the way is asynchronous. */
type Routed = http.IncomingMessage & { [kOutcome]?: Place | 'none' | Fault };

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
    settleRoute(request, reply, 'none');
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
  const find = (path: string): Place | null => {
    const req: Routed = new IncomingMessage(unconnectedSocket);
    // A prefix owns its paths for every method; the policy decides on methods.
    req.method = 'GET';
    req.url = path;
    app.routing(req, new ServerResponse(req));
    const outcome = req[kOutcome];
    if (outcome === undefined) throw new Fault('internal', 'Fastify did not route a request of the gateway');
    if (outcome instanceof Fault) throw outcome;
    return outcome === 'none' ? null : outcome;
  };
  const places = new RecentPlaces();
  return {
    prefixes,
    route: (target) => {
      const path = pathOf(target);
      let place = places.get(path);
      if (place === null) {
        place = find(path);
        if (place === null) return null;
        places.set(path, place);
      }
      const { destination, origin, path: asked, fields } = place;
      return { destination, origin, target: asked + target.slice(path.length), mapFields: (secure) => fields(asked, secure) };
    },
    close: () => app.close(),
  };
}

/** Paths longer than this are not kept, characters. */
const LONGEST_KEPT = 512;
/** How many paths are kept, twice. */
const MOST_KEPT = 256;

/**
 * Where the paths asked for last lead: clients ask for few paths again and
 * again, and Fastify and http-proxy take a tenth of the time of a request. Two
 * maps take turns: one is filled, the other has what was asked for before, so
 * that paths that are not asked for again are dropped, whatever their order.
 */
class RecentPlaces {
  #latest = new Map<string, Place>();
  #earlier = new Map<string, Place>();

  get(path: string): Place | null {
    const known = this.#latest.get(path);
    if (known !== undefined) return known;
    const earlier = this.#earlier.get(path);
    if (earlier === undefined) return null;
    this.set(path, earlier);
    return earlier;
  }

  set(path: string, place: Place): void {
    if (path.length > LONGEST_KEPT) return;
    if (this.#latest.size >= MOST_KEPT) {
      this.#earlier = this.#latest;
      this.#latest = new Map();
    }
    this.#latest.set(path, place);
  }
}

async function registerPrefix(app: FastifyInstance, destination: string, gateway: GatewayConfig): Promise<void> {
  const { scheme, host, port } = gateway;
  const origin: Origin = { scheme, host, port };
  const fields = createResponseFields(gateway);
  await app.register(httpProxy, {
    upstream: `${scheme}://${formatAuthority(host, port)}`,
    prefix: gateway.prefix,
    rewritePrefix: rootOf(gateway),
    httpMethods: ['GET'],
    handler: (request: FastifyRequest, reply: FastifyReply, path: string) => {
      settleRoute(request, reply, { destination, origin, path: path === '' ? '/' : path, fields });
    },
  } as Parameters<typeof httpProxy>[1]);
}

/** The request goes no further in Fastify. */
function settleRoute(request: FastifyRequest, reply: FastifyReply, outcome: Place | 'none' | Fault): void {
  reply.hijack();
  (request.raw as Routed)[kOutcome] = outcome;
}

/** http-proxy and the router refuse paths that could leave the prefix or cannot be decoded. */
function failRoute(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const status = (error as { statusCode?: unknown }).statusCode;
  const refused = typeof status === 'number' && status < 500;
  settleRoute(request, reply, refused ? ambiguous(request, error) : Fault.from(error));
}

function ambiguous(request: FastifyRequest, error: unknown): Fault {
  const path = request.raw.url ?? '';
  // They never refuse an encoded slash.
  const detail = `the path ${quote(path)} ${findAmbiguity(path, 'allow') ?? findAmbiguity(path) ?? 'is not valid'}`;
  return new Fault('path-ambiguous', detail, {
    cause: error,
    remedy: 'write it without empty and dot segments, backslashes and encoded slashes',
  });
}
