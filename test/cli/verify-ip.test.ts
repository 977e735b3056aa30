/** `eco-egress verify-ip`: what it prints and how it ends, as a process where that matters. */
import t, { type Test } from 'tap';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { TLSSocket } from 'node:tls';
import { join } from 'node:path';
import { printVerification, runVerifyIp, type VerifyIpOptions } from '../../src/cli/verify-ip.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import type { Verification } from '../../src/source-ip/verify.ts';
import { recordIo } from '../support/command-io.ts';
import { eco } from '../support/eco.ts';
import { startEchoEndpoint } from '../support/echo-endpoint.ts';
import { listen } from '../support/listen.ts';
import { MINIMAL } from '../support/load-text.ts';

const RIGHT = '34.123.45.67';
const WRONG = '35.203.1.9';

function writeConfig(t: Test, more = ''): string {
  const file = join(t.testdir({}), 'egress.yaml');
  writeFileSync(file, `${MINIMAL}${more}`);
  return file;
}

async function verify(options: Partial<VerifyIpOptions>) {
  const io = recordIo();
  const code = await runVerifyIp({ times: '3', ...options }, io);
  return { code, out: io.out(), err: io.err() };
}

t.test('as a process, with the endpoint of the file', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const config = writeConfig(t, `sourceIp: { expected: ${RIGHT}, probe: { url: "http://127.0.0.1:${endpoint.port}/?key=secret", addresses: 127.0.0.1 } }\n`);
  const right = await eco(['verify-ip', '--config', config]);
  t.match(right, { code: 0, err: '', out: new RegExp(`^The source address is right: ${RIGHT}\\.\\n\\n {2}asked http://127\\.0\\.0\\.1:${endpoint.port}/, directly\\n {2}1 {2}match {2}${RIGHT} {2}seen by 127\\.0\\.0\\.1, asked from 127\\.0\\.0\\.1 {2}\\(`) });
  t.notMatch(right.out, /secret|What it may be/);
  t.equal(endpoint.connections, 3, 'each on a connection of its own');
  endpoint.answer = WRONG;
  t.match(await eco(['verify-ip', '--config', config, '--times', '1']), { code: 1, err: '', out: new RegExp(`^The source address is WRONG: ${WRONG} was seen, ${RIGHT} is expected\\.[^]*What it may be[^]*AUTO_ONLY[^]*LoadBalancer`) });
  t.match(await eco(['verify-ip', '--config', config, '--times', '1', '--expect', RIGHT, WRONG]), { code: 0 });
});

t.test('addresses that take turns do not pass', async (t) => {
  let asked = 0;
  const endpoint = await startEchoEndpoint(t, (_request, response) => response.end((asked += 1) % 3 === 0 ? WRONG : RIGHT));
  const config = writeConfig(t);
  const { code, out } = await verify({ config, url: endpoint.url, expect: [RIGHT], json: true });
  t.equal(code, 1);
  const report = JSON.parse(out) as Verification;
  t.match(report, { result: 'mismatch', expected: [RIGHT], url: endpoint.url, via: { length: 0 }, observations: [{ result: 'match', seen: RIGHT }, { result: 'match' }, { result: 'mismatch', seen: WRONG, endpointAddress: '127.0.0.1', phases: { tcp: Number, answer: Number }, code: null }] });
  t.match(report.causes[0], { cause: /take turns/ });
  t.match((await verify({ config, url: endpoint.url, expect: [RIGHT] })).out, new RegExp(`WRONG: ${RIGHT} and ${WRONG} were seen, ${RIGHT} is expected`));
  t.match(await verify({ config, url: endpoint.url, expect: [`${RIGHT}, ${WRONG}`] }), { code: 0 });
});

t.test('what an endpoint sends moves no terminal', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const report = JSON.parse((await verify({ config: writeConfig(t), url: endpoint.url, times: '1', json: true })).out) as Verification;
  const observations = report.observations.map((observation) => ({ ...observation, seen: null, code: 'tls-certificate' as const, reason: "the certificate is not for x (is not cert's CN: \u001b[31m\u009b1mred\u202e)" }));
  const text = printVerification({ ...report, observations });
  t.match(text, "cert's CN: \\u001b[31m\\u009b1mred\\u202e)");
  t.match(text, /^[\n\x20-\x7e]*$/);
});

