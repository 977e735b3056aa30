/** How many files this process may have open, as the system tells Node. */

/** Null: not limited, or not told. Node raises the soft limit to the hard one when it starts. */
export function readOpenFileLimit(): number | null {
  // Looking up the names of all open connections would take its time.
  Object.assign(process.report, { excludeNetwork: true });
  const report = process.report.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft: number | string } } };
  const soft = report.userLimits?.open_files?.soft;
  return typeof soft === 'number' ? soft : null;
}
