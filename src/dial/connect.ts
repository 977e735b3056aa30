/**
 * Connects to the first of several addresses that answers: RFC 8305, over
 * addresses that have been checked already. Node's autoSelectFamily is not
 * used: it cancels an attempt before it starts the next, and resolves names
 * itself.
 */
import { connect as netConnect, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import { Fault } from '../errors.ts';
import type { FaultCode } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { TimeLimit } from '../time-limit.ts';
import { abortFault } from './dial.ts';
import type { DialHistory } from './dial-history.ts';
import { errorCode } from './lookup.ts';
import type { PortBudget } from './nat-budget.ts';
import type { Ending, PortLease } from './ports.ts';

/** Whether an open connection to this port leads back to this proxy. */
export type IsOurs = (connected: Socket, port: number) => boolean;

/** One connection to the first of several addresses that answers. */
export interface ConnectRequest {
  /** What is dialled, for messages only: addresses are dialled, names never. */
  readonly host: string;
  readonly port: number;
  /** IP literals, checked, in order of preference; at least one. */
  readonly addresses: readonly string[];
  /** Time limit for all attempts together, ms. */
  readonly timeout: number;
  readonly signal: CancelSignal;
  /** Attempts before this call, for the same request; absent: none. */
  readonly begun?: number | undefined;
  /** Assigns a port to each attempt; absent: ports are not counted. */
  readonly ports?: PortBudget | undefined;
  /** Whose ports these are: name of a destination, `-` for none. */
  readonly destination?: string | undefined;
  /** The client whose share of the ports has to suffice; absent: no client's. */
  readonly client?: string | undefined;
  /** The connection serves all clients, and counts for no client's share. */
  readonly pooled?: boolean | undefined;
  /** Checked once a connection is open; absent: none leads back to us. */
  readonly isOurs?: IsOurs | undefined;
  /** Takes a file descriptor for each attempt, which opens it at once; absent: there always is one. */
  readonly descriptors?: { take(what: 'request'): boolean } | undefined;
  /** Called for each address that failed, unless our own resources were the cause; absent: not reported. */
  readonly circuit?: { connectFailed(address: string, reason: string): void } | undefined;
  /** Remembers attempts that failed; absent: they are not kept. */
  readonly history?: Pick<DialHistory, 'failed'> | undefined;
}

/** An open TCP connection. */
export interface ConnectedSocket {
  /** The caller closes it. Half-open is allowed: the owner ends our direction, and sets keep-alive for long connections. */
  readonly socket: Socket;
  readonly address: string;
  /** Attempts begun, this one and those before the call included. */
  readonly attempts: number;
  /** Its port; undefined: ports are not counted. It ends with the socket. */
  readonly lease: PortLease | undefined;
}

/** RFC 8305 §5: the next attempt starts this long after the last one. */
const ATTEMPT_DELAY_MS = 250;

/**
 * Rejects with a Fault that names every address and its result; its code is
 * that of the most significant failure. By then all sockets are destroyed.
 */
export function connectFirst(request: ConnectRequest): Promise<ConnectedSocket> {
  return new Promise((resolve, reject) => {
    if (request.signal.aborted) reject(abortFault(request.signal));
    else new ConnectionRace(request, resolve, reject).attempt();
  });
}

/** One attempt to connect, as seen from its socket. */
interface ConnectAttempt {
  /** Null for the winner: its socket may stay open for long, and must not keep the others in memory. */
  race: ConnectionRace | null;
  readonly address: string;
  /** Counts from 1. */
  readonly order: number;
  readonly lease: PortLease | undefined;
  ending: Ending;
}
const kAttempt = Symbol('attempt to connect');
type Attempted = Socket & { [kAttempt]?: ConnectAttempt };

// One function each for all attempts.
function onAttemptConnected(this: Attempted): void {
  this[kAttempt]?.race?.connected(this, this[kAttempt]);
}
/** Stays on the attempts that lost: their later errors are ignored. */
function onAttemptFailed(this: Attempted, error: Error): void {
  this[kAttempt]?.race?.failed(this, this[kAttempt], error);
}
function onAttemptClosed(this: Attempted): void {
  this[kAttempt]?.lease?.end(this[kAttempt].ending);
}
function onDelayOver(race: ConnectionRace): void {
  race.attempt();
}

/** The attempts of one request, until one of them connects or all have failed. */
class ConnectionRace {
  readonly #request: ConnectRequest;
  readonly #resolve: (connected: ConnectedSocket) => void;
  readonly #reject: (fault: Fault) => void;
  readonly #queue: readonly string[];
  #next = 0;
  #attempts: number;
  readonly #pending: Attempted[] = [];
  readonly #failures: Failure[] = [];
  #latestTried: string | null = null;
  /** Addresses that had no free port at their turn. */
  #exhausted: string[] = [];
  #deadline: TimeLimit;
  #delay: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(request: ConnectRequest, resolve: (connected: ConnectedSocket) => void, reject: (fault: Fault) => void) {
    this.#request = request;
    this.#attempts = request.begun ?? 0;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#queue = interleaveFamilies(request.addresses);
    this.#deadline = this.#limit();
    request.signal.addEventListener('abort', this);
  }

  /** Of its signal. */
  handleEvent(): void {
    this.#fail(abortFault(this.#request.signal));
  }

  /** Begins with the next address, or fails if none is left. */
  attempt(): void {
    clearTimeout(this.#delay);
    const { port, ports, destination = '-', client, pooled } = this.#request;
    for (let address = this.#queue[this.#next]; address !== undefined; address = this.#queue[this.#next]) {
      this.#next += 1;
      const lease = ports?.take(address, port, destination, client, pooled);
      if (lease !== null) {
        this.#start(address, lease);
        return;
      }
      this.#exhausted.push(address);
    }
    if (this.#pending.length > 0) return;
    if (ports === undefined || this.#exhausted.length === 0) this.#failByAll(null);
    else void this.#waitForPort(ports);
  }

  /** The first that is open wins, unless it leads back to us. */
  connected(socket: Attempted, attempt: ConnectAttempt): void {
    attempt.ending = 'closed';
    if (this.#ended) return;
    const { address } = attempt;
    this.#forget(socket);
    const { isOurs, port, circuit } = this.#request;
    if (isOurs?.(socket, port) === true) {
      socket.destroy();
      this.#failures.push({ address, code: 'loop', text: 'this is the proxy itself' });
      this.attempt();
      return;
    }
    socket.off('error', onAttemptFailed);
    attempt.race = null;
    // Those begun before it had more time, and have not answered.
    if (circuit !== undefined)
      for (const other of this.#pending)
        if ((other[kAttempt]?.order ?? 0) < attempt.order)
          circuit.connectFailed(other[kAttempt]?.address ?? '', 'no answer, while another address answered');
    this.#end();
    this.#resolve({ socket, address, attempts: this.#attempts, lease: attempt.lease });
  }

  /** One has failed: the next one need not wait. */
  failed(socket: Attempted, attempt: ConnectAttempt, error: Error): void {
    const name = errorCode(error);
    if (UNSENT.has(name)) attempt.ending = 'unsent';
    if (this.#ended) return;
    this.#forget(socket);
    this.#failures.push({ address: attempt.address, ...explainConnectError(error, attempt.address) });
    this.#remember(null, attempt.address, name || error.message);
    if (!UNSENT.has(name) || name === NO_ROUTE) this.#request.circuit?.connectFailed(attempt.address, name || error.message);
    this.attempt();
  }

  /** The time limit for all of them has passed. */
  #tooLate(): void {
    const { timeout, circuit } = this.#request;
    for (const socket of this.#pending) {
      const address = socket[kAttempt]?.address ?? '';
      this.#failures.push({ address, code: 'connect-timeout', text: `no answer in ${timeout} ms` });
      circuit?.connectFailed(address, `no answer in ${timeout} ms`);
      this.#remember(socket, address, `no answer in ${timeout} ms`);
    }
    for (const address of this.#queue.slice(this.#next))
      this.#failures.push({ address, code: 'connect-timeout', text: 'not tried in time' });
    for (const address of this.#exhausted) this.#failures.push({ address, code: 'connect-timeout', text: this.#noPort() });
    this.#failByAll(null);
  }

  #limit(): TimeLimit {
    return new TimeLimit(this.#request.timeout, () => {
      this.#tooLate();
    });
  }

  /** @param socket that still has its local end; null: it is gone */
  #remember(socket: Socket | null, address: string, reason: string): void {
    const { history, destination = '-', port } = this.#request;
    history?.failed({
      destination,
      address,
      port,
      from: socket?.localPort === undefined ? null : formatAuthority(socket.localAddress ?? '', socket.localPort),
      reason,
    });
  }

  #start(address: string, lease: PortLease | undefined): void {
    const { port, descriptors } = this.#request;
    if (descriptors?.take('request') === false) {
      lease?.end('unsent');
      this.#failures.push({ address, code: 'limit-reached', text: NO_DESCRIPTOR });
      this.attempt();
      return;
    }
    this.#latestTried = address;
    this.#attempts += 1;
    const socket: Attempted = netConnect({ host: address, port, autoSelectFamily: false, allowHalfOpen: true, noDelay: true });
    socket[kAttempt] = { race: this, address, order: this.#attempts, lease, ending: 'unanswered' };
    socket.on('error', onAttemptFailed).on('connect', onAttemptConnected).on('close', onAttemptClosed);
    this.#pending.push(socket);
    if (this.#next < this.#queue.length) this.#delay = setTimeout(onDelayOver, ATTEMPT_DELAY_MS, this);
  }

  /** Nothing else is left to try. The wait has its own limit, so the time for connecting is paused. */
  async #waitForPort(budget: PortBudget): Promise<void> {
    const { port, destination = '-', client, pooled, signal } = this.#request;
    const addresses = this.#exhausted;
    this.#exhausted = [];
    this.#deadline.clear();
    const granted = await budget.wait(addresses, port, destination, signal, client, pooled);
    if (this.#ended) {
      granted?.lease.end('unsent');
    } else if (granted === null) {
      for (const address of addresses) this.#failures.push({ address, code: 'limit-reached', text: this.#noPort() });
      this.#failByAll(budget.retryAfter(addresses, port));
    } else {
      this.#deadline = this.#limit();
      this.#start(granted.address, granted.lease);
    }
  }

  #noPort(): string {
    return this.#request.client === undefined ? NO_PORT : NO_PORT_FOR_CLIENT;
  }

  #failByAll(retryAfter: number | null): void {
    const { host, port } = this.#request;
    const fault = connectFault(host, port, this.#failures, retryAfter);
    this.#fail(this.#latestTried === null ? fault : fault.with({ address: this.#latestTried, dials: this.#attempts }));
  }

  #fail(fault: Fault): void {
    if (this.#ended) return;
    this.#end();
    this.#reject(fault);
  }

  #forget(socket: Attempted): void {
    this.#pending.splice(this.#pending.indexOf(socket), 1);
  }

  #end(): void {
    this.#ended = true;
    this.#deadline.clear();
    clearTimeout(this.#delay);
    this.#request.signal.removeEventListener('abort', this);
    for (const socket of this.#pending) socket.destroy();
  }
}

/** RFC 8305 §4: the families alternate, beginning with that of the first address. */
export function interleaveFamilies(addresses: readonly string[]): readonly string[] {
  if (addresses.length === 1) return addresses;
  const first = isIPv6(addresses[0] ?? '');
  const leading = addresses.filter((address) => isIPv6(address) === first);
  const other = addresses.filter((address) => isIPv6(address) !== first);
  return [...leading.flatMap((address, i) => [address, ...other.slice(i, i + 1)]), ...other.slice(leading.length)];
}

const NO_DESCRIPTOR = 'almost no file descriptors are left';
const NO_PORT = 'no NAT port is free';
const NO_PORT_FOR_CLIENT = 'no NAT port is free, or this client has its share of them';

/**
 * Failures of our own system, by its names, before the NAT has seen a packet: a
 * firewall of ours, no address or no room of ours. An ICMP answer
 * to a packet that was sent may also be ENETUNREACH; far more often it is an
 * IPv6 address on a host without IPv6.
 */
export const UNSENT: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EACCES',
  'EPERM',
  'EADDRNOTAVAIL',
  'EADDRINUSE',
  'EAFNOSUPPORT',
  'EINVAL',
  'ENETUNREACH',
]);
/** The one of them that is not due to our resources: as long as there is no route, trying is useless. */
const NO_ROUTE = 'ENETUNREACH';
/** All local ports towards this address and port are in use. */
const NO_LOCAL_PORT = 'EADDRNOTAVAIL';

interface Failure {
  readonly address: string;
  readonly code: FaultCode;
  readonly text: string;
}

function explainConnectError(error: Error, address: string): Omit<Failure, 'address'> {
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
    case NO_LOCAL_PORT:
      // For an IPv6 address also where the system has no IPv6.
      return { code: isIPv6(address) ? 'unreachable' : 'limit-reached', text: code };
    default:
      // EHOSTUNREACH, ENETUNREACH, EACCES of a local firewall: no packet reached the host.
      return { code: 'unreachable', text: code || error.message };
  }
}

