/** The cards of the status page, one for each destination: failing ones first. */
import { h } from 'preact';
import { ago, bar, chart, chip, code, countOf, facts, formatNumber, formatRate, formatSpread, lifeOf, ofLimit, section } from './parts.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */
/** @typedef {import('../status-view.ts').StatusDestination} StatusDestination */
/** @typedef {import('../status-view.ts').CodeCount} CodeCount */

/** @type {Record<StatusDestination['state'], readonly ['good' | 'bad' | 'warn' | 'quiet', string]>} */
const STATES = { failed: ['bad', 'fails'], error: ['bad', 'answers 5xx'], ok: ['good', 'answers'], unused: ['quiet', 'not used yet'] };
/** Days that a certificate should have left. */
const FEW_DAYS = 14;

/** @param {StatusView} view */
export function destinations({ destinations, destinationsLeftOut, natLimit, at }) {
  return section(
    'destinations',
    'Destinations',
    h(
      'div',
      { class: 'cards' },
      destinations.map((destination) => card(destination, natLimit, at)),
    ),
    destinationsLeftOut === 0 ? null : h('p', null, `And ${destinationsLeftOut} more: see /destinations.`),
  );
}

/** @param {StatusDestination} destination @param {number | null} natLimit @param {string} now */
function card(destination, natLimit, now) {
  const { name, hosts, ports, via, state, failures, errors, p50, p99, requestsPerSecond } = destination;
  const [kind, word] = STATES[state];
  const failed = sum(failures.minute);
  return h(
    'article',
    { class: `card card-${kind}`, key: name, 'aria-label': name },
    h(
      'div',
      { class: 'glance' },
      h('h3', null, name, ' ', chip(kind, word)),
      h('p', { class: 'small' }, code(`${hosts.join(', ')}:${ports.join(', ')}`), via.length === 0 ? '' : ` by way of ${via.join(', ')}`),
      h(
        'div',
        { class: 'figures' },
        figure(
          'requests',
          formatRate(requestsPerSecond),
          '',
          chart(name, 'requests', `Requests per second to ${name} in the last 15 minutes`),
        ),
        figure(
          'failed, 1 min',
          formatNumber(failed + errors.minute),
          failed + errors.minute > 0 ? 'bad' : '',
          chart(name, 'failures', `Failures per minute of ${name} in the last 15 minutes`),
        ),
        figure(
          'p50 / p99',
          formatSpread(p50, p99),
          '',
          chart(name, 'p99', `99th percentile of the duration of exchanges with ${name} in the last 15 minutes`),
        ),
      ),
    ),
    facts(name, listFacts(destination, natLimit, now)),
  );
}

/** @param {string} name @param {string} value @param {string} kind @param {import('preact').ComponentChildren} curve */
const figure = (name, value, kind, curve) =>
  h(
    'div',
    { class: 'figure', key: name },
    h('p', { class: 'small' }, name),
    h('p', { class: kind === '' ? 'value' : `value ${kind}` }, value),
    curve,
  );

/**
 * @param {StatusDestination} destination @param {number | null} natLimit @param {string} now
 * @returns {(readonly [string, import('preact').ComponentChildren])[]}
 */
function listFacts(
  { failures, errors, lastOk, lastError, lastFailure, addresses, circuits, certificate, pool, tunnels, nat },
  natLimit,
  now,
) {
  return [
    ['Last success', ago(lastOk, now)],
    [
      'Last failure',
      lastFailure === null ? 'none since the start' : [ago(lastFailure.at, now), ', ', code(lastFailure.code), `: ${lastFailure.detail}`],
    ],
    ['Failures, 1 min', counts(failures.minute, errors.minute)],
    ['Failures, 1 h', counts(failures.hour, errors.hour)],
    ...(lastError === null ? [] : [/** @type {const} */ (['Last 5xx', [ago(lastError.at, now), `, status ${lastError.status}`]])]),
    [
      'Addresses',
      addresses.length === 0
        ? 'none was reached since the start'
        : addresses.map(({ address, at }) =>
            h(
              'span',
              { class: 'address', key: address },
              code(address === '-' ? 'chosen by the parent' : address),
              ' reached ',
              ago(at, now),
            ),
          ),
    ],
    ...(circuits.length === 0
      ? []
      : [
          /** @type {const} */ ([
            'Circuits',
            circuits.map(({ of, address, state, failures, reason, nextTrial }) =>
              h(
                'span',
                { class: 'address', key: `${of} ${address}` },
                code(address),
                ` (${of}) `,
                state === 'closed' ? 'closed' : h('strong', { class: 'bad' }, state),
                `, ${countOf(failures, 'failure')} in a row: ${reason}`,
                nextTrial === null ? '' : `; next try at ${nextTrial.slice(11, 19)} UTC`,
              ),
            ),
          ]),
        ]),
    [
      'Certificate',
      certificate === null
        ? 'none seen: inside a tunnel it is not'
        : h('span', certificate.days < FEW_DAYS ? { class: 'bad' } : null, lifeOf(certificate)),
    ],
    ['Pool', `${formatNumber(pool.active)} active, ${formatNumber(pool.idle)} idle, ${formatNumber(pool.queued)} queued`],
    ['Tunnels', formatNumber(tunnels)],
    [
      'NAT ports',
      [
        `${ofLimit(nat.used, natLimit)} in use, at most ${formatNumber(nat.highWater)} so far${nat.refused === 0 ? '' : `, ${formatNumber(nat.refused)} refused`}`,
        bar(nat.used, natLimit),
      ],
    ],
  ];
}

/** @param {readonly CodeCount[]} failures @param {number} errors */
function counts(failures, errors) {
  const all = [...failures, ...(errors === 0 ? [] : [{ code: 'answered with 5xx', count: errors }])];
  return all.length === 0
    ? 'none'
    : all.map(({ code: name, count }) => h('span', { class: 'count', key: name }, code(name), ` ${formatNumber(count)}`));
}

/** @param {readonly CodeCount[]} counts */
const sum = (counts) => counts.reduce((total, { count }) => total + count, 0);
