/** What hash-password makes of a pipe and of a terminal, and what it never shows. */
import t from 'tap';
import { PassThrough, Readable, Writable } from 'node:stream';
import { runHashPassword } from '../../src/cli/hash-password.ts';
import { verifyPassword } from '../../src/identity/proxy-authorization.ts';
import { recordIo } from '../support/command-io.ts';

const PASSWORD = 'correct horse: bättery';

t.test('a pipe: one hash on stdout, of the text without its final line break', async (t) => {
  for (const end of ['', '\n', '\r\n']) {
    const io = recordIo({}, Readable.from([Buffer.from(PASSWORD + end)]));
    t.equal(await runHashPassword({}, io), 0);
    const [hash = '', ...rest] = io.out().split('\n');
    t.match(hash, /^\$scrypt\$ln=15,r=8,p=1\$/);
    t.strictSame(rest, ['']);
    t.equal(await verifyPassword(hash, PASSWORD), true);
    t.equal(io.err(), '');
  }
});

t.test('no hash of what is no password', async (t) => {
  const wrong: [input: Buffer | string, why: RegExp][] = [
    ['', /fewer than 12 characters/],
    ['x'.repeat(1025), /more than 1024 characters/],
    ['elevenchars', /fewer than 12 characters/],
    ['twelve chars\n\n', /line break/],
    ['two lines of\na file', /line break/],
    [Buffer.from('latin-1: b\xe4ttery', 'latin1'), /not UTF-8/],
  ];
  for (const [input, why] of wrong) {
    const io = recordIo({}, Readable.from([Buffer.from(input)]));
    t.equal(await runHashPassword({}, io), 2);
    t.equal(io.out(), '');
    const told = io.err();
    t.match(told, why);
    if (input.length > 5) t.notMatch(told, input.toString().trim().slice(0, 6), 'what was typed is not shown');
  }
});

t.test('input without an end, such as /dev/zero', async (t) => {
  const io = recordIo({}, Readable.from((function* () { for (;;) yield Buffer.alloc(65_536); })()));
  t.equal(await runHashPassword({}, io), 2);
  t.match(io.err(), /^No hash was made: the password has more than 1024 characters\.\n$/);
});

t.test('a terminal: asked twice, nothing shown', async (t) => {
  const answers: [first: string, second: string, code: number][] = [
    [PASSWORD, PASSWORD, 0],
    [PASSWORD, `${PASSWORD} `, 2],
  ];
  for (const [first, second, code] of answers) {
    const terminal = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => terminal });
    let told = '';
    const stderr = new Writable({
      write(chunk, _encoding, done) {
        told += String(chunk);
        // Once the question has been put.
        if (told.endsWith('Once more: ')) setImmediate(() => terminal.write(`${second}\r`));
        done();
      },
    });
    const io = { ...recordIo({}, terminal), stderr };
    const done = runHashPassword({}, io);
    terminal.write(`${first}\r`);
    t.equal(await done, code);
    const [hash = ''] = io.out().split('\n');
    if (code === 0) t.equal(await verifyPassword(hash, first), true);
    else t.equal(hash, '');
    t.match(told, code === 0 ? /^Password: \nOnce more: \n$/ : /the two passwords differ/);
    t.notMatch(told, PASSWORD);
  }
});

t.test('a terminal that is left', async (t) => {
  for (const key of ['\x03', '\x04']) {
    const terminal = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => terminal });
    const io = recordIo({}, terminal);
    const done = runHashPassword({}, io);
    terminal.write(key);
    t.equal(await done, 2);
    t.equal(io.out(), '');
    t.match(io.err(), /No hash was made: the input was cancelled\.\n$/);
  }
});
