/** The steps of dialling, one by one and all together: the very code by which the proxy dials, on the doctor's clock. */
import type { Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import { connectFirst } from '../dial/connect.ts';
import { CoolDowns } from '../dial/cool-downs.ts';
import type { AddressGuard, Dialled, DialTarget } from '../dial/dial.ts';
import { createDialler } from '../dial/dialler.ts';
import { dnsLookup, type Lookup, systemLookup } from '../dial/lookup.ts';
import { findLocalAddress } from '../dial/route.ts';
import { createResolver, type Resolver } from '../dial/resolver.ts';
import { Fault } from '../errors.ts';
import { askOnce, type OneAnswer, type OneQuestion } from '../relay/ask-once.ts';
import { createTurns } from './turns.ts';

export interface ToolsOptions {
  readonly config: Pick<Config, 'name' | 'headers' | 'dns'>;
  /** Instead of the configured resolver. */
  readonly lookup?: Lookup | undefined;
  readonly timeouts: Pick<Config['timeouts'], 'resolve' | 'connect' | 'tls'>;
  /** For every other step, ms. */
  readonly timeout: number;
}

export interface Tools {
  readonly timeout: number;
  /** Rejects with a Fault of the look-up. */
  resolve(host: string): Promise<readonly string[]>;
  /** Our own address towards a place; sends nothing. */
  localAddress(address: string, port: number): Promise<string>;
  /** TCP alone, to the first of the addresses that answers; without any, the host is one. The caller closes the socket. */
  connect(host: string, port: number, addresses?: readonly string[]): Promise<Socket>;
  /** The whole way, parents and TLS included; the caller closes the socket. With `address`: to that address of the host alone. */
  dial(target: DialTarget, guard: AddressGuard, address?: string): Promise<Dialled>;
  /** One question over a connection, which is closed by then. */
  ask(over: Pick<Dialled, 'socket'>, question: Omit<OneQuestion, 'signal' | 'longest' | 'headers'> & Partial<Pick<OneQuestion, 'longest' | 'headers'>>): Promise<OneAnswer>;
}

/** Each takes a NAT port, and a file of this process. */
const MOST_AT_ONCE = 16;

/** Nothing to close. */
export function createTools({ config, lookup, timeouts, timeout }: ToolsOptions): Tools {
  const { dns, headers, name } = config;
  const resolver = createResolver({ lookup: lookup ?? (dns.servers.length > 0 ? dnsLookup(dns.servers) : systemLookup), dns, timeout: timeouts.resolve });
  const never = new AbortController().signal;
  const dialler = (names: Resolver) => createDialler({ resolver: names, timeouts, coolDowns: new CoolDowns({ onFailed: () => {}, onBack: () => {} }), via: headers.via ? `1.1 ${name}` : null });
  const usual = dialler(resolver);
  const turns = createTurns(MOST_AT_ONCE);

  return {
    timeout,
    resolve: (host) => resolver.resolve(host),
    localAddress: findLocalAddress,
    connect: async (host, port, addresses = [host]) => (await turns(() => connectFirst({ host, port, addresses, timeout: timeouts.connect, signal: never }))).socket,
    dial: (target, guard, address) => turns(() => (address === undefined ? usual : dialler(pinned(resolver, target.host, address))).dial(target, guard, never)),
    ask: async (over, { origin, longest = null, headers: fields = {}, ...question }) => {
      const clock = new AbortController();
      const timer = setTimeout(() => {
        clock.abort(new Fault('upstream-silent', `${origin}: no answer in ${timeout} ms`, { remedy: 'It took the connection and says nothing: check that HTTP is served on this port.' }));
      }, timeout);
      try {
        return await askOnce(over, { ...question, origin, longest, headers: { 'user-agent': 'eco-egress-doctor', ...fields }, signal: clock.signal });
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** One address of a name, the others as they are. */
function pinned(resolver: Resolver, host: string, address: string): Resolver {
  return {
    cached: (name) => (name === host ? [address] : resolver.cached(name)),
    resolve: (name, signal) => (name === host ? Promise.resolve([address]) : resolver.resolve(name, signal)),
  };
}
