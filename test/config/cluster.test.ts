/** The section cluster: pods behind the names of other sections. */
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';

const BASE = `version: 1
clients: { batch: { addresses: 10.8.0.0/14 } }
destinations: { eco: { hosts: eco.example, ports: 443, via: near } }
hops: { near: { url: "http://gw.gateways.svc:3128" } }
rules: [{ clients: batch, destinations: eco }]
`;
const load = (cluster: string): ReturnType<typeof loadConfig> => loadConfig({ file: 'x.yaml', env: {}, readFile: () => `${BASE}cluster: ${cluster}\n` });

t.test('what it says', async (t) => {
  t.match(load('{ clients: { batch: { namespace: jobs, labels: "app.kubernetes.io/name=batch, tier=" } }, hops: { near: { namespace: gateways, port: 8888 } }, destinations: { eco: { namespace: stand-in } } }'), {
    ok: true,
    config: {
      cluster: {
        clients: [{ name: 'batch', namespace: 'jobs', labels: { 'app.kubernetes.io/name': 'batch', tier: '' }, port: null }],
        hops: [{ name: 'near', namespace: 'gateways', labels: {}, port: 8888 }],
        destinations: [{ name: 'eco', namespace: 'stand-in', labels: {}, port: null }],
      },
    },
  });
  t.match(loadConfig({ file: 'x.yaml', env: {}, readFile: () => BASE }), { ok: true, config: { cluster: { clients: { length: 0 }, hops: { length: 0 }, destinations: { length: 0 } } } });
});

t.test('what is wrong with it', async (t) => {
  for (const [cluster, path, problem] of [
    ['{ hops: { nearby: { namespace: gateways } } }', 'cluster.hops.nearby', /There is no entry "nearby" under hops/],
    ['{ clients: { eco: { namespace: x } } }', 'cluster.clients.eco', /There is no entry "eco" under clients/],
    ['{ hops: { near: { namespace: Gateways } } }', 'cluster.hops.near.namespace', /"Gateways" is not a namespace/],
    ['{ hops: { near: { namespace: gateways, labels: app } } }', 'cluster.hops.near.labels', /"app" is not a label/],
    ['{ hops: { near: { namespace: gateways, labels: "a=1, b=1, a=2" } } }', 'cluster.hops.near.labels', /The label "a" has two values, and no pod has both/],
    ...['a..b/x=1', '-a/x=1', 'a-/x=1', '.a/x=1', '/x=1', `${'a.'.repeat(126)}ab/x=1`].map((label): [string, string, RegExp] => [`{ hops: { near: { namespace: gateways, labels: "${label}" } } }`, 'cluster.hops.near.labels', /is not a label/]),
    ['{ hops: { near: { labels: "a=b" } } }', 'cluster.hops.near', /namespace/],
    ['{ clients: { batch: { namespace: jobs, port: 1 } } }', 'cluster.clients.batch.port', /There is no key "port"/],
  ] as const) {
    const loaded = load(cluster);
    t.equal(loaded.ok, false, cluster);
    if (!loaded.ok) t.match(loaded.faults, [{ path, problem }], cluster);
  }
});
