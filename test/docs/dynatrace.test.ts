/** docs/clients/dynatrace.md: its policies load and let these pods in, its resources use our names, and the operator's CRDs take them where they are given. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { configOf } from '../support/load-text.ts';
import { readCrds } from '../support/manifests/crds.ts';
import { type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { type NetworkPolicySpec, permits } from '../support/manifests/network.ts';
import { renderText } from '../support/manifests/rendered.ts';

const PAGE = 'docs/clients/dynatrace.md';
const blocks = readDocBlocks(PAGE).filter(({ language }) => language === 'yaml');
const policies = blocks.filter(({ file }) => file === 'policy').map(({ text }) => `version: 1\n${text}`);
const objects = blocks.filter(({ file }) => file !== 'policy').flatMap(({ text }) => readObjects(text));
const PROXY = 'http://eco-egress.eco-egress.svc:3128';
const TENANT = /^abc12345\.(live|apps)\.dynatrace\.com/;

t.test('its policies let pods of dynatrace in, and the second one the tenant', async (t) => {
  t.equal(policies.length, 2);
  for (const text of policies) {
    const rendered = renderText('base', text);
    t.strictSame(rendered.notes, []);
    const network: NetworkPolicySpec[] = [rendered.spec('NetworkPolicy', 'eco-egress')];
    for (const namespace of ['dynatrace', 'dynatrace-sit']) t.ok(permits(network, 'Ingress', { namespace }, 3128), namespace);
    t.notOk(permits(network, 'Ingress', { namespace: 'default' }, 3128));
  }
  t.strictSame(policies.map((text) => configOf(text).destinations.map(({ name }) => name)), [['eco-sit'], ['eco-sit', 'tenant']]);
});

t.test('its resources lead to our Service, and never the tenant to it', async (t) => {
  t.ok(objects.length >= 6);
  for (const object of objects) {
    const text = JSON.stringify(object);
    for (const [url] of text.matchAll(/https?:\/\/[^"]*eco-egress[^"]*/g)) t.equal(url.replace(/\/\/[^@/]*@/, '//'), PROXY, object.kind);
    const { proxy, apiUrl, activeGate } = (object.spec ?? {}) as { proxy?: { value?: string; valueFrom?: string; host?: string; port?: number; noProxy?: string }; apiUrl?: string; activeGate?: { env?: { name: string; value: string }[]; customProperties?: { value: string } } };
    if (object.kind === 'DynaKube') {
      t.match(new URL(apiUrl ?? '').hostname, TENANT);
      const properties = activeGate?.customProperties?.value;
      if (properties !== undefined) {
        const sections = new Map(properties.split(/^\[/m).slice(1).map((section) => [section.slice(0, section.indexOf(']')), section] as const));
        t.strictSame([...sections].filter(([, section]) => section.includes('proxy-server=')).map(([name]) => name), ['synthetic'], 'the monitors alone');
        t.match(sections.get('synthetic'), /proxy-server=eco-egress\.eco-egress\.svc\nproxy-port=3128\n/);
        for (const name of ['http.client.internal', 'kubernetes_monitoring']) t.match(sections.get(name), 'proxy-off=true');
        continue;
      }
      const excluded = object.metadata.annotations?.['feature.dynatrace.com/no-proxy'] ?? activeGate?.env?.find(({ name }) => name === 'NO_PROXY')?.value ?? '';
      t.ok(excluded.split(',').includes(new URL(apiUrl ?? '').hostname), `${object.kind}: the tenant goes past the proxy`);
      for (const name of ['HTTPS_PROXY', 'NO_PROXY']) t.equal(activeGate?.env?.find((one) => one.name === name)?.value, activeGate?.env?.find((one) => one.name === name.toLowerCase())?.value, 'both cases');
      if (proxy?.valueFrom !== undefined) {
        const secret = objects.find(({ kind, metadata }) => kind === 'Secret' && metadata.name === proxy.valueFrom) as (KubeObject & { stringData: Record<string, string> }) | undefined;
        t.ok(secret?.stringData['proxy'], 'the key that the operator reads');
      }
    }
    if (object.kind === 'EdgeConnect') {
      t.equal(`http://${proxy?.host}:${proxy?.port}`, PROXY);
      t.match(proxy?.noProxy, TENANT);
    }
  }
});

t.test('the annotation is the one that our component has', async (t) => {
  const scrape = readFileSync(new URL('../../deploy/kubernetes/components/dynatrace/scrape.yaml', import.meta.url), 'utf8');
  t.match(scrape, 'metrics.dynatrace.com/scrape: "true"');
  t.match(readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8'), 'metrics.dynatrace.com/scrape');
});

const FOLDER = process.env['CRDS'];
if (FOLDER === undefined) t.comment('CRDS names no folder: the resources were not held to the CRDs of Dynatrace Operator');
else {
  t.test('the operator takes them', async (t) => {
    const server = readCrds(FOLDER);
    const custom = objects.filter(({ apiVersion }) => apiVersion.startsWith('dynatrace.com/'));
    t.strictSame([...new Set(custom.map(({ kind }) => kind))].toSorted(), ['DTPrometheus', 'DynaKube', 'EdgeConnect']);
    for (const object of custom) t.strictSame(server.admit(object).faults, [], `${object.kind} ${object.metadata.name}`);
  });
}
