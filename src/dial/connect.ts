/**
 * Connects to the first of several addresses that answers: RFC 8305, over
 * addresses that have been judged already. Node's autoSelectFamily is not
 * used: it gives an attempt up before it starts the next, and resolves names
 * itself.
 *
 * Longer than 300 lines: the attempts of one request are one race, and how
 * each of them ends concerns the others.
 */
import { connect as netConnect, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import { Fault } from '../errors.ts';
import type { FaultCode } from '../errors.ts';
import { abortFault, place } from './dial.ts';
import type { DialHistory } from './dial-history.ts';
import { errorCode } from './lookup.ts';
import type { Ending, PortBudget, PortLease } from './ports.ts';

/** Whether an open connection to this port leads back to this very proxy. */
export type IsOurs = (connected: Socket, port: number) => boolean;

/** One connection to whichever of some addresses answers first. */
export interface ConnectRequest {
  /** What is dialled, for messages only: addresses are dialled, names never. */
  readonly host: string;
  readonly port: number;
  /** IP literals, judged, in order of preference; at least one. */
  readonly addresses: readonly string[];
  /** For all attempts together, ms. */
  readonly timeout: number;
  readonly signal: CancelSignal;
  /** Gives each attempt its port; absent: ports are not counted. */
  readonly ports?: PortBudget | undefined;
  /** Whose ports these are: name of a destination, `-` for none. */
  readonly destination?: string | undefined;
  /** Whose share of the ports it comes from; absent: the connection serves all clients. */
  readonly client?: string | undefined;
  /** Asked once a connection is open; absent: none leads back to us. */
  readonly isOurs?: IsOurs | undefined;
  /** Told of each address that failed, though not for want of ours; absent: nobody is. */
  readonly circuit?: { connectFailed(address: string, reason: string): void } | undefined;
  /** Remembers attempts that failed; absent: nobody does. */
  readonly history?: Pick<DialHistory, 'failed'> | undefined;
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
  return new Promise((resolve, reject) => {
    if (request.signal.aborted) reject(abortFault(request.signal));
    else new ConnectionRace(request, resolve, reject).attempt();
  });
}

/** One attempt to connect, as its socket knows it. */
interface ConnectAttempt {
  /** Null for the one that won: its socket may stay open for long, and must not keep the others in memory. */
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
function onLate(race: ConnectionRace): void {
  race.tooLate();
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
  #attempts = 0;
  readonly #pending: Attempted[] = [];
  readonly #failures: Failure[] = [];
  #latestTried: string | null = null;
  /** Addresses that had no port left when their turn came. */
  #exhausted: string[] = [];
  #deadline: NodeJS.Timeout;
  #delay: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(request: ConnectRequest, resolve: (connected: ConnectedSocket) => void, reject: (fault: Fault) => void) {
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#queue = interleaveFamilies(request.addresses);
    this.#deadline = setTimeout(onLate, request.timeout, this);
    request.signal.addEventListener('abort', this);
  }

  /** Of its signal. */
  handleEvent(): void {
    this.#fail(abortFault(this.#request.signal));
  }

  /** Begins with the next address, or fails where none is left. */
  attempt(): void {
    clearTimeout(this.#delay);
    const { port, ports, destination = '-', client } = this.#request;
    for (let address = this.#queue[this.#next]; address !== undefined; address = this.#queue[this.#next]) {
      this.#next += 1;
      const lease = ports?.take(address, port, destination, client);
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
    // Those that began before it had more time, and are silent.
    if (circuit !== undefined) for (const other of this.#pending) if ((other[kAttempt]?.order ?? 0) < attempt.order) circuit.connectFailed(other[kAttempt]?.address ?? '', 'no answer, while another address answered');
    this.#end();
    this.#resolve({ socket, address, attempts: this.#attempts });
  }

  /** One has failed: the next one need not wait. */
  failed(socket: Attempted, attempt: ConnectAttempt, error: Error): void {
    const name = errorCode(error);
    if (UNSENT.has(name)) attempt.ending = 'unsent';
    if (this.#ended) return;
    this.#forget(socket);
    this.#failures.push({ address: attempt.address, ...explainConnectError(error) });
    this.#remember(null, attempt.address, name || error.message);
    if (!UNSENT.has(name) || name === NO_ROUTE) this.#request.circuit?.connectFailed(attempt.address, name || error.message);
    this.attempt();
  }

  /** The time for all of them is over. */
  tooLate(): void {
    const { timeout, circuit } = this.#request;
    for (const socket of this.#pending) {
      const address = socket[kAttempt]?.address ?? '';
      this.#failures.push({ address, code: 'connect-timeout', text: `no answer in ${timeout} ms` });
      circuit?.connectFailed(address, `no answer in ${timeout} ms`);
      this.#remember(socket, address, `no answer in ${timeout} ms`);
    }
    for (const address of this.#queue.slice(this.#next)) this.#failures.push({ address, code: 'connect-timeout', text: 'not tried in time' });
    for (const address of this.#exhausted) this.#failures.push({ address, code: 'connect-timeout', text: this.#noPort() });
    this.#failByAll(null);
  }

  /** @param socket that still has its local end; null: it is gone */
  #remember(socket: Socket | null, address: string, reason: string): void {
    const { history, destination = '-', port } = this.#request;
    history?.failed({ destination, address, port, from: socket?.localPort === undefined ? null : place(socket.localAddress ?? '', socket.localPort), reason });
  }

  #start(address: string, lease: PortLease | undefined): void {
    this.#latestTried = address;
    this.#attempts += 1;
    const { port } = this.#request;
    const socket: Attempted = netConnect({ host: address, port, autoSelectFamily: false, allowHalfOpen: true, noDelay: true });
    socket[kAttempt] = { race: this, address, order: this.#attempts, lease, ending: 'unanswered' };
    socket.on('error', onAttemptFailed).on('connect', onAttemptConnected).on('close', onAttemptClosed);
    this.#pending.push(socket);
    if (this.#next < this.#queue.length) this.#delay = setTimeout(onDelayOver, ATTEMPT_DELAY_MS, this);
  }

  /** Nothing else is left to try. The wait has a limit of its own, so the clock of connecting stands still. */
  async #waitForPort(budget: PortBudget): Promise<void> {
    const { port, destination = '-', client, signal, timeout } = this.#request;
    const addresses = this.#exhausted;
    this.#exhausted = [];
    clearTimeout(this.#deadline);
    const granted = await budget.wait(addresses, port, destination, signal, client);
    if (this.#ended) {
      granted?.lease.end('unsent');
    } else if (granted === null) {
      for (const address of addresses) this.#failures.push({ address, code: 'limit-reached', text: this.#noPort() });
      this.#failByAll(budget.retryAfter(addresses, port));
    } else {
      this.#deadline = setTimeout(onLate, timeout, this);
      this.#start(granted.address, granted.lease);
    }
  }

  #noPort(): string {
    return this.#request.client === undefined ? NO_PORT : NO_PORT_FOR_CLIENT;
  }

  #failByAll(retryAfter: number | null): void {
    const { host, port } = this.#request;
    const fault = connectFault(host, port, this.#failures, retryAfter);
    this.#fail(this.#latestTried === null ? fault : fault.with({ address: this.#latestTried }));
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
    clearTimeout(this.#deadline);
    clearTimeout(this.#delay);
    this.#request.signal.removeEventListener('abort', this);
    for (const socket of this.#pending) socket.destroy();
  }
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
/** The one of them that is not for want of ours: as long as there is no route, there is no use in trying. */
const NO_ROUTE = 'ENETUNREACH';

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
function connectFault(host: string, port: number, failures: readonly Failure[], retryAfter: number | null): Fault {
  const code = RANK.find((rank) => failures.some((failure) => failure.code === rank)) ?? 'unreachable';
  const list = failures.map((failure) => `${failure.address}: ${failure.text}`).join('; ') || 'no address to dial';
  if (retryAfter !== null) return new Fault('limit-reached', list, { subject: place(host, port), retryAfter, remedy: MORE_PORTS_REMEDY });
  return new Fault(code, list, { subject: place(host, port), remedy: REMEDIES[code] ?? '' });
}
