/** Path patterns: what each star covers, its neighbours, and that none of them can be made slow. */
import fc from 'fast-check';
import t from 'tap';
import { compilePaths, matchesPath, matchWildcard } from '../../src/policy/patterns.ts';
import { canonicalPath, findAmbiguity } from '../../src/targets/path.ts';

t.test('what a pattern covers, and what it does not', async (t) => {
  const table: [pattern: string, covers: string[], not: string[]][] = [
    ['/', ['/'], ['/a']],
    ['/api', ['/api', '/ap%69'], ['/api/', '/ap', '/api2', '/API']],
    ['/api/', ['/api/'], ['/api', '/api/x']],
    ['/api/*', ['/api/', '/api/x', '/api/x/y', '/api/x/'], ['/api', '/apix/y', '/ap']],
    ['/api/**', ['/api/', '/api/x', '/api/x/y'], ['/api']],
    ['/api*', ['/api', '/api/', '/apix/y', '/api;x'], ['/ap', '/x/api']],
    ['/*', ['/', '/a', '/a/b/'], []],
    ['/**', ['/', '/a', '/a/b/'], []],
    ['/a/*/c', ['/a/b/c', '/a/bb/c', '/a/b;v=1/c', '/a/b%3Bv=1/c'], ['/a/c', '/a/b/b/c', '/a/b/c/', '/a/b/cc', '/x/a/b/c']],
    ['/a/b*/c', ['/a/b/c', '/a/bx/c'], ['/a/xb/c', '/a/b/x/c']],
    ['/a/*b*/c', ['/a/b/c', '/a/xbx/c', '/a/bb/c', '/a/b;x/c'], ['/a/x;b/c', '/a/x/c', '/a/x/b/c']],
    ['/a/**/c', ['/a/c', '/a/b/c', '/a/b/b/c', '/a/c/c'], ['/a', '/ac', '/a/c/', '/a/b', '/a/cc', '/a/xc']],
    ['/**/c', ['/c', '/a/c', '/a/b/c'], ['/', '/ac', '/c/d']],
    ['/a/**/b/**/c', ['/a/b/c', '/a/x/b/y/c', '/a/b/b/c/c'], ['/a/c', '/a/c/b', '/a/b']],
    ['/a/*/c/*', ['/a/b/c/', '/a/b/c/d', '/a/b/c/d/e'], ['/a/b/c', '/a/c/d', '/a/b/b/c/d']],
    ['/a/*/c*', ['/a/b/c', '/a/b/cd', '/a/b/cd/e'], ['/a/b/d', '/a/c']],
    ['/a/*/**', ['/a/b/', '/a/b/c', '/a/b/c/d'], ['/a', '/a/b']],
    ['/*.json', ['/a.json', '/.json', '/a%3D.json'], ['/a.json5', '/a/b.json', '/a.json/', '/admin;x.json', '/admin%3bx.json', '/admin%3B.json', '/a;/b.json', '/a.json;x']],
    ['/**/*.json', ['/a.json', '/a/b/c.json'], ['/a.json/b', '/json']],
    ['/%7euser/*/x', ['/~user/a/x', '/%7Euser/%61/x'], ['/user/a/x']],
    ['/a%3f*/c', ['/a%3Fb/c'], ['/a/c']],
  ];
  for (const [pattern, covers, not] of table) {
    const compiled = compilePaths([pattern]);
    for (const path of covers) t.ok(matchesPath(compiled, canonicalPath(path)), `${pattern} covers ${path}`);
    for (const path of not) t.notOk(matchesPath(compiled, canonicalPath(path)), `${pattern} does not cover ${path}`);
  }
});

t.test('any of several', async (t) => {
  const compiled = compilePaths(['/a', '/b/*', '/c/*/d']);
  for (const path of ['/a', '/b/x', '/c/x/d']) t.ok(matchesPath(compiled, path), path);
  for (const path of ['/b', '/c/d', '/d']) t.notOk(matchesPath(compiled, path), path);
  t.notOk(matchesPath(compilePaths([]), '/a'));
});

