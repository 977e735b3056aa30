/** What ours allocates for each operation of a work: bytes that V8 has handed out, dead or alive. What lies outside of its heap is not counted. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openStage, start, warming, type Means } from './compare.ts';
import { createOurs } from './contenders/ours.ts';
import { renderTable } from './report/table.ts';
import type { Work } from './works.ts';

const TELL = pathToFileURL(join(import.meta.dirname, 'machine/tell-allocated.ts')).href;

/** A table of the works that count operations: what a process allocates that does a work twice, less what one does that does it once. */
export async function measureAllocations(works: readonly Work[], means: Means): Promise<string> {
  const rows: string[][] = [];
  for (const work of works.filter(({ unit }) => unit === 'µs CPU')) {
    means.say(work.name);
    const once = await runTimes(work, 1, means);
    const twice = await runTimes(work, 2, means);
    rows.push([work.title, ((twice.bytes - once.bytes) / once.operations / 1000).toFixed(1)]);
  }
  return `${renderTable(['work', 'KB allocated per operation'], rows)}\n`;
}

/** In a process of its own, which tells at its end what it has allocated. */
async function runTimes(work: Work, times: number, means: Means): Promise<{ bytes: number; operations: number }> {
  const file = join(means.directory, `allocated-${work.name}-${times}`);
  const stage = await openStage(() => start(createOurs(['--import', `${TELL}?${encodeURIComponent(file)}`]), work.way, means), means);
  let operations = 0;
  const counting = {
    ...stage,
    count: (wanted: number): number => {
      operations = stage.count(wanted);
      return operations;
    },
  };
  try {
    await work.run(warming(stage, means));
    for (let time = 0; time < times; time += 1) await work.run(counting);
  } finally {
    await stage.program?.stop();
  }
  return { bytes: Number(readFileSync(file, 'utf8')), operations };
}
