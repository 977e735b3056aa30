/** The circuit breaker in a whole proxy, with real sockets: who is refused meanwhile, and how it closes. */
import { once } from 'node:events';
import { request } from 'node:http';
import t, { type Test } from 'tap';
import { answerOf } from '../support/ask.ts';
import { ask, type Asked, askOften, CLOSED, codeOf, FORMS, lineOf, ONE, OPENED, opened, OTHER, THIRD, until } from '../support/circuits.ts';
import { accessLines } from '../support/hostile.ts';
import { type IllPartner, QUICK, startIllPartner, toPartner } from '../support/ill-partner.ts';
import { ECO, startLab } from '../support/lab.ts';
import { openSteered, startTlsLab } from '../support/tls-lab.ts';

t.test('two addresses, one of them dead: it is not dialled again before its pause is over, and comes back when it heals', async (t) => {
  for (const form of ['connect', 'gateway'] as const) {
    const clock = { now: 0 };
    const partner = await startIllPartner(t, '127.0.0.2', ['127.0.0.1']);
    const [dead, well] = partner.at;
    if (dead === undefined || well === undefined) throw new Error('no partner');
    await dead.end();
    await well.begin();
    const lab = await startLab(t, toPartner(partner, clock));
    const at = { lab, port: partner.port };
    /** How many connections were begun for one request, and which one it got. */
    const dial = async (): Promise<readonly unknown[]> => {
      const answer = await ask(at, form);
      t.equal(answer.status, 200, form);
      const { dials = 1, upstreamAddress } = await lab.logged((line) => accessLines(lab).indexOf(line) === seen);
      seen += 1;
      return [dials, upstreamAddress];
    };
    let seen = 0;
    for (let i = 0; i < QUICK.failures; i += 1) t.strictSame(await dial(), [2, well.address], 'fails over');
    t.match(await lab.logged(({ msg }) => msg === OPENED), { level: 'warn', destination: 'eco', host: ECO, port: partner.port, carries: form === 'connect' ? 'tunnel' : 'http', address: dead.address, failures: 3, reason: 'ECONNREFUSED' });
    for (let i = 0; i < 5; i += 1) t.strictSame(await dial(), [1, well.address], 'is not tried');
    clock.now += 1100;
    t.strictSame(await dial(), [2, well.address], 'the trial fails');
    for (let i = 0; i < 5; i += 1) t.strictSame(await dial(), [1, well.address], 'is not tried again');
    clock.now += 1100;
    t.strictSame(await dial(), [1, well.address], 'the pause has doubled');
    await dead.begin();
    t.strictSame(await dial(), [1, well.address]);
    t.equal(dead.connections, 0);
    clock.now += 1200;
    t.strictSame(await dial(), [1, dead.address], 'the trial succeeds');
    t.match(await lab.logged(({ msg }) => msg === CLOSED), { level: 'info', address: dead.address, why: 'it works again' });
    t.strictSame(await dial(), [1, dead.address], 'in the order of the name again');
    t.equal(lab.log.filter(({ msg }) => msg?.startsWith('the circuit of') === true).length, 2, 'each change is told once');
  }
});

