/**
 * What is asked of the policy and what it answers. Pure data: the listeners
 * build an Ask, decide.ts turns it into a Verdict, egress.ts acts on it.
 */
import type { ClientConfig, DestinationConfig, Form, RateConfig } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';

/** Who asks, as far as it has been verified. */
export interface Peer {
  /** Canonical text: the other end of the connection, or what a trusted peer says of it. */
  readonly address: string;
  /** The Basic user whose password was verified. */
  readonly user: string | null;
  /** The content of a JWT whose signature and times were verified. */
  readonly token: { readonly issuer: string; readonly audiences: readonly string[]; readonly subject: string } | null;
  /** Subject alternative names of a verified client certificate: `DNS:name`, `URI:spiffe://…`. */
  readonly sans: readonly string[];
  /** Credentials were presented and not accepted: why, safe to show; null when none were, or they were accepted. */
  readonly rejected: string | null;
}

/** What was verified of a peer, and may cease to hold while what it was permitted goes on. */
export interface Proof {
  /** `credentials`: user or token of the peer. `connection`: its certificate, without which its connection is served no more. */
  readonly of: 'credentials' | 'connection';
  /** Why it holds no longer, one sentence that is safe to show; null while it does. Cheap: asked again and again. */
  readonly lapsed: (now: number) => string | null;
}

/** Plain data, so that a decision can be kept and replayed. */
export interface Ask {
  readonly form: Form;
  readonly peer: Peer;
  /** When it is asked, ms since the epoch: the only clock of a decision. */
  readonly now: number;
  /** Canonical host: name or IP literal without brackets (target/host.ts). */
  readonly host: string;
  readonly port: number;
  /** Null where we cannot see it (inside a tunnel). */
  readonly method: string | null;
  /** Path without query, otherwise exactly as it would be forwarded; null where we cannot see it. */
  readonly path: string | null;
  /** Name of the one destination that is meant, where a gateway prefix stands for it; absent: found by host and port. */
  readonly destination?: string;
}

/** The request may go out. */
export interface Allow {
  readonly verdict: 'allow';
  readonly client: ClientConfig;
  readonly destination: DestinationConfig;
  /** `rules[0]`: the rule's place in the file. */
  readonly rule: string;
  /** When the rule ends, ms since the epoch; Infinity: never. */
  readonly until: number;
  /** Of that rule, which alone limits the request; null: it does not. */
  readonly rate: RateConfig | null;
  /** Report mode is on here, so what is found against the request later passes too. */
  readonly lenient: boolean;
}

/** The request is refused; made by deny.ts alone. */
export interface Deny {
  readonly verdict: 'deny';
  readonly code: FaultCode;
  /** What was found before the denial, for the log; null where unknown. */
  readonly client: ClientConfig | null;
  readonly destination: DestinationConfig | null;
  /** One sentence about this very case. */
  readonly detail: string;
  /** The smallest change to the configuration that would permit it. */
  readonly remedy: string;
  /** Values for `Proxy-Authenticate`; empty unless credentials would help (407). */
  readonly challenges: readonly string[];
}

/** Would be denied, but report mode lets it pass. */
export interface Report {
  readonly verdict: 'report';
  /** The denial that is not enforced. */
  readonly would: Deny;
  readonly client: ClientConfig | null;
  /** Null where the host is in no destination: it is then dialled as the anonymous one. */
  readonly destination: DestinationConfig | null;
  /** `-` where no rule applies. */
  readonly rule: string;
}

/** The policy's answer on one request. */
export type Verdict = Allow | Deny | Report;
