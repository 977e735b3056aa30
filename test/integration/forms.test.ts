/** Which form a request has, with the clients that people use, and where it ends up. */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import t from 'tap';
import { ProxyAgent, request as undiciRequest } from 'undici';
import { addressOf, answerOf, ask, FORMS, TERMINATED } from '../support/ask.ts';
import { ECO, startLab } from '../support/lab.ts';
import { askRaw } from '../support/wire.ts';

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: string[];
}

const seenIn = (text: string): Seen => JSON.parse(text) as Seen;

t.test('every form carries a request and its body, and is logged as what it is', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.setHeader('x-port', String(req.socket.remotePort));
      res.setHeader('x-saw', `${req.method ?? ''} ${req.url ?? ''} ${req.headers.host ?? ''}`);
      req.pipe(res);
    },
  });
  for (const form of FORMS) {
    const body = Buffer.from(`${form} \u0000\u00ff `.repeat(20_000), 'latin1');
    const answer = await ask(lab, form, { method: 'POST', path: `/in/${form}?q=a%2Fb&&x=1`, headers: ['Content-Length', String(body.length)], body });
    t.equal(answer.status, 200, form);
    const port = form === 'connect' || form === 'gateway' ? lab.upstream.httpsPort : lab.upstream.httpPort;
    t.equal(answer.headers['x-saw'], `POST /in/${form}?q=a%2Fb&&x=1 ${ECO}:${port}`, 'path and query byte for byte, Host is the upstream');
    t.ok(answer.body.equals(body), 'the body came back whole');
    const line = await lab.logged((line) => line['form'] === form);
    t.match(line, { code: 'ok', status: 200, client: 'pods', destination: 'eco', rule: 'rules[0]', verdict: 'allow', host: ECO, port, upstreamAddress: '127.0.0.1', localAddress: '127.0.0.1', localPort: Number(answer.headers['x-port']) });
    if (form !== 'connect') t.match(line, { method: 'POST', path: `/in/${form}`, bytesSent: body.length, bytesReceived: body.length, closedBy: 'upstream', msg: 'exchange ok' });
  }
});

t.test("Node's own agents and undici's ProxyAgent", async (t) => {
  const lab = await startLab(t);
  const { httpPort, httpsPort } = lab.upstream;
  const proxyEnv = { HTTP_PROXY: lab.url, HTTPS_PROXY: lab.url };

  const forward = new HttpAgent({ proxyEnv, keepAlive: true });
  t.teardown(() => {
    forward.destroy();
  });
  const request = httpRequest(`http://${ECO}:${httpPort}/node`, { agent: forward });
  request.end();
  t.match(seenIn((await answerOf(request)).text), { method: 'GET', url: '/node' });
  t.match(await lab.logged((line) => line['path'] === '/node'), { form: 'forward' });

  const tunnel = new HttpsAgent({ proxyEnv, ca: lab.authority.certPem });
  t.match(seenIn((await ask(lab, 'connect', { path: '/node-tls', agent: tunnel })).text), { url: '/node-tls' });
  t.match(await lab.logged((line) => line['form'] === 'connect'), { host: ECO, port: httpsPort, code: 'ok' });

  const undici = new ProxyAgent({ uri: lab.url, requestTls: { ca: lab.authority.certPem } });
  const undiciForward = new ProxyAgent({ uri: lab.url, proxyTunnel: false });
  t.teardown(() => Promise.all([undici.close(), undiciForward.close()]));
  for (const [dispatcher, url, form] of [
    [undici, `https://${ECO}:${httpsPort}/undici-connect`, 'connect'],
    [undiciForward, `http://${ECO}:${httpPort}/undici-forward`, 'forward'],
  ] as const) {
    const { statusCode, body } = await undiciRequest(url, { dispatcher, method: 'POST', body: 'abc' });
    t.equal(statusCode, 200);
    const seen = seenIn(await body.text());
    t.match(seen, { method: 'POST', url: new URL(url).pathname });
    if (form === 'forward') t.match(await lab.logged((line) => line['path'] === seen.url), { form });
  }
});

