/** The latest requests, asked again of another policy: as a client would ask it, which names no host to a gateway and no port to raw TLS. */
import t from 'tap';
import type { DestinationConfig, GatewayConfig } from '../../src/config/config.ts';
import { compilePolicy, type Policy } from '../../src/policy/compile.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { compareDecisions } from '../../src/reload/compare.ts';
import { makeAsk, makeClient, makeDestination, makeRule } from '../support/policy.ts';

const gateway = (prefix: string, host: string, basePath = ''): GatewayConfig => ({ prefix, scheme: 'https', host, port: 443, basePath, rewrite: [], encodedSlashes: 'refuse' });

function policyTo(name: string, more: Partial<DestinationConfig>, hosts: readonly string[]): Policy {
  return compilePolicy({ mode: 'enforce', clients: [makeClient('pods', { addresses: ['10.8.0.0/14'] })], destinations: [makeDestination(name, hosts, more)], rules: [makeRule(['pods'], [name])] });
}

const told = (ask: Ask, present: Policy, candidate: Policy): unknown[] => {
  const { newlyDenied, newlyAllowed } = compareDecisions([ask], present, candidate, 0);
  return [newlyDenied.map(({ code, detail }) => `${code}: ${detail}`), newlyAllowed.length];
};

t.test('a gateway that leads elsewhere, or belongs to a destination of another name', async (t) => {
  const present = policyTo('eco', { gateway: gateway('/eco', 'old.example', '/v1'), paths: ['/v1/api/*'] }, ['old.example']);
  const ask = makeAsk({ form: 'gateway', host: 'old.example', method: 'GET', path: '/v1/api/x', destination: 'eco' });
  t.strictSame(told(ask, present, present), [[], 0]);
  t.strictSame(told(ask, present, policyTo('eco', { gateway: gateway('/eco', 'new.example', '/v2'), paths: ['/v2/api/*'] }, ['new.example'])), [[], 0], 'another URL');
  t.strictSame(told(ask, present, policyTo('eco-sit', { gateway: gateway('/eco', 'old.example', '/v1'), paths: ['/v1/api/*'] }, ['old.example'])), [[], 0], 'another name');
  t.strictSame(told(ask, present, policyTo('eco', { gateway: gateway('/eco', 'new.example', '/v2'), paths: ['/v2/other/*'] }, ['new.example'])), [['path-not-allowed: The destination eco does not list the path /v2/api/x'], 0]);
  t.strictSame(told(ask, present, policyTo('eco', { paths: ['/v1/api/*'] }, ['old.example'])), [['host-not-allowed: No gateway has the prefix /eco'], 0], 'no gateway');
  t.strictSame(told({ ...ask, destination: 'of an earlier file' }, present, present), [[], 0]);
  t.strictSame(told({ ...ask, path: '/other/base/x' }, present, policyTo('eco', { gateway: gateway('/eco', 'old.example', '/v3'), paths: ['/v3/api/*'] }, ['old.example'])), [[], 0], 'of an earlier file, and denied by both');
});

t.test('a gateway whose prefix is above the present one', async (t) => {
  const present = policyTo('eco', { gateway: gateway('/eco/v1', 'old.example'), paths: ['/api/*'] }, ['old.example']);
  const ask = makeAsk({ form: 'gateway', host: 'old.example', method: 'GET', path: '/api/x', destination: 'eco' });
  const above = (paths: readonly string[]): Policy => policyTo('all', { gateway: gateway('/eco', 'new.example'), paths }, ['new.example']);
  t.strictSame(told(ask, present, above(['/v1/api/*'])), [[], 0]);
  t.strictSame(told(ask, present, above(['/api/*'])), [['path-not-allowed: The destination all does not list the path /v1/api/x'], 0]);
  t.strictSame(told(ask, present, policyTo('eco', { gateway: gateway('/ec', 'old.example') }, ['old.example'])), [['host-not-allowed: No gateway has the prefix /eco/v1'], 0]);
});

t.test('each request reads a few destinations, however many there are', async (t) => {
  const count = 300;
  const names = Array.from({ length: count }, (_, index) => `d${index}`);
  let reads = 0;
  const counted = (): Policy => {
    const policy = compilePolicy({ mode: 'enforce', clients: [makeClient('pods', { addresses: ['10.8.0.0/14'] })], destinations: names.map((name) => makeDestination(name, [`${name}.example`], { gateway: gateway(`/${name}`, `${name}.example`) })), rules: [makeRule(['pods'], names)] });
    return { ...policy, destinations: new Proxy(policy.destinations, { get: (list, key, self) => { reads += 1; return Reflect.get(list, key, self) as unknown; } }) };
  };
  const asks = names.flatMap((name) => [
    makeAsk({ form: 'gateway', host: `${name}.example`, method: 'GET', path: '/x', destination: name }),
    makeAsk({ host: `${name}.not.example` }),
  ]);
  t.strictSame(compareDecisions(asks, counted(), counted(), 0), { newlyDenied: [], newlyAllowed: [], replayed: 2 * count });
  t.ok(reads < 30 * count, `${reads} reads`);
});

t.test('raw TLS goes to the port that the policy has for it', async (t) => {
  const ask = makeAsk({ form: 'sni', host: 'eco.example', port: 8443 });
  t.strictSame(told(ask, policyTo('eco', { ports: [8443] }, ['eco.example']), policyTo('eco', { ports: [9443] }, ['eco.example'])), [[], 0]);
  t.match(told(ask, policyTo('eco', { ports: [8443] }, ['eco.example']), policyTo('eco', { ports: [9443], forms: ['connect'] }, ['eco.example'])), [[/^form-not-allowed/], 0]);
});
