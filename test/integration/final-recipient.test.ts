/** Max-Forwards: 0 asks this proxy and nobody behind it (RFC 9110 §7.6.2). */
import t from 'tap';
import { ECO, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

t.test('TRACE shows the request as it came, byte by byte, and leaves the connection in order', async (t) => {
  const lab = await startLab(t);
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const wire = await openWire(t, lab.port);
  wire.send(`TRACE http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nX: \xe9\xff\r\nCookie: secret\r\nAuthorization: Basic c2VjcmV0\r\nMax-Forwards: 0\r\n\r\n`);
  const seen = `TRACE http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nX: \xe9\xff\r\nMax-Forwards: 0\r\n\r\n`;
  const heard = await wire.until('Max-Forwards: 0\r\n\r\n');
  t.match(heard, /^HTTP\/1\.1 200 OK\r\nContent-Type: message\/http\r\n/);
  t.equal(heard.slice(heard.indexOf('\r\n\r\n') + 4), seen);
  t.match(heard, `\r\nContent-Length: ${seen.length}\r\n`);
  wire.send(`OPTIONS http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nMax-Forwards: 0\r\n\r\n`);
  t.match((await wire.until(/HTTP\/1\.1 204/)).slice(heard.length), /^HTTP\/1\.1 204 No Content\r\n/);
  t.equal(lab.upstream.requests.length, 0);
  wire.send(`OPTIONS http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nMax-Forwards: 1\r\n\r\n`);
  await wire.until(/HTTP\/1\.1 200 OK\r\n[^]*HTTP\/1\.1 200 OK\r\n/);
  t.match(lab.upstream.requests, [{ method: 'OPTIONS', headers: { 'max-forwards': '0' } }]);
  wire.send(`OPTIONS http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nMax-Forwards: 0\r\nMax-Forwards: 5\r\n\r\n`);
  await wire.until(/HTTP\/1\.1 400 Bad request: request-malformed/);
  t.equal(lab.upstream.requests.length, 1, 'a second one does not take the first back');
});
