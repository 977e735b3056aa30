/**
 * What of the policy a mesh can steer to the proxy: for each destination the
 * ports that arrive as TLS with a server name, by CONNECT, or as HTTP with a
 * Host, and a word for whatever cannot come that way.
 */
import { isIP } from 'node:net';
import type { Config, DestinationConfig, Form } from '../config/config.ts';
import { buildHostTable } from '../policy/host-table.ts';
import { tlsPortOf } from '../policy/tls-port.ts';

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

/** Ports that speak plain HTTP by custom; a gateway's URL says it for certain, and every other port is taken for TLS. */
const HTTP_PORTS: ReadonlySet<number> = new Set([80, 8080]);
const WAYS: readonly Way[] = ['tunnelled', 'passed', 'plain'];

/** @param tunnels the sidecar can make CONNECT requests, which name the port too */
export function planSteering(config: Config, tunnels: boolean): Steering {
  const notes: string[] = [];
  const owners = new Map<string, string>();
  const table = buildHostTable(config.destinations.map(({ hosts }) => hosts));
  /** For a wildcard, that of any name below it. */
  const rawTlsPort = (host: string): number => tlsPortOf(table, config.destinations, host.replace(/^\*/, 'x'));

  const destinations = config.destinations.flatMap((destination): SteeredDestination[] => {
    const hosts = destination.hosts.filter((host) => {
      const owner = owners.get(host);
      if (isIP(host) !== 0) notes.push(`${destination.name}: ${host} is an address, and a mesh steers by names. Clients reach it by HTTPS_PROXY or the gateway.`);
      else if (owner !== undefined) notes.push(`${destination.name}: ${host} is steered as a host of ${owner}; a mesh takes one route for a host. The proxy judges it by both.`);
      else owners.set(host, destination.name);
      return isIP(host) === 0 && owner === undefined;
    });
    const ports = destination.ports.flatMap((port): SteeredPort[] => {
      const ways = hosts.map((host) => ({ host, way: wayFor(destination, host, port, tunnels, rawTlsPort(host)) }));
      for (const { host, way } of ways) if (!isWay(way)) notes.push(`${destination.name}: ${host}:${port} is not steered. ${way.why}`);
      return WAYS.flatMap((way) => {
        const taken = ways.filter((one) => one.way === way).map(({ host }) => host);
        return taken.length === 0 ? [] : [{ port, way, hosts: taken }];
      });
    });
    return ports.length === 0 ? [] : [{ name: destination.name, ports }];
  });
  return { destinations, notes };
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

function isWay(way: Way | { readonly why: string }): way is Way {
  return typeof way === 'string';
}

function isPlain({ gateway }: DestinationConfig, port: number): boolean {
  if (gateway?.port === port) return gateway.scheme === 'http';
  return HTTP_PORTS.has(port);
}
