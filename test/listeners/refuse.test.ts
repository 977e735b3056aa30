import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { parseList } from 'structured-headers';
import t from 'tap';
import { Fault, FAULTS, type FaultCode } from '../../src/errors.ts';
import { readRequestHead } from '../../src/http1/request-head.ts';
import { isLastAnswer, refusalText } from '../../src/listeners/refuse.ts';
import { startLab } from '../support/lab.ts';

function read(text: string): { status: string; headers: Map<string, string>; body: string } {
  const [head = '', body = ''] = text.split('\r\n\r\n');
  const [status = '', ...lines] = head.split('\r\n');
  return { status, body, headers: new Map(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)])) };
}

t.test('every code says the same in the status line, Proxy-Status and body', async (t) => {
  for (const code of Object.keys(FAULTS) as FaultCode[]) {
    const { status, headers, body } = read(refusalText(new Fault(code, 'what happened', { remedy: 'what to do', retryAfter: 3 }), 'id-1', 'eco-egress'));
    t.match(status, new RegExp(`^HTTP/1\\.1 ${FAULTS[code].status} [A-Z][a-z ]+: ${code}$`), code);
    const [[proxy, parameters] = []] = parseList(headers.get('proxy-status') ?? '');
    t.equal(String(proxy), 'eco-egress');
    t.equal(String(parameters?.get('error')), FAULTS[code].proxyError);
    t.equal(parameters?.get('details'), `${code}: what happened`);
    t.equal(Number(headers.get('content-length')), Buffer.byteLength(body));
    t.equal(headers.get('retry-after'), '3');
    t.equal(headers.get('x-request-id'), 'id-1');
    t.same(JSON.parse(body), {
      type: `urn:eco-egress:error:${code}`,
      title: FAULTS[code].title,
      status: FAULTS[code].status,
      detail: 'what happened',
      code,
      requestId: 'id-1',
      remedy: 'what to do',
    });
  }
});

t.test('a refusal is the last on its connection where the start of the next request would be unknown', async (t) => {
  const denied = new Fault('host-not-allowed', 'x');
  for (const [request, last] of [
    ['GET / HTTP/1.1', false],
    ['POST / HTTP/1.1\r\nContent-Length: 16384', false],
    // Some clients stop an upload that has been answered.
    ['POST / HTTP/1.1\r\nContent-Length: 16385', true],
    ['POST / HTTP/1.1\r\nTransfer-Encoding: chunked', false],
    ['POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1', true],
    ['CONNECT x:1 HTTP/1.1', true],
  ] as const) {
    t.equal(isLastAnswer(denied, readRequestHead(request, 10)), last, request);
  }
});

t.test('a 407 says which credentials would do', async (t) => {
  const challenges = ['Basic realm="x", charset="UTF-8"', 'Bearer realm="x"'];
  const lines = refusalText(new Fault('credentials-missing', 'no', { challenges }), 'id', 'eco-egress').split('\r\n');
  t.strictSame(lines.filter((line) => line.startsWith('Proxy-Authenticate: ')), challenges.map((challenge) => `Proxy-Authenticate: ${challenge}`));
  t.notMatch(refusalText(new Fault('credentials-missing', 'no'), 'id', 'eco-egress'), 'Proxy-Authenticate');
});

t.test('what a client sent cannot break out of the header', async (t) => {
  const { headers, body } = read(refusalText(new Fault('host-not-allowed', 'the host "a\\b"\r\nSet-Cookie: x=1\u010a\u00e9'), 'id', 'eco-egress'));
  t.notOk(headers.has('set-cookie'));
  const [[, parameters] = []] = parseList(headers.get('proxy-status') ?? '');
  t.equal(parameters?.get('details'), 'host-not-allowed: the host "a\\b"??Set-Cookie: x=1??');
  t.match(JSON.parse(body), { detail: 'the host "a\\b"\r\nSet-Cookie: x=1\u010a\u00e9' }, 'JSON keeps it whole');
});

t.test('a client that keeps sending still gets the answer', async (t) => {
  const lab = await startLab(t);
  const client = connect({ port: lab.port, host: '127.0.0.1', allowHalfOpen: true });
  let answer = '';
  client.on('data', (chunk) => (answer += chunk.toString()));
  client.write(Buffer.alloc(8 * 1024 * 1024, 'x'));
  await once(client, 'end');
  t.match(answer, /^HTTP\/1\.1 414 Bad request: target-too-long\r\n/);
  t.match(answer, /"code":"target-too-long"/);
  const closed = once(client, 'close');
  client.end();
  await closed;
});

t.test('refusals on one kept connection leave nothing behind on it', async (t) => {
  const lab = await startLab(t);
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => {
    warnings.push(warning);
  };
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => {
    agent.destroy();
  });
  for (let i = 0; i < 30; i += 1) {
    const req = request(`${lab.url}/nowhere`, { agent, method: i % 2 === 0 ? 'GET' : 'POST' });
    req.end(i % 2 === 0 ? undefined : 'body');
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    t.equal(res.statusCode, 403);
    res.resume();
    await once(res, 'end');
  }
  t.same(warnings, []);
});
