/**
 * The proof of the source address: the probe that runs with the proxy, the
 * detection of silent partners, the manual query, and their effect on
 * readiness.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Config, SourceIpConfig } from '../config/config.ts';
import type { Dialler } from '../dial/dial.ts';
import type { PortsInUse } from '../dial/ports.ts';
import { buildHostTable, type HostTable } from '../policy/tables.ts';
import type { SourceResult, Telemetry } from '../telemetry/telemetry.ts';
import { askEndpoint, type AskOptions } from './ask-endpoint.ts';
import { remarkOn, SILENCE, type SilenceFacts } from './judge.ts';
import { PartnerWatch } from './partner-watch.ts';
import { type SourceFinding, SourceProbe } from './source-probe.ts';
import { type Verification, type VerifyRequest, verifySource } from './verify.ts';

type Proven = Pick<Config, 'sourceIp' | 'destinations'>;

interface SourceProofOptions {
  readonly config: Proven;
  /** The dialler of requests; `adopt` replaces it. */
  readonly dialler: Dialler;
  readonly isSelf: AskOptions['isSelf'];
  readonly ports: { inUse(): PortsInUse };
  readonly telemetry: Telemetry;
  /** Ms since the epoch. */
  readonly now: () => number;
}

/** Its creator starts it and closes it. */
export class SourceProof {
  readonly watch: PartnerWatch;
  readonly #options: SourceProofOptions;
  readonly #probe: SourceProbe;
  #dialler: Dialler;
  #destinations: Proven['destinations'];
  /** Of these destinations; null: not needed yet. */
  #hosts: HostTable | null = null;
  /** When the resolver last failed for a name of a destination, and an expired answer was used, ms since the epoch. */
  readonly #staleAt = new Map<string, number>();

