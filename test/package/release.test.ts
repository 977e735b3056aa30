/** What publishes a release: workflows call what is there, by commits; the scripts of .ci/release do what their heads say; one version everywhere. */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { manifest, PRODUCTION, ROOT } from '../support/lock-file.ts';
import { build, BUILDERS, readObjects } from '../support/manifests/kustomize.ts';
import { checkWorkflow, readWorkflow } from '../support/workflows.ts';

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const WORKFLOWS = globSync('.github/workflows/*', { cwd: ROOT }).toSorted();
const CI = read('.github/workflows/ci.yml');
const RELEASE = read('.github/workflows/release.yml');
const VERSION = manifest.version;

t.test('workflows', async (t) => {
  t.strictSame(WORKFLOWS, ['.github/workflows/ci.yml', '.github/workflows/release.yml']);
  for (const file of WORKFLOWS) t.strictSame(checkWorkflow(read(file)), [], file);
  const pins = new Map<string, Set<string>>();
  for (const [, action = '', commit = ''] of (CI + RELEASE).matchAll(/uses: (\S+)@(\w+)/g)) pins.set(action, (pins.get(action) ?? new Set()).add(commit));
  t.ok(pins.size >= 5);
  for (const [action, commits] of pins) t.equal(commits.size, 1, `one ${action} everywhere`);
});

