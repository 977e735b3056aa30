/** The input of the checks of a proxy's host, and the results that each leaves for later ones. */
import { createSocket } from 'node:dgram';
import { isIPv6, type Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import type { ConfigFinding } from '../config/finding.ts';
import { connectFirst } from '../dial/connect.ts';
import type { AddressGuard, Dialled, DialTarget } from '../dial/dial.ts';
import { createDialler } from '../dial/dialler.ts';
import { dnsLookup, errorCode, type Lookup, systemLookup } from '../dial/lookup.ts';
import { createResolver, type Resolver } from '../dial/resolver.ts';
import { Fault } from '../errors.ts';
import { askOnce, type OneAnswer, type OneQuestion } from '../relay/ask-once.ts';
import type { Verification } from '../source-ip/verify.ts';
import { type Authority, formatAuthority } from '../targets/host.ts';
import { takeTurns } from '../turns.ts';
import type { FormsProxy, ProxyAddress } from './proxy-address.ts';
import type { Target } from './targets.ts';

/** Facts from the environment of the process. */
export interface HostFacts {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Files a process may have open; null: not known, or not limited. */
  readonly openFiles: number | null;
  /** Ms since the epoch. */
  readonly now: () => number;
}

/** Filled in by the checks, in the order of their needs. */
interface Trail {
  /** Addresses of a target that the guard permits: not the same for each port, since our own are refused. */
  readonly addresses: Map<string, readonly string[]>;
  /** Addresses to which no route leads. */
  readonly routeless: Set<string>;
  /** Targets with a TCP connection, direct or through parents: the addresses, or none where parents resolve. */
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

/** What the checks share. Each leaves in `trail` what later ones use. */
export interface Examination {
  readonly config: Config;
  readonly file: string;
  readonly hash: string;
  readonly warnings: readonly ConfigFinding[];
  /** Hosts and ports to try, as asked for. */
  readonly asked: readonly Authority[];
  readonly targets: readonly Target[];
  readonly tools: Tools;
  readonly host: HostFacts;
  readonly trail: Trail;
  /** The proxy for trying forms, instead of one that runs here. */
  readonly proxy: ProxyAddress | null;
  readonly lookup: Lookup | undefined;
  readonly isSelf: (address: string, port: number) => boolean;
  /** Probes the source address; the data path of the proxy. */
  readonly verifySource: () => Promise<Verification | null>;
  /** The proxy for trying forms; the examination closes it. */
  readonly formsProxy: () => Promise<FormsProxy>;
}

/** A trail before the first check. */
export function createTrail(): Trail {
  return {
    addresses: new Map(),
    routeless: new Set(),
    reached: new Map(),
    silent: new Set(),
    answered: new Set(),
    clocks: [],
    verification: null,
    ports: null,
  };
}

/** A destination may be reached by hops, another with the same host not. */
export const hostKey = ({ destination, host }: Pick<Target, 'destination' | 'host'>): string => `${destination.name} ${host}`;
/** Key of a target in the maps of the trail. */
export const targetKey = ({ destination, where }: Pick<Target, 'destination' | 'where'>): string => `${destination.name} ${where}`;

// The steps of dialling, separately and together: the same code as the proxy's dials, with the doctor's time limits.

interface ToolsOptions {
  readonly config: Pick<Config, 'name' | 'headers' | 'dns'>;
  /** Replaces the configured resolver. */
  readonly lookup?: Lookup | undefined;
  readonly timeouts: Pick<Config['timeouts'], 'resolve' | 'connect' | 'tls'>;
  /** For every other step, ms. */
  readonly timeout: number;
  /** Ends every dial; absent: nothing does. */
  readonly signal?: AbortSignal;
}

/** Steps of dialling, each bounded by `timeout`, ms. They reject with a Fault. */
export interface Tools {
  readonly timeout: number;
  /** Rejects with a Fault of the look-up. */
  resolve(host: string): Promise<readonly string[]>;
  /** The same, in a look-up of its own: an earlier failure or one in progress does not count. */
  resolveAnew(host: string): Promise<readonly string[]>;
  /** Our own address for a route; sends nothing. */
  localAddress(address: string, port: number): Promise<string>;
  /** TCP alone, to the first of the addresses that answers; without any, the host is an address. The caller closes the socket. */
  connect(host: string, port: number, addresses?: readonly string[]): Promise<Socket>;
  /** The whole route, parents and TLS included; the caller closes the socket. With `address`: only to that address of the host. */
  dial(target: DialTarget, guard: AddressGuard, address?: string): Promise<Dialled>;
  /** One request over a connection, which is closed afterwards. */
  ask(
    over: Pick<Dialled, 'socket' | 'tlsFault'>,
    question: Omit<OneQuestion, 'signal' | 'longest' | 'headers'> & Partial<Pick<OneQuestion, 'longest' | 'headers'>>,
  ): Promise<OneAnswer>;
}

/** Each takes a NAT port, and a file of this process. */
const MOST_AT_ONCE = 16;

/** Nothing to close. */
export function createTools({ config, lookup, timeouts, timeout, signal = new AbortController().signal }: ToolsOptions): Tools {
  const { dns, headers, name } = config;
  const lookups = { lookup: lookup ?? (dns.servers.length > 0 ? dnsLookup(dns.servers) : systemLookup), dns, timeout: timeouts.resolve };
  const resolver = createResolver(lookups);
  const dialler = (names: Resolver) =>
    createDialler({
      resolver: names,
      timeouts,
      via: headers.via ? `1.1 ${name}` : null,
    });
  const usual = dialler(resolver);
  const turns = takeTurns(MOST_AT_ONCE);

  return {
    timeout,
    resolve: (host) => resolver.resolve(host),
    resolveAnew: (host) => createResolver(lookups).resolve(host),
    localAddress: findLocalAddress,
    connect: async (host, port, addresses = [host]) => {
      const { socket } = await turns(() => connectFirst({ host, port, addresses, timeout: timeouts.connect, signal }));
      // The other side may reset it while a check waits for something else. Its next use fails.
      return socket.on('error', () => {});
    },
    dial: (target, guard, address) =>
      turns(() => (address === undefined ? usual : dialler(pinned(resolver, target.host, address))).dial(target, guard, signal)),
    ask: async (over, { origin, longest = null, headers: fields = {}, ...question }) => {
      const clock = new AbortController();
      const timer = setTimeout(() => {
        clock.abort(
          new Fault('upstream-silent', `no answer in ${timeout} ms`, {
            subject: origin,
            remedy: 'It accepts the connection but does not answer: check that HTTP is served on this port.',
          }),
        );
      }, timeout);
      try {
        return await askOnce(over, {
          ...question,
          origin,
          longest,
          headers: { 'user-agent': 'eco-egress-doctor', ...fields },
          signal: clock.signal,
        });
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** One address of a name; other names unchanged. */
function pinned(resolver: Resolver, host: string, address: string): Resolver {
  return {
    cached: (name) => (name === host ? [address] : resolver.cached(name)),
    resolve: (name, signal) => (name === host ? Promise.resolve([address]) : resolver.resolve(name, signal)),
  };
}

// The local address of packets to a destination, by the routing table: nothing is sent.

/**
 * Connecting a UDP socket consults the routing table and the local firewall,
 * and sends no packet (POSIX connect()). Leaves no socket behind.
 *
 * @param address IP literal
 * @throws {Fault} `unreachable`: there is no route
 */
export function findLocalAddress(address: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const fail = (error: Error): void => {
      socket.close();
      reject(
        new Fault('unreachable', errorCode(error) || error.message, {
          subject: formatAuthority(address, port),
          remedy: 'Check the routes of this host: none leads there.',
          cause: error,
        }),
      );
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      const local = socket.address().address;
      socket.close();
      resolve(local);
    });
    // With a callback, Node passes the error to it instead of emitting the
    // event.
    socket.connect(port, address);
  });
}
