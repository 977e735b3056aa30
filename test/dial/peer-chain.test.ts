/** What a server shows is told whoever signed it; what is no TLS is told as such. */
import t from 'tap';
import { connect, createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { readPeerChain } from '../../src/dial/peer-chain.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { listen } from '../support/listen.ts';

const authority = await createAuthority('an unknown CA');
const { certPem, keyPem } = await authority.issue({ names: ['a.example', 'b.example'], notAfter: new Date('2031-05-06T00:00:00Z') });

const read = (port: number, timeout = 2_000) => readPeerChain({ socket: connect({ host: '127.0.0.1', port }), host: 'a.example', port, timeout });

t.test('the own certificate first, then those that come with it', async (t) => {
  const alone = await listen(t, createTlsServer({ cert: certPem, key: keyPem }));
  t.match(await read(alone), [{ subject: /^CN=/, issuer: 'CN=an unknown CA', names: 'DNS:a.example, DNS:b.example', validTo: Date.parse('2031-05-06T00:00:00Z'), fingerprint: /^[0-9A-F]{2}(:[0-9A-F]{2}){31}$/ }]);
  const whole = await read(await listen(t, createTlsServer({ cert: `${certPem}\n${authority.certPem}`, key: keyPem })));
  t.strictSame(whole.map(({ issuer }) => issuer), ['CN=an unknown CA', 'CN=an unknown CA']);
  t.equal(whole[1]?.subject, whole[1]?.issuer);
});

t.test('no TLS, and no end of it', async (t) => {
  const plain = await listen(t, createServer((socket) => socket.end('HTTP/1.1 400 No\r\n\r\n')));
  await t.rejects(read(plain), { code: 'tls-failed' });
  const closing = await listen(t, createServer((socket) => socket.destroy()));
  await t.rejects(read(closing), { code: 'tls-failed' });
  const mute = await listen(t, createServer(() => {}));
  await t.rejects(read(mute, 100), { code: 'tls-timeout' });
});
