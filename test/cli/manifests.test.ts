/** `manifests`: what goes where, and what it says when it cannot. */
import t, { type Test } from 'tap';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { type ManifestsOptions, runManifests } from '../../src/cli/manifests.ts';
import { renderText } from '../support/manifests/rendered.ts';
import { recordIo } from '../support/command-io.ts';

const POLICY = `version: 1
clients: { dynatrace-sit: { addresses: "\${PODS:-10.8.0.0/14}" } }
destinations: { eco: { hosts: "\${HOST:-eco.example}", ports: [443, 80], addresses: 10.40.0.0/16 } }
rules: [{ clients: dynatrace-sit, destinations: eco }]
`;

async function manifests(t: Test, options: ManifestsOptions, { policy = POLICY, env = {} }: { policy?: string; env?: Record<string, string> } = {}) {
  const directory = t.testdir({ 'egress.yaml': policy, 'settings.env': '# of the Deployment\nHOST=settings.example\n', out: {} });
  const io = recordIo(env);
  const at = (name: string | undefined): Record<string, string> => (name === undefined ? {} : { [name]: `${directory}/${name === 'settings' ? 'settings.env' : 'out'}` });
  const code = await runManifests({ config: `${directory}/egress.yaml`, ...options, ...at(options.settings && 'settings'), ...at(options.out && 'out') }, io);
  return { code, directory, out: io.out(), err: io.err() };
}

