/** Who watches the status page: what they get, how many there may be, and what becomes of one that does not read. */
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { type WatcherOptions, Watchers } from '../../src/admin/watchers.ts';
import { listen } from '../support/listen.ts';
import { openScene } from '../support/status-scene.ts';

interface Scene {
  readonly watchers: Watchers;
  readonly port: number;
  /** What the last request was answered with. */
  readonly responses: ServerResponse[];
}

/** Watchers of a server of their own. They beat when the test says so. */
async function openWatchers(test: Test, options: Partial<WatcherOptions> = {}): Promise<Scene> {
  const watchers = new Watchers({ view: () => '{"view":1}', history: () => '{"history":1}', latestStep: () => '{"step":1}', step: () => 0, every: 86_400_000, ...options });
  const responses: ServerResponse[] = [];
  const server = createServer((request, response) => {
    responses.push(response);
    if (!watchers.add(response, request.headers['x-address'] as string)) response.writeHead(503).end();
  });
  test.teardown(() => {
    watchers.close();
  });
  return { watchers, responses, port: await listen(test, server) };
}

/** Text that has come, growing; the response has begun when this resolves. */
async function watch(test: Test, port: number, address = 'a'): Promise<{ status: number; text: () => string; until: (part: string) => Promise<void>; response: IncomingMessage }> {
  const request = get({ port, host: '127.0.0.1', headers: { 'x-address': address }, agent: false });
  test.teardown(() => request.destroy());
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  // Cut at the end of the test.
  response.on('error', () => {});
  return {
    status: response.statusCode ?? 0,
    text: () => text,
    response,
    until: async (part) => {
      while (!text.includes(part)) await once(response, 'data');
    },
  };
}

t.test('who comes gets all, and then what is new', async (t) => {
  let step = 4;
  let view = 1;
  const { watchers, port } = await openWatchers(t, { view: () => `{"view":${view}}`, step: () => step });
  const watcher = await watch(t, port);
  await watcher.until('"view":1');
  t.equal(watcher.response.headers['content-type'], 'text/event-stream; charset=utf-8');
  t.equal(watcher.text(), 'retry: 2000\n\nevent: history\ndata: {"history":1}\n\nevent: status\ndata: {"view":1}\n\n');
  view = 2;
  watchers.beat();
  await watcher.until('"view":2');
  t.notMatch(watcher.text(), 'event: step');
  step = 5;
  view = 3;
  watchers.beat();
  await watcher.until('"view":3');
  t.match(watcher.text(), 'event: step\ndata: {"step":1}\n\nevent: status\ndata: {"view":3}\n\n');
  step = 9;
  view = 4;
  watchers.beat();
  await watcher.until('"view":4');
  t.match(watcher.text(), 'event: history\ndata: {"history":1}\n\nevent: status\ndata: {"view":4}\n\n', 'who has missed steps gets all of them');
});

t.test('there may be so many, and so many of one address', async (t) => {
  const { watchers, port } = await openWatchers(t, { most: 3, mostOfOne: 2 });
  const statuses = async (...addresses: string[]): Promise<number[]> => {
    const found: number[] = [];
    for (const address of addresses) found.push((await watch(t, port, address)).status);
    return found;
  };
  t.strictSame(await statuses('a', 'a', 'a', 'b', 'c'), [200, 200, 503, 200, 503]);
  t.equal(watchers.size, 3);
});

t.test('who leaves makes room', async (t) => {
  const { watchers, port, responses } = await openWatchers(t, { most: 1 });
  const first = await watch(t, port);
  const [response] = responses;
  if (response === undefined) throw new Error('nobody came');
  const left = once(response, 'close');
  first.response.destroy();
  await left;
  t.equal(watchers.size, 0);
  t.equal((await watch(t, port)).status, 200);
});

t.test('who does not read misses events, and is dropped; others go on', async (t) => {
  let now = 0;
  const { watchers, port, responses } = await openWatchers(t, { view: () => `"${'x'.repeat(500_000)}"`, now: () => now });
  const reader = await watch(t, port, 'reader');
  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\nX-Address: lazy\r\n\r\n');
  while (responses.length < 2) await new Promise(setImmediate);
  const lazy = responses.at(-1);
  if (lazy === undefined) throw new Error('nobody came');
  const waiting = (): number => lazy.writableLength;
  for (let before = -1; waiting() < 65_536 || waiting() !== before; ) {
    before = waiting();
    const length = reader.text().length;
    watchers.beat();
    while (reader.text().length < length + 500_000) await once(reader.response, 'data');
  }
  const most = waiting();
  watchers.beat();
  t.equal(waiting(), most, 'nothing more is kept for it');
  t.equal(watchers.size, 2);
  now = 15_000;
  const dropped = once(lazy, 'close');
  watchers.beat();
  t.ok(lazy.destroyed, 'it is dropped');
  if (lazy.destroyed) await dropped;
  t.equal(watchers.size, 1);
});

t.test('a beat during which the process stood still does not delay the next one for long', async (t) => {
  let now = 0;
  let views = 0;
  const view = (): string => {
    // An hour passes while the second one is made.
    if (views === 1) now += 3_600_000;
    views += 1;
    return `{"view":${views}}`;
  };
  const { port } = await openWatchers(t, { view, now: () => now, every: 1, longest: 5 });
  const watcher = await watch(t, port);
  await watcher.until('"view":3');
});

t.test('close ends every response in order, and accepts no new watcher', async (t) => {
  const { watchers, port } = await openWatchers(t);
  const watcher = await watch(t, port);
  const ended = once(watcher.response, 'end');
  watchers.close();
  await ended;
  t.match(watcher.text(), /event: end\ndata: \{\}\n\n$/);
  t.equal((await watch(t, port)).status, 503);
});

t.test('on the admin port: an event a second, and only for who may ask there', async (t) => {
  const url = await openScene(t);
  const { port } = new URL(url);
  const ask = async (headers: Record<string, string>, method = 'GET'): Promise<IncomingMessage> => {
    const request = get({ port, host: '127.0.0.1', path: '/events', method, headers, agent: false });
    t.teardown(() => request.destroy());
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.on('error', () => {});
    return response;
  };
  t.equal((await ask({ host: 'evil.example' })).statusCode, 421, 'a name that leads here');
  t.equal((await ask({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' })).statusCode, 403, 'a page of another site');
  t.equal((await ask({ origin: 'http://evil.example' })).statusCode, 403);
  t.equal((await ask({}, 'POST')).statusCode, 405);
  const head = await ask({}, 'HEAD');
  t.strictSame([head.statusCode, head.headers['content-type']], [200, 'text/event-stream; charset=utf-8'], 'as GET, and it ends');
  await once(head.resume(), 'end');
  const response = await ask({});
  t.equal(response.headers['content-type'], 'text/event-stream; charset=utf-8');
  t.equal(response.headers['cache-control'], 'no-store');
  let text = '';
  response.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  while (text.split('event: status\n').length < 4) await once(response, 'data');
  const statuses: number[] = [];
  for (let i = 0; i < 8; i += 1) statuses.push((await ask({})).statusCode ?? 0);
  t.strictSame(statuses, [200, 200, 200, 200, 200, 200, 200, 503], 'eight of one address');
});
