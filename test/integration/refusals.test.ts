/**
 * Every way to be refused or to fail: status line, `Proxy-Status`, problem
 * body, log line and counters say the same, as errors.ts has it.
 */
import { createServer } from 'node:net';
import { parseList, Token } from 'structured-headers';
import t, { type Test } from 'tap';
import { FAULTS, type FaultCode } from '../../src/errors.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { type Draft, ECO, type Lab, type LabOptions, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { askRaw } from '../support/wire.ts';

const WORDS = { policy: 'Egress denied', client: 'Bad request', upstream: 'Upstream failed', proxy: 'Egress unavailable' } as const;

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly requestId: string;
  readonly remedy?: string;
}

/** Sends a request, and holds everything that tells of its end to the table. @returns what only this case can know */
async function prove(t: Test, lab: Lab, request: string, code: FaultCode): Promise<Problem> {
  const { status, proxyError, blame, title } = FAULTS[code];
  const before = (await lab.scrape()).samples;
  const lines = lab.log.length;
  const answer = await askRaw(t, lab.port, request);
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  const [statusLine, ...fields] = head.split('\r\n');
  const headers = new Map(fields.map((field) => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 2)]));
  t.equal(statusLine, `HTTP/1.1 ${status} ${WORDS[blame]}: ${code}`);

  const [[name, parameters] = [null, new Map<string, unknown>()]] = parseList(headers.get('proxy-status') ?? '');
  t.same([String(name), String(parameters.get('error'))], ['eco-egress', proxyError]);
  t.ok(name instanceof Token && parameters.get('error') instanceof Token);

  t.equal(headers.get('content-type'), 'application/problem+json');
  t.equal(headers.get('cache-control'), 'no-store');
  const problem = JSON.parse(body) as Problem;
  t.match(problem, { type: `urn:eco-egress:error:${code}`, title, status, code, requestId: headers.get('x-request-id') });
  t.ok(problem.detail.length > 0 && String(parameters.get('details')).startsWith(`${code}: `));
  t.ok(problem.remedy, 'says what would have to change');

  const line = await lab.logged((line) => line['requestId'] === problem.requestId);
  t.match(line, { code, status, closedBy: 'proxy' });
  t.ok(String(line['detail']).startsWith(problem.detail), 'the log has the same words');
  t.equal(lab.log.slice(lines).filter((line) => 'durationMs' in line).length, 1, 'one line');

  const after = (await lab.scrape()).samples;
  const grown = [...after].filter(([series, value]) => series.startsWith('eco_egress_requests_total{') && value !== (before.get(series) ?? 0));
  const outcome = blame === 'upstream' ? 'failed' : 'denied';
  const labels = `form="${String(line['form'])}",destination="${String(line['destination'])}",client="${String(line['client'])}",outcome="${outcome}",code="${code}"`;
  t.same(grown, [[`eco_egress_requests_total{${labels}}`, (before.get(`eco_egress_requests_total{${labels}}`) ?? 0) + 1]], 'one counter, by one');
  if (blame === 'upstream') {
    const series = `eco_egress_upstream_errors_total{destination="eco",error="${code}"}`;
    t.equal(after.get(series), (before.get(series) ?? 0) + 1);
  }
  return problem;
}

const connect = (target: string): string => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`;
const get = (target: string, host: string, more = ''): string => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`;

interface Failure {
  readonly code: FaultCode;
  readonly what: string;
  /** The port that is dialled; the lab's own HTTP port by default. */
  readonly port?: (t: Test) => Promise<number>;
  readonly lookup?: LabOptions['lookup'];
  readonly configure?: (draft: Draft) => void;
  /** Only where we speak to the upstream ourselves. */
  readonly terminated?: boolean;
  /** Only where we speak TLS to the upstream. */
  readonly tls?: boolean;
  readonly detail?: RegExp;
}

const failing = (code: string) => async (): Promise<never> => {
  throw Object.assign(new Error(`lookup ${code}`), { code });
};
const answering =
  (...addresses: string[]) =>
  async (): Promise<{ addresses: string[]; ttl: null }> => ({ addresses, ttl: null });

