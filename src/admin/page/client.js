/** Keeps the status page up to date in a browser: by events of the same port, and answers to the form in place. External content is only ever set as text. */
import { h, render } from 'preact';
import { drawCharts, forgetCharts } from './charts.js';
import { StatusPage } from './page.js';

/** @typedef {import('../status-view.ts').StatusView} StatusView */
/** @typedef {import('../status-view.ts').StatusHistory} StatusHistory */

/** Without an event for this time, ms, the connection counts as lost: there is one every second. */
const LOST_AFTER = 5_000;
/** Before a refused connection is tried again, ms. */
const AGAIN = 5_000;
const CURVE_STEPS = 180;

const page = /** @type {HTMLElement} */ (document.getElementById('page'));
const icon = /** @type {HTMLLinkElement} */ (document.querySelector('link[rel=icon]'));

/** @type {StatusView | null} */
let view = null;
/** @type {StatusHistory | null} */
let history = null;
/** @type {EventSource | null} */
let events = null;
/** Places for curves on the page. */
let charted = 0;
/** When the latest event came, of this clock, or the page was last turned to. */
let heard = Date.now();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retry;

function connect() {
  clearTimeout(retry);
  events?.close();
  const source = new EventSource('/events');
  events = source;
  source.addEventListener('status', ({ data }) => {
    heard = Date.now();
    view = /** @type {StatusView} */ (JSON.parse(String(data)));
    // After an update the page and its data would be of different versions.
    if (document.body.dataset['version'] !== view.version) location.reload();
    showNow();
  });
  source.addEventListener('history', ({ data }) => {
    history = /** @type {StatusHistory} */ (JSON.parse(String(data)));
    // The first rendering removes anything below a place for a curve.
    if (charted > 0) drawCharts(history);
  });
  source.addEventListener('step', ({ data }) => {
    addStep(/** @type {StatusHistory} */ (JSON.parse(String(data))));
  });
  source.addEventListener('error', () => {
    showNow();
    // The browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, AGAIN);
  });
}

/** A hidden page costs nothing, and its title, which can still be read, is of no state. */
function follow() {
  if (document.hidden) {
    clearTimeout(retry);
    events?.close();
    if (view !== null) document.title = `paused: ${view.instance}, eco-egress`;
  } else {
    heard = Date.now();
    connect();
  }
}

/** One more value to each curve. A new destination gets its whole curve in another event. @param {StatusHistory} step */
function addStep(step) {
  if (history === null) return;
  const before = new Map(history.curves.map((curves) => [curves.name, curves]));
  if (step.curves.some(({ name }) => !before.has(name))) {
    connect();
    return;
  }
  const add = (/** @type {readonly (number | null)[]} */ values, /** @type {readonly (number | null)[]} */ more) =>
    [...values, ...more].slice(-CURVE_STEPS);
  history = {
    ...step,
    curves: step.curves.map((curves) => {
      const { requests, failures, denials, p99 } = before.get(curves.name) ?? curves;
      return {
        name: curves.name,
        requests: add(requests, curves.requests),
        failures: add(failures, curves.failures),
        denials: add(denials, curves.denials),
        p99: add(p99, curves.p99),
      };
    }),
  };
  drawCharts(history);
}

function showNow() {
  if (view === null || document.hidden) return;
  const lost = Date.now() - heard > LOST_AFTER || events?.readyState === EventSource.CLOSED;
  const since = `${new Date(heard).toISOString().slice(11, 19)} UTC`;
  render(h(StatusPage, { view, link: lost ? { state: 'lost', since } : { state: 'live', since: null } }), page);
  const { state } = view.band;
  const title = `${lost ? 'no connection' : state}: ${view.instance}, eco-egress`;
  if (document.title !== title) document.title = title;
  const href = `/page/${state}.svg`;
  if (icon.getAttribute('href') !== href) icon.setAttribute('href', href);
  // New cards have places for curves.
  if (charted !== document.querySelectorAll('.chart').length) {
    charted = document.querySelectorAll('.chart').length;
    drawCharts(history);
  }
}

/** By form: the place of its answer. */
const ANSWER_PLACES = new Map([
  ['ask', 'answer'],
  ['incident', 'verdict'],
]);
/** A second question while one is being answered would be refused. */
let asking = false;

/** Where scripts run, the answer comes in below the form. */
document.addEventListener('submit', (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement)) return;
  const answer = document.getElementById(ANSWER_PLACES.get(form.id) ?? '');
  if (answer === null) return;
  event.preventDefault();
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === 'string' && value.trim() !== '') asked.set(name, value.trim());
  const tell = (/** @type {string} */ text) => {
    answer.hidden = false;
    answer.textContent = text;
    answer.focus();
  };
  // Its own `method` may be a field of that name.
  const [method, path] = form.id === 'ask' ? ['GET', '/explain'] : ['POST', '/incident'];
  if (form.id === 'incident') {
    if (asking) return;
    asking = true;
    tell('Trying the route to the partners. This takes some seconds.');
  }
  fetch(`${path}?${asked.toString()}`, { method, headers: { accept: 'text/plain' } })
    .then(async (response) => {
      tell(await response.text());
    })
    .catch(() => {
      tell('The proxy does not answer.');
    })
    .finally(() => {
      if (form.id === 'incident') asking = false;
    });
});

if (document.body.dataset['page'] === 'status') {
  follow();
  setInterval(showNow, 1_000);
  document.addEventListener('visibilitychange', follow);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    forgetCharts();
    drawCharts(history);
  });
  addEventListener('resize', () => {
    drawCharts(history);
  });
}
