import t from 'tap';
import type { HeadersConfig } from '../../src/config/config.ts';
import { readResponseHead } from '../../src/http1/response-head.ts';
import { connectionOptions, forwardRequestHeaders, forwardRequestTrailers, forwardResponseHeaders, forwardTrailers, type MapField, nominatedBy, viaNames } from '../../src/relay/headers.ts';

const QUIET: HeadersConfig = { via: false, forwarded: 'off', xForwarded: 'off', drop: [], keep: [] };
interface More {
  readonly clientAddress?: string;
  readonly clientHost?: string;
  readonly clientScheme?: 'http' | 'https';
  readonly httpVersion?: string;
  readonly chunked?: boolean;
  readonly expectsContinue?: boolean;
  readonly maxForwards?: number | null;
  readonly trace?: { readonly traceparent: string; readonly parentSpanId: string };
}
const forward = (raw: string[], headers: Partial<HeadersConfig> = {}, more: More = {}): string[] =>
  forwardRequestHeaders(raw, {
    name: 'eco-egress',
    headers: { ...QUIET, ...headers },
    authority: 'eco.example',
    httpVersion: more.httpVersion ?? '1.1',
    clientAddress: more.clientAddress ?? '10.8.0.7',
    clientScheme: more.clientScheme ?? 'http',
    clientHost: more.clientHost ?? 'asked.example',
    chunked: more.chunked ?? false,
    expectsContinue: more.expectsContinue ?? false,
    maxForwards: more.maxForwards ?? null,
    trace: more.trace ?? null,
  });

t.test('a request keeps its fields in order, case and number, and gets the new Host', async (t) => {
  t.same(forward(['hOsT', 'other', 'X-One', '1', 'x-one', '2', 'Accept', '*/*']), ['Host', 'eco.example', 'X-One', '1', 'x-one', '2', 'Accept', '*/*']);
});

t.test('hop-by-hop fields stay on their connection', async (t) => {
  for (const name of ['Connection', 'Keep-Alive', 'Proxy-Connection', 'Transfer-Encoding', 'Upgrade', 'HTTP2-Settings', 'TE', 'Trailer', 'Proxy-Authorization', 'Proxy-Authenticate']) {
    t.same(forward([name.toUpperCase(), 'x', 'Accept', '*/*']), ['Host', 'eco.example', 'Accept', '*/*'], name);
  }
});

t.test('fields nominated by Connection are removed, ours are not', async (t) => {
  const out = forward(['Connection', 'close, X-Secret ,x-forwarded-for,via', 'X-Secret', '1', 'X-Forwarded-For', '1.2.3.4', 'X-Kept', '2'], {
    via: true,
    xForwarded: 'append',
  });
  t.same(out, ['Host', 'eco.example', 'X-Kept', '2', 'Via', '1.1 eco-egress', 'X-Forwarded-For', '10.8.0.7', 'X-Forwarded-Proto', 'http', 'X-Forwarded-Host', 'asked.example']);
  t.same(forward(['Connection', 'a', 'connection', 'b', 'A', '1', 'B', '2', 'C', '3']), ['Host', 'eco.example', 'C', '3'], 'from every Connection field');
});

t.test('what a mesh writes for itself stays in it', async (t) => {
  for (const name of ['x-envoy-peer-metadata', 'X-Envoy-Peer-Metadata-Id', 'x-envoy-decorator-operation', 'x-forwarded-client-cert']) t.same(forward([name, 'x']), ['Host', 'eco.example'], name);
  t.same(forward(['x-envoy-attempt-count', '1']), ['Host', 'eco.example', 'x-envoy-attempt-count', '1']);
});