const raw = (bytes: string) => (t: Test) =>
  listen(
    t,
    createServer((socket) => {
      socket.once('data', () => socket.end(bytes));
    }),
  );

const FAILURES: readonly Failure[] = [
  { code: 'name-not-found', what: 'a name that does not exist', lookup: failing('ENOTFOUND'), detail: /eco-sit\.telus\.internal/ },
  { code: 'resolver-failed', what: 'a resolver that fails', lookup: failing('ESERVFAIL') },
  { code: 'resolver-timeout', what: 'a resolver that is silent', lookup: () => new Promise(() => {}), configure: ({ timeouts }) => Object.assign(timeouts, { resolve: '100ms' }) },
  { code: 'address-not-allowed', what: 'an address outside of the permitted ones', lookup: answering('10.0.0.1'), detail: /10\.0\.0\.1/ },
  { code: 'address-not-allowed', what: 'the metadata service', lookup: answering('169.254.169.254'), configure: ({ destinations }) => Object.assign(destinations.eco, { addresses: undefined }), detail: /169\.254\.169\.254/ },
  { code: 'connection-refused', what: 'a port that nobody listens on', port: () => findUnusedPort(), detail: /ECONNREFUSED/ },
  { code: 'unreachable', what: 'an address without a way there', lookup: answering('255.255.255.255'), configure: ({ destinations }) => Object.assign(destinations.eco, { addresses: ['255.255.255.255/32'] }) },
  { code: 'connect-timeout', what: 'a host that does not answer', port: startFullListener, configure: ({ timeouts }) => Object.assign(timeouts, { connect: '100ms' }) },
  { code: 'tls-certificate', what: 'a certificate of an unknown authority', tls: true, configure: ({ destinations }) => Object.assign(destinations.eco, { tls: {} }) },
  { code: 'tls-certificate', what: 'a certificate for another name', tls: true, configure: ({ destinations }) => Object.assign(destinations.eco, { tls: { caFile: 'ca.pem', serverName: 'other.example' } }) },
  { code: 'tls-failed', what: 'no TLS at all', tls: true, port: raw('HTTP/1.1 400 Bad Request\r\n\r\n') },
  { code: 'tls-timeout', what: 'a handshake that never ends', tls: true, port: (t) => listen(t, createServer()), configure: ({ timeouts }) => Object.assign(timeouts, { tls: '100ms' }) },
  { code: 'upstream-cut', what: 'no answer but the end', terminated: true, port: raw('') },
  { code: 'upstream-malformed', what: 'an answer that is no HTTP', terminated: true, port: raw('220 mail.example ESMTP\r\n') },
  { code: 'upstream-silent', what: 'no answer', terminated: true, port: (t) => listen(t, createServer((socket) => socket.resume())), configure: ({ timeouts }) => Object.assign(timeouts, { responseHeaders: '100ms' }) },
];

for (const { code, what, port, lookup, configure, terminated = false, tls = false, detail } of FAILURES) {
  t.test(`${code}: ${what}`, async (t) => {
    const dialled = await port?.(t);
    let at = dialled ?? 0;
    const lab = await startLab(t, {
      ...(lookup === undefined ? {} : { lookup }),
      configure: (draft, ports) => {
        at = dialled ?? (tls ? ports.https : ports.http);
        Object.assign(draft.destinations.eco, { ports: [at], gateway: { prefix: '/eco', url: `${tls ? 'https' : 'http'}://${ECO}:${at}` } });
        Object.assign(draft.dns, { staleFor: '0s' });
        configure?.(draft);
      },
    });
    const authority = `${ECO}:${at}`;
    const requests = {
      ...(terminated || tls ? {} : { connect: connect(authority) }),
      forward: get(`${tls ? 'https' : 'http'}://${authority}/x`, authority),
      gateway: get('/eco/x', 'any'),
      ...(tls ? {} : { 'host-routed': get('/x', authority) }),
    };
    for (const [form, request] of Object.entries(requests)) {
      const problem = await prove(t, lab, request, code);
      if (detail !== undefined) t.match(problem.detail, detail);
      const line = await lab.logged(({ requestId }) => requestId === problem.requestId);
      t.match(line, { form, host: ECO, port: at, destination: 'eco', client: 'pods', verdict: 'allow' });
      // There was a connection, which the log of a NAT or firewall has.
      if (tls) t.match(line, { localAddress: '127.0.0.1', localPort: Number, phases: { tcp: Number } });
    }
    t.equal(lab.upstream.requests.length, 0);
  });
}

