/** Traces of a whole proxy, told to a collector that decodes them by itself. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { ECO, type Draft, type Lab, type LabOptions, labCertificates, startLab } from '../support/lab.ts';
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../support/otlp-receiver.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const SAMPLED = `00-${TRACE}-${CALLER}-01`;
const UNSAMPLED = `00-${TRACE}-${CALLER}-00`;

interface TracedLab {
  readonly lab: Lab;
  readonly collector: OtlpReceiver;
}

async function startTraced(t: Test, options: LabOptions & { readonly tracing?: Record<string, unknown> } = {}): Promise<TracedLab> {
  const collector = await startOtlpReceiver(t);
  const lab = await startLab(t, {
    ...options,
    configure: (draft, ports) => {
      Object.assign(draft, { tracing: { endpoint: collector.url, sample: 1, perClient: '1000/s', ...options.tracing } });
      options.configure?.(draft, ports);
    },
  });
  return { lab, collector };
}

const isServer = ({ kind }: ReceivedSpan): boolean => kind === 'server';

/** The spans of one request: of the server, and of the client below it where there is one. */
async function pairOf(collector: OtlpReceiver, spans: 1 | 2, fits: (span: ReceivedSpan) => boolean = () => true): Promise<{ server: ReceivedSpan; client: ReceivedSpan | undefined }> {
  const found = await collector.received(spans, fits);
  const server = found.find(isServer);
  if (server === undefined) throw new Error('no span of a server');
  return { server, client: found.find(({ kind }) => kind === 'client') };
}

/** Reads one answer of a proxy or upstream, up to what fits. */
async function readUntil(socket: Socket, fits: (text: string) => boolean): Promise<string> {
  let text = '';
  while (!fits(text)) text += String((await once(socket, 'data') as [Buffer])[0]);
  return text;
}

function headersSeen(body: string): Map<string, string> {
  const { headers } = JSON.parse(body) as { headers: string[] };
  const seen = new Map<string, string>();
  for (let i = 0; i < headers.length; i += 2) seen.set((headers[i] ?? '').toLowerCase(), headers[i + 1] ?? '');
  return seen;
}

t.test('an exchange by the gateway: two spans, the upstream gets ours, and the log has the same ids', async (t) => {
  const { lab, collector } = await startTraced(t);
  const response = await fetch(`${lab.url}/eco/api/x?secret=1`);
  t.equal(response.status, 200);
  const seen = headersSeen(await response.text());
  const { server, client } = await pairOf(collector, 2);
  t.ok(client);
  t.equal(server.parentSpanId, '', 'the trace begins here');
  t.equal(client?.parentSpanId, server.spanId);
  t.equal(client?.traceId, server.traceId);
  t.equal(seen.get('traceparent'), `00-${server.traceId}-${client?.spanId ?? ''}-01`);
  t.equal(server.name, 'GET eco');
  t.equal(client?.name, 'GET eco');
  t.match(server.attributes, {
    'http.request.method': 'GET', 'url.scheme': 'http', 'url.path': '/api/x', 'server.address': ECO, 'server.port': lab.upstream.httpsPort, 'http.response.status_code': 200, 'client.address': '127.0.0.1',
    'eco_egress.code': 'ok', 'eco_egress.client': 'pods', 'eco_egress.destination': 'eco', 'eco_egress.form': 'gateway', 'eco_egress.rule': 'rules[0]', 'eco_egress.verdict': 'allow',
  });
  t.match(client?.attributes, {
    'http.request.method': 'GET', 'url.full': `https://${ECO}:${lab.upstream.httpsPort}/api/x`, 'http.response.status_code': 200, 'network.peer.address': '127.0.0.1', 'network.peer.port': lab.upstream.httpsPort,
    'eco_egress.reused_connection': false, 'eco_egress.destination': 'eco',
  });
  t.type(client?.attributes['eco_egress.tls_ms'], 'number');
  t.notOk('error.type' in server.attributes);
  t.notOk(server.error);
  t.ok(client !== undefined && server.start <= client.start && client.start <= client.end && client.end <= server.end, 'the one is inside the other');
  t.match(server.resource, { 'service.name': 'eco-egress', 'service.version': /^\d/ });
  const line = await lab.logged((line) => line['form'] === 'gateway');
  t.equal(line['dt.trace_id'], server.traceId);
  t.equal(line['dt.span_id'], server.spanId);
  t.equal(line['requestId'], server.attributes['eco_egress.request_id']);
});

