/**
 * The route of the requests as a picture: clients, this proxy, the NAT address,
 * hops, partners, with the rate on each edge. Drawn twice, horizontally for a
 * wide window and vertically for a phone; the style sheet shows one. The same
 * facts are in text elsewhere on the page.
 */
import { h } from 'preact';
import { formatMs, formatNumber, formatRate, countOf } from './parts.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */
/** @typedef {import('preact').VNode} VNode */
/**
 * @typedef {object} Station a box of the picture
 * @property {string} key
 * @property {string} title
 * @property {string} line what stands below the title
 * @property {'' | 'bad' | 'warn' | 'idle'} state
 */
/**
 * @typedef {object} Lane a station with what comes along its edge
 * @property {Station} station
 * @property {number} rate per second
 * @property {string} trouble what is wrong on the edge; empty: nothing
 * @property {'bad' | 'warn'} kind of the trouble
 * @property {boolean} broken much of what goes along it fails
 * @property {string} hop between the NAT and the partner; empty: none
 */

const MOST_LANES = 5;
/** Of requests that fail. */
const BROKEN_SHARE = 0.05;
const BOX = 50;
const PITCH = 74;

/** @param {StatusView} view */
export function flowPicture(view) {
  const { source, instance, limits, natLimit } = view;
  const [tunnels, exchanges] = limits;
  /** @type {Station} */
  const proxy = {
    key: 'proxy',
    title: instance === '-' ? 'eco-egress' : instance,
    line: `${countOf(tunnels?.used ?? 0, 'tunnel')}, ${countOf(exchanges?.used ?? 0, 'exchange')}`,
    state: view.band.state === 'draining' ? 'warn' : '',
  };
  const used = view.destinations.reduce((most, { nat }) => Math.max(most, nat.used), 0);
  /** @type {Station} */
  const nat = {
    key: 'nat',
    title: source.seen ?? 'NAT address',
    line: natLimit === null ? countOf(used, 'port') : `${formatNumber(used)} of ${countOf(natLimit, 'port')}`,
    state: source.result === 'mismatch' ? 'bad' : '',
  };
  const clients = clientLanes(view);
  const partners = partnerLanes(view);
  const label = describe(view, proxy.title);
  return h(
    'section',
    { class: 'flow', 'aria-label': 'The route of the requests' },
    h(
      'svg',
      { class: 'flow-wide', viewBox: `0 0 1200 ${Math.max(clients.length, partners.length) * PITCH}`, role: 'img', 'aria-label': label },
      wide(clients, proxy, nat, partners, view.requestsPerSecond),
    ),
    h(
      'svg',
      { class: 'flow-narrow', viewBox: `0 0 340 ${(clients.length + partners.length + 2) * PITCH}`, role: 'img', 'aria-label': label },
      narrow(clients, proxy, nat, partners, view.requestsPerSecond),
    ),
  );
}

/** @param {StatusView} view @param {string} proxy */
function describe({ clients, destinations, source }, proxy) {
  const from =
    clients.length === 0
      ? 'no client'
      : clients.map(({ client, requestsPerSecond }) => `${client} ${formatRate(requestsPerSecond)}`).join(', ');
  const to = destinations
    .slice(0, MOST_LANES)
    .map(({ name, requestsPerSecond, state }) => `${name} ${formatRate(requestsPerSecond)}${state === 'failed' ? ', fails' : ''}`);
  return `From ${from}, through ${proxy}, by ${source.seen === null ? 'an address that is not known' : `the address ${source.seen}`}, to ${to.join(', ')}`;
}

