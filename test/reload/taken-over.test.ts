/** Parts that a reload builds anew only where what they depend on has changed: then it does. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { sharesDialler } from '../../src/build-parts.ts';
import { ECO, startLab } from '../support/lab.ts';

t.test('another gateway prefix is served at once, and the one before no longer', async (t) => {
  const lab = await startLab(t);
  const status = async (path: string): Promise<number> => (await fetch(`${lab.url}${path}`)).status;
  t.same([await status('/eco/x'), await status('/other/x')], [200, 403]);
  t.match(
    await lab.reload(({ destinations: { eco } }) => {
      eco['gateway'] = { ...(eco['gateway'] as object), prefix: '/other' };
    }),
    { result: 'applied' },
  );
  t.same([await status('/eco/x'), await status('/other/x')], [403, 200]);
});

t.test('level, format and profile of the log, from the line of the reload on', async (t) => {
  const lab = await startLab(t);
  const ask = async (path: string): Promise<number> => (await fetch(`${lab.url}/eco/${path}`)).status;
  await ask('first');
  const first = await lab.logged(({ path }) => path === '/first');
  t.notOk('loglevel' in first);
  t.match(await lab.reload((draft) => { draft.log = { profile: 'dynatrace' }; }), { result: 'applied', needRestart: { length: 0 }, differences: [{ path: 'log.profile', before: 'plain', after: 'dynatrace' }] });
  t.match(lab.log.at(-1), { msg: 'reload applied', loglevel: 'INFO', content: 'reload applied' });
  await ask('second');
  t.match(await lab.logged(({ path }) => path === '/second'), { loglevel: 'INFO', 'url.path': '/second' });
  t.match(await lab.reload((draft) => { draft.log = { level: 'warn' }; }), { result: 'applied' });
  await ask('third');
  t.equal((await fetch(`${lab.url}/never`)).status, 403);
  t.notOk('loglevel' in (await lab.logged(({ path }) => path === '/never')));
  t.notOk(lab.log.some(({ path }) => path === '/third'), 'below the level');
  t.match(await lab.reload((draft) => { draft.log = { level: 'info' }; }), { result: 'applied' });
  t.match(lab.log.at(-1), { level: 'info', msg: 'reload applied' });
});

t.test('names are looked up by the terms of the present configuration', async (t) => {
  const lab = await startLab(t, { lookup: () => new Promise(() => {}), configure: (draft) => Object.assign(draft.timeouts, { resolve: '1h' }) });
  t.match(await lab.reload((draft) => Object.assign(draft.timeouts, { resolve: '50ms' })), { result: 'applied' });
  const answer = fetch(`${lab.url}/eco/x`).then(({ status }) => status);
  t.equal(await Promise.race([answer, delay(10_000).then(() => 'none')]), 504, 'it waits for 50 ms, and not for an hour');
  const loaded = lab.load(() => {});
  if (!loaded.ok) throw new Error('faulty');
  const { config } = loaded;
  t.ok(sharesDialler(config, { ...config, clients: [] }), 'what no dial depends on');
  for (const [key, changed] of Object.entries({ 'dns.servers': { dns: { ...config.dns, servers: ['192.0.2.53:53'] } }, 'dns.ttl': { dns: { ...config.dns, ttl: 1 } }, 'a new key of dns': { dns: { ...config.dns, novel: 1 } }, 'a new key of timeouts': { timeouts: { ...config.timeouts, novel: 1 } }, name: { name: 'another' } })) {
    t.notOk(sharesDialler(config, { ...config, ...changed }), key);
  }
});

t.test('while the resolver fails, what is known of names outlasts a reload, unless that changes the resolver', async (t) => {
  let fails = false;
  const lab = await startLab(t, { lookup: async () => {
    if (fails) throw Object.assign(new Error('no'), { code: 'ESERVFAIL' });
    return { addresses: ['127.0.0.1'], ttl: 60_000 };
  } });
  const ask = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  t.equal(await ask(), 200);
  fails = true;
  await lab.reload((draft) => Object.assign(draft.timeouts, { connect: '4s' }));
  t.equal(await ask(), 200);
  t.equal(lab.upstream.connections, 2, 'by a new connection');
  await lab.reload((draft) => Object.assign(draft.headers, { via: false }));
  t.equal(await ask(), 200);
  await lab.reload((draft) => Object.assign(draft.dns, { ttl: '20s' }));
  await lab.reload((draft) => { Object.assign(draft.dns, { ttl: '20s' }); Object.assign(draft.timeouts, { connect: '3s' }); });
  t.equal(await ask(), 502);
});

t.test('limits that need more open files than there may be are reported', async (t) => {
  const lab = await startLab(t, { openFiles: 8_000 });
  t.match(await lab.reload((draft) => { draft.limits['connections'] = 100_000; }), { result: 'applied' });
  t.match(await lab.logged(({ msg }) => msg?.startsWith('the limit of open files is lower') === true), { level: 'warn', openFiles: 8_000, needed: 102_356 });
});

t.test('open tunnels have the present limits of their silence and their age', async (t) => {
  for (const [key, code] of [['tunnelIdle', 'idle-timeout'], ['tunnelAge', 'age-limit']] as const) {
    const lab = await startLab(t);
    const socket = connect(lab.port, '127.0.0.1').on('error', () => {});
    t.teardown(() => socket.destroy());
    socket.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(socket, 'data');
    t.match(await lab.reload(({ timeouts }) => { timeouts[key] = '100ms'; }), { result: 'applied' });
    t.match(await lab.logged(({ form }) => form === 'connect'), { code }, key);
  }
});

t.test('the name waits for the next start, and what follows from it, such as the name of the spans', async (t) => {
  const tracing = { tracing: { endpoint: 'http://192.0.2.1/v1/traces' } };
  const lab = await startLab(t);
  const rest = lab.load((draft) => Object.assign(draft, tracing));
  t.match(await lab.reload((draft) => Object.assign(draft, tracing, { name: 'other' })), { result: 'applied', needRestart: ['name'], inForce: { hash: rest.ok && rest.hash } });
});
