/** Writes docs/operations-day.md anew: its text and commands as they are, with what the commands print now. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PAGE, replayDay } from '../support/operations-day.ts';

const directory = mkdtempSync(join(tmpdir(), 'operations-day-'));
try {
  const { replayed } = await replayDay(directory);
  writeFileSync(new URL(`../../${PAGE}`, import.meta.url), replayed);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
