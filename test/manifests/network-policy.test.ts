/** NetworkPolicies of many policies, evaluated: what the proxy and its clients reach, and what they just do not. */
import t from 'tap';
import { parse } from 'yaml';
import { readDocBlocks } from '../support/doc-blocks.ts';
import type { KubeObject } from '../support/manifests/kustomize.ts';
import { type End, type NetworkPolicySpec, permits } from '../support/manifests/network.ts';
import { policyWith, renderText } from '../support/manifests/rendered.ts';
import { checkSchema } from '../support/manifests/schemas.ts';

const PUBLIC = '93.184.215.14';
const ECO = { eco: '{ hosts: eco.example, ports: [443, 80] }' };

const proxyOf = (text: string): NetworkPolicySpec[] => [renderText('base', text).spec('NetworkPolicy')];
const clientsOf = (text: string, direct: string[] = []): NetworkPolicySpec[] => [renderText('no-direct-egress', text, { direct }).spec('NetworkPolicy', 'no-direct-egress')];
const out = (policies: NetworkPolicySpec[], end: End, port: number, protocol = 'TCP'): boolean => permits(policies, 'Egress', end, port, protocol);

const WAYS: readonly { what: string; text: string; open: (readonly [address: string, port: number])[]; closed: (readonly [address: string, port: number])[] }[] = [
  {
    what: 'public addresses, when none are listed',
    text: policyWith(ECO),
    open: [[PUBLIC, 443], [PUBLIC, 80], ['2606:2800:220:1::1', 443], ['11.0.0.0', 443], ['9.255.255.255', 443], ['172.32.0.0', 80]],
    closed: [[PUBLIC, 8443], [PUBLIC, 22], ['10.0.0.0', 443], ['10.255.255.255', 443], ['172.16.0.1', 80], ['192.168.1.1', 443], ['100.64.0.1', 443], ['127.0.0.1', 443], ['169.254.169.254', 80], ['224.0.0.1', 443], ['fd00::1', 443], ['fe80::1', 443], ['::1', 443], ['2001:db8::1', 443]],
  },
  {
    what: 'the listed addresses and no others',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: [10.40.0.0/16, "fd40::/64"] }' }),
    open: [['10.40.0.0', 443], ['10.40.255.255', 443], ['fd40::7', 443]],
    closed: [['10.39.255.255', 443], ['10.41.0.0', 443], ['10.40.0.1', 80], ['fd40:0:0:1::', 443], [PUBLIC, 443]],
  },
  {
    what: 'hosts that are addresses, and no others',
    text: policyWith({ eco: '{ hosts: ["93.184.215.14", "2606:2800:220:1::1"], ports: [443] }' }),
    open: [[PUBLIC, 443], ['2606:2800:220:1::1', 443]],
    closed: [['93.184.215.15', 443], ['2606:2800:220:1::2', 443], [PUBLIC, 80]],
  },
  {
    what: 'any public address, where one host is a name',
    text: policyWith({ eco: '{ hosts: ["93.184.215.14", eco.example], ports: [443] }' }),
    open: [[PUBLIC, 443], ['93.184.215.15', 443]],
    closed: [['10.0.0.1', 443]],
  },
  {
    what: 'a range of ports, by both of its ends',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443, "8000-8100"], addresses: 10.40.0.0/16 }' }),
    open: [['10.40.0.1', 443], ['10.40.0.1', 8000], ['10.40.0.1', 8100]],
    closed: [['10.40.0.1', 7999], ['10.40.0.1', 8101], ['10.40.0.1', 444]],
  },
  {
    what: 'each destination by itself',
    text: policyWith({ a: '{ hosts: a.example, ports: [443], addresses: 10.40.0.0/16 }', b: '{ hosts: b.example, ports: [8443], addresses: 10.50.0.0/16 }' }),
    open: [['10.40.0.1', 443], ['10.50.0.1', 8443]],
    closed: [['10.40.0.1', 8443], ['10.50.0.1', 443]],
  },
  {
    what: 'the parents of the nearest hop in place of the partner',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], via: [near, far] }' }, 'hops:\n  near: { url: ["http://a.internal:3128", "http://b.internal:3129"], addresses: 10.60.0.0/24 }\n  far: { url: "http://far.example:8080", addresses: 10.70.0.0/24 }\n'),
    open: [['10.60.0.1', 3128], ['10.60.0.1', 3129]],
    closed: [['10.60.0.1', 443], ['10.61.0.1', 3128], ['10.70.0.1', 8080], [PUBLIC, 443]],
  },
  {
    what: 'a parent without listed addresses, anywhere that is routed',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], via: near }' }, 'hops: { near: { url: "http://a.internal:3128" } }\n'),
    open: [['10.1.2.3', 3128], [PUBLIC, 3128], ['fd00::1', 3128]],
    closed: [['127.0.0.1', 3128], ['169.254.169.254', 3128], ['224.0.0.1', 3128], ['::1', 3128], ['fe80::1', 3128], ['10.1.2.3', 443]],
  },
  {
    what: 'a parent that is an address',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], via: near }' }, 'hops: { near: { url: "http://10.60.0.9:3128" } }\n'),
    open: [['10.60.0.9', 3128]],
    closed: [['10.60.0.8', 3128], ['10.60.0.10', 3128]],
  },
  {
    what: 'no parent in this pod, which no NetworkPolicy is about',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], via: near }' }, 'hops: { near: { url: ["http://localhost:3128", "http://127.0.0.1:3129", "http://[::1]:3130", "http://10.60.0.9:3131"] } }\n'),
    open: [['10.60.0.9', 3131]],
    closed: [[PUBLIC, 3128], ['10.1.2.3', 3128], ['10.60.0.9', 3128], [PUBLIC, 3129], ['fd00::1', 3130]],
  },
  {
    what: 'the endpoint that tells the source address',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }, 'sourceIp: { expected: 34.123.45.67, probe: { url: "https://echo.example:8443/ip", addresses: 198.51.100.7 } }\n'),
    open: [['10.40.0.1', 443], ['198.51.100.7', 8443]],
    closed: [['198.51.100.7', 443], ['198.51.100.8', 8443]],
  },
  {
    what: 'the keys of a token issuer by its name, at public addresses',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }).replace('addresses: 10.8.0.0/14 }', 'addresses: 10.8.0.0/14, tokens: [{ issuer: i, audience: a, subjects: "*", jwksUrl: "https://issuer.example:8443/keys" }] }'),
    open: [[PUBLIC, 8443]],
    closed: [['10.0.0.1', 8443], [PUBLIC, 443]],
  },
  {
    what: 'the keys of a token issuer at its address',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }).replace('addresses: 10.8.0.0/14 }', 'addresses: 10.8.0.0/14, tokens: [{ issuer: i, audience: a, subjects: "*", jwksUrl: "https://10.0.0.1:6443/keys" }] }'),
    open: [['10.0.0.1', 6443]],
    closed: [['10.0.0.1', 443], ['10.0.0.2', 6443]],
  },
  {
    what: 'the collector of traces by its name, at public addresses',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }, 'tracing: { endpoint: "https://collector.example:8443/v1/traces" }\n'),
    open: [[PUBLIC, 8443]],
    closed: [['10.0.0.1', 8443], [PUBLIC, 443]],
  },
  {
    what: 'the collector of traces at its address',
    text: policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }, 'tracing: { endpoint: "https://10.60.0.9:9999/e/x/api/v2/otlp/v1/traces" }\n'),
    open: [['10.60.0.9', 9999]],
    closed: [['10.60.0.9', 443], ['10.60.0.10', 9999], [PUBLIC, 9999]],
  },
];

