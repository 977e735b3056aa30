import fc from 'fast-check';
import t from 'tap';
import { canonicalPath, findAmbiguity, pathOf } from '../../src/targets/path.ts';

t.test('the path of a target', async (t) => {
  for (const [target, path] of [
    ['/a?b', '/a'],
    ['/a', '/a'],
    ['/?', '/'],
    ['/a?b?c', '/a'],
    ['/a%3fb', '/a%3fb'],
    ['*', '*'],
  ] as const) {
    t.equal(pathOf(target), path, target);
  }
});

t.test('paths with one reading pass, their neighbours do not', async (t) => {
  const fine = [
    '*', '/', '/a', '/a/', '/a/b.c', '/.well-known/x', '/a/.b', '/a/b.', '/...', '/a/.../b', '/a..b', '/..a', '/a..', '/%2e%2e%2e/x', '/%2ehidden', '/a%2e%2e',
    '/a;v=1', '/a;v=1/b', '/a.;x', '/...;x', '/a;..', '/a%3b/b', '/%41', '/%7e', '/a%20b', '/%C3%A9', '/%e9', '/%e2%82%ac', '/%f0%90%80%80', '/%e0%a0%80',
    '/a%23b', '/a%3fb', '/%25', '/%2541', '/a%2520b', '/100%25', '/%25zz', '/%25%34%31', '/%25%32', '/a+b', '/a:b@c!$&\'()*,=~', '/{a}|"^`<>', '/a%40b',
  ];
  for (const path of fine) t.equal(findAmbiguity(path), null, path);

  const ambiguous: [path: string, reason: RegExp][] = [
    ['', /begin with a slash/],
    ['a', /begin with a slash/],
    ['*/', /begin with a slash/],
    ['/.', /dot segment/],
    ['/..', /dot segment/],
    ['/./', /dot segment/],
    ['/a/../b', /dot segment/],
    ['/a/..', /dot segment/],
    ['/%2e', /dot segment/],
    ['/%2E%2e/x', /dot segment/],
    ['/.%2e/x', /dot segment/],
    ['/%2e./x', /dot segment/],
    ['/..;/x', /dot segment/],
    ['/..;a=b/x', /dot segment/],
    ['/.;/x', /dot segment/],
    ['/%2e%2e;x', /dot segment/],
    ['/..%3b/x', /dot segment/],
    ['/..%3Bx=..', /dot segment/],
    ['//', /empty segment/],
    ['//evil.example/', /empty segment/],
    ['/a//b', /empty segment/],
    ['/;/a', /empty segment/],
    ['/a/;x', /empty segment/],
    ['/..\\admin', /backslash/],
    ['/a\\b', /backslash/],
    ['/a%5cb', /encoded backslash/],
    ['/a%5Cb', /encoded backslash/],
    ['/a%2fb%23', /encoded slash/],
    ['/a%2Fb', /encoded slash/],
    ['/a;%2f', /encoded slash/],
    ['/%00', /encoded control/],
    ['/%0d%0a', /encoded control/],
    ['/%1f', /encoded control/],
    ['/%7F', /encoded control/],
    ['/%', /percent sign without two/],
    ['/%2', /percent sign without two/],
    ['/%2g', /percent sign without two/],
    ['/%g2', /percent sign without two/],
    ['/%u002e', /percent sign without two/],
    ['/%%32e', /percent sign without two/],
    ['/%252e%252e/x', /encoded twice/],
    ['/%252f', /encoded twice/],
    ['/%255C', /encoded twice/],
    ['/%2500', /encoded twice/],
    ['/%25252e', /encoded twice/],
    ['/%2525252F', /encoded twice/],
    ['/%25%32%65%25%32%65/x', /encoded twice/],
    ['/%252%65', /encoded twice/],
    ['/%25%32f', /encoded twice/],
    ['/%25%35%43', /encoded twice/],
    ['/%25%32%35%32%65', /encoded twice/],
    ['/%c0%ae', /overlong/],
    ['/%C1%9C', /overlong/],
    ['/%e0%80%af', /overlong/],
    ['/%e0%9f%bf', /overlong/],
    ['/%f0%8f%80%80', /overlong/],
    ['/a b', /space/],
    ['/\t', /control/],
    ['/\x7f', /control/],
    ['/é', /non-ASCII/],
  ];
  for (const [path, reason] of ambiguous) t.match(findAmbiguity(path) ?? 'nothing', reason, JSON.stringify(path));
});

t.test('the canonical spelling', async (t) => {
  for (const [path, canonical] of [
    ['/a', '/a'],
    ['/%41%7e%2d%5F%2E%30', '/A~-_.0'],
    ['/%c3%a9', '/%C3%A9'],
    ['/%2541', '/%2541'],
    ['/a%3ab', '/a%3Ab'],
  ] as const) {
    t.equal(canonicalPath(path), canonical, path);
  }
});

t.test('a path that passes means the same to servers that decode, twice or first, and to URL', async (t) => {
  const pieces = fc.constantFrom('/', '.', '..', ';', '\\', 'a', 'x=1', '%2e', '%2E', '%2f', '%5c', '%25', '25', '2e', '2f', '%3b', '%00', '%c0%ae', '%', '*', '?', '%41', '%32', '%65', '%35');
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 10 }), (parts) => {
      const path = pathOf(`/${parts.join('')}`);
      if (findAmbiguity(path) !== null) return;
      if (findAmbiguity(canonicalPath(path)) !== null) throw new Error('its canonical spelling is ambiguous');
      if (canonicalPath(canonicalPath(path)) !== canonicalPath(path)) throw new Error('canonicalPath is not idempotent');
      if (URL.parse(`http://h${path}`)?.pathname !== path) throw new Error('URL reads another path');
      const segments = path.split('/').length;
      for (let decoded = path, times = 0; times < 4; times += 1) {
        decoded = decoded.replace(/%[0-9a-f]{2}/gi, (escape) => String.fromCharCode(Number.parseInt(escape.slice(1), 16)));
        if (decoded.split(/[/\\]/).length !== segments) throw new Error(`another number of segments: ${decoded}`);
        if (/(?:^|\/)\.{1,2}(?:;[^/]*)?(?:\/|$)/.test(decoded)) throw new Error(`a dot segment: ${decoded}`);
      }
    }),
    { numRuns: 20_000 },
  );
  t.pass('held in 20000 cases');
});

t.test('an encoded slash may stand where that is permitted, and hides nothing', async (t) => {
  for (const path of ['/a%2Fb', '/a%2f', '/%2Fa', '/a%2F/b', '/http:%2F%2Fx', '/a%2F..b', '/a%2F...']) t.equal(findAmbiguity(path, 'allow'), null, path);
  for (const [path, reason] of [
    ['/a%2F..', /dot segment/],
    ['/a%2F../b', /dot segment/],
    ['/..%2Fb', /dot segment/],
    ['/%2e%2e%2fb', /dot segment/],
    ['/a%2F.%2Fb', /dot segment/],
    ['/..;x%2Fb', /dot segment/],
    ['/a%2F..;x', /dot segment/],
    ['/a%252Fb', /encoded twice/],
    ['/a%5Cb', /encoded backslash/],
    ['/a%2Fb//c', /empty segment/],
    ['/a%c0%af', /overlong/],
  ] as const) {
    t.match(findAmbiguity(path, 'allow') ?? '', reason, path);
  }
});
