/** The evidence of an incident: plain data, collected by gather.ts and evaluated by judge.ts. Times are ms since the epoch. */
import type { FailedAttempt } from '../dial/dial-history.ts';
import type { FaultCode } from '../errors.ts';
import type { SentSegments } from './retransmits.ts';

/** Where a fault can be, from the client to the partner. */
export const INCIDENT_PARTS = [
  'pod',
  'proxy',
  'nat',
  'resolver',
  'parent',
  'route',
  'partner-firewall',
  'partner-tls',
  'partner-application',
] as const;
/** One of `INCIDENT_PARTS`. */
export type IncidentPart = (typeof INCIDENT_PARTS)[number];

/** A failure in one step of a try. */
export interface TriedFault {
  readonly code: FaultCode;
  readonly detail: string;
  /** With a parent: its TCP connection had no answer; nothing was sent to it. */
  readonly connecting?: boolean;
}

/** The result of a TCP connection: `unsent` means that the local system refused before a packet left. */
export type TcpOutcome = 'open' | 'refused' | 'silent' | 'unreachable' | 'unsent';

/** One TCP connection that was tried. */
export interface TcpTry {
  readonly at: number;
  readonly address: string;
  readonly port: number;
  /** Our end, before any NAT: `10.128.0.11:41234`; null: no packet left. */
  readonly from: string | null;
  readonly outcome: TcpOutcome;
  readonly ms: number;
  /** The name of the error, or how long there was no answer; '' where it is open. */
  readonly detail: string;
}

/** A TLS handshake that was tried. */
export interface TlsTry {
  readonly fault: TriedFault | null;
  /** Expiry of the certificate shown; null: none was. */
  readonly certificate: { readonly names: string; readonly issuer: string; readonly validFrom: number; readonly validTo: number } | null;
}

/** One request that was tried. */
export interface HttpTry {
  readonly fault: TriedFault | null;
  /** 0: no answer. */
  readonly status: number;
  readonly ms: number;
  /** The request: `HEAD /`. */
  readonly asked: string;
}

/** One address and port of a destination, tried step by step; a step is null where the one before failed, or does not apply. */
export interface AddressTry {
  /** `eco-sit.telus.internal:443` */
  readonly where: string;
  readonly tcp: TcpTry;
  /** The second connection, where the first had no answer; or the one for TLS and a request, where that did not open. */
  readonly again: TcpTry | null;
  readonly tls: TlsTry | null;
  readonly http: HttpTry | null;
  /** Bytes that came from this address over connections that were open already, during the try. */
  readonly moved: number;
}

/** One parent proxy of the first hop. */
export interface ParentTry {
  readonly hop: string;
  /** `activegateway.telus.internal:3128` */
  readonly parent: string;
  /** Its name could not be resolved, or resolves to addresses that may not be dialled. */
  readonly fault: TriedFault | null;
  readonly tcp: readonly TcpTry[];
}

/** The whole route through parents to one host and port. */
export interface RouteTry {
  readonly where: string;
  readonly at: number;
  /** CONNECT, or what the parents speak instead; null: it is open. */
  readonly fault: TriedFault | null;
  readonly tls: TlsTry | null;
  readonly http: HttpTry | null;
}

/** A host of a destination, as it resolves now. */
export interface NameTry {
  readonly host: string;
  readonly at: number;
  readonly fault: TriedFault | null;
  readonly addresses: readonly string[];
  /** Addresses that may not be dialled, and why. */
  readonly refused: readonly { readonly address: string; readonly detail: string }[];
  /** What requests use now, from the cache; null: nothing. */
  readonly inUse: readonly string[] | null;
  /** Earlier answers, the latest first. */
  readonly history: readonly { readonly at: number; readonly addresses: readonly string[]; readonly code: FaultCode | null }[];
}

/** A request to a destination that was let through and has failed. */
export interface FailedRequest {
  readonly at: number;
  readonly code: FaultCode;
  readonly detail: string;
}

