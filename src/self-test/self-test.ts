/**
 * Checks periodically that the running proxy refuses what its policy does not
 * permit: with requests over real connections to its own listeners, in every
 * form. They are recognised by their sockets, which no client can have; they
 * are decided like any other, and never admitted, counted, logged or
 * remembered.
 */
import { randomBytes } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config, DestinationConfig } from '../config/config.ts';
import { Crowd } from '../crowd.ts';
import type { Egress } from '../egress.ts';
import type { SelfTestSockets } from '../listeners/connection-gate.ts';
import type { RequestEnvironment } from '../listeners/request-context.ts';
import { peerOf } from '../listeners/trusted-peers.ts';
import { buildCidrTable } from '../policy/tables.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import type { NoticeLevel, Telemetry } from '../telemetry/telemetry.ts';
import { askListener, type OwnConnection } from './ask-listener.ts';
import { listProbes, type ProbeTerms, reach, type SelfTestProbe } from './probes.ts';
import { type ProbeOutcome, type RoundResult, runRound } from './run-round.ts';

type Tested = Pick<Config, 'clients' | 'destinations' | 'listeners' | 'mode' | 'selfTest'> & RequestEnvironment['config'];

/** For `SelfTest`. */
export interface SelfTestOptions {
  readonly config: Tested;
  readonly egress: Egress;
  readonly telemetry: Telemetry;
  /** Whether almost no file descriptors are left. */
  readonly tight: () => boolean;
  /** Ms since the epoch. */
  readonly now: () => number;
}

type EnforcementState = RoundResult['state'] | 'pending' | 'report' | 'off';

interface SelfTestFinding {
  readonly state: EnforcementState;
  /** With `broken` and `unknown`. */
  readonly reason: string;
}

/** What the status page shows. */
export interface EnforcementView {
  readonly state: EnforcementState;
  /** One line for people. */
  readonly words: string;
}

/** Time limit of one request, ms. */
const PROBE_TIMEOUT = 5_000;
/** Address guards checked in a round; the next round continues after them. */
const GUARDS = 32;
/** Addresses for documentation (RFC 5737, RFC 3849): no client has one, unless it is configured with all addresses. */
const STRANGERS = ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1'];
/** No host has a name below it (RFC 6761 §6.4). */
const RESERVED_DOMAIN = 'invalid';

const STATE_WORDS = {
  pending: ['debug', 'self-test: not run yet'],
  off: ['info', 'self-test: off'],
  report: ['info', 'self-test: report mode lets pass what the policy does not permit, so that there is nothing to test'],
  holds: ['info', 'self-test: the allowlist is in force'],
  broken: ['error', 'self-test: the allowlist is NOT in force'],
  unknown: ['warn', 'self-test: whether the allowlist is in force is not known'],
} as const satisfies Record<EnforcementState, readonly [NoticeLevel, string]>;

/** Runs rounds from `start` to `stop`. Its creator closes it. */
export class SelfTest implements SelfTestSockets {
  /** Where its requests are reported. */
  readonly environment: RequestEnvironment;
  readonly #options: SelfTestOptions;
  #config: Tested;
  #bound: ProbeTerms['bound'] | null = null;
  #found: SelfTestFinding = { state: 'pending', reason: '' };
  /** The result of the latest conclusive round; null: none yet. */
  #known: SelfTestFinding | null = null;
  /** When that was, ms since the epoch. */
  #knownAt = 0;
  #running: { readonly controller: AbortController; readonly ended: Promise<void> } | null = null;
  #round = 0;
  /** Of the current probe. */
  #own: OwnConnection | null = null;
  #asker: string | null = null;
  #record: AccessRecord | null = null;

  constructor(options: SelfTestOptions) {
    this.#options = options;
    this.#config = options.config;
    this.environment = {
      config: options.config,
      egress: options.egress,
      telemetry: {
        ...options.telemetry,
        ended: (record) => {
          this.#record = record;
        },
      },
      remember: () => {},
      requests: new Crowd(),
      hellos: new Set(),
      overload: null,
      selfTest: null,
      draining: false,
    };
  }

  get asker(): string | null {
    return this.#asker;
  }