t.test('no field says whom a client speaks for', async (t) => {
  const claims = [
    'X-Real-IP', 'x-client-ip', 'Client-IP', 'True-Client-IP', 'CF-Connecting-IP', 'Fastly-Client-IP', 'X-Cluster-Client-Ip', 'X-Original-Forwarded-For', 'Client-Cert', 'CLIENT-CERT-CHAIN', 'Proxy',
    'X-SSL-Client-S-DN', 'X-Ssl-Whatever', 'SSL-Client-Cert', 'X-Forwarded-User', 'X-Forwarded-Anything-Else', 'X-Remote-User', 'X-Original-URL', 'WL-Proxy-Client-Cert',
  ];
  const host = ['Host', 'eco.example'];
  for (const mode of ['off', 'pass', 'append'] as const) {
    const ours = forward([], { xForwarded: mode, forwarded: mode });
    for (const name of claims) {
      for (const spelled of [name, name.toUpperCase(), name.toLowerCase(), name.replaceAll('-', '_'), name.replace('-', '_')]) t.same(forward([spelled, 'x'], { xForwarded: mode, forwarded: mode }), ours, `${spelled}, ${mode}`);
    }
  }
  // The twin of a field that has a key of its own, or that belongs to the connection, whatever that key says.
  for (const name of ['X_Forwarded_For', 'X.Forwarded.For', 'X-Forwarded!For', 'Transfer.Encoding', 'x_forwarded-host', 'Transfer_Encoding', 'Proxy_Authorization', 'X_Forwarded_Client_Cert', 'Proxy_Connection']) t.same(forward([name, 'x'], { xForwarded: 'pass', forwarded: 'pass' }), host, name);
  for (const name of ['X-Real-IPs', 'X-Realip', 'Real-IP', 'X-Client', 'Client', 'X-Forward', 'X-Ss', 'Proxy-Something', 'Remote', 'Authorization', 'Cookie', 'X_Request_Id']) t.same(forward([name, 'x']), [...host, name, 'x'], `${name} is the neighbour outside`);
});

t.test('nor does a trailer of a request', async (t) => {
  const sent = ['X-Real-IP', '1', 'X_Forwarded_For', '2', 'Proxy-Authorization', '3', 'X-Corp-User', '4', 'X-Hop', '5', 'Checksum', '6'];
  t.same(forwardRequestTrailers(sent, new Set(['x-hop']), QUIET), ['X-Corp-User', '4', 'Checksum', '6']);
  t.same(forwardRequestTrailers(sent, new Set(['x-hop']), { ...QUIET, xForwarded: 'pass', keep: ['x-real-ip'], drop: ['x-corp-*'] }), ['X-Real-IP', '1', 'Checksum', '6']);
});

t.test('the list can be changed', async (t) => {
  const host = ['Host', 'eco.example'];
  const sent = ['X-Real-IP', '1', 'x_real_ip', '2', 'X-SSL-Client-Cert', '3', 'X-Corp-User', '4', 'X_CORP_ID', '5', 'X-Corporate', '6', 'X.Corp.Id', '7'];
  t.same(forward(sent, { keep: ['x-real-ip'], drop: ['x-corp-*'] }), [...host, 'X-Real-IP', '1', 'x_real_ip', '2', 'X-Corporate', '6']);
  t.same(forward(sent, { keep: ['x-ssl-*'], drop: ['x-corporate'] }), [...host, 'X-SSL-Client-Cert', '3', 'X-Corp-User', '4', 'X_CORP_ID', '5', 'X.Corp.Id', '7']);
  t.same(forward(sent, { keep: ['x-real-ip'], drop: ['x-real-ip'] }), forward(sent), 'dropped where both say something');
  t.same(forward(['Content-Length', '5', 'Content-Type', 'a/b'], { drop: ['content-*'] }), [...host, 'Content-Length', '5'], 'without it the content would be the next request');
  t.same(forward(['X-Forwarded-For', '1', 'Connection', 'X-Kept', 'X-Kept', '2'], { drop: ['x-kept'], xForwarded: 'pass' }), [...host, 'X-Forwarded-For', '1']);
});

t.test('trace context passes untouched', async (t) => {
  const fields = ['traceparent', '00-aa-bb-01', 'tracestate', 'a=b', 'baggage', 'k=v', 'X-dynaTrace-Foo', 'FW4'];
  t.same(forward(fields), ['Host', 'eco.example', ...fields]);
});

