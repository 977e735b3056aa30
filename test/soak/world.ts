/** The real proxy as a process, between a partner that changes and a resolver that does, all on loopback. */
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { WebSocketServer } from 'ws';
import { stringify } from 'yaml';
import type { CertificateAuthority, IssuedCertificate } from '../../src/demo/authority.ts';
import { type ChildProxy, startChildProxy } from '../support/child-proxy.ts';
import type { DnsReply } from '../support/dns-server.ts';
import { type Draft, ECO, labCertificates } from '../support/lab.ts';
import { OWN } from '../support/tls-lab.ts';

export { ECO, OWN };

/** What the partner does with a request. */
export type PartnerMode = 'answers' | 'refuses' | 'resets' | 'errors' | 'is silent' | 'breaks off';

export interface World {
  readonly proxy: ChildProxy;
  readonly authority: CertificateAuthority;
  /** Of the partner. */
  readonly ports: { readonly https: number; readonly http: number };
  /** Of a client, for TLS that ends in the proxy. */
  readonly clientCertificate: IssuedCertificate;
  readonly partner: { mode: PartnerMode };
  /** How the resolver answers for the partner's name. */
  readonly resolver: { reply: DnsReply };
  /** New certificates for the proxy and for the partner: files are replaced, and the proxy sees them for itself. */
  renewCertificates(): Promise<void>;
  /** Replaces the configuration; the proxy sees it for itself. */
  configure(change: (draft: Draft) => void): void;
  /** Replaces it by a text that is none. */
  spoil(): void;
  close(): Promise<void>;
}

/** The addresses of the partner. */
export const ADDRESSES = ['127.0.0.1', '127.0.0.2'];
/** The name of the endpoint that says which source address it sees. */
const ECHO = 'echo.partner.example';
const BIG = Buffer.alloc(100_000, 'x');
/** One second, so that changes are seen soon. */
const TTL = 1;

