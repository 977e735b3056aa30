/** The contract of dialling: what is dialled, what is returned, and which checks may refuse an address. */
import type { Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import type { CircuitBreakerConfig, DestinationConfig, HopConfig, UpstreamTlsConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import type { PortLease } from './ports.ts';
import type { ProxiedClient } from './proxy-header.ts';

/** A hop, and the guard of its parents' addresses. With a hop before them, the parents are requested by name. */
export interface HopStep {
  readonly hop: HopConfig;
  readonly guard: AddressGuard;
}

/** The peer of our own TCP connection. */
export interface RemoteEndpoint {
  readonly address: string;
  readonly port: number;
}

/** What is to be dialled, and how. */
export interface DialTarget {
  /** Canonical name, or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** Null: plain TCP. Otherwise TLS to `serverName ?? host`, verified, HTTP/1.1 by ALPN. */
  readonly tls: UpstreamTlsConfig | null;
  /** Where that is configured, for messages: `sourceIp.probe.tls`; absent: at the destination. */
  readonly keys?: string;
  /** Name of the destination whose NAT ports are used; absent: none. */
  readonly destination?: string;
  /** The only client that may use the connection, and from whose share of NAT ports it comes; absent: it serves all clients. */
  readonly client?: string;
  /** The client for which a connection for all is opened: not beyond its share of NAT ports; absent: no client's. */
  readonly opener?: string;
  /** Parent proxies, nearest to us first; absent or empty: none. */
  readonly via?: readonly HopStep[];
  /** With parents: `parent`, the name is passed to the last of them, and is neither resolved nor checked here. */
  readonly resolve?: 'here' | 'parent';
  /** The client named to the upstream by a PROXY protocol header before anything else; absent: no header. */
  readonly proxied?: ProxiedClient | undefined;
  /** How its failures are counted, and lead to refusals; absent: they are not. */
  readonly circuit?: CircuitPlan | undefined;
}

/** The purpose of a connection. What breaks one, such as our client certificate, need not break another. */
export type Carried = 'tunnel' | 'http' | 'https';

/** When a circuit opens, and for what. */
export interface CircuitPlan {
  /** The destination as it was when the dial began. */
  readonly of: DestinationConfig;
  readonly terms: CircuitBreakerConfig;
  readonly carries: Carried;
}

/** The user of a connection reports its results here. */
export interface CircuitReport {
  /** The upstream has answered a request of this client. */
  answered(status: number, client: string): void;
  /** An exchange of this client ended before an answer. */
  endedUnanswered(fault: Fault, client: string): void;
  /** The connection is idle, or was closed without use. */
  giveBack(): void;
  /** Its address has failed too often since: it must not be reused. */
  readonly blocked: boolean;
}

/**
 * Checks one resolved address just before it would be dialled. Returns null
 * when it may be dialled, otherwise why not.
 */
export type AddressGuard = (address: string, port: number) => Fault | null;

/** The certificate that a parent proxy showed in a handshake with us. */
export interface ParentCertificate {
  /** Name of the hop. */
  readonly hop: string;
  /** Its host. */
  readonly parent: string;
  /** When the first certificate of its chain expires, ms since the epoch. */
  readonly ends: number;
}

/** A connection that is ready for use, with details for the log. */
export interface Dialled {
  /** Connected, and past the TLS handshake if there was one. The caller owns it and closes it. */
  readonly socket: Socket;
  /** The address that was checked, and dialled or requested; null: only the parent that resolved the name knows it. */
  readonly address: string | null;
  /** The peer of our own TCP connection: the address, or one of the first parent. */
  readonly peer: RemoteEndpoint;
  /** The parent proxies used, for the log; empty: none. */
  readonly via: string;
  /** Milliseconds; -1: did not happen. */
  readonly dnsMs: number;
  readonly tcpMs: number;
  readonly tlsMs: number;
  /** Time that parents took beyond the connection to the first of them, failed attempts included. */
  readonly hopMs: number;
  /** TCP connections begun for it, this one included; with parents, routes tried. */
  readonly attempts: number;
  /** When the upstream's certificate expires, ms since the epoch; absent: no TLS of our own. */
  readonly certificateEnds?: number;
  /** Of the parents that speak TLS, nearest first; absent: no parents. */
  readonly parentCertificates?: readonly ParentCertificate[];
  /** Why enforcement would not have dialled it; absent: it would. Set by the caller in report mode. */
  readonly reported?: Fault;
  /** What an error of the socket means that is one of TLS; absent: no TLS of our own. */
  readonly tlsFault?: (error: Error) => Fault;
  /** Absent: failures are not counted. */
  readonly circuit?: CircuitReport;
  /** Its NAT port, which ends with the socket; absent: ports are not counted. */
  readonly lease?: Pick<PortLease, 'hold' | 'admits'> | undefined;
}

/** Opens connections to upstreams. Holds a DNS cache and TLS sessions, and has nothing to close. */
export interface Dialler {
  /**
   * Resolves, checks every address, dials the permitted ones (RFC 8305), or
   * requests them from the parent proxies, and finishes TLS. Rejects with a
   * Fault; leaves no socket behind when it does, or when `signal` aborts.
   */
  dial(target: DialTarget, guard: AddressGuard, signal: CancelSignal): Promise<Dialled>;
  /** No address has failed recently: `refusal` has nothing to report. */
  readonly untroubled: boolean;
  /** The fault that `dial` would throw at once, because every address has failed too often; null: none, or the name has to be looked up first. Makes no look-up. */
  refusal(target: DialTarget, guard: AddressGuard, client: string): Fault | null;
  /** The addresses that `dial` would check; dials nothing. Rejects with a Fault of the look-up. */
  resolve(host: string, signal: CancelSignal): Promise<readonly string[]>;
}

// The error of a dial that was cancelled.

/** The Fault the signal was aborted with; without one, the client is assumed to have disconnected. */
export function abortFault(signal: CancelSignal): Fault {
  const reason: unknown = signal.reason;
  return reason instanceof Fault ? reason : new Fault('client-closed', 'no request is waiting for this connection', { cause: reason });
}
