/** Keeps programs to a part of a core, with a control group of their own (version 1 or 2): Linux, root. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';
/** Microseconds. A short one: for the rest of it a program that has used its part stands still. */
const PERIOD = 10_000;

export interface Quota {
  /** Takes the group away, once the process in it has ended. */
  remove(): void;
}

/** Throws with why it cannot be done here. `part` is of one core. */
export function limitCpu(pid: number, part: number): Quota {
  const second = existsSync(join(ROOT, 'cgroup.controllers'));
  const group = join(ROOT, second ? '' : 'cpu', `eco-egress-bench-${pid}`);
  const quota = Math.round(PERIOD * part);
  try {
    mkdirSync(group);
    const settings = second ? { 'cpu.max': `${quota} ${PERIOD}` } : { 'cpu.cfs_period_us': PERIOD, 'cpu.cfs_quota_us': quota };
    for (const [file, value] of Object.entries({ ...settings, 'cgroup.procs': pid })) writeFileSync(join(group, file), String(value));
  } catch (error) {
    throw new Error(`not measured: no control group for CPU time (${error instanceof Error ? error.message : String(error)})`, { cause: error });
  }
  return {
    remove: () => {
      rmdirSync(group);
    },
  };
}
