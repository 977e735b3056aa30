import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ReadFiles, readUtf8 } from '../../src/config/read-files.ts';

/** True at the second look, when a change has settled. */
function settled(files: ReadFiles): boolean {
  const early = files.changed();
  return !early && files.changed();
}

t.test('a file written, replaced, removed and made anew', async (t) => {
  const file = join(t.testdir({ 'egress.yaml': 'one' }), 'egress.yaml');
  const files = new ReadFiles();
  const changes: [string, () => void][] = [
    ['written', () => { writeFileSync(file, 'two, longer'); }],
    ['same length, later', () => { writeFileSync(file, 'owt, longer'); utimesSync(file, 1, 1); }],
    ['replaced', () => { writeFileSync(`${file}.new`, 'owt, longer'); renameSync(`${file}.new`, file); }],
    ['permitted to others', () => { chmodSync(file, 0o604); }],
    ['removed', () => { rmSync(file); }],
    ['made anew', () => { writeFileSync(file, 'four'); }],
  ];
  for (const [name, change] of changes) {
    files.begin();
    try {
      files.read(file);
    } catch (error) {
      t.match(error, { code: 'ENOENT' }, 'a file that is gone is told by reading it');
    }
    t.notOk(files.changed() || files.changed(), `before it is ${name}`);
    change();
    t.ok(settled(files), name);
  }
});

t.test("Kubernetes' swap of a ConfigMap: the link above the link moves", async (t) => {
  const dir = t.testdir({ '..v1': { 'egress.yaml': 'one' } });
  symlinkSync('..v1', join(dir, '..data'));
  symlinkSync(join('..data', 'egress.yaml'), join(dir, 'egress.yaml'));
  const files = new ReadFiles();
  t.equal(files.read(join(dir, 'egress.yaml')), 'one');
  mkdirSync(join(dir, '..v2'));
  writeFileSync(join(dir, '..v2', 'egress.yaml'), 'two');
  symlinkSync('..v2', join(dir, '..data_tmp'));
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
  t.ok(settled(files));
  files.begin();
  t.equal(files.read(join(dir, 'egress.yaml')), 'two');
  t.notOk(files.changed() || files.changed());
});

t.test('a file that is still being written is left alone', async (t) => {
  const file = join(t.testdir({ a: '1' }), 'a');
  const files = new ReadFiles();
  files.read(file);
  for (const text of ['22', '333', '4444']) {
    writeFileSync(file, text);
    t.notOk(files.changed());
  }
  t.ok(files.changed());
});

t.test('a file that is named twice, and replaced between the two readings, has changed', async (t) => {
  const file = join(t.testdir({ 'ca.pem': 'one' }), 'ca.pem');
  const files = new ReadFiles();
  t.equal(files.read(file), 'one');
  writeFileSync(file, 'two, longer');
  t.equal(files.read(file), 'two, longer');
  t.ok(settled(files));
  files.begin();
  t.equal(files.read(file), 'two, longer');
  t.notOk(files.changed() || files.changed());
});

t.test('a byte order mark is not part of the text', async (t) => {
  const dir = t.testdir({ secret: '\ufeffuser:pw\ufeff' });
  t.equal(readUtf8(join(dir, 'secret')), 'user:pw\ufeff');
});

t.test('a file without an end is read no further than any file of ours would be', async (t) => {
  const dir = t.testdir({ 'large.yaml': '', 'largest.yaml': '' });
  truncateSync(join(dir, 'large.yaml'), 16 * 1_048_576 + 1);
  truncateSync(join(dir, 'largest.yaml'), 16 * 1_048_576);
  t.equal(readUtf8(join(dir, 'largest.yaml')).length, 16 * 1_048_576);
  const refused = /^it has more than 16 MiB$/;
  for (const path of ['/dev/zero', join(dir, 'large.yaml')]) {
    t.throws(() => readUtf8(path), refused, path);
    t.throws(() => new ReadFiles().read(path), refused, path);
  }
  const files = new ReadFiles();
  files.begin();
  t.throws(() => files.read(join(dir, 'large.yaml')), refused, 'at a reload');
});

t.test('a pipe or a device in the place of a file is read at the start only: its reader would wait', async (t) => {
  const dir = t.testdir({ directory: {} });
  const fifo = join(dir, 'fifo');
  execFileSync('mkfifo', [fifo]);
  symlinkSync('/dev/zero', join(dir, 'device'));
  const files = new ReadFiles();
  t.equal(files.read('/dev/null'), '', 'at the start');
  files.begin();
  for (const path of [fifo, join(dir, 'device')]) t.throws(() => files.read(path), /^it is a pipe or a device/);
  t.throws(() => files.read(join(dir, 'directory')), { code: 'EISDIR' });
  t.throws(() => files.read(join(dir, 'missing')), { code: 'ENOENT' });
});

/** Reads a file while every descriptor is in use; prints what reading gave, and how many of three looks show a change before and after there are some again. */
const WITHOUT_DESCRIPTORS = `
import { closeSync, openSync } from 'node:fs';
const { ReadFiles } = await import(process.argv[1]);
const files = new ReadFiles();
const looks = () => [1, 2, 3].filter(() => files.changed()).length;
const open = [];
try {
  for (;;) open.push(openSync('/dev/null'));
} catch {}
files.begin();
let code = 'read';
try {
  files.read(process.argv[2]);
} catch (error) {
  code = error.code;
}
const before = looks();
open.forEach((file) => { closeSync(file); });
process.stdout.write(\`\${code} \${before} \${looks()}\`);
`;

t.test('a file that could not be opened for lack of descriptors is read again when there are some', async (t) => {
  const file = join(t.testdir({ 'egress.yaml': 'one' }), 'egress.yaml');
  const source = new URL('../../src/config/read-files.ts', import.meta.url).href;
  const output = execFileSync('sh', ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', WITHOUT_DESCRIPTORS, source, file], { encoding: 'utf8' });
  t.equal(output, 'EMFILE 0 3');
});

t.test('bytes written to a pipe after its stat are not taken for a change of the file', async (t) => {
  const fifo = join(t.testdir({}), 'fifo');
  execFileSync('mkfifo', [fifo]);
  utimesSync(fifo, 1, 1);
  const files = new ReadFiles();
  // Reading waits for the writer.
  spawn('sh', ['-c', 'printf one >"$0"', fifo], { stdio: 'ignore' });
  t.equal(files.read(fifo), 'one');
  t.notOk(files.changed() || files.changed());
});
