import { createHook } from 'node:async_hooks';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { exportJWK, SignJWT } from 'jose';
import t from 'tap';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

async function get(lab: Lab, headers: Record<string, string>): Promise<{ status: number; reason: string; headers: IncomingMessage['headers']; body: { code?: string } }> {
  const req = request(`${lab.url}/eco/x`, { headers, agent: false }).end();
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of res) text += String(chunk);
  return { status: res.statusCode ?? 0, reason: res.statusMessage ?? '', headers: res.headers, body: JSON.parse(text) as { code?: string } };
}

async function connectStatus(lab: Lab, authorization: string | null): Promise<string> {
  const socket = connect(lab.port, '127.0.0.1');
  socket.on('error', () => {});
  const authority = `${ECO}:${lab.upstream.httpsPort}`;
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorization === null ? '' : `Proxy-Authorization: ${authorization}\r\n`}\r\n`);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return chunk.toString();
}

t.test('a Basic user, in every state of its credentials and in tunnels too', async (t) => {
  const hash = await hashPassword('correct horse');
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'dynatrace', hash }] };
    },
  });
  const right = basic('dynatrace', 'correct horse');

  const missing = await get(lab, {});
  t.equal(missing.status, 407);
  t.match(missing.headers['proxy-authenticate'], /^Basic realm="eco-egress"/);
  t.equal(missing.body.code, 'credentials-missing');
  t.equal(lab.upstream.requests.length, 0);

  for (const wrong of [basic('dynatrace', 'wrong'), basic('nobody', 'correct horse'), 'Basic !!!', 'Bearer abc', 'Digest x']) {
    const refused = await get(lab, { 'Proxy-Authorization': wrong });
    t.equal(refused.status, 407, wrong.slice(0, 6));
    t.equal(refused.body.code, 'credentials-wrong');
  }
  t.equal(lab.upstream.requests.length, 0, 'nothing reached the upstream');

  t.equal((await get(lab, { 'Proxy-Authorization': right })).status, 200);
  t.equal((await get(lab, { 'Proxy-Authorization': right })).status, 200, 'again, from the cache');
  t.match(await lab.logged(({ upstreamStatus }) => upstreamStatus === 200), { user: 'dynatrace', client: 'pods' }, 'who was verified is logged');
  t.notOk(lab.log.some(({ code, user }) => code === 'credentials-wrong' && user !== undefined), 'and who was not, is not');
  t.notOk(lab.upstream.requests.some((req) => req.rawHeaders.some((name) => name.toLowerCase() === 'proxy-authorization')), 'credentials stop here');
  t.notMatch(JSON.stringify(lab.log), /correct horse|Y29ycmVjdA|ZHluYXRyYWNlO/);

  t.match(await connectStatus(lab, null), /^HTTP\/1\.1 407 .*credentials-missing\r\n[^]*proxy-authenticate: Basic/i);
  t.match(await connectStatus(lab, basic('dynatrace', 'nope')), /^HTTP\/1\.1 407 /);
  t.match(await connectStatus(lab, right), /^HTTP\/1\.1 200 /);
  t.match(await lab.logged((line) => line.code === 'credentials-missing'), { clientAddress: '127.0.0.1', status: 407 });
});

t.test('without credentials in the policy there is no 407, whatever is sent', async (t) => {
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { addresses: ['10.0.0.0/8'] };
    },
  });
  t.match(await get(lab, { 'Proxy-Authorization': basic('a', 'b') }), { status: 403, body: { code: 'client-not-allowed' } });
});

t.test('a password costs nothing where the address could not be a client with any', async (t) => {
  const hash = await hashPassword('correct horse');
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { addresses: ['10.0.0.0/8'], basic: [{ user: 'dynatrace', hash }] };
    },
  });
  let hashes = 0;
  const hook = createHook({
    init: (_id, type) => {
      if (type === 'SCRYPTREQUEST') hashes += 1;
    },
  }).enable();
  t.teardown(() => hook.disable());
  for (const password of ['correct horse', 'wrong']) t.match(await get(lab, { 'Proxy-Authorization': basic('dynatrace', password) }), { status: 403, body: { code: 'client-not-allowed' } });
  t.match(await connectStatus(lab, basic('dynatrace', 'correct horse')), /^HTTP\/1\.1 403 /);
  t.equal(hashes, 0);
});

t.test("a pod's projected token", async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' }] });
  const file = `${t.testdir({ 'jwks.json': jwks })}/jwks.json`;
  const issuer = 'https://kubernetes.default.svc';
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { tokens: [{ issuer, audience: 'eco-egress', subjects: ['system:serviceaccount:dynatrace-sit:*'], jwksFile: file }] };
    },
    files: { [file]: jwks },
  });
  const token = (subject: string, audience = 'eco-egress', expires = '5m'): Promise<string> =>
    new SignJWT({}).setProtectedHeader({ alg: 'ES256', kid: 'k1' }).setIssuer(issuer).setAudience(audience).setSubject(subject).setIssuedAt().setExpirationTime(expires).sign(privateKey);
  const ask = async (bearer: string): Promise<{ status: number; body: { code?: string } }> => get(lab, { 'Proxy-Authorization': `Bearer ${bearer}` });

  t.match(await ask(await token('system:serviceaccount:dynatrace-sit:oneagent')), { status: 200 });
  t.match(await ask(await token('system:serviceaccount:other:oneagent')), { status: 407 }, 'another namespace');
  t.match(await ask(await token('system:serviceaccount:dynatrace-sit:x', 'someone-else')), { status: 407, body: { code: 'credentials-wrong' } }, 'another audience');
  t.match(await ask(await token('system:serviceaccount:dynatrace-sit:x', 'eco-egress', '-5m')), { status: 407, body: { code: 'credentials-wrong' } }, 'expired');
  const none = await get(lab, {});
  t.equal(none.status, 407);
  t.match(none.headers['proxy-authenticate'], /^Bearer/);
});

t.test('content that comes with the request is whole, though the password is verified first', async (t) => {
  const hash = await hashPassword('correct horse');
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'dynatrace', hash }] };
    },
    onRequest: (req, res) => {
      let content = '';
      req.on('data', (chunk) => {
        content += String(chunk);
      });
      req.on('end', () => {
        res.end(`got ${content}`);
      });
    },
  });
  // Each with other content, so that each asks for itself; the first of a connection is verified, the second is cached.
  for (const [fields, content, got] of [
    ['Content-Length: 5', 'whole', 'whole'],
    ['Content-Length: 0', '', ''],
    ['Transfer-Encoding: chunked', '5\r\nwhole\r\n0\r\n\r\n', 'whole'],
    ['Transfer-Encoding: chunked', '0\r\n\r\n', ''],
  ] as const) {
    const wire = await openWire(t, lab.port);
    const request = (password: string): string => `POST /eco/x HTTP/1.1\r\nHost: eco\r\nProxy-Authorization: ${basic('dynatrace', password)}\r\n${fields}\r\n\r\n${content}`;
    // A wrong one is verified each time.
    wire.send(request('wrong') + request('correct horse'));
    t.match(await wire.until(new RegExp(`got ${got}(?:\\r\\n|$)`)), /^HTTP\/1\.1 407 [^]*HTTP\/1\.1 200 /, `${fields} ${JSON.stringify(content)}`);
  }
});
