/** The gateway prefix cannot be left, and neither the router nor its parsers see what they should not. */
import t from 'tap';
import type { FaultCode } from '../../src/errors.ts';
import { attack, refuses, stillServes } from '../support/hostile.ts';
import { ECO, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

/** A prefix whose partner has a path before it: leaving either is an escape. */
const startBasedLab = (t: Parameters<typeof startLab>[0]): ReturnType<typeof startLab> =>
  startLab(t, {
    configure: ({ destinations: { eco } }, { http }) => {
      eco['gateway'] = { prefix: '/eco', url: `http://${ECO}:${http}/base` };
    },
  });

t.test('paths that would leave the prefix, or that two servers read differently', async (t) => {
  const lab = await startBasedLab(t);
  const paths: [path: string, code: FaultCode][] = [
    ...['/eco/..', '/eco/../x', '/eco/x/../../y', '/eco/%2e%2e/x', '/eco/%2E%2E/x', '/eco/.%2e/x', '/eco/..%2f', '/eco/..%2fx', '/eco/..\\admin', '/eco/%2e%2e%5cx', '/eco/%5c..%5cx', '/eco/.', '/eco/%2e'].map((path): [string, FaultCode] => [path, 'path-ambiguous']),
    ...['/eco//x', '/eco//', '/eco//evil.example/', '/eco/x//y', '/eco/http://evil.example/', '/eco/;x', '/eco/..;/x', '/eco/..;x=y/z', '/eco/%2f', '/eco/a%2fb', '/eco/a%2Fb%23', '/eco/a%5cb'].map((path): [string, FaultCode] => [path, 'path-ambiguous']),
    ...['/eco/%00', '/eco/%0d%0aX:%20y', '/eco/%7f', '/eco/%', '/eco/%2', '/eco/%zz', '/eco/%ff', '/eco/%c0%ae', '/eco/%c0%af', '/eco/%e0%80%ae', '/eco/%252e%252e/', '/eco/%252f', '/eco/%25252e'].map((path): [string, FaultCode] => [path, 'path-ambiguous']),
    ...['/ecox', '/eco-x', '/eco;x', '/eco;x/y', '/eco%2f', '/eco%2fx', '/eco%2f..', '/eco%3fx', '/eco.', '/ECO/x', '/Eco/x', '//eco/x', '/./eco/x', '/x/../eco/y', '/', '/x', '/*', '/eco*'].map((path): [string, FaultCode] => [path, 'host-not-allowed']),
    ['/eco/x#y', 'target-malformed'],
    ['/eco#', 'target-malformed'],
  ];
  for (const [path, code] of paths) await refuses(t, lab, path, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, { code, then: 'in step' });
  await refuses(t, lab, 'a break in disguise', 'GET /eco/\xc4\x8d\xc4\x8aX:y HTTP/1.1\r\nHost: x\r\n\r\n', { code: 'target-malformed', then: 'in step' });
  await refuses(t, lab, 'a path of 60 KB elsewhere', `GET /${'a'.repeat(60_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, { code: 'host-not-allowed', then: 'in step' });
  await stillServes(t, lab);
});

t.test('paths that stay, byte for byte', async (t) => {
  const lab = await startBasedLab(t);
  const paths: [path: string, seen: string][] = [
    ['/eco', '/base'],
    ['/eco/', '/base/'],
    ['/eco?x=/../y', '/base?x=/../y'],
    ['/eco/x?a=%zz&b=..%2f&&c=\\', '/base/x?a=%zz&b=..%2f&&c=\\'],
    ['/eco/x?', '/base/x?'],
    ['/eco/x;y=z', '/base/x;y=z'],
    ['/eco/:x/*', '/base/:x/*'],
    ['/eco/%7ex/%E4%BD%A0', '/base/%7ex/%E4%BD%A0'],
    ['/eco/...', '/base/...'],
    ['/eco/a%3fb%23c', '/base/a%3fb%23c'],
    ['/eco/eco/eco', '/base/eco/eco'],
    // The same prefix in another spelling (RFC 3986 §6.2.2.2).
    ['/%65co/x', '/base/x'],
    ['/%65%63%6f', '/base'],
    ['/eco/$&/$1', '/base/$&/$1'],
  ];
  for (const [path, seen] of paths) t.same((await attack(t, lab, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)).reached, [`GET ${seen}`], path);
});

t.test('every method, with and without a body of every kind', async (t) => {
  const lab = await startBasedLab(t);
  // HEAD has its own ways with lengths, which other tests hold.
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'PURGE', 'LINK', 'M-SEARCH']) {
    for (const type of ['', 'Content-Type: application/json\r\n', 'Content-Type: text/plain\r\n', 'Content-Type: foo\r\n', 'Content-Type: ;;\r\n', 'Content-Type: application/json\r\nContent-Type: x\r\n']) {
      for (const [body, fields] of [['', ''], ['{"a', 'Content-Length: 3\r\n'], ['3\r\n{"a\r\n0\r\n\r\n', 'Transfer-Encoding: chunked\r\n']] as const) {
        const { reached, inStep, lines } = await attack(t, lab, `${method} /eco/m HTTP/1.1\r\nHost: x\r\n${type}${fields}\r\n${body}`);
        t.same({ reached, inStep, codes: lines.map((line) => line.code) }, { reached: [`${method} /base/m`], inStep: true, codes: ['ok'] }, `${method} ${type}${fields}`);
      }
    }
  }
  for (const method of ['G\tT', 'G(T', '']) await refuses(t, lab, method, `${method} /eco/m HTTP/1.1\r\nHost: x\r\n\r\n`, { code: 'request-malformed', then: 'closed' });
  await stillServes(t, lab);
});

t.test('nothing is read of a body before its request is refused', async (t) => {
  const lab = await startBasedLab(t);
  for (const type of ['application/json', 'text/plain', 'foo']) {
    for (const path of ['/nowhere', '/eco/%2e%2e/x']) {
      const wire = await openWire(t, lab.port);
      wire.send(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: 1000000000\r\n\r\n{`);
      t.match(await wire.until('"code":'), /^HTTP\/1\.1 40[03] /, `${type} to ${path}`);
      wire.socket.destroy();
    }
  }
  t.equal(lab.upstream.connections, 0);
});