t.test('a trace that the caller began is continued; what it did not sample is not traced', async (t) => {
  const { lab, collector } = await startTraced(t, { tracing: { sample: 0 } });
  const ask = async (traceparent: string, path: string): Promise<Map<string, string>> => headersSeen(await (await fetch(`${lab.url}/eco/${path}`, { headers: { traceparent, tracestate: 'a=b' } })).text());
  const unsampled = await ask(UNSAMPLED, 'unsampled');
  t.equal(unsampled.get('traceparent'), UNSAMPLED, 'as the client sent it');
  const sampled = await ask(SAMPLED, 'sampled');
  const { server, client } = await pairOf(collector, 2);
  t.equal(server.traceId, TRACE);
  t.equal(server.parentSpanId, CALLER);
  t.equal(sampled.get('traceparent'), `00-${TRACE}-${client?.spanId ?? ''}-01`);
  t.equal(sampled.get('tracestate'), 'a=b');
  t.match(await lab.logged((line) => line['path'] === '/unsampled'), { 'dt.trace_id': TRACE, 'dt.span_id': CALLER });
  t.match(await lab.logged((line) => line['path'] === '/sampled'), { 'dt.trace_id': TRACE, 'dt.span_id': server.spanId });
  t.equal(collector.spans.length, 2);
});

t.test('a request without a valid traceparent begins a trace, and loses the state of another', async (t) => {
  const { lab, collector } = await startTraced(t);
  const seen = headersSeen(await (await fetch(`${lab.url}/eco/x`, { headers: { traceparent: 'nonsense', tracestate: 'a=b' } })).text());
  const { client } = await pairOf(collector, 2);
  t.equal(seen.get('traceparent'), `00-${client?.traceId ?? ''}-${client?.spanId ?? ''}-01`);
  t.notOk(seen.has('tracestate'));
});

t.test('headers.drop keeps the trace from the partner', async (t) => {
  const { lab, collector } = await startTraced(t, { configure: (draft) => { draft.headers['drop'] = ['traceparent', 'tracestate']; } });
  const seen = headersSeen(await (await fetch(`${lab.url}/eco/x`, { headers: { traceparent: SAMPLED } })).text());
  t.notOk(seen.has('traceparent'));
  await pairOf(collector, 2);
});

t.test('forward, over plain HTTP', async (t) => {
  const { lab, collector } = await startTraced(t);
  const socket = connect(lab.port, '127.0.0.1');
  socket.write(`GET http://${ECO}:${lab.upstream.httpPort}/f?q=1 HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`);
  t.match(await readUntil(socket, (text) => text.includes('\r\n\r\n')), /^HTTP\/1.1 200/);
  const { server, client } = await pairOf(collector, 2);
  t.match(server, { name: 'GET eco', attributes: { 'eco_egress.form': 'forward', 'url.path': '/f' } });
  t.equal(client?.attributes['url.full'], `http://${ECO}:${lab.upstream.httpPort}/f`);
  socket.destroy();
});

