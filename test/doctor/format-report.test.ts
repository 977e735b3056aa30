/** What a report looks like in a terminal, and that nothing in it can act on one. */
import t from 'tap';
import { PassThrough } from 'node:stream';
import { createReport, fail, ok, skipped, warn } from '../../src/doctor/finding.ts';
import { formatReport } from '../../src/doctor/format-report.ts';

t.test('a mark for each thing, aligned, with what to do', async (t) => {
  const report = createReport('proxy', 'About this.', [
    { name: 'names', title: 'Names', findings: [ok('eco.example', '203.0.113.1 (public)'), fail('x.example', 'name-not-found', 'no address', 'Check the spelling.')] },
    { name: 'clock', title: 'Clock', findings: [warn('', 'clock-skew', 'a little', 'Look.'), skipped('', 'nothing')] },
  ]);
  t.equal(report.ok, false);
  t.equal(
    formatReport(report, new PassThrough()),
    `About this.

Names (names)
  ✓ eco.example  203.0.113.1 (public)
  ✗ x.example    name-not-found: no address
                 → Check the spelling.

Clock (clock)
  ! clock-skew: a little
    → Look.
  – nothing

One thing is broken: 1 ok, 1 warning, 1 not tried.
`,
  );
});

t.test('nothing that a server sent moves the cursor', async (t) => {
  const text = formatReport(createReport('client', 'x', [{ name: 'n', title: 't', findings: [fail('a', 'loop', '\u001b[2J\r\nforged \u202e', '\u009b')] }]), new PassThrough());
  t.notMatch(text, /[\u001b\r\u202e\u009b]/u);
  t.equal(text.split('\n').length, 8);
});
