/** Scenes about the lab itself: it takes itself away, however it ends, and nothing else. */
import { deepEqual, equal, notEqual, ok } from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findChanges, type Snapshot, takeSnapshot } from '../host-network.ts';
import { namespacesOf, pidsIn, sweepLeftovers } from '../leftovers.ts';
import type { Scene } from '../narrate.ts';
import { watch } from '../program.ts';
import { until } from '../until.ts';

const LAB = fileURLToPath(new URL('../main.ts', import.meta.url));

export function otherLabs(): Scene {
  return {
    title: 'Another lab beside this one ends in the middle',
    play: async (step) => {
      await step('somebody presses Ctrl-C', async () => {
        const lab = await startLab();
        const built = namespacesOf(lab.pid).length;
        notEqual(built, 0);
        lab.child.kill('SIGINT');
        const [code] = (await once(lab.child, 'exit')) as [number | null];
        equal(code, 130);
        deepEqual(namespacesOf(lab.pid), []);
        return `its ${built} namespaces are gone`;
      });
      await step('it is killed, and cannot clean up', async () => {
        const lab = await startLab();
        const left = namespacesOf(lab.pid);
        const programs = left.flatMap(pidsIn);
        notEqual(programs.length, 0);
        lab.child.kill('SIGKILL');
        await once(lab.child, 'exit');
        deepEqual(namespacesOf(lab.pid), left);
        ok(sweepLeftovers().includes(lab.pid));
        deepEqual(namespacesOf(lab.pid), []);
        await until('its programs have ended', () => { deepEqual(programs.filter(isRunning), []); });
        notEqual(namespacesOf(process.pid).length, 0, 'this lab is still there');
        return `the next lab removes its ${left.length} namespaces and ends its ${programs.length} programs`;
      });
    },
  };
}

/** To be played when the lab is closed. */
export function leavingNothing(before: Snapshot): Scene {
  return {
    title: 'The lab is gone, and the machine is as it was',
    play: async (step) => {
      await step('namespaces of this lab', () => {
        deepEqual(namespacesOf(process.pid), []);
        return 'none';
      });
      await step("the machine's own links, addresses, routes and firewall", () => {
        deepEqual(findChanges(before, takeSnapshot()), []);
        return 'as before';
      });
    },
  };
}

/** Resolves once it has been built; it plays no scene, and stays. */
async function startLab(): Promise<{ child: ChildProcess; pid: number }> {
  const child = spawn(process.execPath, [LAB, '--keep', '--empty'], { stdio: ['ignore', 'pipe', 'pipe'] });
  await watch(child, 'the other lab').line((line) => line.startsWith('The lab stays'));
  return { child, pid: child.pid ?? 0 };
}

/** One that has ended but that nobody has asked for yet (state Z) does not run. */
function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}
