/** The contract of dialling: who is dialled, what comes back, and who may object. */
import type { Socket } from 'node:net';
import type { Fault } from '../errors.ts';
import type { UpstreamTlsConfig } from '../config/config.ts';
import type { ProxiedClient } from './proxy-header.ts';

export interface DialTarget {
  /** Canonical name, or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** Null: plain TCP. Otherwise TLS to `serverName ?? host`, verified, HTTP/1.1 by ALPN. */
  readonly tls: UpstreamTlsConfig | null;
  /** Whom the connection is for, told to the upstream by a PROXY protocol header before anything else; absent: no header. */
  readonly proxied?: ProxiedClient;
}

/**
 * Judges one resolved address just before it would be dialled.
 * Returns null when it may be dialled, otherwise why not.
 */
export type AddressGuard = (address: string, port: number) => Fault | null;

export interface Dialled {
  /** Connected, and past the TLS handshake if there was one. The caller owns it and closes it. */
  readonly socket: Socket;
  /** The very address that was judged and dialled. */
  readonly address: string;
  /** Milliseconds; -1: did not happen. */
  readonly dnsMs: number;
  readonly tcpMs: number;
  readonly tlsMs: number;
  /** Why enforcement would not have dialled it; absent where it would. Whoever dials in report mode sets it. */
  readonly reported?: Fault;
}

export interface Dialler {
  /**
   * Resolves, judges every address, dials the permitted ones (RFC 8305) and
   * finishes TLS. Rejects with a Fault; leaves no socket behind when it does,
   * or when `signal` aborts.
   */
  dial(target: DialTarget, guard: AddressGuard, signal: AbortSignal): Promise<Dialled>;
  /** The addresses that `dial` would judge; dials nothing. Rejects with a Fault of the look-up. */
  resolve(host: string, signal: AbortSignal): Promise<readonly string[]>;
}
