/** A page that could not be made, because no file could be opened, is made later. */
import { execFileSync } from 'node:child_process';
import t from 'tap';

t.test('a shortage of file descriptors at the first page does not last', async (t) => {
  const script = `
    import { closeSync, openSync } from 'node:fs';
    import { composePage } from ${JSON.stringify(new URL('../../src/admin/html-page.ts', import.meta.url).href)};
    const compose = () => composePage({ kind: 'answer', about: 'why', words: 'x', json: '{}', question: {} }).then(() => 'made', () => 'failed');
    const open = [];
    try {
      for (;;) open.push(openSync('/dev/null'));
    } catch {}
    const short = await compose();
    for (const fd of open) closeSync(fd);
    console.log(short, await compose());
  `;
  t.equal(execFileSync('sh', ['-c', 'ulimit -n 80; exec "$0" "$@"', process.execPath, '--input-type=module-typescript', '-e', script], { encoding: 'utf8' }), 'failed made\n');
});
