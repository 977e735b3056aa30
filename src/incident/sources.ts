/** What the running proxy knows and keeps anyway, as incidents are judged by it: each is asked at the time of a question, and must not throw. */
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

/** A connection to a partner that is open, and what has come over it so far. */
export interface OpenConnection {
  /** By which it is known again. */
  readonly key: object;
  readonly address: string;
  readonly bytesReceived: number;
}

/** Of one replica. */
export interface IncidentSources {
  readonly instance: string;
  readonly version: string;
  readonly config: () => Config;
  /** Instead of the configured resolver; null: that. */
  readonly lookup: Lookup | null;
  readonly isSelf: (address: string, port: number) => boolean;
  /** What requests would be given for a name; rejects with a Fault. */
  readonly resolveAsRequests: (host: string, signal: AbortSignal) => Promise<readonly string[]>;
  readonly proxy: () => Omit<ProxyEvidence, 'eventLoopMs' | 'segments'>;
  readonly source: { view(): SourceView; verify(request: VerifyRequest): Promise<Verification> };
  /** The latest first. */
  readonly denials: (most: number) => readonly DenialRecord[];
  readonly failures: (most: number) => readonly DenialRecord[];
  /** Null: nothing has been asked of it. */
  readonly health: (destination: string) => HealthView | null;
  readonly circuits: () => readonly CircuitsView[];
  readonly ports: () => PortsInUse;
  readonly history: Pick<DialHistory, 'failedTo' | 'answersFor'>;
  readonly connections: () => Iterable<OpenConnection>;
  /** Ms since the epoch. */
  readonly now: () => number;
}
