/** What a reload tells of its decisions: in slices, up to a bound, and only of the latest. */
import t from 'tap';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { compilePolicy, type Policy } from '../../src/policy/compile.ts';
import { PolicyChanges } from '../../src/reload/policy-change.ts';
import { startLab } from '../support/lab.ts';
import { makeClient, makeDestination, makeRule } from '../support/policy.ts';

type Notice = readonly [level: string, message: string, fields?: Record<string, unknown> | undefined];

function listen(): { readonly notices: Notice[]; readonly telemetry: ConstructorParameters<typeof PolicyChanges>[0] } {
  const notices: Notice[] = [];
  return { notices, telemetry: { notice: (...notice) => notices.push(notice) } };
}

function policyOf(count: number, ports: readonly number[]): Policy {
  const names = Array.from({ length: count }, (_, index) => `d${index}`);
  return compilePolicy({
    mode: 'enforce',
    clients: [makeClient('pods', { addresses: ['10.8.0.0/14'] })],
    destinations: names.map((name) => makeDestination(name, [`${name}.example`], { ports })),
    rules: [makeRule(['pods'], names)],
  });
}

t.test('a sentence, and a few lines', async (t) => {
  const { notices, telemetry } = listen();
  const changes = new PolicyChanges(telemetry);
  t.equal(changes.latest, null);
  await changes.compare(policyOf(20, [443]), policyOf(20, [443, 8443]), 0);
  t.match(changes.latest, { at: '1970-01-01T00:00:00.000Z', sentence: 'Classes of requests: 20 newly allowed.', classes: { length: 5 } });
  t.equal(changes.latest?.classes[0], 'Newly allowed: d0.example, port 8443, by connect, forward or host-routed, for pods');
  t.match(notices, [['info', 'what the new configuration decides differently', { policyChange: 'Classes of requests: 20 newly allowed.', classes: { length: 5 } }]]);
  await changes.compare(policyOf(2, [443]), policyOf(2, [443]), 0);
  t.match(changes.latest, { sentence: 'It decides every request as before.', classes: { length: 0 } });
});

t.test('others have their turn meanwhile', async (t) => {
  const { telemetry } = listen();
  const changes = new PolicyChanges(telemetry);
  void changes.compare(policyOf(1000, [443]), policyOf(1000, [443, 8443]), 0);
  let turns = 0;
  for (; changes.latest === null; turns += 1) await nextTurn();
  t.ok(turns > 50, `${turns} turns`);
  t.match(changes.latest, { sentence: 'Classes of requests: 1000 newly allowed.' });
});

t.test('up to a bound', async (t) => {
  const { notices, telemetry } = listen();
  const changes = new PolicyChanges(telemetry, 1000);
  await changes.compare(policyOf(100, [443]), policyOf(100, [80]), 0);
  t.match(changes.latest, { sentence: /^Not computed, because there is too much to compare/, classes: { length: 0 } });
  t.equal(notices.length, 1);
});

t.test('a later one ends the one before, and the end of the proxy ends it', async (t) => {
  const { notices, telemetry } = listen();
  const changes = new PolicyChanges(telemetry);
  const first = changes.compare(policyOf(1000, [443]), policyOf(1000, [80]), 0);
  await nextTurn();
  const second = changes.compare(policyOf(2, [443]), policyOf(2, [443]), 5);
  await Promise.all([first, second]);
  t.match(changes.latest, { at: '1970-01-01T00:00:00.005Z' });
  t.equal(notices.length, 1);
  const third = changes.compare(policyOf(1000, [443]), policyOf(1000, [80]), 0);
  changes.close();
  await third;
  t.equal(changes.latest, null);
  t.equal(notices.length, 1);
});

t.test('a reload logs it, and the admin port shows it', async (t) => {
  const lab = await startLab(t);
  const ready = async (): Promise<unknown> => (await fetch(`${lab.adminUrl}/readyz`)).json();
  t.notMatch(await ready(), { policyChange: {} });
  await lab.reload((draft) => {
    draft.rules.splice(0);
  });
  const line = await lab.logged(({ msg }) => msg === 'what the new configuration decides differently');
  t.match(line['policyChange'], /^Classes of requests: \d+ newly denied/);
  t.match(await ready(), { status: 'ready', policyChange: { at: /^\d{4}-/, sentence: line['policyChange'], classes: [/^Newly denied: /] } });
  t.match(await (await fetch(`${lab.adminUrl}/status.json`)).json(), { configuration: { reload: { at: /^\d{4}-/, sentence: line['policyChange'], classes: [/^Newly denied: /] } } });
  t.match(await (await fetch(`${lab.adminUrl}/`)).text(), /Newly denied: /);
});
