/** Where a candidate policy would answer the latest requests otherwise than the present one. */
import type { Policy } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import type { Ask } from '../policy/verdict.ts';

/** Requests of one client to one host and port that would be answered otherwise. */
export interface Change {
  readonly client: string;
  readonly clientAddress: string;
  readonly form: string;
  readonly host: string;
  readonly port: number;
  /** Of the verdict in whose favour or disfavour it changes: a fault code, or `ok`. */
  readonly code: string;
  readonly detail: string;
  count: number;
}

export interface Changes {
  readonly newlyDenied: readonly Change[];
  readonly newlyAllowed: readonly Change[];
  /** Decisions that were asked again. */
  readonly replayed: number;
}

/** Different changes told at most, either way: a scan must not flood the log at a reload. */
const MOST = 50;

/**
 * Both policies are asked as of `now`, ms since the epoch: a rule that has
 * expired by itself is not the candidate's doing.
 */
export function compareDecisions(asks: readonly Ask[], present: Policy, candidate: Policy, now: number): Changes {
  const denied = new Map<string, Change>();
  const allowed = new Map<string, Change>();
  for (const asked of asks) {
    const ask = { ...asked, now };
    const next = decide(candidate, ask);
    if ((decide(present, ask).verdict === 'deny') === (next.verdict === 'deny')) continue;
    const into = next.verdict === 'deny' ? denied : allowed;
    const client = next.client?.name ?? '-';
    const key = `${client} ${ask.peer.address} ${ask.form} ${ask.host} ${ask.port}`;
    const known = into.get(key);
    if (known !== undefined) known.count += 1;
    else if (into.size < MOST) {
      const [code, detail] = next.verdict === 'deny' ? [next.code, next.detail] : ['ok', 'permitted now'];
      into.set(key, { client, clientAddress: ask.peer.address, form: ask.form, host: ask.host, port: ask.port, code, detail, count: 1 });
    }
  }
  return { newlyDenied: [...denied.values()], newlyAllowed: [...allowed.values()], replayed: asks.length };
}
