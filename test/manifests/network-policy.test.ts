/** NetworkPolicies of many policies, evaluated: who gets through and who just does not. */
import t from 'tap';
import { type End, type NetworkPolicySpec, permits } from '../support/manifests/network.ts';
import { policyWith, renderText } from '../support/manifests/rendered.ts';
import { checkSchema } from '../support/manifests/schemas.ts';

const PUBLIC = '93.184.215.14';
const ECO = { eco: '{ hosts: eco.example, ports: [443, 80] }' };

const proxyOf = (text: string): NetworkPolicySpec[] => [renderText('base', text).spec('NetworkPolicy')];
const clientsOf = (text: string, direct: string[] = []): NetworkPolicySpec[] => [renderText('no-mesh', text, { direct }).spec('NetworkPolicy', 'no-direct-egress')];
const out = (policies: NetworkPolicySpec[], end: End, port: number, protocol = 'TCP'): boolean => permits(policies, 'Egress', end, port, protocol);
const into = (policies: NetworkPolicySpec[], end: End, port: number): boolean => permits(policies, 'Ingress', end, port);

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
];

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
  t.notOk(out(own, '169.254.20.10', 53, 'UDP'));
});

t.test('who reaches the proxy', async (t) => {
  const policies = proxyOf(policyWith(ECO));
  for (const port of [3128, 8080, 8443]) {
    t.ok(into(policies, { namespace: 'dynatrace-sit' }, port));
    t.notOk(into(policies, { namespace: 'default' }, port));
    t.notOk(into(policies, '10.8.0.1', port), 'the range of the pods is no pass');
  }
  t.ok(into(policies, { namespace: 'monitoring' }, 9090));
  for (const namespace of ['dynatrace-sit', 'default']) t.notOk(into(policies, { namespace }, 9090));
  t.notOk(into(policies, { namespace: 'monitoring' }, 3128));
});

t.test('callers outside the cluster: clients of another name than the clients\' namespace', async (t) => {
  const text = policyWith(ECO).replace('clients: {', 'clients: { machines: { addresses: [10.200.0.0/24] },');
  const policies = proxyOf(text);
  for (const port of [8080, 8443]) t.ok(into(policies, '10.200.0.9', port));
  t.notOk(into(policies, '10.200.1.9', 8443));
  t.notOk(into(policies, '10.200.0.9', 3128), 'the load balancer has no such port');
  t.notOk(into(policies, '10.200.0.9', 9090));
  t.match(renderText('base', text).notes, ['Client machines has not the name of the namespace dynatrace-sit, so it is taken for callers outside the cluster: 10.200.0.0/24 is let in from there.']);
  t.match(renderText('base', text).spec('Service'), { loadBalancerSourceRanges: ['10.200.0.0/24', '10.8.0.0/14'] });
});

t.test('clients without addresses: no load balancer for everybody, and a word', async (t) => {
  const text = policyWith(ECO).replace('addresses: 10.8.0.0/14', 'certificates: "spiffe://cluster.local/*"');
  const { objects, notes } = renderText('base', text);
  t.notOk(objects.some(({ kind }) => kind === 'Service'));
  t.match(notes.join('\n'), /Client dynatrace-sit has no addresses[^]*a load balancer without source ranges lets in everybody/);
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

t.test('known and unknown together', async (t) => {
  const policies = clientsOf(policyWith({ a: '{ hosts: a.example, ports: [65535, 1] }', b: '{ hosts: b.example, ports: [8443], addresses: [10.0.0.0/8, 93.184.0.0/16] }' }));
  t.notOk(out(policies, '10.1.2.3', 443), 'a known one is closed whole, also where it is a whole private range');
  t.notOk(out(policies, PUBLIC, 443), 'and where it is public');
  t.notOk(out(policies, '8.8.8.8', 65_535));
  t.notOk(out(policies, '8.8.8.8', 1));
  for (const port of [2, 65_534]) t.ok(out(policies, '8.8.8.8', port), `${port}`);
  t.ok(out(policies, '172.16.0.1', 443));
});
