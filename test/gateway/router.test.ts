import t from 'tap';
import type { Test } from 'tap';
import type { DestinationConfig, GatewayConfig } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { createGatewayRouter, type GatewayRouter } from '../../src/gateway/router.ts';

function destination(name: string, gateway: Partial<GatewayConfig> & { prefix: string }): DestinationConfig {
  return {
    name,
    hosts: ['eco.example'],
    ports: [443],
    addresses: null,
    forms: ['gateway'],
    gateway: { scheme: 'https', host: 'eco.example', port: 443, basePath: '', rewrite: [], encodedSlashes: 'refuse', ...gateway },
    methods: null,
    paths: null,
    report: false,
    upgradePlainHttp: null,
    tunnelSni: 'report',
    via: [],
    resolve: 'here',
    proxyProtocol: 'off',
    gateReadiness: false,
    circuitBreaker: null,
    tls: { ca: null, cert: null, key: null, serverName: null },
  };
}

/** What the router makes of a target: destination and target, `none`, or a code. */
function ask(router: GatewayRouter, target: string): string {
  try {
    const route = router.route(target);
    return route === null ? 'none' : `${route.destination} ${route.target}`;
  } catch (error) {
    return Fault.from(error).code;
  }
}

async function startRouter(t: Test, destinations: DestinationConfig[]): Promise<GatewayRouter> {
  const router = await createGatewayRouter(destinations);
  t.teardown(() => router.close());
  return router;
}

t.test('a prefix is stripped, and only a whole prefix', async (t) => {
  const router = await startRouter(t, [destination('eco', { prefix: '/eco' }), destination('deep', { prefix: '/a/b', basePath: '/base' })]);
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
  for (const [path, expected] of cases) t.equal(ask(router, path), expected, path.slice(0, 60));
});

t.test('nothing leaves the prefix', async (t) => {
  const router = await startRouter(t, [destination('eco', { prefix: '/eco', basePath: '/base' })]);
  for (const path of ['/eco/../x', '/eco/%2e%2e/x', '/eco/..\\x', '/eco/a/%2e%2e/%2e%2e/x', '/eco/%zz']) t.equal(ask(router, path), 'path-ambiguous', path);
});

t.test('a route has the origin, and the path and query as they were asked for', async (t) => {
  const router = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  t.match(router.route('/eco/x?y'), { destination: 'eco', target: '/x?y', origin: { scheme: 'https', host: 'eco.example', port: 443 } });
  t.strictSame(router.prefixes, ['/eco']);
});

t.test('a path is routed the same however often it is asked for, and whatever the query', async (t) => {
  const router = await startRouter(t, [destination('eco', { prefix: '/eco' }), destination('deep', { prefix: '/a/b', basePath: '/base' })]);
  const paths = (from: number): string[] => Array.from({ length: 700 }, (_, index) => `/eco/p${from + index}`);
  for (const path of [...paths(0), '/a/b/c', ...paths(300), `/eco/${'x'.repeat(600)}`]) {
    const below = path.startsWith('/eco') ? `eco ${path.slice('/eco'.length)}` : 'deep /base/c';
    for (const query of ['', '?a=1', '', '?', '?b=%2e%2e/..']) t.equal(ask(router, path + query), below + query);
  }
  for (let again = 0; again < 3; again += 1) {
    t.equal(ask(router, '/eco/a/../x'), 'path-ambiguous');
    t.equal(ask(router, '/ecox'), 'none');
  }
});

t.test('thousands of prefixes', async (t) => {
  const router = await startRouter(t, Array.from({ length: 5_000 }, (_, index) => destination(`d${index}`, { prefix: `/p${index}` })));
  for (const index of [0, 255, 256, 4_999]) t.equal(ask(router, `/p${index}/x`), `d${index} /x`);
});

t.test('a request for the whole server is below no prefix', async (t) => {
  const router = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  t.equal(ask(router, '*'), 'none');
});
