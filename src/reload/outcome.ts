/** The outcome of offering a configuration to the running proxy, and its report. */
import { type ConfigFinding, tellPlace } from '../config/finding.ts';
import type { Loaded, LoadResult } from '../config/load.ts';
import type { Difference } from '../config/settings.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { DecisionChange, Changes } from './compare.ts';
import { type InForce, logWarnings, tellWarnings } from './in-force.ts';

/** `applied`: the new configuration is in force, except for `needRestart`. `refused`: nothing has changed; `changes` is null where the policies were not compared. */
export type ReloadOutcome =
  | {
      readonly result: 'applied';
      readonly before: string;
      readonly inForce: InForce;
      readonly differences: readonly Difference[];
      readonly changes: Changes;
      readonly needRestart: readonly string[];
      readonly tunnelsCut: number;
    }
  | { readonly result: 'refused'; readonly reasons: readonly string[]; readonly changes: Changes | null };

/** The same as plain data for the caller: without secrets, and with warnings in words. */
export type OutcomeReport = { readonly newlyDenied: readonly DecisionChange[]; readonly newlyAllowed: readonly DecisionChange[] } & (
  | { readonly result: 'refused'; readonly reasons: readonly string[] }
  | {
      readonly result: 'applied';
      readonly file: string | null;
      readonly hash: string;
      /** ISO 8601. */
      readonly loadedAt: string;
      readonly differences: readonly Difference[];
      /** The hash of the previous configuration. */
      readonly before: string;
      /** Keys whose change takes effect at the next start. */
      readonly needRestart: readonly string[];
      readonly warnings: readonly string[];
      readonly replayed: number;
      readonly tunnelsCut: number;
    }
);

/** The outcome as in the response to `POST /reload`. */
export function reportOutcome(outcome: ReloadOutcome): OutcomeReport {
  const changes = { newlyDenied: outcome.changes?.newlyDenied ?? [], newlyAllowed: outcome.changes?.newlyAllowed ?? [] };
  if (outcome.result === 'refused') return { result: 'refused', reasons: outcome.reasons, ...changes };
  const { before, inForce, differences, needRestart, tunnelsCut } = outcome;
  const { file, hash, loadedAt } = inForce;
  return {
    result: 'applied',
    file,
    hash,
    loadedAt: new Date(loadedAt).toISOString(),
    before,
    differences,
    needRestart,
    warnings: tellWarnings(inForce),
    replayed: outcome.changes.replayed,
    tunnelsCut,
    ...changes,
  };
}

/** Most faults of a file that are listed: the log takes no line of megabytes, and `/readyz` is asked every two seconds. */
const MOST_FAULTS = 50;

function refuseFaulty(faults: readonly ConfigFinding[]): ReloadOutcome {
  const reasons = faults.slice(0, MOST_FAULTS).map((fault) => `${tellPlace(fault)} ${fault.problem} ${fault.instead}`.trimEnd());
  return {
    result: 'refused',
    reasons:
      faults.length > MOST_FAULTS
        ? [...reasons, `${faults.length - MOST_FAULTS} further faults of the configuration: npx eco-egress check shows them all.`]
        : reasons,
    changes: null,
  };
}

/** Everything that can be tested was tested at load; a later error is a bug, but the proxy continues to serve. */
function refuseUnusable(error: unknown): ReloadOutcome {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { result: 'refused', reasons: [`It could not be applied because of an internal error: ${stack}`], changes: null };
}

/** The refusal under `reload.refuseIfDenies`, with a reason for each change that would deny a request. */
export function refuseDenials(changes: Changes): ReloadOutcome {
  return {
    result: 'refused',
    reasons: changes.newlyDenied.map((change) => `It would deny ${describeDecisionChange(change)}: ${change.detail}`),
    changes,
  };
}

/** One line for the outcome, and one for each change to recent requests. */
function reportReload(telemetry: Telemetry, outcome: ReloadOutcome): void {
  if (outcome.result === 'refused')
    telemetry.notice('error', 'reload refused: the previous configuration stays active', { reasons: outcome.reasons });
  else {
    const { changes, inForce, differences, needRestart, tunnelsCut } = outcome;
    telemetry.notice('info', 'reload applied', {
      ...nameConfig(inForce),
      changed:
        differences.length <= MOST_LOGGED_KEYS
          ? differences.map(({ path }) => path)
          : [...differences.slice(0, MOST_LOGGED_KEYS).map(({ path }) => path), `${differences.length - MOST_LOGGED_KEYS} more`],
      replayed: changes.replayed,
      newlyDenied: changes.newlyDenied.length,
      newlyAllowed: changes.newlyAllowed.length,
      tunnelsCut,
      ...(needRestart.length === 0 ? {} : { needRestart }),
    });
    logWarnings(inForce, telemetry);
  }
  for (const change of outcome.changes?.newlyDenied ?? []) telemetry.notice('warn', 'newly denied by this configuration', { ...change });
  for (const change of outcome.changes?.newlyAllowed ?? []) telemetry.notice('info', 'newly allowed by this configuration', { ...change });
}

/** Most keys listed in a log line. */
const MOST_LOGGED_KEYS = 20;

/** Fields of the log that identify the configuration in force. */
export function nameConfig({ file, hash, loadedAt }: Pick<InForce, 'file' | 'hash' | 'loadedAt'>): Record<string, string> {
  return { configFile: file ?? '-', configHash: hash, loadedAt: new Date(loadedAt).toISOString() };
}

function describeDecisionChange({ client, clientAddress, form, host, port, count }: DecisionChange): string {
  return `${client} (${clientAddress}) ${form} ${host}:${port}, asked ${count === 1 ? 'once' : `${count} times`} recently`;
}

/** Offers configurations to the running proxy one after the other, counts and reports each outcome. */
export class Reloads {
  /** Whether the latest configuration offered was refused. */
  refused = false;
  /** Why the latest configuration offered is not, or not entirely, in force. */
  warnings: readonly string[] = [];
  readonly #telemetry: Telemetry;
  readonly #adopt: (loaded: Loaded) => Promise<ReloadOutcome>;
  #latest: Promise<unknown> = Promise.resolve();

  /** @param adopt applies a whole configuration, or nothing of it */
  constructor(telemetry: Telemetry, adopt: (loaded: Loaded) => Promise<ReloadOutcome>) {
    this.#telemetry = telemetry;
    this.#adopt = adopt;
  }

  /** Waits for earlier ones. An error of `adopt` is a bug: it is logged, and the previous configuration stays active. */
  submit(candidate: LoadResult): Promise<ReloadOutcome> {
    const outcome = this.#latest.then(() => this.#offer(candidate));
    this.#latest = outcome.catch(() => {});
    return outcome;
  }

  async #offer(candidate: LoadResult): Promise<ReloadOutcome> {
    const outcome = candidate.ok ? await this.#adopt(candidate).catch(refuseUnusable) : refuseFaulty(candidate.faults);
    this.refused = outcome.result === 'refused';
    this.warnings =
      outcome.result === 'refused'
        ? ['The latest configuration was refused; the previous one stays active.', ...outcome.reasons]
        : outcome.needRestart.map((key) => `The change of ${key} takes effect at the next start.`);
    this.#telemetry.policyReloaded(outcome.result);
    reportReload(this.#telemetry, outcome);
    return outcome;
  }
}
