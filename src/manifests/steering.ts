/**
 * What of the policy a mesh can steer to the proxy: for each destination the
 * ports that arrive as TLS with a server name, by CONNECT, or as HTTP with a
 * Host, and a word for whatever cannot come that way.
 */
import { isIP } from 'node:net';
import type { Config, DestinationConfig, Form } from '../config/config.ts';
import { buildHostTable } from '../policy/host-table.ts';
import { tlsPortOf } from '../policy/tls-port.ts';
import { countPorts, eachPort, mergePorts } from '../target/port-range.ts';

/** `passed`: raw TLS to the TLS port; `tunnelled`: TLS inside a CONNECT that the sidecar makes; `plain`: HTTP as it is. */
export type Way = 'passed' | 'tunnelled' | 'plain';

export interface SteeredPort {
  readonly port: number;
  readonly way: Way;
  readonly hosts: readonly string[];
}

export interface SteeredDestination {
  readonly name: string;
  readonly ports: readonly SteeredPort[];
}

export interface Steering {
  readonly destinations: readonly SteeredDestination[];
  /** What is not steered and why, one sentence each. */
  readonly notes: readonly string[];
}

export interface MeshAbilities {
  /** Sidecars that make CONNECT requests, which name the port too. */
  readonly tunnels: boolean;
  readonly wildcards: boolean;
}

/** A ServiceEntry has at most 256 ports, those of other entries among them. */
const MOST_OF_A_RANGE = 100;

/** Ports that speak plain HTTP by custom; a gateway's URL says it for certain, and every other port is taken for TLS. */
const HTTP_PORTS: ReadonlySet<number> = new Set([80, 8080]);

/**
 * A mesh takes one route for a host, so a host of several destinations is
 * steered, by the ports of them all, under the name of the first.
 */
export function planSteering({ destinations }: Config, { tunnels, wildcards }: MeshAbilities): Steering {
  const notes: string[] = [];
  const table = buildHostTable(destinations.map(({ hosts }) => hosts));
  const seen = new Set<string>();
  const steered = destinations.flatMap(({ name, hosts }): SteeredDestination[] => {
    const ports: SteeredPort[] = [];
    for (const host of hosts.filter((one) => !seen.has(one))) {
      seen.add(host);
      if (isIP(host) !== 0) {
        notes.push(`${name}: ${host} is an address, and a mesh steers by names. Clients reach it by HTTPS_PROXY or the gateway.`);
        continue;
      }
      if (!wildcards && host.startsWith('*.')) {
        notes.push(`${name}: ${host} is not steered. Ambient steers by an address that it gives to each name, and a wildcard has none: list the names.`);
        continue;
      }
      // For a wildcard, that of any name below it.
      const rawTlsPort = tlsPortOf(table, destinations, host.replace(/^\*/, 'x'));
      for (const owner of destinations.filter((one) => one.hosts.includes(host))) {
        const refused = new Map<string, number[]>();
        const wide = owner.ports.filter((entry) => countPorts([entry]) > MOST_OF_A_RANGE);
        for (const entry of wide) notes.push(`${owner.name}: ${host}:${String(entry)} is not steered. A mesh lists every port by itself, and these are more than ${MOST_OF_A_RANGE}. Clients reach them by HTTPS_PROXY.`);
        for (const port of eachPort(owner.ports.filter((entry) => !wide.includes(entry)))) {
          const way = wayFor(owner, host, port, tunnels, rawTlsPort);
          if (typeof way === 'string') addTo(ports, { port, way, hosts: [host] });
          else refused.set(way.why, [...(refused.get(way.why) ?? []), port]);
        }
        for (const [why, them] of refused) for (const entry of mergePorts(them)) notes.push(`${owner.name}: ${host}:${String(entry)} is not steered. ${why}`);
      }
    }
    return ports.length === 0 ? [] : [{ name, ports }];
  });
  return { destinations: steered, notes };
}

/** Hosts that go the same way to the same port share a route. */
function addTo(ports: SteeredPort[], added: SteeredPort): void {
  const at = ports.findIndex(({ port, way }) => port === added.port && way === added.way);
  const there = ports[at];
  if (there === undefined) ports.push(added);
  else ports[at] = { ...there, hosts: [...there.hosts, ...added.hosts] };
}

function wayFor(destination: DestinationConfig, host: string, port: number, tunnels: boolean, rawTlsPort: number): Way | { readonly why: string } {
  const takes = (form: Form): boolean => destination.forms.includes(form);
  if (isPlain(destination, port)) return takes('host-routed') ? 'plain' : { why: 'HTTP arrives from a mesh in the form host-routed, which its forms leave out.' };
  // CONNECT has to name one host, which a wildcard is not.
  if (tunnels && takes('connect') && !host.startsWith('*.')) return 'tunnelled';
  if (!takes('sni')) return { why: 'TLS arrives from a mesh in the form sni, which its forms leave out.' };
  if (port !== rawTlsPort) return { why: `Raw TLS does not say its port, and the proxy takes ${rawTlsPort} for this host. CONNECT says it: the overlay sidecar-tunnel, for a host without a wildcard.` };
  return 'passed';
}

function isPlain({ gateway }: DestinationConfig, port: number): boolean {
  if (gateway?.port === port) return gateway.scheme === 'http';
  return HTTP_PORTS.has(port);
}
