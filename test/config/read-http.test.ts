/** Gateway prefix and url, methods, paths, each with the neighbour just outside. */
import t from 'tap';
import { readDroppedField, readGatewayUrl, readKeptField, readMethod, readPathPattern, readPrefix } from '../../src/config/read-sections.ts';
import type { Read } from '../../src/config/read-scalar.ts';

function wordsOf(result: Read<unknown>): string {
  return 'problem' in result ? `${result.problem} ${result.instead}` : `taken as ${JSON.stringify(result.value)}`;
}

t.test('prefixes', async (t) => {
  const taken: [string, string][] = [['/eco', '/eco'], ['/eco/', '/eco'], ['/a/b-c/d_e.f~g', '/a/b-c/d_e.f~g'], ['/...', '/...'], ['/.eco', '/.eco']];
  for (const [written, value] of taken) t.strictSame(readPrefix(written), { value }, written);
  for (const written of ['/', '']) t.match(wordsOf(readPrefix(written)), /would take every request/, JSON.stringify(written));
  for (const written of ['eco', '/eco//', '//eco', '/a/../b', '/..', '/.', '/a/.', '/eco*', '/e%63o', '/eco?x', '/éco', '/e co', '/eco\\', 5]) t.match(wordsOf(readPrefix(written)), /not a gateway prefix/, JSON.stringify(written));
});

t.test('urls', async (t) => {
  const taken: [string, object][] = [
    ['https://Eco.Example', { scheme: 'https', host: 'eco.example', port: 443, basePath: '' }],
    ['HTTP://eco.example/', { scheme: 'http', host: 'eco.example', port: 80, basePath: '' }],
    ['https://eco.example:8443/base/', { scheme: 'https', host: 'eco.example', port: 8443, basePath: '/base' }],
    ['http://[FD00::1]:81/a/b', { scheme: 'http', host: 'fd00::1', port: 81, basePath: '/a/b' }],
  ];
  for (const [written, value] of taken) t.strictSame(readGatewayUrl(written), { value }, written);
  const refused: [unknown, RegExp][] = [
    ['eco.example', /not a URL/],
    ['//eco.example', /not a URL/],
    ['ftp://eco.example', /neither http nor https/],
    ['https://', /What follows :\/\/ in "https:\/\/" is empty/],
    ['https://user:secret@eco.example', /^The URL holds credentials, (?!.*secret).*Leave them out/],
    ['https://eco.example:0', /port/],
    ['https://eco.example:65536', /port/],
    ['https://*.eco.example', /What follows :\/\/ in .* has a host that is not a valid name/],
    ['https://eco.example?x=1', /query or fragment/],
    ['https://eco.example/#x', /query or fragment/],
    ['https://eco.example/a/../b', /not a plain path/],
    ['https://eco.example//a', /not a plain path/],
    ['https://eco.example/%2e%2e', /not a plain path/],
    ['https://eco.example\\@evil.example', /not a URL|not a plain path/],
    [' https://eco.example', /not a URL/],
    [{}, /^A mapping/],
  ];
  for (const [written, words] of refused) t.match(wordsOf(readGatewayUrl(written)), words, JSON.stringify(written));
});

t.test('methods', async (t) => {
  for (const written of ['GET', 'POST', 'M-SEARCH']) t.strictSame(readMethod(written), { value: written });
  const refused: [unknown, RegExp][] = [['get', /Write GET\./], ['Get', /Write GET\./], ['CONNECT', /write connect under forms/i], ['connect', /write connect under forms/i], ['*', /every method may be used/], ['GET POST', /not a method/], ['', /not a method/], [1, /not a method/]];
  for (const [written, words] of refused) t.match(wordsOf(readMethod(written)), words, JSON.stringify(written));
});

t.test('paths', async (t) => {
  for (const written of ['/', '/*', '/api', '/api/*', '/api*', '/a%20b', '/.well-known/x', '/...', '/a.', '/**', '/a/*/b', '/a/*b*/c', '/a/**/b', '/a/**', '/a/.*', '/a/*.json', '/a%3Fb', '/a;x', '/**/b/*']) t.strictSame(readPathPattern(written), { value: written });
  const refused: [unknown, RegExp][] = [
    ['api', /starts with a slash/],
    ['*', /starts with a slash/],
    ['', /starts with a slash/],
    ['/a**', /inside a segment/],
    ['/a/***', /inside a segment/],
    ['/a/**b/c', /inside a segment/],
    ['/orders/{id}', /\/orders\/\*\/items/],
    ['/a?x', /queries are not checked/],
    ['/a#x', /queries are not checked/],
    ['/a//b', /can never match: it has .*empty segment/],
    ['//', /can never match: it has .*empty segment/],
    ['/a/../b', /can never match: it has .*dot segment/],
    ['/a/..', /can never match: it has .*dot segment/],
    ['/./a', /can never match: it has .*dot segment/],
    ['/a b', /can never match: it has .*space/],
    ['/a\\b', /can never match: it has .*backslash/],
    ['/é', /can never match: it has .*non-ASCII/],
    ['/a%2Fb', /encoded slash/],
    ['/a/%2e%2e/*', /dot segment/],
    ['/a/..;*', /dot segment/],
    ['/a%', /percent sign without two/],
    ['/a%*', /percent sign without two/],
    ['/a|b', /not allowed in a path/],
    ['/a\0', /control/],
    [['/a'], /^A list/],
  ];
  for (const [written, words] of refused) t.match(wordsOf(readPathPattern(written)), words, JSON.stringify(written));
});

t.test('names of header fields', async (t) => {
  const dropped: [string, string][] = [['X-Corp-User', 'x-corp-user'], ['x_corp_user', 'x-corp-user'], ['X-Corp-*', 'x-corp-*'], ['Authorization', 'authorization']];
  const kept: [string, string][] = [['X-Real-IP', 'x-real-ip'], ['x_real_ip', 'x-real-ip'], ['X-SSL-*', 'x-ssl-*'], ['X-SSL-Client-S-DN', 'x-ssl-client-s-dn'], ['x-s*', 'x-s*'], ['X-Forwarded-User', 'x-forwarded-user']];
  for (const [written, value] of dropped) t.strictSame(readDroppedField(written), { value }, written);
  for (const [written, value] of kept) t.strictSame(readKeptField(written), { value }, written);
  for (const written of ['', ' ', 'a b', 'a:', 'é', '*', 'a**', 'a*b', 5, null]) {
    t.match(wordsOf(readDroppedField(written)), /not the name of a header field/, JSON.stringify(written));
    t.match(wordsOf(readKeptField(written)), /not the name of a header field/, JSON.stringify(written));
  }
  for (const written of ['Host', 'content-length', 'Transfer_Encoding', 'Connection']) t.match(wordsOf(readDroppedField(written)), /belongs to each connection/, written);
  for (const written of ['Via', 'Forwarded']) t.match(wordsOf(readDroppedField(written)), /set headers\.(?:via|forwarded)/, written);
  for (const written of ['X-Forwarded-For', 'x_forwarded_port', 'Forwarded']) t.match(wordsOf(readKeptField(written)), /set headers\./, written);
  for (const written of ['X-Real-IPs', 'Cookie', 'X-Reel-IP', 'y*']) t.match(wordsOf(readKeptField(written)), /not dropped in the first place/, written);
  t.match(wordsOf(readKeptField('X-Forwarded-Client-Cert')), /never passed on/);
});
