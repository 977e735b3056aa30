/** Loaded before a program: writes at its end how many bytes V8 has allocated for it, to the file that its own URL names behind the question mark. */
import { writeFileSync } from 'node:fs';
import { getHeapStatistics } from 'node:v8';

process.on('exit', () => {
  // Node has the figure since version 25; its types do not know it yet.
  const { total_allocated_bytes: bytes } = getHeapStatistics() as ReturnType<typeof getHeapStatistics> & { total_allocated_bytes: number };
  writeFileSync(decodeURIComponent(new URL(import.meta.url).search.slice(1)), String(bytes));
});
