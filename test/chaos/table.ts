/** The results as the table of docs/chaos.md. */
import type { RestartsResult } from './restarts.ts';
import type { FaultResult } from './run-fault.ts';

const MOST_SHOWN = 4;

export function formatTable(results: readonly FaultResult[]): string {
  const rows = results.map(({ fault, problems, calls, failures, namedAfter, shownAfter, alerts, healedAfter }) => {
    const shown = failures.slice(0, MOST_SHOWN).map(([outcome, count]) => `${count} \`${outcome}\``);
    const saw = failures.length === 0 ? 'nothing' : `${shown.join(', ')}${failures.length > MOST_SHOWN ? ' and others' : ''}`;
    const named = [...(namedAfter === null ? [] : [`log ${seconds(namedAfter)}`]), ...(shownAfter === null ? [] : [`page ${seconds(shownAfter)}`])];
    const fired = (alerts ?? []).map((name) => name.replace(/^EcoEgress/, ''));
    return `| \`${fault.name}\` | ${fault.what} | ${saw} of ${calls} | ${named.join(', ')} | ${fired.join(', ')} | ${healedAfter === null ? 'never' : seconds(healedAfter)} | ${problems.length === 0 ? 'yes' : problems.join('; ')} |`;
  });
  return ['| Fault | What happens | Failed calls | Named after | Alerts, if it lasts | Healed after | As it should be |', '|---|---|---|---|---|---|---|', ...rows, ''].join('\n');
}

/** The rows of faults that were not tried this time stay as they were. */
export function mergeTable(before: string, now: string): string {
  const nameOf = (row: string): string => /^\| `[^`]+`/.exec(row)?.[0] ?? row;
  const fresh = new Map(now.split('\n').map((row) => [nameOf(row), row]));
  const known = new Set(before.split('\n').map(nameOf));
  return [...fresh.keys()].every((name) => known.has(name)) ? before.split('\n').map((row) => fresh.get(nameOf(row)) ?? row).join('\n') : now;
}

export function formatRestarts({ restarts, calls, failures, refused, tunnels, exchangesCut, peaks }: RestartsResult): string {
  const rows = [
    ['Restarts, one replica after the other', String(restarts)],
    ['Calls meanwhile, in all forms', String(calls)],
    ['Calls lost that a proxy had accepted', failures.length === 0 ? '0' : failures.map(([outcome, count]) => `${count} \`${outcome}\``).join(', ')],
    ['Exchanges cut', String(exchangesCut)],
    ['Connections that reached no proxy', String(refused)],
    ['Tunnels ended at a quiet moment, busy, at the deadline', `${tunnels.quiet}, ${tunnels.busy}, ${tunnels.cut}`],
    ['Most reconnects in one second, in even rates: median, worst', `${peaks.median.toFixed(2)}, ${peaks.worst.toFixed(2)}`],
  ];
  return ['| | |', '|---|---|', ...rows.map((cells) => `| ${cells.join(' | ')} |`), ''].join('\n');
}

function seconds(value: number): string {
  return `${value.toFixed(1)} s`;
}
