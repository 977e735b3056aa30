/** RFC 9209: what is known of a failure is told in fields of their own. */
import { request } from 'node:http';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { parseList } from 'structured-headers';
import t from 'tap';
import { judgeAnswer } from '../../src/dial/connect-request.ts';
import { Fault } from '../../src/errors.ts';
import { composeRefusal } from '../../src/listeners/refuse.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';

/** Each member: who speaks, and what is said. */
function members(value: string): [string, Record<string, unknown>][] {
  return parseList(value).map(([who, parameters]) => [String(who), Object.fromEntries([...parameters].map(([key, said]) => [key, typeof said === 'number' ? said : String(said)]))]);
}

function told(fault: Fault): [string, Record<string, unknown>][] {
  const { fields } = composeRefusal(fault, 'id', 'eco-egress');
  return members(fields[fields.indexOf('Proxy-Status') + 1] ?? '');
}

async function ask(lab: Lab, path: string): Promise<[string, Record<string, unknown>][]> {
  const req = request({ host: '127.0.0.1', port: lab.port, path, agent: false });
  req.end();
  const [res] = (await once(req, 'response')) as [{ headers: Record<string, string>; resume(): void }];
  res.resume();
  return members(res.headers['proxy-status'] ?? '');
}

t.test('every fact has its parameter, and what is not known has none', async (t) => {
  t.same(told(new Fault('upstream-malformed', 'x', { facts: { nextHop: '[fd00::1]:443', receivedStatus: 200 } })), [
    ['eco-egress', { error: 'http_protocol_error', 'next-hop': '[fd00::1]:443', 'received-status': 200, details: 'upstream-malformed: x' }],
  ]);
  t.same(told(new Fault('resolver-failed', 'x', { facts: { rcode: 'SERVFAIL' } })), [['eco-egress', { error: 'dns_error', rcode: 'SERVFAIL', details: 'resolver-failed: x' }]]);
  t.same(told(new Fault('tls-failed', 'x', { facts: { alert: { id: 112, message: 'unrecognized_name' } } })), [
    ['eco-egress', { error: 'tls_alert_received', 'alert-id': 112, 'alert-message': 'unrecognized_name', details: 'tls-failed: x' }],
  ]);
  t.same(told(new Fault('no-rule', 'x')), [['eco-egress', { error: 'http_request_denied', details: 'no-rule: x' }]]);
});

t.test('what a parent said stands before what we say', async (t) => {
  const answer = { status: 502, statusLine: 'HTTP/1.1 502 Bad Gateway', target: 'eco:443', port: 443, credentials: null };
  const { code, detail, facts = {} } = judgeAnswer({ ...answer, fields: ['Proxy-Status: far.example; error=dns_error; rcode="NXDOMAIN"', 'Proxy-Status: near.example'] });
  t.same(told(new Fault(code, detail, { facts })).map(([who, { error, ...rest }]) => [who, error, rest['rcode'], rest['received-status']]), [
    ['far.example', 'dns_error', 'NXDOMAIN', undefined],
    ['near.example', undefined, undefined, undefined],
    ['eco-egress', 'destination_unavailable', undefined, 502],
  ]);
  for (const nonsense of ['"', 'a=;;', 'é', '']) {
    const judged = judgeAnswer({ ...answer, fields: [`Proxy-Status: ${nonsense}`] });
    t.same(told(new Fault('hop-failed', 'x', { facts: judged.facts ?? {} })).map(([who]) => who), ['eco-egress'], nonsense);
  }
  const secret = judgeAnswer({ ...answer, fields: ['Proxy-Status: near; details="you said s3cretpassword"'], credentials: { kind: 'basic', user: 'u', password: 's3cretpassword' } });
  t.notMatch(JSON.stringify(secret), 's3cretpassword');
});

t.test('the header section of a refusal fits the 4 KiB that a proxy in front may accept, and the body has the whole detail', (t) => {
  // As when 128 addresses fail, and quoted by as many escapes as may be.
  const detail = '"'.repeat(8_000);
  const long = new Fault('hop-failed', detail, { facts: { proxyStatus: `near; details="${'\\\\'.repeat(500)}"` } });
  const { fields, body } = composeRefusal(long, 'id', 'eco-egress');
  t.ok(fields.join('').length < 4_000, String(fields.join('').length));
  t.match(told(long), [['near', {}], ['eco-egress', { error: 'destination_unavailable', details: /^hop-failed: "+\.\.\.$/ }]]);
  t.equal((JSON.parse(body) as { detail: string }).detail, detail);
  const exact = 'x'.repeat(1_024 - 'no-rule: '.length);
  t.match(told(new Fault('no-rule', exact)), [['eco-egress', { details: `no-rule: ${exact}` }]]);
  t.match(told(new Fault('no-rule', `${exact}yz`)), [['eco-egress', { details: `no-rule: ${exact}...` }]]);
  t.same(told(new Fault('hop-failed', 'x', { facts: { proxyStatus: `near; details="${'x'.repeat(1_024)}"` } })).map(([who]) => who), ['eco-egress']);
  t.end();
});

t.test('reported where it is found', async (t) => {
  const answers: Record<string, string> = {
    '/lengths': 'HTTP/1.1 201 Created\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    '/switched': 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
    '/nonsense': 'SSH-2.0-x\r\n',
    '/fine': 'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nProxy-Status: cdn.example; error=destination_not_found\r\n\r\n',
  };
  const port = await listen(
    t,
    createServer((socket) => {
      socket.once('data', (chunk: Buffer) => socket.write(answers[chunk.toString().split(' ')[1] ?? ''] ?? ''));
    }),
  );
  const nobody = await findUnusedPort();
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { hosts: [ECO, 'gone.telus.internal', 'ill.telus.internal'], ports: [port, nobody], gateway: undefined });
    },
    lookup: (host) => {
      if (host === ECO) return Promise.resolve({ addresses: ['127.0.0.1'], ttl: null });
      return Promise.reject(Object.assign(new Error('no'), { code: host.startsWith('gone') ? 'ENOTFOUND' : 'EREFUSED', syscall: 'queryA' }));
    },
  });
  const at = `http://${ECO}:${port}`;
  const hop = `127.0.0.1:${port}`;
  t.match(await ask(lab, `${at}/lengths`), [['eco-egress', { error: 'http_protocol_error', 'next-hop': hop, 'received-status': 201 }]]);
  t.match(await ask(lab, `${at}/switched`), [['eco-egress', { error: 'http_protocol_error', 'next-hop': hop, 'received-status': 101 }]]);
  const [[, nonsense] = []] = await ask(lab, `${at}/nonsense`);
  t.equal(nonsense?.['next-hop'], hop);
  t.strictSame(nonsense?.['received-status'], undefined);
  t.match(await ask(lab, `http://${ECO}:${nobody}/`), [['eco-egress', { error: 'connection_refused', 'next-hop': `${ECO}:${nobody}` }]]);
  t.match(await ask(lab, `http://gone.telus.internal:${port}/`), [['eco-egress', { error: 'dns_error', rcode: 'NXDOMAIN' }]]);
  t.match(await ask(lab, `http://ill.telus.internal:${port}/`), [['eco-egress', { error: 'dns_error', rcode: 'REFUSED' }]]);
  t.same(await ask(lab, `${at}/fine`), [['cdn.example', { error: 'destination_not_found' }]], 'on what is passed on we have nothing to say');
});
