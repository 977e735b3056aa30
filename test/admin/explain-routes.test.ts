/** The admin listener's answers to "why", asked of a whole proxy. */
import t, { type Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import { makeRecord } from '../support/access-record.ts';
import { hello, serverName } from '../support/hello.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { askRaw } from '../support/wire.ts';

interface Json {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Record<string, unknown>;
}

async function get(lab: Lab, path: string, method = 'GET'): Promise<Json> {
  const response = await fetch(lab.adminUrl + path, { method });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) };
}

/** A CONNECT that is refused. @returns its request id */
async function deny(t: Test, lab: Lab, target: string): Promise<string> {
  const answer = await askRaw(t, lab.port, `CONNECT ${target} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  return /X-Request-Id: (\S+)/.exec(answer)?.[1] ?? '';
}

t.test('a question', async (t) => {
  const lab = await startLab(t);
  const target = `${ECO}:${lab.upstream.httpPort}`;
  for (const [query, expected] of [
    [`client=pods&target=${target}`, { verdict: 'allow', code: 'ok', asked: { method: 'CONNECT', target }, addresses: [{ address: '127.0.0.1' }] }],
    [`client=pods&target=${target}&resolve=no`, { verdict: 'allow', addresses: null }],
    [`client=pods&target=http://${target}/x?y=1&method=DELETE`, { asked: { method: 'DELETE' }, target: { form: 'forward', path: '/x' } }],
    [`client=127.0.0.9&method=GET&target=${encodeURIComponent(`http://${target}/x?token=hunter2`)}`, { verdict: 'allow', target: { form: 'forward', path: '/x' } }],
    ['client=pods&target=/eco/x', { verdict: 'allow', asked: { method: 'GET' }, target: { form: 'gateway' } }],
    [`client=pods&target=/x&host=${target}`, { verdict: 'allow', target: { form: 'host-routed' } }],
    ['client=pods&target=evil.example:443', { verdict: 'deny', code: 'host-not-allowed', status: 403, change: { yaml: /evil\.example/ } }],
    [`client=192.0.2.7&target=${target}&user=batch&subject=x&san=DNS:a&san=DNS:b`, { verdict: 'deny', code: 'client-not-allowed', peer: { user: 'batch', token: { subject: 'x' }, sans: ['DNS:a', 'DNS:b'] } }],
    ['client=pods&target=user:hunter2@evil.example:443', { verdict: 'deny', code: 'target-malformed' }],
    [`client=pods&target=${encodeURIComponent('evil\u001b[31m\u202e.example:443')}`, { verdict: 'deny', code: 'target-malformed' }],
  ] as const) {
    const { status, headers, text, body } = await get(lab, `/explain?${query}`);
    t.equal(status, 200, query);
    t.match(body, expected, query);
    t.match(headers.get('content-type'), /^application\/json/);
    t.equal(headers.get('cache-control'), 'no-store');
    t.notMatch(text, /hunter2|[\0-\x09\x0b-\x1f\x7f-\u009f\u202a-\u202e]/, `${query}: neither secrets nor what acts on a terminal`);
  }
  t.equal(lab.upstream.connections, 0, 'nothing was dialled');
});

