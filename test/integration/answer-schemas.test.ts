/** Answers of the admin port and of commands to it, held to their JSON Schemas in the states that a proxy can be in; test/integration/schemas.test.ts holds other outputs. */
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { ManualDrainClock } from '../support/drain-clock.ts';
import { startEchoEndpoint } from '../support/echo-endpoint.ts';
import { eco } from '../support/eco.ts';
import { startFullListener } from '../support/full-listener.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { baseDraft, type Draft, ECO, type Lab, startLab } from '../support/lab.ts';
import { holdWhole } from '../support/schemas.ts';
import { portsOf, serve } from '../support/serve.ts';
import { openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { askRaw, openWire } from '../support/wire.ts';

const ANSWERS = { '/config': 'config-in-force', '/denials': 'denials', '/destinations': 'destinations', '/drain': 'drain', '/source-ip': 'source-ip', '/tunnels': 'tunnels', '/status.json': 'status' } as const;

type Answer = Record<string, unknown>;

const ask = async (lab: Pick<Lab, 'adminUrl'>, path: string): Promise<Answer> => (await (await fetch(`${lab.adminUrl}${path}`)).json()) as Answer;

/** All of them; returns them by their path. */
async function holdAll(t: Test, lab: Pick<Lab, 'adminUrl'>, state: string): Promise<Record<keyof typeof ANSWERS, Answer>> {
  const answers = {} as Record<keyof typeof ANSWERS, Answer>;
  for (const [path, name] of Object.entries(ANSWERS) as [keyof typeof ANSWERS, string][]) {
    const answer = (answers[path] = await ask(lab, path));
    if (name !== 'status') holdWhole(t, name, answer, state);
  }
  return answers;
}

t.test('idle', async (t) => {
  t.match(await holdAll(t, await startLab(t), 'idle'), { '/drain': { state: 'running' }, '/source-ip': { result: 'off' }, '/tunnels': { open: 0 }, '/denials': { total: 0 }, '/destinations': { destinations: [{ last: null }] }, '/config': { file: '/lab/egress.yaml' } });
});

t.test('tunnels, denials, and a drain', async (t) => {
  const clock = new ManualDrainClock();
  const lab = await startTunnelLab(t, (draft) => {
    draft.destinations['reported'] = { hosts: ['reported.example'], ports: [9], addresses: ['127.0.0.0/8'], report: true };
  }, {}, { drainClock: clock });
  const { client } = await openTunnel(t, lab);
  for (const request of ['CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n', 'CONNECT reported.example:9 HTTP/1.1\r\nHost: x\r\n\r\n', 'nonsense\r\n\r\n', 'GET /\u00ff HTTP/1.1\r\nHost: evil\u00ff.example\r\n\r\n']) {
    const wire = await openWire(t, lab.port);
    wire.send(request);
    await wire.until(/^HTTP\/1\.1 \d{3} /);
    wire.socket.destroy();
  }
  await lab.logged(({ code }) => code === 'connection-refused');
  const busy = await holdAll(t, lab, 'with a tunnel');
  t.match(busy, { '/tunnels': { open: 1, byClient: [{ client: 'pods', tunnels: 1 }], oldest: [{ form: 'connect', destination: 'eco', upstreamAddress: '127.0.0.1' }] }, '/drain': { tunnels: { open: 1, byClient: [{}], byDestination: [{}] } } });
  const verdicts = (busy['/denials']['latest'] as Answer[]).map(({ verdict }) => verdict);
  t.ok(verdicts.includes('deny') && verdicts.includes('report'), String(verdicts));

  clock.stop(1000);
  const drained = lab.service.drain();
  await clock.armed;
  t.match(await holdAll(t, lab, 'draining'), { '/drain': { state: 'draining', deadline: String, secondsLeft: Number } });
  client.socket.destroy();
  clock.pass(120_000);
  await drained;
});

t.test('exchanges in progress, partners that answer 5xx and not at all', async (t) => {
  const lab = await startHeldLab(t);
  const asked = fetch(`${lab.url}/eco/x`);
  const { res } = await lab.next();
  t.match(await holdAll(t, lab, 'with an exchange'), { '/drain': { exchanges: 1 } });
  res.writeHead(503).end();
  t.equal((await asked).status, 503);
  await lab.logged(({ upstreamStatus }) => upstreamStatus === 503);
  const cut = fetch(`${lab.url}/eco/x`, { method: 'POST', body: 'x' });
  (await lab.next()).res.destroy();
  t.equal((await cut).status, 502);
  await lab.logged(({ code }) => code === 'upstream-cut');
  t.match(await holdAll(t, lab, 'with failures'), { '/destinations': { destinations: [{ last: 'failed', lastError: { status: 503 }, lastFailure: { code: 'upstream-cut' }, failures: { 'upstream-cut': Number } }] } });
});

t.test('after reloads: applied, refused, and with keys that wait', async (t) => {
  const lab = await startLab(t);
  await lab.reload((draft) => {
    draft.mode = 'report';
    draft.name = 'another';
  });
  const { '/config': config } = await holdAll(t, lab, 'reloaded');
  t.ok((config['warnings'] as unknown[]).length > 0);
  await lab.reload((draft) => void draft.rules.push({ clients: ['nobody'], destinations: ['eco'] }));
  t.equal((await holdAll(t, lab, 'refused'))['/config']['hash'], config['hash']);
});

t.test('the source address: right, wrong, not known; and a partner that is silent', async (t) => {
  const endpoint = await startEchoEndpoint(t, '34.123.45.67');
  const silent = await startFullListener(t);
  let now = 1_000_000;
  const lab = await startLab(t, {
    now: () => now,
    configure: (draft) => {
      draft.sourceIp = { expected: '34.123.45.67', probe: { url: endpoint.url, every: '20ms', timeout: '5s', addresses: ['127.0.0.0/8'] } };
      (draft.destinations.eco['ports'] as number[]).push(silent);
      draft.timeouts['connect'] = '50ms';
    },
  });
  const shows = async (result: string): Promise<void> => {
    for (;;) {
      const answer = await ask(lab, '/source-ip');
      if (answer['result'] === result) {
        holdWhole(t, 'source-ip', answer, result);
        return;
      }
      await delay(5);
    }
  };
  await shows('match');
  for (let i = 0; i < 3; i += 1) {
    t.match(await askRaw(t, lab.port, `CONNECT ${ECO}:${silent} HTTP/1.1\r\nHost: x\r\n\r\n`), /^HTTP\/1\.1 504 /);
    now += 10_000;
  }
  await lab.logged(({ cause }) => cause === 'whitelist');
  t.match((await holdAll(t, lab, 'a silent partner'))['/source-ip'], { silentPartners: [{ destination: 'eco' }], history: [{ result: 'match' }] });
  endpoint.answer = '10.0.0.1';
  await shows('mismatch');
  endpoint.answer = (_request, response) => response.writeHead(503).end();
  await shows('unknown');
});

/** Of a process of its own: its policy, and a secret. */
function document(): Draft {
  return { ...baseDraft({ https: 443, http: 80 }), destinations: { eco: { hosts: ['eco.example'], ports: [443] } } };
}

t.test('reload --json and POST /reload: applied, in part, refused', async (t) => {
  const served = serve(t, { config: document() });
  const { http, admin } = await portsOf(served);
  const wire = await openWire(t, http[0] ?? 0);
  wire.send('CONNECT eco.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  await wire.ended;
  const reload = (): ReturnType<typeof eco> => eco(['reload', '--json', '--admin', `127.0.0.1:${admin}`]);
  const offer = async (change: (draft: Draft) => void, expected: number, what: string): Promise<Answer> => {
    const draft = document();
    change(draft);
    writeFileSync(served.file, stringify(draft));
    const { code, out, err } = await reload();
    t.strictSame([code, err], [expected, ''], what);
    holdWhole(t, 'reload', JSON.parse(out), what);
    return JSON.parse(out) as Answer;
  };
  t.match(await offer((draft) => { draft.reload = { watch: false }; draft.mode = 'report'; }, 0, 'applied'), { result: 'applied', warnings: [String] });
  t.match(await offer((draft) => { draft.reload = { watch: false }; draft.rules.splice(0); }, 0, 'with denials'), { result: 'applied', newlyDenied: [{ client: 'pods', code: 'no-rule' }], differences: [{}] });
  t.match(await offer((draft) => { draft.reload = { watch: false }; draft.name = 'other'; }, 3, 'in part'), { result: 'applied', needRestart: ['name'], newlyAllowed: [{ code: 'ok' }] });
  t.match(await offer((draft) => void draft.rules.push({ clients: ['nobody'], destinations: ['eco'] }), 1, 'refused'), { result: 'refused' });
  const answer = await fetch(`http://127.0.0.1:${admin}/reload`, { method: 'POST' });
  t.equal(answer.status, 422);
  holdWhole(t, 'reload', await answer.json(), 'POST');
});

t.test('verify-ip --json', async (t) => {
  const endpoint = await startEchoEndpoint(t, '34.123.45.67');
  const verify = async (expected: number, ...args: string[]): Promise<Answer> => {
    const { code, out } = await eco(['verify-ip', '--json', '--times', '2', ...args, '--config', 'egress.yaml'], { cwd: t.testdir({ 'egress.yaml': stringify(document()) }) });
    t.equal(code, expected, args.join(' '));
    holdWhole(t, 'verify-ip', JSON.parse(out), args.join(' '));
    return JSON.parse(out) as Answer;
  };
  t.match(await verify(0, '--url', endpoint.url, '--expect', '34.123.45.67'), { result: 'match', observations: [{ phases: { answer: Number } }, {}] });
  t.match(await verify(1, '--url', endpoint.url, '--expect', '34.123.45.68'), { result: 'mismatch', causes: [{}] });
  t.match(await verify(1, '--url', endpoint.url), { result: 'unjudged' });
  t.match(await verify(1, '--url', 'http://127.0.0.1:9/'), { result: 'unknown', observations: [{ code: 'connection-refused' }, {}] });
});
