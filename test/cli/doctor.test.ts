/** `eco-egress doctor`: what it prints and how it ends, as a process where that matters. */
import t, { type Test } from 'tap';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { type DoctorOptions, runDoctor } from '../../src/cli/doctor.ts';
import { readOpenFileLimit } from '../../src/cli/open-config.ts';
import type { DoctorReport } from '../../src/doctor/finding.ts';
import { recordIo } from '../support/command-io.ts';
import { eco } from '../support/eco.ts';
import { startLab } from '../support/lab.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { listen } from '../support/listen.ts';
import { schemaFaults } from '../support/schemas.ts';

function writeConfig(t: Test, port: number, more = ''): string {
  const file = join(t.testdir({}), 'egress.yaml');
  writeFileSync(file, `version: 1
listeners: { http: ["127.0.0.1:0"], tls: off, admin: "127.0.0.1:0" }
clients: { pods: { addresses: ["10.8.0.0/14"] } }
destinations:
  eco: { hosts: ["127.0.0.1"], ports: [${port}], addresses: ["127.0.0.0/8"], gateway: { prefix: /eco, url: "http://127.0.0.1:${port}" } }
rules: [{ clients: [pods], destinations: [eco] }]
${more}`);
  return file;
}

async function doctor(options: Partial<DoctorOptions>, env: Record<string, string> = {}) {
  const io = recordIo(env);
  const code = await runDoctor({ timeout: '2s', ...options }, io);
  return { code, out: io.out(), err: io.err() };
}

t.test('as a process: ticks, a cross, and the exit code', async (t) => {
  const server = createServer((_, response) => response.end('well'));
  const port = await listen(t, server);
  const config = writeConfig(t, port);
  const well = await eco(['doctor', '--config', config]);
  t.match(well, { code: 0, err: '' });
  t.match(well.out, /^The route from here to the partners of .*egress\.yaml\.\n\nConfiguration \(configuration\)\n {2}✓ /);
  t.match(well.out, new RegExp(`✓ gateway 127\\.0\\.0\\.1:${port} +answered 200`));
  t.match(well.out, /\nNothing is broken: \d+ ok, \d+ warnings?, \d+ not tried\.\n$/);

  server.close();
  server.closeAllConnections();
  const broken = await eco(['doctor', '--config', config, '--json', '--only', 'tcp', 'http']);
  t.equal(broken.code, 1);
  const report = JSON.parse(broken.out) as DoctorReport;
  t.equal(report.ok, false);
  t.strictSame(report.checks.map(({ name }) => name), ['tcp', 'http']);
  t.match(report.checks[0]?.findings[0], { state: 'fail', code: 'connection-refused', advice: String });
  t.match(report.checks[1]?.findings, [{ state: 'skipped', code: null }]);
});

t.test('what was needed shows where it is broken, though it was not asked for', async (t) => {
  const config = writeConfig(t, 1);
  const { code, out } = await doctor({ config, only: ['http'] });
  t.equal(code, 1);
  t.match(out, /TCP \(tcp\)\n {2}✗ [^]*connection-refused/);
  t.notMatch(out, /Configuration/);
  t.match(out, /\nOne thing is broken: /);
});

t.test('a faulty configuration is the one finding, and ends with 2', async (t) => {
  const config = writeConfig(t, 1, 'nonsense: true\n');
  const { code, out } = await doctor({ config });
  t.equal(code, 2);
  t.match(out, /cannot be used, so nothing else was tried[^]*✗ .*egress\.yaml:7 +config-faulty: nonsense: There is no key/);
  const json = await doctor({ config, json: true });
  t.match(JSON.parse(json.out), { ok: false, checks: [{ name: 'configuration', findings: [{ code: 'config-faulty' }] }] });
  t.match(await doctor({ config: 'nowhere.yaml' }), { code: 2, out: /config-faulty: .*cannot be read/ });
});

t.test('a client, by the proxy of its environment', async (t) => {
  const lab = await startLab(t);
  const ca = join(t.testdir({}), 'ca.pem');
  writeFileSync(ca, lab.authority.certPem);
  const https = `https://localhost:${lab.upstream.httpsPort}`;
  const refused = await doctor({ client: true, target: https, ca }, { https_proxy: lab.url });
  t.match(refused, { code: 1, out: new RegExp(`^The route of a client from here to localhost:\\d+, by ${lab.url}\\.[^]*✗ ${lab.url} +host-not-allowed: `) });
  t.match(await doctor({ client: true, target: https, ca, only: ['way', 'tls', 'http'] }), { code: 0, out: /without a proxy, as where a mesh steers[^]*✓ .*answered 200/ });
});

