/** Whether the process may have as many files open as the limits let connections be. */
import type { Config } from '../config/config.ts';
import { descriptorNeeds } from '../descriptors.ts';
import { fail, type Finding, ok, skipped, warn } from './finding.ts';

/** @param openFiles null: not known, or not limited */
export function checkOpenFiles(config: Pick<Config, 'limits' | 'destinations'>, openFiles: number | null): Finding[] {
  if (openFiles === null) return [skipped('', 'this system tells no limit')];
  const { connections, tunnels } = config.limits;
  const { clients, all } = descriptorNeeds(config);
  const seen = `${openFiles} files may be open; ${connections} client connections, ${tunnels} tunnels and the pools may need ${all}`;
  if (openFiles < clients) return [fail('', 'files-limit', seen, `Raise the limit (ulimit -n) to ${all}, or lower limits.connections.`)];
  if (openFiles < all) return [warn('', 'files-limit', seen, `Raise the limit (ulimit -n) to ${all}, or lower limits.connections or limits.tunnels.`)];
  return [ok('', seen)];
}