t.test('no answer, and nothing expected', async (t) => {
  const endpoint = await startEchoEndpoint(t, (request) => request.socket.destroy());
  const config = writeConfig(t);
  t.match(await verify({ config, url: endpoint.url, expect: [RIGHT] }), { code: 1, out: /^The source address is not known: 3 of 3 questions had no answer\.[^]*unknown {2}upstream-cut: [^]*eco-egress echo/ });
  endpoint.answer = '10.8.0.7';
  t.match(await verify({ config, url: endpoint.url }), { code: 1, out: /^The source address is 10\.8\.0\.7\. Nothing is expected, so nothing is proven\.[^]*not a public address/ });
});

t.test('wrong questions end with 2', async (t) => {
  const config = writeConfig(t);
  for (const [options, said] of [
    [{}, /No endpoint is configured: set sourceIp\.probe\.url, or give --url/],
    [{ url: 'echo.example' }, /--url: .*not an http or https URL/],
    [{ url: 'http://echo.example/', times: '0' }, /--times takes/],
    [{ url: 'http://echo.example/', times: '101' }, /--times takes/],
    [{ url: 'http://echo.example/', times: 'x' }, /--times takes/],
    [{ url: 'http://echo.example/', expect: ['34.123.45.0/24'] }, /--expect: .*is not an address/],
  ] as const) {
    t.match(await verify({ config, ...options }), { code: 2, out: '', err: said });
  }
  t.match(await verify({ config: 'nowhere.yaml' }), { code: 2, out: '', err: /nowhere\.yaml/ });
});

t.test('an address written by hand may be private, a name not', async (t) => {
  const endpoint = await startEchoEndpoint(t, RIGHT);
  const config = writeConfig(t);
  t.match(await verify({ config, url: endpoint.url, expect: [RIGHT], times: '1' }), { code: 0 });
  t.match(await verify({ config, url: `http://localhost:${endpoint.port}/`, expect: [RIGHT], times: '1' }), { code: 1, out: /address-not-allowed: [^]*list its range under sourceIp\.probe\.addresses/ });
});

t.test('tls.serverName of the file is of its own endpoint: another one shows its own name', async (t) => {
  const authority = await createAuthority();
  const { certPem: cert, keyPem: key } = await authority.issue({ names: [], addresses: ['127.0.0.1'] });
  const port = await listen(t, createServer({ cert, key }, (_request, response) => response.end(RIGHT)));
  const url = `https://127.0.0.1:${port}/`;
  const probeOf = (host: string): string => `sourceIp: { probe: { url: "https://${host}/", addresses: 127.0.0.1, tls: { caFile: ca.pem, serverName: echo.example } } }\n`;
  const directory = t.testdir({ 'ca.pem': authority.certPem, 'another.yaml': `${MINIMAL}${probeOf('echo.example')}`, 'same.yaml': `${MINIMAL}${probeOf(`127.0.0.1:${port}`)}` });
  t.match(await verify({ config: join(directory, 'another.yaml'), url, expect: [RIGHT], times: '1' }), { code: 0 });
  t.match(await verify({ config: join(directory, 'same.yaml'), url, expect: [RIGHT], times: '1' }), { code: 1, out: /tls-certificate/ }, 'the same endpoint keeps it');
});

t.test('the client certificate of the file is for its own endpoint alone', async (t) => {
  const authority = await createAuthority();
  const { certPem: cert, keyPem: key } = await authority.issue({ names: [], addresses: ['127.0.0.1'] });
  const own = await authority.issue({ names: ['proxy.example'] });
  const shown: boolean[] = [];
  const port = await listen(t, createServer({ cert, key, requestCert: true, rejectUnauthorized: false }, (request, response) => {
    shown.push(request.socket instanceof TLSSocket && Object.keys(request.socket.getPeerCertificate()).length > 0);
    response.end(RIGHT);
  }));
  const url = `https://127.0.0.1:${port}/`;
  const probeOf = (host: string): string => `sourceIp: { probe: { url: "https://${host}/", addresses: 127.0.0.1, tls: { caFile: ca.pem, certFile: own.crt, keyFile: own.key } } }\n`;
  const directory = t.testdir({ 'ca.pem': authority.certPem, 'own.crt': own.certPem, 'own.key': own.keyPem, 'another.yaml': `${MINIMAL}${probeOf('echo.example')}`, 'same.yaml': `${MINIMAL}${probeOf(`127.0.0.1:${port}`)}` });
  for (const name of ['another.yaml', 'same.yaml']) t.match(await verify({ config: join(directory, name), url, expect: [RIGHT], times: '1' }), { code: 0 });
  t.strictSame(shown, [false, true]);
});
