/** What a proxy changes in messages, and what it answers itself: RFC 9110 and 9112, and the gateway's own names. */
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import t, { type Test } from 'tap';
import { addressOf, TERMINATED } from '../support/ask.ts';
import { httpAuthority, stillServes } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { openOwn, speak, startTlsLab } from '../support/tls-lab.ts';
import { askRaw } from '../support/wire.ts';
import { exchange, isTunnel, nameOf, readResponse, ROUTES } from './exchange.ts';
import { startPartnerLab } from './lab.ts';

t.setTimeout(120_000);

const answers =
  (fields: Readonly<Record<string, string | string[]>>): RequestListener =>
  (req, res) => {
    req.resume();
    for (const [name, value] of Object.entries(fields)) res.setHeader(name, value);
    res.end('ok');
  };

/** One request through the gateway; by plain HTTP, or inside TLS that ends at the proxy. */
async function viaGateway(t: Test, fields: (ports: { https: number; http: number }) => Readonly<Record<string, string | string[]>>, inside: 'plain' | 'TLS' = 'plain'): Promise<ReadonlyMap<string, string>> {
  let listener: RequestListener = (_, res) => res.end();
  const lab = await startTlsLab(t, { onRequest: (req, res) => { listener(req, res); } });
  listener = answers(fields({ https: lab.upstream.httpsPort, http: lab.upstream.httpPort }));
  const request = 'GET /eco/x HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n';
  const heard = inside === 'plain' ? await askRaw(t, lab.port, request) : await speak(await openOwn(t, lab), request);
  const { status, fields: seen } = readResponse(heard, 'GET', true);
  t.equal(status, 200);
  return seen;
}

/** What points to the partner, and what the client has to be told instead. */
const POINTERS: readonly [name: string, at: (ports: { https: number; http: number }) => string, expected: (ports: { https: number; http: number }) => string][] = [
  ['https with its port', ({ https }) => `https://${ECO}:${https}/api/y?q#f`, () => '/eco/api/y?q#f'],
  // Behind TLS offload, a server believes that it is asked by http.
  ['http with the same port', ({ https }) => `http://${ECO}:${https}/api/y`, () => '/eco/api/y'],
  ['http without a port', () => `http://${ECO}/api/y`, () => '/eco/api/y'],
  ['http with another port', ({ http }) => `http://${ECO}:${http}/api/y`, ({ http }) => `http://${ECO}:${http}/api/y`],
  ['other letters', ({ https }) => `HTTPS://${ECO.toUpperCase()}:${https}/api/y`, () => '/eco/api/y'],
  ['without a path', ({ https }) => `https://${ECO}:${https}`, () => '/eco/'],
  ['without a scheme', ({ https }) => `//${ECO}:${https}/api/y`, () => '/eco/api/y'],
  ['a path', () => '/api/y', () => '/eco/api/y'],
  ['another host', () => 'https://other.example/y', () => 'https://other.example/y'],
  ['a host that only begins like it', () => `https://${ECO}.evil.example/y`, () => `https://${ECO}.evil.example/y`],
];

for (const field of ['Location', 'Content-Location', 'Refresh'] as const) {
  t.test(`${field} stays behind the gateway's prefix`, async (t) => {
    for (const [name, at, expected] of POINTERS) {
      const wrap = (url: string): string => (field === 'Refresh' ? `5; url=${url}` : url);
      let ports = { https: 0, http: 0 };
      const seen = await viaGateway(t, (known) => {
        ports = known;
        return { [field]: wrap(at(known)) };
      });
      t.equal(seen.get(field.toLowerCase()), wrap(expected(ports)), name);
    }
  });
}

