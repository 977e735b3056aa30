/** By which proxy the doctor tries forms, and what it makes of everything that may listen at a proxy's address. */
import t, { type Test } from 'tap';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer, type Server } from 'node:net';
import { stringify } from 'yaml';
import type { HopCredentials } from '../../src/config/config.ts';
import { createTrail, type Examination } from '../../src/doctor/examination.ts';
import { checkForms } from '../../src/doctor/form-checks.ts';
import { targetsOf } from '../../src/doctor/targets.ts';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { type Draft, ECO, labCertificates } from '../support/lab.ts';
import { examine, faultsOf, findingsOf, type Patient, PLAIN, startPartner, wordsOf } from '../support/doctor-lab.ts';
import { configOf } from '../support/load-text.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';
import { startTlsLab } from '../support/tls-lab.ts';

const proxyAt = (port: number, scheme: 'http' | 'https' = 'http'): NonNullable<Patient['proxy']> => ({ scheme, host: '127.0.0.1', port, credentials: null, written: scheme });

/** Answers with these bytes whatever it is asked. */
const answering = (text: string): Server => createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(text)));

/** A proxy that permits the partner of the doctor's lab, and runs where the examined configuration says. */
async function startRunning(t: Test, change: (draft: Draft) => void = () => {}) {
  const partner = await startPartner(t);
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [partner.https], gateway: { prefix: '/eco', url: `https://${ECO}:${partner.https}` } });
      change(draft);
    },
  });
  const configure = (draft: Draft): void => {
    draft.listeners['http'] = [`127.0.0.1:${lab.port}`];
    draft.listeners['tls'] = [`127.0.0.1:${lab.tlsPort}`];
    draft.listeners['admin'] = `127.0.0.1:${lab.service.addresses.admin.port}`;
    delete draft.destinations['plain'];
    draft.rules[0] = { clients: ['pods'], destinations: ['eco'] };
  };
  return { partner, lab, configure };
}

t.test('the proxy that runs is asked, where it takes us', async (t) => {
  const { partner, lab, configure } = await startRunning(t);
  const report = await examine(partner, { configure, only: ['forms'] });
  t.match(findingsOf(report, 'forms').slice(0, 2), [{ state: 'ok', subject: 'proxy', seen: `the one that runs here (http://127.0.0.1:${lab.port})` }, { state: 'ok', subject: `connect ${ECO}:${partner.https}`, seen: 'answered 200' }]);
  t.strictSame(faultsOf(report), []);
  t.ok(lab.log.some(({ form }) => form === 'gateway'));
});

t.test('where it does not take us, another with the same configuration is', async (t) => {
  const { partner, lab, configure } = await startRunning(t, (draft) => Object.assign(draft.clients['pods'] as object, { addresses: ['10.8.0.0/14'] }));
  const report = await examine(partner, { configure, only: ['forms'] });
  t.match(findingsOf(report, 'forms').slice(0, 2), [
    { state: 'skipped', subject: 'running proxy', seen: `http://127.0.0.1:${lab.port} does not take this host for a client (client-not-allowed)` },
    { state: 'ok', subject: 'proxy', seen: /^one that doctor started/ },
  ]);
  t.strictSame(faultsOf(report), []);
});

t.test('a gateway with a base path is asked for a path below it', async (t) => {
  const partner = await startPartner(t);
  const report = await examine(partner, {
    configure: (draft) => {
      Object.assign(draft.destinations['plain'] as object, { forms: ['gateway'], gateway: { prefix: '/plain', url: `http://${PLAIN}:${partner.http}/base` }, http: { paths: ['/health', '/base/orders/*'] } });
    },
    only: ['forms'],
  });
  t.match(findingsOf(report, 'forms').filter(({ subject }) => subject.startsWith('gateway plain')), [{ state: 'ok', seen: 'answered 200' }]);
});

