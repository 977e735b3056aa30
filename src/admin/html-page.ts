/**
 * A whole HTML page of the admin port. Its body is rendered by the scripts of
 * page/, the same ones that run in a browser: they are JavaScript, which
 * browsers run without a build step, and are loaded at the first request for a
 * page.
 */
import { createHash } from 'node:crypto';
import { escapeMarkup } from '../telemetry/safe-text.ts';
import type { PageContent, PageRenderer } from './status-view.ts';

/** The paths of the libraries that the scripts import. */
const IMPORT_MAP = '{"imports":{"preact":"/page/preact.js","uplot":"/page/uplot.js"}}';

/** Only resources of this port may be used, and no text may become markup or code, for any content of the page. */
const CSP = [
  "default-src 'none'",
  `script-src 'self' 'sha256-${createHash('sha256').update(IMPORT_MAP).digest('base64')}'`,
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** Headers of every page. Without a referrer, browsers would send a null origin with its own forms. */
export const PAGE_HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': CSP,
  'referrer-policy': 'same-origin',
} as const;

const loadRenderer = loadOnce(() => import(new URL('page/server.js', import.meta.url).href) as Promise<PageRenderer>);

/** Loads at the first call, and again where that failed: a file may be readable later. */
export function loadOnce<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | null = null;
  return () =>
    (loaded ??= load().catch((error: unknown) => {
      loaded = null;
      throw error;
    }));
}

/** The page before any script has run: complete, with tables and pictures. */
export async function composePage(content: PageContent): Promise<string> {
  const { renderBody } = await loadRenderer();
  const [title, icon] =
    content.kind === 'status'
      ? [`${content.view.band.state}: ${content.view.instance}, eco-egress`, content.view.band.state]
      : [content.about === 'why' ? 'Why? eco-egress' : 'What is wrong? eco-egress', 'ok'];
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">' +
    `<meta name="color-scheme" content="light dark"><title>${escapeMarkup(title)}</title>` +
    `<link rel="icon" type="image/svg+xml" href="/page/${icon}.svg"><link rel="stylesheet" href="/page/uplot.css"><link rel="stylesheet" href="/page/page.css">` +
    `<script type="importmap">${IMPORT_MAP}</script><script type="module" src="/page/client.js"></script></head>` +
    `<body data-page="${content.kind}"${content.kind === 'status' ? ` data-version="${escapeMarkup(content.view.version)}"` : ''}><div id="page">${renderBody(content)}</div></body></html>\n`
  );
}
