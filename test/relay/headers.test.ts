import t from 'tap';
import type { HeadersConfig } from '../../src/config/config.ts';
import { forwardRequestHeaders, forwardResponseHeaders, forwardTrailers, summarise, viaNames } from '../../src/relay/headers.ts';

const QUIET: HeadersConfig = { via: false, forwarded: 'off', xForwarded: 'off' };
const forward = (raw: string[], headers: Partial<HeadersConfig> = {}, more: { clientAddress?: string; clientHost?: string; clientScheme?: 'http' | 'https' } = {}): string[] =>
  forwardRequestHeaders(raw, {
    name: 'eco-egress',
    headers: { ...QUIET, ...headers },
    authority: 'eco.example',
    httpVersion: '1.1',
    clientAddress: more.clientAddress ?? '10.8.0.7',
    clientScheme: more.clientScheme ?? 'http',
    clientHost: more.clientHost ?? 'asked.example',
  });

t.test('a request keeps its fields in order, case and number, and gets the new Host', async (t) => {
  t.same(forward(['hOsT', 'other', 'X-One', '1', 'x-one', '2', 'Accept', '*/*']), ['Host', 'eco.example', 'X-One', '1', 'x-one', '2', 'Accept', '*/*']);
});

t.test('hop-by-hop fields stay on their connection', async (t) => {
  for (const name of ['Connection', 'Keep-Alive', 'Proxy-Connection', 'Transfer-Encoding', 'Upgrade', 'HTTP2-Settings', 'TE', 'Trailer', 'Proxy-Authorization', 'Expect']) {
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

t.test('a response loses what belongs to the upstream connection', async (t) => {
  const raw = ['Date', 'then', 'Connection', 'keep-alive, X-Hop', 'X-Hop', '1', 'Keep-Alive', 'timeout=5', 'Transfer-Encoding', 'chunked', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'];
  const expected = ['Date', 'then', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'];
  t.same(forwardResponseHeaders(raw, null, null), expected);
  t.same(forwardResponseHeaders(raw.map((text) => Buffer.from(text)), null, null), expected, 'the same from bytes');
  t.same(forwardResponseHeaders([], '1.1 eco-egress', null), ['Via', '1.1 eco-egress']);
  t.same(forwardResponseHeaders(['Location', '/a', 'LINK', '/b'], null, (value) => `/eco${value}`), ['Location', '/eco/a', 'LINK', '/b'], 'only locations are moved');
  t.same(forwardResponseHeaders([Buffer.from('X'), Buffer.from([0xe9])], null, null), ['X', 'é'], 'bytes are latin-1, as Node writes them');
});

t.test('trailers may not carry framing or routing', async (t) => {
  t.same(forwardTrailers(['X-Sum', '1', 'Content-Length', '5', 'Transfer-Encoding', 'chunked', 'Host', 'x', 'Trailer', 'y']), [['X-Sum', '1']]);
});

t.test('summary of a request', async (t) => {
  t.match(summarise(['HOST', 'a', 'host', 'b', 'via', '1.1 x', 'TraceParent', 'tp', 'Transfer-Encoding', 'chunked']), {
    hosts: ['a', 'b'],
    via: ['1.1 x'],
    traceparent: 'tp',
    transferEncoding: ['chunked'],
    hasBody: true,
  });
  t.equal(summarise(['Content-Length', '0']).hasBody, false);
  t.equal(summarise(['Content-Length', '1']).hasBody, true);
  t.equal(summarise(['content-lengtx', '1']).hasBody, false, 'the neighbour of the same length');
});

t.test('our own Via is found in every spelling, others are not', async (t) => {
  for (const value of ['1.1 eco-egress', '1.0 front, 1.1 ECO-EGRESS (pod 3)', 'HTTP/1.1\teco-egress']) t.ok(viaNames([value], 'eco-egress'), value);
  for (const value of ['1.1 eco-egress-2', '1.1 my.eco-egress', 'eco-egress', '1.1 front (eco-egress)', '']) t.notOk(viaNames([value], 'eco-egress'), value);
});
