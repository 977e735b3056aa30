/**
 * Connects to the first of several addresses that answers: RFC 8305, over
 * addresses that have been judged already. Node's autoSelectFamily is not
 * used: it gives an attempt up before it starts the next, and resolves names
 * itself.
 */
import { connect as netConnect, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import { Fault } from '../errors.ts';
import type { FaultCode } from '../errors.ts';
import { abortFault, place } from './dial.ts';
import { errorCode } from './lookup.ts';
import type { Ending, PortBudget, PortLease } from './ports.ts';

/** One connection to whichever of some addresses answers first. */
export interface ConnectRequest {
  /** What is dialled, for messages only: addresses are dialled, names never. */
  readonly host: string;
  readonly port: number;
  /** IP literals, judged, in order of preference; at least one. */
  readonly addresses: readonly string[];
  /** For all attempts together, ms. */
  readonly timeout: number;
  readonly signal: AbortSignal;
  /** Gives each attempt its port; absent: ports are not counted. */
  readonly ports?: PortBudget | undefined;
  /** Whose ports these are: name of a destination, `-` for none. */
  readonly destination?: string | undefined;
  /** Whose share of the ports it comes from; absent: the connection serves all clients. */
  readonly client?: string | undefined;
  /** Whether a connection leads back to this very proxy, which only shows once it is open; absent: none does. */
  readonly isOurs?: ((socket: Socket, port: number) => boolean) | undefined;
}

/** An open TCP connection. */
export interface ConnectedSocket {
  /** The caller closes it. Half-open is allowed: whoever owns it ends our half, and sets keep-alive where it lasts. */
  readonly socket: Socket;
  readonly address: string;
  /** Attempts that were begun, this one included. */
  readonly attempts: number;
}

/** RFC 8305 §5: the next attempt starts this long after the last one. */
const ATTEMPT_DELAY_MS = 250;

/**
 * Rejects with a Fault that names every address and what became of it; its
 * code is that of the most telling failure. By then all sockets are destroyed.
 */
export function connectFirst(request: ConnectRequest): Promise<ConnectedSocket> {
  const { host, port, timeout, signal, ports, destination = '-', client, isOurs } = request;
  const queue = interleaveFamilies(request.addresses);
  const noPort = client === undefined ? NO_PORT : NO_PORT_FOR_CLIENT;

  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(abortFault(signal));
      return;
    }
    const pending = new Map<Socket, string>();
    const failures: Failure[] = [];
    /** Addresses that had no port left when their turn came. */
    const exhausted: string[] = [];
    let next = 0;
    let attempts = 0;
    let nextAttempt: NodeJS.Timeout | undefined;
    let ended = false;

    let deadline = setTimeout(tooLate, timeout);
    const abort = (): void => {
      fail(abortFault(signal));
    };
    signal.addEventListener('abort', abort);

    attempt();

    function attempt(): void {
      clearTimeout(nextAttempt);
      const address = queue[next++];
      if (address !== undefined) {
        const lease = ports?.take(address, port, destination, client);
        if (lease === null) {
          exhausted.push(address);
          attempt();
        } else start(address, lease);
      } else if (pending.size === 0) {
        if (ports === undefined || exhausted.length === 0) fail(connectFault(host, port, failures));
        else void waitForPort(ports, exhausted.splice(0));
      }
    }

    /** Nothing else is left to try. The wait has a limit of its own, so the clock of connecting stands still. */
    async function waitForPort(budget: PortBudget, addresses: readonly string[]): Promise<void> {
      clearTimeout(deadline);
      const granted = await budget.wait(addresses, port, destination, signal, client);
      if (ended) {
        granted?.lease.end('unsent');
      } else if (granted === null) {
        for (const address of addresses) failures.push({ address, code: 'limit-reached', text: noPort });
        fail(connectFault(host, port, failures, budget.retryAfter(addresses, port)));
      } else {
        deadline = setTimeout(tooLate, timeout);
        start(granted.address, granted.lease);
      }
    }

    function start(address: string, lease: PortLease | undefined): void {
      attempts += 1;
      const socket = netConnect({
        host: address,
        port,
        autoSelectFamily: false,
        allowHalfOpen: true,
        noDelay: true,
      });
      pending.set(socket, address);
      let ending: Ending = 'unanswered';
      if (lease !== undefined) socket.once('close', () => {
        lease.end(ending);
      });
      // Stays on the losers: what happens to them after their end concerns nobody.
      const onError = (error: Error): void => {
        if (UNSENT.has(errorCode(error))) ending = 'unsent';
        if (ended) return;
        pending.delete(socket);
        failures.push({ address, ...explainConnectError(error) });
        attempt();
      };
      socket.on('error', onError);
      socket.once('connect', () => {
        ending = 'closed';
        if (ended) return;
        pending.delete(socket);
        if (isOurs?.(socket, port) === true) {
          socket.destroy();
          failures.push({ address, code: 'loop', text: 'this is the proxy itself' });
          attempt();
          return;
        }
        socket.off('error', onError);
        end();
        resolve({ socket, address, attempts });
      });
      if (next < queue.length) nextAttempt = setTimeout(attempt, ATTEMPT_DELAY_MS);
    }

    function tooLate(): void {
      for (const address of pending.values()) failures.push({ address, code: 'connect-timeout', text: `no answer in ${timeout} ms` });
      for (const address of queue.slice(next)) failures.push({ address, code: 'connect-timeout', text: 'not tried in time' });
      for (const address of exhausted) failures.push({ address, code: 'connect-timeout', text: noPort });
      fail(connectFault(host, port, failures));
    }

    function fail(fault: Fault): void {
      if (ended) return;
      end();
      reject(fault);
    }

    function end(): void {
      ended = true;
      clearTimeout(deadline);
      clearTimeout(nextAttempt);
      signal.removeEventListener('abort', abort);
      for (const socket of pending.keys()) socket.destroy();
    }
  });
}

