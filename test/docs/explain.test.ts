/** docs/explain.md: its commands print what the page shows, on the command line and on the admin port. */
import t from 'tap';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { loadConfig } from '../../src/config/load.ts';
import { Service } from '../../src/service.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { findMissing, readCommands, readDocBlocks } from '../support/doc-blocks.ts';

const ECO = 'eco-sit.telus.internal';

t.test('what the page shows', async (t) => {
  const dns = await startDnsServer(({ name, type }) => (name === ECO && type === 'A' ? { addresses: ['10.40.1.9', '10.41.0.9'], ttl: 60 } : null));
  t.teardown(() => dns.close());
  const cwd = t.testdir({});

  const blocks = readDocBlocks('docs/explain.md');
  const file = blocks.find((block) => block.file === 'egress.yaml')?.text ?? '';
  const local = file.replace('10.0.0.10', dns.address).replaceAll('0.0.0.0:3128', '127.0.0.1:0').replaceAll('0.0.0.0:9090', '127.0.0.1:0').replace('listeners: {', 'listeners: { tls: off,');
  writeFileSync(`${cwd}/egress.yaml`, local);
  const loaded = loadConfig({ file: 'egress.yaml', env: {}, readFile: () => local });
  if (!loaded.ok) throw new Error(loaded.faults.map(({ problem }) => problem).join());
  const service = new Service(loaded.config, { logDestination: new PassThrough().resume() });
  await service.start();
  t.teardown(() => service.close());
  const admin = `http://127.0.0.1:${service.addresses.admin.port}`;

  const commands = blocks.filter(({ language }) => language === 'console').flatMap(({ text: body }) => readCommands(body));
  t.equal(commands.length, 3);
  for (const { command, shown } of commands) {
    const [, url] = /^curl -s 'http:\/\/localhost:9090([^']+)'$/.exec(command) ?? [];
    let output: string;
    if (url === undefined) {
      const child = spawn('sh', ['-c', command], { cwd, env: { PATH: process.env['PATH'], HOME: process.env['HOME'] }, stdio: ['ignore', 'pipe', 'inherit'] });
      output = await text(child.stdout);
    } else output = await (await fetch(admin + url)).text();
    t.strictSame(findMissing(shown, output), [], command, { output });
  }
});