t.test('questions that make no sense', async (t) => {
  const config = writeConfig(t, 1);
  for (const [options, said] of [
    [{ client: true }, /--client needs --target URL/],
    [{ client: true, target: 'ftp://x' }, /--target: .*not an http or https URL/],
    [{ client: true, target: 'x', ca: 'nowhere.pem' }, /--ca: nowhere\.pem cannot be read: there is no such file\./],
    [{ client: true, target: 'x', ca: '/dev/zero' }, /--ca: \/dev\/zero cannot be read: it has more than 16 MiB\./],
    [{ proxy: 'socks5://x:1' }, /--proxy: it has the scheme socks5/],
    [{ timeout: '5' }, /--timeout: .*no unit/],
    [{ only: ['tcp', 'nothing'] }, /--only: there is no check nothing\. There are: configuration, names/],
    [{ client: true, target: 'x', only: ['forms'] }, /There are: environment, names, way/],
    [{ only: [','] }, /--only names no check\. There are: configuration, names/],
    [{ client: true, target: 'x', config }, /--client and --config exclude each other/],
    [{ client: true, target: 'x', incident: true }, /--client and --incident exclude each other/],
    [{ client: true, target: 'x', ca: 'package.json' }, /--ca: package\.json is not a PEM file\. PEM is text/],
    [{ ca: 'ca.pem' }, /--ca needs --client/],
    [{ admin: '127.0.0.1:9090' }, /--admin needs --incident/],
  ] as const) {
    t.match(await doctor('client' in options ? options : { config, ...options }), { code: 2, out: '', err: said });
  }
});

t.test('the limit of open files is reported', async (t) => {
  const limit = readOpenFileLimit();
  t.ok(limit === null || limit > 100);
});

t.test('--incident: asks the proxy that runs here, in words and as JSON', async (t) => {
  const lab = await startLab(t);
  const admin = lab.adminUrl.slice('http://'.length);
  t.match(await doctor({ incident: true, admin }), { code: 0, out: /^Nothing is wrong now: eco answers at every address\.\nAsked at [^]*\n\nEvidence \(UTC; [^]*\n\nRuled out:\n[^]*\n\nWhat to do:\n/, err: '' });
  t.match(await doctor({ incident: 'eco', admin }), { code: 1, out: '', err: /One such question is answered at a time/ }, 'within the pause');
});

t.test('--incident: something is wrong, and the question is', async (t) => {
  const lab = await startLab(t);
  const admin = lab.adminUrl.slice('http://'.length);
  t.match(await doctor({ incident: '\u001b[31m\u202e', admin }), { code: 2, out: '', err: /does not say what is wrong \(400\): The question is not valid\. There is no destination of this name\. There are: eco\.\n$/ });
  lab.upstream.https.close();
  lab.upstream.http.close();
  const { code, out } = await doctor({ incident: 'eco', admin, json: true });
  t.equal(code, 1);
  t.match(JSON.parse(out), { asked: 'eco', state: 'broken', part: 'partner-application', alternatives: [{ part: 'partner-firewall' }, { part: 'route' }], letter: null });
});

t.test('--incident: no proxy answers, which is the answer; with what the doctor sees by itself', async (t) => {
  const server = createServer((_, response) => response.end('well'));
  const config = writeConfig(t, await listen(t, server));
  const admin = `127.0.0.1:${await findUnusedPort()}`;
  const { code, out, err } = await doctor({ incident: true, admin, config });
  t.match({ code, err }, { code: 1, err: '' });
  t.match(out, new RegExp(`^The proxy: none answers at ${admin} \\(nothing listens there\\), so requests [^]*\\n\\nWhat can be seen without the proxy:\\n\\nThe route from here to the partners`));
  const json = JSON.parse((await doctor({ incident: true, admin, config, json: true })).out) as unknown;
  t.match(json, { instance: '-', state: 'broken', part: 'proxy', confidence: 'certain', letter: null });
  t.strictSame(schemaFaults('incident', json), []);
  t.match(await doctor({ incident: true, admin: 'nonsense', config }), { code: 2, err: /^--admin: / });
});

t.test('--incident: another program answers', async (t) => {
  const server = createServer((_, response) => response.end(JSON.stringify({ sentence: 'All is well.', state: 'ok' })));
  t.match(await doctor({ incident: true, admin: `127.0.0.1:${await listen(t, server)}` }), { code: 1, out: '', err: /does not say what is wrong \(200\): it is not the admin port of an eco-egress\.\n$/ });
});
