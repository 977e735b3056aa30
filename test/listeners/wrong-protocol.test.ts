import t from 'tap';
import { recognise } from '../../src/listeners/wrong-protocol.ts';

t.test('names what was spoken, from whatever has arrived', async (t) => {
  const cases: [string, Buffer, string | null][] = [
    ['a ClientHello', Buffer.from([0x16, 3, 1, 2, 0, 1]), 'tls-on-http-port'],
    ['its first byte', Buffer.from([0x16]), 'tls-on-http-port'],
    ['SOCKS 5', Buffer.from([5, 1, 0]), 'socks-on-http-port'],
    ['SOCKS 4', Buffer.from([4, 1, 0, 80]), 'socks-on-http-port'],
    ['the HTTP/2 preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'http2-on-http-port'],
    ['a part of it', Buffer.from('PRI * H'), 'http2-on-http-port'],
    ['the next content type', Buffer.from([0x17, 3, 3]), null],
    ['SOCKS 6', Buffer.from([6]), null],
    ['another method', Buffer.from('PRIX * HTTP/2.0'), null],
    ['text', Buffer.from('GET'), null],
    ['nothing', Buffer.alloc(0), null],
  ];
  for (const [name, bytes, code] of cases) t.equal(recognise(bytes)?.code ?? null, code, name);
  t.match(recognise(Buffer.from([0x16]))?.remedy, /HTTPS_PROXY must start with http:\/\//);
});