t.test('/metrics, /healthz and /readyz on a proxy port are the partner’s', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    for (const path of ['/metrics', '/healthz', '/readyz', '/']) {
      const { status, text } = await ask(lab, form, { path });
      t.equal(status, 200);
      t.equal(seenIn(text).url, path, `${form} ${path} reached the upstream`);
    }
  }
  const own = await answerOf(httpRequest(`${lab.url}/metrics`).end());
  t.equal(own.status, 403, 'without the host of a destination there is nothing at /metrics');
  t.match(own.text, /served on the admin listener/);
});

t.test('the form is decided by the target first, then by Host, then by the prefix', async (t) => {
  const lab = await startLab(t);
  const eco = `${ECO}:${lab.upstream.httpPort}`;
  const rows: [what: string, head: string, expected: { form: string; url: string } | { form: string; refused: string }][] = [
    ['an absolute target below the gateway prefix is forwarded whole', `GET http://${eco}/eco/x HTTP/1.1\r\nHost: ${eco}`, { form: 'forward', url: '/eco/x' }],
    ['an absolute target of another host is judged as that host', `GET http://evil.example/eco/x HTTP/1.1\r\nHost: evil.example`, { form: 'forward', refused: '403 Egress denied: host-not-allowed' }],
    ['so is one that is an address', `GET http://169.254.169.254/eco HTTP/1.1\r\nHost: 169.254.169.254`, { form: 'forward', refused: '403 Egress denied: host-not-allowed' }],
    ['Host of a destination beats the prefix', `GET /eco/x HTTP/1.1\r\nHost: ${eco}`, { form: 'host-routed', url: '/eco/x' }],
    ['Host may be in capitals and end in a dot', `GET /y HTTP/1.1\r\nHost: ECO-SIT.telus.internal.:${lab.upstream.httpPort}`, { form: 'host-routed', url: '/y' }],
    ['the prefix, for any other Host', 'GET /eco/x HTTP/1.1\r\nHost: eco-egress.svc', { form: 'gateway', url: '/x' }],
    ['the prefix alone is the root', 'GET /eco HTTP/1.1\r\nHost: eco-egress.svc', { form: 'gateway', url: '/' }],
    ['the prefix alone with a query', 'GET /eco?a=b HTTP/1.1\r\nHost: eco-egress.svc', { form: 'gateway', url: '/?a=b' }],
    ['an HTTP/1.0 request without Host can only mean the prefix', 'GET /eco/old HTTP/1.0', { form: 'gateway', url: '/old' }],
    ['a longer word is not the prefix', 'GET /ecox HTTP/1.1\r\nHost: eco-egress.svc', { form: 'host-routed', refused: '403 Egress denied: host-not-allowed' }],
    ['nor is the prefix in capitals', 'GET /ECO/x HTTP/1.1\r\nHost: eco-egress.svc', { form: 'host-routed', refused: '403 Egress denied: host-not-allowed' }],
    ['a destination’s host on a port it does not list', `GET /x HTTP/1.1\r\nHost: ${ECO}`, { form: 'host-routed', refused: '403 Egress denied: port-not-allowed' }],
  ];
  for (const [what, head, expected] of rows) {
    const before = lab.log.length;
    const answer = await askRaw(t, lab.port, `${head}\r\nConnection: close\r\n\r\n`);
    const line = lab.log.slice(before).find((line) => 'durationMs' in line);
    t.equal(line?.['form'], expected.form, what);
    if ('url' in expected) t.equal(seenIn(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1)).url, expected.url, what);
    else t.match(answer, expected.refused, what);
  }
});

