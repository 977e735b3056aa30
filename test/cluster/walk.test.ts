/** docs/deploy-gke.md, walked with its own commands: kubectl is the real one, the API server a small one. */
import t, { type Test } from 'tap';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { parse, stringify } from 'yaml';
import { startApiServer } from '../support/api-server.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { buildAll, TREE } from '../support/manifests/builds.ts';
import { build, BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { createKubectl } from './kubectl.ts';

t.setTimeout(300_000);

interface Kustomization {
  resources?: string[];
  components?: string[];
}

const blocks = readDocBlocks('docs/deploy-gke.md');
const page = readFileSync(new URL('../../docs/deploy-gke.md', import.meta.url), 'utf8');
const commands = blocks.filter(({ language }) => language === 'shell').flatMap(({ text }) => text.trimEnd().split('\n'));
const [first, , , locked] = blocks.filter(({ language }) => language === 'yaml').map(({ text }) => parse(text) as Kustomization);

/** The one command of the page that is like this. */
function command(pattern: RegExp): string {
  const [found, ...more] = [...new Set(commands.filter((one) => pattern.test(one)))];
  if (found === undefined || more.length > 0) throw new Error(`${String(pattern)} is ${found === undefined ? 'no command' : 'several commands'} of the page`);
  return found;
}

const ISTIO = 'networking.istio.io/v1';
const HOST = 'eco-sit.telus.internal';

/** Routes by an egress gateway, with fields that ours lack: a merge would leave these behind. */
const before = (namespace: string): KubeObject[] => [
  { apiVersion: ISTIO, kind: 'ServiceEntry', metadata: { name: 'eco-sit-external', namespace, labels: { app: 'before' } }, spec: { hosts: [HOST], location: 'MESH_EXTERNAL', resolution: 'STATIC', endpoints: [{ address: '198.51.100.7' }], ports: [{ number: 443, name: 'tls', protocol: 'TLS' }] } },
  { apiVersion: ISTIO, kind: 'VirtualService', metadata: { name: 'eco-sit-through-egress', namespace }, spec: { hosts: [HOST], gateways: ['mesh', 'istio-system/eco-egress'], tcp: [{ match: [{ port: 444 }], route: [{ destination: { host: 'istio-egressgateway-external.istio-system.svc.cluster.local', port: { number: 444 } } }] }], tls: [{ match: [{ gateways: ['mesh'], port: 443, sniHosts: [HOST] }], route: [{ destination: { host: 'istio-egressgateway-external.istio-system.svc.cluster.local', port: { number: 443 } } }] }] } },
];

const said = ({ metadata, spec }: KubeObject): unknown => ({ labels: metadata.labels ?? {}, spec });
const pathOf = ({ apiVersion, kind, metadata }: KubeObject): string => `/apis/${apiVersion}/namespaces/${metadata.namespace ?? ''}/${kind.toLowerCase().replace(/([^aeiou])y$/, '$1ie')}s/${metadata.name}`;

const [builder] = BUILDERS;
if (spawnSync('kubectl', ['version', '--client']).status !== 0 || builder === undefined || first === undefined || locked === undefined) t.comment('kubectl or kustomize is not here: nothing was applied');
else {
  const kinds = new Set([...buildAll(builder).values()].flatMap((built) => readObjects(built).map(({ apiVersion, kind }) => `${apiVersion}/${kind}`))).add('v1/Pod');

  const start = async (t: Test, oldNamespace: string) => {
    const server = await startApiServer(t, { kinds, namespaces: ['dynatrace-sit', 'istio-system'], clientSide: true });
    const root = dirname(server.kubeconfig);
    for (const part of ['kubernetes', 'monitoring']) cpSync(join(TREE, '..', part), join(root, 'deploy', part), { recursive: true });
    const mine = join(root, 'deploy/kubernetes/overlays/mine');
    mkdirSync(mine);
    const write = (kustomization: Kustomization): KubeObject[] => {
      writeFileSync(join(mine, 'kustomization.yaml'), stringify(kustomization));
      return readObjects(build(mine, builder));
    };
    const run = async (line: string): Promise<string> => {
      const child = spawn('bash', ['-c', line.replaceAll('OLD_NAMESPACE', oldNamespace)], { cwd: root, env: { ...process.env, KUBECONFIG: server.kubeconfig, HOME: root }, stdio: ['ignore', 'pipe', 'pipe'] });
      const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number]>]);
      t.equal(code, 0, `${line}\n${err}`);
      return out;
    };
    const old = before(oldNamespace);
    const created = await createKubectl(server.kubeconfig).run(['create', '--filename', '-'], old);
    t.ok(created.ok, created.err);
    return { server, run, write, old };
  };
  t.test('its own pods pass where the standard "restricted" is enforced, and where a quota wants requests and limits', async (t) => {
    const { run } = await start(t, 'istio-system');
    const lines = commands.filter((one) => one.includes(' run eco-try '));
    t.equal(lines.length, 2);
    for (const line of lines) {
      const { spec } = JSON.parse(await run(line.replace(' --rm -i ', ' --dry-run=client -o json '))) as KubeObject;
      t.match(spec, {
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [{ image: /curl/, securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } }, resources: { requests: { cpu: /./, memory: /./ }, limits: { cpu: /./, memory: /./ } } }],
      });
    }
  });
  const has = (server: { objects: ReadonlyMap<string, KubeObject> }, object: KubeObject): KubeObject | undefined => server.objects.get(pathOf(object));

  for (const overlay of ['sidecar', 'ambient']) for (const oldNamespace of ['dynatrace-sit', 'istio-system']) t.test(`${overlay}, old routes in ${oldNamespace}: there and back`, async (t) => {
    const { server, run, write, old } = await start(t, oldNamespace);
    await run(command(/> before\.yaml$/));

    write({ ...first, resources: ['../../base'] });
    await run(command(/^kubectl apply -f .*namespace\.yaml$/));
    await run(command(/^kubectl apply -k/));
    for (const object of old) t.strictSame(said(has(server, object) ?? object), said(object), 'step 4 touches no client');

    const cutOver = server.changes.length;
    if (oldNamespace === 'dynatrace-sit') await run(command(/^kubectl apply set-last-applied/));
    const steered = write({ ...first, resources: [`../${overlay}`] }).filter(({ metadata }) => metadata.namespace === 'dynatrace-sit');
    await run(command(/^kubectl apply -k/));
    for (const object of steered) t.strictSame(said(has(server, object) ?? { ...object, spec: null }), said(object), `${object.kind} is ours, and nothing of another is in it`);
    if (oldNamespace !== 'dynatrace-sit') {
      for (const kind of ['virtualservice', 'serviceentry']) await run(command(new RegExp(`^kubectl -n OLD_NAMESPACE patch ${kind}/`)));
      for (const object of old) t.strictSame(has(server, object)?.spec, { ...(object.spec as object), exportTo: ['.'] });
    }

    write({ ...first, resources: [`../${overlay}`], components: [...(first.components ?? []), ...(locked.components ?? [])] });
    await run(command(/^kubectl apply -k/));
    const lock = '/apis/networking.k8s.io/v1/namespaces/dynatrace-sit/networkpolicies/no-direct-egress';
    t.ok(server.objects.has(lock));
    await run(/^\*\*Back:\*\* `(kubectl -n dynatrace-sit delete networkpolicy[^`]*)`/m.exec(page)?.[1] ?? 'false');
    t.notOk(server.objects.has(lock), 'step 8 is undone');

    await run(command(/^kubectl replace/));
    if (oldNamespace !== 'dynatrace-sit') await run(command(/^kubectl delete -f .*steering\.yaml$/).replace('overlays/sidecar/', `overlays/${overlay}/`));
    else {
      await run(command(/^kubectl -n dynatrace-sit delete destinationrule/));
      if (overlay === 'ambient') await run(command(/^kubectl -n dynatrace-sit delete gateways/));
    }
    for (const object of old) t.strictSame(said(has(server, object) ?? { ...object, spec: null }), said(object), `${object.kind} is the former one again`);
    t.strictSame([...server.objects.keys()].filter((path) => path.includes('/dynatrace-sit/')).sort(), oldNamespace === 'dynatrace-sit' ? old.map(pathOf).sort() : [], 'and nothing of ours is left');
    write({ ...first, resources: ['../../base'] });
    const proxy = '/apis/apps/v1/namespaces/eco-egress/deployments/eco-egress';
    t.ok(server.objects.has(proxy), 'the proxy stays until step 4 is undone too');
    await run(/^\*\*Back:\*\* `(kubectl delete [^`]*-k [^`]*)`/m.exec(page)?.[1] ?? 'false');
    t.strictSame([...server.objects.keys()].filter((path) => path.includes('/eco-egress')), []);
    t.strictSame(server.changes.slice(cutOver).filter((change) => old.some((object) => change === `DELETE ${pathOf(object)}`)), [], 'at no time was there no route');
  });
}
