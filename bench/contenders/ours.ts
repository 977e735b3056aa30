/** eco-egress as it is shipped: policy, metrics, access log, the guard of tunnels, all on. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VERSION } from '../../src/version.ts';
import type { Contender } from './contender.ts';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'src/main.ts');
/** As bin/eco-egress and the image set it. */
const COMPILED = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/eco-egress') };

/** Pieces of YAML, for another configuration than the usual one. */
export interface OtherTerms {
  /** As a contender. */
  readonly name?: string;
  /** Further keys of `limits`, and of the rule, each with a comma before it. */
  readonly limits?: string;
  readonly rule?: string;
  /** Further lines. */
  readonly rest?: string;
}

/** @param nodeOptions for the process, such as those of the profiler */
export function createOurs(nodeOptions: readonly string[] = [], { name = 'ours', limits = '', rule = '', rest = '' }: OtherTerms = {}): Contender {
  return {
    name,
    fromNpm: false,
    ways: { tunnel: 'connect', forward: 'http', gateway: 'http' },
    gatewayOn: 'port',
    version: () => VERSION,
    launch: (place) => {
      const file = join(place.directory, 'egress.yaml');
      writeFileSync(
        file,
        `version: 1
listeners: { http: ["127.0.0.1:${place.port}"], tls: off, admin: "127.0.0.1:${place.gatewayPort}" }
clients: { bench: { addresses: ["127.0.0.0/8"] } }
destinations:
  upstream:
    hosts: ["${place.upstreamHost}"]
    ports: [${place.plainPort}, ${place.securePort}]
    addresses: ["127.0.0.0/8", "::1/128"]
    gateway: { prefix: "/eco", url: "https://${place.upstreamHost}:${place.securePort}" }
    tls: { caFile: "${place.caFile}" }
rules: [{ clients: [bench], destinations: [upstream]${rule} }]
limits: { tunnels: 20000, tunnelsPerClient: 20000, exchanges: 20000, exchangesPerClient: 20000, connections: 30000, connectionsPerClient: 30000${limits} }
timeouts: { drainDelay: "0s", drain: "2s" }
${rest}`,
      );
      return { command: process.execPath, args: [...nodeOptions, MAIN, 'serve', '--config', file, ...(place.cold ? ['--no-warm-up'] : [])], readyz: `http://127.0.0.1:${place.gatewayPort}/readyz`, env: COMPILED };
    },
  };
}
