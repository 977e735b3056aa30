/** Where the time goes: ours under each work with V8's profiler on, and the functions that took most. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compare, type Means } from './compare.ts';
import { createOurs } from './contenders/ours.ts';
import { heaviest, type Profile } from './report/profile.ts';
import type { Work } from './works.ts';

const SHOWN = 25;

/** The works one after the other, each once after its warm-up. Start-up and warm-up are in the profile too: the longer the work, the less they count. */
export async function profileWorks(works: readonly Work[], means: Means): Promise<string> {
  const sections: string[] = [];
  for (const work of works) {
    const directory = join(means.directory, `profile-${work.name}`);
    const ours = createOurs(['--cpu-prof', `--cpu-prof-dir=${directory}`]);
    const [comparison] = await compare({ ...work, direct: false }, [ours], { ...means, runs: 1 });
    if (comparison?.failure !== undefined) throw new Error(`${work.name}: ${comparison.failure}`);
    const [file] = globSync(join(directory, '*.cpuprofile'));
    if (file === undefined) throw new Error(`${work.name}: the profiler left no file`);
    sections.push(`## ${work.title}\n\n${heaviest(JSON.parse(readFileSync(file, 'utf8')) as Profile, SHOWN)}\n`);
  }
  return sections.join('\n');
}
