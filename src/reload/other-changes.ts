/** Differences between two configurations other than the policy's decisions, and which of them need a restart. */
import { isDeepStrictEqual } from 'node:util';
import type { Config, RateConfig, RuleConfig } from '../config/config.ts';
import type { Loaded } from '../config/load.ts';
import { compareSettings, type Difference, HIDDEN } from '../config/settings.ts';
import { listRates } from '../policy/rate-text.ts';
import { decisiveOf, nameRules } from '../policy/same-rules.ts';
import { isBelowKey, NEEDS_RESTART } from './needs-restart.ts';

/** A key whose change does not change decisions. */
export interface OtherChange extends Difference {
  /** It takes effect at the next start, not at a reload. */
  readonly needsRestart: boolean;
}

/** The differences, apart from decisions. */
export interface OtherChanges {
  readonly changes: readonly OtherChange[];
  /** Keys of the policy that are written differently, even if decisions are the same. */
  readonly policyKeys: readonly string[];
}

type Compared = Pick<Loaded, 'config' | 'settings'>;

/** Keys of an entry on which decisions depend. */
const DECISIVE: Readonly<Record<'clients' | 'destinations', RegExp>> = {
  clients: /^(?:addresses|certificates|basic\[\d+\]\.user|tokens\[\d+\]\.(?:issuer|audience|subjects))$/,
  destinations: /^(?:hosts|ports|addresses|forms|gateway\.(?:prefix|url|encodedSlashes)|http\.(?:methods|paths)|report|upgradePlainHttp)$/,
};

/** In the order of the later file, then removed keys. */
export function compareOthers(before: Compared, after: Compared): OtherChanges {
  const changes: OtherChange[] = [];
  const policyKeys: string[] = [];
  for (const difference of compareSettings(before.settings(), after.settings())) {
    const { path } = difference;
    if (isDecisive(path, before.config, after.config)) policyKeys.push(path);
    // Rules have no names: they are matched by their content.
    else if (!path.startsWith('rules[') && meansAnother(difference, before.config, after.config))
      changes.push({ ...difference, needsRestart: isBelowKey(path, NEEDS_RESTART) });
  }
  changes.push(...compareHashes(before.config, after.config), ...compareRuleNotes(before.config.rules, after.config.rules));
  return { changes, policyKeys };
}

/** The files may not have been read: their names are compared as written. */
function meansAnother({ path, before, after }: Difference, present: Config, wanted: Config): boolean {
  // Hashes in both files are compared by user: `compareHashes`.
  if (before === null ? after === null : after !== null && path.endsWith('].hash')) return false;
  return path.endsWith('File') || !isDeepStrictEqual(configAt(present, path), configAt(wanted, path));
}

/** The new value of a setting, or the smallest part of the configuration that contains it: files may write the same in many ways. */
function configAt(config: Config, path: string): unknown {
  let value: unknown = config;
  for (const key of path.split(/\.|(?=\[)/)) {
    const inner: unknown = Array.isArray(value)
      ? key.startsWith('[')
        ? value[Number(key.slice(1, -1))]
        : value.find((entry: unknown) => (entry as { readonly name?: unknown } | null)?.name === key)
      : (value as Readonly<Record<string, unknown>> | null)?.[key];
    if (inner === undefined) return value;
    value = inner;
  }
  return value;
}

function isDecisive(path: string, before: Config, after: Config): boolean {
  if (path === 'mode' || path === 'rules') return true;
  if (path.startsWith('rules[')) return /\]\.(?:clients|destinations|methods|paths|from|until|report)$/.test(path);
  for (const section of ['clients', 'destinations'] as const) {
    if (!path.startsWith(`${section}.`)) continue;
    const inside = path.slice(section.length + 1);
    const has = (config: Config): string | undefined =>
      config[section].map(({ name }) => name).find((name) => inside === name || inside.startsWith(`${name}.`));
    const [one, other] = [has(before), has(after)];
    // An entry that is in one file only belongs to the policy comparison, as a whole.
    return one === undefined || other === undefined || DECISIVE[section].test(inside.slice(one.length + 1));
  }
  return false;
}

/** By user, whatever the order of the users. */
function compareHashes(before: Config, after: Config): OtherChange[] {
  const hashes = new Map(before.clients.flatMap(({ basic }) => (basic ?? []).map(({ user, hash }) => [user, hash] as const)));
  return after.clients.flatMap(({ name, basic }) =>
    (basic ?? []).flatMap(({ user, hash }, index) =>
      (hashes.get(user) ?? hash) === hash
        ? []
        : [{ path: `clients.${name}.basic[${index}].hash`, before: HIDDEN, after: `another ${HIDDEN}`, needsRestart: false }],
    ),
  );
}

/** Fields of a rule for people: without effect on decisions, in rules that both files have. */
function compareRuleNotes(before: readonly RuleConfig[], after: readonly RuleConfig[]): OtherChange[] {
  const [names, later] = nameRules(before, after);
  const places = new Map(names.map((name, index) => [name, index]));
  return after.flatMap((rule, index) => {
    const known = before[places.get(later[index] ?? '') ?? -1];
    if (known === undefined) return [];
    const decisive = new Set(Object.keys(decisiveOf(rule)));
    const keys = [...new Set([...Object.keys(known), ...Object.keys(rule)])].filter((key) => !decisive.has(key));
    return [
      ...compareRates(known.rate, rule.rate, `rules[${index}].rate`),
      ...keys
        .filter((key) => key !== 'rate')
        .flatMap((key) => {
          const [was, is] = [known, rule].map((one) => (one as unknown as Readonly<Record<string, unknown>>)[key] ?? null);
          return JSON.stringify(was) === JSON.stringify(is)
            ? []
            : [{ path: `rules[${index}].${key}`, before: was, after: is, needsRestart: false }];
        }),
    ];
  });
}

/** Each limit separately, as a person would write it. */
function compareRates(before: RateConfig | null, after: RateConfig | null, path: string): OtherChange[] {
  const [was, is] = [before, after].map(
    (rate) =>
      new Map<string, string>([
        ...listRates(rate).map(({ per, kind, limit }) => [`${per}.${kind}`, limit.text] as const),
        ...(rate === null ? [] : [['whenExhausted', rate.whenExhausted] as const]),
      ]),
  );
  return [...new Set([...(is?.keys() ?? []), ...(was?.keys() ?? [])])].flatMap((key) => {
    const [one = null, other = null] = [was?.get(key), is?.get(key)];
    return one === other ? [] : [{ path: `${path}.${key}`, before: one, after: other, needsRestart: false }];
  });
}