t.test('a listener takes only the forms it names', async (t) => {
  for (const only of FORMS) {
    const lab = await startLab(t, { configure: (draft) => (draft.listeners['http'] = [{ address: '127.0.0.1:0', forms: [only] }]) });
    for (const form of FORMS) {
      const before = lab.upstream.requests.length;
      if (form === only) {
        t.equal((await ask(lab, form)).status, 200, `${only} is taken`);
        continue;
      }
      if (form === 'connect') {
        const answer = await askRaw(t, lab.port, `CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
        t.match(answer, /^HTTP\/1\.1 403 Egress denied: form-not-allowed\r\n/);
      } else {
        const { status, reason, text } = await ask(lab, form);
        t.equal(`${status} ${reason}`, '403 Egress denied: form-not-allowed', `${form} where only ${only} is`);
        t.match(text, new RegExp(`takes ${only}, not ${form}`));
      }
      t.match(await lab.logged((line) => line['form'] === form), { code: 'form-not-allowed', verdict: 'deny' });
      t.equal(lab.upstream.requests.length, before, 'nothing went upstream');
    }
  }
});

t.test('redirects of the partner stay inside the gateway, and are left alone elsewhere', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      const to = decodeURIComponent(req.url?.slice(2) ?? '');
      res.writeHead(302, ['Location', to, 'Content-Location', to]).end();
    },
  });
  const own = `https://${ECO}:${lab.upstream.httpsPort}`;
  for (const [said, heard] of [
    [`${own}/next?a=b#c`, '/eco/next?a=b#c'],
    [`HTTPS://${ECO.toUpperCase()}:${lab.upstream.httpsPort}/next`, '/eco/next'],
    [own, '/eco/'],
    [`${own}?x`, '/eco/?x'],
    [`${own}#c`, '/eco/#c'],
    ['/next', '/eco/next'],
    // The partner's root may have been asked for as /eco, whose directory is /.
    ['next', '/eco/next'],
    ['../next', '/eco/next'],
    [`https://${ECO}/next`, `https://${ECO}/next`],
    [`${own}5/next`, `${own}5/next`],
    [`http://${ECO}:${lab.upstream.httpsPort}/next`, '/eco/next'],
    ['https://login.example/?back=/next', 'https://login.example/?back=/next'],
    ['//login.example/next', '//login.example/next'],
  ] as const) {
    const path = `/?${encodeURIComponent(said)}`;
    const gateway = await ask(lab, 'gateway', { path });
    t.equal(gateway.headers.location, heard, `Location: ${said}`);
    t.equal(gateway.headers['content-location'], heard);
    for (const form of ['forward', 'host-routed'] as const) t.equal((await ask(lab, form, { path })).headers.location, said, `${form} leaves it`);
  }
});

t.test('a base path in the gateway URL is put before the path, and taken off redirects', async (t) => {
  const lab = await startLab(t, {
    configure: (draft, ports) => (draft.destinations.eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${ports.https}/api/v2` }),
    onRequest: (req, res) => res.writeHead(302, { Location: req.url === '/api/v2/out' ? '/login' : (req.url ?? '') }).end(),
  });
  for (const [path, location] of [
    ['/thing?x=1', '/eco/thing?x=1'],
    ['/', '/eco/'],
    // Outside the base path there is nothing of this gateway: the client is told the truth.
    ['/out', '/login'],
  ] as const) {
    t.equal((await ask(lab, 'gateway', { path })).headers.location, location, path);
    t.equal(lab.upstream.requests.at(-1)?.url, `/api/v2${path}`);
  }
});

t.test('an upstream named by address: only the written authority counts', async (t) => {
  const lab = await startLab(t, { configure: (draft) => (draft.destinations.eco['hosts'] = [ECO, '127.0.0.1']) });
  const { httpPort } = lab.upstream;
  const answer = await askRaw(t, lab.port, `GET http://127.0.0.1:${httpPort}/addr HTTP/1.1\r\nHost: 127.0.0.1:${httpPort}\r\nConnection: close\r\n\r\n`);
  t.match(answer, /^HTTP\/1\.1 200 /);
  t.equal(lab.upstream.requests.at(-1)?.headers.host, `127.0.0.1:${httpPort}`);
  // RFC 9112 §3.2.2: a Host that differs from the target is replaced.
  const mismatch = await askRaw(t, lab.port, `GET http://127.0.0.1:${httpPort}/other HTTP/1.1\r\nHost: ${addressOf(lab, 'forward', '/').host}\r\nConnection: close\r\n\r\n`);
  t.match(mismatch, /^HTTP\/1\.1 200 /);
  t.match(lab.upstream.requests.at(-1), { url: '/other', headers: { host: `127.0.0.1:${httpPort}` } });
  t.match(await lab.logged(({ path }) => path === '/other'), { host: '127.0.0.1', detail: /^the Host field said eco-sit\.telus\.internal:\d+, and was replaced/ });
});