/** @param {StatusView} view @returns {Lane[]} */
function clientLanes({ clients, clientsLeftOut }) {
  const lanes = clients.slice(0, MOST_LANES).map(
    ({ client, requestsPerSecond, denials, tunnels }) =>
      /** @type {Lane} */ ({
        station: {
          key: client,
          title: client === '-' ? 'unknown client' : client,
          line: tunnels === 0 ? 'no tunnels' : countOf(tunnels, 'tunnel'),
          state: '',
        },
        rate: requestsPerSecond,
        trouble: denials === 0 ? '' : `${formatNumber(denials)} denied`,
        kind: 'warn',
        broken: false,
        hop: '',
      }),
  );
  const more = clientsLeftOut + Math.max(0, clients.length - MOST_LANES);
  if (more > 0)
    lanes.push({
      station: { key: '', title: countOf(more, 'more client'), line: '', state: 'idle' },
      rate: 0,
      trouble: '',
      kind: 'warn',
      broken: false,
      hop: '',
    });
  if (lanes.length === 0)
    lanes.push({
      station: { key: '', title: 'Clients', line: 'none has asked lately', state: 'idle' },
      rate: 0,
      trouble: '',
      kind: 'warn',
      broken: false,
      hop: '',
    });
  return lanes;
}

/** @param {StatusView} view @returns {Lane[]} */
function partnerLanes({ destinations, destinationsLeftOut }) {
  const lanes = destinations.slice(0, MOST_LANES).map(({ name, via, state, failures, errors, requests, requestsPerSecond, p99 }) => {
    const failed = failures.minute.reduce((sum, { count }) => sum + count, 0);
    const trouble = [
      failed === 0 ? '' : `${formatNumber(failed)} failed`,
      errors.minute === 0 ? '' : `${formatNumber(errors.minute)} × 5xx`,
    ]
      .filter((part) => part !== '')
      .join(', ');
    const line =
      state === 'failed'
        ? 'does not answer'
        : state === 'error'
          ? 'answers 5xx'
          : state === 'unused'
            ? 'not used yet'
            : p99 === null
              ? 'answers'
              : `p99 ${formatMs(p99)}`;
    return /** @type {Lane} */ ({
      station: { key: name, title: name, line, state: state === 'failed' || state === 'error' ? 'bad' : state === 'unused' ? 'idle' : '' },
      rate: requestsPerSecond,
      trouble,
      kind: 'bad',
      broken: state === 'failed' || state === 'error' || failed + errors.minute > requests * BROKEN_SHARE,
      hop: via.join(', '),
    });
  });
  const more = destinationsLeftOut + Math.max(0, destinations.length - MOST_LANES);
  if (more > 0)
    lanes.push({
      station: { key: '', title: countOf(more, 'more destination'), line: 'see below', state: 'idle' },
      rate: 0,
      trouble: '',
      kind: 'bad',
      broken: false,
      hop: '',
    });
  return lanes;
}

/** @param {Lane[]} clients @param {Station} proxy @param {Station} nat @param {Lane[]} partners @param {number} rate of all together */
function wide(clients, proxy, nat, partners, rate) {
  const height = Math.max(clients.length, partners.length) * PITCH;
  const middle = height / 2;
  const at = (/** @type {Lane[]} */ lanes, /** @type {number} */ i) => middle + (i - (lanes.length - 1) / 2) * PITCH;
  return [
    ...clients.flatMap((lane, i) => {
      const y = at(clients, i);
      return [
        edge(`c${lane.station.key}`, `M 190 ${y} H 275 ${curve(275, y, 335, middle)}`, lane),
        label(`cl${lane.station.key}`, 198, y - 8, lane, 'start'),
        box(lane.station, 0, y, 190),
      ];
    }),
    edge('total', `M 563 ${middle} H 620`, { rate, broken: false }),
    h('text', { key: 'total-rate', class: 'edge-label', x: 592, y: middle - 8, 'text-anchor': 'middle' }, formatRate(rate)),
    box(proxy, 335, middle, 228),
    ...partners.flatMap((lane, i) => {
      const y = at(partners, i);
      const there = lane.hop === '' ? `${curve(770, middle, 850, y)} H 1020` : `${curve(770, middle, 830, y)} H 1020`;
      return [
        edge(`p${lane.station.key}`, `M 770 ${middle} ${there}`, lane),
        ...(lane.hop === '' ? [] : [hop(lane, 880, y)]),
        label(`pl${lane.station.key}`, 1012, y - 8, lane, 'end'),
        box(lane.station, 1020, y, 180),
      ];
    }),
    box(nat, 620, middle, 150),
  ];
}

