/** How long a shutdown may take, wherever that is written: it is longer than the drain of the shipped configuration. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { POD } from '../../src/manifests/placement.ts';

const ROOT = join(import.meta.dirname, '../..');

/** For what follows the drain: cut connections are logged, the admin port closes, the log is written. */
const SPARE_SECONDS = 5;

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const found = (path: string, pattern: RegExp): string => {
  const [, text] = pattern.exec(read(path)) ?? [];
  if (text === undefined) throw new Error(`${path} has no ${pattern.source}`);
  return text;
};

const loaded = loadConfig({ file: join(ROOT, 'deploy/config/egress.yaml'), env: {}, readFile: (path) => readFileSync(path, 'utf8') });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
const delay = loaded.config.timeouts.drainDelay / 1000;
const window = loaded.config.timeouts.drain / 1000;

t.test('what stops the proxy waits for longer than it drains', async (t) => {
  const { services } = parse(read('docker-compose.yml')) as { services: Record<string, { stop_grace_period?: string }> };
  const periods = {
    'Kubernetes': Number(found('deploy/kubernetes/base/deployment.yaml', /^ +terminationGracePeriodSeconds: (\d+)$/m)),
    'Docker Compose': Number.parseInt(services['eco-egress']?.stop_grace_period ?? '', 10),
    'systemd': Number(found('deploy/systemd/eco-egress.service', /^TimeoutStopSec=(\d+)$/m)),
    'docker run, in docs/container.md': Number(found('docs/container.md', /--stop-timeout (\d+)/)),
  };
  for (const [who, seconds] of Object.entries(periods)) t.ok(seconds >= delay + window + SPARE_SECONDS, `${who}: ${seconds} s`);
});

t.test('both policies that are shipped drain alike, and nothing else delays the signal', async (t) => {
  const [, inCluster = ''] = /^ {4,}drain: (\S.*)$/m.exec(read('deploy/kubernetes/base/policy.yaml')) ?? [];
  t.equal(found('deploy/config/egress.yaml', /^ +drain: (\S.*)$/m), inCluster);
  t.equal(found('deploy/config/egress.yaml', /^ +drainDelay: (\S.*)$/m), found('deploy/kubernetes/base/policy.yaml', /^ +drainDelay: (\S.*)$/m));
  const [deployment] = parseAllDocuments(read('deploy/kubernetes/base/deployment.yaml')).map((document) => document.toJS() as { spec: { template: { spec: { containers: { lifecycle?: unknown }[] } } } });
  for (const container of deployment?.spec.template.spec.containers ?? []) t.equal(container.lifecycle, undefined, 'a preStop would take from the grace period');
});

t.test('what the pages, and the rendered manifests, say of it', async (t) => {
  const grace = found('deploy/kubernetes/base/deployment.yaml', /^ +terminationGracePeriodSeconds: (\d+)$/m);
  t.equal(POD.grace, Number(grace));
  t.equal(POD.scaleAt, Number(found('deploy/kubernetes/base/horizontal-pod-autoscaler.yaml', /^ +averageValue: "(\d+)"$/m)));
  t.equal(`${POD.memory}Mi`, found('deploy/kubernetes/base/deployment.yaml', /^ +limits:\n +memory: (\w+)$/m));
  for (const directory of [POD.policy, POD.certificates]) t.match(read('deploy/kubernetes/base/deployment.yaml'), `mountPath: ${directory},`);
  t.match(read('deploy/kubernetes/README.md'), `| \`${grace}\` | \`base/deployment.yaml\` | Seconds from SIGTERM to SIGKILL: \`drainDelay\` ${delay}, \`drain\` ${window},`);
  t.match(read('docs/deploy-gke.md'), `its tunnels are ended evenly over ${window} s`);
  t.match(read('docs/operations.md'), `\`timeouts.drainDelay\` + \`timeouts.drain\`, ${delay + window} s as shipped`);
  t.match(read('docs/container.md'), `(${delay + window} s)`);
  t.match(read('deploy/systemd/README.md'), `has ${found('deploy/systemd/eco-egress.service', /^TimeoutStopSec=(\d+)$/m)} s`);
});
