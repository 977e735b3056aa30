/** The lower half of the status page: failures, denials, tunnels, a question, the source address, the configuration in force. */
import { h } from 'preact';
import { ago, chip, code, facts, formatBytes, formatDuration, formatNumber, countOf, lifeOf, section, table } from './parts.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */
/** @typedef {import('../status-view.ts').StatusRequest} StatusRequest */

/** @param {StatusRequest} request */
const why = ({ requestId, host }) =>
  h('a', { href: `/explain/${encodeURIComponent(requestId)}`, 'aria-label': `Why? Request to ${host}` }, 'why?');

/** @param {string} caption @param {readonly StatusRequest[]} requests @param {string} now */
function requestTable(caption, requests, now) {
  return table({
    caption,
    quiet: true,
    stacks: true,
    head: ['When', 'Client', 'Request', 'What was wrong'],
    rows: requests.map((request) => ({
      key: request.requestId,
      cells: [
        ago(request.at, now),
        code(request.client),
        code(request.host === '-' ? 'no host' : `${request.method === '-' ? 'TLS' : request.method} ${request.host}:${request.port}`),
        [
          code(request.verdict === 'report' ? `${request.code} (report)` : request.code),
          ' ',
          why(request),
          h('span', { class: 'sentence' }, request.detail),
        ],
      ],
    })),
  });
}

/** @param {StatusView} view */
export function failures({ latestFailures, at }) {
  return section(
    'failures',
    'Latest failures',
    latestFailures.length === 0
      ? h('p', { class: 'none' }, 'No request has failed since the start.')
      : requestTable('Latest failures', latestFailures, at),
  );
}

/** @param {StatusView} view */
export function denials({ latestDenials, frequentDenials, denialsTotal, at }) {
  if (denialsTotal === 0)
    return section('denials', 'Denials', h('p', { class: 'none' }, 'No request was denied since the start, other than for overload.'));
  return section(
    'denials',
    'Denials',
    h('p', null, `${formatNumber(denialsTotal)} since the start, without those for overload. What is denied most:`),
    table({
      caption: 'What is denied most',
      quiet: true,
      head: ['Client', 'Host', 'Times', 'Code', 'Ask'],
      numbers: [2],
      rows: frequentDenials.map(({ client, host, count, overcount, code: denied, requestId }) => ({
        key: `${client} ${host}`,
        cells: [
          code(client),
          code(host),
          overcount === 0 ? formatNumber(count) : `${formatNumber(count - overcount)} to ${formatNumber(count)}`,
          code(denied),
          h('a', { href: `/explain/${encodeURIComponent(requestId)}`, 'aria-label': `Why? ${client} to ${host}` }, 'why?'),
        ],
      })),
    }),
    h('h3', null, 'The latest'),
    requestTable('Latest denials', latestDenials, at),
  );
}

/** @param {StatusView} view */
export function tunnels({ tunnels: { open, byClient, oldest }, drain, shortTunnels }) {
  return section(
    'tunnels',
    'Tunnels',
    open === 0
      ? h('p', { class: 'none' }, 'No tunnel is open.')
      : h(
          'p',
          null,
          `${countOf(open, 'tunnel')} open: ${byClient.map(({ client, tunnels: held }) => `${client === '-' ? 'unknown client' : client} ${formatNumber(held)}`).join(', ')}. The oldest:`,
        ),
    open === 0 || drain.state !== 'running'
      ? null
      : h(
          'p',
          null,
          `A shutdown now would end ${drain.tunnels.idle} idle and ${drain.tunnels.busy} busy tunnels, ${drain.tunnels.endsPerSecond} a second; the median is ${drain.tunnels.medianAge ?? 0} s old, the oldest ${drain.tunnels.oldestAge ?? 0} s.`,
        ),
    open === 0
      ? null
      : table({
          caption: 'The oldest tunnels',
          quiet: true,
          head: ['Client', 'Address', 'Host', 'Age', 'Sent', 'Received'],
          numbers: [3, 4, 5],
          rows: oldest.map(({ requestId, client, clientAddress, host, port, ageMs, bytesSent, bytesReceived }) => ({
            key: requestId,
            cells: [
              code(client),
              code(clientAddress),
              code(`${host}:${port}`),
              formatDuration(ageMs / 1000),
              formatBytes(bytesSent),
              formatBytes(bytesReceived),
            ],
          })),
        }),
    shortTunnels.length === 0
      ? null
      : [
          h(
            'p',
            null,
            'These clients open tunnels that end within 30 seconds, and so take a NAT port for each request or two. Through the gateway, or with keep-alive, they would share a few:',
          ),
          table({
            caption: 'Short tunnels',
            quiet: true,
            head: ['Client', 'Short tunnels'],
            numbers: [1],
            rows: shortTunnels.map(({ client, tunnels: short }) => ({ key: client, cells: [code(client), formatNumber(short)] })),
          }),
        ],
  );
}

/**
 * A form that works without scripts: its answer is a page. With scripts, the answer is shown below
 * the form.
 * @param {readonly string[]} clients @param {Readonly<Record<string, string>>} question
 */
export function whyForm(clients, question = {}) {
  const { client = '', method = '', target = '' } = question;
  return h(
    'form',
    { id: 'ask', action: '/explain', method: 'get' },
    h(
      'label',
      null,
      'Client ',
      h('input', {
        name: 'client',
        required: true,
        list: 'clients',
        placeholder: '10.8.0.1',
        defaultValue: client,
        autocomplete: 'off',
        spellcheck: false,
      }),
    ),
    h(
      'label',
      null,
      'Method ',
      h('input', { name: 'method', size: 8, placeholder: 'CONNECT', defaultValue: method, autocomplete: 'off', spellcheck: false }),
    ),
    h(
      'label',
      { class: 'wide' },
      'Target ',
      h('input', {
        name: 'target',
        required: true,
        placeholder: 'eco-sit.telus.internal:443',
        defaultValue: target,
        autocomplete: 'off',
        spellcheck: false,
      }),
    ),
    h('button', { type: 'submit' }, 'Explain'),
    h(
      'datalist',
      { id: 'clients' },
      clients.map((name) => h('option', { value: name, key: name })),
    ),
  );
}