  constructor(options: SourceProofOptions) {
    const { config, telemetry, now } = options;
    this.#options = options;
    this.#dialler = options.dialler;
    this.#destinations = config.destinations;
    this.watch = new PartnerWatch({
      destinations: watchedOf(config),
      surroundings: (destination, since) => this.#surroundings(destination, since),
      telemetry,
      now,
    });
    this.#probe = new SourceProbe({
      config: config.sourceIp,
      ask: (probe, signal) => askEndpoint(probe, this.#way(signal)),
      telemetry,
      now,
      random: Math.random,
      onProbed: () => {
        this.watch.reconsider();
      },
      wait: (ms, signal) => delay(ms, undefined, { signal, ref: false }),
    });
  }

  /** Begins to probe, if an endpoint is configured. */
  start(): void {
    this.#probe.start();
  }

  /** Changes the configuration and its dialler. */
  adopt(config: Proven, dialler: Dialler): void {
    this.#dialler = dialler;
    this.#destinations = config.destinations;
    this.#hosts = null;
    this.#staleAt.clear();
    this.watch.adopt(watchedOf(config));
    this.#probe.adopt(config.sourceIp);
  }

  /** The resolver has failed for this name, and an expired answer is used. */
  noteStale(host: string): void {
    this.#hosts ??= buildHostTable(this.#destinations.map(({ hosts }) => hosts));
    for (const index of this.#hosts.find(host)) this.#staleAt.set(this.#destinations[index]?.name ?? '', this.#options.now());
  }

  /** Resolves when the current probe has ended. */
  close(): Promise<void> {
    return this.#probe.close();
  }

  /** A manual query, also before `start`. */
  verify(request: VerifyRequest): Promise<Verification> {
    return verifySource(request, (probe) => askEndpoint(probe, this.#way(new AbortController().signal)));
  }

  /** Reasons not to be ready, if configured, and warnings. */
  readiness(): { readonly reasons: readonly string[]; readonly warnings: readonly string[] } {
    const { config, finding, lastJudged } = this.#probe;
    const silent = this.watch.silent.map(
      ({ destination, cause, since }) => `${destination} has not answered since ${new Date(since).toISOString()}: ${SILENCE[cause].words}.`,
    );
    const said = config === null || !this.#probe.asks || config.expected.length === 0 ? null : describeSourceProblem(config, finding);
    if (config === null || said === null) return { reasons: [], warnings: silent };
    // A failed probe is no evidence about the address: the last known state stays valid, or an echo endpoint could stop
    // everything.
    if (config.gateReadiness && lastJudged?.result !== 'match') return { reasons: [said], warnings: silent };
    return { reasons: [], warnings: finding === null ? silent : [said, ...silent] };
  }

  /** The content of `/source-ip`. */
  view(): SourceView {
    const { config, finding, lastJudged } = this.#probe;
    return {
      result: finding?.result ?? (this.#probe.asks ? 'pending' : 'off'),
      expected: config?.expected ?? [],
      seen: finding?.seen ?? null,
      at: finding === null ? null : new Date(finding.at).toISOString(),
      since: finding === null ? null : new Date(finding.since).toISOString(),
      code: finding?.fault?.code ?? null,
      reason: finding?.fault?.advice ?? null,
      remark: finding === null ? null : remarkOnFinding(finding),
      lastSeen: lastJudged === null ? null : { address: lastJudged.seen, at: new Date(lastJudged.at).toISOString() },
      history: this.#probe.changes.map(({ at, result, seen, fault }) => ({
        at: new Date(at).toISOString(),
        result,
        seen,
        code: fault?.code ?? null,
      })),
      silentPartners: this.watch.silent.map((partner) => ({
        ...partner,
        since: new Date(partner.since).toISOString(),
        words: SILENCE[partner.cause].words,
        check: SILENCE[partner.cause].check,
      })),
    };
  }

  #way(signal: AbortSignal): AskOptions {
    return { dialler: this.#dialler, isSelf: this.#options.isSelf, signal };
  }

  #surroundings(destination: string, since: number): SilenceFacts {
    const { asks, finding } = this.#probe;
    const fresh = finding !== null && finding.at >= since;
    const { limit, destinations } = this.#options.ports.inUse();
    return {
      source: asks ? (fresh ? finding.result : 'pending') : 'off',
      stale: (this.#staleAt.get(destination) ?? -Infinity) >= since,
      ports: { used: destinations.get(destination)?.used ?? 0, limit },
    };
  }
}

const watchedOf = ({ destinations }: Proven): string[] => destinations.filter(({ via }) => via.length === 0).map(({ name }) => name);

/** Null when there is no problem. */
function describeSourceProblem({ expected }: SourceIpConfig, finding: SourceFinding | null): string | null {
  if (finding === null) return 'The source address is not known yet.';
  if (finding.fault !== null) return `The source address is not known: ${finding.fault.message}.`;
  if (finding.result === 'mismatch') return `The source address is ${finding.seen ?? '-'}, and not ${expected.join(' or ')}.`;
  return null;
}

function remarkOnFinding({ result, seen }: SourceFinding): string | null {
  return seen === null || result === 'match' ? null : remarkOn(seen);
}

// The source address on the admin port, as JSON and for people.

/** Times are ISO 8601. */
export interface SourceView {
  readonly result: SourceResult | 'pending' | 'off';
  readonly expected: readonly string[];
  readonly seen: string | null;
  readonly at: string | null;
  readonly since: string | null;
  readonly code: string | null;
  readonly reason: string | null;
  readonly remark: string | null;
  /** Partners whose connects time out. */
  readonly silentPartners: readonly {
    readonly destination: string;
    readonly cause: string;
    readonly since: string;
    readonly timeouts: number;
    readonly words: string;
    readonly check: string;
  }[];
  /** The result when an address was last known. */
  readonly lastSeen: { readonly address: string | null; readonly at: string } | null;
  /** The findings, one for each change; the latest first. */
  readonly history: readonly {
    readonly at: string;
    readonly result: SourceResult;
    readonly seen: string | null;
    readonly code: string | null;
  }[];
}
