/** deploy/terraform: judged as `terraform validate` and `terraform fmt` would, run where terraform is, and compared with what takes its outputs. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { readDocRows } from '../support/doc-table.ts';
import { EXTERNAL_SERVICE } from '../../src/manifests/placement.ts';
import { judgeModule } from '../support/terraform.ts';
import type { Module, Schema } from '../support/terraform.ts';

const ROOT = join(import.meta.dirname, '../..');
const FOLDER = join(ROOT, 'deploy/terraform');
const schema = JSON.parse(readFileSync(join(import.meta.dirname, 'google-provider.json'), 'utf8')) as Schema;

function readModule(folder: string): Module {
  return {
    files: new Map(globSync('*.tf', { cwd: folder }).toSorted().map((file) => [file, readFileSync(join(folder, file), 'utf8')])),
    modules: new Map(globSync('modules/*', { cwd: folder }).map((path) => [`./${path}`, readModule(join(folder, path))])),
  };
}
const module = readModule(FOLDER);
const portPlan = readModule(join(FOLDER, 'modules/port-plan'));
const text = [...module.files.values()].join('\n');
const names = (kind: 'variable' | 'output'): string[] => [...text.matchAll(new RegExp(`^${kind} "(\\w+)"`, 'gm'))].map(([, name = '']) => name);

t.test('nothing is wrong with it', async (t) => {
  t.strictSame(await judgeModule(module, schema), []);
  t.strictSame(await judgeModule(portPlan, schema), []);
});

const BREAK: readonly (readonly [file: string, from: string | RegExp, to: string, fault: RegExp])[] = [
  ['nat.tf', 'min_ports_per_vm ', 'min_port_per_vm  ', /google_compute_router_nat.proxy: no argument min_port_per_vm/],
  ['nat.tf', '      match       = var.private_nat_match\n', '', /google_compute_router_nat.proxy.rules: match is required/],
  ['nat.tf', '  router  = google_compute_router.proxy.name\n', '', /router is required/],
  ['nat.tf', 'source_nat_active_ranges', 'source_nat_active_range', /rules.action: no argument/],
  ['nat.tf', 'google_compute_router.proxy.name', 'google_compute_router.proxies.name', /nothing called google_compute_router.proxies/],
  ['nat.tf', 'google_compute_subnetwork.proxy.self_link', 'google_compute_subnetwork.proxy.selflink', /no such attribute/],
  ['nat.tf', 'module.port_plan.ports_per_node', 'module.port_plan.ports', /no output module.port_plan.ports/],
  ['nat.tf', '  nodes_surge       = var.nodes_surge\n', '', /module port_plan: nodes_surge is required/],
  ['nat.tf', 'time_wait_seconds =', 'time_wait_second  =', /module port_plan: no variable time_wait_second/],
  ['nat.tf', 'lifecycle {', 'lifecycle', /nat.tf:/],
  ['nat.tf', '  count = var.nat_enabled', '  count =  var.nat_enabled', /not as terraform fmt/],
  ['nat.tf', '  log_config {', '   log_config {', /not as terraform fmt/],
  ['address.tf', 'google_compute_address.nat[*].self_link', 'google_compute_address.nat[*].link', /no such attribute/],
  ['alerts.tf', 'each.value.severity', 'eech.value.severity', /nothing called eech/],
  ['alerts.tf', 'resource "google_monitoring_alert_policy"', 'resource "google_monitoring_alerts"', /not in the schema/],
  ['nodes.tf', 'enable_private_nodes = true', 'private_nodes        = true', /network_config: no argument private_nodes/],
  ['nodes.tf', 'ignore_changes = [initial_node_count]', 'ignore_changes = [initial_nodes]', /no argument initial_nodes to ignore/],
  ['nodes.tf', 'local.node_tag', 'local.node_tags', /no local node_tags/],
  ['nodes.tf', 'var.machine_type', '"e2-standard-2"', /variable machine_type: not used/],
  ['locals.tf', '  pod_range_name = ', '  spare          = 1\n  pod_range_name = ', /local spare: not used/],
  ['variables.tf', /(variable "machine_type" \{\n {2}type {8}= string\n.*\n).*\n/, '$1', /variable machine_type: no description/],
  ['variables.tf', /(variable "machine_type" \{\n).*\n/, '$1', /variable machine_type: no type/],
  ['variables.tf', 'condition     = var.location == var.region ||', 'condition     = var.region == var.region ||', /^$/],
  ['variables.tf', 'condition     = contains(["PUBLIC", "PRIVATE"], var.nat_type)', 'condition     = contains(["PUBLIC", "PRIVATE"], var.name)', /validation is about something else/],
  ['outputs.tf', /(output "nat_ports" \{\n).*\n/, '$1', /output nat_ports: no description/],
  ['outputs.tf', 'var.time_wait_seconds', 'var.time_wait', /no variable time_wait/],
  ['versions.tf', '>= 7.35.0, < 8.0.0', '>= 7.35.0', /provider google: no range/],
  ['versions.tf', '  required_version = ">= 1.9.0"\n', '', /no required_version/],
];

t.test('whatever breaks it is found', async (t) => {
  for (const [file, from, to, fault] of BREAK) {
    const before = module.files.get(file) ?? '';
    const after = before.replace(from, to);
    t.not(after, before, `${file}: ${String(from)} is there`);
    const faults = await judgeModule({ ...module, files: new Map([...module.files, [file, after]]) }, schema);
    if (fault.source === '^$') t.strictSame(faults, [], 'the neighbour that is right');
    else t.ok(faults.some((one) => fault.test(one)), `${file}: ${String(from)} -> ${to}`, { faults });
  }
});

const TERRAFORM = ['terraform', 'tofu'].find((name) => spawnSync(name, ['-version'], { stdio: 'ignore' }).status === 0);

t.test('terraform itself', { skip: TERRAFORM === undefined && 'neither terraform nor tofu is here: fmt and the port plan are not run' }, async (t) => {
  const copy = t.testdir({ 'no.rc': '' });
  const run = (folder: string, ...args: string[]) =>
    spawnSync(TERRAFORM ?? '', args, { cwd: folder, encoding: 'utf8', env: { PATH: process.env['PATH'], HOME: copy, CHECKPOINT_DISABLE: '1', TF_CLI_CONFIG_FILE: join(copy, 'no.rc') } });
  t.match(run(FOLDER, 'fmt', '-check', '-recursive', '-no-color'), { status: 0, stdout: '' }, 'the files are formatted');
  // It needs no provider, so nothing is fetched.
  const plan = join(copy, 'port-plan');
  cpSync(join(FOLDER, 'modules/port-plan'), plan, { recursive: true });
  t.match(run(plan, 'init', '-backend=false', '-input=false', '-no-color'), { status: 0 });
  t.match(run(plan, 'test', '-no-color'), { status: 0, stdout: /[1-9]\d* passed, 0 failed/ }, 'the port plan plans as its tests say');
});

t.test('the page names what is there', async (t) => {
  const page = readFileSync(join(FOLDER, 'README.md'), 'utf8');
  const known = new Set([...names('variable'), ...names('output'), ...Object.entries(schema).flatMap(([path, spec]) => [...path.split('.'), ...Object.values(spec).flat()])]);
  const elsewhere = ['additional_ip_ranges_config', 'ip_allocation_policy', 'source_ip_match', 'eco_egress_source_ip_match', 'prevent_destroy'];
  for (const [, name = ''] of page.matchAll(/`([a-z]+(?:_[a-z]+)+)\b[^`]*`/g)) t.ok(known.has(name) || elsewhere.includes(name), name);
  for (const [, target = ''] of page.matchAll(/\]\(([^)#]+)/g)) t.ok(existsSync(join(FOLDER, target)), target);
  // With the values of terraform.tfvars.example, which a validation refuses beside PRIVATE.
  t.match(page, /private_nat_cidr += .*\nexisting_address_names = \[\]\nexpected_addresses {5}= \[\]\n```/);
  for (const [, path = ''] of text.matchAll(/\((docs\/[\w-]+\.md)\)/g)) t.match(readFileSync(join(ROOT, path), 'utf8'), /opens? a connection (?:per|for each) request/i, path);
  const files = readDocRows('deploy/terraform/README.md').map(([path = '']) => path);
  for (const file of module.files.keys()) t.ok(files.includes(file) || ['versions.tf', 'locals.tf'].includes(file), `${file} is in its table`);
  const example = readFileSync(join(FOLDER, 'terraform.tfvars.example'), 'utf8');
  for (const [, name = ''] of example.matchAll(/^(\w+) +=/gm)) t.ok(names('variable').includes(name), `terraform.tfvars.example: ${name}`);
  t.strictSame(globSync('**/*.tf', { cwd: FOLDER }).filter((file) => !['.', 'port-plan'].includes(basename(dirname(file)))), [], 'every folder is judged above');
});