t.test('cookies come back: path, domain and Secure are those of the gateway', async (t) => {
  // The cookie itself, and its attributes in whatever order.
  const cases: readonly [cookie: string, plain: readonly string[], inTls: readonly string[]][] = [
    ['a=b; Path=/api; Secure; HttpOnly', ['a=b', 'httponly', 'path=/eco/api'], ['a=b', 'httponly', 'path=/eco/api', 'secure']],
    ['a=b; Path=/', ['a=b', 'path=/eco'], ['a=b', 'path=/eco']],
    [`a=b; Domain=${ECO}; Path=/api`, ['a=b', 'path=/eco/api'], ['a=b', 'path=/eco/api']],
    ['a=b; domain=.telus.internal; path=/api; secure', ['a=b', 'path=/eco/api'], ['a=b', 'path=/eco/api', 'secure']],
    ['a=b; Max-Age=5; SameSite=Lax; Path=/x', ['a=b', 'max-age=5', 'path=/eco/x', 'samesite=lax'], ['a=b', 'max-age=5', 'path=/eco/x', 'samesite=lax']],
    ['a=b', ['a=b'], ['a=b']],
  ];
  const attributes = (cookie = ''): string[] => cookie.toLowerCase().split('; ').sort();
  for (const [cookie, plain, inTls] of cases) {
    t.same(attributes((await viaGateway(t, () => ({ 'Set-Cookie': cookie }))).get('set-cookie')), plain, `${cookie}, plain`);
    t.same(attributes((await viaGateway(t, () => ({ 'Set-Cookie': cookie }), 'TLS')).get('set-cookie')), inTls, `${cookie}, TLS`);
  }
  const seen = await viaGateway(t, () => ({ 'Set-Cookie': ['a=1; Path=/', 'b=2; Path=/b'] }));
  t.match(seen.get('set-cookie'), /a=1; Path=\/eco\/?, b=2; Path=\/eco\/b/i, 'each of several');
});

