/** Where the gateway would send a request, found out by the router itself, with a request that nobody made. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import type { GatewayRoute, GatewayRouter } from './router.ts';

/**
 * @param target path and query as they would stand in the request line
 * @returns null when the path is below no prefix; rejects with the Fault that the request would get
 */
export function findRoute(router: GatewayRouter, method: string, target: string): Promise<GatewayRoute | null> {
  // The types ask for a socket, of which there is none: the router only finds, and what it found is answered elsewhere.
  const req = Reflect.construct(IncomingMessage, [new PassThrough()]) as IncomingMessage;
  req.method = method;
  req.url = target;
  return new Promise((resolve, reject) => {
    router.route(req, new ServerResponse(req), {
      onRoute: resolve,
      onNone: () => {
        resolve(null);
      },
      onError: reject,
    });
  });
}
