import t from 'tap';
import { proxyHeaderMistake, recogniseMistake } from '../../src/listeners/wrong-protocol.ts';

const SPOKEN = { peer: { address: '10.8.0.7' }, proxyHeaderLength: 0, secure: false };

t.test('names what was spoken, from whatever has arrived', async (t) => {
  const cases: [string, Buffer, string | null][] = [
    ['a ClientHello', Buffer.from([0x16, 3, 1, 2, 0, 1]), 'tls-on-http-port'],
    ['its first byte', Buffer.from([0x16]), 'tls-on-http-port'],
    ['SOCKS 5', Buffer.from([5, 1, 0]), 'socks-on-http-port'],
    ['SOCKS 4', Buffer.from([4, 1, 0, 80]), 'socks-on-http-port'],
    ['the HTTP/2 preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'http2-on-http-port'],
    ['a part of it', Buffer.from('PRI * H'), 'http2-on-http-port'],
    ['the next content type', Buffer.from([0x17, 3, 3]), 'request-malformed'],
    ['the content type before', Buffer.from([0x15, 3, 3]), 'request-malformed'],
    ['SOCKS 6', Buffer.from([6]), 'request-malformed'],
    ['SOCKS 3', Buffer.from([3]), 'request-malformed'],
    ['a NUL', Buffer.from([0]), 'request-malformed'],
    ['a space', Buffer.from(' GET /'), 'request-malformed'],
    ['a byte beyond ASCII', Buffer.from([0xc3]), 'request-malformed'],
    ['an empty line first', Buffer.from('\r\nGET'), null],
    ['LF first, which the reader of sections judges', Buffer.from('\n'), null],
    ['another method', Buffer.from('PRIX * HTTP/2.0'), null],
    ['another method that begins so', Buffer.from('PRI'), null],
    ['text', Buffer.from('GET'), null],
    ['nothing', Buffer.alloc(0), null],
  ];
  for (const [name, bytes, code] of cases) t.equal(recogniseMistake(bytes, SPOKEN, 'off')?.code ?? null, code, name);
  t.match(recogniseMistake(Buffer.from([0x16]), SPOKEN, 'off')?.remedy, /HTTPS_PROXY must start with http:\/\//);
  t.match(recogniseMistake(Buffer.from([0x16]), { ...SPOKEN, secure: true }, 'off'), { code: 'tls-on-http-port', message: /^TLS to this proxy is established/, remedy: /^send CONNECT/ });
  t.match(recogniseMistake(Buffer.from([0x16]), SPOKEN, 'off'), { remedy: /^HTTPS_PROXY must start with http:\/\/.*; if a sidecar began it, .*DISABLE$/ });
});

t.test('a PROXY header that is not taken says why', async (t) => {
  const header = Buffer.from('PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n');
  for (const [what, proxyProtocol, proxyHeaderLength, code, remedy] of [
    ['the listener takes none', 'off', 0, 'peer-not-trusted', /set the listener's proxyProtocol/],
    ['the peer may not send one', 'from-trusted', 0, 'peer-not-trusted', /^list the peer/],
    ['one has been read already', 'from-trusted', 43, 'proxy-protocol-malformed', /only the load balancer/],
  ] as const) {
    const fault = proxyHeaderMistake(header, { ...SPOKEN, proxyHeaderLength }, proxyProtocol);
    t.match(fault, { code, remedy }, what);
    if (code === 'peer-not-trusted') t.equal(proxyHeaderMistake(header, { ...SPOKEN, secure: true }, proxyProtocol)?.remedy, `make the peer send it before TLS, and ${fault?.remedy}`);
    t.equal(recogniseMistake(header, { ...SPOKEN, proxyHeaderLength }, proxyProtocol)?.message, fault?.message, what);
    if (code === 'peer-not-trusted') t.match(fault?.message, /^10\.8\.0\.7 began/, what);
    t.equal(proxyHeaderMistake(Buffer.from('PROXZ TCP4'), SPOKEN, proxyProtocol), null);
  }
});