t.test('the proxy reaches a collector of traces that is pods, and no public address for it', async (t) => {
  const text = policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }, 'tracing: { endpoint: "http://otel-collector.observability.svc.cluster.local:4318/v1/traces" }\ncluster: { collector: { namespace: observability, labels: app=otel-collector, port: 14318 } }\n');
  const policies = proxyOf(text);
  const pod = (namespace: string, labels: Record<string, string>): End => ({ namespace, labels });
  t.ok(out(policies, pod('observability', { app: 'otel-collector' }), 14318));
  t.notOk(out(policies, pod('observability', { app: 'otel-collector' }), 4318), 'the port of the Service is not that of the pod');
  t.notOk(out(policies, pod('observability', { app: 'other' }), 14318));
  t.notOk(out(policies, pod('other', { app: 'otel-collector' }), 14318));
  t.notOk(out(policies, PUBLIC, 4318));
});

t.test('a collector and keys in the same pod: no NetworkPolicy is about them, so nothing is opened or noted for them', async (t) => {
  for (const host of ['localhost', '127.0.0.1', '[::1]']) {
    const text = policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' }, `tracing: { endpoint: "http://${host}:4318/v1/traces" }\n`)
      .replace('addresses: 10.8.0.0/14 }', `addresses: 10.8.0.0/14, tokens: [{ issuer: i, audience: a, subjects: "*", jwksUrl: "http://${host}:8001/keys" }] }`);
    const { notes, spec } = renderText('base', text);
    t.strictSame(notes, []);
    t.equal((spec('NetworkPolicy') as NetworkPolicySpec).egress?.length, 2, 'resolvers and the partner');
    for (const port of [4318, 8001]) t.notOk(out(proxyOf(text), PUBLIC, port), `${host} ${port}`);
  }
});

