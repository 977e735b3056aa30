/** The rates of a rule in words, for readers of a policy. */
import { RATE_KINDS, type RateConfig, type RateKind, type RateLimit } from '../config/config.ts';

/** One limit of `rules[].rate`. */
export interface RuleRate {
  readonly per: 'perAddress' | 'perClient';
  readonly kind: RateKind;
  readonly limit: RateLimit;
}

/** The limits of a rule, those of addresses first; none for null. */
export function listRates(rate: RateConfig | null): RuleRate[] {
  return (['perAddress', 'perClient'] as const).flatMap((per) =>
    RATE_KINDS.flatMap((kind) => {
      const limit = rate?.[per]?.[kind] ?? null;
      return limit === null ? [] : [{ per, kind, limit }];
    }),
  );
}

/** `requests 50/s burst 100 for each address`, and so on. */
export function describeRates(rate: RateConfig | null): string[] {
  const texts = listRates(rate).map(
    ({ per, kind, limit }) => `${kind} ${limit.text} for ${per === 'perAddress' ? 'each address' : 'the client'}`,
  );
  return rate?.whenExhausted === 'cut' ? [...texts, 'what is under way is cut when its bytes are used up'] : texts;
}