/**
 * The incident question. A form that works without scripts, and uses POST: the proxy connects to partners
 * for it.
 * @param {readonly string[]} destinations some of them, or none: any name may be written
 */
export function incidentForm(destinations) {
  return h(
    'form',
    { id: 'incident', action: '/incident', method: 'post' },
    destinations.length === 1
      ? null
      : [
          h('label', { for: 'about', key: 'label' }, 'Destination'),
          h('input', {
            id: 'about',
            name: 'destination',
            key: 'input',
            list: 'partners',
            placeholder: 'all',
            autocomplete: 'off',
            spellcheck: false,
          }),
          h(
            'datalist',
            { id: 'partners', key: 'list' },
            destinations.map((name) => h('option', { value: name, key: name })),
          ),
        ],
    h('button', { type: 'submit' }, 'What is wrong?'),
    h(
      'p',
      { class: 'small' },
      'Tries the route to each partner, which takes some seconds, and names the part at fault: a client, this proxy, the NAT, a resolver, a parent, the route, or the partner.',
    ),
  );
}

/** @param {StatusView} view */
export function incident({ destinations }) {
  return h(
    'section',
    { id: 'wrong', 'aria-label': 'What is wrong?' },
    incidentForm(destinations.map(({ name }) => name)),
    h('pre', { id: 'verdict', tabIndex: -1, hidden: true }),
  );
}

/** @param {StatusView} view */
export function question({ clients }) {
  return section(
    'why',
    'Ask why',
    h('p', null, 'Would this request pass, and why? The code that serves requests answers; nothing is dialled.'),
    whyForm(clients.map(({ client }) => client).filter((name) => name !== '-')),
    h('pre', { id: 'answer', tabIndex: -1, hidden: true }),
  );
}

/** @param {StatusView} view */
export function source({ source: { result, seen, expected, since, reason, history }, at }) {
  const kind = result === 'match' ? 'good' : result === 'mismatch' ? 'bad' : result === 'unknown' ? 'warn' : 'quiet';
  return section(
    'source',
    'Source address',
    facts('Source address', [
      ['Seen', seen === null ? 'not known' : code(seen)],
      ['Expected', expected.length === 0 ? 'nothing is configured' : code(expected.join(', '))],
      ['Result', [chip(kind, result), since === null ? '' : ' since ', since === null ? '' : ago(since, at)]],
      ...(reason === null ? [] : [/** @type {const} */ (['Reason', reason])]),
    ]),
    history.length === 0
      ? null
      : table({
          caption: 'Changes, the latest first',
          head: ['When', 'Seen', 'Result'],
          rows: history.map((change) => ({
            key: `${change.at} ${change.seen ?? ''}`,
            cells: [ago(change.at, at), change.seen === null ? code(change.code ?? '-') : code(change.seen), change.result],
          })),
        }),
  );
}

/** @param {StatusView} view */
export function configuration({
  configuration: { file, hash, loadedAt, mode, enforcement, listeners, reload, ruleEnds, ruleEndsLeftOut },
  certificates,
  band: { notes },
  at,
}) {
  return section(
    'configuration',
    'Configuration',
    facts('Configuration', [
      ['File', file === null ? 'from no file' : code(file)],
      ['Hash', code(hash)],
      ['Allowlist', enforcement],
      ['In force', ago(loadedAt, at)],
      ['Mode', mode],
      ...listeners.map(
        ({ name, addresses }) => /** @type {const} */ ([`${name} listeners`, addresses.length === 0 ? 'none' : code(addresses.join(', '))]),
      ),
      [
        'Last reload',
        reload === null
          ? 'none since the start'
          : [
              ago(reload.at, at),
              `: ${reload.sentence}`,
              reload.classes.length === 0
                ? null
                : h(
                    'ul',
                    null,
                    reload.classes.map((text) => h('li', { key: text }, text)),
                  ),
            ],
      ],
      ...certificates.map(
        (certificate) =>
          /** @type {const} */ ([certificate.name, h('span', certificate.days < 14 ? { class: 'bad' } : null, lifeOf(certificate))]),
      ),
    ]),
    notes.length === 0
      ? null
      : [
          h('h3', null, 'Warnings'),
          h(
            'ul',
            null,
            notes.map((note) => h('li', { key: note }, note)),
          ),
        ],
    ruleEnds.length === 0
      ? null
      : [
          h('h3', null, 'Rules that end'),
          table({
            caption: 'Rules that end',
            quiet: true,
            head: ['Rule', 'Until', 'State', 'Clients', 'Destinations', 'Owner', 'Ticket', 'Reason'],
            rows: ruleEnds.map(({ rule, until, state, clients, destinations, owner, ticket, reason }) => ({
              key: rule,
              cells: [
                code(rule),
                h('time', { dateTime: until, title: until }, until.slice(0, 10)),
                { ended: 'has ended', soon: 'ends soon', later: '' }[state],
                clients.join(', '),
                destinations.join(', '),
                owner ?? '–',
                ticket ?? '–',
                reason ?? '–',
              ],
            })),
          }),
          ruleEndsLeftOut === 0 ? null : h('p', null, `And ${ruleEndsLeftOut} more, which npx eco-egress check --expired shows.`),
        ],
  );
}
