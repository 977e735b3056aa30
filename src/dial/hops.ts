/**
 * The route through parent proxies. As with curl's connection filters, each hop
 * first has the hop below it connected, and puts its own layer on top: TLS to
 * an https parent, then CONNECT or SOCKS5. So a chain is only a deeper stack.
 */
import type { Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import type { HopConfig } from '../config/config.ts';
import { Fault, type FaultFacts } from '../errors.ts';
import { type Authority, formatAuthority } from '../targets/host.ts';
import { abortFault, type HopStep, type ParentCertificate, type RemoteEndpoint } from './dial.ts';
import { createConnectRequest } from './connect-request.ts';
import type { ConnectedSocket, ConnectRequest } from './connect.ts';
import type { CoolDowns } from './cool-downs.ts';
import { converse, type HopHandshake } from './handshake.ts';
import { HopFault, type HopParent, joinHopFaults, nameParent, wayFault } from './hop-fault.ts';
import { checkAddresses } from './resolver.ts';
import { createSocks5 } from './socks5.ts';
import { lateTlsFault } from './tls-fault.ts';
import { secure, trustEndOf } from './tls.ts';

/** For `createHops`. */
export interface HopsOptions {
  /** Also says how long it took, ms; -1: the addresses were known. */
  readonly resolve: (host: string, signal: CancelSignal) => Promise<{ readonly addresses: readonly string[]; readonly dnsMs: number }>;
  readonly coolDowns: CoolDowns;
  /** Our `Via` value for requests to parents; null: none. */
  readonly via: string | null;
  /** Monotonic clock for the phases, ms. */
  readonly now: () => number;
}

/** Values that are the same for every step of one dial. */
export interface HopsDial {
  /** Opens TCP to checked addresses. */
  readonly connect: (request: Pick<ConnectRequest, 'host' | 'port' | 'addresses' | 'timeout'>) => Promise<ConnectedSocket>;
  readonly signal: CancelSignal;
}

/** A connection through parents, with details for the log. */
export interface OpenRoute {
  /** Bytes written to it arrive at the upstream only. The caller owns it. */
  readonly socket: Socket;
  /** The peer of our own TCP connection: an address of the first parent. */
  readonly peer: RemoteEndpoint;
  /** The parents that were used, nearest first. */
  readonly parents: readonly HopParent[];
  /** Of those that speak TLS, nearest first. */
  readonly certificates: readonly ParentCertificate[];
  /** For the first parent, ms; -1: did not happen. */
  readonly dnsMs: number;
  readonly tcpMs: number;
  /** The NAT port of our own connection, as of `ConnectedSocket`. */
  readonly lease: ConnectedSocket['lease'];
}

/** Opens connections through parent proxies. */
export interface Hops {
  /**
   * A connection to `target`, requested from the last of `steps`. Rejects with
   * a HopFault that names the hop, with another Fault where no parent is to
   * blame, or with the reason of `signal`; no socket is left then.
   *
   * @param steps at least one, nearest to us first
   */
  open(steps: readonly HopStep[], target: Authority, dial: HopsDial): Promise<OpenRoute>;
}

/** Tries the parents of a hop in the order of `coolDowns`, and reports failures to it. */
export function createHops({ resolve, coolDowns, via, now }: HopsOptions): Hops {
  async function open(steps: readonly HopStep[], target: Authority, dial: HopsDial): Promise<OpenRoute> {
    const step = steps.at(-1);
    if (step === undefined) throw new Fault('internal', 'a route without a hop');
    const { hop } = step;
    const failures: HopFault[] = [];
    let want: Fault | null = null;
    for (const parent of coolDowns.order(hop)) {
      try {
        const way = await through(steps.slice(0, -1), step, { hop, parent }, target, dial);
        coolDowns.worked(hop, parent);
        return way;
      } catch (error) {
        if (dial.signal.aborted) throw error;
        if (error instanceof Fault && error.code === 'limit-reached') {
          // The fault is ours, not the parent's. But another parent is another address, with its own NAT ports.
          want = error;
          continue;
        }
        if (!(error instanceof HopFault) || error.hop !== hop) throw error;
        // It has answered, and another parent would answer the same: both have the same upstream.
        if (error.about === 'beyond') {
          coolDowns.worked(hop, parent);
          throw error;
        }
        coolDowns.failed(hop, parent, error.message);
        failures.push(error);
      }
    }
    throw want ?? joinHopFaults(failures);
  }

  /** Through one parent of the last hop; rejects with a fault of this hop when that parent is to blame. */
  async function through(below: readonly HopStep[], step: HopStep, at: HopParent, target: Authority, dial: HopsDial): Promise<OpenRoute> {
    const { hop, parent } = at;
    const { signal } = dial;
    const began = now();
    const way = await reach(below, step, at, dial);
    // Read here: a socket that was destroyed has none.
    const { localAddress, localPort } = way.socket;
    const opened = (): FaultFacts => ({
      opened: {
        localAddress,
        localPort,
        via: describeWay([...way.parents, at]),
        dnsMs: way.dnsMs,
        tcpMs: way.tcpMs,
        hopMs: now() - began - way.tcpMs - Math.max(way.dnsMs, 0),
      },
    });
    const socket = parent.scheme === 'https' ? await encrypt(way.socket, at, signal, opened) : way.socket;
    const tlsFault = (error: Error): Fault =>
      wayFault(
        lateTlsFault(error, {
          where: formatAuthority(parent.host, parent.port),
          name: hop.tls.serverName ?? parent.host,
          config: hop.tls,
          keys: tlsKeys(hop),
        }),
        at,
      );
    const failure = await converse({
      socket,
      handshake: handshakeOf(at, target),
      timeout: hop.connect,
      signal,
      tlsFault: parent.scheme === 'https' ? tlsFault : undefined,
    });
    if (failure !== null) {
      const { code, about, detail, remedy, facts } = failure;
      throw new HopFault(code, hop, detail, {
        subject: nameParent(at),
        about,
        remedy: remedy.replace('hops.<name>', `hops.${hop.name}`),
        facts: { nextHop: formatAuthority(parent.host, parent.port), ...opened(), ...facts },
      });
    }
    const shown = socket === way.socket ? [] : [{ hop: hop.name, parent: parent.host, ends: trustEndOf(socket) }];
    return { ...way, socket, parents: [...way.parents, at], certificates: [...way.certificates, ...shown] };
  }

  /** A connection to the parent itself: through the hops below, or, without any, directly. */
  async function reach(below: readonly HopStep[], step: HopStep, at: HopParent, dial: HopsDial): Promise<OpenRoute> {
    try {
      return below.length > 0 ? await open(below, at.parent, dial) : await connectParent(step, at, dial);
    } catch (error) {
      throw dial.signal.aborted ? abortFault(dial.signal) : wayFault(error, at);
    }
  }

  async function connectParent({ guard }: HopStep, { hop, parent }: HopParent, { connect, signal }: HopsDial): Promise<OpenRoute> {
    const { host, port } = parent;
    const { addresses, dnsMs } = await resolve(host, signal);
    const permitted = checkAddresses(addresses, port, guard);
    const dialled = now();
    const { socket, address, lease } = await connect({ host, port, addresses: permitted, timeout: hop.connect });
    return { socket, peer: { address, port }, parents: [], certificates: [], dnsMs, tcpMs: now() - dialled, lease };
  }

  async function encrypt(socket: Socket, at: HopParent, signal: CancelSignal, opened: () => FaultFacts): Promise<Socket> {
    const { hop, parent } = at;
    try {
      return await secure({
        socket,
        host: parent.host,
        port: parent.port,
        config: hop.tls,
        keys: tlsKeys(hop),
        timeout: hop.connect,
        signal,
      });
    } catch (error) {
      throw signal.aborted ? abortFault(signal) : wayFault(Fault.from(error).with(opened()), at);
    }
  }

  function handshakeOf({ hop, parent }: HopParent, { host, port }: Authority): HopHandshake {
    const { credentials } = hop;
    // The configuration has no token for a SOCKS5 parent.
    if (parent.scheme === 'socks5') return createSocks5({ host, port, credentials: credentials?.kind === 'basic' ? credentials : null });
    return createConnectRequest({ host, port, credentials, via });
  }

  return { open };
}

/** `edge (proxy-a:3128), core (proxy-b:1080)`. */
export function describeWay(parents: readonly HopParent[]): string {
  return parents.map(({ hop, parent }) => `${hop.name} (${formatAuthority(parent.host, parent.port)})`).join(', ');
}

/** Where TLS with the parents is configured, for messages. */
function tlsKeys({ name }: HopConfig): string {
  return `hops.${name}.tls`;
}
