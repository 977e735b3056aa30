/** What is remembered of a denial, for how long, and that nobody can make it grow. */
import t from 'tap';
import { Permit } from '../../src/egress.ts';
import { Fault } from '../../src/errors.ts';
import { RecentDenials, RecentFailures } from '../../src/explain/recent-denials.ts';
import { Limits } from '../../src/limits.ts';
import { Denial } from '../../src/policy/deny.ts';
import type { Deny, Verdict } from '../../src/policy/verdict.ts';
import type { AccessRecord } from '../../src/telemetry/access-record.ts';
import { makeRecord } from '../support/access-record.ts';
import { bytesInUse } from '../support/memory.ts';
import { FEW, makeAsk, makePeer } from '../support/policy.ts';

const DENY: Deny = { verdict: 'deny', code: 'host-not-allowed', client: null, destination: null, detail: 'The host evil.example is in no destination', remedy: 'add evil.example', challenges: [] };

/** MiB that are in use and were not before. */
function grownBy(work: () => void): number {
  const before = bytesInUse();
  work();
  return (bytesInUse() - before) / 1_048_576;
}

function denied(more: Partial<AccessRecord> = {}): AccessRecord {
  return makeRecord({ verdict: 'deny', code: 'host-not-allowed', detail: 'joined', status: 403, host: 'evil.example', destination: '-', rule: '-', ...more });
}

function permit(verdict: Exclude<Verdict, Deny>, ask = makeAsk()): Permit {
  return new Permit(verdict, ask, [], 'exchanges', new Limits(FEW));
}

t.test('a denial is found by its request id, with what the policy was asked', (t) => {
  const denials = new RecentDenials({ now: () => 1_700_000_000_000 });
  const ask = makeAsk({ form: 'forward', host: 'evil.example', method: 'GET', path: '/x', peer: makePeer('10.8.1.4', { user: 'batch', sans: ['DNS:pod.example'] }) });
  denials.note(denied({ requestId: 'r-1' }), new Denial(ask, DENY), null);
  const found = denials.find('r-1');
  t.match(found, { endedAt: 1_700_000_000_000 });
  t.match(found?.shown, { requestId: 'r-1', verdict: 'deny', code: 'host-not-allowed', detail: DENY.detail, remedy: DENY.remedy, status: 403, client: 'dynatrace-sit', host: 'evil.example' });
  t.strictSame(found?.ask, ask);
  t.equal(denials.view(1, 1).latest[0]?.time, '2023-11-14T22:13:20.000Z', 'as the log writes it');
  t.equal(denials.find('r-2'), null);
  t.end();
});

t.test('what is kept of which end', (t) => {
  const report: Verdict = { verdict: 'report', would: DENY, client: null, destination: null, until: Infinity, rule: '-' };
  const allow = permit(report);
  for (const [name, record, fault, by, expected] of [
    ['an exchange that went well', makeRecord(), null, allow, null],
    ['a failed upstream', makeRecord({ code: 'connection-refused', status: 502 }), new Fault('connection-refused', 'x'), allow, null],
    ['a client that left', makeRecord({ code: 'client-closed' }), new Fault('client-closed', 'x'), allow, null],
    ['a denial after the look-up', makeRecord({ code: 'address-not-allowed', status: 403 }), new Fault('address-not-allowed', 'x', { remedy: 'y' }), allow, { verdict: 'deny', code: 'address-not-allowed', detail: 'x', remedy: 'y', ask: { host: 'eco-sit.telus.internal' } }],
    ['what is no request', denied({ verdict: '-', code: 'request-malformed', form: '-' }), new Fault('request-malformed', 'x'), null, { verdict: 'deny', code: 'request-malformed', ask: null }],
    ['a full limit', makeRecord({ code: 'limit-reached', status: 503, dialled: false }), new Fault('limit-reached', 'x'), null, { verdict: 'deny', code: 'limit-reached' }],
    ['report mode', makeRecord({ verdict: 'report', wouldDeny: 'host-not-allowed' }), null, allow, { verdict: 'report', code: 'host-not-allowed', detail: DENY.detail, remedy: DENY.remedy, status: 200 }],
    ['report mode, by the TLS inside', makeRecord({ verdict: 'report', wouldDeny: 'sni-mismatch', detail: 'another host' }), null, permit({ ...report }), { verdict: 'report', code: 'sni-mismatch', detail: 'another host', remedy: null }],
    ['report mode, and the upstream failed', makeRecord({ verdict: 'report', wouldDeny: 'host-not-allowed', code: 'upstream-cut' }), new Fault('upstream-cut', 'cut'), allow, { verdict: 'report', code: 'host-not-allowed' }],
  ] as const) {
    const denials = new RecentDenials();
    denials.note(Object.assign(record, { requestId: 'r' }), fault, by);
    if (expected === null) t.equal(denials.find('r'), null, name);
    else t.match({ ...denials.find('r')?.shown, ask: denials.find('r')?.ask }, expected, name);
    t.equal(denials.view(1, 1).total, expected === null ? 0 : 1, name);
  }
  t.end();
});

