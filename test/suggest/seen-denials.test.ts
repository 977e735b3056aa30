/** Denials from log lines and from `/denials`: what counts, what is passed over, and bounds. */
import t from 'tap';
import { RecentDenials } from '../../src/explain/recent-denials.ts';
import { SeenDenials } from '../../src/suggest/seen-denials.ts';
import { makeRecord } from '../support/access-record.ts';

const line = (more: object = {}): string =>
  JSON.stringify({ level: 'warn', time: '2026-12-01T00:00:01.000Z', form: 'connect', client: 'pods', clientAddress: '10.8.0.1', method: 'CONNECT', host: 'new.example', port: 443, path: '', destination: '-', verdict: 'deny', code: 'host-not-allowed', upstreamAddress: '-', durationMs: 1, ...more });

const seenOf = (...lines: string[]): SeenDenials => {
  const seen = new SeenDenials();
  for (const each of lines) seen.addLine(each);
  return seen;
};

t.test('one kind, for all addresses of a client and at any time', async (t) => {
  const report = { verdict: 'report', code: 'ok', wouldDeny: 'host-not-allowed', upstreamAddress: '203.0.113.7' };
  const [kind, ...others] = seenOf(line(), line({ clientAddress: '10.8.0.2', time: '2026-12-01T00:00:09.000Z' }), line({ ...report, time: '2026-11-30T00:00:00.000Z' })).list();
  t.match(kind, { client: 'pods', form: 'connect', method: null, path: null, code: 'host-not-allowed', count: 3, first: Date.UTC(2026, 10, 30), last: Date.UTC(2026, 11, 1, 0, 0, 9) });
  t.strictSame([...(kind?.addresses ?? [])], ['10.8.0.1', '10.8.0.2']);
  t.strictSame([...(kind?.upstreamAddresses ?? [])], ['203.0.113.7']);
  t.strictSame(others, []);
});

t.test('what is distinguished, the most frequent first', async (t) => {
  const get = { form: 'forward', method: 'GET', path: '/a' };
  const seen = seenOf(line({ client: '-' }), line({ client: '-', clientAddress: '10.8.0.2' }), line({ port: 22 }), line(get), line({ ...get, path: '/b' }), line({ ...get, method: 'PUT' }), line({ user: 'anna' }), line({ san: 'DNS:a.example DNS:b.example' }), line(), line());
  t.equal(seen.list().length, 9);
  t.match(seen.list()[0], { client: 'pods', count: 2 });
  t.strictSame(seen.list().find(({ sans }) => sans.length > 0)?.sans, ['DNS:a.example', 'DNS:b.example']);
  t.strictSame(seen.list().find(({ user }) => user !== null)?.user, 'anna');
});

t.test('what is no denial, and what is no access line', async (t) => {
  const seen = seenOf(line({ verdict: 'allow', code: 'ok' }), line({ verdict: '-', code: 'request-malformed' }), line({ host: '-' }), line({ form: 'telnet' }), line({ port: 'x' }), line({ time: 'yesterday' }), '{"level":"info","msg":"eco-egress is listening"}', 'a line of another program', '[1]', 'null', '{"cut', '', '   ');
  t.strictSame(seen.list(), []);
  t.strictSame([seen.accessLines, seen.otherLines], [6, 5]);
});

t.test('what depends on the moment is not a denial of the policy', async (t) => {
  for (const code of ['rate-limited', 'byte-limit-reached', 'limit-reached', 'draining']) {
    t.strictSame(seenOf(line({ code }), line({ verdict: 'report', code: 'ok', wouldDeny: code })).list(), [], code);
  }
});

t.test('what no change of the policy would permit is passed over, in a log and in an answer', async (t) => {
  const codes = ['circuit-open', 'rate-limited', 'byte-limit-reached', 'limit-reached', 'draining', 'credentials-missing', 'credentials-wrong', 'path-ambiguous', 'request-malformed', 'a-code-to-come'];
  t.strictSame(seenOf(...codes.flatMap((code) => [line({ code }), line({ verdict: 'report', wouldDeny: code, code: 'ok' })])).list(), []);
  const kept = ['client-not-allowed', 'host-not-allowed', 'port-not-allowed', 'form-not-allowed', 'method-not-allowed', 'path-not-allowed', 'no-rule', 'rule-expired', 'address-not-allowed'];
  t.equal(seenOf(...kept.map((code, port) => line({ code, port: port + 1 }))).list().length, kept.length);
});

t.test('a scan of names does not fill the memory', async (t) => {
  const seen = new SeenDenials();
  for (let count = 0; count < 20_050; count += 1) seen.addLine(line({ host: `n${count}.example` }));
  for (let count = 0; count < 300; count += 1) seen.addLine(line({ host: 'n1.example', clientAddress: `10.8.1.${count % 256}` }));
  t.equal(seen.list().length, 20_000);
  t.equal(seen.leftOut, 50);
  t.equal(seen.list()[0]?.addresses.size, 100);
});

t.test('a host that was asked for once after a scan of many counts once', async (t) => {
  const denials = new RecentDenials();
  const deny = (host: string): void => { denials.note(makeRecord({ form: 'connect', client: 'pods', host, port: 443, verdict: 'deny', code: 'host-not-allowed' }), null, null); };
  for (let i = 0; i < 10_000; i += 1) deny(`scan-${i}.example`);
  deny('once.example');
  for (let i = 0; i < 150; i += 1) deny('known.example');
  const seen = new SeenDenials();
  t.ok(seen.addAnswer(JSON.stringify(denials.view(200, 100))));
  t.equal(seen.list().find(({ host }) => host === 'once.example')?.count, 1);
});

t.test('the answer of a proxy: counts beyond the latest ones belong to the last of their kind', async (t) => {
  const record = (more: object = {}): object => ({ requestId: 'x', time: '2026-12-01T00:00:01.000Z', verdict: 'deny', code: 'host-not-allowed', form: 'connect', client: 'pods', clientAddress: '10.8.0.1', method: 'CONNECT', host: 'new.example', port: 443, path: '', destination: '-', ...more });
  const seen = new SeenDenials();
  t.equal(seen.addAnswer(JSON.stringify({ total: 9, latest: [record(), record({ port: 8443 })], frequent: [{ client: 'pods', host: 'new.example', count: 9, overcount: 0, latest: record() }, { client: 'jobs', host: 'old.example', count: 4, overcount: 1, latest: record({ client: 'jobs', host: 'old.example', verdict: 'report' }) }] })), true);
  t.match(seen.list().map(({ host, port, count }) => [host, port, count]), [['new.example', 443, 8], ['old.example', 443, 3], ['new.example', 8443, 1]], 'without what is counted too many');
  const strangers = new SeenDenials();
  const of = (clientAddress: string): object => record({ client: '-', clientAddress, code: 'client-not-allowed' });
  const frequent = [['10.9.0.1', 5], ['10.9.0.2', 2]].map(([clientAddress, count]) => ({ client: '-', host: 'new.example', count, overcount: 0, latest: of(String(clientAddress)) }));
  t.equal(strangers.addAnswer(JSON.stringify({ total: 7, latest: [of('10.9.0.1'), of('10.9.0.1'), of('10.9.0.1')], frequent })), true);
  t.strictSame(strangers.list().map(({ addresses, count }) => [[...addresses], count]), [[['10.9.0.1'], 5], [['10.9.0.2'], 2]], 'each stranger by itself');
  for (const body of ['', '[]', '{}', '{"latest":[1],"frequent":[]}', '{"latest":[]}', '<html>']) t.equal(new SeenDenials().addAnswer(body), false, body);
});
