/** A lab with a TLS listener: TLS for ECO is passed on, TLS for OWN ends there. */
import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { CertificateAuthority, IssuedCertificate } from '../../src/demo/authority.ts';
import { type Draft, ECO, type Lab, labCertificates, type LabOptions, startLab } from './lab.ts';
import { listen } from './listen.ts';

export const OWN = 'eco-egress.eco-egress.svc';

export interface TlsLab extends Lab {
  readonly tlsPort: number;
  /** What tests replace before they reload. */
  readonly files: Record<string, string>;
  /** As in any lab, and with the TLS it began with, for `change` to change. */
  reload: Lab['reload'];
}

export interface TlsLabOptions extends Omit<LabOptions, 'configure'> {
  readonly configure?: (draft: Draft, ports: { https: number; http: number }) => void;
  /** Keys of the listener besides its address. */
  readonly listener?: Record<string, unknown>;
  /** Keys of `tlsServer` besides its names and certificate; null: no TLS ends here. */
  readonly tlsServer?: Record<string, unknown> | null;
}

let shared: Promise<IssuedCertificate> | null = null;

/** The proxy's own certificate, of the lab's authority: one for all labs of a process. */
export function ownCertificate(): Promise<IssuedCertificate> {
  shared ??= labCertificates().then(({ authority }) => authority.issue({ names: [OWN] }));
  return shared;
}

/** What a configuration for a TLS lab has besides that of any lab. */
function configureTls(draft: Draft, { listener = {}, tlsServer = {} }: Pick<TlsLabOptions, 'listener' | 'tlsServer'>): void {
  draft.listeners['tls'] = [{ address: '127.0.0.1:0', ...listener }];
  if (tlsServer !== null) draft.tlsServer = { names: [OWN], certFile: 'tls.crt', keyFile: 'tls.key', ...tlsServer };
}

export async function startTlsLab(t: Test, { configure, listener = {}, tlsServer = {}, files: more = {}, ...options }: TlsLabOptions = {}): Promise<TlsLab> {
  const own = await ownCertificate();
  const files: Record<string, string> = { '/lab/tls.crt': own.certPem, '/lab/tls.key': own.keyPem, ...more };
  const lab = await startLab(t, {
    ...options,
    files,
    configure: (draft, ports) => {
      configureTls(draft, { listener, tlsServer });
      configure?.(draft, ports);
    },
  });
  const reload: Lab['reload'] = (change) =>
    lab.reload((draft) => {
      configureTls(draft, { listener, tlsServer });
      change(draft);
    });
  return { ...lab, files, tlsPort: tlsPortOf(lab), reload };
}

export function tlsPortOf(lab: Lab): number {
  const [tls] = lab.service.addresses.tls;
  if (tls === undefined) throw new Error('the lab has no TLS listener');
  return tls.port;
}

/** A client certificate with a SPIFFE name and a DNS name. */
export const issueClient = (authority: CertificateAuthority, namespace: string, more: { notBefore?: Date; notAfter?: Date } = {}): Promise<IssuedCertificate> =>
  authority.issue({ names: [`${namespace}.pods.example`], uris: [`spiffe://cluster.local/ns/${namespace}/sa/default`], clientAuth: true, ...more });

/** Settles when TLS stands; rejects with the client's error. The socket ends with the test. */
export async function openTls(t: Test, port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const { authority } = await labCertificates();
  const socket = connectTls({ host: '127.0.0.1', port, ca: authority.certPem, ...options });
  t.teardown(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** TLS with the partner through the listener, as a steered client has it. */
export const openSteered = (t: Test, lab: TlsLab, options: ConnectionOptions = {}): Promise<TLSSocket> => openTls(t, lab.tlsPort, { servername: ECO, ...options });

/** TLS with the proxy itself. */
export const openOwn = (t: Test, lab: TlsLab, options: ConnectionOptions = {}): Promise<TLSSocket> => openTls(t, lab.tlsPort, { servername: OWN, ...options });

/** One request, and all that came back until the connection ended, in order or not. */
export async function speak(socket: Socket, request: string): Promise<string> {
  let heard = '';
  socket.on('error', () => {});
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => {
    heard += text;
  });
  socket.write(request);
  await new Promise((resolve) => socket.once('close', resolve));
  return heard;
}

/** A connection between a client and `port` on which `cut` takes the client's first flight into other pieces, each sent by itself. @returns its port */
export function startCutter(t: Test, port: number, cut: (flight: Buffer) => Iterable<Buffer>): Promise<number> {
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const upstream = connectTcp({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
    upstream.on('error', () => client.destroy());
    upstream.pipe(client);
    client.once('data', (flight: Buffer) => {
      client.pause();
      const pieces = cut(flight)[Symbol.iterator]();
      const next = (): void => {
        const piece = pieces.next();
        if (piece.done === true) client.pipe(upstream);
        else upstream.write(piece.value, () => setImmediate(next));
      };
      next();
    });
    t.teardown(() => upstream.destroy());
  });
  return listen(t, server);
}
