/** Rules that end: when, their owner, and whether that is soon. The same for warnings, metrics, `check` and the status page. */
import type { RuleConfig } from './config.ts';

/** How long before its end a warning about a rule begins, ms: as for a certificate. */
export const ENDS_SOON = 14 * 86_400_000;

/** A rule that has an end. */
export interface RuleEnd {
  /** `rules[0]`. */
  readonly rule: string;
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  readonly owner: string | null;
  readonly reason: string | null;
  readonly ticket: string | null;
  /** Ms since the epoch. */
  readonly until: number;
  /** `soon`: within `ENDS_SOON`. */
  readonly state: 'ended' | 'soon' | 'later';
}

/** In the order of their ends; rules without one are left out. @param now ms since the epoch */
export function listRuleEnds(rules: readonly RuleConfig[], now: number): RuleEnd[] {
  return rules
    .flatMap(({ clients, destinations, owner, reason, ticket, until }, index): RuleEnd[] =>
      until === null
        ? []
        : [
            {
              rule: `rules[${index}]`,
              clients,
              destinations,
              owner,
              reason,
              ticket,
              until,
              state: until <= now ? 'ended' : until - now <= ENDS_SOON ? 'soon' : 'later',
            },
          ],
    )
    .toSorted((one, other) => one.until - other.until);
}

/** Owner and reason of the rule: ` Owner: payments. Ticket: CHG-1042. Reason: the old gateway.`; empty: none are given. */
export function tellPurpose({ owner, reason, ticket }: Pick<RuleConfig, 'owner' | 'reason' | 'ticket'>): string {
  const who = [
    owner === null ? '' : `Owner: ${owner}.`,
    ticket === null ? '' : `Ticket: ${ticket}.`,
    reason === null ? '' : `Reason: ${reason}${/[.!?]$/.test(reason) ? '' : '.'}`,
  ].filter((part) => part !== '');
  return who.length === 0 ? '' : ` ${who.join(' ')}`;
}
