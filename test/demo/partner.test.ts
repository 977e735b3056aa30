/** The stand-in ECO SIT answers on both servers, each endpoint as it says, and leaves nothing open. */
import t from 'tap';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import * as http from 'node:http';
import * as https from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { createAuthority } from '../../src/demo/authority.ts';
import { createPartner } from '../../src/demo/partner.ts';

const NAME = 'eco-sit.telus.internal';
const LOOPBACK = { host: '127.0.0.1', port: 0 };

const authority = await createAuthority();
const partner = createPartner({ authority, name: NAME, https: LOOPBACK, http: LOOPBACK });
t.throws(() => partner.addresses, 'no addresses before it has started');
const addresses = await partner.start();
t.teardown(() => partner.close());

interface Answer {
  readonly response: IncomingMessage;
  readonly body: Buffer;
}

async function ask(path: string, { method = 'GET', tls = false, headers = {}, body = '' } = {}): Promise<Answer> {
  const common = { host: '127.0.0.1', path, method, headers: { host: NAME, ...headers }, agent: false };
  const request = tls
    ? https.request({ ...common, port: addresses.https.port, ca: authority.certPem, servername: NAME })
    : http.request({ ...common, port: addresses.http.port });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { response, body: await buffer(response) };
}

const json = ({ body }: Answer): unknown => JSON.parse(body.toString());

t.test('tells what it saw, over TLS and without', async (t) => {
  for (const tls of [true, false]) {
    t.match(json(await ask('/?q=1', { tls, method: 'POST', headers: { 'x-probe': 'a' }, body: 'ignored' })), {
      method: 'POST',
      path: '/?q=1',
      tls,
      sourceAddress: '127.0.0.1',
      headers: { host: NAME, 'x-probe': 'a' },
    });
  }
});

t.test('keeps the connection of a proxy, and ends that of anybody else', async (t) => {
  for (const tls of [true, false]) {
    t.equal((await ask('/api/status', { tls })).response.headers.connection, 'close');
    t.equal((await ask('/api/status', { tls, headers: { via: '1.1 eco-egress', connection: 'keep-alive' } })).response.headers.connection, 'keep-alive');
  }
});

t.test('is trusted by its own authority only, and for its own name only', async (t) => {
  const get = (options: https.RequestOptions): Promise<unknown> =>
    once(https.get({ host: '127.0.0.1', port: addresses.https.port, agent: false, ...options }), 'response');
  await t.rejects(get({ servername: NAME }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
  await t.rejects(get({ servername: 'other.example', ca: authority.certPem }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
});

t.test('small endpoints', async (t) => {
  t.match(json(await ask('/api/status')), { status: 'ok', tls: false });
  t.match(json(await ask('/headers', { headers: { traceparent: '00-1' } })), { traceparent: '00-1' });

  const first = /^eco_sit_requests_total (\d+)$/m.exec((await ask('/metrics')).body.toString())?.[1];
  const second = /^eco_sit_requests_total (\d+)$/m.exec((await ask('/metrics')).body.toString())?.[1];
  t.equal(Number(second), Number(first) + 1, 'its metrics count its requests');

  const { response, body } = await ask('/trailers');
  t.match(body.toString(), /checksum/);
  t.match(response.trailers['x-eco-checksum'], /^crc32=[0-9a-f]+$/);

  const redirect = await ask('/redirect');
  t.equal(redirect.response.statusCode, 302);
  t.equal(redirect.response.headers.location, '/api/status');
});

t.test('echoes any method, sized or chunked', async (t) => {
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
    const { response, body } = await ask('/echo', { method, headers: { 'content-type': 'text/x-probe', 'content-length': '5' }, body: 'hello' });
    t.equal(body.toString(), 'hello', method);
    t.equal(response.headers['content-type'], 'text/x-probe');
    t.equal(response.headers['content-length'], '5');
  }
  const chunked = await ask('/echo', { method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body: 'hello' });
  t.equal(chunked.body.toString(), 'hello');
  t.equal(chunked.response.headers['content-length'], undefined);
});

t.test('numbers in the path', async (t) => {
  for (const length of [0, 1, 65_535, 65_536, 65_537, 200_000]) {
    const { response, body } = await ask(`/bytes/${length}`);
    t.equal(body.length, length, `/bytes/${length}`);
    t.equal(response.headers['content-length'], String(length));
  }
  for (const status of [200, 204, 304, 418, 503, 599]) t.equal((await ask(`/status/${status}`)).response.statusCode, status);
  t.match(json(await ask('/slow/1')), { waitedMs: 1 });
  for (const path of ['/bytes/', '/bytes/x', '/bytes/-1', '/bytes/1.5', '/status/199', '/status/600', '/slow/300001', '/slow/-1']) {
    t.equal((await ask(path)).response.statusCode, 400, path);
  }
});

t.test('what it does not have', async (t) => {
  for (const path of ['/nothing', '/api/other', '/bytes/1/2', '/echo/', '//', '/api/status/', '/%zz', '/constructor']) {
    t.equal((await ask(path)).response.statusCode, 404, path);
  }
});

t.test('a client that goes away takes nothing with it', async (t) => {
  const request = http.get({ host: '127.0.0.1', port: addresses.http.port, path: '/bytes/1000000000', agent: false });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  await once(response, 'data');
  response.destroy();
  t.match(json(await ask('/api/status')), { status: 'ok' });
});

t.test('a port that is taken: neither server is left open', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  t.teardown(() => holder.close());
  const { port } = holder.address() as AddressInfo;
  const second = createPartner({ authority, name: NAME, https: LOOPBACK, http: { host: '127.0.0.1', port } });
  await t.rejects(second.start(), { code: 'EADDRINUSE' });
  await second.close();
});