/** Rejects when something does not start. */
export async function createWorld(): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-soak-'));
  const write = (name: string, content: string): void => {
    // Whole at every moment.
    writeFileSync(join(directory, `${name}.new`), content, { mode: 0o600 });
    renameSync(join(directory, `${name}.new`), join(directory, name));
  };
  const { authority } = await labCertificates();
  const issueOurs = async (): Promise<void> => {
    const [own, ours] = await Promise.all([authority.issue({ names: [OWN] }), authority.issue({ names: ['egress.example'], clientAuth: true })]);
    for (const [name, { certPem, keyPem }] of [['tls', own], ['ours', ours]] as const) {
      write(`${name}.crt`, certPem);
      write(`${name}.key`, keyPem);
    }
  };
  const issuePartner = async (): Promise<SecureContext> => {
    const { certPem, keyPem } = await authority.issue({ names: [ECO] });
    return createSecureContext({ cert: certPem, key: keyPem, ca: authority.certPem });
  };
  const partner: World['partner'] = { mode: 'answers' };
  let shown = await issuePartner();
  const servers = startPartner(partner, () => shown);
  const ports = { https: await listenAt(servers.https, ADDRESSES), http: await listenAt(servers.http, ADDRESSES) };
  const resolver: World['resolver'] = { reply: { addresses: ADDRESSES, ttl: TTL } };
  await issueOurs();
  const draftChanges = (draft: Draft): void => {
    Object.assign(draft, {
      clients: { pods: { addresses: ['127.0.0.0/9'] } },
      rules: [{ clients: ['pods'], destinations: ['eco'], rate: { perAddress: { requests: '1000/s' } } }],
      tlsServer: { names: [OWN], certFile: 'tls.crt', keyFile: 'tls.key', clientCaFile: 'ca.pem', clientCertificate: 'request' },
      reload: { watch: true },
      selfTest: { every: '5s' },
      sourceIp: { expected: '127.0.0.1', probe: { url: `http://${ECHO}:${ports.http}/address`, every: '2s', timeout: '1s', addresses: ['127.0.0.0/8'] } },
      nat: { ports: 2000, timeWait: '5s' },
      circuitBreaker: { failures: 5, over: '500ms', pause: '500ms', longestPause: '1s' },
    });
    Object.assign(draft.destinations.eco, { tls: { caFile: 'ca.pem', certFile: 'ours.crt', keyFile: 'ours.key' } });
    // As many as a day has, in minutes.
    Object.assign(draft.timeouts, { resolve: '1s', connect: '1s', tls: '1s', requestHeaders: '3s', responseHeaders: '1s', body: '2s', keepAlive: '5s', upstreamKeepAlive: '3s', upstreamAge: '5s', tunnelIdle: '8s', tunnelAge: '10s' });
  };
  let document: Draft | null = null;
  const proxy = await startChildProxy({
    directory,
    ports,
    flags: ['--expose-gc'],
    onLine: () => {},
    configure: (draft) => {
      // Resolver and ports are this run's.
      draftChanges(draft);
      document = structuredClone(draft);
    },
    dns: ({ name, type }) => {
      if (type !== 'A') return null;
      return name.toLowerCase() === ECHO ? { addresses: ['127.0.0.1'], ttl: TTL } : resolver.reply;
    },
  });
  return {
    proxy,
    authority,
    ports,
    partner,
    resolver,
    clientCertificate: await authority.issue({ names: ['pod.example'], clientAuth: true }),
    renewCertificates: async () => {
      await issueOurs();
      shown = await issuePartner();
    },
    configure: (change) => {
      if (document === null) throw new Error('the proxy was not configured');
      const draft = structuredClone(document);
      change(draft);
      write('egress.yaml', stringify(draft));
    },
    spoil: () => { write('egress.yaml', 'version: 1\nrules: 17\n'); },
    close: async () => {
      await proxy.close();
      servers.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

interface Partner {
  readonly http: Server[];
  readonly https: Server[];
  close(): void;
}

function startPartner(state: World['partner'], context: () => SecureContext): Partner {
  const listener: RequestListener = (request, response) => {
    if (request.url === '/address') response.end(request.socket.remoteAddress);
    else answer(state.mode, request, response);
  };
  const webSockets = new WebSocketServer({ noServer: true });
  webSockets.on('connection', (socket) => {
    socket.on('error', () => {}).on('message', (data) => { socket.send(data); });
  });
  const sockets = new Set<Socket>();
  const prepare = (server: Server): Server =>
    server
      .on('connection', (socket: Socket) => {
        sockets.add(socket);
        socket.on('error', () => {}).once('close', () => sockets.delete(socket));
        if (state.mode === 'refuses') socket.destroy();
      })
      .on('clientError', (_error, socket) => socket.destroy())
      .on('tlsClientError', () => {})
      .on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        if (state.mode !== 'answers') socket.destroy();
        else webSockets.handleUpgrade(request, socket, head, (webSocket) => webSockets.emit('connection', webSocket, request));
      });
  const http = ADDRESSES.map(() => prepare(createHttp(listener)));
  const https = ADDRESSES.map(() => prepare(createHttps({ requestCert: true, rejectUnauthorized: false, SNICallback: (_name, done) => { done(null, context()); } }, listener)));
  return {
    http,
    https,
    close: () => {
      for (const server of [...http, ...https]) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function answer(mode: PartnerMode, request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  switch (mode) {
    case 'answers':
    case 'refuses':
      if (request.url === '/never') return;
      response.end(request.url === '/big' ? BIG : 'ok');
      return;
    case 'resets':
      if (request.socket instanceof TLSSocket) request.socket.destroy();
      else request.socket.resetAndDestroy();
      return;
    case 'errors':
      response.writeHead(500).end('broken');
      return;
    case 'is silent':
      return;
    case 'breaks off':
      response.writeHead(200, { 'content-length': '100' }).write('half of');
      request.socket.destroySoon();
  }
}

/** All at one port, of the system's choosing. */
async function listenAt(servers: readonly Server[], addresses: readonly string[]): Promise<number> {
  let port = 0;
  for (const [index, server] of servers.entries()) {
    server.listen(port, addresses[index]);
    await once(server, 'listening');
    ({ port } = server.address() as AddressInfo);
  }
  return port;
}
