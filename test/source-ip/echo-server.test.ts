/** The echo endpoint: what it tells whom, whom it believes, and what it does not put up with. */
import t, { type Test } from 'tap';
import { type Echo, type EchoServerOptions, openEcho } from '../../src/source-ip/echo-server.ts';
import { binary, block4, line, LOCAL, PROXY, TCP4 } from '../support/proxy-header.ts';
import { askRaw, openWire } from '../support/wire.ts';

const TRUSTED = ['127.0.0.1/32', '10.9.0.0/16'];

async function open(t: Test, options: Partial<EchoServerOptions> = {}): Promise<Echo & { port: number; url: string }> {
  const echo = await openEcho({ listen: { host: '127.0.0.1', port: 0 }, trustedPeers: [], proxyProtocol: false, believe: [], ...options });
  t.teardown(() => echo.close());
  const { port } = echo.address;
  return { ...echo, port, url: `http://127.0.0.1:${port}` };
}

const request = (path: string, ...headers: string[]): string => [`GET ${path} HTTP/1.1`, 'Host: echo', 'Connection: close', ...headers, '', ''].join('\r\n');
const bodyOf = (answer: string): unknown => JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));

t.test('the caller, as text and as JSON', async (t) => {
  const { url, port } = await open(t);
  const plain = await fetch(url, { headers: { accept: 'text/plain, */*;q=0.1' } });
  t.equal(await plain.text(), '127.0.0.1\n');
  t.match(plain.headers.get('content-type'), /^text\/plain/);
  t.equal(plain.headers.get('cache-control'), 'no-store');
  t.equal(await (await fetch(url)).text(), '127.0.0.1\n', 'text is what is given without a wish');
  const wire = await openWire(t, port, { from: '127.0.0.7' });
  wire.send(request('/json'));
  const { heard } = await wire.ended;
  t.match(heard, /content-type: application\/json/);
  t.strictSame(bodyOf(heard), { ip: '127.0.0.7', port: Number(/"port":(\d+)/.exec(heard)?.[1]), via: 'connection' });
  const wished = await fetch(`${url}/?x=1`, { headers: { accept: 'application/json' } });
  t.match(await wished.json(), { ip: '127.0.0.1', via: 'connection' });
  t.match(await (await fetch(`${url}/healthz`)).text(), 'alive');
  const head = await fetch(url, { method: 'HEAD' });
  t.equal(head.headers.get('content-length'), '10');
});

t.test('anything else', async (t) => {
  const { url, port } = await open(t);
  for (const [method, path, status] of [['GET', '/ip', 404], ['GET', '//', 404], ['POST', '/', 405], ['DELETE', '/json', 405], ['PUT', '/healthz', 405]] as const) {
    const response = await fetch(`${url}${path}`, { method, body: method === 'POST' || method === 'PUT' ? 'x'.repeat(100_000) : null });
    t.equal(response.status, status, `${method} ${path}`);
    await response.body?.cancel();
  }
  t.match(await askRaw(t, port, request('/', `X: ${'x'.repeat(9000)}`)), /^HTTP\/1\.1 431 /);
  t.match(await askRaw(t, port, '\x16\x03\x01\r\n\r\n'), /^HTTP\/1\.1 400 /);
  t.equal((await fetch(url)).status, 200, 'and it lives');
});

t.test('no peer is trusted unless it is listed', async (t) => {
  const { port } = await open(t);
  t.match(bodyOf(await askRaw(t, port, request('/json', 'X-Forwarded-For: 34.123.45.67'))), { ip: '127.0.0.1', via: 'connection' });
  t.match(await askRaw(t, port, `${line('TCP4 34.123.45.67 10.0.0.1 5000 80').toString()}${request('/json')}`), /^HTTP\/1\.1 400 /);
});

t.test('X-Forwarded-For of trusted peers', async (t) => {
  const { port } = await open(t, { trustedPeers: TRUSTED, believe: ['x-forwarded-for'] });
  for (const [header, from, answer] of [
    ['34.123.45.67', '127.0.0.1', { ip: '34.123.45.67', port: 0, via: 'x-forwarded-for' }],
    ['1.1.1.1, 34.123.45.67, 10.9.0.4', '127.0.0.1', { ip: '34.123.45.67', port: 0, via: 'x-forwarded-for' }],
    ['34.123.45.67', '127.0.0.2', { ip: '127.0.0.2', via: 'connection' }],
  ] as const) {
    t.match(bodyOf(await askRaw(t, port, request('/json', `X-Forwarded-For: ${header}`), from)), answer, `${header} from ${from}`);
  }
  t.match(bodyOf(await askRaw(t, port, request('/json'))), { ip: '127.0.0.1', via: 'connection' }, 'the peer itself');
  t.match(await askRaw(t, port, request('/json', 'X-Forwarded-For: nonsense')), /^HTTP\/1\.1 400 [^]*X-Forwarded-For: "nonsense"/);
});

t.test('PROXY headers of trusted peers', async (t) => {
  const { port } = await open(t, { trustedPeers: TRUSTED, proxyProtocol: true });
  for (const [what, header, answer] of [
    ['version 1', line('TCP4 34.123.45.67 10.0.0.1 5000 80'), { ip: '34.123.45.67', port: 5000, via: 'proxy-protocol' }],
    ['version 2', binary(PROXY, TCP4, block4('34.123.45.67')), { ip: '34.123.45.67', via: 'proxy-protocol' }],
    ['for itself', binary(LOCAL, 0, Buffer.alloc(0)), { ip: '127.0.0.1', via: 'connection' }],
  ] as const) {
    t.match(bodyOf(await askRaw(t, port, Buffer.concat([header, Buffer.from(request('/json'))]))), answer, what);
  }
  t.match(await askRaw(t, port, request('/json')), /^HTTP\/1\.1 400 [^]*not a PROXY protocol header/, 'it has to come first');
  t.match(bodyOf(await askRaw(t, port, request('/json'), '127.0.0.2')), { ip: '127.0.0.2', via: 'connection' }, 'from others none is expected');
});

t.test('both: the balancer is named by its header, and speaks for others', async (t) => {
  const { port } = await open(t, { trustedPeers: TRUSTED, proxyProtocol: true, believe: ['x-forwarded-for'] });
  const through = (source: string): Buffer => Buffer.concat([line(`TCP4 ${source} 10.0.0.1 5000 80`), Buffer.from(request('/json', 'X-Forwarded-For: 34.123.45.67'))]);
  t.match(bodyOf(await askRaw(t, port, through('10.9.1.1'))), { ip: '34.123.45.67', via: 'x-forwarded-for' });
  t.match(bodyOf(await askRaw(t, port, through('10.10.1.1'))), { ip: '10.10.1.1', port: 5000, via: 'proxy-protocol' });
});

t.test('the end', async (t) => {
  const echo = await open(t, { trustedPeers: TRUSTED, proxyProtocol: true });
  const idle = await openWire(t, echo.port, { from: '127.0.0.2' });
  const mute = await openWire(t, echo.port);
  mute.send('PROX');
  await echo.close();
  await Promise.all([idle.ended, mute.ended]);
  await t.rejects(fetch(echo.url));
});
