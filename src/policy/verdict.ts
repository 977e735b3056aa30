/**
 * The policy's input and output. Pure data: the listeners build an Ask,
 * decide.ts turns it into a Verdict, egress.ts acts on it.
 */
import type { ClientConfig, DestinationConfig, Form, RateConfig } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';

/** The client's identity, as far as it has been verified. */
export interface Peer {
  /** Canonical text: the peer of the connection, or the address given by a trusted peer. */
  readonly address: string;
  /** The Basic user whose password was verified. */
  readonly user: string | null;
  /** The content of a JWT whose signature and times were verified. */
  readonly token: { readonly issuer: string; readonly audiences: readonly string[]; readonly subject: string } | null;
  /** Subject alternative names of a verified client certificate: `DNS:name`, `URI:spiffe://…`. */
  readonly sans: readonly string[];
  /** Credentials were presented and not accepted: the reason, safe to show; null when there were none, or they were accepted. */
  readonly rejected: string | null;
}

/** A peer that shows nothing but its address; in raw TLS, which ends elsewhere, none can show more. */
export function peerAt(address: string): Peer {
  return { address, user: null, token: null, sans: [], rejected: null };
}

/** A verified property of a peer that may end while its connection or request continues. */
export interface Proof {
  /** `credentials`: user or token of the peer. `connection`: its certificate, without which its connection is no longer served. */
  readonly of: 'credentials' | 'connection';
  /** Why it is no longer valid, one sentence that is safe to show; null while it is. Cheap: called often. */
  readonly lapsed: (now: number) => string | null;
}

/** Plain data, so a decision can be kept and replayed. */
export interface Ask {
  readonly form: Form;
  readonly peer: Peer;
  /** Time of the request, ms since the epoch: the only clock of a decision. */
  readonly now: number;
  /** Canonical host: name or IP literal without brackets (targets/host.ts). */
  readonly host: string;
  readonly port: number;
  /** Null where it is hidden (inside a tunnel). */
  readonly method: string | null;
  /** Path without query, otherwise exactly as it would be forwarded; null where it is hidden. */
  readonly path: string | null;
  /** Name of the only destination, given by a gateway prefix; absent: found by host and port. */
  readonly destination?: string | undefined;
}

/** The request may go out. */
export interface Allow {
  readonly verdict: 'allow';
  readonly client: ClientConfig;
  readonly destination: DestinationConfig;
  /** `rules[0]`: the rule's position in the file. */
  readonly rule: string;
  /** When the rule ends, ms since the epoch; Infinity: never. */
  readonly until: number;
  /** From that rule, which alone limits the request; null: no limit. */
  readonly rate: RateConfig | null;
  /** Report mode is on, so a later finding against the request passes too. */
  readonly lenient: boolean;
}

/** The request is refused; created by deny.ts only. */
export interface Deny {
  readonly verdict: 'deny';
  readonly code: FaultCode;
  /** What was determined before the denial, for the log; null: unknown. */
  readonly client: ClientConfig | null;
  readonly destination: DestinationConfig | null;
  /** One sentence about this case. */
  readonly detail: string;
  /** The smallest change to the configuration that would permit it. */
  readonly remedy: string;
  /** Values for `Proxy-Authenticate`; empty unless credentials would help (407). */
  readonly challenges: readonly string[];
}

/** Would be denied, but passes in report mode. */
export interface Report {
  readonly verdict: 'report';
  /** The denial that is not enforced. */
  readonly would: Deny;
  readonly client: ClientConfig | null;
  /** Null where the host is in no destination: it is then dialled as the anonymous one. */
  readonly destination: DestinationConfig | null;
  /** `-` where no rule applies. */
  readonly rule: string;
  /** When the rule ends that is in report mode, ms since the epoch; Infinity: never, or more than a rule is in report mode. */
  readonly until: number;
}

/** The policy's answer on one request. */
export type Verdict = Allow | Deny | Report;