t.test('forwarding fields go as configured', async (t) => {
  const sent = ['Forwarded', 'for=1.2.3.4', 'X-Forwarded-For', '1.2.3.4', 'X-Forwarded-Port', '1'];
  const host = ['Host', 'eco.example'];
  t.same(forward(sent), host, 'off');
  t.same(forward(sent, { forwarded: 'pass' }), [...host, 'Forwarded', 'for=1.2.3.4'], 'forwarded: pass');
  t.same(forward(sent, { xForwarded: 'pass' }), [...host, 'X-Forwarded-For', '1.2.3.4', 'X-Forwarded-Port', '1'], 'xForwarded: pass');
  t.same(forward([], { forwarded: 'append' }), [...host, 'Forwarded', 'for=10.8.0.7;proto=http;host="asked.example"'], 'forwarded: append');
  t.same(forward([], { forwarded: 'append' }, { clientAddress: 'fd00::1', clientHost: '' }), [...host, 'Forwarded', 'for="[fd00::1]";proto=http'], 'IPv6 is quoted');
  t.same(forward([], { forwarded: 'append', xForwarded: 'append' }, { clientScheme: 'https', clientHost: '' }).slice(2), ['Forwarded', 'for=10.8.0.7;proto=https', 'X-Forwarded-For', '10.8.0.7', 'X-Forwarded-Proto', 'https'], 'over TLS');
  t.same(forward([], { forwarded: 'append' }, { clientHost: 'a"b\\c' }).at(-1), 'for=10.8.0.7;proto=http;host="a\\"b\\\\c"', 'a quote cannot end the string');
});

t.test('what depends on the framing and the version', async (t) => {
  const host = ['Host', 'eco.example'];
  t.same(forward(['Trailer', 'X-Sum'], {}, { chunked: true }), [...host, 'Trailer', 'X-Sum'], 'only chunks have trailers');
  t.same(forward(['Expect', '100-continue'], {}, { expectsContinue: true }), [...host, 'Expect', '100-continue'], 'RFC 9110 §10.1.1: forwarded');
  t.same(forward(['Expect', '100-continue']), host, 'not where no 100 is expected');
  t.same(forward(['Max-Forwards', '7'], {}, { maxForwards: 6 }), [...host, 'Max-Forwards', '6']);
  t.same(forward(['Max-Forwards', '7']), [...host, 'Max-Forwards', '7'], 'where it means nothing, it is left alone');
  t.same(forward([], { via: true }, { httpVersion: '1.0' }), [...host, 'Via', '1.0 eco-egress'], 'RFC 9110 §7.6.3: the version the message came in');
  for (const [te, expected] of [
    ['trailers', ['TE', 'trailers']],
    ['Trailers', ['TE', 'trailers']],
    ['gzip;q=0.5, trailers', ['TE', 'trailers']],
    ['gzip', []],
    ['trailer', []],
    ['', []],
  ] as const) t.same(forward(['te', te]), [...host, ...expected], `TE: ${te}`);
});

t.test('the lines for the connection to the upstream', async (t) => {
  t.equal(connectionOptions([], { chunked: false, upgrades: false }), 'Connection: keep-alive\r\n');
  t.equal(connectionOptions([], { chunked: true, upgrades: false }), 'Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n');
  t.equal(connectionOptions(['TE', 'trailers'], { chunked: false, upgrades: false }), 'Connection: keep-alive, TE\r\n');
  t.equal(connectionOptions(['X', 'TE', 'Y', '1'], { chunked: false, upgrades: false }), 'Connection: keep-alive\r\n', 'a value is no field');
  t.equal(connectionOptions(['X', 'TE', 'TE', 'trailers'], { chunked: false, upgrades: false }), 'Connection: keep-alive, TE\r\n');
  t.equal(connectionOptions([], { chunked: false, upgrades: true }), 'Connection: Upgrade\r\nUpgrade: websocket\r\n');
});

