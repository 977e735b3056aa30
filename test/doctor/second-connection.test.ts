/** Where a check makes a second connection to say more, and that one fails: the first finding stands. */
import { once } from 'node:events';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { createServer } from 'node:tls';
import t, { type Test } from 'tap';
import { openOrFail } from '../../src/doctor/choose-proxy.ts';
import { checkClientTls } from '../../src/doctor/client-checks.ts';
import { createTools, type Tools } from '../../src/doctor/examination.ts';
import { checkTls } from '../../src/doctor/partner-checks.ts';
import { labCertificates } from '../support/lab.ts';

/** Takes one connection, and no other. */
async function takeOne(t: Test, server: Server): Promise<number> {
  server.once('connection', () => server.close()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

const toolsOf = (): Tools => createTools({ config: { name: 'doctor', headers: { via: false }, dns: { servers: [], ttl: 0 } } as never, timeouts: { resolve: 2_000, connect: 2_000, tls: 2_000 }, timeout: 2_000 });

t.test('the certificate of a partner', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const port = await takeOne(t, createServer({ cert: certPem, key: keyPem }).on('tlsClientError', () => {}));
  const where = `127.0.0.1:${port}`;
  const target = { destination: { name: 'eco', tls: { ca: null, cert: null, key: null, serverName: null }, via: [], resolve: 'here', proxyProtocol: 'off' }, host: '127.0.0.1', port, where, protocol: 'tls', guards: { enforcing: () => null, lenient: null } };
  const findings = await checkTls(target as never, { tools: toolsOf(), isSelf: () => false, host: { now: Date.now }, trail: { reached: new Map([[`eco ${where}`, ['127.0.0.1']]]) } } as never);
  t.match(findings, [{ state: 'fail', code: 'tls-certificate', subject: where }]);
});

t.test('the certificate of a partner, as a client sees it', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const port = await takeOne(t, createServer({ cert: certPem, key: keyPem }).on('tlsClientError', () => {}));
  const where = `127.0.0.1:${port}`;
  const findings = await checkClientTls({ target: { scheme: 'https', host: '127.0.0.1', port, path: '/', where }, proxy: null, tls: { ca: null, cert: null, key: null, serverName: null }, tools: toolsOf(), host: { env: {}, openFiles: null, now: Date.now }, emptyAddress: '', trail: { addresses: ['127.0.0.1'], proxyAddresses: [], open: true, clocks: [] } });
  t.match(findings, [{ state: 'fail', code: 'tls-certificate', subject: where, advice: /Have the client trust/ }]);
});

t.test('TLS with a proxy', async (t) => {
  const port = await takeOne(t, createTcpServer((socket) => socket.on('error', () => {}).once('data', () => socket.destroy())));
  const found = await openOrFail({ scheme: 'https', host: '127.0.0.1', port, credentials: null, written: 'https' }, { host: 'eco.example', port: 443 }, toolsOf());
  t.match(found, { state: 'fail', code: 'tls-failed', subject: `https://127.0.0.1:${port}` });
});