t.test('a star stops where it should', async (t) => {
  const table: [pattern: string, text: string, stops: readonly string[], expected: boolean][] = [
    ['a:*:c', 'a:b:c', [':'], true],
    ['a:*:c', 'a:b:b:c', [':'], false],
    ['a:*:c', 'a:b:b:c', [], true],
    ['a:*', 'a:b:b', [':'], true],
    ['a:*', 'a:', [':'], true],
    ['a:*', 'a', [':'], false],
    ['*', '', [':'], true],
    ['*b*:c', 'abb:c', [':'], true],
    ['*b:c', 'a:b:c', [':'], false],
    ['', '', [], true],
    ['', 'a', [], false],
    ['a*b', 'a', [], false],
    ['a*b', 'ab', [], true],
    ['a*b', 'axbxb', [], true],
    ['a*b', 'ax%3Bb', ['%3B'], false],
    ['a*%3B*b', 'ax%3Bxb', ['%3B'], true],
    ['a*b', 'ax%3Db', ['%3B'], true],
  ];
  for (const [pattern, text, stops, expected] of table) t.equal(matchWildcard(pattern, text, stops), expected, `${pattern} ${text}`);
});

/** What the words of the documentation say, as a regular expression: slow on purpose-made input, so only for short texts. */
function asRegExp(pattern: string): RegExp {
  const final = pattern.endsWith('*') ? '.*' : '';
  const segments = (final === '' ? pattern : pattern.replace(/\*+$/, '')).slice(1).split('/');
  const source = segments.map((segment) => {
    if (segment === '**') return '(?:/[^/]*)*';
    // A star that does not end its segment does not go past a semicolon, plain or encoded.
    return `/${Array.from(segment, (character, i) => (character !== '*' ? RegExp.escape(character) : i === segment.length - 1 ? '[^/]*' : '(?:(?!%3B)[^/;])*')).join('')}`;
  });
  return new RegExp(`^${source.join('')}${final}$`, 's');
}

t.test('the same as a regular expression would say', async (t) => {
  const segment = fc.string({ unit: fc.constantFrom('a', 'b', ';', '%3B', '*'), minLength: 1, maxLength: 4 }).filter((text) => !text.includes('**'));
  const patterns = fc.array(fc.oneof(segment, fc.constant('**')), { minLength: 1, maxLength: 5 }).map((segments) => `/${segments.join('/')}`);
  const paths = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', ';', '%3B', '%3D'), minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }).map((segments) => `/${segments.join('/')}`);
  fc.assert(
    fc.property(patterns, paths, fc.boolean(), (pattern, stem, slash) => {
      const path = slash ? `${stem}/` : stem;
      if (findAmbiguity(path) !== null) return;
      if (matchesPath(compilePaths([pattern]), path) !== asRegExp(pattern).test(path)) throw new Error(`${pattern} ${path}`);
    }),
    { numRuns: 20_000 },
  );
  t.pass('20000 cases');
});

t.test('no pattern is slow', async (t) => {
  const texts: [pattern: string, path: string][] = [
    [`/${'*a'.repeat(200)}b/x`, `/${'a'.repeat(8000)}`],
    [`/${'**/a/'.repeat(100)}b`, `/${'a/'.repeat(4000)}c`],
    [`/${'**/*a*/'.repeat(100)}b`, `/${'aaa/'.repeat(2000)}c`],
  ];
  for (const [pattern, path] of texts) {
    const compiled = compilePaths([pattern]);
    const before = process.cpuUsage();
    t.notOk(matchesPath(compiled, path));
    const { user } = process.cpuUsage(before);
    t.ok(user < 1_000_000, `${pattern.slice(0, 12)}…: ${user} µs`);
  }
});
