/**
 * TLS towards the upstream over a connected socket: always verified, HTTP/1.1
 * by ALPN, sessions resumed per destination.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { SecureContext, TLSSocket } from 'node:tls';
import { LRUCache } from 'lru-cache';
import type { CancelSignal } from '../cancel.ts';
import type { UpstreamTlsConfig } from '../config/config.ts';
import { certificatesIn, clientContext, trustedUntil } from '../config/tls-context.ts';
import { Fault } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { TimeLimit } from '../time-limit.ts';
import { abortFault } from './dial.ts';
import { HandshakeCut, tlsFault } from './tls-fault.ts';

/** A TLS handshake to be made over a connected socket. */
export interface SecureRequest {
  /** Connected. Owned from here on: destroyed when the handshake fails. */
  readonly socket: Socket;
  /** Canonical name or IP literal; used for SNI and the certificate check unless `config.serverName` is set. */
  readonly host: string;
  readonly port: number;
  /** Keep one object per destination: context and sessions are stored by its identity. */
  readonly config: UpstreamTlsConfig;
  /** Where that is configured, for messages. */
  readonly keys?: string;
  /** Time limit of the handshake, ms. */
  readonly timeout: number;
  readonly signal: CancelSignal;
}

interface Context {
  readonly secure: SecureContext;
  /** Of `config.ca`. Public ones are not asked: their certificates last longer than those that they issue. */
  readonly authorities: readonly X509Certificate[];
  /** By `name:port`: a session belongs to the name it was verified for (RFC 8446 §4.6.1). */
  readonly sessions: LRUCache<string, KeptSession>;
}

interface KeptSession {
  readonly ticket: Buffer;
  /** By performance.now(), ms: nothing is verified again when it is resumed, neither the certificate nor those that issued it. */
  readonly until: number;
  /** When the first certificate of its chain expires, ms since the epoch. */
  readonly expires: number;
}

/** How long what was verified is relied upon, however often the session is renewed, ms. */
const LONGEST_TRUST = 3_600_000;
/** Bytes of an alert and its record, before any key is known (RFC 8446 §5.1, §6). */
const ALERT_LENGTH = 7;
/** Names per destination whose last session is kept; each is a few kilobytes. */
const MAX_SESSIONS = 100;

const contexts = new WeakMap<UpstreamTlsConfig, Context>();
const trustEnds = new WeakMap<Socket, number>();

/** When the first certificate expires of the chain by which `secure` verified the upstream, ms since the epoch; 0: it did not. */
export function trustEndOf(socket: Socket): number {
  return trustEnds.get(socket) ?? 0;
}

/**
 * Finishes a TLS handshake as a client. The resulting TLSSocket owns the socket
 * under it; the caller closes it. Rejects with a Fault (`tls-certificate`,
 * `tls-failed`, `tls-timeout`, the reason of `signal`, or `internal` when the
 * configured certificates cannot be read), and has destroyed the socket then.
 */
export function secure(request: SecureRequest): Promise<TLSSocket> {
  const { socket, host, port, config, keys = "the destination's tls", timeout, signal } = request;
  const name = config.serverName ?? host;
  const where = formatAuthority(host, port);
  const sessionKey = `${name}:${port}`;

  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      socket.destroy();
      reject(abortFault(signal));
      return;
    }
    let context: Context;
    try {
      context = contextOf(config);
    } catch (error) {
      socket.destroy();
      reject(unusable(where, keys, error));
      return;
    }
    const kept = context.sessions.get(sessionKey);
    const resumed = kept !== undefined && performance.now() < kept.until && Date.now() < kept.expires ? kept : null;
    const tls = tlsConnect({
      socket,
      secureContext: context.secure,
      host: name,
      // RFC 6066 §3: SNI carries names only. An IP literal is checked against the certificate's addresses.
      servername: isIP(name) === 0 ? name : '',
      ALPNProtocols: ['http/1.1'],
      // Set explicitly, because NODE_TLS_REJECT_UNAUTHORIZED=0 would otherwise disable it.
      rejectUnauthorized: true,
      ...(resumed === null ? {} : { session: resumed.ticket }),
    });

    const limit = new TimeLimit(timeout, () => {
      fail(
        new Fault('tls-timeout', `the TLS handshake did not end in ${timeout} ms`, {
          subject: where,
          remedy: 'Check that the upstream serves TLS on this port, and that large packets pass on the route to it (path MTU).',
        }),
      );
    });
    const abort = (): void => {
      fail(abortFault(signal));
    };
    const before = socket.bytesRead;
    let leaf: X509Certificate | undefined;
    // Node's own listener of this event closes the connection if it refuses the certificate, which is then no longer
    // available.
    tls.prependOnceListener('secure', () => {
      leaf = tls.getPeerX509Certificate();
    });
    const onError = (error: Error): void => {
      fail(tlsFault(error, { where, name, config, keys, leaf, atOnce: socket.bytesRead - before <= ALERT_LENGTH }));
    };
    const onClose = (): void => {
      fail(new HandshakeCut(where));
    };
    const end = (): void => {
      limit.clear();
      signal.removeEventListener('abort', abort);
      tls.off('close', onClose);
    };
    const fail = (fault: Fault): void => {
      end();
      // The resumed session may be what the upstream rejected; the error listener stays for errors of destroying.
      context.sessions.delete(sessionKey);
      tls.destroy();
      reject(fault);
    };

    signal.addEventListener('abort', abort);
    tls.on('error', onError);
    tls.on('close', onClose);
    // TLS 1.3 issues tickets after the handshake and more than once: the latest counts.
    tls.on('session', (ticket) => {
      const until = resumed !== null && tls.isSessionReused() ? resumed.until : performance.now() + LONGEST_TRUST;
      context.sessions.set(sessionKey, { ticket, until, expires: trustEndOf(tls) });
    });
    // Verified by now; sessions follow.
    tls.once('secureConnect', () => {
      end();
      if (resumed !== null && tls.isSessionReused()) trustEnds.set(tls, resumed.expires);
      else if (leaf !== undefined) trustEnds.set(tls, trustedUntil(leaf, context.authorities));
      tls.off('error', onError);
      resolve(tls);
    });
  });
}

function contextOf(config: UpstreamTlsConfig): Context {
  let context = contexts.get(config);
  if (context === undefined) {
    context = {
      secure: clientContext(config),
      authorities: certificatesIn(config.ca),
      sessions: new LRUCache({ max: MAX_SESSIONS }),
    };
    contexts.set(config, context);
  }
  return context;
}

function unusable(where: string, keys: string, error: unknown): Fault {
  const reason = error instanceof Error ? error.message : String(error);
  return new Fault('internal', `the configured certificates cannot be used: ${reason}`, {
    subject: where,
    remedy: `Check that ${keys}.caFile, ${keys}.certFile and ${keys}.keyFile are PEM, and that the key belongs to the certificate.`,
    cause: error,
  });
}