for (const { what, text, open, closed } of WAYS) {
  t.test(`the proxy reaches ${what}`, async (t) => {
    const { objects } = renderText('base', text);
    t.strictSame(objects.flatMap(checkSchema), []);
    const policies = proxyOf(text);
    for (const [address, port] of open) t.ok(out(policies, address, port), `${address}:${port}`);
    for (const [address, port] of closed) t.notOk(out(policies, address, port), `${address}:${port}`);
  });
}

t.test('DNS: the cluster, its node-local caches, or the servers of the policy', async (t) => {
  const usual = proxyOf(policyWith(ECO));
  for (const protocol of ['UDP', 'TCP']) {
    for (const end of [{ namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }, '169.254.20.10', '169.254.169.254']) t.ok(out(usual, end, 53, protocol), JSON.stringify(end));
  }
  t.notOk(out(usual, '169.254.20.10', 80));
  t.notOk(out(usual, { namespace: 'kube-system', labels: { 'k8s-app': 'other' } }, 53, 'UDP'));
  t.notOk(out(usual, { namespace: 'elsewhere', labels: { 'k8s-app': 'kube-dns' } }, 53, 'UDP'));

  const own = proxyOf(policyWith(ECO, 'dns: { servers: ["10.9.9.9:5353", "fd00::53"] }\n'));
  t.ok(out(own, '10.9.9.9', 5353, 'UDP') && out(own, 'fd00::53', 53, 'TCP'));
  t.notOk(out(own, '10.9.9.9', 53, 'UDP'));
  // calico#5129: the address of a Service is not what the dataplane compares, so the pods of kube-dns stay beside it.
  for (const end of [{ namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }, '169.254.20.10']) t.ok(out(own, end, 53, 'UDP') && out(own, end, 53, 'TCP'), JSON.stringify(end));
  t.notOk(out(own, { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }, 5353, 'UDP'));
});

const HOP = 'hops: { near: { url: "http://gw.gateways.svc:3128" } }\n';
const VIA = policyWith({ eco: '{ hosts: eco.example, ports: [443], via: near }' }, HOP);

t.test('a hop of pods is selected as pods: by namespace, labels and the port of the container', async (t) => {
  const gateway = { namespace: 'gateways', labels: { app: 'gw', tier: 'out' } };
  const some = proxyOf(`${VIA}cluster: { hops: { near: { namespace: gateways, labels: [app=gw, tier=out], port: 8888 } } }\n`);
  t.ok(out(some, gateway, 8888));
  for (const [what, end, port] of [['the port of the Service', gateway, 3128], ['other labels', { ...gateway, labels: { app: 'gw' } }, 8888], ['another namespace', { ...gateway, namespace: 'elsewhere' }, 8888], ['an address', '10.1.2.3', 3128], ['the partner', PUBLIC, 443]] as const) t.notOk(out(some, end, port), what);
  const all = proxyOf(`${VIA}cluster: { hops: { near: { namespace: gateways } } }\n`);
  t.ok(out(all, { namespace: 'gateways' }, 3128));
  const both = proxyOf(`${VIA.replace('3128" }', '3128", addresses: 10.60.0.0/24 }')}cluster: { hops: { near: { namespace: gateways } } }\n`);
  t.ok(out(both, { namespace: 'gateways' }, 3128) && out(both, '10.60.0.1', 3128), 'addresses that are listed stay beside them');
  t.notOk(out(proxyOf(VIA), gateway, 3128), 'without it no ipBlock matches a pod');
});

