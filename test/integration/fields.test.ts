/** Header fields across the proxy: what passes as it is, what stays on its own connection, what we add. */
import t, { type Test } from 'tap';
import { addressOf, ask, TERMINATED, valuesOf } from '../support/ask.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

/** Names that either side writes for its own connection and message framing. */
const OWN = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length']);

/** `Name: value` lines without those. */
function linesOf(raw: readonly string[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) if (!OWN.has(raw[i]?.toLowerCase() ?? '')) lines.push(`${raw[i] ?? ''}: ${raw[i + 1] ?? ''}`);
  return lines;
}

/** Sends header lines as they are, one character a byte. @returns the header lines of the answer */
async function exchangeLines(t: Test, lab: Lab, form: (typeof TERMINATED)[number], lines: readonly string[], body = ''): Promise<string[]> {
  const { target, host } = addressOf(lab, form, '/f');
  const wire = await openWire(t, lab.port);
  wire.send(`POST ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n${lines.join('\r\n')}\r\n\r\n${body}`);
  const answer = await wire.until('\r\n\r\n');
  wire.socket.destroy();
  const [status, ...fields] = answer.slice(0, answer.indexOf('\r\n\r\n')).split('\r\n');
  t.match(status, /^HTTP\/1\.1 200 /);
  return fields.filter((field) => !OWN.has(field.slice(0, field.indexOf(':')).toLowerCase()));
}

const TRACE = [
  'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  'tracestate: 6cf95a0d-7f6ee95d@dt=fw4;0;0;0;0;0;0;0',
  'tracestate: other=1',
  'baggage: userId=alice,serverNode=DF%2028;isProduction=false',
  'X-dynaTrace: FW4;-1234;2;-987;4;0',
  'x-dynatrace-application: a b',
  'X-DynaTrace-Test: ',
];

/** The gateway is asked by plain HTTP, below a prefix. */
const COOKIE = 'Set-Cookie: a=1; Path=/; Secure';
const COOKIE_BEHIND_PREFIX = 'Set-Cookie: a=1; Path=/eco';

t.test('order, case, repetition and odd bytes survive both ways', async (t) => {
  const back = [
    'zZ-Odd: 1',
    COOKIE,
    'X-Dup: one',
    'set-cookie: b="2, 3"; Expires=Wed, 21 Oct 2015 07:28:00 GMT',
    'X-DUP: two',
    'Server: IIS/6.0 (really)',
    'X-Empty: ',
    'X-Latin: caf\xe9',
    "!#$%&'*+-.^_`|~: token",
    'WWW-Authenticate: Negotiate',
    'WWW-Authenticate: Basic realm="eco"',
    'Date: Tue, 15 Nov 1994 08:12:31 GMT',
    ...TRACE,
  ];
  const lab = await startLab(t, {
    onRequest: (_req, res) => res.writeHead(200, back.flatMap((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)])).end('ok'),
  });
  const there = [
    'zZ-Odd: 1',
    'ACCEPT: */*;q=0.1',
    'X-Dup: one',
    'Cookie: a=1',
    'x-dup: two',
    'Cookie: b=2',
    'X-Empty: ',
    'X-Latin: caf\xe9',
    "!#$%&'*+-.^_`|~: token",
    'User-Agent: odd (agent)',
    'Authorization: Bearer for-the-partner',
    'Date: Tue, 15 Nov 1994 08:12:31 GMT',
    'Content-Type: text/plain',
    'Content-Encoding: nothing',
    'Range: bytes=0-1',
    'If-None-Match: "a", W/"b"',
    'Max-Forwards: 3',
    ...TRACE,
  ];
  for (const form of TERMINATED) {
    t.same(await exchangeLines(t, lab, form, there, 'abc'), [...(form === 'gateway' ? back.map((line) => (line === COOKIE ? COOKIE_BEHIND_PREFIX : line)) : back), 'Via: 1.1 eco-egress'], `${form}: response`);
    const { rawHeaders } = lab.upstream.requests.at(-1) ?? { rawHeaders: [] };
    const port = form === 'gateway' ? lab.upstream.httpsPort : lab.upstream.httpPort;
    t.same(linesOf(rawHeaders), [`Host: ${ECO}:${port}`, ...there, 'Via: 1.1 eco-egress'], `${form}: request`);
    t.same(valuesOf(rawHeaders, 'content-length'), ['3']);
    t.match(await lab.logged((line) => line['form'] === form), { 'dt.trace_id': '0af7651916cd43dd8448eb211c80319c', 'dt.span_id': 'b7ad6b7169203331' });
  }
});

