/** The contract of dialling: who is dialled, what comes back, and who may object; and the words for it. */
import type { Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import type { CircuitBreakerConfig, HopConfig, UpstreamTlsConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import type { ProxiedClient } from './proxy-header.ts';

/** A hop, and who judges the addresses of its parents. They are asked for by their own names where a hop lies before them. */
export interface HopStep {
  readonly hop: HopConfig;
  readonly guard: AddressGuard;
}

/** The other end of a TCP connection of ours. */
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
  /** Name of the destination whose NAT ports are used; absent: of none. */
  readonly destination?: string;
  /** For whom alone the connection is, whose share of the NAT ports it comes from; absent: it serves all clients. */
  readonly client?: string;
  /** Parents on the way, nearest to us first; absent or empty: none. */
  readonly via?: readonly HopStep[];
  /** With parents: `parent`, the last of them is asked for the name, which is then neither resolved nor judged here. */
  readonly resolve?: 'here' | 'parent';
  /** Whom the connection is for, told to the upstream by a PROXY protocol header before anything else; absent: no header. */
  readonly proxied?: ProxiedClient;
  /** How its failures are counted, and lead to refusals; absent: they are not. */
  readonly circuit?: CircuitPlan;
}

/** What a connection is for. What breaks one, such as our client certificate, need not break another. */
export type Carried = 'tunnel' | 'http' | 'https';

/** By which terms a circuit opens, and for what. */
export interface CircuitPlan {
  readonly terms: CircuitBreakerConfig;
  readonly carries: Carried;
}

/** Who uses a connection tells here what came of it. */
export interface CircuitReport {
  /** The upstream has answered a request of this client. */
  answered(status: number, client: string): void;
  /** An exchange of this client ended before an answer. */
  endedUnanswered(fault: Fault, client: string): void;
  /** The connection is not used for now, or closed without use. */
  giveBack(): void;
  /** Its address has failed too often since: it is not to be used again. */
  readonly blocked: boolean;
}

/**
 * Judges one resolved address just before it would be dialled.
 * Returns null when it may be dialled, otherwise why not.
 */
export type AddressGuard = (address: string, port: number) => Fault | null;

/** A connection that is ready for use, with what the log says of how it was made. */
export interface Dialled {
  /** Connected, and past the TLS handshake if there was one. The caller owns it and closes it. */
  readonly socket: Socket;
  /** The very address that was judged, and dialled or asked for; null: only the parent that resolved the name knows it. */
  readonly address: string | null;
  /** Where our own TCP connection goes: the address, or one of the first parent. */
  readonly peer: RemoteEndpoint;
  /** The parents on the way, for the log; empty: none. */
  readonly via: string;
  /** Milliseconds; -1: did not happen. */
  readonly dnsMs: number;
  readonly tcpMs: number;
  readonly tlsMs: number;
  /** All that parents took beyond the connection to the first of them, attempts that failed included. */
  readonly hopMs: number;
  /** TCP connections that were begun for it, this one included; with parents, ways that were tried. */
  readonly attempts: number;
  /** Until when the certificate is valid that the upstream showed, ms since the epoch; absent: without TLS of our own. */
  readonly certificateEnds?: number;
  /** Why enforcement would not have dialled it; absent where it would. Whoever dials in report mode sets it. */
  readonly reported?: Fault;
  /** Absent: failures are not counted. */
  readonly circuit?: CircuitReport;
}

/** Opens connections to upstreams. Holds a DNS cache and TLS sessions, and has nothing to close. */
export interface Dialler {
  /**
   * Resolves, judges every address, dials the permitted ones (RFC 8305), or
   * asks the parents on the way for them, and finishes TLS. Rejects with a
   * Fault; leaves no socket behind when it does, or when `signal` aborts.
   */
  dial(target: DialTarget, guard: AddressGuard, signal: CancelSignal): Promise<Dialled>;
  /** No address has failed lately: `refusal` has nothing to say. */
  readonly untroubled: boolean;
  /** What `dial` would refuse at once, because every address has failed too often; null: it would not, or has to look up the name first. Looks nothing up. */
  refusal(target: DialTarget, guard: AddressGuard, client: string): Fault | null;
  /** The addresses that `dial` would judge; dials nothing. Rejects with a Fault of the look-up. */
  resolve(host: string, signal: CancelSignal): Promise<readonly string[]>;
}

// What a dial that was called off rejects with.

/** The Fault the signal was aborted with; without one, the client is taken to have left. */
export function abortFault(signal: CancelSignal): Fault {
  const reason: unknown = signal.reason;
  return reason instanceof Fault ? reason : new Fault('client-closed', 'no request is waiting for this connection', { cause: reason });
}

// How a message names the place that is dialled.

/** `host:port`, an IPv6 literal in brackets (RFC 3986 §3.2.2). */
export function place(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

// Lets a guard judge every address of a name, before any of them is dialled.

/** @throws Fault of the first refused address, naming all, when none may be dialled. */
export function checkAddresses(addresses: readonly string[], port: number, guard: AddressGuard): readonly string[] {
  const [only] = addresses;
  if (only !== undefined && addresses.length === 1) {
    const refusal = guard(only, port);
    if (refusal !== null) throw refusal;
    return addresses;
  }
  const refusals: Fault[] = [];
  const permitted = addresses.filter((address) => {
    const refusal = guard(address, port);
    if (refusal !== null) refusals.push(refusal);
    return refusal === null;
  });
  const [first] = refusals;
  if (permitted.length > 0 || first === undefined) return permitted;
  if (refusals.length === 1) throw first;
  const { subject } = first;
  throw new Fault(first.code, refusals.map((refusal) => (refusal.subject === subject ? refusal.detail : refusal.message)).join('; '), {
    ...(subject === null ? {} : { subject }),
    cause: first,
    ...(first.remedy === null ? {} : { remedy: first.remedy }),
  });
}
