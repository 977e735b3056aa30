/** Draws the curves of the last 15 minutes into the places that the page leaves for them, with uPlot. Only in the browser. */
import uPlot from 'uplot';

/** @typedef {import('../status-view.ts').StatusHistory} StatusHistory */
/** @typedef {import('../status-view.ts').StatusCurves} StatusCurves */

/** A proxy that has just started shows three minutes, so that there is something to see. */
const FEWEST_STEPS = 36;
const CURVE_COLOURS = { requests: '--accent', failures: '--bad', denials: '--warn', p99: '--accent' };

/** @type {Map<Element, uPlot>} */
const drawn = new Map();

/** Draws new curves, moves existing ones, and removes those without a place. @param {StatusHistory | null} history */
export function drawCharts(history) {
  for (const [place, chart] of drawn) {
    if (place.isConnected) continue;
    chart.destroy();
    drawn.delete(place);
  }
  if (history === null) return;
  for (const place of document.querySelectorAll('.chart')) {
    if (!(place instanceof HTMLElement)) continue;
    const curves = history.curves.find(({ name }) => name === place.dataset['name']);
    const kind = /** @type {keyof typeof CURVE_COLOURS} */ (place.dataset['kind']);
    if (curves !== undefined) draw(place, kind, dataOf(history, curves[kind]));
  }
}

/** Draws everything again, in the current colours. */
export function forgetCharts() {
  for (const chart of drawn.values()) chart.destroy();
  drawn.clear();
}

/** @param {StatusHistory} history @param {StatusCurves['requests']} values @returns {uPlot.AlignedData} */
function dataOf({ at, stepSeconds }, values) {
  const steps = Math.max(FEWEST_STEPS, values.length);
  const end = Math.floor(Date.parse(at) / 1000);
  const times = Array.from({ length: steps }, (_, i) => end - (steps - 1 - i) * stepSeconds);
  const missing = /** @type {null[]} */ (Array.from({ length: Math.max(0, steps - values.length) }, () => null));
  return [times, [...missing, ...values]];
}

/** @param {HTMLElement} place @param {keyof typeof CURVE_COLOURS} kind @param {uPlot.AlignedData} data */
function draw(place, kind, data) {
  const width = Math.floor(place.clientWidth);
  const height = Math.floor(place.clientHeight);
  if (width < 20 || height < 8) return;
  const known = drawn.get(place);
  if (known !== undefined) {
    if (known.width !== width) known.setSize({ width, height });
    known.setData(data);
    return;
  }
  const colour = getComputedStyle(document.documentElement).getPropertyValue(CURVE_COLOURS[kind]).trim();
  const chart = new uPlot(
    {
      width,
      height,
      padding: [3, 1, 1, 1],
      legend: { show: false },
      cursor: { show: false },
      axes: [{ show: false }, { show: false }],
      // From zero, and with a minimum range, so that noise does not look like a
      // rise.
      scales: { y: { range: (_, __, most) => [0, Math.max(most, kind === 'p99' ? 10 : 1) * 1.05] } },
      series: [{}, { stroke: colour, width: 1.5, fill: `${colour}22`, points: { show: false } }],
    },
    data,
    place,
  );
  drawn.set(place, chart);
}
