/** The network of the machine itself, which the lab has to leave as it was. */
import { spawnSync } from 'node:child_process';

/** What each command showed. */
export type Snapshot = ReadonlyMap<string, string>;

const LOOKS = ['ip -j link', 'ip -j addr', 'ip -j route show table all', 'ip -j rule', 'nft --stateless list ruleset'];
/** Counts down by itself. */
const LIFETIMES = /"(?:valid_life_time|preferred_life_time|expires)":\d+/g;

export function takeSnapshot(): Snapshot {
  return new Map(
    LOOKS.map((look) => {
      const [program = '', ...args] = look.split(' ');
      const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
      return [look, (stdout + stderr).replace(LIFETIMES, '')];
    }),
  );
}

/** Commands that showed something else the second time. */
export function findChanges(before: Snapshot, after: Snapshot): string[] {
  return LOOKS.filter((look) => before.get(look) !== after.get(look));
}