t.test('CONNECT: spans of the set-up, while the tunnel is open', async (t) => {
  const { lab, collector } = await startTraced(t);
  const socket = connect(lab.port, '127.0.0.1');
  socket.write(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}\r\ntraceparent: ${SAMPLED}\r\n\r\n`);
  t.match(await readUntil(socket, (text) => text.includes('\r\n\r\n')), /^HTTP\/1.1 200/);
  const { server, client } = await pairOf(collector, 2);
  t.match(server, { name: 'CONNECT eco', parentSpanId: CALLER, attributes: { 'http.request.method': 'CONNECT', 'http.response.status_code': 200, 'eco_egress.form': 'connect', 'server.address': ECO } });
  t.match(client, { name: 'dial eco', parentSpanId: server.spanId, attributes: { 'network.peer.address': '127.0.0.1', 'server.port': lab.upstream.httpsPort } });
  t.notOk(client !== undefined && 'http.request.method' in client.attributes);
  t.notOk(lab.log.some((line) => line['form'] === 'connect'), 'the tunnel is still open');
  socket.destroy();
  t.match(await lab.logged((line) => line['form'] === 'connect'), { 'dt.trace_id': TRACE, 'dt.span_id': server.spanId });
  await lab.service.close();
  t.equal(collector.spans.length, 2, 'nothing more for its end');
});

t.test('raw TLS (sni)', async (t) => {
  const { lab, collector } = await startTraced(t, {
    configure: (draft, { https }) => {
      draft.listeners['tls'] = ['127.0.0.1:0'];
      (draft.destinations.eco as Record<string, unknown>)['ports'] = [https];
    },
  });
  const port = lab.service.addresses.tls[0]?.port ?? 0;
  const socket = connectTls({ host: '127.0.0.1', port, servername: ECO, ca: lab.authority.certPem });
  await once(socket, 'secureConnect');
  const { server, client } = await pairOf(collector, 2);
  t.match(server, { name: 'TLS eco', parentSpanId: '', attributes: { 'eco_egress.form': 'sni', 'server.address': ECO } });
  t.notOk(Object.keys(server.attributes).some((name) => name.startsWith('http.') || name.startsWith('url.')));
  t.equal(client?.name, 'dial eco');
  t.equal(client?.parentSpanId, server.spanId);
  socket.destroy();
});

t.test('a WebSocket: an exchange that ends with its 101', async (t) => {
  const { lab, collector } = await startTraced(t);
  const sockets = new WebSocketServer({ server: lab.upstream.https });
  t.teardown(() => { sockets.close(); });
  const socket = new WebSocket(`${lab.url.replace('http', 'ws')}/eco/ws`, { headers: { traceparent: SAMPLED } });
  await once(socket, 'open');
  const { server, client } = await pairOf(collector, 2);
  t.match(server, { name: 'GET eco', attributes: { 'http.response.status_code': 101 } });
  t.match(client, { parentSpanId: server.spanId, attributes: { 'http.response.status_code': 101 } });
  socket.terminate();
});

t.test('denied: one span, with the code', async (t) => {
  const { lab, collector } = await startTraced(t);
  const socket = connect(lab.port, '127.0.0.1');
  socket.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n');
  t.match(await readUntil(socket, (text) => text.includes('\r\n\r\n')), /^HTTP\/1.1 403/);
  socket.destroy();
  const { server } = await pairOf(collector, 1);
  t.match(server, { name: 'CONNECT', kind: 'server', error: false, attributes: { 'error.type': 'host-not-allowed', 'http.response.status_code': 403, 'eco_egress.verdict': 'deny', 'eco_egress.code': 'host-not-allowed', 'eco_egress.destination': '-' } });
  t.equal(server.statusMessage, '');
  t.match(await lab.logged((line) => line.code === 'host-not-allowed'), { 'dt.trace_id': server.traceId, 'dt.span_id': server.spanId });
  await lab.service.close();
  t.equal(collector.spans.length, 1);
});

t.test('a partner that fails: both spans say so', async (t) => {
  const { lab, collector } = await startTraced(t, {
    onRequest: (req, res) => {
      if (req.url === '/500') res.writeHead(500).end();
      else req.socket.destroy();
    },
  });
  t.equal((await fetch(`${lab.url}/eco/500`)).status, 500);
  t.equal((await fetch(`${lab.url}/eco/cut`, { method: 'POST' })).status, 502);
  const answered = await pairOf(collector, 2, ({ attributes }) => JSON.stringify(attributes).includes('/500'));
  t.match(answered.server, { error: true, attributes: { 'error.type': '500', 'http.response.status_code': 500, 'eco_egress.code': 'ok' } });
  t.match(answered.client, { error: true, attributes: { 'error.type': '500' } });
  const cut = await pairOf(collector, 2, ({ attributes }) => JSON.stringify(attributes).includes('/cut'));
  t.match(cut.server, { error: true, attributes: { 'error.type': 'upstream-cut', 'http.response.status_code': 502 } });
  t.match(cut.client, { error: true, attributes: { 'error.type': 'upstream-cut' } });
  t.notOk(cut.client !== undefined && 'http.response.status_code' in cut.client.attributes);
});

t.test('a partner that cannot be dialled', async (t) => {
  const { lab, collector } = await startTraced(t, { configure: (draft) => { draft.destinations.eco['ports'] = [1]; draft.destinations.eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:1` }; } });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 502);
  const { server, client } = await pairOf(collector, 2);
  t.match(server.attributes, { 'error.type': 'connection-refused' });
  t.match(client, { error: true, parentSpanId: server.spanId, attributes: { 'error.type': 'connection-refused', 'network.peer.address': '127.0.0.1' } });
});

