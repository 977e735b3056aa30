/** The top of the status page: the band with the state in one word and why, and the numbers to look at first. */
import { h } from 'preact';
import { ago, bar, chart, formatDuration, formatNumber, formatRate, countOf } from './parts.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */
/** @typedef {{ readonly state: 'static' | 'live' | 'lost', readonly since: string | null }} Link whether the page is up to date; since when it is not, as a time of day */

const BAND_WORDS = { ok: 'OK', degraded: 'DEGRADED', report: 'REPORT MODE', draining: 'DRAINING' };
const MEANINGS = {
  ok: 'Requests are let through as the policy says, and partners answer.',
  degraded: 'Something is wrong. What can be served is served.',
  report: 'Requests pass that the policy denies.',
  draining: 'This replica is shutting down. Requests in flight may end; new ones go to others.',
};
const UNUSED = 'Ready. No partner has been asked since the start.';
const MOST_REASONS = 8;

/** @param {StatusView} view @param {Link} link */
export function header(view, link) {
  return h(
    'header',
    null,
    h('h1', null, 'eco-egress'),
    h(
      'p',
      { class: 'who' },
      h('strong', { class: 'instance' }, view.instance),
      ` version ${view.version}, up for ${formatDuration(view.uptimeSeconds)}`,
    ),
    h('p', { class: `link link-${link.state}` }, linkText(view, link)),
    h(
      'nav',
      { 'aria-label': 'Parts of this page' },
      [
        ['destinations', 'Destinations'],
        ['failures', 'Failures'],
        ['denials', 'Denials'],
        ['tunnels', 'Tunnels'],
        ['why', 'Ask why'],
        ['source', 'Source address'],
        ['configuration', 'Configuration'],
      ].map(([id, text]) => h('a', { href: `#${id}`, key: id }, text)),
    ),
  );
}

/** @param {StatusView} view @param {Link} link */
function linkText({ at }, { state, since }) {
  if (state === 'live') return [h('span', { class: 'pulse', 'aria-hidden': 'true' }, '●'), ' Live'];
  if (state === 'lost') return `No connection since ${since ?? '-'}: what is shown is old. Trying again.`;
  return ['As of ', h('time', { dateTime: at }, at), '. Without JavaScript this page does not move: reload it.'];
}

/** The only part whose changes a screen reader announces. @param {StatusView} view */
export function band({ band: { state, reasons }, destinations, drain, at }) {
  const shown = reasons.slice(0, MOST_REASONS);
  return h(
    'div',
    { class: `band band-${state}`, role: 'status', 'aria-live': 'polite' },
    h('p', { class: 'state' }, BAND_WORDS[state]),
    h(
      'p',
      { class: 'meaning' },
      state === 'ok' && destinations.every((destination) => destination.state === 'unused') ? UNUSED : MEANINGS[state],
    ),
    drain.state === 'running' || drain.deadline === null
      ? null
      : h(
          'p',
          { class: 'drain' },
          `${countOf(drain.tunnels.open, 'tunnel')} and ${countOf(drain.exchanges, 'exchange')} are left. What is not done at ${drain.deadline.slice(11, 19)} UTC is cut. Tunnels ended so far: ${drain.ended.byThemselves} by themselves, ${drain.ended.quiet} at a quiet moment, ${drain.ended.busy} while busy.`,
        ),
    shown.length === 0
      ? null
      : h(
          'ul',
          null,
          shown.map((reason) => h('li', { key: reason }, shortenTimes(reason, at))),
        ),
    reasons.length > shown.length ? h('p', null, `And ${reasons.length - shown.length} more: see /readyz.`) : null,
  );
}

/** Times in sentences are to the millisecond, for the log; here seconds are enough, and the day is today. @param {string} sentence @param {string} now */
function shortenTimes(sentence, now) {
  return sentence.replaceAll(/(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})\.\d{3}Z/g, (_, day, time) =>
    day === now.slice(0, 10) ? `${String(time)} UTC` : `${String(day)} ${String(time)} UTC`,
  );
}

/** @param {StatusView} view */
export function numbers(view) {
  const { requestsPerSecond, failures, errors, denials, limits, natLimit, destinations, source } = view;
  const nat = destinations.reduce((most, { nat: { used } }) => Math.max(most, used), 0);
  return h(
    'section',
    { class: 'numbers', 'aria-label': 'Numbers of now' },
    tile(
      'Requests',
      formatRate(requestsPerSecond),
      'over the last 10 s',
      '',
      chart('', 'requests', 'Requests per second in the last 15 minutes'),
    ),
    tile(
      'Failed',
      formatNumber(failures + errors),
      errors === 0 ? 'in the last minute' : `in the last minute, ${formatNumber(errors)} by 5xx`,
      failures + errors > 0 ? 'bad' : '',
      chart('', 'failures', 'Failures per minute in the last 15 minutes'),
    ),
    tile(
      'Denied',
      formatNumber(denials),
      'in the last minute',
      denials > 0 ? 'warn' : '',
      chart('', 'denials', 'Denials per minute in the last 15 minutes'),
    ),
    limits.map(({ name, used, limit }) =>
      tile(
        name.replace(/^./, (first) => first.toUpperCase()),
        formatNumber(used),
        limit === null ? '' : `of ${formatNumber(limit)}`,
        '',
        bar(used, limit),
      ),
    ),
    tile(
      'NAT ports',
      formatNumber(nat),
      natLimit === null ? 'not limited' : `of ${formatNumber(natLimit)}, fullest address`,
      '',
      bar(nat, natLimit),
    ),
    tile(
      'Source address',
      source.seen ?? '–',
      SOURCES[source.result],
      source.result === 'mismatch' ? 'bad' : source.result === 'unknown' ? 'warn' : '',
      source.at === null ? null : h('p', { class: 'small' }, 'asked ', ago(source.at, view.at)),
    ),
  );
}

const SOURCES = {
  match: 'as expected',
  mismatch: 'NOT the expected one',
  unknown: 'the probe fails',
  unjudged: 'none is expected',
  pending: 'not asked yet',
  off: 'no probe is configured',
};

/** @param {string} name @param {string} value @param {string} small @param {string} kind @param {import('preact').ComponentChildren} more */
function tile(name, value, small, kind, more) {
  return h(
    'div',
    { class: 'tile', key: name },
    h('h2', { class: 'small' }, name),
    h('p', { class: kind === '' ? 'value' : `value ${kind}` }, value),
    h('p', { class: 'small' }, small),
    more,
  );
}
