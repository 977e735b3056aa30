/** docs/log.md: its examples are what the code writes, in each profile, and its lists name the fields that a profile adds. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { PROFILE_FIELDS } from '../../schemas/outputs.ts';
import type { LogConfig } from '../../src/config/config.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';
import { createAccessLog, createLineFormat } from '../../src/telemetry/logger.ts';
import { SeenDenials } from '../../src/suggest/seen-denials.ts';
import { schemaFaults } from '../support/schemas.ts';

const PAGE = readFileSync(new URL('../../docs/log.md', import.meta.url), 'utf8');
const PROFILES = Object.keys(PROFILE_FIELDS) as LogConfig['profile'][];

/** The lines of the first block with that language. */
function blockOf(language: string): string[] {
  const [, block = ''] = new RegExp(`^\`\`\`${language}\\n([^]*?)\`\`\``, 'm').exec(PAGE) ?? [];
  return block.split('\n').filter((line) => line !== '');
}

function tunnel(): AccessRecord {
  const record = new AccessRecord('5f1c0a9b3d2e-00000001a', 0, '10.8.3.17');
  return Object.assign(record, { form: 'connect', client: 'dynatrace-sit', method: 'CONNECT', host: 'eco-sit.telus.internal', port: 443, destination: 'eco-sit', rule: 'rules[0]', verdict: 'allow', became: 'tunnel', status: 200, upstreamAddress: '10.40.1.9', dnsMs: 0.41, tcpMs: 3.2, durationMs: 812.5, bytesSent: 1204, bytesReceived: 48_110, closedBy: 'client' });
}

function refusal(): AccessRecord {
  const record = new AccessRecord('5f1c0a9b3d2e-00000001b', 0, '10.8.3.17');
  return Object.assign(record, { form: 'forward', client: 'dynatrace-sit', method: 'GET', host: 'example.com', port: 80, path: '/', verdict: 'deny', code: 'host-not-allowed', status: 403, durationMs: 0.38, closedBy: 'proxy', traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', detail: 'The host example.com is in no destination' });
}

/** The times of the examples. */
const at = (line: string, time: string): string => line.trimEnd().replaceAll(/2\d{3}-\d\d-\d\dT[\d:.]+Z/g, time);

function write(record: AccessRecord, log: Pick<LogConfig, 'format' | 'profile'>, time: string): string {
  let written = '';
  createAccessLog({ level: 'info', ...log }, (line) => {
    written = createLineFormat(log, false)(at(line, time) + '\n');
  })(record);
  return written.trimEnd();
}

const TIMES = ['2026-03-02T12:03:04.123Z', '2026-03-02T12:03:05.002Z'] as const;

t.test('the examples', async (t) => {
  t.strictSame(blockOf('json'), [write(tunnel(), { format: 'json', profile: 'plain' }, TIMES[0]), write(refusal(), { format: 'json', profile: 'plain' }, TIMES[1])]);
  t.strictSame(blockOf('text'), [write(tunnel(), { format: 'text', profile: 'plain' }, TIMES[0]), write(refusal(), { format: 'text', profile: 'plain' }, TIMES[1])]);
  for (const profile of ['google', 'dynatrace'] as const) {
    const [line = ''] = blockOf(`json ${profile}`);
    t.equal(line, write(refusal(), { format: 'json', profile }, TIMES[1]), profile);
    t.strictSame(schemaFaults('log-line', JSON.parse(line)), []);
  }
});

t.test('every field that a profile adds is named in its section, and is in real lines', async (t) => {
  for (const profile of PROFILES.filter((one) => one !== 'plain')) {
    const [, section = ''] = PAGE.split(profile === 'google' ? '### In Google Cloud Logging' : '### In Dynatrace');
    const text = section.split('\n##')[0] ?? '';
    const lines = [tunnel(), Object.assign(refusal(), { upstreamAddress: '10.40.1.9', path: '/x' })].map((record) => write(record, { format: 'json', profile }, TIMES[0]));
    const seen = new Set(lines.flatMap((line) => Object.keys(JSON.parse(line) as object)));
    for (const name of Object.keys(PROFILE_FIELDS[profile])) {
      t.ok(text.includes(`\`${name}\``), `${name} is told`);
      t.ok(seen.has(name), `${name} is written`);
    }
  }
});

t.test('suggest reads a denial in every profile', async (t) => {
  for (const profile of PROFILES) {
    const seen = new SeenDenials();
    seen.addLine(write(refusal(), { format: 'json', profile }, TIMES[1]));
    t.match(seen.list(), [{ client: 'dynatrace-sit', form: 'forward', host: 'example.com', port: 80, path: '/', code: 'host-not-allowed', count: 1 }], profile);
  }
});

t.test('no text that a client chose leaves its field, in any profile, and no query is in one', async (t) => {
  const hostile = 'a"b\u202e\n\u0085\\","severity":"x';
  for (const profile of PROFILES) {
    const line = write(Object.assign(refusal(), { method: hostile, host: hostile, path: hostile, clientAddress: hostile, upstreamAddress: hostile, detail: hostile }), { format: 'json', profile }, TIMES[0]);
    t.notMatch(line, /[\n\u007f-\u009f\u202e]/, profile);
    t.strictSame(schemaFaults('log-line', JSON.parse(line)), [], profile);
    const fields = JSON.parse(line) as Record<string, unknown>;
    t.match(fields, profile === 'google' ? { severity: 'WARNING', message: 'denied: host-not-allowed', httpRequest: { requestMethod: hostile, remoteIp: hostile, requestUrl: `//[${hostile}]:80${hostile}` } } : { method: hostile, host: hostile, path: hostile });
    if (profile === 'dynatrace') t.match(fields, { loglevel: 'WARN', 'http.request.method': hostile, 'server.address': hostile, 'url.path': hostile, 'network.peer.address': hostile });
  }
  t.match(write(Object.assign(tunnel(), { host: '2001:db8::1' }), { format: 'json', profile: 'google' }, TIMES[0]), '"requestUrl":"[2001:db8::1]:443"');
});

t.test('the profiles whose access lines can be longer than 8 KiB are named, and none is longer than 16 KiB', async (t) => {
  const [, named = ''] = /longer than the 8 KiB that rsyslog takes by default: (.*?)\. Set/.exec(PAGE) ?? [];
  const long = (length: number): string => '"'.repeat(length);
  for (const profile of PROFILES) {
    const line = write(Object.assign(refusal(), { method: long(32), host: long(256), path: long(2048), detail: long(1024) }), { format: 'json', profile }, TIMES[0]);
    t.equal(named.includes(`\`${profile}\``), Buffer.byteLength(line) > 8192, `${profile}: ${Buffer.byteLength(line)}`);
    t.ok(Buffer.byteLength(line) < 16384);
  }
});

t.test('the line of a start has the same fields on the pages that show it', async (t) => {
  const fields = ['operations.md', 'operations-day.md'].map((page) => {
    const [line = ''] = /^\{.*"msg":"eco-egress is listening"\}$/m.exec(readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8')) ?? [];
    return Object.keys(JSON.parse(line) as object);
  });
  t.strictSame(fields[0], fields[1]);
});
