/** The readable answer: which lines it has, and that nothing in it acts on a terminal. */
import t from 'tap';
import { type ExplainAnswer, formatAnswer } from '../../src/explain/answer.ts';
import { findMissing } from '../support/doc-blocks.ts';
import { makePeer } from '../support/policy.ts';

const ALLOWED: ExplainAnswer = {
  verdict: 'allow',
  code: 'ok',
  status: null,
  why: 'rules[0] lets pods use eco',
  remedy: null,
  change: null,
  report: null,
  mode: 'enforce',
  configHash: '0123456789abcdef',
  asked: { method: 'GET', target: '/x', host: 'eco.example' },
  peer: makePeer('10.8.0.1'),
  target: { form: 'host-routed', method: 'GET', host: 'eco.example', kind: 'name', port: 80, path: '/x', ambiguity: null },
  client: 'pods',
  destination: 'eco',
  rule: 'rules[0]',
  clients: [{ name: 'pods', matches: true, chosen: true, kinds: [{ kind: 'addresses', matches: true, detail: '10.8.0.1 is in 10.8.0.0/14' }] }],
  clientsLeftOut: 0,
  destinations: [{ name: 'eco', pattern: '*.example', chosen: true, checks: [{ check: 'port', passes: true, detail: '80 is among 80' }] }],
  rules: [{ rule: 'rules[0]', destination: 'eco', applies: true, detail: 'permits it without limits', owner: 'payments', reason: 'The old gateway.', ticket: 'CHG-1042', until: '2027-01-01T00:00:00Z' }],
  addresses: [
    { address: '192.0.43.8', class: 'public', via: null, reference: null, verdict: 'allow', code: null, detail: null, remedy: null },
    { address: '64:ff9b::a00:1', class: 'private', via: 'nat64', reference: 'RFC 1918', verdict: 'deny', code: 'address-not-allowed', detail: 'no', remedy: null },
  ],
  way: [],
  notes: ['One thing.', 'Another.'],
};

t.test('whole', async (t) => {
  t.equal(
    formatAnswer(ALLOWED),
    `GET /x, Host: eco.example

  target        eco.example, port 80, as host-routed, path /x
  client        ✓ pods  10.8.0.1 is in 10.8.0.0/14
  destination   ✓ eco  has *.example
                  ✓ port   80 is among 80
  rule          ✓ rules[0]  permits it without limits
                  owner payments, ticket CHG-1042, reason: The old gateway.
  addresses     ✓ 192.0.43.8      public
                ✗ 64:ff9b::a00:1  private, through nat64, RFC 1918
                  no
  verdict       ✓ allowed
                rules[0] lets pods use eco
  note          One thing.
                Another.
`,
  );
});

for (const [name, change, lines] of [
  ['denied, with a change', { verdict: 'deny', code: 'no-rule', status: 403, why: 'No rule.', remedy: 'r', change: { text: 'add a rule', yaml: 'rules:\n  - {}\n' } }, ['  verdict       ✗ denied: no-rule (403)', '                No rule.', '  to permit it  add a rule', '', '                  rules:', '                    - {}', '']],
  ['denied, without one', { verdict: 'deny', code: 'path-ambiguous', status: 400, remedy: 'write it plainly' }, ['  verdict       ✗ denied: path-ambiguous (400)', '  what to do    write it plainly']],
  ['in report mode', { verdict: 'report', code: 'no-rule', report: 'It passes because of mode: report.' }, ['  verdict       ! passes in report mode; enforced: no-rule', '  report mode   It passes because of mode: report.']],
  ['in report mode, without a name', { verdict: 'report', code: 'name-not-found', status: 502 }, ['  verdict       ! passes in report mode, but would fail: name-not-found (502)']],
  ['allowed, without a name', { code: 'name-not-found', status: 502 }, ['  verdict       ✓ allowed, but would fail: name-not-found (502)']],
  ['no client', { client: null, peer: makePeer('192.0.2.7', { user: 'batch', sans: ['DNS:a'] }), clients: [{ name: 'pods', matches: false, chosen: false, kinds: [{ kind: 'addresses', matches: false, detail: '192.0.2.7 is not in 10.8.0.0/14' }] }], clientsLeftOut: 7 }, ['  client        192.0.2.7, user batch, certificate of DNS:a', '                ✗ pods  192.0.2.7 is not in 10.8.0.0/14', '                ✗ 7 others']],
  ['no target', { target: null, destinations: [], rules: [], addresses: null }, ['GET /x, Host: eco.example', '', '  client        ✓ pods  10.8.0.1 is in 10.8.0.0/14', '  verdict       ✓ allowed']],
] as const) {
  t.test(name, async (t) => {
    const text = formatAnswer({ ...ALLOWED, ...(change as Partial<ExplainAnswer>) });
    t.strictSame(findMissing(lines, text), [], text);
  });
}

t.test('what a client or a file wrote is text', async (t) => {
  const text = formatAnswer({ ...ALLOWED, why: 'a\u001b[31m\nb\u202e"\\' });
  t.match(text, 'a\\u001b[31m\\nb\\u202e"\\\n');
  t.notMatch(text, /[\u001b\u202e]/);
});
