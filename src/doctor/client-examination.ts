/** What the checks of a client's place work on. */
import type { UpstreamTlsConfig } from '../config/config.ts';
import type { HostFacts } from './examination.ts';
import type { ProxyAddress } from './proxy-url.ts';
import type { Tools } from './tools.ts';

/** What a client asks for. */
export interface ClientTarget {
  readonly scheme: 'http' | 'https';
  /** Canonical. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** `eco-sit.telus.internal:443`. */
  readonly where: string;
}

export interface ClientExamination {
  readonly target: ClientTarget;
  /** Null: none; a mesh steers, or the way is direct. */
  readonly proxy: ProxyAddress | null;
  readonly tls: UpstreamTlsConfig;
  readonly host: HostFacts;
  readonly tools: Tools;
  readonly trail: { addresses: readonly string[]; proxyAddresses: readonly string[]; open: boolean; readonly clocks: { where: string; ahead: number }[] };
}
