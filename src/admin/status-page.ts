/** The status page: `/` for people, `/status.json` for programs, `/events` for the page while it is open, `/page/` for its files. */
import { readdir, readFile } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import type { Turns } from '../turns.ts';
import { buildHistory, buildStatus } from './build-status.ts';
import { composePage, loadOnce, PAGE_HEADERS } from './html-page.ts';
import { JSON_TYPE, sendProblem } from './problem.ts';
import type { StatusSources } from './status-sources.ts';
import { STREAM_HEADERS, Watchers } from './watchers.ts';

interface StatusRoutesOptions {
  readonly sources: StatusSources;
  /** Seconds between two steps of the history. */
  readonly stepSeconds: number;
  readonly turns: Turns;
  /** Called with the address of a watcher that is refused, because this address or all have too many; must not throw. */
  readonly onBusy: (address: string) => void;
}

/** Adds the routes. The watchers end with the app. */
export function addStatusRoutes(app: FastifyInstance, { sources, stepSeconds, turns, onBusy }: StatusRoutesOptions): void {
  const view = (): ReturnType<typeof buildStatus> => buildStatus(sources, Date.now(), process.uptime());
  const history = (most?: number): string => safeJson(buildHistory(sources, view(), stepSeconds, most));
  const watchers = new Watchers({
    view: () => safeJson(view()),
    history,
    latestStep: () => history(1),
    step: () => sources.traffic.history.steps,
  });
  app.addHook('preClose', (done) => {
    watchers.close();
    done();
  });
  app.get('/', async (_request, reply) => {
    await turns.next();
    return reply.headers(PAGE_HEADERS).send(await composePage({ kind: 'status', view: view() }));
  });
  app.get('/status.json', async (_request, reply) => {
    await turns.next();
    const now = view();
    return reply.type(JSON_TYPE).send(`${safeJson({ ...now, history: buildHistory(sources, now, stepSeconds) })}\n`);
  });
  app.head('/events', (_request, reply) => {
    reply.headers(STREAM_HEADERS).send();
  });
  app.get('/events', { exposeHeadRoute: false }, (request, reply) => {
    if (watchers.add(reply.raw, request.ip)) {
      reply.hijack();
      return;
    }
    onBusy(request.ip);
    sendProblem(
      reply,
      503,
      'Too many watch this page already, from this address or in all. Close a tab, or ask for /status.json.',
      undefined,
      5,
    );
  });
  app.get<{ Params: { name: string } }>('/page/:name', async (request, reply) => {
    const asset = (await loadAssets()).get(request.params.name);
    if (asset === undefined) return sendProblem(reply, 404, 'The status page has no such part.');
    return reply.type(asset.type).send(asset.text);
  });
}

const safeJson = (value: unknown): string => escapeUnsafe(JSON.stringify(value));

// The files of the page in a browser: its own in page/, and two installed
// libraries. Read at the first request.

const FOLDER = new URL('page/', import.meta.url);
/** It runs only in the proxy. */
const UNSERVED = 'server.js';
const MEDIA_TYPES: Readonly<Record<string, string>> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
};

/** A part of the page. */
interface Asset {
  readonly type: string;
  readonly text: string;
}

/** By name below /page/. */
const loadAssets = loadOnce(async (): Promise<ReadonlyMap<string, Asset>> => {
  const files = new Map((await readdir(FOLDER)).filter((name) => name !== UNSERVED).map((name) => [name, new URL(name, FOLDER).href]));
  files
    .set('preact.js', import.meta.resolve('preact'))
    .set('uplot.js', import.meta.resolve('uplot/dist/uPlot.esm.js'))
    .set('uplot.css', import.meta.resolve('uplot/dist/uPlot.min.css'));
  return new Map(
    await Promise.all(
      Array.from(files, async ([name, file]): Promise<[string, Asset]> => [
        name,
        { type: MEDIA_TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream', text: await readFile(new URL(file), 'utf8') },
      ]),
    ),
  );
});
