/** Faults as text: readable without colours, harmless whatever the file holds. */
import t from 'tap';
import { PassThrough } from 'node:stream';
import { formatFindings } from '../../src/config/finding.ts';
import { loadText } from '../support/load-text.ts';

function told(text: string): string {
  const result = loadText(text);
  return result.ok ? '' : formatFindings(result.faults, 'fault', new PassThrough());
}

t.test('place, problem, advice, and the line with the value marked', async (t) => {
  t.equal(
    told('version: 1\ntimeouts:\n  connect: 10 sec\n  tls: 1\n'),
    `test.yaml:3:12  timeouts.connect
  "10 sec" is not a duration.
  Write a whole number and its unit, with nothing between: 500ms, 30s, 5m or 2h.
    3 |   connect: 10 sec
      |            ^^^^^^

test.yaml:4:8  timeouts.tls
  1 has no unit.
  Write a duration with its unit: 1ms, 1s, 1m, 1h.
    4 |   tls: 1
      |        ^
`,
  );
});

t.test('a fault of the whole file has no line to show', async (t) => {
  t.equal(told(''), 'test.yaml:1:1\n  The file is empty.\n  Start from deploy/config/egress.yaml, or from docs/configuration.md.\n');
});

t.test('far along a long line, the marked part is still in view', async (t) => {
  const hosts = Array.from({ length: 30 }, (_, index) => `h${index}.example`).join(', ');
  const lines = told(`version: 1\ndestinations: { a: { ports: 1, hosts: [${hosts}, "b d"] } }\n`).split('\n');
  const [line = '', carets = ''] = lines.slice(-3);
  t.ok(line.length < 130);
  t.equal(line.slice(carets.indexOf('^'), carets.lastIndexOf('^') + 1), '"b d"');
});

t.test('control characters of the file never reach the terminal', async (t) => {
  const text = told('version: 1\nname: "a\u001b[31m\u0007\\e[32m\u202e\u009b"\n\u001b]0;x\u0007: 1\n');
  t.not(text, '');
  t.notMatch(text.replaceAll('\n', ''), /\p{C}/u);
});