t.test('what is meant for one connection stays on it, in both directions', async (t) => {
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.sendDate = false;
      const headers = ['Connection', 'keep-alive, X-Hop-Back', 'Connection', 'x-other-hop', 'Keep-Alive', 'timeout=5, max=7', 'X-Hop-Back', 'secret', 'X-Other-Hop', 'secret'];
      res.writeHead(200, [...headers, 'Proxy-Connection', 'keep-alive', 'Proxy-Authenticate', 'Basic', 'Proxy-Authentication-Info', 'a', 'Upgrade', 'h2c', 'TE', 'x', 'X-Stays', 'here', 'Date', 'then']).end('ok');
    },
  });
  const sent = [
    'Connection: keep-alive, X-Hop , te',
    'Connection: Via, X-Forwarded-For',
    'X-Hop: secret',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive',
    'Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==',
    'Proxy-Authenticate: x',
    'TE: trailers, deflate',
    'Trailer: X-Sum',
    'Upgrade: foo/2',
    'HTTP2-Settings: AAMAAABkAAQAAP__',
    'X-Forwarded-For: 1.2.3.4',
    'Forwarded: for=1.2.3.4',
    'X-Stays: here',
  ];
  for (const form of TERMINATED) {
    t.same(await exchangeLines(t, lab, form, sent), ['X-Stays: here', 'Date: then', 'Via: 1.1 eco-egress'], `${form}: response`);
    const { rawHeaders } = lab.upstream.requests.at(-1) ?? { rawHeaders: [] };
    t.same(linesOf(rawHeaders).slice(1), ['TE: trailers', 'X-Stays: here', 'Via: 1.1 eco-egress'], `${form}: request; a nominated Via does not take ours away`);
    t.same(valuesOf(rawHeaders, 'connection'), ['keep-alive, TE'], 'our own');
    t.notMatch(JSON.stringify(lab.log), /secret/, 'none of it is in the log');
  }
});

t.test('Via grows by us, tells the version the client spoke, and can be left out', async (t) => {
  const lab = await startLab(t, { configure: (draft) => (draft.name = 'edge-7'), onRequest: (_req, res) => res.writeHead(200, { Via: '1.0 inner' }).end() });
  const { rawHeaders } = await ask(lab, 'gateway', { headers: ['Via', '1.0 fred, 1.1 p.example.net'] });
  t.same(valuesOf(rawHeaders, 'via'), ['1.0 inner', '1.1 edge-7']);
  t.same(valuesOf(lab.upstream.requests[0]?.rawHeaders ?? [], 'via'), ['1.0 fred, 1.1 p.example.net', '1.1 edge-7']);
  const old = await openWire(t, lab.port);
  old.send('GET /eco/ HTTP/1.0\r\n\r\n');
  await old.ended;
  t.same(valuesOf(lab.upstream.requests[1]?.rawHeaders ?? [], 'via'), ['1.0 edge-7']);

  const silent = await startLab(t, { configure: (draft) => (draft.headers['via'] = false) });
  const answer = await ask(silent, 'forward');
  t.same(valuesOf(answer.rawHeaders, 'via'), []);
  t.same(valuesOf(silent.upstream.requests[0]?.rawHeaders ?? [], 'via'), []);
});

t.test('a request that has been here already is a loop', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    const { status, reason, headers } = await ask(lab, form, { headers: ['Via', '1.1 a, HTTP/1.1 ECO-Egress (x)'] });
    t.equal(`${status} ${reason}`, '508 Bad request: loop');
    t.match(headers['proxy-status'], /^eco-egress;error=proxy_loop_detected;/);
  }
  t.equal((await ask(lab, 'forward', { headers: ['Via', '1.1 eco-egress2, 1.1 x-eco-egress'] })).status, 200, 'another name that holds ours is no loop');
  t.equal(lab.upstream.requests.length, 1);
});

t.test('Date is the partner’s, or else the time at which the response came', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.sendDate = false;
      res.writeHead(200, req.url === '/dated' ? { Date: 'Thu, 01 Jan 1970 00:00:00 GMT' } : {}).end('x');
    },
  });
  for (const form of TERMINATED) {
    t.same(valuesOf((await ask(lab, form, { path: '/dated' })).rawHeaders, 'date'), ['Thu, 01 Jan 1970 00:00:00 GMT']);
    const before = Math.floor(Date.now() / 1000) * 1000;
    const [ours = '', ...more] = valuesOf((await ask(lab, form, { path: '/undated' })).rawHeaders, 'date');
    t.same(more, []);
    t.equal(new Date(ours).toUTCString(), ours);
    t.ok(Date.parse(ours) >= before && Date.parse(ours) <= Date.now());
  }
});

