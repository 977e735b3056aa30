/** How many files this process may have open, as the system says. */
import { readFileSync } from 'node:fs';

/** Null: not limited, or not known. Node raises the soft limit to the hard one when it starts. */
export function readOpenFileLimit(): number | null {
  return readLimits() ?? readReport();
}

/** Linux says it at once. */
function readLimits(): number | null {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

function readReport(): number | null {
  // Looking up the names of all open connections would take its time.
  Object.assign(process.report, { excludeNetwork: true });
  const report = process.report.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft: number | string } } };
  const soft = report.userLimits?.open_files?.soft;
  return typeof soft === 'number' ? soft : null;
}
