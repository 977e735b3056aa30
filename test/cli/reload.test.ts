/** `reload`: asks the proxy that runs, prints what came of it, and says it by its exit code. */
import { createServer } from 'node:http';
import { request } from 'node:http';
import { writeFileSync } from 'node:fs';
import { text as textOf } from 'node:stream/consumers';
import t from 'tap';
import { stringify } from 'yaml';
import { runReload, type ReloadOptions } from '../../src/cli/reload.ts';
import { recordIo } from '../support/command-io.ts';
import { listen } from '../support/listen.ts';
import { serve } from '../support/serve.ts';

const config = (more: object = {}, password?: string): object => ({
  version: 1,
  listeners: { http: ['127.0.0.1:0'], tls: 'off', admin: '127.0.0.1:0' },
  clients: { pods: { addresses: ['127.0.0.0/8'] }, ...(password === undefined ? {} : { people: { addresses: ['10.0.0.0/8'], basic: [{ user: 'anna', hash: password }] } }) },
  destinations: { eco: { hosts: ['eco.example'], ports: [443] } },
  rules: [{ clients: ['pods', ...(password === undefined ? [] : ['people'])], destinations: ['eco'] }],
  reload: { watch: false },
  timeouts: { drainDelay: '0s' },
  ...more,
});

async function reload(options: ReloadOptions): Promise<{ code: number; out: string; err: string }> {
  const io = recordIo();
  const code = await runReload(options, io);
  return { code, out: io.out(), err: io.err() };
}

t.test('applied, in part, and refused', async (t) => {
  const served = serve(t, { config: config() });
  const { admin } = await served.logged(({ msg }) => msg === 'eco-egress is listening');
  const options = { admin: String(admin), config: served.file };
  const put = (content: object): void => {
    writeFileSync(served.file, stringify(content));
  };
  t.match(await reload(options), { code: 0, out: /^Applied: .+egress\.yaml is in force \([0-9a-f]{16}\)\.\nNo value has changed\.\n/, err: '' });

  put(config({ timeouts: { drainDelay: '0s', connect: '7s' } }));
  t.match(await reload(options), { code: 0, out: /\nChanged:\n {2}timeouts\.connect: 10s -> 7s\n/ });

  const hash = (letter: string): string => `$scrypt$ln=15,r=8,p=1$${'A'.repeat(21)}${letter}$${'A'.repeat(43)}`;
  put(config({ name: 'other', mode: 'report' }, hash('A')));
  const partly = await reload(options);
  t.match(partly, { code: 3, out: /\nWaits for the next start: name\.\n[^]*\nWarning: mode: Report mode: / });
  t.match(partly.out, 'clients.people.basic[0].hash: not set -> (hidden)');
  t.notMatch(partly.out, 'AAAA');

  put(config({ version: 7 }));
  t.match(await reload(options), { code: 1, out: /^Refused: the previous configuration stays active\.\n {2}.+egress\.yaml:1:\d+ / });
  put(config({ mode: 'strict' }));
  t.match((await reload(options)).out, / "strict" is not possible here\./, 'quotes as people write them');
  put(config({ version: 7 }));
  const json = await reload({ ...options, json: true });
  t.match(JSON.parse(json.out), { result: 'refused', reasons: [/egress\.yaml:1:\d+ .+\. Write .+\.$/] }, 'and what to write instead');
});

t.test('a secret alone that changed is named, without its value', async (t) => {
  const hash = (letter: string): string => `$scrypt$ln=15,r=8,p=1$${'A'.repeat(21)}${letter}$${'A'.repeat(43)}`;
  const served = serve(t, { config: config({}, hash('A')) });
  const { admin, configHash } = await served.logged(({ msg }) => msg === 'eco-egress is listening');
  writeFileSync(served.file, stringify(config({}, hash('Q'))));
  const { out } = await reload({ admin: String(admin) });
  t.notMatch(out, String(configHash));
  t.match(out, '\nChanged:\n  clients.people.basic[0].hash: (hidden) -> another (hidden)\n');
  t.match(await served.logged(({ msg }) => msg === 'reload applied'), { changed: ['clients.people.basic[0].hash'] });
});