t.test('Forwarded and X-Forwarded-*: off, pass, append', async (t) => {
  const sent = ['Forwarded', 'for=9.9.9.9', 'X-Forwarded-For', '9.9.9.9', 'X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'a', 'X-Forwarded-Port', '1'];
  const names = ['forwarded', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port'];
  for (const forwarded of ['off', 'pass', 'append'] as const) {
    for (const xForwarded of ['off', 'pass', 'append'] as const) {
      const lab = await startLab(t, { configure: (draft) => Object.assign(draft.headers, { forwarded, xForwarded }) });
      const host = `127.0.0.1:${lab.port}`;
      await ask(lab, 'gateway', { headers: sent });
      const { rawHeaders } = lab.upstream.requests[0] ?? { rawHeaders: [] };
      const was = (mode: typeof forwarded, theirs: string): string[] => (mode === 'off' ? [] : [theirs]);
      const ours = (mode: typeof forwarded, value: string): string[] => (mode === 'append' ? [value] : []);
      t.same(
        names.map((name) => valuesOf(rawHeaders, name)),
        [
          [...was(forwarded, 'for=9.9.9.9'), ...ours(forwarded, `for=127.0.0.1;proto=http;host="${host}"`)],
          [...was(xForwarded, '9.9.9.9'), ...ours(xForwarded, '127.0.0.1')],
          [...was(xForwarded, 'https'), ...ours(xForwarded, 'http')],
          [...was(xForwarded, 'a'), ...ours(xForwarded, host)],
          was(xForwarded, '1'),
        ],
        `forwarded: ${forwarded}, xForwarded: ${xForwarded}`,
      );
    }
  }
});

t.test('a field by which a partner may take another method', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.destinations.eco['http'] = { methods: ['GET', 'POST'] };
      for (const rule of draft.rules) rule['methods'] = ['GET', 'POST', 'DELETE'];
    },
  });
  for (const form of TERMINATED) {
    for (const name of ['X-HTTP-Method-Override', 'x-http-method', 'X-Method-Override', 'X_HTTP_Method_Override', 'X.Http.Method']) {
      const denied = await ask(lab, form, { method: 'POST', headers: [name, 'GET', name, 'DELETE'] });
      t.equal(denied.status, 403, `${form} ${name}`);
      const { code, detail, remedy, requestId } = JSON.parse(denied.text) as Record<string, string>;
      t.match({ code, detail, remedy }, { code: 'method-not-allowed', detail: /overrides the method with DELETE: .* does not list the method DELETE/, remedy: /add DELETE to destinations.eco.http.methods/ });
      const line = await lab.logged((line) => line['requestId'] === requestId);
      t.match(line, { verdict: 'deny', method: 'POST', detail: /overrides the method with DELETE/ });
    }
    const permitted = await ask(lab, form, { method: 'POST', headers: ['X-HTTP-Method-Override', 'HEAD', 'X-Method-Override', ''] });
    t.same([permitted.status, valuesOf((JSON.parse(permitted.text) as { headers: string[] }).headers, 'x-http-method-override')], [200, ['HEAD']]);
  }
  t.equal((await ask(lab, 'forward', { method: 'POST', headers: ['X-HTTP-Method-Override', 'delete'] })).status, 403, 'as written');
});

t.test('where COPY and MOVE write to has to be permitted too (RFC 4918 §10.3)', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.destinations.eco['http'] = { paths: ['/pub/*'] };
    },
  });
  const status = async (form: (typeof TERMINATED)[number], ...values: string[]): Promise<unknown> => {
    const { status, text } = await ask(lab, form, { method: 'MOVE', path: '/pub/a', headers: values.flatMap((value) => ['destination', value]) });
    return status === 200 ? status : (JSON.parse(text) as { code: string }).code;
  };
  for (const form of TERMINATED) {
    for (const value of ['/pub/b', `http://${ECO}/pub/b`, `HTTPS://${ECO}/pub/b?/c#d`, 'Toronto', 'Berlin/Mitte', '']) t.equal(await status(form, value), 200, `${form} ${value}`);
    for (const value of ['/priv/b', `http://${ECO}/priv/b`, `http://${ECO}:80/pub`]) t.equal(await status(form, value), 'path-not-allowed', `${form} ${value}`);
    for (const value of ['/pub/../priv/b', '/pub/..#', '//h/pub/b', 'http:/pub/b', `http://${ECO}?/pub/b`, '/pub/%2e%2e/b']) t.equal(await status(form, value), 'path-ambiguous', `${form} ${value}`);
    t.equal(await status(form, '/pub/b', '/priv/b'), 'path-ambiguous', 'two');
  }
  const { text } = await ask(lab, 'forward', { method: 'MOVE', path: '/pub/a', headers: ['Destination', '/priv/b'] });
  t.match(text, /the Destination field names \/priv\/b: /);
  const free = await startLab(t);
  t.equal((await ask(free, 'forward', { method: 'MOVE', headers: ['Destination', '/priv//b'] })).status, 200, 'where paths are not limited');
});

t.test('it passes where methods are not limited, or where it does not reach the partner', async (t) => {
  const free = await startLab(t);
  t.equal((await ask(free, 'forward', { method: 'POST', headers: ['X-HTTP-Method-Override', 'DELETE'] })).status, 200);
  const dropping = await startLab(t, {
    configure: (draft) => {
      draft.destinations.eco['http'] = { methods: ['POST'] };
      draft.headers['drop'] = ['x-http-method-override'];
    },
  });
  t.equal((await ask(dropping, 'forward', { method: 'POST', headers: ['X-HTTP-Method-Override', 'DELETE'] })).status, 200);
});