t.test('another server where the proxy should run is named', async (t) => {
  const partner = await startPartner(t);
  for (const answer of ['HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n', 'HTTP/1.1 404 Not Found\r\nserver: envoy\r\n\r\n', 'HTTP/1.1 404 Not Found\r\nserver: nginx\r\n\r\n']) {
    const port = await listen(t, answering(answer));
    const report = await examine(partner, { configure: (draft) => (draft.listeners['http'] = [`127.0.0.1:${port}`]), only: ['forms'] });
    t.match(findingsOf(report, 'forms').slice(0, 2), [{ state: 'warn', code: 'proxy-not-ours', seen: /is not an eco-egress proxy: CONNECT is answered/ }, { state: 'ok', seen: /^one that doctor started/ }], answer);
  }
});

t.test('ports of the proxy that runs', async (t) => {
  const partner = await startPartner(t);
  for (const [used, faults] of [[50, []], [70, ['nat-ports nat-ports-short eco']], [100, ['nat-ports nat-ports-exhausted eco']]] as const) {
    const admin = await listen(t, createHttpServer((_, response) => response.end(`# TYPE x\neco_egress_nat_ports_limit 100\neco_egress_nat_ports_used{destination="eco"} ${used}\n`)));
    const report = await examine(partner, { configure: (draft) => (draft.listeners['admin'] = `127.0.0.1:${admin}`), only: ['nat-ports'] });
    t.strictSame(faultsOf(report), faults, String(used));
  }
  const plan = async (nat: object) => faultsOf(await examine(partner, { configure: (draft) => (draft.nat = { ...nat }), only: ['nat-ports'] }));
  t.strictSame(await plan({ ports: 2256 }), []);
  t.strictSame(await plan({ ports: 2255 }), ['nat-ports nat-ports-short']);
  t.strictSame(await plan({ ports: 64, replicasPerNode: 65 }), ['nat-ports nat-ports-exhausted']);
  t.strictSame(await plan({}), []);
});

t.test('a form that the named proxy does not take', async (t) => {
  const { partner, lab } = await startRunning(t, (draft) => (draft.listeners['http'] = [{ address: '127.0.0.1:0', forms: ['forward', 'gateway'] }]));
  const report = await examine(partner, { proxy: proxyAt(lab.port), configure: (draft) => { delete draft.destinations['plain']; draft.rules[0] = { clients: ['pods'], destinations: ['eco'] }; } });
  t.strictSame(faultsOf(report), [`forms form-not-allowed connect ${ECO}:${partner.https}`]);
});

t.test('the named proxy wants credentials', async (t) => {
  const hash = await hashPassword('correct horse battery');
  const { partner, lab, configure } = await startRunning(t, (draft) => (draft.clients['pods'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'pod', hash }] }));
  const examineWith = (credentials: HopCredentials | null) => examine(partner, { proxy: { ...proxyAt(lab.port), credentials }, configure, only: ['forms'] });
  t.strictSame(faultsOf(await examineWith({ kind: 'basic', user: 'pod', password: 'correct horse battery' })), []);
  t.strictSame(faultsOf(await examineWith(null)).map((fault) => fault.split(' ').slice(1, 3).join(' ')), ['credentials-missing connect', 'credentials-missing forward', 'credentials-missing gateway']);
});

t.test('a password that another proxy does not accept', async (t) => {
  const partner = await startPartner(t);
  const port = await listen(t, answering('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'));
  const report = await examine(partner, { proxy: { ...proxyAt(port), credentials: { kind: 'basic', user: 'a', password: 'b' } }, only: ['forms'] });
  t.match(findingsOf(report, 'forms').find(({ state }) => state === 'fail'), { code: 'credentials-wrong', advice: /Check user and password/ });
});