/** The fields for the client, from a header section as the upstream sent it. */
function respond(lines: readonly string[], { status = '200 OK', version = '1.1', method = 'GET', viaName = null, mapField = null, trailers = true }: { status?: string; version?: string; method?: string; viaName?: string | null; mapField?: MapField | null; trailers?: boolean } = {}): string[] {
  const head = readResponseHead([`HTTP/${version} ${status}`, ...lines].join('\r\n'), method, 100);
  return forwardResponseHeaders(head, { viaName, mapField, trailers });
}

/** The same for a response with a Date, which is left out of the result. */
function respondDated(lines: readonly string[], options: Parameters<typeof respond>[1] = {}): string[] {
  const [name, value, ...rest] = respond(['Date: then', ...lines], options);
  t.strictSame([name, value], ['Date', 'then']);
  return rest;
}

t.test('a response loses what belongs to the upstream connection', async (t) => {
  const lines = ['Connection: keep-alive, X-Hop', 'X-Hop: 1', 'Keep-Alive: timeout=5', 'Transfer-Encoding: chunked', 'Proxy-Authenticate: Basic', 'Upgrade: h2c', 'TE: x', 'Set-Cookie: a=1', 'Set-Cookie: b=2'];
  t.same(respondDated(lines), ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']);
  t.same(respondDated([], { viaName: 'eco-egress' }), ['Via', '1.1 eco-egress']);
  t.same(respondDated([], { viaName: 'eco-egress', version: '1.0' }), ['Via', '1.0 eco-egress'], 'of a 1.0 origin');
  t.same(respondDated([], { viaName: 'eco-egress', status: '103 Early Hints' }), ['Via', '1.1 eco-egress'], 'of a 1xx');
  t.same(respondDated(['X: \xe9']), ['X', '\xe9'], 'bytes are Latin-1');
});

t.test('fields are mapped by name', async (t) => {
  const mapField: MapField = (name, value) => (name === 'location' ? `/eco${value}` : value);
  t.same(respondDated(['Location: /a', 'LOCATION: /b', 'LINK: /c'], { mapField }), ['Location', '/eco/a', 'LOCATION', '/eco/b', 'LINK', '/c']);
});

t.test('of the framing, one Content-Length is left where there may be one', async (t) => {
  const length = 'Content-Length: 5';
  for (const [what, lines, options, expected] of [
    ['one', [length], {}, ['Content-Length', '5']],
    ['two that are equal', [length, 'content-length: 5'], {}, ['Content-Length', '5']],
    ['one field with two that are equal', ['Content-Length: 5, 5'], {}, ['Content-Length', '5']],
    ['of HEAD: what GET would have', [length], { method: 'HEAD' }, ['Content-Length', '5']],
    ['of 304: what 200 would have', [length], { status: '304 Not Modified' }, ['Content-Length', '5']],
    ['of HEAD, and no number', ['Content-Length: +5'], { method: 'HEAD' }, []],
    ['of 304, and no number', ['Content-Length:'], { status: '304 Not Modified' }, []],
    ['RFC 9110 §8.6: not with 204', [length], { status: '204 No Content' }, []],
    ['nor with 1xx', [length], { status: '103 Early Hints' }, []],
    ['chunks', ['Transfer-Encoding: chunked'], {}, []],
  ] as const) t.same(respondDated(lines, options), expected, what);
});

t.test('Trailer crosses with the trailers that it names', async (t) => {
  const lines = ['Trailer: X-Sum', 'Transfer-Encoding: chunked'];
  t.same(respondDated(lines), ['Trailer', 'X-Sum']);
  t.same(respondDated(lines, { trailers: false }), [], 'HTTP/1.0 has none');
  t.same(respondDated(['Trailer: X-Sum', 'Content-Length: 1']), ['Content-Length', '1'], 'only chunks have');
});

t.test('RFC 9110 §6.6.1: a response without Date gets the time at which it came; an interim one does not', async (t) => {
  const before = Math.floor(Date.now() / 1000) * 1000;
  for (const lines of [[], ['Connection: date', 'Date: Thu, 01 Jan 1970 00:00:00 GMT']]) {
    const [name, value = '', ...rest] = respond(lines);
    t.strictSame([name, rest], ['Date', []]);
    t.match(value, /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/);
    t.ok(Date.parse(value) >= before && Date.parse(value) <= Date.now());
  }
  t.strictSame(respond([], { status: '103 Early Hints' }), []);
  t.strictSame(respond(['DATE: then']), ['DATE', 'then']);
});

t.test('trailers may not carry framing, routing or credentials', async (t) => {
  const dropped = ['Content-Length', 'Transfer-Encoding', 'Host', 'Trailer', 'Connection', 'Keep-Alive', 'TE', 'Upgrade', 'Content-Type', 'Content-Encoding', 'Authorization', 'Proxy-Authorization', 'WWW-Authenticate', 'Set-Cookie', 'Location', 'Destination', 'Cache-Control', 'Via', 'Expect', 'Max-Forwards', 'X-Forwarded-For', 'Forwarded', 'Cookie', 'Content-Range', 'Range', 'If-Match', 'If-None-Match', 'If-Modified-Since', 'If-Unmodified-Since', 'If-Range', 'X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override'];
  t.same(forwardTrailers(['X-Sum', '1', ...dropped.flatMap((name) => [name, 'x', name.toUpperCase(), 'x', name.replaceAll('-', '_'), 'x', name.replaceAll('-', '.'), 'x']), 'X-Hosts', '2'], null), ['X-Sum', '1', 'X-Hosts', '2']);
  t.same(forwardTrailers(['X-Sum', '1', 'X-HOP', '2'], nominatedBy(['Connection', 'x-hop'])), ['X-Sum', '1'], 'RFC 9110 §7.6.1: nor what Connection named');
});

t.test('our own Via is found in every spelling, others are not', async (t) => {
  for (const value of ['1.1 eco-egress', '1.0 front, 1.1 ECO-EGRESS (pod 3)', 'HTTP/1.1\teco-egress']) t.ok(viaNames([value], 'eco-egress'), value);
  for (const values of [['1.1 eco-egress', '1.1 behind'], ['1.1 before', '1.1 eco-egress'], ['1.1 a', '1.1 b, 1.1 eco-egress, 1.1 c', '1.1 d']]) t.ok(viaNames(values, 'eco-egress'), values.join(' | '));
  for (const value of ['1.1 eco-egress-2', '1.1 my.eco-egress', 'eco-egress', '1.1 front (eco-egress)', '']) t.notOk(viaNames([value], 'eco-egress'), value);
});

t.test('what Connection names', async (t) => {
  t.equal(nominatedBy([]), null);
  t.equal(nominatedBy(['Connection', 'close', 'connection', 'Keep-Alive, ,']), null);
  t.strictSame([...(nominatedBy(['Connection', 'close, X-A ,\tx-b', 'CONNECTION', 'x-a', 'Connections', 'x-c']) ?? [])], ['x-a', 'x-b']);
});

t.test('the trace of a request that is traced is ours, whatever the client says of it', async (t) => {
  const trace = { traceparent: '00-ours-01', parentSpanId: 'caller' };
  const fields = ['Traceparent', 'theirs', 'tracestate', 'a=b', 'traceparent', 'theirs', 'X-A', '1'];
  t.same(forward(fields, {}, { trace }), ['Host', 'eco.example', 'tracestate', 'a=b', 'X-A', '1', 'traceparent', '00-ours-01']);
  t.same(forward(fields, {}, { trace: { ...trace, parentSpanId: '' } }), ['Host', 'eco.example', 'X-A', '1', 'traceparent', '00-ours-01'], 'a trace that begins here has no state yet');
  t.same(forward(['Connection', 'traceparent', ...fields], {}, { trace }), ['Host', 'eco.example', 'tracestate', 'a=b', 'X-A', '1', 'traceparent', '00-ours-01'], 'a client cannot have it dropped');
  t.same(forward(fields, { drop: ['traceparent', 'tracestate'] }, { trace }), ['Host', 'eco.example', 'X-A', '1'], 'the operator can');
  t.same(forward(fields), ['Host', 'eco.example', ...fields], 'not traced');
});