t.test('the oldest makes room, the latest comes first', (t) => {
  const denials = new RecentDenials({ single: 3 });
  for (let i = 0; i < 5; i += 1) denials.note(denied({ requestId: `r-${i}` }), new Fault('host-not-allowed', 'x'), null);
  t.equal(denials.find('r-1'), null);
  t.not(denials.find('r-2'), null);
  t.strictSame(denials.view(9, 9).latest.map(({ requestId }) => requestId), ['r-4', 'r-3', 'r-2']);
  t.strictSame(denials.view(9, 2).latest.map(({ requestId }) => requestId), ['r-4', 'r-3']);
  t.match(denials.view(9, 9), { total: 5, kept: 3, frequent: [{ client: 'dynatrace-sit', host: 'evil.example', count: 5, overcount: 0, latest: { requestId: 'r-4' } }] });
  t.end();
});

t.test('counted by client and host; peers that are no client by their address', (t) => {
  const denials = new RecentDenials();
  for (const [client, clientAddress, host] of [
    ['a', '10.8.0.1', 'x'],
    ['a', '10.8.0.2', 'x'],
    ['b', '10.8.0.1', 'x'],
    ['a', '10.8.0.1', 'y'],
    ['-', '192.0.2.1', 'x'],
    ['-', '192.0.2.2', 'x'],
    ['-', '192.0.2.2', 'x'],
  ] as const) {
    denials.note(denied({ client, clientAddress, host }), new Fault('host-not-allowed', 'x'), null);
  }
  const counted = denials.view(9, 0).frequent.map(({ client, host, count, latest }) => `${client} ${latest.clientAddress} ${host} ${count}`);
  t.strictSame(counted.toSorted(), ['- 192.0.2.1 x 1', '- 192.0.2.2 x 2', 'a 10.8.0.1 y 1', 'a 10.8.0.2 x 2', 'b 10.8.0.1 x 1']);
  t.end();
});

t.test('a scan of 100,000 hosts takes no room, and does not push out what is frequent', (t) => {
  const denials = new RecentDenials();
  let id = 0;
  const deny = (host: string): void => {
    const path = `/${'p'.repeat(5_000)}${host}`;
    id += 1;
    denials.note(denied({ requestId: `r-${id}`, host, path, detail: 'd'.repeat(2_000) }), new Denial(makeAsk({ host, path }), { ...DENY, detail: 'd'.repeat(2_000) }), null);
  };
  for (let i = 0; i < 600; i += 1) deny('frequent.example');
  for (let i = 0; i < 1_000; i += 1) deny(`warm-up-${i}.example`);
  const grown = grownBy(() => {
    for (let i = 0; i < 100_000; i += 1) deny(`scan-${i}.example`);
  });
  t.ok(grown < 2, `${grown.toFixed(1)} MiB more`);
  const { total, frequent, latest } = denials.view(1_000, 10_000);
  t.equal(total, 101_600);
  t.equal(frequent.length, 200);
  t.equal(latest.length, 1_000);
  t.match(frequent.find(({ host }) => host === 'frequent.example'), { count: 600, overcount: 0 });
  t.ok(latest.every(({ path, detail }) => path.length <= 2_048 && detail.length <= 1_024));
  t.ok(latest.every(({ requestId }) => denials.find(requestId)?.ask === null), 'so long an ask is not kept');
  t.end();
});

t.test('a piece of a long text does not keep the text', (t) => {
  const denials = new RecentDenials();
  const grown = grownBy(() => {
    for (let i = 0; i < 1_000; i += 1) {
      const url = Buffer.alloc(60_000, `/a/path/of/some/length/${i}?`).toString('latin1');
      const path = url.slice(0, url.indexOf('?'));
      denials.note(denied({ requestId: `r-${i}`, path }), new Denial(makeAsk({ path }), DENY), null);
    }
  });
  t.ok(grown < 5, `${grown.toFixed(1)} MiB for 1,000 denials`);
  t.match(denials.find('r-999'), { shown: { path: '/a/path/of/some/length/999' }, ask: { path: '/a/path/of/some/length/999' } });
  t.end();
});

t.test('tunnels that end as planned leave the memory of failures to what has failed', async (t) => {
  const failures = new RecentFailures();
  failures.note(makeRecord({ requestId: 'real', code: 'upstream-cut', status: 502 }), new Fault('upstream-cut', 'cut'), null);
  for (const code of ['idle-timeout', 'age-limit', 'draining'] as const) for (let i = 0; i < 200; i += 1) failures.note(makeRecord({ requestId: `${code}-${i}`, form: 'connect', became: 'tunnel', code }), new Fault(code, 'x'), null);
  t.strictSame(failures.latest(10).map(({ requestId }) => requestId), ['real']);
});
