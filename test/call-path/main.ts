/**
 * Which functions of the proxy one request runs through, as V8 counts them, by
 * file and line: npm run call-path -- connect
 * The request is `connect`, `forward`, `gateway` or `denied`, through the demo.
 * Functions that the proxy runs without any request are left out.
 */
import { Session } from 'node:inspector/promises';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Demo, startDemo } from '../../src/demo/demo.ts';
import { readCommandLine, refuse } from '../support/command-line.ts';

const SOURCE = new URL('../../src/', import.meta.url).href;
/** The stand-in for the partner is not part of the proxy. */
const STAND_IN = new URL('demo/', SOURCE).href;
/** Requests before the one that is watched: the first does more, such as resolving the name. */
const WARM_UP = 3;
/** After its answer a request is closed and logged, ms. */
const SETTLE_MS = 300;
/** Clocks of the proxy tick at least once in this time, ms. */
const IDLE_MS = 2_500;

/** Sends one request on a new connection, and reads until that is closed. */
type Way = (places: Demo['places']) => Promise<string>;

const WAYS: Readonly<Record<string, Way>> = {
  connect: async ({ proxy, ecoHttp }) => {
    const { host } = new URL(ecoHttp);
    return ask(proxy, `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`, get('/api/status', host));
  },
  forward: async ({ proxy, ecoHttp }) => ask(proxy, get(`${ecoHttp}/api/status`, new URL(ecoHttp).host)),
  gateway: async ({ http }) => ask(http, get('/eco/api/status', new URL(http).host)),
  denied: async ({ proxy }) => ask(proxy, 'CONNECT denied.example:443 HTTP/1.1\r\nHost: denied.example:443\r\nConnection: close\r\n\r\n'),
};

function get(target: string, host: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
}

/** Each message is sent when the one before it has been answered. */
async function ask(place: string, first: string, ...more: readonly string[]): Promise<string> {
  const { hostname, port } = new URL(place);
  const socket = connect(Number(port), hostname);
  socket.write(first);
  const waiting = [...more];
  socket.on('data', () => {
    const next = waiting.shift();
    if (next !== undefined) socket.write(next);
  });
  return text(socket);
}

/** By file below `src/`, then by line and name. */
type Calls = Map<string, Map<string, number>>;

/** The calls since the last time. */
async function takeCalls(session: Session): Promise<Calls> {
  const { result } = await session.post('Profiler.takePreciseCoverage');
  const calls: Calls = new Map();
  for (const { url, functions } of result) {
    if (!url.startsWith(SOURCE) || url.startsWith(STAND_IN)) continue;
    const source = readFileSync(fileURLToPath(url), 'utf8');
    const called = new Map<string, number>();
    for (const { functionName, ranges } of functions) {
      const [whole] = ranges;
      if (whole === undefined || whole.count === 0) continue;
      const line = String(source.slice(0, whole.startOffset).split('\n').length);
      const name = `${line.padStart(5)} ${functionName || '(anonymous)'}`;
      called.set(name, (called.get(name) ?? 0) + whole.count);
    }
    if (called.size > 0) calls.set(url.slice(SOURCE.length), called);
  }
  return calls;
}

async function watch(way: Way, places: Demo['places']): Promise<Calls> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  for (let i = 0; i < WARM_UP; i += 1) await way(places);
  await delay(SETTLE_MS);
  await takeCalls(session);
  await delay(IDLE_MS);
  const idle = await takeCalls(session);
  await way(places);
  await delay(SETTLE_MS);
  const calls = await takeCalls(session);
  session.disconnect();
  for (const [file, called] of calls) {
    for (const [name, count] of called) if (count <= (idle.get(file)?.get(name) ?? 0)) called.delete(name);
    if (called.size === 0) calls.delete(file);
  }
  return calls;
}

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const USAGE = `npm run call-path -- [REQUEST] [--summary]
  REQUEST    ${Object.keys(WAYS).join(', ')}; connect by default
  --summary  only how many functions and files
`;
const { values, positionals } = readCommandLine({ summary: { type: 'boolean', default: false } }, USAGE);
const [name = 'connect'] = positionals;
const way = WAYS[name] ?? refuse(`There is no request called ${name}.`, USAGE);
const demo = await startDemo({ http: 0, proxy: 0, tls: 0, admin: 0 }, new PassThrough().resume());
const calls = await watch(way, demo.places);
await demo.close();
let functions = 0;
for (const [file, called] of [...calls].toSorted(([one], [other]) => (one < other ? -1 : 1))) {
  functions += called.size;
  if (values.summary) continue;
  say(`src/${file}`);
  for (const [place, count] of [...called].toSorted(([one], [other]) => parseInt(one, 10) - parseInt(other, 10))) say(`${place}${count > 1 ? ` ×${count}` : ''}`);
}
say(`${name}: ${functions} functions in ${calls.size} files`);