t.test('a destination of pods: the proxy reaches them, and clients reach no pod of that namespace', async (t) => {
  const text = policyWith({ eco: '{ hosts: partner.stand-in.svc, ports: [443] }' }, 'cluster: { destinations: { eco: { namespace: stand-in, labels: "app=partner", port: 8443 } } }\n');
  t.ok(out(proxyOf(text), { namespace: 'stand-in', labels: { app: 'partner' } }, 8443));
  t.notOk(out(proxyOf(text), PUBLIC, 443));
  t.notOk(out(clientsOf(text), { namespace: 'stand-in', labels: { app: 'partner' } }, 8443));
  t.ok(out(clientsOf(text), { namespace: 'eco-egress' }, 3128) && out(clientsOf(text), PUBLIC, 443));
  t.match(renderText('no-direct-egress', text).notes, ['eco is pods of stand-in, so no pod of that namespace is permitted.']);
});

t.test('addresses of one family leave the other unknown: its public ones are closed on the ports of the partner', async (t) => {
  const text = policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' });
  const policies = clientsOf(text, ['2600:1901::/32']);
  const V6 = '2606:2800:220:1::1';
  t.notOk(out(policies, V6, 443));
  t.notOk(out(policies, V6, 443, 'UDP'));
  t.ok(out(policies, V6, 80) && out(policies, V6, 8443));
  t.ok(out(policies, 'fd00::1', 443), 'what is private stays open');
  t.ok(out(policies, '2600:1901::1', 443), '--direct');
  t.ok(out(policies, PUBLIC, 443), 'of IPv4 all is known');
  const sixth = policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: "fd40::/64" }', both: '{ hosts: both.example, ports: [8443], addresses: [10.41.0.0/16, "fd41::/64"] }' });
  t.notOk(out(clientsOf(sixth), PUBLIC, 443));
  t.ok(out(clientsOf(sixth), PUBLIC, 8443));
  t.strictSame(renderText('no-direct-egress', sixth).notes, ['The addresses of eco are IPv6, so NO public IPv4 address is permitted on port 443: the partner could have one.']);
  t.strictSame(renderText('no-direct-egress', text).notes, ['The addresses of eco are IPv4, so NO public IPv6 address is permitted on port 443: the partner could have one.']);
});

t.test('clients do not reach listed addresses, and everything else', async (t) => {
  const policies = clientsOf(policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: [10.40.0.0/16, 10.40.7.0/24, "fd40::/64"] }' }));
  for (const address of ['10.40.0.0', '10.40.255.255', 'fd40::1']) for (const port of [443, 80, 1]) t.notOk(out(policies, address, port), `${address}:${port}`);
  for (const address of ['10.39.255.255', '10.41.0.0', PUBLIC, '169.254.169.254', 'fd40:0:0:1::']) t.ok(out(policies, address, 443), address);
  t.ok(out(policies, { namespace: 'eco-egress' }, 3128));
});

t.test('while addresses are unknown, clients reach no public address on the ports of the partner', async (t) => {
  const policies = clientsOf(policyWith(ECO), ['199.36.153.8/30']);
  for (const port of [443, 80]) for (const protocol of ['TCP', 'UDP']) t.notOk(out(policies, PUBLIC, port, protocol), `${port} ${protocol}`);
  for (const port of [1, 79, 81, 442, 444, 65_535]) t.ok(out(policies, PUBLIC, port), `${port}`);
  for (const address of ['10.1.2.3', '172.16.0.1', '100.64.0.1', '169.254.169.254', 'fd00::1']) t.ok(out(policies, address, 443), address);
  t.ok(out(policies, '199.36.153.8', 443), '--direct');
  t.notOk(out(policies, '199.36.153.12', 443), 'the neighbour of --direct');
  t.ok(out(policies, { namespace: 'anywhere' }, 443));
});

t.test('a host that is an address has no other: the lock closes that one alone', async (t) => {
  const text = policyWith({ eco: `{ hosts: "${PUBLIC}", ports: [443] }` });
  t.notOk(out(clientsOf(text), PUBLIC, 443));
  for (const address of ['93.184.215.15', '2606:2800:220:1::1']) t.ok(out(clientsOf(text), address, 443), address);
  t.same(renderText('no-direct-egress', text).notes, []);
});

t.test('plain HTTP that is upgraded is steered from port 80: the lock closes that port too', async (t) => {
  const text = policyWith({ eco: '{ hosts: eco.example, ports: [443], upgradePlainHttp: 443 }' });
  for (const port of [443, 80]) t.notOk(out(clientsOf(text), PUBLIC, port), `${port}`);
  for (const port of [79, 81]) t.ok(out(clientsOf(text), PUBLIC, port), `${port}`);
  t.match(renderText('no-direct-egress', text).notes, [/^The policy lists no addresses for eco, so NO public address is permitted on port 443 or 80\./]);
  const listed = policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16, upgradePlainHttp: 443 }' });
  t.notOk(out(clientsOf(listed), '2606:2800:220:1::1', 80), 'nor at public addresses of the other family');
});

