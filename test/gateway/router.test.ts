import t from 'tap';
import type { Test } from 'tap';
import type { DestinationConfig, GatewayConfig } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { createGatewayRouter, type GatewayRoute, type GatewayRouter } from '../../src/gateway/router.ts';

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

interface Harness {
  readonly router: GatewayRouter;
  /** What the router makes of a target: destination and target, `none`, or a code. */
  readonly ask: (target: string) => Promise<string>;
  readonly last: () => GatewayRoute | null;
}

async function startRouter(t: Test, destinations: DestinationConfig[]): Promise<Harness> {
  const router = await createGatewayRouter(destinations);
  t.teardown(() => router.close());
  let last: GatewayRoute | null = null;
  const ask = (target: string): Promise<string> => {
    const answers: string[] = [];
    router.route(target, {
      onRoute: (route) => {
        last = route;
        answers.push(`${route.destination} ${route.target}`);
      },
      onNone: () => answers.push('none'),
      onError: (error) => answers.push(Fault.from(error).code),
    });
    // The listener relies on it: what is not answered by now never is.
    return Promise.resolve(answers.join(' and '));
  };
  return { router, ask, last: () => last };
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

t.test('a Fault that a callback throws comes back, and nothing else is called', async (t) => {
  const { router } = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  for (const [target, where] of [
    ['/eco/x', 'onRoute'],
    ['/other', 'onNone'],
  ] as const) {
    const told: string[] = [];
    const fault = new Fault('no-rule', 'no');
    const callback = (name: string) => (): void => {
      told.push(name);
      throw fault;
    };
    router.route(target, {
      onRoute: callback('onRoute'),
      onNone: callback('onNone'),
      onError: (error) => {
        told.push('onError');
        t.equal(error, fault);
      },
    });
    t.strictSame(told, [where, 'onError'], target);
  }
});

t.test('as a promise: the route, null, or the Fault', async (t) => {
  const { router } = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  t.match(await router.find('/eco/x?y'), { destination: 'eco', target: '/x?y', origin: { scheme: 'https', host: 'eco.example', port: 443 } });
  t.equal(await router.find('/ecox'), null);
  await t.rejects(router.find('/eco/../x'), { code: 'path-ambiguous' });
  t.strictSame(router.prefixes, ['/eco']);
});

t.test('thousands of prefixes', async (t) => {
  const { ask } = await startRouter(t, Array.from({ length: 5_000 }, (_, index) => destination(`d${index}`, { prefix: `/p${index}` })));
  for (const index of [0, 255, 256, 4_999]) t.equal(await ask(`/p${index}/x`), `d${index} /x`);
});

t.test('a request for the whole server is below no prefix', async (t) => {
  const { ask } = await startRouter(t, [destination('eco', { prefix: '/eco' })]);
  t.equal(await ask('*'), 'none');
});