t.test('no address is left: refused at once in every form, without a dial, in report mode too', async (t) => {
  for (const mode of ['enforce', 'report']) {
    const clock = { now: 0 };
    const partner = await startIllPartner(t);
    await partner.first.end();
    const { configure, ...rest } = toPartner(partner, clock);
    let lookups = 0;
    const lab = await startTlsLab(t, {
      ...rest,
      lookup: async () => {
        lookups += 1;
        return { addresses: ['127.0.0.1'], ttl: null };
      },
      configure: (draft, ports) => {
        draft.mode = mode;
        configure?.(draft, ports);
      },
    });
    const at = { lab, port: partner.port };
    for (const form of ['connect', 'gateway'] as const) for (let i = 0; i < QUICK.failures; i += 1) t.equal(codeOf(await ask(at, form)), 'connection-refused');
    clock.now += 300;
    for (const form of FORMS) {
      const answer = await ask(at, form);
      t.equal(answer.status, 503, form);
      t.equal(answer.headers['retry-after'], '1');
      t.match(answer.headers['proxy-status'], /; ?error=destination_unavailable;.*details="circuit-open: /);
      t.match(JSON.parse(answer.text), { code: 'circuit-open', title: String, detail: /eco-sit\.telus\.internal:\d+: .* in 1 s \(127\.0\.0\.1: ECONNREFUSED\)/, remedy: String });
      t.match(await lineOf(lab, answer), { code: 'circuit-open', form, destination: 'eco', verdict: mode === 'enforce' ? 'allow' : String, status: 503 });
    }
    await t.rejects(openSteered(t, lab), { code: /ALERT_INTERNAL_ERROR/ });
    t.match(await lab.logged(({ form }) => form === 'sni'), { code: 'circuit-open' });
    t.equal(lookups, 1);
    const { samples } = await lab.scrape();
    t.equal(samples.get('eco_egress_circuit_state{destination="eco"}'), 2);
    t.equal(samples.get('eco_egress_circuit_open_addresses{destination="eco"}'), 2, 'of tunnels, and of what is plain');
    t.equal(samples.get('eco_egress_upstream_errors_total{destination="eco",error="connection-refused"}'), 6, 'a refusal is no failure of the upstream');
    t.equal(samples.get('eco_egress_requests_total{form="gateway",destination="eco",client="pods",outcome="denied",code="circuit-open"}'), 1);
    const { warnings } = (await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { warnings: string[] };
    t.match(warnings.join(' '), /Requests to eco \(tunnel, eco-sit\.telus\.internal:\d+\) are refused with circuit-open since /);

    const explained = async (method: string, target: string): Promise<string> => JSON.stringify(((await (await fetch(`${lab.adminUrl}/explain?client=127.0.0.1&method=${method}&target=${encodeURIComponent(target)}`)).json()) as { notes: string[] }).notes);
    const [tunnel, plain] = [await explained('CONNECT', `${ECO}:${partner.port}`), await explained('GET', `http://${ECO}:${partner.port}/x`)];
    t.match(tunnel, /Refused at this moment with circuit-open \(tunnel\): eco-sit/);
    t.match(plain, /Refused at this moment with circuit-open \(http\): eco-sit/);

    await partner.first.begin();
    clock.now += 1000;
    for (const form of FORMS) t.equal((await ask(at, form)).status, 200, `${form}: it heals`);
    t.equal((await lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}'), 0);
  }
});

t.test('heals by exactly one trial, whatever waits', async (t) => {
  for (const form of ['connect', 'gateway'] as const) {
    const clock = { now: 0 };
    const partner = await startIllPartner(t);
    await partner.first.end();
    const lab = await startLab(t, toPartner(partner, clock));
    const at = { lab, port: partner.port };
    for (let i = 0; i < QUICK.failures; i += 1) await ask(at, form);
    clock.now += 1100;
    const failed = await Promise.all(Array.from({ length: 64 }, () => ask(at, form)));
    t.equal(failed.filter((answer) => codeOf(answer) === 'connection-refused').length, 1, `${form}: one trial fails`);
    t.equal(failed.filter((answer) => codeOf(answer) === 'circuit-open').length, 63);
    await partner.first.begin();
    clock.now += 2300;
    const answers = await Promise.all(Array.from({ length: 64 }, () => ask(at, form)));
    t.ok(answers.every((answer) => ['ok', 'circuit-open'].includes(codeOf(answer))), 'the rest is refused until the trial has succeeded');
    t.ok(answers.some(({ status }) => status === 200));
    const all = await Promise.all(Array.from({ length: 64 }, () => ask(at, form)));
    t.ok(all.every(({ status }) => status === 200), 'then all pass');
  }
});

/** Opens the circuit for everybody by requests without an answer. */
async function openByCuts(at: Asked, { first }: { readonly first: { manners: string } }): Promise<void> {
  first.manners = 'cuts';
  await askOften(at, QUICK.failures - 1, 'gateway', ONE);
  await askOften(at, 1, 'gateway', OTHER);
  await at.lab.logged(({ msg }) => msg === OPENED);
}

t.test('a trial lasts until the answer, where answers were missing', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { first } = partner;
  const at = { lab: await startLab(t, toPartner(partner, clock)), port: partner.port };
  await openByCuts(at, partner);
  first.manners = 'is silent';
  clock.now += 1100;
  const before = first.requests;
  const asked = Array.from({ length: 64 }, () => ask(at, 'gateway'));
  const refused = Promise.all(asked.map(async (answer) => (codeOf(await answer) === 'circuit-open' ? 1 : 0)));
  await until(() => accessLines(at.lab).filter(({ code }) => code === 'circuit-open').length === 63);
  t.equal(first.requests - before, 1, 'one request alone reaches the partner');
  t.strictSame(await askOften(at, 1), ['circuit-open']);
  first.waiting.shift()?.end('late');
  t.equal((await refused).reduce<number>((sum, each) => sum + each, 0), 63);
  first.manners = 'answers';
  t.strictSame(await askOften(at, 3), ['ok']);
});

t.test('a client that leaves: no failure is counted, and its trial is given back', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { first } = partner;
  const at = { lab: await startLab(t, toPartner(partner, clock)), port: partner.port };
  const leave = async (): Promise<void> => {
    const [seen, ended] = [first.requests, accessLines(at.lab).length];
    const asked = request({ host: '127.0.0.1', port: at.lab.port, path: '/eco/x', agent: false });
    asked.on('error', () => {}).end();
    await until(() => first.requests > seen);
    asked.destroy();
    t.match(await at.lab.logged((line) => accessLines(at.lab).indexOf(line) === ended), { code: 'client-closed' });
  };
  first.manners = 'is silent';
  for (let i = 0; i < 3 * QUICK.failures; i += 1) await leave();
  t.equal(opened(at.lab), 0);
  await openByCuts(at, partner);
  first.manners = 'is silent';
  clock.now += 1100;
  await leave();
  await leave();
  first.manners = 'answers';
  t.strictSame(await askOften(at, 2), ['ok'], 'the next request is the trial, at once');
});

t.test('idle connections to an address whose circuit is open are not used', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { first } = partner;
  const at = { lab: await startLab(t, toPartner(partner, clock)), port: partner.port };
  first.keeps = true;
  first.manners = 'is silent';
  const kept = request({ host: '127.0.0.1', port: at.lab.port, path: '/eco/x', agent: false });
  const answer = answerOf(kept);
  kept.end();
  await until(() => first.waiting.length === 1);
  first.waiting[0]?.write('begun');
  await once(kept, 'response');
  first.manners = 'cuts';
  t.strictSame(await askOften(at, QUICK.failures - 1, 'gateway', ONE), ['upstream-cut']);
  t.strictSame(await askOften(at, 1, 'gateway', OTHER), ['upstream-cut']);
  first.waiting[0]?.end();
  t.equal((await answer).status, 200);
  await at.lab.logged(({ msg }) => msg === OPENED);
  t.strictSame(await askOften(at, 1), ['circuit-open'], 'though one is idle');
  first.manners = 'answers';
  clock.now += 1100;
  const { connections } = first;
  t.strictSame(await askOften(at, 1), ['ok']);
  t.equal(first.connections, connections + 1, 'the trial is a new connection');
});

