import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import t from 'tap';
import type { LogConfig } from '../../src/config/config.ts';
import type { AccessRecord } from '../../src/telemetry/access-record.ts';
import { createTelemetry } from '../../src/telemetry/create-telemetry.ts';
import type { RunningTelemetry } from '../../src/telemetry/create-telemetry.ts';
import { makeRecord } from '../support/access-record.ts';
import { readDocRows } from '../support/doc-table.ts';
import { readScrape } from '../support/prometheus.ts';

type Line = Record<string, unknown>;

function open(log: Partial<LogConfig> = {}, isTTY = false): { telemetry: RunningTelemetry; text: () => Promise<string> } {
  const output = Object.assign(new PassThrough(), { isTTY });
  let written = '';
  output.on('data', (chunk: Buffer) => {
    written += chunk.toString();
  });
  const telemetry = createTelemetry({
    log: { level: 'info', format: 'json', profile: 'plain', ...log },
    policy: { hash: 'abc123', file: '-', loadedAt: 0, warnings: new Map(), clients: ['dynatrace-sit'], destinations: ['eco-sit'], limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] },
    version: '1.2.3',
    output,
  });
  const text = async (): Promise<string> => {
    await telemetry.close();
    output.end();
    await finished(output);
    return written;
  };
  return { telemetry, text };
}

async function linesOf(record: AccessRecord, log: Partial<LogConfig> = {}): Promise<Line[]> {
  const { telemetry, text } = open(log);
  telemetry.ended(record);
  return (await text()).split('\n').slice(0, -1).map((line) => JSON.parse(line) as Line);
}

const FULL: Partial<AccessRecord> = {
  user: 'anna',
  subject: 'system:serviceaccount:sit:agent',
  san: 'DNS:pod.example',
  upstreamStatus: 204,
  localAddress: '10.0.0.7',
  localPort: 40_001,
  attempts: 2,
  dials: 3,
  dnsMs: 0.4149,
  via: 'edge (proxy.example:3128)',
  tcpMs: 3,
  hopMs: 4.5,
  tlsMs: 8.25,
  firstByteMs: 11.999,
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  verdict: 'report',
  wouldDeny: 'path-not-allowed',
  code: 'upstream-cut',
  detail: 'the upstream closed after 10 of 20 bytes',
};

