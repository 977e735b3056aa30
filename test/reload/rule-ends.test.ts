/** A running proxy whose rules, certificates and lists of revoked ones end: it warns when the time comes, without a reload, wherever warnings are. */
import { mock } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { ENDS_SOON } from '../../src/config/rule-ends.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { createRevokingAuthority } from '../support/revoking-authority.ts';
import { type Draft, ECO, type Lab, LONGEST_WAIT_FOR_LINE, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

const DAY = 86_400_000;
const RULE = { clients: ['pods'], destinations: ['eco'], owner: 'payments & "co" <x>', ticket: "CHG-'1'", reason: 'Until <b>all</b> have moved' };

/** From here on the time of day stands still, but for what `pass` adds. */
function holdDate(t: Test): (ms: number) => void {
  let time = Date.now();
  mock.timers.enable({ apis: ['Date'], now: time });
  t.teardown(() => {
    mock.timers.reset();
  });
  return (ms) => {
    time += ms;
    mock.timers.setTime(time);
  };
}

const endsIn = (days: number): { readonly until: string } => ({ until: `${new Date(Date.now() + days * DAY).toISOString().slice(0, 19)}Z` });
const text = async (lab: Lab, path: string): Promise<string> => (await fetch(`${lab.adminUrl}${path}`)).text();
const warnings = async (lab: Lab): Promise<readonly string[]> => (JSON.parse(await text(lab, '/readyz')) as { warnings: string[] }).warnings;
const counted = async (lab: Lab): Promise<Record<string, number | undefined>> => {
  const { samples } = await lab.scrape();
  return Object.fromEntries(['expired', 'expires-soon'].map((kind) => [kind, samples.get(`eco_egress_warnings{kind="${kind}"}`)]));
};

t.test('warned of 14 days before, and ended at its time, with its tunnels', async (t) => {
  const lab = await startLab(t, { configure: (draft) => void draft.rules.splice(0, 1, { ...structuredClone(RULE), ...endsIn(100) }) });
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until(/ 200 /);
  t.strictSame(await warnings(lab), []);
  t.strictSame(await counted(lab), { expired: 0, 'expires-soon': 0 });
  const pass = holdDate(t);
  pass(90 * DAY);
  t.match(await lab.logged(({ kind }) => kind === 'expires-soon'), { level: 'warn', key: 'rules[0].until', msg: /The rule ends at .*: from then on it permits nothing, .* Owner: payments & "co" <x>\. Ticket: CHG-'1'\. Reason: Until <b>all<\/b> have moved\.$/ });
  t.match(await warnings(lab), [/^rules\[0\]\.until: The rule ends at /]);
  t.strictSame(await counted(lab), { expired: 0, 'expires-soon': 1 });
  const page = await text(lab, '/');
  t.match(JSON.parse(await text(lab, '/status.json')), { configuration: { ruleEnds: [{ rule: 'rules[0]', clients: ['pods'], destinations: ['eco'], state: 'soon' }] } });
  t.match(page, 'rules[0]');
  t.notMatch(page, '<b>all');
  t.notOk(wire.socket.destroyed, 'it goes on');

  pass(10 * DAY + 1000);
  t.match(await lab.logged(({ kind }) => kind === 'expired'), { key: 'rules[0].until', msg: /The rule has ended/ });
  await wire.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { detail: /^what permitted it is no longer valid/ });
  t.match(await warnings(lab), [/^rules\[0\]\.until: The rule has ended/]);
  t.strictSame(await counted(lab), { expired: 1, 'expires-soon': 0 });
  t.equal(lab.log.filter(({ kind }) => kind === 'expired' || kind === 'expires-soon').length, 2, 'each once');
});

