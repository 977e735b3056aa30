/**
 * From a permitted target to a usable socket: resolve, check every address,
 * connect, directly or through parent proxies, finish TLS. Each step owns its
 * socket until the next has taken it.
 */
import { isIP, type Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import type { Config, TimeoutsConfig, UpstreamTlsConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { CircuitBreaker, CircuitUse } from './circuit-breaker.ts';
import { connectFirst, type ConnectRequest, type IsOurs } from './connect.ts';
import { CoolDowns } from './cool-downs.ts';
import type { DialHistory } from './dial-history.ts';
import { abortFault, type AddressGuard, type Dialled, type Dialler, type DialTarget, type HopStep } from './dial.ts';
import { HopFault, joinHopFaults } from './hop-fault.ts';
import { createHops, describeWay, type HopsDial } from './hops.ts';
import { dnsLookup, type Lookup, systemLookup } from './lookup.ts';
import type { PortBudget } from './nat-budget.ts';
import { encodeProxyHeader, type ProxiedClient } from './proxy-header.ts';
import { checkAddresses, createResolver, type KnownNames, type Resolver } from './resolver.ts';
import { HandshakeCut, lateTlsFault } from './tls-fault.ts';
import { secure, trustEndOf } from './tls.ts';

interface DiallerOptions {
  readonly resolver: Resolver;
  readonly timeouts: Pick<TimeoutsConfig, 'connect' | 'tls'>;
  /** Which parents failed recently; by default an own one without notices. */
  readonly coolDowns?: CoolDowns;
  /** Which addresses failed too often; by default an own one without notices. */
  readonly circuits?: CircuitBreaker;
  /** Remembers connections that failed; absent: they are not kept. */
  readonly history?: DialHistory | undefined;
  /** Our `Via` value for requests to parents; null: none. */
  readonly via?: string | null;
  /** Assigns NAT ports to TCP connections; absent: ports are not counted. */
  readonly ports?: PortBudget | undefined;
  /** Whether a connection leads back to this proxy; absent: none does. */
  readonly isOurs?: IsOurs;
  /** Takes a file descriptor for each connection; absent: there always is one. */
  readonly descriptors?: ConnectRequest['descriptors'];
  /** Monotonic clock for the phases, ms. */
  readonly now?: () => number;
}

/** What the attempts of one dial have in common. */
interface Dial {
  readonly target: DialTarget;
  readonly guard: AddressGuard;
  readonly signal: CancelSignal;
  readonly circuit: CircuitUse | undefined;
}

/** How many connections to one target may be cut in their TLS handshake. A partner that is restarting, or one faulty address of it, costs one. */
const MOST_HANDSHAKES = 2;

/** How many addresses of one name are requested from parents, one after the other. */
const MOST_ASKED_FOR = 4;

/** Keeps nothing between dials, so there is nothing to close. */
export function createDialler(options: DiallerOptions): Dialler {
  const { resolver, timeouts, history, ports, isOurs, descriptors, via = null } = options;
  const now = options.now ?? performance.now.bind(performance);
  const coolDowns = options.coolDowns ?? new CoolDowns({ now, onFailed: () => {}, onBack: () => {} });
  const circuits = options.circuits ?? new CircuitBreaker({ now, onOpened: () => {}, onClosed: () => {} });
  const hops = createHops({ resolve, coolDowns, via, now });

  async function resolve(host: string, signal: CancelSignal): Promise<{ addresses: readonly string[]; dnsMs: number }> {
    const known = resolver.cached(host);
    if (known !== null) return { addresses: known, dnsMs: -1 };
    const asked = now();
    const addresses = await resolver.resolve(host, signal).catch((error: unknown) => {
      throw afterLookup(error, now() - asked);
    });
    return { addresses, dnsMs: now() - asked };
  }

  /** Connected, with the header that names the client, before TLS. @param begun attempts before, for the same request */
  async function open(dial: Dial, avoid: string | null, begun: number): Promise<Dialled> {
    const { target, guard, signal, circuit } = dial;
    const { host, port, destination, client, opener, proxied, via: steps = [] } = target;
    if (steps.length > 0) return openByWay(steps, dial, avoid, begun);
    const known = resolver.cached(host);
    // Usually available without waiting.
    const { addresses, dnsMs } = known === null ? await resolve(host, signal) : { addresses: known, dnsMs: -1 };
    try {
      const checked = checkAddresses(addresses, port, guard);
      const chosen = circuit === undefined ? checked : circuit.choose(checked);
      const permitted = avoid === null ? chosen : without(chosen, avoid);
      const dialled = now();
      const { socket, address, attempts, lease } = await connectFirst({
        host,
        port,
        addresses: permitted,
        timeout: timeouts.connect,
        signal,
        begun,
        ports,
        destination,
        ...sharing(client, opener),
        isOurs,
        descriptors,
        circuit,
        history,
      });
      circuit?.opened(address);
      if (proxied !== undefined) nameClient(socket, proxied, address, port);
      return { socket, address, peer: { address, port }, via: '', dnsMs, tcpMs: now() - dialled, hopMs: -1, tlsMs: -1, attempts, lease };
    } catch (error) {
      throw afterLookup(error, dnsMs);
    }
  }

  /** One address after the other, until one answers or no other can. */
  async function openByHops(
    steps: readonly HopStep[],
    hosts: readonly string[],
    port: number,
    dial: HopsDial,
    begun: number,
  ): Promise<Dialled> {
    const began = now();
    const failures: HopFault[] = [];
    let asked: string | null = null;
    for (const host of hosts.slice(0, MOST_ASKED_FOR)) {
      try {
        const way = await hops.open(steps, { host, port }, dial);
        const spent = now() - began - way.tcpMs - Math.max(way.dnsMs, 0);
        return {
          socket: way.socket,
          address: host,
          peer: way.peer,
          via: describeWay(way.parents),
          parentCertificates: way.certificates,
          dnsMs: way.dnsMs,
          tcpMs: way.tcpMs,
          hopMs: spent,
          tlsMs: -1,
          attempts: begun + failures.length + 1,
          lease: way.lease,
        };
      } catch (error) {
        if (!(error instanceof HopFault) || error.about === 'parent') throw error;
        failures.push(error);
        asked = host;
      }
    }
    const fault = joinHopFaults(failures);
    throw asked === null || isIP(asked) === 0 ? fault : fault.with({ address: asked, dials: begun + failures.length });
  }

  async function openByWay(
    steps: readonly HopStep[],
    { target, guard, signal, circuit }: Dial,
    avoid: string | null,
    begun: number,
  ): Promise<Dialled> {
    const { host, port, destination, client, opener, proxied, resolve: by } = target;
    const dial: HopsDial = {
      connect: (request) =>
        connectFirst({ ...request, signal, ports, destination, ...sharing(client, opener), isOurs, descriptors, history }),
      signal,
    };
    // Only the parents could say which of its addresses is at fault.
    circuit?.choose([host]);
    circuit?.opened(host);
    const { addresses, dnsMs } = by === 'parent' ? { addresses: [host], dnsMs: -1 } : await resolve(host, signal);
    try {
      const asked = by === 'parent' ? addresses : checkAddresses(addresses, port, guard);
      const opened = await openByHops(steps, avoid === null ? asked : without(asked, avoid), port, dial, begun).catch((error: unknown) => {
        if (error instanceof Fault && !signal.aborted) circuit?.routeFailed(error);
        throw error;
      });
      const address = by === 'parent' ? null : opened.address;
      if (proxied !== undefined) nameClient(opened.socket, proxied, address, port);
      return { ...opened, address, dnsMs: dnsMs === -1 ? opened.dnsMs : dnsMs + Math.max(opened.dnsMs, 0) };
    } catch (error) {
      throw afterLookup(error, dnsMs);
    }
  }

  /**
   * In a handshake that was cut, nothing of the request has been sent: another
   * address is tried, or the only one again. A fault of our configuration or of
   * the upstream's certificate would repeat.
   */
  async function openSecurely(dial: Dial, config: UpstreamTlsConfig): Promise<Dialled> {
    const { target, signal, circuit } = dial;
    const { host, port, keys = "the destination's tls" } = target;
    let avoid: string | null = null;
    let attempts = 0;
    let cut: Fault | null = null;
    for (let handshakes = 1; ; handshakes += 1) {
      const opened: Dialled = await open(dial, avoid, attempts).catch((error: unknown) => {
        // The one that was cut may have been the last to try, or our last port.
        throw cut !== null && error instanceof Fault && (error.code === 'circuit-open' || error.code === 'limit-reached') ? cut : error;
      });
      ({ attempts } = opened);
      const connected = now();
      // Read here: a socket that was destroyed has none.
      const { localAddress, localPort } = opened.socket;
      try {
        const socket = await secure({ socket: opened.socket, host, port, config, keys, timeout: timeouts.tls, signal });
        const tlsFault = (error: Error): Fault =>
          lateTlsFault(error, { where: formatAuthority(host, port), name: config.serverName ?? host, config, keys });
        return {
          ...opened,
          socket,
          tlsMs: now() - connected,
          attempts,
          certificateEnds: trustEndOf(socket),
          tlsFault,
        };
      } catch (error) {
        if (error instanceof Fault) circuit?.handshakeFailed(error);
        const { address, via, dnsMs, tcpMs, hopMs } = opened;
        const fault = Fault.from(error).with({
          dials: attempts,
          opened: { localAddress, localPort, via, dnsMs, tcpMs, hopMs },
          ...(address === null ? {} : { nextHop: formatAuthority(address, port), address }),
        });
        if (!(error instanceof HandshakeCut) || handshakes === MOST_HANDSHAKES) throw fault;
        cut = fault;
        avoid = opened.address;
      }
    }
  }

  return {
    resolve: (host, signal) => resolver.resolve(host, signal),
    get untroubled() {
      return circuits.quiet;
    },
    refusal: (target, guard, client) => {
      if (circuits.quiet || target.circuit === undefined) return null;
      const { host, port, via: steps = [] } = target;
      const addresses = steps.length > 0 ? [host] : resolver.cached(host)?.filter((address) => guard(address, port) === null);
      return addresses === undefined || addresses.length === 0 ? null : circuits.refusal(target, addresses, client);
    },
    dial: async (target, guard, signal) => {
      if (signal.aborted) throw abortFault(signal);
      const circuit = target.circuit === undefined ? undefined : new CircuitUse(circuits, target);
      const dial = { target, guard, signal, circuit };
      try {
        const dialled = await (target.tls === null ? open(dial, null, 0) : openSecurely(dial, target.tls));
        if (circuit === undefined) return dialled;
        circuit.ready();
        return { ...dialled, circuit };
      } catch (error) {
        circuit?.giveBack();
        throw error instanceof Fault && error.kind.blame === 'upstream'
          ? error.with({ nextHop: formatAuthority(target.host, target.port) })
          : error;
      }
    },
  };
}

/** Whose share of NAT ports has to suffice, and whether the connection counts for it. */
function sharing(client: string | undefined, opener: string | undefined): Pick<ConnectRequest, 'client' | 'pooled'> {
  return client === undefined ? { client: opener, pooled: true } : { client };
}

/** The same, with how long the look-up before it took. @param dnsMs -1: there was none */
function afterLookup(error: unknown, dnsMs: number): unknown {
  return dnsMs === -1 || !(error instanceof Fault) ? error : error.with({ dnsMs });
}

/** Writes the PROXY header first, before TLS or the client's bytes. */
function nameClient(socket: Socket, proxied: ProxiedClient, address: string | null, port: number): void {
  socket.write(encodeProxyHeader(proxied, { address, port }));
}

/** Another address than that one, if there is one. */
function without(addresses: readonly string[], avoid: string): readonly string[] {
  const others = addresses.filter((address) => address !== avoid);
  return others.length === 0 ? addresses : others;
}

/** What outlasts the dialler of one configuration. */
export interface NamedDiallerOptions extends Omit<DiallerOptions, 'resolver' | 'timeouts' | 'via' | 'now'> {
  /** In place of the configured servers or the system's resolver; null: those. */
  readonly lookup: Lookup | null;
  /** What is known of names. */
  readonly names: KnownNames;
  /** Called when an expired answer is used because the resolver fails. */
  readonly onStale: (host: string, error: Fault) => void;
}

/** The configuration of a dialler: equal terms make an equal dialler. */
interface DiallerTerms extends Pick<Config, 'dns' | 'timeouts'> {
  /** Our `Via` value for requests to parents; null: none. */
  readonly via: string | null;
}

/** The dialler of a configuration: its resolver, its time limits. */
export function diallerTerms({ name, headers, dns, timeouts }: Pick<Config, 'name' | 'headers' | 'dns' | 'timeouts'>): DiallerTerms {
  return { via: headers.via ? `1.1 ${name}` : null, dns, timeouts };
}

/** A dialler with its own resolver: `lookup` if given, else the configured DNS servers, else the system. */
export function createNamedDialler({ via, dns, timeouts }: DiallerTerms, options: NamedDiallerOptions): Dialler {
  const { lookup, names, onStale, ...parts } = options;
  const resolver = createResolver({
    lookup: lookup ?? (dns.servers.length > 0 ? dnsLookup(dns.servers) : systemLookup),
    dns,
    timeout: timeouts.resolve,
    entries: names.of(dns),
    onStale,
    onAnswer: (host, addresses, code) => {
      parts.history?.answered(host, addresses, code);
    },
  });
  return createDialler({ ...parts, resolver, timeouts, via });
}
