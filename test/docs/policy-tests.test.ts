/** docs/policy-tests.md: its commands print what the page shows, and its table has every key. */
import t from 'tap';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { POLICY_TEST, POLICY_TESTS } from '../../src/policy-tests/read-tests.ts';
import { findMissing, readCommands, readDocBlocks } from '../support/doc-blocks.ts';
import { openShell } from '../support/transcript.ts';

const PAGE = 'docs/policy-tests.md';

t.test('what the page shows', async (t) => {
  const cwd = t.testdir({});
  const blocks = readDocBlocks(PAGE);
  for (const { file, text } of blocks) if (file !== '') writeFileSync(join(cwd, file), text);
  const shell = openShell(cwd, { PATH: `${join(import.meta.dirname, '../../node_modules/.bin')}:${process.env['PATH'] ?? ''}`, HOME: cwd });
  t.teardown(() => shell.close());
  const commands = blocks.filter(({ language }) => language === 'console').flatMap(({ text }) => readCommands(text));
  t.equal(commands.length, 4);
  for (const { command, shown } of commands) {
    const output = await shell.run(command);
    t.strictSame(findMissing(shown, output), [], command, { output });
  }
});

t.test('every key has its row', async (t) => {
  const page = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
  t.strictSame([...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key), Object.keys(POLICY_TEST));
  for (const key of Object.keys(POLICY_TESTS)) t.ok(page.includes(`\`${key}\``), key);
});
