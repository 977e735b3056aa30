/**
 * Keys whose change needs a restart; a reload applies everything else.
 * docs/reload.md is held to this by a test.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';

/** Bound, or read once, at the start: whole sections, or single keys. */
export const NEEDS_RESTART = [
  'name',
  'listeners',
  'limits.headerBytes',
  'timeouts.requestHeaders',
  'timeouts.keepAlive',
] as const satisfies readonly (keyof Config | `limits.${keyof Config['limits']}` | `timeouts.${keyof Config['timeouts']}`)[];

/** Whether a setting is one of these keys, or inside one. @param path as in settings: `listeners.http[0].forms` */
export function isBelowKey(path: string, keys: readonly string[]): boolean {
  return keys.some((key) => path === key || path.startsWith(`${key}.`) || path.startsWith(`${key}[`));
}

/** The configuration to apply: `wanted`, except for the keys that need a restart; those that differ are listed. */
export function keepWhatNeedsRestart(present: Config, wanted: Config): { config: Config; needRestart: string[] } {
  const config: Sections = { ...wanted };
  const needRestart: string[] = [];
  for (const path of NEEDS_RESTART) {
    const [section = '', key] = path.split('.');
    const kept = (present as unknown as Sections)[section];
    const asked = config[section];
    if (key === undefined) {
      if (!isDeepStrictEqual(kept, asked)) needRestart.push(path);
      config[section] = kept;
    } else {
      if (!isDeepStrictEqual((kept as Sections)[key], (asked as Sections)[key])) needRestart.push(path);
      config[section] = { ...(asked as Sections), [key]: (kept as Sections)[key] };
    }
  }
  // Each of its values comes from one of the two configurations, for the same key.
  return { config: config as unknown as Config, needRestart };
}

type Sections = Record<string, unknown>;
