/** The whole status page from its view, and the page of an answer: the same in the proxy, which sends it as markup, and in the browser, which keeps it up to date. */
import { h } from 'preact';
import { destinations } from './destinations.js';
import { flowPicture } from './flow.js';
import { configuration, denials, failures, incident, incidentForm, question, source, tunnels, whyForm } from './lists.js';
import { band, header, numbers } from './overview.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */

const OTHER_PATHS = [
  '/status.json',
  '/metrics',
  '/readyz',
  '/healthz',
  '/destinations',
  '/tunnels',
  '/denials',
  '/drain',
  '/source-ip',
  '/config',
];

/** @param {{ view: StatusView, link: import('./overview.js').Link }} props */
export function StatusPage({ view, link }) {
  return h(
    'div',
    { class: link.state === 'lost' ? 'page stale' : 'page' },
    header(view, link),
    h(
      'main',
      null,
      band(view),
      incident(view),
      numbers(view),
      flowPicture(view),
      destinations(view),
      h(
        'div',
        { class: 'columns' },
        h('div', null, failures(view), denials(view), question(view)),
        h('div', null, tunnels(view), source(view), configuration(view)),
      ),
    ),
    h(
      'footer',
      null,
      'The same for programs: ',
      OTHER_PATHS.map((path) => h('a', { href: path, key: path }, path)),
    ),
  );
}

/** @param {{ about: 'why' | 'incident', words: string, json: string, question: Readonly<Record<string, string>> }} props */
export function AnswerPage({ about, words, json, question: asked }) {
  return h(
    'div',
    { class: 'page' },
    h(
      'header',
      null,
      h('h1', null, about === 'why' ? 'Why?' : 'What is wrong?'),
      h('nav', { 'aria-label': 'Back' }, h('a', { href: '/' }, 'Status page')),
    ),
    h(
      'main',
      null,
      h('pre', { class: 'words', tabIndex: 0, role: 'region', 'aria-label': 'The answer' }, words),
      h(
        'section',
        { 'aria-labelledby': 'again' },
        h('h2', { id: 'again' }, 'Ask again'),
        about === 'why' ? whyForm([], asked) : incidentForm([]),
      ),
      h(
        'details',
        null,
        h('summary', null, 'The same as JSON'),
        h('pre', { tabIndex: 0, role: 'region', 'aria-label': 'The answer as JSON' }, json),
      ),
    ),
  );
}