t.test('an unknown method is in no span name', async (t) => {
  const { lab, collector } = await startTraced(t);
  t.equal((await fetch(`${lab.url}/eco/x`, { method: 'BREW' })).status, 400, 'of the upstream');
  const { server } = await pairOf(collector, 2);
  t.match(server, { name: 'HTTP eco', attributes: { 'http.request.method': '_OTHER', 'http.request.method_original': 'BREW' } });
});

t.test('one client asks for more traces than it may have: the rest is served, counted and not traced', async (t) => {
  const { lab, collector } = await startTraced(t, { tracing: { perClient: '2/h' } });
  const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => fetch(`${lab.url}/eco/${i}`, { headers: { traceparent: SAMPLED } }).then((response) => response.text())));
  const own = answers.filter((body) => headersSeen(body).get('traceparent') !== SAMPLED);
  t.equal(own.length, 2);
  t.equal((await collector.received(4)).length, 4);
  t.equal((await lab.scrape()).samples.get('eco_egress_traces_limited_total'), 4);
});

t.test('the share of requests that is traced', async (t) => {
  const { lab, collector } = await startTraced(t, { tracing: { sample: 0.5 } });
  for (let round = 0; round < 10; round += 1) await Promise.all(Array.from({ length: 20 }, () => fetch(`${lab.url}/eco/x`).then((response) => response.text())));
  await lab.service.close();
  const traced = collector.spans.filter(isServer).length;
  // 200 throws of a coin: fewer than 50, or more than 150, come once in 10^12.
  t.ok(traced > 50 && traced < 150, String(traced));
  t.equal(new Set(collector.spans.map(({ spanId }) => spanId)).size, traced * 2);
});

t.test('what is waiting is sent at the end, and then nothing is open', async (t) => {
  const { lab, collector } = await startTraced(t);
  await (await fetch(`${lab.url}/eco/x`)).text();
  await lab.service.drain();
  t.equal(collector.spans.length, 2);
});

