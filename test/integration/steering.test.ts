/** Steering, for real: the routes that are rendered from a policy, played by a stand-in for the sidecar, lead through the proxy to the partner. */
import t from 'tap';
import { request as httpRequest } from 'node:http';
import { Agent, request } from 'node:https';
import type { Test } from 'tap';
import { PLACEMENT } from '../../src/manifests/placement.ts';
import { type Overlay, renderManifests } from '../../src/manifests/render.ts';
import { answerOf } from '../support/ask.ts';
import { ECO } from '../support/lab.ts';
import { configOf } from '../support/load-text.ts';
import { ENVOY_FIELDS, type Sidecar, startSidecar } from '../support/sidecar.ts';
import { openTls, speak, startTlsLab, type TlsLab } from '../support/tls-lab.ts';

/** The partner as the shipped policy has it; its ports 443 and 80 are those of the lab's upstream. */
const POLICY = `version: 1
clients: { dynatrace-sit: { addresses: 127.0.0.0/8 } }
destinations: { eco-sit: { hosts: ${ECO}, ports: [443, 80] } }
rules: [{ clients: dynatrace-sit, destinations: eco-sit }]
`;

async function steer(t: Test, overlay: Overlay): Promise<{ lab: TlsLab; sidecar: Sidecar }> {
  const { files, problems } = renderManifests(overlay, { config: configOf(POLICY), policyText: POLICY, placement: PLACEMENT, direct: [] });
  t.strictSame(problems, []);
  const lab = await startTlsLab(t, { tlsServer: null });
  const sidecar = await startSidecar(t, {
    manifests: files.flatMap(({ manifests }) => manifests),
    endpoints: { 8443: lab.tlsPort, 8080: lab.port, 3128: lab.port },
    partnerPorts: { 443: lab.upstream.httpsPort, 80: lab.upstream.httpPort },
  });
  return { lab, sidecar };
}

/** An unsuspecting pod: it knows the partner's name and nothing of a proxy. */
const askTls = async (lab: TlsLab, sidecar: Sidecar, path: string, body = ''): Promise<Record<string, unknown>> => {
  const agent = new Agent({ ca: lab.authority.certPem, servername: ECO });
  const asked = request({ host: '127.0.0.1', port: sidecar.tlsPort, path, method: body === '' ? 'GET' : 'POST', headers: { Host: ECO, 'X-Pod': 'kept' }, agent });
  asked.end(body);
  const answer = JSON.parse((await answerOf(asked)).text) as Record<string, unknown>;
  agent.destroy();
  return answer;
};

