/** Small parts of the status page, and how it writes numbers and times. Runs in the browser and in the proxy: no part of either is used here. */
import { h } from 'preact';

/** @typedef {import('preact').ComponentChildren} Children */

/** `1,234`, `12.3`, `0.02`; at most three significant digits. @param {number} value */
export function formatNumber(value) {
  if (value >= 100) return Math.round(value).toLocaleString('en-US');
  if (value === 0 || Number.isInteger(value)) return String(value);
  return value < 0.01 ? '<0.01' : String(Number(value.toPrecision(2)));
}

/** @param {number} perSecond */
export const formatRate = (perSecond) => `${formatNumber(perSecond)}/s`;

/** `12 ms`, `1.2 s`; a dash where nothing was measured. @param {number | null} ms */
export function formatMs(ms) {
  if (ms === null) return '–';
  return ms < 1000 ? `${formatNumber(Math.max(1, Math.round(ms)))} ms` : `${formatNumber(ms / 1000)} s`;
}

/** The median and the 99th percentile: `3 / 22 ms`. @param {number | null} p50 @param {number | null} p99 */
export function formatSpread(p50, p99) {
  if (p50 === null || p99 === null) return '–';
  return p99 < 1000 ? `${formatNumber(Math.max(1, Math.round(p50)))} / ${formatMs(p99)}` : `${formatMs(p50)} / ${formatMs(p99)}`;
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${formatNumber(unit === 0 ? value : Number(value.toPrecision(3)))} ${units[unit] ?? ''}`;
}

/** `42 s`, `3 min`, `5 h 12 min`, `4 d 3 h`. @param {number} seconds */
export function formatDuration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, by the proxy's own clock. @param {string | null} at @param {string} now */
export function ago(at, now) {
  if (at === null) return 'never';
  return h('time', { dateTime: at, title: at }, `${formatDuration((Date.parse(now) - Date.parse(at)) / 1000)} ago`);
}

/** `1 failure`, `3 failures`. @param {number} count @param {string} one @param {string} more */
export const countOf = (count, one, more = `${one}s`) => `${formatNumber(count)} ${count === 1 ? one : more}`;

/** How long a certificate is valid. @param {{ ends: string, days: number }} certificate */
export const lifeOf = ({ ends, days }) =>
  days < 0 ? `has expired, on ${ends.slice(0, 10)}` : `${countOf(days, 'day')} left, ends ${ends.slice(0, 10)}`;

/** A word from the configuration or a client: it may be long. @param {Children} children */
export const code = (children) => h('code', typeof children === 'string' && children.length > 30 ? { title: children } : null, children);

/** A bar: a share of a whole. The number is beside it. @param {number} used @param {number | null} whole */
export function bar(used, whole) {
  if (whole === null || whole === 0) return null;
  const share = Math.min(1, used / whole);
  const level = share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : 'fine';
  return h(
    'svg',
    { class: 'bar', viewBox: '0 0 100 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('rect', { class: 'bar-whole', width: 100, height: 4 }),
    h('rect', { class: `bar-${level}`, width: share > 0 ? Math.max(1, share * 100) : 0, height: 4 }),
  );
}

/** `3 of 2,000`, or the number alone. @param {number} used @param {number | null} limit */
export const ofLimit = (used, limit) => (limit === null ? formatNumber(used) : `${formatNumber(used)} of ${formatNumber(limit)}`);

/** A word in a colour and with a sign, so that the colour is not needed. @param {'good' | 'bad' | 'warn' | 'quiet'} kind @param {string} text */
export const chip = (kind, text) =>
  h(
    'span',
    { class: `chip chip-${kind}` },
    h('span', { 'aria-hidden': 'true' }, { good: '●', bad: '▲', warn: '◆', quiet: '○' }[kind]),
    ` ${text}`,
  );

/**
 * A place for a curve, which charts.js draws. The numbers are in the page besides.
 * @param {string} name of the destination, empty for all together
 * @param {'requests' | 'failures' | 'denials' | 'p99'} kind
 * @param {string} label
 */
export const chart = (name, kind, label) =>
  h('div', { class: `chart chart-${kind}`, 'data-name': name, 'data-kind': kind, role: 'img', 'aria-label': label });

/**
 * A table that scrolls separately in a narrow window.
 * @param {{ caption: string, head: readonly string[], rows: readonly { key: string, cells: readonly Children[] }[], numbers?: readonly number[], quiet?: boolean, stacks?: boolean }} table `numbers`: columns that are set to the right; `stacks`: on a phone its cells stand one below the other
 */
export function table({ caption, head, rows, numbers = [], quiet = false, stacks = false }) {
  const right = (/** @type {number} */ i) => (numbers.includes(i) ? { class: 'number' } : {});
  return h(
    'div',
    { class: 'scroll', role: 'region', 'aria-label': caption, tabIndex: 0 },
    h(
      'table',
      stacks ? { class: 'stacks' } : null,
      h('caption', quiet ? { class: 'unseen' } : null, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          head.map((text, i) => h('th', { scope: 'col', key: text, ...right(i) }, text)),
        ),
      ),
      h(
        'tbody',
        null,
        rows.map(({ key, cells }) =>
          h(
            'tr',
            { key },
            cells.map((cell, i) => (i === 0 ? h('th', { scope: 'row', key: i }, cell) : h('td', { key: i, ...right(i) }, cell))),
          ),
        ),
      ),
    ),
  );
}

/**
 * A table of facts: name and value.
 * @param {string} caption
 * @param {readonly (readonly [string, Children])[]} facts
 */
export function facts(caption, facts) {
  return h(
    'table',
    { class: 'facts' },
    h('caption', { class: 'unseen' }, caption),
    h(
      'tbody',
      null,
      facts.map(([name, value]) => h('tr', { key: name }, h('th', { scope: 'row' }, name), h('td', null, value))),
    ),
  );
}

/** A part of the page with its heading. @param {string} id @param {string} title @param {Children[]} children */
export const section = (id, title, ...children) =>
  h('section', { id, 'aria-labelledby': `${id}-title` }, h('h2', { id: `${id}-title` }, title), ...children);