  /** By both ends of the connection: while it is open, no other has the same four numbers. */
  readonly claims = (socket: Socket): boolean => {
    if (this.#own === null) return false;
    const { socket: own, port, arrived } = this.#own;
    if (socket.remotePort !== own.localPort || socket.localPort !== port) return false;
    if (peerOf(socket).address !== peerOf({ remoteAddress: own.localAddress, remotePort: own.localPort }).address) return false;
    arrived();
    return true;
  };

  /** The first round begins now. @param bound all listeners for clients */
  start(bound: { readonly http: readonly AddressInfo[]; readonly tls: readonly AddressInfo[] }): void {
    this.#bound = bound;
    this.#begin();
  }

  /** A new policy: a round begins at once. */
  adopt(config: Tested): void {
    this.#running?.controller.abort();
    this.#config = config;
    this.environment.config = config;
    if (this.#bound !== null) this.#begin();
  }

  /** No more rounds; the last result stays. */
  stop(): void {
    this.#bound = null;
    this.#running?.controller.abort();
  }

  /** Resolves when the current round has ended and its socket is closed. */
  async close(): Promise<void> {
    this.stop();
    await this.#running?.ended;
    this.#running = null;
  }

  /** The reasons for not being ready, and the warnings. */
  readiness(): { readonly reasons: readonly string[]; readonly warnings: readonly string[] } {
    const { state, reason } = this.#found;
    return {
      // An inconclusive round does not clear an earlier failure.
      reasons: this.#known?.state === 'broken' ? [`The allowlist is not in force: ${this.#known.reason}.`] : [],
      warnings: state === 'unknown' ? [`Whether the allowlist is in force is not known: ${reason}.`] : [],
    };
  }

  /** For people. */
  view(): EnforcementView {
    const { state, reason } = this.#found;
    const [, words] = STATE_WORDS[state];
    const at = this.#known === null ? '' : `, as of ${new Date(this.#knownAt).toISOString()}`;
    return {
      state,
      words: `${words.replace('self-test: ', '')}${reason === '' ? '' : `: ${reason}`}${state === 'holds' || state === 'broken' ? at : ''}`,
    };
  }

  #begin(): void {
    const { mode, selfTest } = this.#config;
    const { every } = selfTest;
    if (every === null || mode === 'report') {
      this.#forget(every === null ? 'off' : 'report');
      return;
    }
    const controller = new AbortController();
    this.#running = { controller, ended: this.#run(every, controller.signal, this.#running?.ended) };
  }

  /** @param before end of the round that this one replaces: its last probe gives up the claim on its connection only then */
  async #run(every: number, signal: AbortSignal, before: Promise<void> | undefined): Promise<void> {
    await before;
    do {
      const result = await this.#try(signal).catch((error: unknown): RoundResult => ({
        state: 'unknown',
        reason: `the round failed: ${String(error)}`,
      }));
      if (!signal.aborted) this.#note(result);
    } while (await pause(every, signal));
  }

  async #try(signal: AbortSignal): Promise<RoundResult> {
    const { config, bound } = { config: this.#config, bound: this.#bound };
    const self = bound === null ? undefined : [...bound.http, ...bound.tls].map(reach)[0];
    if (bound === null || self === undefined) return { state: 'unknown', reason: 'there is no listener' };
    if (signal.aborted) return { state: 'unknown', reason: 'another configuration has come' };
    if (this.#options.tight()) return { state: 'unknown', reason: 'almost no file descriptors are left' };
    if (config.destinations.some(({ hosts }) => hosts.includes(`*.${RESERVED_DOMAIN}`)))
      return {
        state: 'unknown',
        reason: `a destination has the hosts *.${RESERVED_DOMAIN}, so that no name is certain to be refused; no host has such a name (RFC 6761), so take the pattern out`,
      };
    const round = this.#round;
    this.#round += 1;
    const name = `self-test-${randomBytes(8).toString('hex')}.${RESERVED_DOMAIN}`;
    const probes = listProbes({ config, bound, name, client: pickClient(config, round), stranger: pickStranger(config) });
    return runRound({
      probes,
      ask: (probe) => this.#ask(probe, signal),
      egress: this.#options.egress,
      destinations: pickDestinations(config.destinations, round),
      self,
      signal,
    });
  }

  /** One at a time: only the current connection is claimed. */
  async #ask(probe: SelfTestProbe, signal: AbortSignal): Promise<ProbeOutcome> {
    this.#record = null;
    this.#asker = probe.asker;
    try {
      const answer = await askListener(
        probe,
        (own) => {
          this.#own = own;
        },
        PROBE_TIMEOUT,
        signal,
      );
      return { answer, record: this.#record };
    } finally {
      this.#own = null;
    }
  }

  #note(result: RoundResult): void {
    const found: SelfTestFinding = result.state === 'holds' ? { state: 'holds', reason: '' } : result;
    const { state, reason } = found;
    const { telemetry, now } = this.#options;
    const before = this.#found.state;
    this.#found = found;
    if (state !== 'unknown') {
      this.#known = found;
      this.#knownAt = now();
      telemetry.enforcementTested(state === 'holds', this.#knownAt);
    }
    if (state !== before) this.#tell(found, before, reason === '' ? {} : { reason });
  }

  /** Nothing is tested: the earlier result is no longer valid. */
  #forget(state: 'off' | 'report'): void {
    const before = this.#found.state;
    this.#found = { state, reason: '' };
    this.#known = null;
    this.#options.telemetry.enforcementTested(null, 0);
    if (state !== before) this.#tell(this.#found, before, {});
  }

  /** Logged once per change. A success at the start is not logged: it is expected. */
  #tell({ state }: SelfTestFinding, before: EnforcementState, fields: Record<string, unknown>): void {
    const [level, words] = STATE_WORDS[state];
    const quiet = before === 'pending' && level === 'info';
    this.#options.telemetry.notice(quiet ? 'debug' : level, words, fields);
  }
}

/** False once it is over. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return delay(ms, true, { signal, ref: false }).catch(() => false);
}

/** The address of a client that is identified by address only; another one in each round. */
function pickClient({ clients }: Pick<Config, 'clients'>, round: number): string | null {
  const known = clients.filter(
    ({ addresses, basic, tokens, certificates }) => addresses !== null && basic === null && tokens === null && certificates === null,
  );
  return known[round % Math.max(1, known.length)]?.addresses?.[0]?.split('/')[0] ?? null;
}

/** By the configuration, and not by the policy that is tested. */
function pickStranger({ clients }: Pick<Config, 'clients'>): string | null {
  const all = buildCidrTable([clients.flatMap(({ addresses }) => addresses ?? [])]);
  return STRANGERS.find((address) => all.find(address) === -1) ?? null;
}

function pickDestinations(destinations: readonly DestinationConfig[], round: number): DestinationConfig[] {
  const first = (round * GUARDS) % Math.max(1, destinations.length);
  return destinations.slice(first, first + GUARDS);
}