/** The most significant first: ourselves, our resources, then an answer of the host, then silence, then no route. */
const RANK: readonly FaultCode[] = ['loop', 'limit-reached', 'connection-refused', 'connect-timeout', 'unreachable'];

const MORE_PORTS_REMEDY =
  'Use the gateway or http:// instead of a tunnel for each request, so that connections are shared; or give the NAT more ports and raise nat.ports.';
const LOCAL_PORTS_REMEDY =
  'This system has no local port left for this partner: use the gateway or http://, which share connections, add replicas, or widen net.ipv4.ip_local_port_range.';

const REMEDIES: Partial<Record<FaultCode, string>> = {
  loop: 'Make the name resolve to the partner, not to this proxy.',
  'limit-reached': 'Raise the number of open files this proxy may have (ulimit -n).',
  'connection-refused': 'Check that the partner listens on this port.',
  'connect-timeout': 'Check firewalls and routes, and that the partner permits our source address.',
  unreachable: 'Check the route and the network policy from here to the partner.',
};

/** @param retryAfter seconds, if the only obstacle is the lack of a NAT port; null otherwise */
function connectFault(host: string, port: number, failures: readonly Failure[], retryAfter: number | null): Fault {
  const code = RANK.find((rank) => failures.some((failure) => failure.code === rank)) ?? 'unreachable';
  const list = failures.map((failure) => `${failure.address}: ${failure.text}`).join('; ') || 'no address to dial';
  if (retryAfter !== null)
    return new Fault('limit-reached', list, { subject: formatAuthority(host, port), retryAfter, remedy: MORE_PORTS_REMEDY });
  const noLocalPort = code === 'limit-reached' && failures.some((failure) => failure.code === code && failure.text === NO_LOCAL_PORT);
  return new Fault(code, list, {
    subject: formatAuthority(host, port),
    remedy: noLocalPort ? LOCAL_PORTS_REMEDY : (REMEDIES[code] ?? ''),
    ...(code === 'limit-reached' ? { retryAfter: 1 } : {}),
  });
}
