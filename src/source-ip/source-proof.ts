/** The proof of the source address, whole: the probe that runs with the proxy, the same question asked by hand, and what it means for readiness. */
import { setTimeout as delay } from 'node:timers/promises';
import type { SourceIpConfig } from '../config/config.ts';
import type { Dialler } from '../dial/dial.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { askEndpoint } from './ask-endpoint.ts';
import { remarkOn } from './judge.ts';
import { type SourceFinding, SourceProbe } from './source-probe.ts';
import type { SourceView } from './source-view.ts';
import { type Verification, type VerifyRequest, verifySource } from './verify.ts';

export interface SourceProofOptions {
  readonly config: SourceIpConfig | null;
  /** The one that requests go by at this moment. */
  readonly dialler: () => Dialler;
  readonly isSelf: (address: string, port: number) => boolean;
  readonly telemetry: Telemetry;
}

export class SourceProof {
  readonly #options: SourceProofOptions;
  readonly #probe: SourceProbe;

  constructor(options: SourceProofOptions) {
    const { config, telemetry } = options;
    this.#options = options;
    this.#probe = new SourceProbe({
      config,
      ask: (probe, signal) => askEndpoint(probe, { ...this.#way(), signal }),
      telemetry,
      now: Date.now,
      random: Math.random,
      wait: (ms, signal) => delay(ms, undefined, { signal, ref: false }),
    });
  }

  start(): void {
    this.#probe.start();
  }

  adopt(config: SourceIpConfig | null): void {
    this.#probe.adopt(config);
  }

  close(): Promise<void> {
    return this.#probe.close();
  }

  /** Asks by hand, also before `start`. */
  verify(request: VerifyRequest): Promise<Verification> {
    return verifySource(request, (probe) => askEndpoint(probe, { ...this.#way(), signal: new AbortController().signal }));
  }

  /** What keeps traffic away, where it is to, and what only deserves a look. */
  readiness(): { readonly reasons: readonly string[]; readonly warnings: readonly string[] } {
    const { config, finding, lastJudged } = this.#probe;
    if (config === null || !this.#probe.asks || config.expected.length === 0) return { reasons: [], warnings: [] };
    const said = describe(config, finding);
    if (said === null) return { reasons: [], warnings: [] };
    // A probe that fails tells nothing of the address: what was last known of it holds, or an echo endpoint would stop everything.
    if (config.gateReadiness && lastJudged?.result !== 'match') return { reasons: [said], warnings: [] };
    return { reasons: [], warnings: finding === null ? [] : [said] };
  }

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
    };
  }

  #way(): { dialler: Dialler; isSelf: SourceProofOptions['isSelf'] } {
    return { dialler: this.#options.dialler(), isSelf: this.#options.isSelf };
  }
}

/** Null when all is well. */
function describe({ expected }: SourceIpConfig, finding: SourceFinding | null): string | null {
  if (finding === null) return 'The source address is not known yet.';
  if (finding.fault !== null) return `The source address is not known: ${finding.fault.advice}.`;
  if (finding.result === 'mismatch') return `The source address is ${finding.seen ?? '-'}, and not ${expected.join(' or ')}.`;
  return null;
}

function remarkOnFinding({ result, seen }: SourceFinding): string | null {
  return seen === null || result === 'match' ? null : remarkOn(seen);
}
