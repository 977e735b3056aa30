/** `suggest` as a command: from logs, from standard input and from a running proxy; the patch, and writing it. */
import t, { type Test } from 'tap';
import { chmodSync, chownSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { PassThrough, Readable } from 'node:stream';
import { runSuggest, type SuggestOptions } from '../../src/cli/suggest.ts';
import { loadConfig } from '../../src/config/load.ts';
import { compilePolicy } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { recordIo } from '../support/command-io.ts';
import { eco } from '../support/eco.ts';
import { startLab } from '../support/lab.ts';
import { makeAsk } from '../support/policy.ts';
import { schemaFaults } from '../support/schemas.ts';
import { askRaw } from '../support/wire.ts';

const CONFIG = `version: 1
# The pods.
clients:
  pods: { addresses: [10.8.0.0/14] }
destinations:
  eco:
    hosts: [eco.example] # exact
    ports: [443]
    tls: { certFile: nowhere.pem, keyFile: nowhere.pem } # not on this machine
rules:
  - { clients: [pods], destinations: [eco] }
`;

const line = (more: object = {}): string =>
  `${JSON.stringify({ level: 'warn', time: '2026-12-01T00:00:01.000Z', form: 'connect', client: 'pods', clientAddress: '10.8.0.1', method: 'CONNECT', host: 'new.example', port: 443, path: '', destination: '-', verdict: 'deny', code: 'host-not-allowed', upstreamAddress: '-', durationMs: 1, ...more })}\n`;

const LOG = line() + line() + line({ host: 'eco.example', port: 8443, code: 'port-not-allowed' }) + line({ host: '169.254.169.254' });

async function suggest(t: Test, options: Partial<SuggestOptions> = {}, { log = LOG, config = CONFIG }: { log?: string; config?: string } = {}) {
  const directory = t.testdir({ 'egress.yaml': config, 'access.log': log });
  const file = join(directory, 'egress.yaml');
  const io = recordIo();
  const code = await runSuggest({ config: file, minCount: '2', ...options }, io, join(directory, 'access.log'));
  return { code, out: io.out().replaceAll(`${directory}/`, ''), err: io.err().replaceAll(`${directory}/`, ''), file, directory };
}

t.test('the patch, which changes nothing else', async (t) => {
  const { code, out, file } = await suggest(t);
  t.equal(code, 0);
  t.match(out, /^4 denials from 2026-12-01T00:00:01Z to 2026-12-01T00:00:01Z: 2 changes proposed, 1 not\.\n/);
  t.match(out, /Not proposed:\npods asked for 169\.254\.169\.254 once, from 10\.8\.0\.1\n.*\n {2}ask for another host/);
  t.match(out.slice(out.indexOf('--- ')), /^--- .*egress\.yaml"?\n\+\+\+ .*egress\.yaml"?\n@@ [^\n]* @@\n/);
  t.strictSame(out.split('\n').filter((each) => /^-[^-]/.test(each)), ['-    ports: [443]']);
  t.equal(readFileSync(file, 'utf8'), CONFIG, 'nothing is written');
});

t.test('a change that permits the requests of two clients is one', async (t) => {
  const config = CONFIG.replace('  pods: ', '  jobs: { addresses: [10.12.0.0/14] }\n  pods: ').replace('clients: [pods]', 'clients: [pods, jobs]');
  const port = { host: 'eco.example', port: 8443, code: 'port-not-allowed' };
  const { out } = await suggest(t, {}, { config, log: line(port) + line({ ...port, client: 'jobs', clientAddress: '10.12.0.1' }) });
  t.match(out, /^2 denials from .*: 1 change proposed\.\n[^]*A change above permits it\./);
});

t.test('written, with its mode and owner, through a symlink; then everything passes', async (t) => {
  const directory = t.testdir({ 'real.yaml': CONFIG, 'access.log': LOG });
  // A mode that umask would narrow; only root can give a file away.
  chmodSync(join(directory, 'real.yaml'), 0o664);
  if (process.getuid?.() === 0) chownSync(join(directory, 'real.yaml'), 1000, 1001);
  const owned = statSync(join(directory, 'real.yaml'));
  symlinkSync('real.yaml', join(directory, 'egress.yaml'));
  const file = join(directory, 'egress.yaml');
  const run = async (): Promise<string> => {
    const io = recordIo();
    t.equal(await runSuggest({ config: file, minCount: '2', write: true }, io, join(directory, 'access.log')), 0);
    return io.out() + io.err();
  };
  t.match(await run(), /egress\.yaml is written\.\n$/);
  t.match(statSync(join(directory, 'real.yaml')), { mode: owned.mode, uid: owned.uid, gid: owned.gid });
  const loaded = loadConfig({ file, env: {}, policyOnly: true });
  if (!loaded.ok) throw new Error('the file is faulty');
  for (const [host, port] of [['new.example', 443], ['eco.example', 8443]] as const) t.equal(decide(compilePolicy(loaded.config), makeAsk({ host, port })).verdict, 'allow', host);
  t.match(await run(), /4 denials from .*: 0 changes proposed, 1 not, 3 of the denials are permitted by now\.\n/);
});

t.test('as data', async (t) => {
  const { out } = await suggest(t, { json: true });
  const report: unknown = JSON.parse(out);
  t.strictSame(schemaFaults('suggest', report), []);
  t.match(report, { denials: 4, lines: { access: 4, other: 0 }, proposed: [{ who: 'pods', host: 'new.example', count: 2 }, { changes: [/^add 8443/] }], declined: [{ reason: /metadata/ }], problems: { length: 0 }, patch: /^--- / });
  const none = JSON.parse((await suggest(t, { json: true }, { log: line({ verdict: 'allow' }) })).out) as object;
  t.strictSame(schemaFaults('suggest', none), []);
  t.match(none, { denials: 0, patch: null, classes: { length: 0 } });
});

t.test('nothing to do, and what cannot be done', async (t) => {
  t.match(await suggest(t, {}, { log: `${line({ verdict: 'allow' })}another line\n` }), { code: 0, out: 'No denials were found in 1 access line; 1 other line passed over.\n' });
  t.match(await suggest(t, {}, { log: '' }), { code: 0, out: 'No denials were found in 0 access lines.\n' });
  t.match(await suggest(t, {}, { log: 'INFO a line for people\n' }), { code: 2, err: /log\.format: json/ });
  t.match(await suggest(t, { minCount: '0' }), { code: 2, err: /--min-count 0 is not a number of requests/ });
  t.match(await suggest(t, {}, { config: 'version: 2\n' }), { code: 2, err: /^One fault|faults: fix them/ });
  const variable = await suggest(t, { write: true }, { config: CONFIG.replace('[443]', '"${PORTS:-443}"') });
  t.match(variable, { code: 1, out: /cannot be changed automatically:\n {2}destinations\.eco\.ports is taken from a variable: add 8443 by hand/ });
  t.match(readFileSync(variable.file, 'utf8'), /PORTS/, 'nothing is written');
  const io = recordIo();
  t.equal(await runSuggest({ config: variable.file, minCount: '2' }, io, join(variable.directory, 'none.log')), 2);
  t.match(io.err(), /none\.log cannot be read: .*Name a file with the access log, or - for standard input\./);
  const device = recordIo();
  t.equal(await runSuggest({ config: variable.file, minCount: '2' }, device, '/dev/zero'), 2);
  t.match(device.err(), /^\/dev\/zero cannot be read: it has a line of more than 64 MiB\./, 'a file without an end');
  const packed = recordIo({}, Readable.from([gzipSync(LOG)]));
  t.equal(await runSuggest({ config: variable.file, minCount: '2' }, packed, '-'), 2);
  t.equal(packed.err(), '- cannot be read: it is compressed with gzip, so pass it through zcat. Name a file with the access log, or - for standard input.\n');
});

t.test('a line that cannot be used spoils no other, and is named', async (t) => {
  const whole = await suggest(t);
  const port = { host: 'eco.example', code: 'port-not-allowed', destination: 'eco' };
  for (const faulty of [line({ port: 0 }), line({ port: 99_999 }), line({ ...port, port: -1 }), line({ ...port, port: 1.5 }), line({ port: null }), line({ time: '2026-99' }), line({ path: 'x'.repeat(1_048_576) }), `${'\0'.repeat(3_000_000)}\n`]) {
    const { code, out, err } = await suggest(t, {}, { log: `another line\n${faulty}${LOG}` });
    t.equal(code, 0);
    t.equal(out, whole.out, faulty.slice(0, 200));
    t.equal(err, 'access.log: left out, because they have no valid time or port, or more than 1 MiB: line 2.\n');
  }
  t.match((await suggest(t, {}, { log: LOG + line({ port: 0 }).repeat(12) })).err, /: lines 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 2 others\.\n$/);
});

t.test('a rule beside one that has a rate has the same rate', async (t) => {
  const config = CONFIG.replace('destinations: [eco] }', 'destinations: [eco], methods: [GET], rate: { perAddress: { requests: 50/s burst 100 }, perClient: { sent: 10GiB/day }, whenExhausted: cut } }');
  const log = line({ form: 'forward', method: 'PUT', host: 'eco.example', path: '/a', code: 'method-not-allowed' });
  const { out, file } = await suggest(t, { write: true }, { config, log });
  t.match(out, 'methods: [PUT], rate: { perAddress: { requests: 50/s burst 100 }, perClient: { sent: 10GiB/day }, whenExhausted: cut } }');
  const loaded = loadConfig({ file, env: {}, policyOnly: true });
  t.match(loaded, { ok: true });
  if (loaded.ok) t.strictSame(loaded.config.rules[1]?.rate, loaded.config.rules[0]?.rate);
});

t.test('as a process, from standard input', async (t) => {
  const directory = t.testdir({ 'egress.yaml': CONFIG, 'access.log': LOG });
  const io = recordIo({}, Readable.from([LOG.slice(0, 99), LOG.slice(99)]));
  t.equal(await runSuggest({ config: join(directory, 'egress.yaml'), minCount: '2' }, io, '-'), 0);
  t.match(io.out(), /2 changes proposed/);
  t.match(await eco(['suggest', '--config', join(directory, 'egress.yaml'), join(directory, 'access.log')]), { code: 0, out: /2 changes proposed/, err: '' });
});

t.test('from the proxy that runs', async (t) => {
  const lab = await startLab(t);
  for (let count = 0; count < 3; count += 1) t.match(await askRaw(t, lab.port, `CONNECT new.example:443 HTTP/1.1\r\nHost: new.example:443\r\n\r\n`), /^HTTP\/1\.1 403 /);
  const directory = t.testdir({});
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, CONFIG.replace('10.8.0.0/14', '127.0.0.0/8'));
  const io = recordIo();
  t.equal(await runSuggest({ config: file, minCount: '2', admin: new URL(lab.adminUrl).host }, io), 0);
  t.match(io.out(), /3 denials from/);
  t.match(io.out(), /\+ +hosts: \["new\.example"\]/);
  const nobody = recordIo();
  t.equal(await runSuggest({ config: file, minCount: '2', admin: '127.0.0.1:1' }, nobody), 1);
  t.match(nobody.err(), /^No proxy answers at 127\.0\.0\.1:1: nothing listens there/);
});

t.test('a file that has gone meanwhile is not written', async (t) => {
  const directory = t.testdir({ 'egress.yaml': CONFIG, 'access.log': LOG });
  const file = join(directory, 'egress.yaml');
  const io = recordIo();
  const gone = { ...io, stdout: Object.assign(new PassThrough(), { write: () => { rmSync(file, { force: true }); return true; } }) };
  t.equal(await runSuggest({ config: file, minCount: '2', write: true }, gone, join(directory, 'access.log')), 1);
  t.match(io.err(), /egress\.yaml cannot be written: .*\. Apply the patch by hand\.\n$/);
});
