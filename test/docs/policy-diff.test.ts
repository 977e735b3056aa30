/** docs/policy-diff.md: its commands print what the page shows. */
import t from 'tap';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findMissing, readCommands, readDocBlocks } from '../support/doc-blocks.ts';
import { openShell } from '../support/transcript.ts';

t.test('what the page shows', async (t) => {
  const cwd = t.testdir({});
  const blocks = readDocBlocks('docs/policy-diff.md');
  for (const { file, text } of blocks) if (file !== '') writeFileSync(join(cwd, file), text);
  const shell = openShell(cwd, { PATH: `${join(import.meta.dirname, '../../node_modules/.bin')}:${process.env['PATH'] ?? ''}`, HOME: cwd });
  t.teardown(() => shell.close());
  const commands = blocks.filter(({ language }) => language === 'console').flatMap(({ text }) => readCommands(text));
  t.equal(commands.length, 8);
  for (const { command, shown } of commands) {
    const output = await shell.run(command);
    t.strictSame(findMissing(shown, output), [], command, { output });
  }
});
