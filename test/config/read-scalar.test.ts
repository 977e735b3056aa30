/** Names, numbers, durations and sizes, each with the neighbour just outside. */
import t, { type Test } from 'tap';
import { readDuration, readInteger, readName, readPort, readPorts, readSize, type Read } from '../../src/config/read-scalar.ts';
import { PortRange } from '../../src/targets/port-range.ts';

function takes<T>(t: Test, read: (value: unknown) => Read<T>, table: [written: unknown, value: T][]): void {
  for (const [written, value] of table) t.strictSame(read(written), { value }, JSON.stringify(written));
}

function refuses<T>(t: Test, read: (value: unknown) => Read<T>, table: [written: unknown, words: RegExp][]): void {
  for (const [written, words] of table) {
    const result = read(written);
    t.match('problem' in result ? `${result.problem} ${result.instead}` : 'was taken', words, JSON.stringify(written));
  }
}

t.test('names', async (t) => {
  takes(t, readName, [['eco-sit', 'eco-sit'], ['a', 'a'], ['0a', '0a'], ['a-', 'a-'], ['a'.repeat(63), 'a'.repeat(63)]]);
  refuses(t, readName, [['', /not a name/], ['a'.repeat(64), /at most 63/], ['-a', /no dash first/], ['A', /lower-case/], ['a_b', /not a name/], ['a.b', /not a name/], ['10', /letter/], [10, /not a name/], ['a\n', /"a\\n" is not a name/]]);
});

t.test('ports', async (t) => {
  takes(t, readPort, [[1, 1], [65_535, 65_535], ['443', 443]]);
  refuses(t, readPort, [[0, /not a port/], [65_536, /1 to 65535/], ['65536', /not a port/], ['0443', /not a port/], ['+443', /not a port/], ['0x1bb', /not a port/], [' 443', /not a port/], [1.5, /1.5 is not a port/], [true, /not a port/], ['', /not a port/]]);
});

t.test('ranges of ports', async (t) => {
  takes(t, readPorts, [['8000-8100', new PortRange(8000, 8100)], ['443 - 443', 443], ['80', 80]]);
  refuses(t, readPorts, [['9000-8000', /ends before it begins\. Write 8000-9000/], ['60000-70000', /goes beyond the last port\. Write 60000-65535/], ['70000-80000', /begins beyond the last port\. Write a range within 1-65535/], ['99999-5', /begins beyond the last port/]]);
});

t.test('whole numbers', async (t) => {
  const read = readInteger(1, 10);
  takes(t, read, [[1, 1], [10, 10]]);
  refuses(t, read, [[0, /from 1 to 10/], [11, /from 1 to 10/], ['0', /"0" is not possible here.*from 1 to 10/], ['11', /from 1 to 10/], ['007', /without quotes: 7\./], [1.5, /1.5/], ['5', /text, not a number.*without quotes: 5/], ['five', /"five"/], [Number.POSITIVE_INFINITY, /from 1 to 10/], [Number.NaN, /from 1/], [[], /^A list/]]);
});

t.test('durations', async (t) => {
  const read = readDuration('positive');
  takes(t, read, [['1ms', 1], ['500ms', 500], ['30s', 30_000], ['5m', 300_000], ['2h', 7_200_000], ['576h', 576 * 3_600_000]]);
  refuses(t, read, [
    [0, /0 would end everything at once.*more than zero/],
    [30, /30 has no unit\. Write a duration with its unit: 30ms, 30s, 30m, 30h\.$/],
    [600, /600ms, 600s, 600m\.$/],
    [86_400_000, /86400000 has no unit\. Write a duration with its unit: 86400000ms\.$/],
    [2_073_600_001, /has no unit\. Write at most 576h\.$/],
    ['30', /30 has no unit/],
    [1.5, /1\.5 is not a duration.*whole number/],
    [-5, /-5 is not a duration/],
    ['0s', /more than zero/],
    ['577h', /at most 576h/],
    ['1.5h', /not a duration/],
    ['-1s', /not a duration/],
    ['10 s', /not a duration/],
    ['1d', /not a duration/],
    ['1h30m', /not a duration/],
    ['s', /not a duration/],
    [null, /not a duration/],
  ]);
  takes(t, readDuration('zero'), [['0s', 0], ['0ms', 0]]);
  refuses(t, readDuration('zero'), [[0, /no unit/]]);
});

t.test('sizes', async (t) => {
  const read = readSize(1, 1024);
  takes(t, read, [['1024B', 1024], ['1KiB', 1024], ['64KiB', 65_536], ['1MiB', 1_048_576]]);
  for (const wrong of [4096, '64KB']) {
    const result = read(wrong);
    for (const [proposal] of ('instead' in result ? result.instead : '').matchAll(/\d+(?:B|KiB|MiB)/g)) t.match(read(proposal), { value: Number }, `what is proposed for ${wrong}`);
  }
  refuses(t, read, [['1023B', /1KiB to 1024KiB/], ['1025KiB', /1KiB to 1024KiB/], ['2MiB', /1KiB to 1024KiB/], ['64KB', /64KiB/], ['64kib', /not a size/], [65_536, /no unit/], ['65536', /no unit/], ['1.5MiB', /not a size/]]);
});