t.test('the policy is compiled once, however many destinations there are', async (t) => {
  const readsFor = async (count: number): Promise<number> => {
    const names = Array.from({ length: count }, (_, index) => `d${index}`);
    const config = configOf(stringify({ version: 1, clients: { pods: { addresses: ['10.8.0.0/14'] } }, destinations: Object.fromEntries(names.map((name) => [name, { hosts: [`${name}.example`], ports: [443] }])), rules: [{ clients: ['pods'], destinations: names }] }));
    let reads = 0;
    const counted = { ...config, get clients() { reads += 1; return config.clients; } };
    const proxy = { kind: 'named', findings: [], open: () => null, credentials: null, close: () => Promise.resolve() };
    const found = await checkForms({ config: counted, targets: targetsOf(config, [], () => false), trail: createTrail(), host: { now: Date.now }, formsProxy: () => Promise.resolve(proxy) } as unknown as Examination);
    t.equal(found.length, 6 * count);
    return reads;
  };
  t.equal(await readsFor(20), await readsFor(2));
});

t.test('what else may listen there', async (t) => {
  const partner = await startPartner(t);
  const { certPem, keyPem } = await labCertificates();
  const only = (draft: Draft): void => {
    Object.assign(draft.destinations.eco, { forms: ['connect'], gateway: undefined });
    delete draft.destinations['plain'];
    draft.rules[0] = { clients: ['pods'], destinations: ['eco'] };
  };
  const mute = createServer((socket) => socket.on('error', () => {}).resume());
  for (const [code, port, words] of [
    ['connect-answered-by-sidecar', await listen(t, answering('HTTP/1.1 404 Not Found\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n')), /appProtocol: tcp/],
    ['connect-answered-by-sidecar', await listen(t, answering('HTTP/1.1 404 Not Found\r\nserver: istio-envoy\r\n\r\n')), /tcp-…/],
    ['proxy-not-ours', await listen(t, answering('HTTP/1.1 404 Not Found\r\nserver: nginx\r\n\r\n')), /404 Not Found.*nginx/],
    ['proxy-speaks-tls', await listen(t, answering('HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port')), /https:\/\//],
    ['proxy-not-ours', await listen(t, answering('SSH-2.0-OpenSSH\r\n')), /Check host and port of the proxy/],
    ['credentials-missing', await listen(t, answering('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')), /user and password/],
    ['proxy-silent', await listen(t, mute), /does not answer/],
    ['proxy-speaks-tls', await listen(t, createHttpsServer({ cert: certPem, key: keyPem })), /speaks TLS/],
    ['host-not-allowed', await listen(t, answering(`HTTP/1.1 403 No\r\nProxy-Status: gate; error=http_request_denied; details="no-rule: a parent of it", eco; error=http_request_denied; details="host-not-allowed: a \\\\ b"\r\n\r\n${JSON.stringify({ remedy: 'Write "é" or C:\\x.' })}`)), /: a \\ b[^]*Write "é" or C:\\x\./],
  ] as const) {
    const report = await examine(partner, { proxy: proxyAt(port), configure: only, timeout: 3000 });
    t.strictSame(faultsOf(report), [`forms ${code} connect ${ECO}:${partner.https}`], code);
    t.match(wordsOf(report), words, code);
  }
});

t.test('a proxy that is not reached is one finding, and not one for each form', async (t) => {
  const partner = await startPartner(t);
  const { lab } = await startRunning(t);
  for (const [code, port, scheme, words] of [
    ['connect-timeout', await startFullListener(t), 'http', /network policies of both namespaces/],
    ['https-proxy-on-plain-port', lab.port, 'https', /Write http:\/\//],
  ] as const) {
    const report = await examine(partner, { proxy: proxyAt(port, scheme), timeout: 3000 });
    t.strictSame(faultsOf(report), [`forms ${code} ${scheme}://127.0.0.1:${port}`]);
    t.match(wordsOf(report), words);
    t.ok(findingsOf(report, 'forms').slice(1).every(({ state }) => state === 'skipped'));
  }
});