for (const [overlay, form] of [['sidecar', 'sni'], ['sidecar-tunnel', 'connect'], ['ambient', 'sni']] as const) {
  t.test(`${overlay}: TLS of a pod reaches the partner, by ${form}`, async (t) => {
    const { lab, sidecar } = await steer(t, overlay);
    t.match(await askTls(lab, sidecar, '/steered?x=1'), { url: '/steered?x=1', method: 'GET' });
    t.match(await lab.logged((line) => line['form'] === form), { code: 'ok', client: 'pods', host: ECO, port: lab.upstream.httpsPort, verdict: 'allow' });
    const [seen] = lab.upstream.requests;
    t.match(seen?.headers, { host: ECO, 'x-pod': 'kept' }, 'the TLS is between pod and partner');
    t.equal(seen?.headers.via, undefined);

    const long = 'x'.repeat(300_000);
    t.match(await askTls(lab, sidecar, '/long', long), { url: '/long', method: 'POST' });
    const socket = await openTls(t, sidecar.tlsPort, { servername: ECO, maxVersion: 'TLSv1.2' });
    t.match(await speak(socket, `GET /1.2 HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /, 'TLS 1.2');
  });

  t.test(`${overlay}: plain HTTP of a pod reaches the partner, with what Envoy adds`, async (t) => {
    const { lab, sidecar } = await steer(t, overlay);
    const asked = httpRequest({ host: '127.0.0.1', port: sidecar.httpPort, path: '/plain?x=%2F', method: 'PUT', headers: { Host: ECO, 'X-Pod': 'kept' }, agent: false });
    asked.end('body');
    t.match(await answerOf(asked), { status: 200, text: /"url":"\/plain\?x=%2F"/ });
    t.match(await lab.logged((line) => line['form'] === 'host-routed'), {
      code: 'ok',
      method: 'PUT',
      path: '/plain',
      host: ECO,
      port: lab.upstream.httpPort,
      'dt.trace_id': '80f198ee56343ba864fe8b2a57d3eff7',
    });
    const [seen] = lab.upstream.requests;
    const { 'x-forwarded-proto': proto, 'x-envoy-decorator-operation': operation, ...crossing } = ENVOY_FIELDS;
    t.match(seen?.headers, { ...crossing, 'x-pod': 'kept' });
    t.equal(seen?.headers['x-envoy-decorator-operation'], undefined, `${operation} is none of the partner's business`);
    t.equal(seen?.headers['x-forwarded-proto'], undefined, `${proto} was said by a peer that is not trusted`);
  });
}

t.test('what no route names, and what the policy denies, does not arrive', async (t) => {
  const { lab, sidecar } = await steer(t, 'sidecar');
  await t.rejects(openTls(t, sidecar.tlsPort, { servername: 'evil.example' }), { code: 'ECONNRESET' });
  t.strictSame(lab.upstream.connections, 0);

  const asked = httpRequest({ host: '127.0.0.1', port: sidecar.httpPort, path: '/', headers: { Host: 'evil.example' }, agent: false });
  asked.end();
  t.match(await answerOf(asked), { status: 403, reason: 'Egress denied: host-not-allowed' });
  t.strictSame(lab.upstream.connections, 0);
});

t.test('plain HTTP that is steered here leaves over TLS where the destination says so, and is judged by that port', async (t) => {
  const lab = await startTlsLab(t, {
    tlsServer: null,
    configure: (draft, { https, http }) => {
      Object.assign(draft.destinations.eco, { ports: [https, http], upgradePlainHttp: https });
    },
  });
  const ask = (host: string): Promise<Awaited<ReturnType<typeof answerOf>>> => {
    const asked = httpRequest({ host: '127.0.0.1', port: lab.port, path: '/upgraded', headers: { Host: host }, agent: false });
    asked.end();
    return answerOf(asked);
  };
  t.match(await ask(`${ECO}:${lab.upstream.httpPort}`), { status: 200, text: /"url":"\/upgraded"/ });
  t.match(await lab.logged((line) => line['form'] === 'host-routed'), { code: 'ok', host: ECO, port: lab.upstream.httpsPort });
  const [seen] = lab.upstream.requests;
  t.ok(seen !== undefined && 'encrypted' in seen.socket, 'the partner saw TLS');
  t.equal(seen?.headers.host, `${ECO}:${lab.upstream.httpsPort}`, 'and a Host of that port');
  await lab.reload((draft) => {
    Object.assign(draft.destinations.eco, { ports: [lab.upstream.httpsPort, lab.upstream.httpPort] });
  });
  t.equal((await ask(`${ECO}:${lab.upstream.httpPort}`)).status, 200);
  t.notOk('encrypted' in (lab.upstream.requests[1]?.socket ?? {}), 'without it, in clear');
});

t.test('the TLS of a sidecar itself is named as the mistake, not as a host to add', async (t) => {
  const lab = await startTlsLab(t, { tlsServer: null });
  await t.rejects(openTls(t, lab.tlsPort, { servername: 'outbound_.8443_._.eco-egress.eco-egress.svc.cluster.local' }));
  const line = await lab.logged(({ form }) => form === 'sni');
  t.match(line, { code: 'host-not-allowed', verdict: 'deny' });
  t.match(JSON.stringify(line), /sidecar's own mTLS/);
  t.match(JSON.stringify(line), /trafficPolicy\.tls\.mode: DISABLE/);
  t.notMatch(JSON.stringify(line), /add outbound_/);
});