t.test('the policy and malformed requests', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { http: { methods: ['GET', 'OPTIONS'], paths: ['/api/*'] } });
      draft.destinations['unused'] = { hosts: ['unused.example'], ports: [443, 80] };
      draft.clients['nobody'] = { addresses: ['192.0.2.0/24'] };
      draft.rules.push({ clients: ['nobody'], destinations: ['unused'] });
      Object.assign(draft.timeouts, { requestHeaders: '200ms' });
    },
  });
  const eco = `${ECO}:${lab.upstream.httpPort}`;
  for (const [code, request] of [
    ['host-not-allowed', connect('evil.example:443')],
    ['host-not-allowed', get('http://evil.example/', 'evil.example')],
    ['host-not-allowed', get('/x', 'evil.example')],
    ['host-not-allowed', get('/metrics', 'any')],
    ['port-not-allowed', connect(`${ECO}:22`)],
    ['port-not-allowed', get(`http://${ECO}:8081/api/x`, `${ECO}:8081`)],
    ['no-rule', connect('unused.example:443')],
    ['no-rule', get('http://unused.example/', 'unused.example')],
    ['method-not-allowed', get(`http://${eco}/api/x`, eco).replace('GET', 'PUT')],
    ['path-not-allowed', get(`http://${eco}/apis`, eco)],
    ['path-not-allowed', get('/eco/admin', 'any')],
    ['path-ambiguous', get('/eco/api/%2e%2e/admin', 'any')],
    ['target-malformed', connect(`user@${eco}`)],
    ['path-not-allowed', get(`http://${eco}/api/x`, eco).replace('GET', 'OPTIONS').replace(`http://${eco}/api/x`, '*')],
    ['target-malformed', get(`http://${eco}/api/x`, eco).replace(`http://${eco}/api/x`, '*')],
    ['scheme-not-supported', get('ftp://files.example/x', 'files.example')],
    // The target decides, whatever Host says (RFC 9112 §3.2.2).
    ['host-not-allowed', get('http://evil.example/api/x', eco)],
    ['request-malformed', 'GET /x HTTP/1.1\r\nConnection: close\r\n\r\n'],
    ['request-malformed', 'GET /x HTTP/9.1\r\nHost: x\r\n\r\n'],
    ['framing-forbidden', get('/eco/api/x', 'any', 'Transfer-Encoding: gzip, chunked\r\n')],
    ['framing-forbidden', connect(eco).replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\n')],
    ['expectation-failed', get('/eco/api/x', 'any', 'Expect: something\r\n')],
    ['loop', get('/eco/api/x', 'any', 'Via: 1.1 eco-egress\r\n')],
    ['headers-too-large', get('/eco/api/x', 'any', `X-Long: ${'x'.repeat(70_000)}\r\n`)],
    ['request-timeout', 'GET /eco/api/x HTTP/1.1\r\nHost: a'],
    ['tls-on-http-port', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['http2-on-http-port', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['socks-on-http-port', '\x05\x01\x00'],
  ] as const) {
    await t.test(`${code}: ${JSON.stringify(request.slice(0, 60))}`, (t) => prove(t, lab, request, code));
  }
  t.equal(lab.upstream.connections, 0);
});

t.test('a client that the policy does not know', async (t) => {
  const lab = await startLab(t, { configure: (draft) => (draft.clients['pods'] = { addresses: ['192.0.2.0/24'] }) });
  const eco = `${ECO}:${lab.upstream.httpPort}`;
  for (const request of [connect(eco), get(`http://${eco}/`, eco), get('/eco/x', 'any'), get('/x', eco)]) {
    const { detail } = await prove(t, lab, request, 'client-not-allowed');
    t.match(detail, '127.0.0.1');
  }
  t.equal(lab.upstream.connections, 0);
});
