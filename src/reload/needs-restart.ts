/**
 * What a reload can change, and what waits for the next start. Only what is
 * listed here is taken over: a key that nobody has thought about waits, and
 * the outcome names it. docs/reload.md is held to this by a test.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';

type Sections = 'reload' | 'headers' | 'limits' | 'timeouts' | 'nat' | 'dns' | 'log';
type Reloadable = keyof Config | { [Section in Sections]: `${Section}.${keyof Config[Section] & string}` }[Sections];

const RELOADABLE: ReadonlySet<string> = new Set<Reloadable>([
  'mode',
  'reload.watch',
  'reload.refuseIfDenies',
  'reload.remember',
  'tlsServer',
  'clients',
  'destinations',
  'rules',
  'hops',
  // The running proxy does not look at it.
  'cluster',
  'sourceIp',
  'nat',
  'dns',
  'headers',
  'limits.connections',
  'limits.connectionsPerClient',
  'limits.tunnels',
  'limits.tunnelsPerClient',
  'limits.exchanges',
  'limits.exchangesPerClient',
  'limits.headerFields',
  'limits.upstreamConnections',
  'limits.upstreamQueue',
  'timeouts.resolve',
  'timeouts.connect',
  'timeouts.tls',
  'timeouts.responseHeaders',
  'timeouts.body',
  'timeouts.upstreamKeepAlive',
  'timeouts.upstreamAge',
  'timeouts.tunnelIdle',
  'timeouts.tunnelAge',
  'timeouts.drainDelay',
  'timeouts.drain',
]);

/** @param path of a key in a file: `limits.tunnels`, `destinations.<name>.hosts` */
export function needsRestart(path: string): boolean {
  const steps = path.replaceAll('[]', '').split('.');
  return !steps.some((_, index) => RELOADABLE.has(steps.slice(0, index + 1).join('.')));
}

/** The configuration to take over: `wanted`, but for what only a restart can change; what differs of that is named. */
export function keepWhatNeedsRestart(present: Config, wanted: Config): { config: Config; needRestart: string[] } {
  const needRestart: string[] = [];
  const merge = (path: string, now: Fields, next: Fields): Fields =>
    Object.fromEntries(
      [...new Set([...Object.keys(now), ...Object.keys(next)])].map((key) => {
        const inside = path === '' ? key : `${path}.${key}`;
        const [old, other] = [now[key], next[key]];
        if (RELOADABLE.has(inside)) return [key, other];
        if (isSplit(inside) && isFields(old) && isFields(other)) return [key, merge(inside, old, other)];
        if (!isDeepStrictEqual(old, other)) needRestart.push(inside);
        return [key, old];
      }),
    );
  // Every key holds the value that it has in one of the two.
  const config = merge('', present as unknown as Fields, wanted as unknown as Fields) as unknown as Config;
  return { config, needRestart };
}

type Fields = Readonly<Record<string, unknown>>;

/** Some of its keys can be reloaded. */
function isSplit(path: string): boolean {
  return [...RELOADABLE].some((key) => key.startsWith(`${path}.`));
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
