/** The state that the running proxy keeps anyway and incidents use: each is read at the time of a question, and must not throw. */
import type { Config } from '../config/config.ts';
import type { CircuitsView } from '../dial/circuit-view.ts';
import type { DialHistory } from '../dial/dial-history.ts';
import type { Lookup } from '../dial/lookup.ts';
import type { PortsInUse } from '../dial/ports.ts';
import type { DenialRecord } from '../explain/kept-request.ts';
import type { SourceView } from '../source-ip/source-proof.ts';
import type { Verification, VerifyRequest } from '../source-ip/verify.ts';
import type { HealthView } from '../telemetry/destination-health.ts';
import type { ProxyEvidence } from './evidence.ts';

/** An open connection to a partner, and the bytes received so far. */
export interface OpenConnection {
  /** Its identity. */
  readonly key: object;
  readonly address: string;
  readonly bytesReceived: number;
}

/** Of one replica. */
export interface IncidentSources {
  readonly instance: string;
  readonly version: string;
  readonly config: () => Config;
  /** Replaces the configured resolver; null: it is used. */
  readonly lookup: Lookup | null;
  readonly isSelf: (address: string, port: number) => boolean;
  /** The addresses that requests would get for a name; rejects with a Fault. */
  readonly resolveAsRequests: (host: string, signal: AbortSignal) => Promise<readonly string[]>;
  readonly proxy: () => Omit<ProxyEvidence, 'eventLoopMs' | 'segments'>;
  readonly source: { view(): SourceView; verify(request: VerifyRequest): Promise<Verification> };
  /** The latest first. */
  readonly denials: (most: number) => readonly DenialRecord[];
  readonly failures: (most: number) => readonly DenialRecord[];
  /** Null: no request has been sent to it. */
  readonly health: (destination: string) => HealthView | null;
  readonly circuits: () => readonly CircuitsView[];
  readonly ports: () => PortsInUse;
  readonly history: Pick<DialHistory, 'failedTo' | 'answersFor'>;
  readonly connections: () => Iterable<OpenConnection>;
  /** Ms since the epoch. */
  readonly now: () => number;
}
