/** Writes a moment for people: UTC, to the second. */

/** @param ms since the epoch */
export function formatMoment(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms` : `${date.toISOString().slice(0, 19)}Z`;
}
