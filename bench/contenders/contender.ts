/** What the benchmark needs to know of a proxy. */
import type { Launch } from '../machine/program.ts';

/** The ways into a proxy that the works use. */
export type Way = 'tunnel' | 'forward' | 'gateway';

export interface Place {
  /** Empty, and the working directory of the process: configuration and access log go here. */
  readonly directory: string;
  /** Free ports for it to listen on: one for tunnels and forwarding, one for the gateway. It may use the first for both. */
  readonly port: number;
  readonly gatewayPort: number;
  readonly upstreamHost: string;
  readonly plainPort: number;
  readonly securePort: number;
  readonly caFile: string;
  /** It is to listen as soon as it can, without warming up. */
  readonly cold: boolean;
}

export interface Contender {
  /** For `--contenders`. */
  readonly name: string;
  /** What it does for each way; `L4` passes bytes to one fixed upstream, without CONNECT and without a choice. */
  readonly ways: Readonly<Partial<Record<Way, 'connect' | 'L4' | 'http'>>>;
  /** Which port of the place the gateway is on. */
  readonly gatewayOn: 'port' | 'gatewayPort';
  /** A package of bench/package.json. */
  readonly fromNpm: boolean;
  /** As it calls itself; null where it is not installed. */
  version(): string | null;
  /** Writes its configuration: one process, one thread where it can choose, the access log in a file, the upstream's TLS verified and kept open. */
  launch(place: Place): Launch;
}
