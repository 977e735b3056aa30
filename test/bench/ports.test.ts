/** bench/ports.ts, where a proxy does not start. */
import t from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';

t.test('it ends, and tells what the proxy said', async (t) => {
  const directory = t.testdir({});
  const squid = join(directory, 'squid');
  writeFileSync(squid, '#!/bin/sh\necho "FATAL: not this line" >&2\nexit 1\n');
  chmodSync(squid, 0o755);
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../bench/ports.ts'), 'squid'], { env: { PATH: `${directory}${delimiter}${process.env['PATH'] ?? ''}` }, stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [errors, [code]] = await Promise.all([text(child.stderr), once(child, 'exit') as Promise<[number | null]>]);
  t.equal(code, 1);
  t.match(errors, /FATAL: not this line[^]*squid did not start/);
});