/** A connection of a request that failed before it was open. */
export interface FailedConnection extends Omit<FailedAttempt, 'destination'> {
  readonly at: number;
}

/** One destination: results of its requests, and of the tries made now. */
export interface DestinationEvidence {
  readonly name: string;
  /** Hops of the route; empty: direct. */
  readonly via: readonly string[];
  readonly last: 'ok' | 'error' | 'failed' | null;
  readonly lastOk: number | null;
  readonly lastError: { readonly at: number; readonly status: number } | null;
  /** The latest first. */
  readonly failures: readonly FailedRequest[];
  readonly connections: readonly FailedConnection[];
  /** Addresses that requests do not use. */
  readonly circuits: readonly { readonly address: string; readonly port: number; readonly since: number; readonly reason: string }[];
  readonly ports: { readonly used: number; readonly limit: number | null; readonly refused: number };
  /** How long exchanges took that ended in the last minute, ms: half of them at most, and 99 of 100; null: none ended. */
  readonly took: { readonly p50: number; readonly p99: number } | null;
  readonly names: readonly NameTry[];
  readonly tries: readonly AddressTry[];
  readonly parents: readonly ParentTry[];
  readonly routes: readonly RouteTry[];
}

/** Recently refused requests of one client with one code. */
export interface DeniedRequests {
  readonly client: string;
  readonly clientAddress: string;
  readonly code: FaultCode;
  /** `-`: no configured one. */
  readonly destination: string;
  /** One of the hosts. */
  readonly host: string;
  /** Different hosts. */
  readonly hosts: number;
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

/** The proxy itself. */
export interface ProxyEvidence {
  readonly draining: boolean;
  /** Why the allowlist is not enforced; empty: it is, as far as known. */
  readonly notEnforcing: readonly string[];
  /** Why the latest configuration was refused; empty: it was not. */
  readonly reloadRefused: readonly string[];
  readonly loadedAt: number;
  /** What the latest reload changed in decisions. */
  readonly policyChange: {
    readonly at: number;
    readonly denies: boolean;
    readonly sentence: string;
    readonly classes: readonly string[];
  } | null;
  /** Delay of the event loop in the worst one of twenty samples during collection, ms: a single pause says little. */
  readonly eventLoopMs: number;
  /** TCP segments during collection; null: the system does not report them. */
  readonly segments: SentSegments | null;
  readonly limits: readonly { readonly name: string; readonly used: number; readonly limit: number | null }[];
  /** Why file descriptors are short; null: they are not. */
  readonly descriptors: string | null;
  /** Why new requests are refused for lack of time or memory; empty: they are not. */
  readonly overloaded: readonly string[];
  /** What is lost of log, metrics and traces; empty: nothing. */
  readonly telemetry: readonly string[];
}

/** The source address seen by a probe made now. */
export interface SourceEvidence {
  /** `off`: no probe is configured. */
  readonly result: 'match' | 'mismatch' | 'unknown' | 'unjudged' | 'off';
  readonly seen: string | null;
  readonly expected: readonly string[];
  /** Since when the probe has had this result. */
  readonly since: number | null;
  readonly at: number;
  /** Where the echo endpoint was reached, and from where. */
  readonly endpoint: string | null;
  readonly from: string | null;
  readonly fault: TriedFault | null;
}

/** Everything. */
export interface IncidentEvidence {
  readonly at: number;
  readonly instance: string;
  readonly version: string;
  /** The destination of the question; null: all. */
  readonly asked: string | null;
  readonly proxy: ProxyEvidence;
  readonly source: SourceEvidence;
  /** Of the last minute, under the configuration in force. */
  readonly denials: readonly DeniedRequests[];
  /** How far clocks of partners are ahead of ours, ms. */
  readonly clocks: readonly { readonly where: string; readonly ahead: number }[];
  readonly destinations: readonly DestinationEvidence[];
  /** Destinations, hosts and addresses that were not tried, because there are too many or the time was up. */
  readonly leftOut: number;
}
