/** Whether this machine can hold the lab, and what it lacks. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { labName } from './leftovers.ts';

const PACKAGES: Record<string, string> = { ip: 'iproute2', nft: 'nftables', curl: 'curl' };

/** What keeps the lab from being built, with what to do; null: nothing. @param more programs that are needed besides, with their packages */
export function findObstacle(more: Readonly<Record<string, string>> = {}): string | null {
  if (process.platform !== 'linux') return 'it is made of network namespaces, which only Linux has.';
  if (process.getuid?.() !== 0) return 'it needs root, to make network namespaces. Try: sudo npm run lab';
  const missing = Object.entries({ ...PACKAGES, ...more }).filter(([program]) => !isInstalled(program));
  if (missing.length > 0) {
    const programs = missing.map(([program]) => program).join(', ');
    return `it needs ${programs}. Try: apt-get install ${missing.map(([, name]) => name).join(' ')}`;
  }
  const trial = `${labName(process.pid)}trial`;
  const { status, stderr } = spawnSync('ip', ['netns', 'add', trial], { encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', trial], { stdio: 'ignore' });
  return status === 0 ? null : `this machine makes no network namespaces (${stderr.trim()}). A container needs CAP_SYS_ADMIN for it.`;
}

function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      // Not there, or not for us: the next directory may have it.
      return false;
    }
  });
}