t.test('a broken workflow is found', async (t) => {
  for (const [what, from, to, fault] of [
    ['an action by its tag', /setup-node@\w+ # v6\.0\.0/, 'setup-node@v6', /not pinned.*setup-node@v6/],
    ['an action by a short commit', /setup-node@(\w{12})\w+/, 'setup-node@$1', /not pinned/],
    ['a commit without its version', / # v6\.0\.0/, '', /not pinned/],
    ['rights for all', 'contents: read', 'contents: write', /may more than read/],
    ['a script that is not there', 'npm run types', 'npm run typos', /npm has no script typos/],
    ['a file that is not there', 'npm run types', '.ci/absent', /\.ci\/absent is not there/],
    ['a file that is no program', 'npm run types', 'docs/README.md', /cannot be executed/],
    ['a program of nobody', 'npm run types', 'make all', /make is no program/],
    ['a token that stays', 'persist-credentials: false', 'persist-credentials: true', /leaves its token/],
    ['a title in a script', 'npm run types', 'echo ${{ github.event.pull_request.title }}', /expression inside a script/],
    ['no end', / {4}timeout-minutes: 15\n/, '', /no timeout/],
    ['another word of the matrix', 'matrix.npm', 'matrix.npn', /reads npn of the matrix/],
  ] as const) t.match(checkWorkflow(CI.replace(from, to)).join('\n'), fault, what);
  for (const [what, from, to, fault] of [
    ['a secret', 'secrets.GITHUB_TOKEN', 'secrets.REGISTRY_TOKEN', /a secret of its own: REGISTRY_TOKEN/],
    ['a job that is not there', 'needs: verify', 'needs: verity', /needs verity/],
    ['an output that nobody gives', 'needs.verify.outputs.base', 'needs.verify.outputs.bass', /output bass of verify/],
    ['a step that is not there', 'steps.image.outputs', 'steps.imagine.outputs', /the step imagine/],
    ['a program that is not installed', /.*cosign-installer.*\n/, '', /cosign is not installed/],
  ] as const) t.match(checkWorkflow(RELEASE.replace(from, to)).join('\n'), fault, what);
});

t.test('the image of an owner with capitals has a name that registries take', async (t) => {
  t.notMatch(RELEASE, 'github.repository_owner');
  const script = readWorkflow(RELEASE).jobs['verify']?.steps.find(({ id }) => id === 'image')?.run ?? '';
  const output = join(t.testdir({}), 'output');
  const { status } = spawnSync('bash', ['-euc', script], { env: { ...process.env, GITHUB_REPOSITORY_OWNER: 'TELUS-Example', GITHUB_OUTPUT: output } });
  t.equal(status, 0);
  t.equal(readFileSync(output, 'utf8'), 'image=ghcr.io/telus-example/eco-egress\n');
});

t.test('CI has every pair of machine, Node and npm that the compatibility page names', async (t) => {
  const { runner, node, npm } = readWorkflow(CI).jobs['test']?.strategy?.matrix as Record<string, (string | number)[]>;
  t.strictSame([runner, node, npm], [['ubuntu-24.04', 'ubuntu-24.04-arm'], [20, 22, 24, 26], [10, 11]]);
  t.strictSame(readWorkflow(RELEASE).jobs['image']?.strategy?.matrix, { include: [{ runner: 'ubuntu-24.04', platform: 'amd64' }, { runner: 'ubuntu-24.04-arm', platform: 'arm64' }] });
});

function run(script: string, args: readonly string[], { path = '', cwd = ROOT } = {}): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(join(cwd, '.ci/release', script), args, { encoding: 'utf8', env: { ...process.env, PATH: `${path}:${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` } });
  return { code: status, out: stdout, err: stderr };
}

t.test('version: one, everywhere', async (t) => {
  t.match(run('version', [`v${VERSION}`]), { code: 0, out: `${VERSION}\n`, err: '' });
  t.match(run('version', ['v99.0.0']), { code: 1, out: '', err: /^release: the tag is v99\.0\.0, and package\.json says / });
  for (const script of ['version', 'notes', 'manifests', 'build-image', 'sbom']) t.not(run(script, []).code, 0, `${script} without arguments`);
});

t.test('notes: the section of that version alone, and what to deploy', async (t) => {
  const { code, out } = run('notes', [VERSION, 'ghcr.io/o/eco-egress@sha256:1']);
  t.equal(code, 0);
  t.match(out, /### Added\n[^]*```\nghcr\.io\/o\/eco-egress@sha256:1\n```\n$/);
  t.notMatch(out, /^## \[/m);
  t.match(run('notes', ['99.0.0', 'x']), { code: 1, out: '', err: /says nothing of 99\.0\.0/ });
});

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

t.test('manifests: complete, by digest, the same bytes each time', async (t) => {
  const [first, second] = [t.testdir({ a: {}, b: {} })].flatMap((folder) => [join(folder, 'a'), join(folder, 'b')]);
  for (const folder of [first ?? '', second ?? '']) t.match(run('manifests', ['ghcr.io/o/eco-egress', DIGEST, folder]), { code: 0, err: '' });
  t.ok(readFileSync(join(first ?? '', 'manifests.tar.gz')).equals(readFileSync(join(second ?? '', 'manifests.tar.gz'))));
  spawnSync('tar', ['-xzf', 'manifests.tar.gz'], { cwd: first });
  const [builder] = BUILDERS;
  if (builder === undefined) return;
  const overlays = readdirSync(join(first ?? '', 'kubernetes/overlays')).map((name) => `overlays/${name}`);
  for (const directory of ['base', ...overlays]) {
    const deployment = readObjects(build(join(first ?? '', 'kubernetes', directory), builder)).find(({ kind }) => kind === 'Deployment');
    // That one names a registry of its own.
    const name = directory === 'overlays/example' ? 'REPLACE_ME_REGION-docker.pkg.dev/REPLACE_ME_PROJECT/eco-egress/eco-egress' : 'ghcr.io/o/eco-egress';
    t.match(JSON.stringify(deployment), `"image":"${name}@${DIGEST}"`, directory);
  }
});

/** A docker that writes down what it is asked, and answers as the real one does. */
function fakeDocker(t: Test, inspected: string): { path: string; asked: () => string } {
  const path = t.testdir({
    docker: { script: '' },
  });
  const file = join(path, 'bin');
  spawnSync('mkdir', ['-p', file]);
  writeFileSync(join(file, 'docker'), `#!/bin/sh
printf '%s\\n' "$*" >>'${path}/asked'
case "$*" in
  *inspect*) echo '${inspected}' ;;
  *) for word in "$@"; do case $word in /*) printf '{\\n  "buildx.build.ref": "x",\\n  "containerimage.digest": "${DIGEST}"\\n}\\n' >"$word" ;; esac; done; echo progress ;;
esac
`, { mode: 0o755 });
  return { path: file, asked: () => readFileSync(join(path, 'asked'), 'utf8') };
}

t.test('base-image: with the digest of its tag', async (t) => {
  const base = /^ARG NODE_IMAGE=(.*)$/m.exec(read('Dockerfile'))?.[1] ?? '';
  const docker = fakeDocker(t, DIGEST);
  t.match(run('base-image', [], docker), { code: 0, out: base.includes('@') ? `${base}\n` : `${base}@${DIGEST}\n` });
  if (!base.includes('@')) t.match(run('base-image', [], fakeDocker(t, 'sha256:short')), { code: 1, out: '', err: /no digest of / });
});

t.test('build-image: one platform, by digest, from the base it is given', async (t) => {
  const docker = fakeDocker(t, '');
  t.match(run('build-image', ['ghcr.io/o/eco-egress', 'linux/arm64', VERSION, `node:1@${DIGEST}`], docker), { code: 0, out: `${DIGEST}\n` });
  for (const word of ['--platform linux/arm64', `--build-arg NODE_IMAGE=node:1@${DIGEST}`, `--build-arg VERSION=${VERSION}`, `base.digest=${DIGEST}`, '--provenance mode=max', '--sbom true', 'name=ghcr.io/o/eco-egress,push-by-digest=true']) t.ok(docker.asked().includes(word), word);
});

t.test('sbom: an npm before 10 is refused', async (t) => {
  const path = t.testdir({});
  writeFileSync(join(path, 'npm'), '#!/bin/sh\necho 9.2.0\n', { mode: 0o755 });
  t.match(run('sbom', ['spdx'], { path }), { code: 1, out: '', err: 'sbom: npm 10 or later is needed, and this is npm 9.2.0\n' });
});

t.test('the list of what is inside is that of production, one for one', async (t) => {
  // Releases are made with npm 11. The tests also run with an older npm, which cannot make the list.
  if (Number.parseInt(spawnSync('npm', ['--version'], { encoding: 'utf8' }).stdout, 10) < 10) {
    t.match(run('sbom', ['spdx']), { code: 1, err: /npm 10 or later is needed/ });
    return;
  }
  const { code, out } = run('sbom', ['spdx']);
  t.equal(code, 0);
  const listed = (JSON.parse(out) as { packages: { name: string; versionInfo: string }[] }).packages.map(({ name, versionInfo }) => `${name}@${versionInfo}`);
  const optional = Object.entries(manifest.optionalDependencies).map(([name, version]) => `${name}@${version}`);
  const production = [...PRODUCTION].map(([path, { version = '' }]) => `${path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)}@${version}`);
  const expected = new Set([`eco-egress-proxy@${VERSION}`, ...production]);
  t.strictSame([...new Set(listed)].filter((one) => !optional.includes(one) && !one.startsWith('@colors/colors@')).toSorted(), [...expected].toSorted());
  t.match(JSON.parse(run('sbom', ['cyclonedx']).out), { bomFormat: 'CycloneDX' });
});

t.test('Renovate keeps one Node, and finds the base image', async (t) => {
  const { packageRules } = JSON.parse(read('renovate.json')) as { packageRules: { groupName?: string; matchPackageNames?: string[]; matchManagers?: string[]; pinDigests?: boolean; allowedVersions?: string }[] };
  const node = packageRules.find(({ groupName }) => groupName === 'Node')?.matchPackageNames ?? [];
  for (const name of [...Object.keys(manifest.optionalDependencies), '@types/node']) t.ok(node.includes(name), name);
  t.ok(packageRules.some(({ matchManagers, pinDigests }) => matchManagers?.includes('dockerfile') === true && pinDigests === true));
  t.match(read('Dockerfile'), /^ARG NODE_IMAGE=docker\.io\/library\/node:/m, 'a default of ARG, which Renovate reads');
});
