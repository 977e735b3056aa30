/** docs/adopting.md: the whole page is replayed, by a proxy that runs and clients that ask. */
import t from 'tap';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findMissing, readCommands, readDocBlocks } from '../support/doc-blocks.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { openShell } from '../support/transcript.ts';

t.test('from report mode to an enforced policy', { timeout: 300_000 }, async (t) => {
  const cwd = t.testdir({});
  // Whatever runs here has the page's own ports, perhaps.
  const ports = await Promise.all(['13128', '19090'].map(async (port) => [port, String(await findUnusedPort())] as const));
  const here = (text: string): string => ports.reduce((rest, [port, free]) => rest.replaceAll(port, free), text);
  const shell = openShell(cwd, { PATH: `${join(import.meta.dirname, '../../node_modules/.bin')}:${process.env['PATH'] ?? ''}`, HOME: cwd, NO_COLOR: '1' });
  t.teardown(() => shell.close());
  let commands = 0;
  for (const { file, language, text: shownText } of readDocBlocks('docs/adopting.md')) {
    const text = here(shownText);
    if (file !== '') writeFileSync(join(cwd, file), text);
    if (language !== 'console') continue;
    for (const { command, shown } of readCommands(text)) {
      commands += 1;
      const output = await shell.run(command);
      t.strictSame(findMissing(shown, output), [], command, { output });
    }
  }
  t.equal(commands, 22);
});
