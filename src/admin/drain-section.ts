/** What a shutdown would find now, or how far it is: a section of the status page. */
import type { DrainView } from '../drain/drain-view.ts';
import { escapeMarkup } from '../telemetry/safe-text.ts';

const DRAIN_STATES: Readonly<Record<DrainView['state'], string>> = { running: 'none', delay: 'not ready, still accepting', draining: 'ending tunnels', ended: 'over' };

/** HTML section of the drain: a forecast while there is none; empty where no tunnel is open and none was ended. */
export function renderDrain({ state, deadline, secondsLeft, tunnels, exchanges, ended }: DrainView): string {
  if (state === 'running' && tunnels.open === 0) return '';
  const { open, idle, busy, endsPerSecond, medianAge, oldestAge } = tunnels;
  const rows = [
    ['State', DRAIN_STATES[state]],
    ...(deadline === null ? [] : [['Deadline', `${deadline}, in ${secondsLeft ?? 0} s`]]),
    ['Open tunnels', `${open}: ${idle} idle, ${busy} busy`],
    [state === 'running' ? 'A shutdown now would end' : 'Ends', `${endsPerSecond} tunnels a second`],
    ['Age of tunnels', oldestAge === null ? '-' : `${medianAge ?? 0} s median, ${oldestAge} s at most`],
    ['Exchanges under way', String(exchanges)],
    ...(state === 'running' ? [] : [['Ended so far', `${ended.byThemselves} by themselves, ${ended.quiet} quietly, ${ended.busy} while busy, ${ended.cut} cut; exchanges cut: ${ended.exchangesCut}`]]),
  ].map(([name = '', value = '']) => `<tr><th scope="row">${escapeMarkup(name)}</th><td>${escapeMarkup(value)}</td></tr>`);
  return `<h2>Shutdown</h2><table>${rows.join('')}</table>`;
}
