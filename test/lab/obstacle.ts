/** Whether this machine can hold the lab, and what it lacks. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const PACKAGES: Record<string, string> = { ip: 'iproute2', nft: 'nftables', curl: 'curl' };

/** What keeps the lab from being built, with what to do; null: nothing. */
export function findObstacle(): string | null {
  if (process.platform !== 'linux') return 'it is made of network namespaces, which only Linux has.';
  if (process.getuid?.() !== 0) return 'it needs root, to make network namespaces. Try: sudo npm run lab';
  const missing = Object.entries(PACKAGES).filter(([program]) => !isInstalled(program));
  if (missing.length === 0) return null;
  const programs = missing.map(([program]) => program).join(', ');
  return `it needs ${programs}. Try: apt-get install ${missing.map(([, name]) => name).join(' ')}`;
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
