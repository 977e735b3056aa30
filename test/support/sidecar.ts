/**
 * A stand-in for Envoy beside a pod: does with the pod's connections what the
 * rendered Istio objects say, the way Envoy does it on the wire. It knows
 * nothing of the proxy but the host and port that a route names.
 */
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { Manifest } from '../../src/manifests/placement.ts';
import { ClientHelloReader } from '../../src/targets/client-hello.ts';
import { listen } from './listen.ts';

interface Route {
  readonly match: readonly { readonly port: number; readonly sniHosts?: readonly string[] }[];
  readonly route: readonly { readonly destination: Destination }[];
}

interface Destination {
  readonly host: string;
  readonly subset?: string;
  readonly port: { readonly number: number };
}

interface Tunnel {
  readonly targetHost: string;
  readonly targetPort: number;
}

export interface SidecarOptions {
  readonly manifests: readonly Manifest[];
  /** Where a port of the Service is, by its number. */
  readonly endpoints: Readonly<Record<number, number>>;
  /** What 443 and 80 of the partner are here. */
  readonly partnerPorts: Readonly<Record<number, number>>;
}

export interface Sidecar {
  /** Where a pod's connection to this port of the partner comes out. */
  readonly tlsPort: number;
  readonly httpPort: number;
}

/** As Envoy adds them to each request of a pod; names in lower case. */
export const ENVOY_FIELDS: Readonly<Record<string, string>> = {
  'x-forwarded-proto': 'http',
  'x-request-id': '5b2f1c7e-9d3a-4f6e-8a51-0c9d2e7f4b60',
  'x-envoy-attempt-count': '1',
  'x-envoy-decorator-operation': 'eco-egress.eco-egress.svc.cluster.local:8080/*',
  'x-envoy-expected-rq-timeout-ms': '15000',
  traceparent: '00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01',
};

export async function startSidecar(t: Test, options: SidecarOptions): Promise<Sidecar> {
  const spec = (kind: string): unknown => options.manifests.find((manifest) => manifest.kind === kind)?.spec;
  const routes = spec('VirtualService') as { tls: Route[]; http: Route[] };
  const rule = spec('DestinationRule') as { host: string; subsets?: { name: string; trafficPolicy: { tunnel: Tunnel } }[] };
  const tunnelOf = ({ host, subset }: Destination): Tunnel | undefined => (host === rule.host ? rule.subsets?.find(({ name }) => name === subset)?.trafficPolicy.tunnel : undefined);
  const dial = ({ port }: Destination): Socket => connect({ host: '127.0.0.1', port: options.endpoints[port.number] ?? 0, noDelay: true, allowHalfOpen: true });

  const tls = createServer({ noDelay: true, allowHalfOpen: true }, (pod) => {
    const reader = new ClientHelloReader();
    pod.on('data', function read(chunk: Buffer) {
      const found = reader.push(chunk);
      if (found === 'more') return;
      pod.off('data', read).pause();
      pod.unshift(Buffer.concat([reader.earlier, chunk]));
      const name = found.kind === 'hello' ? found.serverName : null;
      const [taken] = routes.tls.find(({ match }) => match.some(({ port, sniHosts = [] }) => port === 443 && name !== null && sniHosts.includes(name)))?.route ?? [];
      if (taken === undefined) {
        pod.destroy();
        return;
      }
      const upstream = dial(taken.destination);
      upstream.on('error', () => pod.destroy());
      t.teardown(() => upstream.destroy());
      const begin = (): void => {
        pod.pipe(upstream).pipe(pod);
      };
      const tunnel = tunnelOf(taken.destination);
      if (tunnel === undefined) begin();
      else openTunnel(upstream, `${tunnel.targetHost}:${options.partnerPorts[tunnel.targetPort] ?? 0}`, begin);
    });
  });

  const http = createHttpServer((request, response) => {
    const [taken] = routes.http.find(({ match }) => match.some(({ port }) => port === 80))?.route ?? [];
    if (taken === undefined) throw new Error('no route for HTTP');
    const headers = { ...request.headers, ...ENVOY_FIELDS, host: `${request.headers.host ?? ''}:${options.partnerPorts[80] ?? 0}` };
    const port = options.endpoints[taken.destination.port.number] ?? 0;
    const upstream = httpRequest({ host: '127.0.0.1', port, agent: false, method: request.method ?? '', path: request.url ?? '', headers, setHost: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.statusMessage, answer.rawHeaders);
      answer.pipe(response);
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  return { tlsPort: await listen(t, tls), httpPort: await listen(t, http) };
}

/** Envoy's codec writes the fields in lower case, and sends the pod's bytes once the tunnel stands. */
function openTunnel(upstream: Socket, authority: string, opened: () => void): void {
  upstream.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
  let heard = '';
  upstream.on('data', function read(chunk: Buffer) {
    heard += chunk.toString('latin1');
    const end = heard.indexOf('\r\n\r\n');
    if (end === -1) return;
    upstream.off('data', read).pause();
    if (!/^HTTP\/1\.1 2\d\d /.test(heard)) {
      upstream.destroy(new Error(heard));
      return;
    }
    const rest = Buffer.from(heard.slice(end + 4), 'latin1');
    if (rest.length > 0) upstream.unshift(rest);
    opened();
  });
}
