/** What the proxy says to V8 when it has started. */
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { lowerHelpers } from '../../src/cli/tune-v8.ts';
import { baseDraft } from '../support/lab.ts';
import { portsOf, serve } from '../support/serve.ts';

const LINUX = process.platform === 'linux';

/** Name and niceness of each thread of a process: fields 2 and 19 of proc_pid_stat(5). */
function threadsOf(pid: number | undefined): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, name = '', rest = ''] = /\((.*)\) (.*)/.exec(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')) ?? [];
    return `${name} ${rest.split(' ')[16]}`;
  });
}

t.test('the helper threads of V8 have the names by which they are found', async (t) => {
  t.equal(lowerHelpers(), LINUX ? 4 : 0);
});

t.test('they give way to the thread that serves, and to no other', async (t) => {
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {} });
  const served = serve(t, { config: draft });
  await portsOf(served);
  if (!LINUX) return;
  while (!threadsOf(served.child.pid).includes('node-V8Worker 19')) await delay(10);
  const threads = threadsOf(served.child.pid);
  t.strictSame(threads.filter((thread) => thread.endsWith(' 19')), Array.from({ length: 4 }, () => 'node-V8Worker 19'));
  t.ok(threads.some((thread) => thread.endsWith('MainThread 0')));
});
