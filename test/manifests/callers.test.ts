/** Who reaches the proxy by its rendered NetworkPolicy and load balancer, and who just does not. */
import t from 'tap';
import { type End, type NetworkPolicySpec, permits } from '../support/manifests/network.ts';
import { policyWith, renderText } from '../support/manifests/rendered.ts';

const ECO = { eco: '{ hosts: eco.example, ports: [443, 80] }' };

const proxyOf = (text: string): NetworkPolicySpec[] => [renderText('base', text).spec('NetworkPolicy')];
const into = (policies: NetworkPolicySpec[], end: End, port: number): boolean => permits(policies, 'Ingress', end, port);

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

t.test('the ports on which the policy listens are let in, and no others', async (t) => {
  const machines = policyWith(ECO).replace('clients: {', 'clients: { machines: { addresses: [10.200.0.0/24] },');
  const text = `${machines}listeners: { http: ["0.0.0.0:8080", "[::]:8081", "127.0.0.1:8090"], tls: off }\n`;
  const policies = proxyOf(text);
  for (const end of [{ namespace: 'dynatrace-sit' }, '10.200.0.9']) {
    for (const port of [8080, 8081]) t.ok(into(policies, end, port), `${port}`);
    for (const port of [3128, 8443, 8090, 9090]) t.notOk(into(policies, end, port), `${port}`);
  }
  t.strictSame(renderText('base', text).notes.filter((note) => note.includes('listens')), ['The policy listens on port 8081, which the Service eco-egress does not have. Patch it into the Service, or leave it out of listeners.']);
  const none = proxyOf(`${machines}listeners: { http: "127.0.0.1:8080", tls: off }\n`);
  for (const end of [{ namespace: 'dynatrace-sit' }, '10.200.0.9']) for (const port of [8080, 9090]) t.notOk(into(none, end, port), `${port}: an empty list of ports would be all`);
  t.ok(into(none, { namespace: 'monitoring' }, 9090));
});

t.test('a load balancer needs longer to notice than a pod accepts connections', async (t) => {
  const notes = (delay: string): string[] => renderText('external-service', `${policyWith(ECO).replace('clients: {', 'clients: { machines: { addresses: [10.200.0.0/24] },')}timeouts: { drainDelay: ${delay} }\n`).notes;
  t.strictSame(notes('9999ms'), ['The load balancer sends connections to a pod for six seconds and more after SIGTERM, and the pod accepts them for 9.999 s: later ones are lost in each rollout. Set timeouts.drainDelay to 10s or more.']);
  t.strictSame(notes('10s'), []);
});

t.test('callers outside the cluster: clients of another name than the clients\' namespace', async (t) => {
  const text = policyWith(ECO).replace('clients: {', 'clients: { machines: { addresses: [10.200.0.0/24] },');
  const policies = proxyOf(text);
  for (const port of [8080, 8443]) t.ok(into(policies, '10.200.0.9', port));
  t.notOk(into(policies, '10.200.1.9', 8443));
  t.notOk(into(policies, '10.200.0.9', 3128), 'the load balancer has no such port');
  t.notOk(into(policies, '10.200.0.9', 9090));
  t.match(renderText('base', text).notes, ['Client machines is neither the namespace dynatrace-sit nor under cluster.clients, so its callers are outside the cluster: 10.200.0.0/24 is let in. Pods are not: no ipBlock matches them.']);
  t.strictSame((renderText('external-service', text).spec('Service') as { loadBalancerSourceRanges: string[] }).loadBalancerSourceRanges, ['10.200.0.0/24'], 'and not the range of the pods, who need no load balancer');
  t.notOk(renderText('base', text).objects.some(({ kind }) => kind === 'Service'));
});

t.test('a load balancer that names its clients is let in, by its own address', async (t) => {
  const listeners = 'listeners: { http: ["0.0.0.0:3128", { address: "0.0.0.0:8080", trustedPeers: [10.9.0.0/24, 127.0.0.6], proxyProtocol: from-trusted }], tls: "0.0.0.0:8443" }\n';
  const text = `${policyWith(ECO).replace('clients: {', 'clients: { machines: { addresses: [10.200.0.0/24] },')}${listeners}`;
  t.match(renderText('base', text).notes, [/^Client machines/, /^Trusted peers are let in by address: 10\.9\.0\.0\/24\. Pods are not/]);
  const policies = proxyOf(text);
  t.ok(into(policies, '10.9.0.5', 8080) && into(policies, '10.200.0.9', 8080));
  for (const [address, port] of [['10.9.1.5', 8080], ['10.9.0.5', 9090], ['127.0.0.6', 8080]] as const) t.notOk(into(policies, address, port), `${address} ${port}`);
  t.strictSame((renderText('external-service', text).spec('Service') as { loadBalancerSourceRanges: string[] }).loadBalancerSourceRanges, ['10.200.0.0/24', '10.9.0.0/24']);
});

t.test('clients without addresses: no load balancer that is open to all, and a note', async (t) => {
  const text = policyWith(ECO).replace('addresses: 10.8.0.0/14', 'certificates: "spiffe://cluster.local/*"');
  const { objects, notes } = renderText('external-service', text);
  t.strictSame(objects, []);
  t.match(notes.join('\n'), /a load balancer without source ranges would let in every address/);
  const stranger = policyWith(ECO).replace('clients: {', 'clients: { machines: { certificates: "spiffe://x/*" },');
  t.match(renderText('base', stranger).notes, ['Client machines has no addresses, and no pods under cluster.clients: nothing here lets it in.']);
});

t.test('clients of another namespace reach every port, and no others of it do', async (t) => {
  const text = `${policyWith(ECO).replace('clients: {', 'clients: { batch: { addresses: 10.9.0.0/16 },')}cluster: { clients: { batch: { namespace: jobs, labels: "eco=yes" } } }\n`;
  const policies = proxyOf(text);
  for (const port of [3128, 8080, 8443]) {
    t.ok(into(policies, { namespace: 'jobs', labels: { eco: 'yes', app: 'x' } }, port));
    for (const end of [{ namespace: 'jobs' }, { namespace: 'default', labels: { eco: 'yes' } }, '10.9.0.1']) t.notOk(into(policies, end, port), JSON.stringify(end));
    t.ok(into(policies, { namespace: 'dynatrace-sit' }, port));
  }
  t.notOk(into(policies, { namespace: 'jobs', labels: { eco: 'yes' } }, 9090));
  t.strictSame(renderText('base', text).notes, []);
  t.match(renderText('no-direct-egress', text).notes, [/^The policy lists no addresses/, /^Pods of jobs, which are client batch too, are not locked by this\. .*--client-namespace jobs$/]);
});