t.test('the pods find its nodes, and the Service its address', async (t) => {
  const kubernetes = (path: string): unknown => parseYaml(readFileSync(join(ROOT, 'deploy/kubernetes', path), 'utf8'));
  const preset = (name: string): string => new RegExp(`variable "${name}" \\{[^}]*?default += "?([^"\\n]+)`).exec(text)?.[1] ?? '';
  const name = preset('name');
  t.match(text, /value += \{ "cloud\.google\.com\/gke-nodepool" = var\.name \}/);
  t.match(text, /taint_key += "dedicated"/);
  t.match(text, /value += \{ key = local\.taint_key, operator = "Equal", value = var\.name, effect = "NoSchedule" \}/);
  t.match(kubernetes('components/gke-node-pool/node-pool.yaml'), {
    spec: { template: { spec: {
      nodeSelector: { 'cloud.google.com/gke-nodepool': name },
      tolerations: [{ key: 'dedicated', operator: 'Equal', value: name, effect: 'NoSchedule' }],
    } } },
  });
  t.match(text, `"\${var.name}-external"`);
  t.equal(EXTERNAL_SERVICE, `${name}-external`);
  t.match(kubernetes('base/horizontal-pod-autoscaler.yaml'), { spec: { minReplicas: Number(preset('nodes_min')) - 1, maxReplicas: Number(preset('nodes_max')) - 1 } }, 'a node for each replica, and one for the rollout');
});

t.test('its outputs are what the proxy is configured with', async (t) => {
  const keys = readDocRows('docs/configuration.md').map(([key]) => key);
  const [config = ''] = /yamlencode\([^]*?\n {2}\}\)/.exec(text) ?? [];
  for (const [block, key] of [['sourceIp', 'expected'], ['nat', 'ports'], ['nat', 'replicasPerNode'], ['nat', 'timeWait']] as const) {
    t.match(config, new RegExp(`\\b${block} += \\{[^}]*\\b${key} +=`), `egress_config has ${block}.${key}`);
    t.ok(keys.includes(`${block}.${key}`), `docs/configuration.md has ${block}.${key}`);
  }
});

t.test('what its README names is there', async (t) => {
  const named = [...readFileSync(join(FOLDER, 'README.md'), 'utf8').matchAll(/`(deploy\/[\w./-]+)`/g)].map(([, path = '']) => path);
  t.not(named.length, 0);
  for (const path of named) t.ok(existsSync(join(ROOT, path)), path);
});