t.test('a full line', async (t) => {
  const [line = {}] = await linesOf(makeRecord(FULL));
  t.match(line['time'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.strictSame(line, {
    level: 'error',
    time: line['time'],
    requestId: 'id-1',
    form: 'gateway',
    client: 'dynatrace-sit',
    clientAddress: '10.8.3.17',
    user: 'anna',
    subject: 'system:serviceaccount:sit:agent',
    san: 'DNS:pod.example',
    method: 'GET',
    host: 'eco-sit.telus.internal',
    port: 443,
    path: '/api/x',
    destination: 'eco-sit',
    rule: 'rules[0]',
    verdict: 'report',
    wouldDeny: 'path-not-allowed',
    code: 'upstream-cut',
    status: 200,
    upstreamAddress: '10.40.1.9',
    upstreamStatus: 204,
    localAddress: '10.0.0.7',
    localPort: 40_001,
    via: 'edge (proxy.example:3128)',
    attempts: 2,
    dials: 3,
    reusedConnection: false,
    phases: { dns: 0.41, tcp: 3, hop: 4.5, tls: 8.25, firstByte: 12 },
    durationMs: 12,
    bytesSent: 120,
    bytesReceived: 4096,
    closedBy: 'upstream',
    'dt.trace_id': '0af7651916cd43dd8448eb211c80319c',
    'dt.span_id': 'b7ad6b7169203331',
    detail: 'the upstream closed after 10 of 20 bytes',
    msg: 'failed: upstream-cut',
  });
});

t.test('what did not happen is left out', async (t) => {
  const [line = {}] = await linesOf(makeRecord());
  t.strictSame(line['phases'], {});
  for (const field of ['via', 'dt.trace_id', 'dt.span_id', 'detail', 'wouldDeny', 'attempts', 'dials', 'user', 'subject', 'san', 'upstreamStatus', 'localAddress', 'localPort']) t.notOk(field in line, field);
});

t.test('the page lists every field, and no other', async (t) => {
  const [line = {}] = await linesOf(makeRecord(FULL));
  const phases = Object.keys(line['phases'] as Line).map((phase) => `phases.${phase}`);
  const page = readDocRows('docs/log.md').map(([field]) => field);
  t.strictSame(page.toSorted(), [...Object.keys(line), ...phases].sort());
});

t.test('level and message say how it ended', async (t) => {
  const table: [Partial<AccessRecord>, string, string][] = [
    [{}, 'info', 'exchange ok'],
    [{ status: 503 }, 'info', 'exchange ok'],
    [{ form: 'connect', became: 'tunnel' }, 'info', 'tunnel ok'],
    [{ form: 'sni', became: 'tunnel', upstreamAddress: '-' }, 'info', 'tunnel ok'],
    [{ status: 101, became: 'tunnel' }, 'info', 'tunnel ok'],
    [{ verdict: 'report', wouldDeny: 'no-rule' }, 'warn', 'reported: no-rule'],
    [{ verdict: 'report', wouldDeny: 'no-rule', code: 'upstream-cut' }, 'error', 'failed: upstream-cut'],
    [{ code: 'client-closed' }, 'info', 'aborted: client-closed'],
    [{ code: 'host-not-allowed', verdict: 'deny' }, 'warn', 'denied: host-not-allowed'],
    [{ code: 'request-malformed', verdict: '-' }, 'warn', 'denied: request-malformed'],
    [{ code: 'idle-timeout', form: 'connect' }, 'warn', 'closed: idle-timeout'],
    [{ code: 'draining', form: 'connect' }, 'warn', 'closed: draining'],
    [{ code: 'internal', status: 500 }, 'error', 'failed: internal'],
  ];
  const order = ['info', 'warn', 'error'] as const;
  for (const [changes, level, msg] of table) {
    const [line] = await linesOf(makeRecord(changes));
    t.match(line, { level, msg });
    for (const least of order) {
      const shown = (await linesOf(makeRecord(changes), { level: least })).length;
      t.equal(shown, order.indexOf(least) <= order.findIndex((name) => name === level) ? 1 : 0, `${msg} at level ${least}`);
    }
  }
});

const HOSTILE = [
  '\r\n{"level":"info","msg":"forged"}',
  '"},{"x":"',
  '\u0000\u001b[2J\u009b31m\u007f',
  '\u2028\u2029\u0085',
  '\u202egnp.exe\u2066\u200b\ufeff',
  '\ud800 alone',
  '\\u000a\\',
  '${jndi:ldap://x} %s %d %j %o',
  '__proto__',
  '<script>',
].join(' ');

const ACTS = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;

t.test('hostile text stays inside its field', async (t) => {
  const changes = { host: HOSTILE, path: HOSTILE, method: HOSTILE, detail: HOSTILE, code: 'request-malformed', requestId: HOSTILE } as const;
  for (const format of ['json', 'text'] as const) {
    const { telemetry, text } = open({ format });
    telemetry.ended(makeRecord(changes));
    telemetry.notice('warn', HOSTILE, { [HOSTILE]: HOSTILE, nested: { deep: [HOSTILE] }, level: 'forged', error: new Error(HOSTILE) });
    const written = await text();
    t.notMatch(written, ACTS, format);
    t.equal(Array.from(written).filter((character) => character < ' ').join(''), '\n\n', `${format}: two lines, no control character`);
    if (format === 'json') {
      const [access, notice] = written.split('\n').slice(0, 2).map((line) => JSON.parse(line) as Line);
      t.match(access, { level: 'warn', host: HOSTILE, path: HOSTILE, detail: HOSTILE, msg: 'denied: request-malformed' });
      t.equal(access?.['method'], `${HOSTILE.slice(0, 31)}…`);
      t.match(notice, { level: 'warn', level_: 'forged', msg: HOSTILE, [HOSTILE]: HOSTILE, nested: { deep: [HOSTILE] } });
    }
  }
});

t.test('a field of a notice cannot stand for one of a profile', async (t) => {
  for (const profile of ['google', 'dynatrace'] as const) {
    const { telemetry, text } = open({ profile });
    telemetry.notice('warn', 'x', { severity: 'forged', message: 'forged', loglevel: 'forged', timestamp: 'forged', content: 'forged' });
    const line = await text();
    for (const name of ['severity', 'message', 'loglevel', 'timestamp', 'content']) t.notMatch(line, `"${name}":"forged"`, `${profile}: ${name}`);
  }
});

t.test('each character that means something in JSON is escaped by itself', async (t) => {
  for (const character of ['\\', '"', '\n', '\r', '\t', '\0', '\u001b', '\u007f', '\u2028', 'é']) {
    const [line] = await linesOf(makeRecord({ path: `/a${character}b` }));
    t.equal(line?.['path'], `/a${character}b`, `U+${character.charCodeAt(0).toString(16)}`);
  }
});

t.test('texts are bounded, and what is cut shows', async (t) => {
  const long = 'p'.repeat(100_000);
  const [line = {}] = await linesOf(makeRecord({ path: long, host: long, method: long, detail: long, code: 'target-malformed' }));
  t.strictSame(['path', 'host', 'method', 'detail'].map((field) => String(line[field]).length), [2048, 256, 32, 1024]);
  t.equal(String(line['path']).at(-1), '…');
  const [whole = {}] = await linesOf(makeRecord({ path: 'p'.repeat(2048) }));
  t.equal(whole['path'], 'p'.repeat(2048), 'the longest that fits is not cut');
});

t.test('lines for people', async (t) => {
  const { telemetry, text } = open({ format: 'text' });
  telemetry.ended(makeRecord({ form: 'connect', path: '', method: 'CONNECT' }));
  telemetry.ended(makeRecord({ form: 'connect', path: '', method: 'CONNECT', via: 'edge (proxy.example:3128)' }));
  telemetry.ended(makeRecord({ form: 'forward', host: '2001:db8::1', port: 80, code: 'no-rule', verdict: 'deny', status: 403, upstreamAddress: '-', detail: 'why' }));
  telemetry.ended(makeRecord({ verdict: 'report', wouldDeny: 'no-rule', detail: 'why', user: 'anna' }));
  telemetry.ended(makeRecord({ form: '-', method: '-', host: '-', port: 0, path: '', code: 'request-timeout', status: 408, upstreamAddress: '-' }));
  telemetry.ended(makeRecord({ form: 'connect', method: 'CONNECT', host: '-', port: 0, path: '', code: 'target-malformed', status: 400, upstreamAddress: '-' }));
  telemetry.notice('info', 'listening', { address: '0.0.0.0:3128', forms: ['connect'], reason: 'two words' });
  telemetry.notice('error', 'resolver fails', { err: new Error('no answer') });
  const lines = (await text()).split('\n').map((line) => line.replace(/^\d\d:\d\d:\d\d\.\d{3} /, ''));
  t.strictSame(lines, [
    'INFO  connect eco-sit.telus.internal:443 → 10.40.1.9 200 ok 12 ms ↑120 ↓4096 client=dynatrace-sit from=10.8.3.17 id=id-1',
    'INFO  connect eco-sit.telus.internal:443 → 10.40.1.9 by way of edge (proxy.example:3128) 200 ok 12 ms ↑120 ↓4096 client=dynatrace-sit from=10.8.3.17 id=id-1',
    'WARN  forward GET [2001:db8::1]:80/api/x → - 403 no-rule 12 ms ↑120 ↓4096 client=dynatrace-sit from=10.8.3.17 id=id-1 (why)',
    'WARN  gateway GET eco-sit.telus.internal:443/api/x → 10.40.1.9 200 ok would be denied: no-rule 12 ms ↑120 ↓4096 client=dynatrace-sit user=anna from=10.8.3.17 id=id-1 (why)',
    'WARN  no request → - 408 request-timeout 12 ms ↑120 ↓4096 client=dynatrace-sit from=10.8.3.17 id=id-1',
    'WARN  connect no host → - 400 target-malformed 12 ms ↑120 ↓4096 client=dynatrace-sit from=10.8.3.17 id=id-1',
    'INFO  listening address=0.0.0.0:3128 forms=["connect"] reason="two words"',
    'ERROR resolver fails err="no answer"',
    '',
  ]);
});

t.test('with the profile of Google, every line has the fields that Cloud Logging reads, and all its own', async (t) => {
  const hostile = 'x","msg":"no,"msg": \\","message":"}';
  const { telemetry, text } = open({ level: 'debug', profile: 'google' });
  telemetry.ended(makeRecord());
  telemetry.ended(makeRecord({ code: 'host-not-allowed', verdict: 'deny', path: hostile, detail: hostile }));
  telemetry.ended(makeRecord({ code: 'upstream-cut' }));
  telemetry.notice('debug', 'a "debug" line');
  telemetry.notice('info', hostile, { msgs: 1, nested: { first: 1, msg: hostile } });
  const lines = (await text()).split('\n').slice(0, -1).map((line) => JSON.parse(line) as Line);
  t.strictSame(lines.map(({ severity, message }) => [severity, message]), [
    ['INFO', lines[0]?.['msg']], ['WARNING', 'denied: host-not-allowed'], ['ERROR', 'failed: upstream-cut'], ['DEBUG', 'a "debug" line'], ['INFO', hostile],
  ]);
  for (const { level, time } of lines) t.match([level, time], [/^(debug|info|warn|error)$/, /Z$/]);
  const [plain = {}] = await linesOf(makeRecord());
  t.strictSame(Object.keys(lines[0] ?? {}).filter((name) => name !== 'httpRequest'), ['severity', 'message', ...Object.keys(plain)]);
  t.match(lines[1]?.['httpRequest'], { requestUrl: `//eco-sit.telus.internal:443${hostile}` });
});

t.test('with the profile of Dynatrace, every line has the fields that it reads, and all its own', async (t) => {
  const hostile = 'x","msg":"no,"msg": \\","content":"}';
  const { telemetry, text } = open({ level: 'debug', profile: 'dynatrace' });
  telemetry.ended(makeRecord({ path: hostile, method: hostile, host: hostile, upstreamAddress: hostile, code: 'upstream-cut' }));
  telemetry.notice('warn', hostile, { nested: { msg: hostile } });
  const lines = (await text()).split('\n').slice(0, -1).map((line) => JSON.parse(line) as Line);
  t.match(lines, [
    { loglevel: 'ERROR', content: 'failed: upstream-cut', 'url.path': hostile, path: hostile, 'http.request.method': hostile.slice(0, 31), 'server.address': hostile, 'network.peer.address': hostile, 'error.type': 'upstream-cut' },
    { loglevel: 'WARN', content: hostile, msg: hostile },
  ]);
  for (const { timestamp, time } of lines) t.equal(timestamp, time);
});

t.test('colour only on a terminal, and never in JSON', async (t) => {
  for (const [format, isTTY, coloured] of [['text', true, true], ['text', false, false], ['json', true, false]] as const) {
    const { telemetry, text } = open({ format }, isTTY);
    telemetry.notice('warn', 'x');
    t.equal((await text()).includes('\u001b['), coloured, `${format} ${isTTY}`);
  }
});

t.test('lost lines show in the metrics', async (t) => {
  const output = new PassThrough({ highWaterMark: 1 });
  const telemetry = createTelemetry({
    log: { level: 'info', format: 'json', profile: 'plain' },
    policy: { hash: 'abc123', file: '-', loadedAt: 0, warnings: new Map(), clients: [], destinations: [], limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] },
    version: '1.2.3',
    output,
    sink: { maxLength: 100, closeTimeout: 0 },
  });
  t.teardown(() => telemetry.close());
  telemetry.ended(makeRecord());
  telemetry.ended(makeRecord());
  const { samples } = readScrape(await telemetry.exposition.text());
  t.equal(samples.get('eco_egress_log_lines_dropped_total{reason="slow"}'), 2);
  t.equal(samples.get('eco_egress_requests_total{form="gateway",destination="-",client="-",outcome="allowed",code="ok"}'), 2, 'counted all the same');
});