t.test('a rule in report mode ends at its time, with what it alone let pass', async (t) => {
  const lab = await startLab(t, { configure: (draft) => void draft.rules.splice(0, 1, { ...structuredClone(RULE), methods: ['GET'], report: true, ...endsIn(1) }) });
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until(/ 200 /);
  const status = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`, { method: 'PUT', body: 'x' })).status;
  t.equal(await status(), 200, 'it is reported');
  t.match(await warnings(lab), [/Report mode/, /The rule ends at /]);
  holdDate(t)(DAY + 1000);
  await wire.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { verdict: 'report', detail: /^what permitted it is no longer valid: .* only until / });
  t.equal(await status(), 403);
  await lab.logged(({ kind }) => kind === 'expired');
  t.match(await warnings(lab), [/^rules\[0\]\.until: The rule has ended/]);
  t.equal((await warnings(lab)).length, 1);
});

t.test('a clock that was ahead and is set back withdraws its warnings, and the end is reported at its time', async (t) => {
  const lab = await startLab(t, { configure: (draft) => void draft.rules.splice(0, 1, { ...structuredClone(RULE), ...endsIn(100) }) });
  const pass = holdDate(t);
  pass(200 * DAY);
  await lab.logged(({ kind }) => kind === 'expired');
  t.match(await warnings(lab), [/The rule has ended/]);
  pass(-200 * DAY);
  const began = performance.now();
  while ((await warnings(lab)).length > 0 && performance.now() - began < LONGEST_WAIT_FOR_LINE) await setTimeout(20);
  t.strictSame(await warnings(lab), [], 'it permits again');
  t.strictSame(await counted(lab), { expired: 0, 'expires-soon': 0 });
  pass(90 * DAY);
  t.ok(await lab.logged(({ kind }) => kind === 'expires-soon'));
});

t.test('a certificate that becomes valid, and one that expires after the list of revoked ones is out of date', async (t) => {
  const clients = await createRevokingAuthority('clients');
  const [begins, ends] = [new Date(Date.now() + 10 * 60_000), new Date(Date.now() + 3 * DAY)];
  const own = await (await createAuthority('ours')).issue({ names: ['proxy.example'], notBefore: begins, notAfter: ends });
  const lab = await startLab(t, {
    files: { '/lab/own.crt': own.certPem, '/lab/own.key': own.keyPem, '/lab/clients.crt': clients.certPem, '/lab/clients.crl': await clients.list([], new Date(Date.now() + DAY / 2)) },
    configure: (draft) => Object.assign(draft, {
      listeners: { ...draft.listeners, tls: ['127.0.0.1:0'] },
      tlsServer: { names: ['proxy.example'], certFile: 'own.crt', keyFile: 'own.key', clientCaFile: 'clients.crt', crlFile: 'clients.crl', clientCertificate: 'require' },
    }),
  });
  const change = async (said: readonly RegExp[], log: RegExp | null): Promise<void> => {
    if (log !== null) t.match(await lab.logged(({ msg }) => log.test(String(msg))), { level: 'warn' });
    const began = performance.now();
    while ((await warnings(lab)).length !== said.length && performance.now() - began < LONGEST_WAIT_FOR_LINE) await setTimeout(20);
    t.match(await warnings(lab), said);
  };
  const early = new RegExp(`^tlsServer.certFile: The certificate of "CN=proxy.example" is valid only from ${begins.toISOString().slice(0, 19)}Z\\. `);
  await change([early], /is valid only from/);
  const pass = holdDate(t);
  pass(11 * 60_000);
  await change([], null);
  pass(DAY / 2);
  await change([/^tlsServer.crlFile: List 1 of 1 in the file is out of date since /], /is out of date since/);
  pass(3 * DAY);
  // Those of clients.crt, of the certificate, and of the list.
  await change([/expired at/, /expired at/, /out of date/], /"CN=proxy.example" expired at/);
  t.match(await counted(lab), { expired: 3 });
  pass(-4 * DAY);
  // That of the partner's authority, too.
  await change(Array.from({ length: 4 }, () => /valid only from/), /List 1 of 1 in the file is valid only from/);
});

t.test('a reload begins anew, and what it warned of is not reported again when the time comes', async (t) => {
  const lab = await startLab(t);
  const rules = (...days: number[]) => (draft: Draft): void => void draft.rules.splice(0, 1, ...days.map((each) => ({ ...structuredClone(RULE), ...endsIn(each) })));
  t.match(await lab.reload(rules(10, 20)), { result: 'applied' });
  await lab.logged(({ kind }) => kind === 'expires-soon');
  t.equal(lab.log.filter(({ kind }) => kind === 'expires-soon').length, 1, 'one is soon already');
  const pass = holdDate(t);
  pass(7 * DAY);
  t.match(await lab.logged(({ kind, key }) => kind === 'expires-soon' && key === 'rules[1].until'), { level: 'warn' });
  t.strictSame(lab.log.filter(({ kind }) => kind === 'expires-soon').map(({ key }) => key), ['rules[0].until', 'rules[1].until']);
  await lab.reload(rules(1000));
  t.strictSame(await warnings(lab), []);
  pass(DAY);
  t.strictSame(await warnings(lab), []);
});

t.test('the metric names rule, owner and ticket, as text that breaks no line, and has 100 series at most', async (t) => {
  const lab = await startLab(t, { configure: (draft) => void draft.rules.splice(0, 1, ...[-1, 1, 30].map((days) => ({ ...structuredClone(RULE), ...endsIn(days) })), { clients: ['pods'], destinations: ['eco'], ...endsIn(400) }, { clients: ['pods'], destinations: ['eco'] }) });
  const series = async (): Promise<string[]> => (await text(lab, '/metrics')).split('\n').filter((line) => line.startsWith('eco_egress_rule_expiry_timestamp_seconds{'));
  const lines = await series();
  t.equal(lines.length, 4);
  t.match(lines[0], /\{rule="rules\[1\]",owner="payments & \\"co\\" <x>",ticket="CHG-'1'"\} \d{10}$/, 'those ahead come first');
  t.match(lines[2], 'rule="rules[3]",owner="-",ticket="-"');
  t.match(lines[3], 'rule="rules[0]"');
  await lab.reload((draft) => void draft.rules.splice(0, 1, ...Array.from({ length: 150 }, (_, index) => ({ ...structuredClone(RULE), ...endsIn(100 - index) }))));
  const many = await series();
  t.equal(many.length, 100);
  t.match(many[0], 'rule="rules[99]"', 'the next that ends');
  t.ok(many.every((line) => Number(line.split(' ').at(-1)) * 1000 > Date.now()), 'before those that have ended');
  t.ok(ENDS_SOON === 14 * DAY);
});
