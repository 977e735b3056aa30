/**
 * What is asked of the policy and what it answers. Pure data: the listeners
 * build an Ask, decide.ts turns it into a Verdict, egress.ts acts on it.
 */
import type { ClientConfig, DestinationConfig, HttpForm } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';

export interface Ask {
  readonly form: HttpForm;
  /** The peer of the client connection, canonical text; never taken from a header. */
  readonly clientAddress: string;
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

export interface Allow {
  readonly verdict: 'allow';
  readonly client: ClientConfig;
  readonly destination: DestinationConfig;
  /** `rules[0]`: the rule's place in the file. */
  readonly rule: string;
}

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
}

export type Verdict = Allow | Deny;
