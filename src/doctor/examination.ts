/** What the checks of a proxy's host work on, and what each leaves for those after it. */
import type { Config } from '../config/config.ts';
import type { Finding as ConfigFinding } from '../config/finding.ts';
import type { Lookup } from '../dial/lookup.ts';
import type { Verification } from '../source-ip/verify.ts';
import type { FormsProxy } from './forms-proxy.ts';
import type { ProxyAddress } from './proxy-url.ts';
import type { Target } from './targets.ts';
import type { Tools } from './tools.ts';

/** What the environment of the process says. */
export interface HostFacts {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Files a process may have open; null: not known, or not limited. */
  readonly openFiles: number | null;
  /** Ms since the epoch. */
  readonly now: () => number;
}

/** Filled in by the checks, in the order of their needs. */
export interface Trail {
  /** Addresses of a host that the guard permits, by destination and host. */
  readonly addresses: Map<string, readonly string[]>;
  /** Addresses to which no route leads. */
  readonly routeless: Set<string>;
  /** Where TCP stands, or parents have connected: by target; the addresses, or none where parents resolve. */
  readonly reached: Map<string, readonly string[]>;
  /** Targets whose connects timed out. */
  readonly silent: Set<string>;
  /** Targets that answered HTTP. */
  readonly answered: Set<string>;
  /** Date fields of answers: how far another clock is ahead of ours, ms. */
  readonly clocks: { readonly where: string; readonly ahead: number }[];
  verification: Verification | null;
  /** As the running proxy counts them; null: none runs here. */
  ports: { readonly used: number; readonly limit: number | null } | null;
}

export interface Examination {
  readonly config: Config;
  readonly file: string;
  readonly hash: string;
  readonly warnings: readonly ConfigFinding[];
  readonly targets: readonly Target[];
  readonly tools: Tools;
  readonly host: HostFacts;
  readonly trail: Trail;
  /** By which forms are tried, instead of a proxy that runs here. */
  readonly proxy: ProxyAddress | null;
  readonly lookup: Lookup | undefined;
  readonly isSelf: (address: string, port: number) => boolean;
  /** Asks which source address is seen; the data path of the proxy. */
  readonly verifySource: () => Promise<Verification | null>;
  /** The proxy that forms are tried by; the examination closes it. */
  readonly formsProxy: () => Promise<FormsProxy>;
}

export function createTrail(): Trail {
  return { addresses: new Map(), routeless: new Set(), reached: new Map(), silent: new Set(), answered: new Set(), clocks: [], verification: null, ports: null };
}

/** A destination may be reached by hops, another with the same host not. */
export const hostKey = ({ destination, host }: Pick<Target, 'destination' | 'host'>): string => `${destination.name} ${host}`;
export const targetKey = ({ destination, where }: Pick<Target, 'destination' | 'where'>): string => `${destination.name} ${where}`;