async function startReloadable(t: Test, partner: IllPartner, clock: { now: number }): Promise<{ readonly at: Asked; readonly reload: (change: object) => Promise<unknown> }> {
  const { configure = () => {}, ...rest } = toPartner(partner, clock);
  const lab = await startLab(t, { ...rest, configure });
  const reload = (change: object): Promise<unknown> =>
    lab.reload((draft) => {
      configure(draft, { https: 0, http: 0 });
      Object.assign(draft.destinations.eco, change);
    });
  return { at: { lab, port: partner.port }, reload };
}

t.test('a reload keeps what is known, unless the destination is reached in another way', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  await partner.first.end();
  const { at, reload } = await startReloadable(t, partner, clock);
  t.strictSame(await askOften(at, QUICK.failures), ['connection-refused']);
  await reload({ http: { methods: ['GET'] } });
  t.strictSame(await askOften(at, 1), ['circuit-open']);
  await reload({ circuitBreaker: { ...QUICK, pause: '2s' } });
  t.match(await at.lab.logged(({ msg }) => msg === CLOSED), { why: 'the destination was changed by a reload' });
  t.strictSame(await askOften(at, QUICK.failures), ['connection-refused']);
  t.strictSame(await askOften(at, 1), ['circuit-open']);
  await reload({ circuitBreaker: { enabled: false } });
  t.strictSame(await askOften(at, 3 * QUICK.failures), ['connection-refused']);
  t.equal(opened(at.lab), 2);
});

t.test('what began before a reload that changes how the destination is reached says nothing about it afterwards', async (t) => {
  const clock = { now: 0 };
  const partner = await startIllPartner(t);
  const { at, reload } = await startReloadable(t, partner, clock);
  for (const circuitBreaker of [{ enabled: false }, { ...QUICK, pause: '2s' }]) {
    await reload({});
    partner.first.manners = 'is silent';
    const waiting = [ONE, OTHER, THIRD].map((from) => ask(at, 'gateway', from));
    await until(() => partner.first.waiting.length === waiting.length);
    await reload({ circuitBreaker });
    for (const response of partner.first.waiting.splice(0)) response.destroy();
    t.strictSame((await Promise.all(waiting)).map(codeOf), ['upstream-cut', 'upstream-cut', 'upstream-cut']);
    partner.first.manners = 'answers';
    t.strictSame(await askOften(at, 1), ['ok']);
    t.equal((await at.lab.scrape()).samples.get('eco_egress_circuit_state{destination="eco"}') ?? 0, 0);
  }
  t.equal(opened(at.lab), 0);
});
