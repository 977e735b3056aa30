import { once } from 'node:events';
import { createServer, request } from 'node:http';
import t from 'tap';
import type { Test } from 'tap';
import type { DestinationConfig, GatewayConfig } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { createGatewayRouter, type GatewayRoute } from '../../src/gateway/router.ts';
import { listen } from '../support/listen.ts';

function destination(name: string, gateway: Partial<GatewayConfig> & { prefix: string }): DestinationConfig {
  return {
    name,
    hosts: ['eco.example'],
    ports: [443],
    addresses: null,
    forms: ['gateway'],
    gateway: { scheme: 'https', host: 'eco.example', port: 443, basePath: '', ...gateway },
    methods: null,
    paths: null,
    report: false,
    tunnelSni: 'report',
    via: [],
    resolve: 'here',
    proxyProtocol: 'off',
    tls: { ca: null, cert: null, key: null, serverName: null },
  };
}

/** Answers each request with what the router made of it: the target, `none`, or a code. */
async function startRouter(t: Test, destinations: DestinationConfig[]): Promise<{ ask: (path: string, method?: string) => Promise<string>; last: () => GatewayRoute | null }> {
  const router = await createGatewayRouter(destinations);
  let last: GatewayRoute | null = null;
  const server = createServer((req, res) => {
    router.route(req, res, {
      onRoute: (route) => {
        last = route;
        res.end(`${route.destination} ${route.target}`);
      },
      onNone: () => {
        res.end('none');
      },
      onError: (error) => {
        res.end(Fault.from(error).code);
      },
    });
  });
  const port = await listen(t, server);
  t.teardown(() => router.close());
  const ask = async (path: string, method = 'GET'): Promise<string> => {
    const req = request({ port, host: '127.0.0.1', path, method, agent: false });
    req.end();
    const [res] = (await once(req, 'response')) as [AsyncIterable<Buffer>];
    let text = '';
    for await (const chunk of res) text += chunk.toString();
    return text;
  };
  return { ask, last: () => last };
}

t.test('a prefix is stripped, and only a whole prefix', async (t) => {
  const { ask } = await startRouter(t, [destination('eco', { prefix: '/eco' }), destination('deep', { prefix: '/a/b', basePath: '/base' })]);
  const cases: [string, string][] = [
    ['/eco', 'eco /'],
    ['/eco/', 'eco /'],
    ['/eco?x=1', 'eco /?x=1'],
    ['/eco/a/b', 'eco /a/b'],
    ['/eco/a?x=1?y=%2f&x=2', 'eco /a?x=1?y=%2f&x=2'],
    ['/eco/a%20b%C3%A9', 'eco /a%20b%C3%A9'],
    ['/eco/eco/x', 'eco /eco/x'],
    ['/a/b/c', 'deep /base/c'],
    ['/a/b', 'deep /base'],
    ['/ecox', 'none'],
    ['/ec', 'none'],
    ['/ECO/x', 'none'],
    ['/', 'none'],
    ['/x/eco/y', 'none'],
    [`/eco/${'x'.repeat(8000)}`, `eco /${'x'.repeat(8000)}`],
  ];
  for (const [path, expected] of cases) t.equal(await ask(path), expected, path.slice(0, 60));
});

t.test('nothing leaves the prefix', async (t) => {
  const { ask } = await startRouter(t, [destination('eco', { prefix: '/eco', basePath: '/base' })]);
  for (const path of ['/eco/../x', '/eco/%2e%2e/x', '/eco/..\\x', '/eco/a/%2e%2e/%2e%2e/x', '/eco/%zz']) t.equal(await ask(path), 'path-ambiguous', path);
});

t.test('every method is routed', async (t) => {
  const { ask } = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'M-SEARCH', 'QUERY']) t.equal(await ask('/eco/x', method), 'eco /x', method);
});

t.test('bodies and their types are none of its business', async (t) => {
  const router = await createGatewayRouter([destination('eco', { prefix: '/eco' })]);
  const server = createServer((req, res) => {
    router.route(req, res, {
      onRoute: () => {
        req.pipe(res);
      },
      onNone: () => {
        res.end('none');
      },
      onError: (error) => {
        res.end(Fault.from(error).code);
      },
    });
  });
  const url = `http://127.0.0.1:${await listen(t, server)}/eco/x`;
  t.teardown(() => router.close());
  for (const type of ['text/plain', 'application/json', 'foo', ';;;', 'multipart/form-data', null]) {
    const body = new Blob(['{not json']);
    const res = await fetch(url, { method: 'POST', body, ...(type === null ? {} : { headers: { 'content-type': type } }) });
    t.equal(await res.text(), '{not json', type ?? 'no type');
  }
});

t.test('redirects of the origin stay inside the prefix, others are left alone', async (t) => {
  const { ask, last } = await startRouter(t, [destination('eco', { prefix: '/eco', basePath: '/base' })]);
  await ask('/eco/x');
  const map = last()?.mapLocation ?? String;
  const cases: [string, string][] = [
    ['/base/login', '/eco/login'],
    ['/base', '/eco'],
    ['/base?x', '/eco?x'],
    ['/base#f', '/eco#f'],
    ['/basement', '/basement'],
    ['/other', '/other'],
    ['https://eco.example/base/a?b#c', '/eco/a?b#c'],
    ['HTTPS://ECO.example:443/base/a', '/eco/a'],
    ['https://eco.example:444/base/a', 'https://eco.example:444/base/a'],
    ['http://eco.example/base/a', 'http://eco.example/base/a'],
    ['https://eco.example.evil/base/a', 'https://eco.example.evil/base/a'],
    ['https://other.example/base', 'https://other.example/base'],
    ['//eco.example/base', '//eco.example/base'],
    ['next', 'next'],
    ['', ''],
  ];
  for (const [value, expected] of cases) t.equal(map(value), expected, value);
});