t.test('TLS, with headers from a file: rotated by a reload, and the collector is verified', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const collector = await startOtlpReceiver(t, { certPem, keyPem });
  const files: Record<string, string> = { '/lab/headers': 'Authorization: Api-Token one-secret\nX-Tenant: a\n' };
  const tracing = (more: Record<string, unknown>) => (draft: Draft): void => {
    Object.assign(draft, { tracing: { endpoint: collector.url, sample: 1, perClient: '1000/s', headersFile: 'headers', serviceName: 'out', tls: { caFile: 'ca.pem' }, ...more } });
  };
  const lab = await startLab(t, { files, configure: tracing({}) });
  await (await fetch(`${lab.url}/eco/1`)).text();
  t.match((await collector.received(2))[0]?.resource, { 'service.name': 'out' });
  t.match(collector.headers[0], { authorization: 'Api-Token one-secret', 'x-tenant': 'a', 'content-encoding': 'gzip', 'user-agent': /^eco-egress\// });
  files['/lab/headers'] = 'Authorization: Api-Token two-secret\n';
  t.equal((await lab.reload(tracing({}))).result, 'applied');
  await (await fetch(`${lab.url}/eco/2`)).text();
  await collector.received(4);
  t.match(collector.headers.at(-1), { authorization: 'Api-Token two-secret' });
  t.equal((await lab.reload(tracing({ tls: {} }))).result, 'applied');
  await (await fetch(`${lab.url}/eco/3`)).text();
  t.match(await lab.logged(({ msg }) => msg === 'the collector of traces does not take every span'), { level: 'warn', reason: /certificate/ });
  t.equal(collector.spans.length, 4);
  t.equal((await lab.reload(() => {})).result, 'applied', 'off');
  t.notOk(headersSeen(await (await fetch(`${lab.url}/eco/4`)).text()).has('traceparent'));
  const everything = JSON.stringify([lab.log, await lab.status(), await (await fetch(`${lab.adminUrl}/config`)).text()]);
  t.notMatch(everything, /(?:one|two)-secret/);
});

t.test('no query, credential, user information, header value or content is ever exported', async (t) => {
  const SECRET = 'S3cr3t';
  const { lab, collector } = await startTraced(t, {
    onRequest: (req, res) => {
      req.resume();
      req.on('end', () => {
        if (req.url?.includes('odd') === true) res.socket?.end(`HTTP/1.1 200 ${SECRET}\r\nBad Header ${SECRET}: x\r\n\r\n`);
        else res.writeHead(req.url?.includes('500') === true ? 500 : 200, SECRET, { 'Set-Cookie': `a=${SECRET}`, 'Proxy-Authenticate': `Basic realm=${SECRET}`, Location: `/${SECRET}?${SECRET}` }).end(SECRET);
      });
    },
  });
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const targets = [`/eco/a?q=${SECRET}`, `/eco/500?${SECRET}`, `/eco/odd?${SECRET}`, `http://${authority}/b?${SECRET}`, `http://user:${SECRET}@${authority}/c`, `http://denied.example/d?${SECRET}`, `/nothing?${SECRET}`, `/eco/e#${SECRET}`, `/eco/%zz?${SECRET}`];
  const fields = [
    `Authorization: Bearer ${SECRET}`, `Proxy-Authorization: Basic ${SECRET}`, `Proxy-Authorization: Bearer ${SECRET}`, `Cookie: ${SECRET}`, `User-Agent: ${SECRET}`, `X-Anything: ${SECRET}`, `Referer: ${SECRET}`, `Expect: ${SECRET}`, `Max-Forwards: ${SECRET}`,
    `tracestate: a=${SECRET}`, `baggage: a=${SECRET}`, `traceparent: ${SECRET}`, `X-Forwarded-For: ${SECRET}`, `Upgrade: ${SECRET}`, `Content-Length: ${SECRET}`, `Transfer-Encoding: ${SECRET}`, `Via: 1.1 ${SECRET}`, `X-Request-Id: ${SECRET}`,
  ];
  const ask = async (head: string): Promise<void> => {
    const socket = connect(lab.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    const closed = once(socket, 'close');
    socket.end(head);
    await closed;
  };
  for (const method of ['GET', 'POST', 'OPTIONS', 'TRACE']) {
    for (const target of targets) {
      await Promise.all(fields.map((field) => ask(`${method} ${target} HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n${field}\r\n\r\n`)));
    }
  }
  await ask(`CONNECT user:${SECRET}@${authority} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  await ask(`CONNECT denied.example:443 HTTP/1.1\r\nHost: ${ECO}\r\nProxy-Authorization: Basic ${SECRET}\r\n\r\n`);
  await ask(`GET /eco/x HTTP/1.1\r\nHost: ${ECO}\r\n${SECRET}\r\n\r\n`);
  await lab.service.close();
  t.ok(collector.spans.length > targets.length * fields.length * 4, `${collector.spans.length} spans`);
  t.ok(collector.raw.some((body) => body.includes('url.path')), 'the search finds what is there');
  t.strictSame(collector.raw.filter((body) => body.includes(SECRET)).map((body) => body.subarray(Math.max(0, body.indexOf(SECRET) - 80), body.indexOf(SECRET) + 20).toString('latin1')), []);
});
