/**
 * What routing the gateway costs in processor time per request, for three ways
 * to relay the same exchange: bare node:http, @fastify/http-proxy with our own
 * `handler` (what eco-egress does), and @fastify/http-proxy as it comes, with
 * @fastify/reply-from. Each is a process of its own, and so are the upstream
 * (plain HTTP) and the clients. Run, some 25 s: bin/node bench/gateway-route.ts
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import httpProxy from '@fastify/http-proxy';
import fastify from 'fastify';
import { Agent, type Dispatcher, Pool } from 'undici';

const CONNECTIONS = 16;
const REQUESTS = 4_000;
const WARM_UP = 10_000;
const ROUNDS = 9;
const BODY = JSON.stringify({ problem: 'P-1', text: 'x'.repeat(480) });
const ROUTES = {
  bare: 'node:http and undici, no router',
  handler: '@fastify/http-proxy, `handler`',
  stock: '@fastify/http-proxy, reply-from',
} as const;

type Route = keyof typeof ROUTES;
type Work = { usage: true } | { port: number; requests: number };
type Answer = { port: number } | { cpu: number } | { done: true };

const [role, argument = ''] = process.argv.slice(2);
if (role === undefined) await compare();
else if (role === 'upstream') serve((_req, res) => res.writeHead(200, { 'content-type': 'application/json', 'content-length': BODY.length }).end(BODY));
else if (role === 'clients') process.on('message', (work: Work) => void load(work));
else await startProxy(role as Route, Number(argument));

async function compare(): Promise<void> {
  const upstream = fork(import.meta.filename, ['upstream']);
  const { port: upstreamPort } = await answerOf<{ port: number }>(upstream);
  const clients = fork(import.meta.filename, ['clients']);
  const proxies = Object.keys(ROUTES).map((route) => ({ route: route as Route, child: fork(import.meta.filename, [route, String(upstreamPort)]), port: 0, costs: [] as number[] }));
  for (const proxy of proxies) {
    proxy.port = (await answerOf<{ port: number }>(proxy.child)).port;
    await ask(clients, { port: proxy.port, requests: WARM_UP });
  }
  // Interleaved, so that whatever else the machine does meets all of them.
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const { child, port, costs } of proxies) {
      const before = await ask<{ cpu: number }>(child, { usage: true });
      await ask(clients, { port, requests: REQUESTS });
      const after = await ask<{ cpu: number }>(child, { usage: true });
      costs.push((after.cpu - before.cpu) / REQUESTS);
    }
  }
  const median = (costs: number[]): number => costs.toSorted((a, b) => a - b)[costs.length >> 1] ?? NaN;
  process.stdout.write(`CPU per request, ${CONNECTIONS} connections, ${ROUNDS} rounds of ${REQUESTS} requests, Node ${process.version}\n${' '.repeat(34)}  least  median\n`);
  for (const { route, costs } of proxies) process.stdout.write(`${ROUTES[route].padEnd(34)} ${Math.min(...costs).toFixed(0).padStart(5)}${median(costs).toFixed(0).padStart(8)} µs\n`);
  for (const child of [upstream, clients, ...proxies.map((proxy) => proxy.child)]) child.kill();
}

async function answerOf<T extends Answer>(child: ChildProcess): Promise<T> {
  const [answer] = (await once(child, 'message')) as [T];
  return answer;
}

function ask<T extends Answer>(child: ChildProcess, work: Work): Promise<T> {
  const answer = answerOf<T>(child);
  child.send(work);
  return answer;
}

async function startProxy(route: Route, upstreamPort: number): Promise<void> {
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.({ cpu: user + system });
  });
  const origin = `http://127.0.0.1:${upstreamPort}`;
  const agent = new Agent({ connections: CONNECTIONS, pipelining: 1 });
  if (route === 'bare') {
    serve((req, res) => {
      relay(agent, origin, (req.url ?? '').slice('/eco'.length), req, res);
    });
    return;
  }
  const app = fastify({ logger: false });
  const common = { upstream: origin, prefix: '/eco', rewritePrefix: '/' };
  if (route === 'stock') await app.register(httpProxy, { ...common, undici: { connections: CONNECTIONS, pipelining: 1 } });
  else {
    await app.register(httpProxy, {
      ...common,
      handler: (request, reply, path) => {
        reply.hijack();
        const url = request.raw.url ?? '';
        const query = url.indexOf('?');
        relay(agent, origin, query === -1 ? path : path + url.slice(query), request.raw, reply.raw);
      },
    } as Parameters<typeof httpProxy>[1]);
  }
  await app.ready();
  serve((req, res) => {
    app.routing(req, res);
  });
}

function serve(listener: (req: IncomingMessage, res: ServerResponse) => void): void {
  const server = createServer(listener).listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
}

/** The least an exchange can be: the same for both routes that are compared by it. */
function relay(agent: Agent, origin: string, path: string, req: IncomingMessage, res: ServerResponse): void {
  const headers: string[] = [];
  for (let i = 0; i + 1 < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i] ?? '';
    if (!/^(?:host|connection)$/i.test(name)) headers.push(name, req.rawHeaders[i + 1] ?? '');
  }
  agent.dispatch({ origin, path, method: req.method as Dispatcher.HttpMethod, headers }, {
    onRequestStart() {},
    onResponseStart(_controller, status, fields) {
      res.writeHead(status, { 'content-type': String(fields['content-type']), 'content-length': String(fields['content-length']) });
    },
    onResponseData(_controller, chunk) {
      res.write(chunk);
    },
    onResponseEnd() {
      res.end();
    },
    onResponseError(_controller, error) {
      res.destroy(error);
    },
  });
}

async function load(work: Work): Promise<void> {
  if (!('port' in work)) return;
  const pool = new Pool(`http://127.0.0.1:${work.port}`, { connections: CONNECTIONS, pipelining: 1 });
  let left = work.requests;
  const client = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const { statusCode, body } = await pool.request({ path: '/eco/api/v1/problems?state=open', method: 'GET', headers: { accept: 'application/json', 'user-agent': 'bench' } });
      if (statusCode !== 200 || (await body.text()).length !== BODY.length) throw new Error(`answered ${statusCode}`);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  await pool.close();
  process.send?.({ done: true });
}
