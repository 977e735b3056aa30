/** npm run cluster, against a small API server: kubectl is the real one. What a real server says besides is for people who have a cluster. */
import t, { type Test } from 'tap';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type ApiServerOptions, startApiServer } from '../support/api-server.ts';
import { FULL } from '../support/full.ts';
import { buildAll } from '../support/manifests/builds.ts';
import { BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { lostOf } from './compare.ts';
import { createKubectl } from './kubectl.ts';
import { type Build, tryBuilds } from './try-builds.ts';

t.setTimeout(300_000);

t.test('what a server made of an object', async (t) => {
  for (const [sent, kept, lost] of [
    [{ a: 1, b: [{ name: 'x', v: 1 }] }, { a: 1, more: true, b: [{ name: 'other' }, { name: 'x', v: 1, preset: 2 }] }, []],
    [{ a: { b: 1 } }, { a: {} }, ['a.b: 1 was sent, and is gone']],
    [{ a: { b: 1 } }, {}, ['a: is gone']],
    [{ a: {} }, {}, []],
    [{ a: '1000m' }, { a: '1' }, ['a: "1000m" was sent, the server has "1"']],
    [{ a: [1, 2] }, { a: [1] }, ['a[1]: 2 was sent, and is gone']],
    [{ a: [{ name: 'x' }] }, { a: [{ name: 'y' }] }, ['a[0]: is gone']],
    [{ a: [1] }, { a: 1 }, ['a: is no list any more']],
  ] as const) t.strictSame(lostOf(sent, kept), lost, JSON.stringify(sent));
});

const [builder] = BUILDERS;
const hasKubectl = spawnSync('kubectl', ['version', '--client']).status === 0;
if (!hasKubectl || builder === undefined) t.comment('kubectl or kustomize is not here: nothing was applied');
else {
  const builds: Build[] = [...buildAll(builder)].map(([name, built]) => ({ name, objects: readObjects(built) }));
  const ALL = new Set(builds.flatMap(({ objects }) => objects.map(({ apiVersion, kind }) => `${apiVersion}/${kind}`)));
  const OURS = [...ALL].filter((kind) => !/istio|monitoring|gateway\.networking/.test(kind));
  const base = builds.filter(({ name }) => name === 'base');

  const attempt = async (t: Test, options: Partial<ApiServerOptions> = {}, tried: readonly Build[] = base, crds: readonly KubeObject[] = []) => {
    const server = await startApiServer(t, { kinds: ALL, ...options });
    const said: string[] = [];
    const faults = await tryBuilds({ kubectl: createKubectl(server.kubeconfig), builds: tried, crds, say: (line) => said.push(line) });
    return { server, said, faults };
  };

  t.test('base and overlays: twice, and gone again', async (t) => {
    const tried = builds.filter(({ name }) => ['base', 'overlays/sidecar'].includes(name));
    const { server, said, faults } = await attempt(t, { namespaces: ['default'] }, tried);
    t.strictSame(faults, []);
    t.strictSame(said, tried.map(({ name, objects }) => `ok   ${name}: ${objects.length} objects, applied twice`));
    t.strictSame([...server.objects.keys()], ['/api/v1/namespaces/default'], 'and nothing of others');
    const times = (path: string): number => server.changes.filter((change) => change === `PATCH ${path}`).length;
    t.equal(times('/apis/apps/v1/namespaces/eco-egress/deployments/eco-egress'), 4);
    t.equal(times('/apis/networking.istio.io/v1/namespaces/dynatrace-sit/virtualservices/eco-sit-through-egress'), 2);
  });

  t.test('what the server does otherwise is a fault', async (t) => {
    const isDeployment = ({ kind }: KubeObject): boolean => kind === 'Deployment';
    const without = (object: KubeObject, field: string): KubeObject => ({ ...object, spec: Object.fromEntries(Object.entries(object.spec as object).filter(([key]) => key !== field)) });
    for (const [what, options, says] of [
      ['pruned', { keep: (object) => (isDeployment(object) ? without(object, 'strategy') : object) }, /^base: apps\/v1\/Deployment eco-egress\/eco-egress: spec\.strategy: is gone$/],
      ['changed the second time', { keep: (object, again) => (again && isDeployment(object) ? without(object, 'revisionHistoryLimit') : object) }, /changes when it is applied again: spec\.revisionHistoryLimit: 5 was sent, and is gone$/],
      ['refused', { refuse: (object) => (object.kind === 'Service' ? 'spec.ports: Invalid value' : null) }, /^base: .*spec\.ports: Invalid value/],
      ['a warning', { warn: (object) => (isDeployment(object) ? 'would violate PodSecurity' : null) }, /^base: Warning: would violate PodSecurity$/],
    ] as readonly [string, Partial<ApiServerOptions>, RegExp][]) {
      const { server, faults } = await attempt(t, options);
      t.ok(faults.length > 0 && faults.every((fault) => says.test(fault)), what, { faults });
      t.strictSame([...server.objects.keys()], [], `${what}: and gone again`);
    }
  });

  t.test('a server that has an installation is left alone', async (t) => {
    const server = await startApiServer(t, { kinds: ALL, namespaces: ['eco-egress'] });
    await t.rejects(tryBuilds({ kubectl: createKubectl(server.kubeconfig), builds: base, crds: [], say: () => {} }), /has the namespace eco-egress already\. Nothing was changed/);
    t.strictSame(server.changes, []);
  });

  t.test('a namespace of the clients that was there stays', async (t) => {
    const { server, faults } = await attempt(t, { namespaces: ['dynatrace-sit'] }, builds.filter(({ name }) => name === 'overlays/sidecar'));
    t.strictSame(faults, []);
    t.strictSame([...server.objects.keys()], ['/api/v1/namespaces/dynatrace-sit']);
  });

  const CRD: KubeObject = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'podmonitors.monitoring.coreos.com' }, spec: { group: 'monitoring.coreos.com', names: { kind: 'PodMonitor', plural: 'podmonitors' }, scope: 'Namespaced', versions: [{ name: 'v1', served: true, storage: true, schema: {} }] } };

  t.test('kinds that the server lacks are left out and named; CRDs are brought along and taken away', async (t) => {
    const operator = builds.filter(({ name }) => name === 'overlays/prometheus-operator');
    const lacking = await attempt(t, { kinds: OURS }, operator);
    t.match(lacking.said, [/^ok {3}overlays\/prometheus-operator: \d+ objects, applied twice, 2 left out$/, /^left out, since the server does not know them: monitoring\.coreos\.com\/v1\/PodMonitor, monitoring\.coreos\.com\/v1\/PrometheusRule$/]);
    const brought = await attempt(t, { kinds: OURS }, operator, [CRD]);
    t.match(brought.said, [/, 1 left out$/, /: monitoring\.coreos\.com\/v1\/PrometheusRule$/]);
    t.ok(brought.server.changes.includes('PATCH /apis/monitoring.coreos.com/v1/namespaces/eco-egress/podmonitors/eco-egress'));
    for (const { faults, server } of [lacking, brought]) {
      t.strictSame(faults, []);
      t.strictSame([...server.objects.keys()], []);
    }
  });

  t.test('the command', async (t) => {
    const server = await startApiServer(t, { kinds: [...OURS, 'v1/ServiceAccount'] });
    const crds = join(dirname(server.kubeconfig), 'crds');
    mkdirSync(crds);
    writeFileSync(join(crds, 'one.yaml'), JSON.stringify(CRD));
    const run = async (env: Record<string, string>, ...names: string[]): Promise<[number, string]> => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), ...names], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
      const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number]>]);
      return [code, out + err];
    };
    t.match(await run({ KUBECONFIG: '' }), [2, /^cluster: KUBECONFIG names no file/]);
    t.match(await run({ KUBECONFIG: server.kubeconfig }, 'base', 'overlay/sidecar'), [2, /^not found: overlay\/sidecar\. There are base, [^\n]*overlays\/sidecar, /]);
    t.strictSame(server.changes, []);
    const [code, said] = await run({ KUBECONFIG: server.kubeconfig, CRDS: crds }, ...(FULL ? [] : ['base', 'components/no-direct-egress']));
    t.equal(code, 0, said);
    t.match(said, /^ok {3}base: \d+ objects, applied twice\n[^]*ok {3}components\/no-direct-egress: [^\n]*\n[^]*all of it was taken, twice, as it was sent, and is gone again\n$/);
    t.strictSame([...server.objects.keys()], []);
  });
}
