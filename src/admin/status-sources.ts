/** The sources of the status page: facts about the process, its configuration and its parts, each read at the time of a view. */
import type { Config, DestinationConfig } from '../config/config.ts';
import type { RuleEnd } from '../config/rule-ends.ts';
import type { PolicyChange } from '../reload/policy-change.ts';
import type { SourceView } from '../source-ip/source-proof.ts';
import type { NatPorts } from '../telemetry/collectors.ts';
import type { Explaining, Traffic } from './routes.ts';
import type { StatusCircuit, StatusLimit } from './status-view.ts';

/** The process and its configuration on the status page. */
export interface AdminInfo {
  readonly version: string;
  /** Name of this replica. */
  readonly instance: string;
  /** File of the configuration in force; null: it is not from a file. */
  readonly configFile: string | null;
  readonly configHash: string;
  /** Ms since the epoch. */
  readonly loadedAt: number;
  readonly config: {
    readonly mode: Config['mode'];
    readonly listeners: Config['listeners'];
    readonly destinations: readonly (Pick<DestinationConfig, 'name' | 'hosts' | 'ports' | 'report'> & {
      readonly via: readonly { readonly name: string }[];
    })[];
    readonly rules: readonly Pick<Config['rules'][number], 'report' | 'from' | 'until'>[];
  };
  /** Rules that have an end, the next first. */
  readonly ruleEnds: readonly RuleEnd[];
  readonly limits: readonly StatusLimit[];
  /** What the self-test found, in words. */
  readonly enforcement: { readonly words: string };
  readonly ports: PortsInfo;
  /** By the key that names the file: when the first certificate in it expires, Unix time in seconds. */
  readonly certificates: ReadonlyMap<string, number>;
}

/** One host and port of a destination. */
export interface CircuitsOfHost {
  readonly destination: string;
  readonly host: string;
  readonly port: number;
  /** The kind of traffic: each has its own circuits. */
  readonly carries: string;
  readonly addresses: readonly Omit<StatusCircuit, 'of'>[];
}

/** NAT ports towards one address and port, as the port budget counts them. */
export interface PortsInfo extends NatPorts {
  /** Short tunnels by client, most first. */
  readonly shortTunnels: readonly (readonly [client: string, tunnels: number])[];
}

/** The answer of `/readyz`. */
export interface Readiness {
  readonly ready: boolean;
  /** Why not ready, one sentence each; empty when ready. */
  readonly reasons: readonly string[];
  /** Problems that do not make the proxy unready. */
  readonly warnings: readonly string[];
  /** Warnings that do not affect the state; absent: none. */
  readonly notes?: readonly string[];
  /** What the latest reload changed in decisions; absent or null: there was none, or it is being compared. */
  readonly policyChange?: PolicyChange | null;
}

/** The sources of a view; each is read at the time of a view, and must not throw. */
export interface StatusSources {
  readonly info: () => AdminInfo;
  readonly readiness: () => Readiness;
  readonly sourceIp: () => SourceView;
  readonly explainer: Pick<Explaining, 'denials' | 'failures'>;
  readonly traffic: Traffic;
  /** Hosts and ports of destinations of which some address has failed lately; absent: they are not counted. */
  readonly circuits?: () => readonly CircuitsOfHost[];
}
