import t from 'tap';
import { enumerate, quote, quoteTarget, show } from '../../src/targets/quote.ts';

t.test('what a client sent stays on one short, printable line', async (t) => {
  t.equal(quote('/a b'), '"/a b"');
  t.equal(quote('a"\\'), '"a\\"\\\\"');
  t.equal(quote('\r\n\0\x7f'), '"\\u000d\\u000a\\u0000\\u007f"');
  t.equal(quote('čĊ\ud800'), '"\\u010d\\u010a\\ud800"');
  t.equal(quote('a'.repeat(199)), `"${'a'.repeat(199)}"`);
  t.equal(quote('a'.repeat(200)), `"${'a'.repeat(199)}..." (200 characters)`);
  t.ok(quote('\n'.repeat(1_000_000)).length < 240);
  t.equal(show('eco-sit.telus.internal'), 'eco-sit.telus.internal');
  t.equal(show('/api/*'), '/api/*');
  t.equal(show('::1'), '::1');
  t.equal(show(''), '""');
  t.equal(show('a b'), '"a b"');
  t.match(show('a'.repeat(201)), /\.\.\." \(201 characters\)$/);
});

t.test('user information and query of a target are never shown', async (t) => {
  for (const [target, shown] of [
    ['http://user:secret@eco.example/x', '"http://***@eco.example/x"'],
    ['http://user:sec@ret@eco.example', '"http://***@eco.example"'],
    ['http://user:sec?ret@eco.example', '"http://***@eco.example"'],
    ['user:secret@eco.example:443', '"***@eco.example:443"'],
    ['@eco.example', '"***@eco.example"'],
    ['http://eco.example/x?token=secret', '"http://eco.example/x?***"'],
    ['/x?token=secret#y', '"/x?***"'],
    ['http://eco.example/a@b', '"http://eco.example/a@b"'],
    ['/a@b', '"/a@b"'],
    ['eco.example:443', '"eco.example:443"'],
    ['', '""'],
  ] as const) {
    t.equal(quoteTarget(target), shown);
  }
});

t.test('one of a list is said as one, and a range of ports is several', async (t) => {
  t.strictSame([enumerate('port', [443]), enumerate('port', [443, 80]), enumerate('port', ['8000-8099']), enumerate('method', ['GET'])], ['the port 443', 'the ports 443, 80', 'the ports 8000-8099', 'the method GET']);
});
