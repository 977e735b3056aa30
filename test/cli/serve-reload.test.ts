/** A running `serve` takes over what its file says: on SIGHUP always, and by itself while the file asks for that. */
import { execFileSync } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { stringify } from 'yaml';
import { serve, type Served } from '../support/serve.ts';

const config = (watch: boolean, tunnels: number): object => ({
  version: 1,
  listeners: { http: ['127.0.0.1:0'], tls: 'off', admin: '127.0.0.1:0' },
  clients: { pods: { addresses: ['127.0.0.0/8'] } },
  destinations: { eco: { hosts: ['eco.example'], ports: [443] } },
  rules: [{ clients: ['pods'], destinations: ['eco'] }],
  timeouts: { drainDelay: '0s' },
  limits: { tunnels },
  reload: { watch },
});

function write({ file }: Served, content: object): void {
  writeFileSync(`${file}.new`, stringify(content));
  renameSync(`${file}.new`, file);
}

const applied = ({ log }: Served): number => log.filter(({ msg }) => msg === 'reload applied').length;

t.test('reload.watch takes effect with a reload, too', async (t) => {
  const served = serve(t, { config: config(false, 10) });
  await served.logged(({ msg }) => msg === 'eco-egress is listening');
  write(served, config(true, 11));
  served.child.kill('SIGHUP');
  await served.logged(() => applied(served) === 1);
  write(served, config(false, 12));
  await served.logged(() => applied(served) === 2);
  write(served, config(false, 13));
  served.child.kill('SIGHUP');
  await served.logged(() => applied(served) === 3);
  t.same(served.log.filter(({ msg }) => msg === 'reload applied').map(({ needRestart }) => needRestart), [undefined, undefined, undefined]);
  write(served, config(false, 14));
  // A file is taken over at the second look, and it looks once a second.
  await delay(3_500);
  t.equal(applied(served), 3, 'it looks no more');
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0 });
});

t.test('a SIGHUP during the start is a reload behind it', async (t) => {
  // The file is a pipe: the writer can open it, and then sends the signal, once the process is about to read it.
  const shell = 'mv "$5" "$5.real"; mkfifo "$5"; (exec 3>"$5"; kill -HUP $$; cat "$5.real" >&3; mv "$5.real" "$5") & exec "$@"';
  const served = serve(t, { config: config(false, 10), shell });
  await served.logged(({ msg }) => msg === 'eco-egress is listening');
  await served.logged(({ msg }) => msg?.startsWith('reload') === true);
  t.same(served.log.filter(({ msg }) => msg?.startsWith('reload') === true).map(({ msg }) => msg), ['reload applied']);
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0 });
});

t.test('a SIGHUP before the command is loaded ends nothing', async (t) => {
  // .env is read first of all: as above, the signal comes once the process is about to read it. By NODE_OPTIONS the
  // test runner has a handler of its own in every process.
  const shell = 'unset NODE_OPTIONS; mkfifo .env; (exec 3>.env; kill -HUP $$) & exec "$@"';
  const served = serve(t, { config: config(false, 10), shell });
  await served.logged(({ msg }) => msg === 'eco-egress is listening');
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0 });
});

t.test('a pipe in the place of the file, or no file: refused, and the proxy goes on', async (t) => {
  const served = serve(t, { config: config(false, 10) });
  await served.logged(({ msg }) => msg === 'eco-egress is listening');
  rmSync(served.file);
  for (const [make, reason] of [[() => {}, 'there is no such file'], [() => { execFileSync('mkfifo', [served.file]); }, 'it is a pipe or a device']] as const) {
    make();
    served.child.kill('SIGHUP');
    const { reasons } = await served.logged((line) => String(line['reasons']).includes(reason));
    t.match(reasons, [new RegExp(`egress\\.yaml The file cannot be read: ${reason}.*\\. Put it back: a reload`)], 'with no line, for there is none');
  }
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0 });
});

t.test('during a drain no change of the file is taken over, and none is an error', async (t) => {
  const served = serve(t, { config: { ...config(true, 10), timeouts: { drainDelay: '1h' } } });
  await served.logged(({ msg }) => msg === 'eco-egress is listening');
  served.child.kill('SIGTERM');
  await served.logged(({ msg }) => msg?.startsWith('draining') === true);
  write(served, config(true, 11));
  // As above.
  await delay(3_500);
  t.notOk(served.log.some(({ msg }) => msg?.startsWith('reload') === true), 'a rollout changes the files of pods that it ends');
  served.child.kill('SIGHUP');
  t.match(await served.logged(({ msg }) => msg?.startsWith('reload') === true), { msg: /^reload refused/, reasons: ['The proxy is shutting down, or has not started.'] });
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 1 });
});