/** RFC 8305 §4: the families take turns, beginning with that of the first address. */
export function interleaveFamilies(addresses: readonly string[]): readonly string[] {
  if (addresses.length === 1) return addresses;
  const first = isIPv6(addresses[0] ?? '');
  const leading = addresses.filter((address) => isIPv6(address) === first);
  const other = addresses.filter((address) => isIPv6(address) !== first);
  const mixed: string[] = [];
  for (let i = 0; i < addresses.length; i++) mixed.push(...leading.slice(i, i + 1), ...other.slice(i, i + 1));
  return mixed;
}

const NO_PORT = 'no NAT port is free';
const NO_PORT_FOR_CLIENT = 'no NAT port is free, or this client has its share of them';

/**
 * Failures of our own system, before a packet left for the NAT to remember. An
 * ICMP answer to a packet that did leave may read ENETUNREACH too; far more
 * often it is an IPv6 address where there is no IPv6.
 */
const UNSENT: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EACCES', 'EPERM', 'EADDRNOTAVAIL', 'EADDRINUSE', 'EAFNOSUPPORT', 'EINVAL', 'ENETUNREACH']);

interface Failure {
  readonly address: string;
  readonly code: FaultCode;
  readonly text: string;
}

function explainConnectError(error: Error): Omit<Failure, 'address'> {
  const code = errorCode(error);
  switch (code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return { code: 'connection-refused', text: code };
    case 'ETIMEDOUT':
      return { code: 'connect-timeout', text: code };
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOBUFS':
    case 'ENOMEM':
      return { code: 'limit-reached', text: code };
    default:
      // EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL, EACCES of a local firewall: no packet reached the host.
      return { code: 'unreachable', text: code || error.message };
  }
}

/** The most telling first: ourselves, our own want, then an answer of the host, then silence, then no way there. */
const RANK: readonly FaultCode[] = ['loop', 'limit-reached', 'connection-refused', 'connect-timeout', 'unreachable'];

const MORE_PORTS_REMEDY = 'Use the gateway or http:// instead of a tunnel for each request, so that connections are shared; or give the NAT more ports and raise nat.ports.';

const REMEDIES: Partial<Record<FaultCode, string>> = {
  loop: 'Make the name resolve to the partner, not to this proxy.',
  'limit-reached': 'Raise the number of open files this proxy may have (ulimit -n).',
  'connection-refused': 'Check that the partner listens on this port.',
  'connect-timeout': 'Check firewalls and routes, and that the partner permits our source address.',
  unreachable: 'Check the route and the network policy from here to the partner.',
};

/** @param retryAfter seconds, where only the want of a NAT port is in the way; null elsewhere */
function connectFault(host: string, port: number, failures: readonly Failure[], retryAfter: number | null = null): Fault {
  const code = RANK.find((rank) => failures.some((failure) => failure.code === rank)) ?? 'unreachable';
  const list = failures.map((failure) => `${failure.address}: ${failure.text}`).join('; ') || 'no address to dial';
  const facts = { addresses: failures.map(({ address }) => address) };
  if (retryAfter !== null) return new Fault('limit-reached', list, { subject: place(host, port), retryAfter, remedy: MORE_PORTS_REMEDY, facts });
  return new Fault(code, list, { subject: place(host, port), remedy: REMEDIES[code] ?? '', facts });
}