t.test('Max-Forwards on TRACE and OPTIONS (RFC 9110 §7.6.2)', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/x');
    for (const method of ['TRACE', 'OPTIONS']) {
      const before = lab.upstream.requests.length;
      const ask = (value: string): Promise<string> => askRaw(t, lab.port, `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nMax-Forwards: ${value}\r\nCookie: secret=1\r\nConnection: close\r\n\r\n`);
      const own = readResponse(await ask('0'), method, true);
      t.equal(own.end, 'complete');
      t.ok(own.status === 200 || own.status === 204, `${form} ${method} 0: answered here, ${String(own.status)} ${own.reason}`);
      t.equal(lab.upstream.requests.length, before, `${form} ${method} 0: the partner sees nothing`);
      if (method === 'TRACE') {
        t.equal(own.fields.get('content-type'), 'message/http');
        t.match(own.body, /^TRACE /);
        t.notMatch(own.body, 'secret', 'fields with secrets are left out (RFC 9110 §9.3.8)');
      }
      await ask('5');
      t.equal(lab.upstream.requests.at(-1)?.headers['max-forwards'], '4', `${form} ${method}: one less`);
      await ask('1');
      t.equal(lab.upstream.requests.at(-1)?.headers['max-forwards'], '0');
      await ask('x');
      t.equal(lab.upstream.requests.length, before + 2, 'what is no number is refused');
    }
    await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n`);
    t.equal(lab.upstream.requests.at(-1)?.method, 'GET', 'it means nothing on others');
  }
});

t.test('OPTIONS for the server as a whole (RFC 9112 §3.2.4)', async (t) => {
  const lab = await startLab(t);
  const authority = httpAuthority(lab);
  for (const [target, expected] of [['*', '*'], [`http://${authority}`, '*'], [`http://${authority}/`, '/'], [`http://${authority}?q`, '/?q']] as const) {
    t.match(await askRaw(t, lab.port, `OPTIONS ${target} HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /, target);
    t.match(lab.upstream.requests.at(-1), { method: 'OPTIONS', url: expected }, target);
  }
  t.match(await askRaw(t, lab.port, `GET http://${authority} HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /);
  t.equal(lab.upstream.requests.at(-1)?.url, '/', 'of other methods the path is /');
  const before = lab.upstream.requests.length;
  t.match(await askRaw(t, lab.port, `GET * HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 400 /, '* is for OPTIONS alone');
  t.equal(lab.upstream.requests.length, before);
});

t.test('the target wins over Host (RFC 9112 §3.2.2)', async (t) => {
  const lab = await startLab(t);
  const authority = httpAuthority(lab);
  t.match(await askRaw(t, lab.port, `GET http://${authority}/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 200 /);
  t.match(lab.upstream.requests.at(-1)?.headers, { host: authority }, 'and replaces it');
  const line = await lab.logged((entry) => 'requestId' in entry);
  t.match(line, { host: ECO, code: 'ok' });
  t.match(JSON.stringify(line), 'evil.example', 'the difference is logged');
  const before = lab.upstream.requests.length;
  t.match(await askRaw(t, lab.port, `GET http://evil.example/x HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 403 Egress denied: host-not-allowed\r\n/, 'the other way round it is denied');
  t.equal(lab.upstream.requests.length, before);
});

t.test('a request target that is too long: 414 (RFC 9110 §15.5.15)', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, `/${'a'.repeat(66_000)}`);
    t.match(await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 414 /, form);
  }
  t.match(await askRaw(t, lab.port, `GET http://${httpAuthority(lab)}/x HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nX: ${'a'.repeat(66_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /, 'a long field is another thing');
  t.equal(lab.upstream.requests.length, 0);
  await stillServes(t, lab);
});

t.test('Via names the version that the message came in (RFC 9110 §7.6.3)', async (t) => {
  let seenVia = '';
  const { lab, place } = await startPartnerLab(t, {
    delay: 0,
    script: async (side) => {
      const { head, target } = await side.request();
      seenVia = /\r\nvia: *([^\r]*)/i.exec(head)?.[1] ?? '';
      if (target === '/early') await side.send('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n');
      await side.send(`HTTP/${target === '/old' ? '1.0' : '1.1'} 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok`);
      await side.end();
    },
  });
  const route = { form: 'forward', tls: false } as const;
  t.equal((await exchange(place, route, { path: '/x' })).fields.get('via'), '1.1 eco-egress');
  t.equal(seenVia, '1.1 eco-egress');
  t.equal((await exchange(place, route, { path: '/old' })).fields.get('via'), '1.0 eco-egress', 'of a partner of HTTP/1.0');
  await exchange(place, route, { version: '1.0' });
  t.equal(seenVia, '1.0 eco-egress', 'of a client of HTTP/1.0');
  const { heard } = await exchange(place, route, { path: '/early' });
  t.match(heard, /^HTTP\/1\.1 103 Early Hints\r\n(?:[^\r]+\r\n)*Via: 1\.1 eco-egress\r\n(?:[^\r]+\r\n)*\r\nHTTP\/1\.1 200 /i, 'on interim responses too');
  t.same(lab.log.filter(({ code }) => code === 'internal'), []);
});

t.test('request trailers are forwarded, but those that Connection names (RFC 9110 §7.6.1)', async (t) => {
  const got: string[] = [];
  const { place } = await startPartnerLab(t, {
    delay: 0,
    script: async (side) => {
      for (;;) {
        const request = await side.request();
        got.push(`${request.head}\r\n\r\n${await request.content}`);
        await side.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    },
  });
  for (const { target, host, name } of [
    { name: 'forward', target: `http://${place.host}:${place.plainPort}/x`, host: `${place.host}:${place.plainPort}` },
    { name: 'gateway', target: '/eco/x', host: 'proxy.example' },
    { name: 'host-routed', target: '/x', host: `${place.host}:${place.plainPort}` },
  ]) {
    for (const coding of ['chunked', 'Chunked']) {
      const heard = await askRaw(t, place.port, `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: ${coding}\r\nTrailer: X-Sum\r\nConnection: close, X-Hop\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Hop: 2\r\n\r\n`);
      t.match(heard, /^HTTP\/1\.1 200 /, `${name}, ${coding}`);
      t.match(got.at(-1) ?? '', /0\r\nX-Sum: 1\r\n\r\n$/i, `${name}, ${coding}: the trailer arrives, and nothing of this hop`);
    }
  }
});

t.test('a real server of HTTP/1.0 behind every route', async (t) => {
  const server = createHttpServer((_, res) => {
    res.shouldKeepAlive = false;
    res.end('ok');
  });
  const port = await listen(t, server);
  const lab: Lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
  for (const form of TERMINATED) {
    const { target, host } = form === 'gateway' ? { target: '/eco/x', host: 'x' } : { target: form === 'forward' ? `http://${ECO}:${port}/x` : '/x', host: `${ECO}:${port}` };
    const heard = await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    t.match(readResponse(heard, 'GET', true), { status: 200, body: 'ok', end: 'complete' }, form);
  }
});

t.test('content with any method reaches the partner in every form', async (t) => {
  const got: string[] = [];
  const { place } = await startPartnerLab(t, {
    delay: 5,
    script: async (side) => {
      for (;;) {
        const { method, content } = await side.request();
        got.push(`${method} ${(await content).replace(/^5\r\n|\r\n0\r\n\r\n$/g, '')}`);
        await side.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    },
  });
  for (const route of ROUTES) {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      for (const framing of ['length', 'chunked'] as const) {
        const seen = await exchange(place, route, { method, content: { bytes: 5, framing } });
        t.match(seen, { status: 200, body: 'ok' }, `${nameOf(route)}, ${method}, ${framing}`);
        t.equal(got.pop(), `${method} xxxxx`);
      }
    }
    if (!isTunnel(route)) t.equal((await exchange(place, route, { method: 'HEAD' })).status, 200);
  }
});
