/** What a start loads: nothing that serving does not use. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { stringify } from 'yaml';
import { baseDraft, labCertificates } from '../support/lab.ts';
import { MAIN } from '../support/eco.ts';

/** Tells, once it listens, what Node has loaded of itself, and every file of a package. */
const TELL = `
  import { registerHooks } from 'node:module';
  const files = [];
  registerHooks({ load(url, context, next) { files.push(url); return next(url, context); } });
  process.on('message', () => { process.send({ files, own: process.moduleLoadList }); });
  process.channel.unref();
`;

t.test('what serving does not use is not loaded', async (t) => {
  const { authority } = await labCertificates();
  const directory = t.testdir({ 'ca.pem': authority.certPem });
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, stringify(baseDraft({ https: 443, http: 80 })));
  const child = spawn(process.execPath, [`--import=data:text/javascript,${encodeURIComponent(TELL)}`, MAIN, 'serve', '--config', file], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  t.teardown(() => child.kill('SIGKILL'));
  let log = '';
  await new Promise<void>((resolve) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('is listening')) resolve();
    });
  });
  const answer = once(child, 'message');
  child.send('tell');
  const [{ files: loaded, own }] = (await answer) as [{ files: string[]; own: string[] }];
  t.ok(loaded.some((url) => url.includes('/node_modules/fastify/')), 'packages are seen');
  const packages = [...new Set(loaded.map((url) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1] ?? ''))];
  t.strictSame(packages.filter((name) => ['ajv', '@fastify/ajv-compiler', '@fastify/fast-json-stringify-compiler'].includes(name)), [], 'no route has a schema');
  t.strictSame(packages.filter((name) => name.startsWith('@opentelemetry/')), ['@opentelemetry/api'], 'nothing is traced: prom-client takes types and constants of its own from there');
  t.strictSame(own.filter((name) => name.includes('deps/undici')), [], "nothing uses Node's own fetch");
  t.strictSame([...new Set(loaded.filter((url) => url.includes('/undici/')).map((url) => url.replace(/\/undici\/.*/, '').replace(/^file:\/\//, '')))].length, 1, 'one undici');
});