t.test('no server is there, or another one', async (t) => {
  const stranger = createServer((_req, res) => res.end('hello'));
  const port = await listen(t, stranger);
  t.match(await reload({ admin: `127.0.0.1:${port}` }), { code: 1, err: /did not reload \(200\): it is not the admin port of an eco-egress\.\n$/ });
  const painter = await listen(t, createServer((_req, res) => res.end(JSON.stringify({ title: 'x\u001b[31m', detail: '\u009b1m' }))));
  t.match(await reload({ admin: `127.0.0.1:${painter}` }), { code: 1, err: /did not reload \(200\): x\\u001b\[31m\. \\u009b1m\n$/ });
  for (const result of ['applied', 'refused']) {
    const other = await listen(t, createServer((_req, res) => res.end(JSON.stringify({ result }))));
    t.match(await reload({ admin: `127.0.0.1:${other}` }), { code: 1, out: '', err: /did not reload \(200\): it is not the admin port of an eco-egress\.\n$/ }, result);
  }
  await new Promise((resolve) => stranger.close(resolve));
  t.match(await reload({ admin: `127.0.0.1:${port}` }), { code: 1, err: /^No proxy answers at 127\.0\.0\.1:\d+: nothing listens there\..* --admin / });
  const endless = await listen(t, createServer((_req, res) => {
    const write = (): void => { while (res.write(Buffer.alloc(1 << 20, ' '))); };
    write();
    res.on('drain', write).on('error', () => {});
  }));
  t.match(await reload({ admin: `127.0.0.1:${endless}` }), { code: 1, err: /: its answer is longer than any of eco-egress\./ });
  t.match(await reload({ admin: 'here' }), { code: 2, err: /^--admin: "here" is not a listen address\./ });
  t.match(await reload({ config: '/nowhere/egress.yaml' }), { code: 2, err: /^\/nowhere\/egress\.yaml cannot be read: there is no such file/ });
  const directory = t.testdir({ 'faulty.yaml': `version: 1\nlisteners: { admin: "127.0.0.1:${port}" }\nrules: 7\n` });
  t.match(await reload({ config: `${directory}/faulty.yaml` }), { code: 1, err: new RegExp(`^No proxy answers at 127\\.0\\.0\\.1:${port}: `) }, 'the admin port is found in a file with faults');
});

t.test('only from this host, only by POST, and by no page of another site', async (t) => {
  const served = serve(t, { config: config() });
  const { admin } = await served.logged(({ msg }) => msg === 'eco-egress is listening');
  const port = Number(String(admin).split(':')[1]);
  const ask = async (method: string, localAddress: string, headers: Record<string, string> = {}): Promise<[status: number, body: string]> => {
    const asked = request({ host: '127.0.0.1', port, method, path: '/reload', localAddress, headers, agent: false });
    return new Promise((resolve, reject) => {
      asked.on('error', reject);
      asked.on('response', (response) => {
        textOf(response).then((body) => { resolve([response.statusCode ?? 0, body]); }, reject);
      });
      asked.end();
    });
  };
  t.match(await ask('POST', '127.0.0.6'), [403, /kubectl exec/], 'a sidecar speaks for whoever it likes');
  for (const method of ['GET', 'PUT']) t.match(await ask(method, '127.0.0.1'), [405, /send POST, or run npx eco-egress reload/], method);
  t.match(await ask('POST', '127.0.0.1', { origin: 'http://evil.example' }), [403, /another site/i]);
  t.match(await ask('POST', '127.0.0.1', { host: 'rebound.example' }), [421, /listeners\.admin\.hosts/]);
  t.equal(served.log.filter(({ msg }) => msg === 'reload applied').length, 0);
  t.match(await ask('POST', '127.0.0.1'), [200, /"result":"applied"/]);
});