t.test('--direct opens no address that the policy lists', async (t) => {
  const text = policyWith({ a: '{ hosts: a.example, ports: [443] }', b: '{ hosts: b.example, ports: [443], addresses: 93.184.0.0/16 }' });
  const wide = clientsOf(text, ['93.0.0.0/8', '93.184.7.0/24']);
  t.ok(out(wide, '93.1.0.1', 443));
  for (const address of ['93.184.7.1', '93.184.255.1']) t.notOk(out(wide, address, 443), address);
  for (const address of ['93.184.7.1', '8.8.8.8']) t.notOk(out(clientsOf(text, ['93.184.7.0/24']), address, 443), `${address}: an empty list would be everybody`);
});

t.test('a range that is unknown is closed whole', async (t) => {
  const policies = clientsOf(policyWith({ a: '{ hosts: a.example, ports: ["8000-8100", 1] }' }));
  for (const port of [1, 8000, 8050, 8100]) t.notOk(out(policies, PUBLIC, port), `${port}`);
  for (const port of [2, 7999, 8101, 65_535]) t.ok(out(policies, PUBLIC, port), `${port}`);
});

t.test('all ports of unknown addresses closed: none is left, and no empty list of ports, which would open them all', async (t) => {
  const policies = clientsOf(policyWith({ a: '{ hosts: a.example, ports: ["1-65535"] }' }));
  for (const port of [1, 443, 65_535]) for (const end of [PUBLIC, '2606:2800:220:1::1']) t.notOk(out(policies, end, port), `${end} ${port}`);
  t.ok(out(policies, '10.1.2.3', 443));
  t.ok(out(policies, { namespace: 'eco-egress' }, 3128));
});

t.test('known and unknown together', async (t) => {
  const policies = clientsOf(policyWith({ a: '{ hosts: a.example, ports: [65535, 1] }', b: '{ hosts: b.example, ports: [8443], addresses: [10.0.0.0/8, 93.184.0.0/16, "fd40::/64"] }' }));
  t.notOk(out(policies, '10.1.2.3', 443), 'a known one is closed whole, also where it is a whole private range');
  t.notOk(out(policies, PUBLIC, 443), 'and where it is public');
  t.notOk(out(policies, '8.8.8.8', 65_535));
  t.notOk(out(policies, '8.8.8.8', 1));
  for (const port of [2, 65_534]) t.ok(out(policies, '8.8.8.8', port), `${port}`);
  t.ok(out(policies, '172.16.0.1', 443));
});

t.test('what the policies cannot follow is noted, with what can be done', async (t) => {
  const parent = `${policyWith({ eco: '{ hosts: eco.example, ports: [443], via: gw, resolve: parent }' })}hops: { gw: { url: "http://192.0.2.1:3128" } }\n`;
  const reached = /^eco is reached through the parent proxy gw, which stays open to the clients: let gw accept connections of this proxy only\.$/;
  t.match(renderText('no-direct-egress', parent).notes, [/NO public address is permitted on port 443\. A parent resolves its hosts, so none can be listed: --direct says what stays open\.$/, reached]);
  t.match(renderText('base', `${policyWith(ECO)}mode: report\n`).notes, [/^Report mode lets requests to any public host pass, and this lets the proxy out to the destinations of the policy only/]);
});

t.test('what docs/adopting.md puts beside it while report mode lasts: public addresses, on any port', async (t) => {
  const object = parse(readDocBlocks('docs/adopting.md').find(({ file }) => file === 'report-mode.yaml')?.text ?? '') as KubeObject;
  t.strictSame(checkSchema(object), []);
  const { objects } = renderText('base', policyWith(ECO));
  t.match(object, { metadata: { namespace: 'eco-egress' }, spec: { podSelector: (objects.find(({ kind }) => kind === 'NetworkPolicy')?.spec as { podSelector: object }).podSelector } });
  const both = [...proxyOf(policyWith({ eco: '{ hosts: eco.example, ports: [443], addresses: 10.40.0.0/16 }' })), object.spec as NetworkPolicySpec];
  t.ok(out(both, PUBLIC, 8443) && out(both, '10.40.0.1', 443));
  for (const address of ['10.1.2.3', '100.64.0.1', '172.16.0.1', '192.168.0.1', '169.254.169.254']) t.notOk(out(both, address, 443), address);
});