/** @param {Lane[]} clients @param {Station} proxy @param {Station} nat @param {Lane[]} partners @param {number} rate of all together */
function narrow(clients, proxy, nat, partners, rate) {
  const row = (/** @type {number} */ i) => i * PITCH + PITCH / 2;
  const last = clients.length;
  const spine = (/** @type {number} */ from, /** @type {number} */ to) => `M 20 ${row(from)} V ${row(to)}`;
  return [
    ...clients.flatMap((lane, i) => [
      edge(`c${lane.station.key}`, `M 50 ${row(i)} H 20 V ${row(last)}`, lane),
      box(lane.station, 50, row(i), 180),
      label(`cl${lane.station.key}`, 236, row(i) - 8, lane, 'start'),
    ]),
    edge('total', spine(last, last + 1), { rate, broken: false }),
    ...partners.flatMap((lane, i) => [
      edge(`p${lane.station.key}`, `M 20 ${row(last + 1)} V ${row(last + 2 + i)} H 50`, lane),
      box(lane.station, 50, row(last + 2 + i), 180),
      label(`pl${lane.station.key}`, 236, row(last + 2 + i) - 8, lane, 'start'),
    ]),
    box(proxy, 0, row(last), 230),
    box(nat, 0, row(last + 1), 230),
  ];
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
const curve = (x1, y1, x2, y2) => `C ${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

/** The higher the rate, the thicker the line. @param {string} key @param {string} path @param {Pick<Lane, 'rate' | 'broken'>} lane */
function edge(key, path, { rate, broken }) {
  const state = broken ? 'edge-bad' : rate > 0 ? 'edge-busy' : 'edge-idle';
  return h('path', { key, class: `edge ${state}`, d: path, 'stroke-width': Math.min(8, 1.5 + Math.log10(1 + rate) * 2) });
}

/** @param {string} key @param {number} x @param {number} y @param {Lane} lane @param {'start' | 'end'} anchor */
function label(key, x, y, { rate, trouble, kind, station }, anchor) {
  if (station.state === 'idle' && trouble === '') return null;
  return h(
    'text',
    { key, x, y, class: 'edge-label', 'text-anchor': anchor },
    formatRate(rate),
    trouble === '' ? null : h('tspan', { class: `trouble-${kind}`, x, dy: 28 }, trouble),
  );
}

/** @param {Lane} lane @param {number} x @param {number} y */
const hop = ({ hop: name, station }, x, y) =>
  h(
    'g',
    { key: `h${station.key}` },
    h('rect', { class: 'box box-idle', x: x - 50, y: y - 14, width: 100, height: 28, rx: 14 }),
    h('text', { class: 'box-line', x, y: y + 4, 'text-anchor': 'middle' }, cut(name, 14)),
  );

/** @param {Station} station @param {number} x @param {number} y of its middle @param {number} width */
function box({ key, title, line, state }, x, y, width) {
  return h(
    'g',
    { key: `b${key}` },
    h('rect', { class: `box box-${state === '' ? 'fine' : state}`, x: x + 1, y: y - BOX / 2, width: width - 2, height: BOX, rx: 8 }),
    h('text', { class: 'box-title', x: x + 12, y: y - 3 }, cut(title, Math.floor((width - 20) / 8.2)), h('title', null, title)),
    h('text', { class: 'box-line', x: x + 12, y: y + 15 }, cut(line, Math.floor((width - 20) / 6.4))),
  );
}

/** @param {string} text @param {number} most */
const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
