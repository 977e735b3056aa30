/** Where the time goes: ours under each work with V8's profiler on, and the functions that took most. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { meansFor, openStage, start, warmUp, type Means } from './compare.ts';
import { createOurs } from './contenders/ours.ts';
import { heaviest, type Profile } from './report/profile.ts';
import type { Work } from './works.ts';

const SHOWN = 25;

/** Each work once. Start-up and warm-up are left out of the profile, except of works about a fresh process. */
export async function profileWorks(works: readonly Work[], means: Means): Promise<string> {
  const sections: string[] = [];
  for (const work of works) {
    means.say(work.name);
    const directory = join(means.directory, `profile-${work.name}`);
    const skippedMs = await runProfiled(work, directory, meansFor(work, means));
    const [file] = globSync(join(directory, '*.cpuprofile'));
    if (file === undefined) throw new Error(`${work.name}: the profiler left no file`);
    sections.push(`## ${work.title}\n\n${heaviest(JSON.parse(readFileSync(file, 'utf8')) as Profile, SHOWN, skippedMs)}\n`);
  }
  return sections.join('\n');
}

/** Leaves the profile in `directory`, and says how many milliseconds of its beginning are not the work. */
async function runProfiled(work: Work, directory: string, means: Means): Promise<number> {
  const ours = createOurs(['--cpu-prof', `--cpu-prof-dir=${directory}`]);
  const stage = await openStage(() => start(ours, work, means), means);
  const began = performance.now();
  try {
    if (!work.fresh) await warmUp(stage, work, means);
    const skippedMs = work.fresh ? 0 : (stage.program?.startMs ?? 0) + performance.now() - began;
    await work.run(stage);
    return skippedMs;
  } finally {
    // The profile is written on the way out.
    await stage.program?.stop();
  }
}
