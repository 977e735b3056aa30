/** settings.env means the same here and to kustomize, or the line is refused with what to write. */
import { join } from 'node:path';
import t from 'tap';
import { readSettings, withSettings } from '../../src/cli/settings-file.ts';

t.test('what both read alike', async (t) => {
  t.strictSame(readSettings('# a comment\n\n  A=1\nB=x=y\r\nC=\nD=10.0.0.0/8,10.1.0.0/16\n', 'settings.env'), { values: { A: '1', B: 'x=y', C: '', D: '10.0.0.0/8,10.1.0.0/16' } });
});

t.test('what they would read otherwise is refused', async (t) => {
  const table: [line: string, problem: RegExp][] = [
    ['A="10.40.0.0/16"', /settings\.env:2: The quotes would be part of the value of A\. Write A=10\.40\.0\.0\/16$/],
    ["A='x'", /quotes.* Write A=x$/],
    ['A=10.40.0.0/16 # the partner', /comment.* Write A=10\.40\.0\.0\/16$/],
    ['A=10.40.0.0/16 ', /blanks.* Write A=10\.40\.0\.0\/16$/],
    ['A = v', /"A " is not the name of a variable\. Write A=v$/],
    ['export A=v', /"export A" is not the name of a variable\. Write A=v$/],
    ['B=2', /settings\.env:2: B has a value already, in line 1\. Keep one of the two lines\.$/],
    ['B=1', /settings\.env:2: B has a value already, in line 1/],
    ['A=\ufffd', /settings\.env:2: The value of A is not UTF-8 text\. Save the file as UTF-8\.$/],
    ['\ufeffA=v', /is not the name of a variable/],
    ...['a\u0085', 'a\0', 'a\rb'].map((value): [string, RegExp] => [`A=${value}`, /The value of A has control characters/]),
    [`A=${'x'.repeat(65_534)}`, /The line of A is longer than kustomize reads: 65535 bytes\./],
    ['A', /"A" has no value\. Write NAME=value\.$/],
  ];
  for (const [line, problem] of table) t.match(readSettings(`B=1\n${line}\n`, 'settings.env'), { problem }, line);
});

t.test('a file in UTF-16 is named as such', async (t) => {
  const directory = t.testdir({ 'settings.env': Buffer.from('\ufeffA=1\r\n', 'utf16le') });
  t.match(withSettings({}, join(directory, 'settings.env')), { problem: /^--settings: .+settings\.env cannot be read: it is UTF-16\. Save it as UTF-8\.$/ });
});