t.test('one overlay, as a stream of documents', async (t) => {
  const { code, out, err } = await manifests(t, { overlay: ['sidecar'] });
  t.equal(code, 0);
  t.equal(err, '');
  const documents = parseAllDocuments(out);
  t.strictSame(documents.flatMap(({ errors }) => errors), []);
  t.strictSame(
    documents.map((document) => document.toJS() as { kind: string; metadata: { name: string } }).map(({ kind, metadata }) => `${kind} ${metadata.name}`),
    ['ConfigMap eco-egress-policy', 'NetworkPolicy eco-egress', 'ServiceEntry eco-external', 'VirtualService eco-through-egress', 'DestinationRule eco-egress'],
  );
  t.match(documents[0]?.toJS(), { data: { 'egress.yaml': POLICY } }, 'the policy as it stands, variables and all');
  t.match(out, /^# base\/policy\.yaml\n# Rendered from the policy by "npx eco-egress manifests"/);
  t.match(out, /exportTo:\n {4}- "\."\n/, 'quoted, for readers of YAML 1.1');
});

t.test('a policy that can be read once, as from a pipe', async (t) => {
  const pipe = join(t.testdir(), 'pipe');
  execFileSync('mkfifo', [pipe]);
  spawn('sh', ['-c', 'printf "%s" "$1" > "$0"', pipe, POLICY], { stdio: 'ignore' });
  const io = recordIo();
  t.equal(await runManifests({ config: pipe, overlay: ['base'] }, io), 0);
  t.match(parseAllDocuments(io.out())[0]?.toJS(), { data: { 'egress.yaml': POLICY } });
});

t.test('where nothing can be written', async (t) => {
  const directory = t.testdir({ 'egress.yaml': POLICY, file: '' });
  const io = recordIo({});
  t.equal(await runManifests({ config: `${directory}/egress.yaml`, out: `${directory}/file/x` }, io), 1);
  t.match(io.err(), new RegExp(`${directory}/file/x cannot be written: a part of its path is a file\\. Name another directory with --out\\.\n$`));
});

t.test('below /proc, where nothing can be made', { skip: !existsSync('/proc/self') }, async (t) => {
  const directory = t.testdir({ 'egress.yaml': POLICY });
  const io = recordIo({});
  t.equal(await runManifests({ config: `${directory}/egress.yaml`, out: '/proc/x' }, io), 1);
  t.match(io.err(), /^\/proc\/x cannot be written: .*\. Name another directory with --out\.\n$/m);
});

t.test('all of them, as files', async (t) => {
  const { code, directory, out } = await manifests(t, { out: 'out' });
  t.equal(code, 0);
  const files = globSync('**/*.yaml', { cwd: `${directory}/out` }).toSorted();
  t.strictSame(files, [
    'base/network-policy.yaml',
    'base/policy.yaml',
    'components/client-environment/variables/environment.yaml',
    'components/external-service/service.yaml',
    'components/no-direct-egress/network-policy.yaml',
    'overlays/ambient/steering.yaml',
    'overlays/sidecar-tunnel/steering.yaml',
    'overlays/sidecar/steering.yaml',
  ]);
  t.strictSame(out.trim().split('\n').toSorted(), files.map((file) => `${directory}/out/${file}`));
});

t.test('the settings of the Deployment go before the environment, which fills in the rest', async (t) => {
  const { out } = await manifests(t, { overlay: ['sidecar', 'external-service'], settings: 'settings', clientNamespace: 'others' }, { env: { HOST: 'shell.example', PODS: '10.20.0.0/16' } });
  t.match(out, /sniHosts:\n\s+- settings\.example\n/);
  t.notMatch(out, 'shell.example');
  t.match(out, /loadBalancerSourceRanges:\n\s+- 10\.20\.0\.0\/16\n/);
});

t.test('namespaces and direct ranges', async (t) => {
  const { out } = await manifests(t, { overlay: ['no-mesh'], namespace: 'door', clientNamespace: 'pods' }, { policy: POLICY.replaceAll('dynatrace-sit', 'pods') });
  t.match(out, /namespace: door\n/);
  t.match(out, /kubernetes\.io\/metadata\.name: pods\n/);
  t.match(out, /HTTPS_PROXY: http:\/\/eco-egress\.door\.svc:3128\n/);
  t.notMatch(out.replace(/data:[^]*?---/, ''), 'dynatrace-sit');

  const open = await manifests(t, { overlay: ['no-direct-egress'], direct: '199.36.153.8/30, 192.0.2.7' }, { policy: POLICY.replace(', addresses: 10.40.0.0/16', '') });
  t.match(open.out, /cidr: 192\.0\.2\.7\/32\n\s+- ipBlock:\n\s+cidr: 199\.36\.153\.8\/30\n/);
  t.match(open.err, /^Note: The policy lists no addresses for eco, so NO public address is permitted on port 443 or 80\./);
});

t.test('what cannot be rendered', async (t) => {
  const table: readonly [what: string, options: ManifestsOptions, err: RegExp, policy?: string][] = [
    ['no overlay', {}, /^Say which with --overlay: base, sidecar, sidecar-tunnel, ambient, no-mesh, no-direct-egress, external-service\./],
    ['an overlay that is none', { overlay: ['sidecar', 'sidecars'] }, /^There is no overlay sidecars\. Choose one of base, /],
    ['an empty namespace, of a variable that is not set', { overlay: ['base'], namespace: '' }, /^--namespace: "" is not a namespace\. Use lower-case letters/],
    ['a namespace that Kubernetes does not know', { overlay: ['base'], clientNamespace: 'Pods of mine' }, /^--client-namespace: "Pods of mine" is not a namespace\./],
    ['a direct range that is none', { overlay: ['base'], direct: '10.0.0.1/8' }, /^--direct: "10\.0\.0\.1\/8" is an address inside a range.* Write 10\.0\.0\.0\/8/],
    ['a faulty policy', { overlay: ['base'] }, /^One fault in .*egress\.yaml/, POLICY.replace('[443, 80]', '[0]')],
    ['a listener that no other pod reaches', { overlay: ['no-mesh'] }, /^Port 3128 of the Service eco-egress leads to a listener on 127\.0\.0\.1, which no other pod reaches\. Let the policy listen on 0\.0\.0\.0:3128 and take connect there\.\n/, `${POLICY}listeners: { http: ["127.0.0.1:3128"] }\n`],
    ...['127.0.0.1:9090', '0.0.0.0:9191'].map((admin): [string, ManifestsOptions, RegExp, string] => [`probes without an answer: ${admin}`, { overlay: ['base'] }, /^The probes of the Deployment ask port 9090, .* listeners\.admin: 0\.0\.0\.0:9090\.\n$/, `${POLICY}listeners: { admin: "${admin}" }\n`]),
    ['a policy that listens elsewhere', { out: 'out' }, /^Port 8443 of the Service eco-egress leads to no listener\. Let the policy listen on 8443 and take sni there\.\n$/, `${POLICY}listeners: { tls: off }\n`],
  ];
  for (const [what, options, err, policy] of table) {
    const result = await manifests(t, options, policy === undefined ? {} : { policy });
    t.match({ code: result.code, out: result.out, err: result.err }, { code: 2, out: '', err }, what);
    t.strictSame(globSync('**/*.yaml', { cwd: `${result.directory}/out` }), [], 'nothing is written');
  }
});

t.test('a settings file that is not there', async (t) => {
  const io = recordIo();
  t.equal(await runManifests({ overlay: ['base'], settings: `${t.testdir()}/none.env` }, io), 2);
  t.match(io.err(), /^--settings: .*none\.env cannot be read/);
});

t.test('what the Deployment has otherwise than the policy needs it', async (t) => {
  const notes = async (more: string): Promise<string> => (await manifests(t, { overlay: ['base'] }, { policy: `${POLICY}${more}\n` })).err;
  t.equal(await notes('listeners: { admin: "[::]:9090" }\ntimeouts: { drain: 30s }'), '', 'five seconds are left for the last spans and lines of the log');
  t.match(await notes('timeouts: { drain: 31s }'), /^Note: timeouts\.drainDelay and drain take 36 s, and pods are killed 40 s after SIGTERM\. Patch terminationGracePeriodSeconds of the Deployment to 46 or more\.\n$/);
  t.match(await notes('timeouts: { drain: 5m }'), /^Note: timeouts\.drainDelay and drain take 305 s, and pods are killed 40 s after SIGTERM\. Patch terminationGracePeriodSeconds of the Deployment to 315 or more\.\n$/);
  t.equal(await notes('limits: { tunnels: 1401 }'), '');
  t.match(await notes('limits: { tunnels: 1400 }'), /^Note: The autoscaler adds a pod beyond 1400 open tunnels in each, and limits\.tunnels is 1400, so it never would\. Patch averageValue of the HorizontalPodAutoscaler to 980\.\n$/);
  t.match(await notes('limits: { tunnels: 4000 }'), /^Note: All limits together may take 1418 MiB .* pods have 1536 MiB\. Patch the limit of memory of the Deployment to 2304Mi\.\n$/);
  t.equal(await notes('nat: { ports: 8192 }'), '');
  t.match(await notes('nat: { ports: 8192, replicasPerNode: 2 }'), /^Note: nat\.replicasPerNode is 2, so each replica uses only that part .* Set it to 1, or patch the podAntiAffinity of the Deployment\.\n$/);
  t.match(await notes('reload: { watch: false }'), /^Note: reload\.watch is off, .*: npx eco-egress reload in each of them, or kubectl -n eco-egress rollout restart deployment\/eco-egress\n$/);
  for (const [names, said] of [[['../certificates/ca.pem', '../../etc/eco-egress/certificates/ca.pem'], []], [['ca.pem', '../tmp/ca.pem'], [/^The policy names the file ca\.pem, which pods do not have\./, /file \.\.\/tmp\/ca\.pem/]]] as const) {
    const { notes } = renderText('base', POLICY, { names });
    t.match(notes, said);
    t.equal(notes.length, said.length);
  }
});

t.test('the memory that limits take is what docs/configuration.md says', async (t) => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/configuration.md'), 'utf8').split('#### Memory')[1] ?? '';
  const read = (row: RegExp): number => Number(row.exec(page)?.[1]);
  const [tunnel, exchange, header] = [read(/^\| A tunnel \| (\d+) KiB/m), read(/^\| An exchange \| (\d+) KiB/m), read(/^\| An unfinished header section \| .* and (\d+) KiB/m)];
  const fixed = read(/^\| The process \| \| (\d+) MiB/m) + read(/^\| Buffers of tunnels .*\| (\d+) MiB/m);
  const worst = fixed + (3000 * tunnel + 2000 * exchange + 5000 * (128 + header)) / 1024;
  const { err } = await manifests(t, { overlay: ['base'] }, { policy: `${POLICY}limits: { connections: 10000, tunnels: 3000, exchanges: 2000, headerBytes: 128KiB }\n` });
  t.match(err, `All limits together may take ${Math.ceil(worst)} MiB `);
});

