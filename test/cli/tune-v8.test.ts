/** What the proxy says to V8 when it has started. */
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import { baseDraft } from '../support/lab.ts';
import { portsOf, serve } from '../support/serve.ts';

/** Name and niceness of each thread of a process: fields 2 and 19 of proc_pid_stat(5). */
function threadsOf(pid: number | undefined): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, name = '', rest = ''] = /\((.*)\) (.*)/.exec(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')) ?? [];
    return `${name} ${rest.split(' ')[16]}`;
  });
}

const cores = /^Cpus_allowed_list:\s*((\d+).*)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
const LOWERED = Array.from({ length: 4 }, () => 'node-V8Worker 10');

t.test('on one core, the helper threads of V8 give way to the thread that serves, and no others do', async (t) => {
  for (const [list = '', lowered] of [[cores?.[2], LOWERED], [cores?.[1], /^\d+$/.test(cores?.[1] ?? '') ? LOWERED : []]] as const) {
    const draft = baseDraft({ https: 443, http: 80 });
    Object.assign(draft.destinations.eco, { tls: {} });
    const served = serve(t, { config: draft, shell: `exec taskset -c ${list} "$@"` });
    const { admin } = await portsOf(served);
    // It is done in the turn after the line that it listens.
    await (await fetch(`http://127.0.0.1:${admin}/healthz`)).text();
    const threads = threadsOf(served.child.pid);
    t.strictSame(threads.filter((thread) => thread.endsWith(' 10')), lowered, `cores ${list}`);
    t.equal(threads.filter((thread) => thread.startsWith('node-V8Worker ')).length, 4, 'that is their name');
  }
});
