/** What a configuration permits, one line per client and destination that a rule joins. */
import Table from 'cli-table3';
import type { Config, DestinationConfig, Form } from '../config/config.ts';
import { formatAuthority } from '../target/host.ts';

export interface Permit {
  readonly client: string;
  readonly clientAddresses: readonly string[];
  readonly destination: string;
  readonly hosts: readonly string[];
  readonly ports: readonly number[];
  /** Those that can reach it: gateway only where the destination has one. */
  readonly forms: readonly Form[];
  /** `/eco -> https://eco-sit.telus.internal:443`, or null. */
  readonly gateway: string | null;
  /** Null: any. */
  readonly methods: readonly string[] | null;
  readonly paths: readonly string[] | null;
  /** Null: public addresses only. */
  readonly addresses: readonly string[] | null;
  readonly rule: string;
}

/** In the order of the rules; a pair that an earlier rule joins already is left out. */
export function listPermits(config: Config): Permit[] {
  const seen = new Set<string>();
  return config.rules.flatMap((rule, index) =>
    config.clients
      .filter(({ name }) => rule.clients.includes(name))
      .flatMap((client) =>
        config.destinations
          .filter(({ name }) => rule.destinations.includes(name))
          .filter(({ name }) => {
            const pair = `${client.name} ${name}`;
            return !seen.has(pair) && seen.add(pair);
          })
          .map((destination) => permitOf(client.name, client.addresses ?? [], destination, `rules[${index}]`)),
      ),
  );
}

function permitOf(client: string, clientAddresses: readonly string[], destination: DestinationConfig, rule: string): Permit {
  const { gateway, name, hosts, ports, methods, paths, addresses } = destination;
  const forms = destination.forms.filter((form) => form !== 'gateway' || gateway !== null);
  const target = gateway === null ? null : `${gateway.prefix} -> ${gateway.scheme}://${formatAuthority(gateway.host, gateway.port)}${gateway.basePath}`;
  return { client, clientAddresses, destination: name, hosts, ports, forms, gateway: target, methods, paths, addresses, rule };
}

/** One row per permit, lists one entry per line. Colours only on a terminal. */
export function permitTable(permits: readonly Permit[], stream: NodeJS.WritableStream): string {
  const colours = 'isTTY' in stream && stream.isTTY === true;
  const table = new Table({
    head: ['client', 'from', 'may reach', 'hosts', 'ports', 'by', 'methods', 'paths', 'that resolve to'],
    style: colours ? { head: ['bold'], border: ['dim'], compact: false } : { head: [], border: [] },
  });
  for (const permit of permits) {
    const forms = permit.forms.map((form) => (form === 'gateway' ? `gateway ${permit.gateway?.split(' ')[0] ?? ''}` : form));
    table.push([
      permit.client,
      permit.clientAddresses.join('\n'),
      permit.destination,
      permit.hosts.join('\n'),
      permit.ports.join('\n'),
      forms.join('\n'),
      permit.methods?.join('\n') ?? 'any',
      permit.paths?.join('\n') ?? 'any',
      permit.addresses?.join('\n') ?? 'public\naddresses',
    ]);
  }
  return table.toString();
}
