/** The pages as markup, rendered in the proxy: a browser never requests this file. */
import { h } from 'preact';
import { renderToString } from 'preact-render-to-string';
import { AnswerPage, StatusPage } from './page.js';

/** @type {import('../status-view.ts').PageRenderer['renderBody']} */
export function renderBody(content) {
  if (content.kind === 'answer') return renderToString(h(AnswerPage, content));
  return renderToString(h(StatusPage, { view: content.view, link: { state: 'static', since: null } }));
}
