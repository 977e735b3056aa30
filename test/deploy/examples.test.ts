/** examples/: each loads without a warning, permits what it says and nothing beside it, and renders. */
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { compilePolicy, type Policy } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { labCertificates } from '../support/lab.ts';
import { type NetworkPolicySpec, permits } from '../support/manifests/network.ts';
import { renderText } from '../support/manifests/rendered.ts';
import { makeAsk, makePeer } from '../support/policy.ts';

const FOLDER = new URL('../../examples/', import.meta.url);
const ISSUER = 'https://container.googleapis.com/v1/projects/PROJECT/locations/REGION/clusters/CLUSTER';
const { authority } = await labCertificates();
const client = await authority.issue({ names: ['eco-egress.pods.example'], clientAuth: true });

/** The files that it names are those of a test authority. */
function open(name: string): { readonly text: string; readonly config: Config; readonly policy: Policy } {
  const text = readFileSync(new URL(name, FOLDER), 'utf8');
  const loaded = loadConfig({ file: name, env: {}, readFile: (path) => (path.endsWith(name) ? text : path.endsWith('.key') ? client.keyPem : path.endsWith('.crt') ? client.certPem : authority.certPem) });
  if (!loaded.ok) throw new Error(`${name}: ${JSON.stringify(loaded.faults)}`);
  t.strictSame(loaded.warnings.map(({ problem }) => problem), [], `${name} has no warning`);
  return { text, config: loaded.config, policy: compilePolicy(loaded.config) };
}

const token = (subject: string): Ask['peer'] => makePeer('10.8.1.4', { token: { issuer: ISSUER, audiences: ['eco-egress'], subject } });
const asks = (policy: Policy, more: Partial<Ask>): string => {
  const verdict = decide(policy, makeAsk(more));
  return verdict.verdict === 'deny' ? verdict.code : verdict.verdict;
};
const ingress = (text: string): NetworkPolicySpec[] => [renderText('base', text.replaceAll(/^ *(?:caFile|certFile|keyFile): .*\n/gm, '').replaceAll(/tls: \{[^}]*\}/g, 'tls: {}').replaceAll(/^ +tls:\n/gm, '').replaceAll(/, tls: \{\}/g, '')).spec('NetworkPolicy', 'eco-egress')];

t.test('every example is in the table, and no other', async (t) => {
  const listed = [...readFileSync(new URL('README.md', FOLDER), 'utf8').matchAll(/\]\(([\w-]+\.yaml)\)/g)].map(([, name]) => name);
  t.strictSame(listed.toSorted(), readdirSync(FOLDER).filter((name) => /^[\w-]+\.yaml$/.test(name)).toSorted());
});

t.test('two namespaces: a token decides, whatever the address', async (t) => {
  const { text, policy } = open('two-namespaces.yaml');
  const read = { form: 'gateway', method: 'GET', path: '/api/reports/2026/11' } as const;
  const write = { form: 'gateway', method: 'POST', path: '/api/orders' } as const;
  t.equal(asks(policy, { ...read, peer: token('system:serviceaccount:reports:any') }), 'allow');
  t.equal(asks(policy, { ...write, peer: token('system:serviceaccount:orders:sender') }), 'allow');
  t.equal(asks(policy, { ...write, method: 'GET', peer: token('system:serviceaccount:reports:any') }), 'path-not-allowed');
  t.equal(asks(policy, { ...read, method: 'DELETE', peer: token('system:serviceaccount:reports:any') }), 'method-not-allowed');
  t.not(asks(policy, { ...write, peer: token('system:serviceaccount:orders:other') }), 'allow');
  t.not(asks(policy, read), 'allow', 'no token');
  t.not(asks(policy, { peer: token('system:serviceaccount:reports:any') }), 'allow', 'no tunnel');
  const network = ingress(text);
  t.ok(permits(network, 'Ingress', { namespace: 'reports' }, 8080));
  t.ok(permits(network, 'Ingress', { namespace: 'orders', labels: { app: 'sender' } }, 8080));
  t.notOk(permits(network, 'Ingress', { namespace: 'orders' }, 8080));
});

t.test('ActiveGateway: with a certificate, by name, and probed the same way', async (t) => {
  const { config, policy, text } = open('activegateway.yaml');
  t.equal(asks(policy, {}), 'allow');
  t.equal(asks(policy, { host: 'gw-a.telus.internal', port: 3129 }), 'host-not-allowed');
  const [eco] = config.destinations;
  t.match(eco, { resolve: 'parent', via: [{ name: 'activegateway', tls: { cert: client.certPem, key: client.keyPem } }] });
  t.strictSame(config.sourceIp?.probe?.via.map(({ name }) => name), ['activegateway']);
  const network = ingress(text);
  t.ok(permits(network, 'Egress', '10.60.0.7', 3129));
  t.notOk(permits(network, 'Egress', '93.184.215.14', 443), 'the partner itself is not reached from here');
});

t.test('several partners: each at its own addresses', async (t) => {
  const { config, policy, text } = open('several-partners.yaml');
  const [batch, web] = ['10.8.1.4', '10.9.1.4'].map((address) => makePeer(address));
  if (batch === undefined || web === undefined) throw new Error('two peers');
  for (const [host, port, byBatch, byWeb] of [
    ['eco-sit.telus.internal', 443, 'allow', 'allow'],
    ['eu.billing.telus.internal', 8444, 'allow', 'no-rule'],
    ['eu.billing.telus.internal', 8446, 'port-not-allowed', 'port-not-allowed'],
    ['billing.telus.internal', 443, 'host-not-allowed', 'host-not-allowed'],
    ['archive.telus.internal', 443, 'allow', 'no-rule'],
    ['archive.telus.internal', 80, 'port-not-allowed', 'port-not-allowed'],
  ] as const) {
    t.equal(asks(policy, { host, port, peer: batch }), byBatch, `batch ${host}:${port}`);
    t.equal(asks(policy, { host, port, peer: web }), byWeb, `web ${host}:${port}`);
  }
  t.strictSame(policy.steered({ scheme: 'http', host: 'archive.telus.internal', port: 80 }), { scheme: 'https', host: 'archive.telus.internal', port: 443 });
  t.equal(config.nat.ports, 8192);
  const network = ingress(text);
  t.ok(permits(network, 'Egress', '10.50.2.9', 8445) && permits(network, 'Egress', '10.51.0.7', 443));
  for (const [address, port] of [['10.51.0.8', 443], ['10.50.1.9', 8446], ['10.40.0.1', 8443]] as const) t.notOk(permits(network, 'Egress', address, port), `${address}:${port}`);
});