t.test('objects that are too large for kubectl apply, and for the API server', async (t) => {
  const padded = (bytes: number): string => `${POLICY}#${'x'.repeat(bytes)}\n`;
  t.equal((await manifests(t, { overlay: ['base'] }, { policy: padded(200_000) })).err, '');
  t.match(await manifests(t, { overlay: ['base'] }, { policy: padded(300_000) }), { code: 0, err: /^Note: ConfigMap eco-egress-policy has more than 256 KiB, which kubectl apply takes with --server-side only\.\n$/ });
  t.match(await manifests(t, { overlay: ['base'] }, { policy: padded(1_100_000) }), { code: 2, out: '', err: /^ConfigMap eco-egress-policy would have more than 1 MiB/ });
});

t.test('notes stand at the top of their file', async (t) => {
  const { directory, err } = await manifests(t, { out: 'out', overlay: ['sidecar'] }, { policy: POLICY.replace('[443, 80]', '[443, 8443]') });
  const text = readFileSync(`${directory}/out/overlays/sidecar/steering.yaml`, 'utf8');
  t.match(text, /^# Rendered .*\n# Note: eco: eco\.example:8443 is not steered\. /);
  for (const line of text.split('\n')) t.ok(line.length < 120, line);
  t.match(err, /^Note: eco: eco\.example:8443 is not steered\. /m);
});