t.test('a question that is not complete says what to write', async (t) => {
  const lab = await startLab(t);
  for (const [query, detail] of [
    ['', /^client is missing\. Write \/explain\?client=10\.8\.0\.1&method=CONNECT&target=.* host \(optional; the Host field/],
    ['?client=', /^client is missing/],
    ['?client=pods', /^target is missing/],
    ['?client=pods&target=/x&hots=x', /^Unknown parameter hots\. The parameters are client/],
    ['?client=pods&target=/x&resolve=false', /^The parameter resolve is no, or left out\.$/],
    ['/some-id?resolve=0', /^The parameter resolve is no, or left out\.$/],
    ['/some-id?resolv=no', /^Unknown parameter resolv\. The parameter is resolve \(optional; no:/],
    ['?client=pods&target=/x&constructor=x', /^Unknown parameter constructor\./],
    ['?client=pods&target=/x&target=/y', /^The parameter target is given more than once/],
    ['?client=pod&target=/x', /^pod is neither an IP address nor a client; the clients are pods\.$/],
    ['?client=pods&target=/x&method=get', /^Methods are written in capitals: GET\.$/],
    ['?client=%1b%5b31m&target=/x', /^"\\u001b\[31m" is neither/],
  ] as const) {
    const { status, headers, body } = await get(lab, `/explain${query}`);
    t.equal(status, 400, query);
    t.match(headers.get('content-type'), /^application\/problem\+json/);
    t.match(body, { title: 'The question is not valid', detail, paths: { '/explain': String } }, query);
  }
});

t.test('a denial by its request id', async (t) => {
  const lab = await startLab(t);
  const requestId = await deny(t, lab, `${ECO}:22`);
  const { status, body, headers } = await get(lab, `/explain/${requestId}`);
  t.equal(status, 200);
  t.equal(headers.get('cache-control'), 'no-store');
  t.match(body, { requestId, verdict: 'deny', code: 'port-not-allowed', status: 403, client: 'pods', clientAddress: '127.0.0.1', host: ECO, port: 22, now: { verdict: 'deny', code: 'port-not-allowed' } });
  for (const id of ['unknown', `${requestId}x`, 'a'.repeat(90), 'a'.repeat(4_000), '%1b%5b31m']) {
    const missing = await get(lab, `/explain/${id}`);
    t.equal(missing.status, 404, id);
    t.match(missing.body, { title: 'No recent denial or failure has this request id', detail: /^The last 1000 denials and 200 failures are kept/ }, id);
  }
});

t.test('a denial in words shows the request as explain takes it, or that its target is not known', async (t) => {
  const lab = await startLab(t, {
    configure: ({ listeners }) => {
      listeners['tls'] = ['127.0.0.1:0'];
    },
  });
  const { port: tlsPort = 0 } = lab.service.addresses.tls[0] ?? {};
  await askRaw(t, lab.port, `CONNECT ${ECO}:22 HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  await askRaw(t, lab.port, 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n');
  await askRaw(t, lab.port, Buffer.from([5, 1, 0]));
  await askRaw(t, tlsPort, hello({ extensions: [serverName('evil.example')] }));
  const { body } = await get(lab, '/denials');
  const shown = await Promise.all(
    (body['latest'] as { requestId: string }[]).map(async ({ requestId }) => (await fetch(`${lab.adminUrl}/explain/${requestId}`, { headers: { accept: 'text/plain' } })).text()),
  );
  t.strictSame(shown.map((text) => /^ {2}request +(.*)$/m.exec(text)?.[1]), ['TLS evil.example', 'no host', 'GET no host', `CONNECT ${ECO}:22`]);
  t.match(shown[0], /\n\nTLS evil\.example\n/, 'the question to the policy now');
  const page = await (await fetch(lab.adminUrl)).text();
  for (const request of ['TLS evil.example:443', 'no host']) t.match(page, `<code>${request}</code>`);
});

t.test('the denials, also on the status page', async (t) => {
  const lab = await startLab(t);
  t.match(await get(lab, '/denials'), { status: 200, body: { total: 0, kept: 1_000, frequent: { length: 0 }, latest: { length: 0 } } });
  t.match(await (await fetch(lab.adminUrl)).text(), 'No request was denied since the start, other than for overload.');
  for (const target of ['evil.example:443', 'evil.example:443', `${ECO}:22`]) await deny(t, lab, target);
  const last = await deny(t, lab, 'evil.example:80');
  const { body, headers } = await get(lab, '/denials');
  t.equal(headers.get('cache-control'), 'no-store');
  t.match(body, {
    total: 4,
    frequent: [
      { client: 'pods', host: 'evil.example', count: 3, overcount: 0, latest: { requestId: last, code: 'host-not-allowed', port: 80 } },
      { client: 'pods', host: ECO, count: 1, latest: { code: 'port-not-allowed' } },
    ],
    latest: [{ requestId: last, remedy: String }, { host: ECO }, { host: 'evil.example' }, { host: 'evil.example' }],
  });
  const page = await (await fetch(lab.adminUrl)).text();
  t.match(page, new RegExp(`<code>pods</code></th><td><code>evil.example</code></td><td class="number">3</td><td><code>host-not-allowed</code></td><td><a href="/explain/${last}"`));
  t.match(page, '<a href="/denials">/denials</a>');
  t.match(page, '<form id="ask" action="/explain"');
});

t.test('only GET and HEAD', async (t) => {
  const lab = await startLab(t);
  t.match(await get(lab, '/denials', 'HEAD'), { status: 200, text: '' });
  for (const path of ['/denials', '/explain?client=pods&target=/x', '/explain/x']) t.equal((await get(lab, path, 'POST')).status, 405, path);
});

t.test('the lists stay bounded after a scan', async (t) => {
  const lab = await startLab(t);
  const fault = new Fault('host-not-allowed', `no ${'d'.repeat(8_000)}`);
  for (let i = 0; i < 3_000; i += 1) lab.service.explainer.denials.note(makeRecord({ requestId: `r-${i}`, code: fault.code, verdict: 'deny', host: `h${i}.example`, path: `/${'p'.repeat(8_000)}` }), fault, null);
  const { body, text } = await get(lab, '/denials');
  t.equal((body['frequent'] as unknown[]).length, 200);
  t.equal((body['latest'] as unknown[]).length, 100);
  t.ok(text.length < 1_500_000, `${text.length} characters`);
  t.equal((await (await fetch(lab.adminUrl)).text()).match(/href="\/explain\/r-/g)?.length, 20, 'ten of either list');
});
