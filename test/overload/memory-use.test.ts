/** How much memory is in use: cgroups in folders of the test, and a heap that it makes up. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { MemoryWatch, readCgroup } from '../../src/overload/memory-use.ts';

/** Writes files below a folder of the test. */
function lay(root: string, files: Readonly<Record<string, string>>): string {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

t.test('version 2: files that the kernel can drop do not count', (t) => {
  const root = lay(t.testdir(), { 'memory.max': '1000\n', 'memory.current': '950\n', 'memory.stat': 'anon 300\ninactive_file 450\nactive_file 200\n' });
  t.strictSame(readCgroup(root), { of: 'cgroup', used: 500, limit: 1000, share: 0.5 });
  t.end();
});

t.test('version 1', (t) => {
  const root = lay(t.testdir(), { 'memory/memory.limit_in_bytes': '1000\n', 'memory/memory.usage_in_bytes': '950\n', 'memory/memory.stat': 'inactive_file 1\ntotal_inactive_file 50\n' });
  t.strictSame(readCgroup(root), { of: 'cgroup', used: 900, limit: 1000, share: 0.9 });
  t.end();
});

t.test('without a limit, or without any cgroup', (t) => {
  t.equal(readCgroup(lay(t.testdir(), { 'memory.max': 'max\n', 'memory.current': '950\n' })), null);
  t.equal(readCgroup(lay(t.testdir(), { 'memory/memory.limit_in_bytes': '9223372036854771712\n', 'memory/memory.usage_in_bytes': '950\n' })), null, 'version 1 says so by a number');
  t.equal(readCgroup(t.testdir()), null);
  t.equal(readCgroup(lay(t.testdir(), { 'memory.max': '1000', 'memory.current': '950' }))?.used, 950, 'no memory.stat: all of it counts');
  t.end();
});

t.test('of the heap, what the latest collection left counts, for a minute', (t) => {
  let used = 99;
  let now = 0;
  const watch = new MemoryWatch(t.testdir(), () => ({ used_heap_size: used, heap_size_limit: 100 }), () => now);
  t.teardown(() => {
    watch.close();
  });
  t.match(watch.read(), { of: 'heap', share: 0 }, 'none so far: it may all be garbage');
  used = 50;
  watch.collected();
  used = 99;
  t.equal(watch.read().used, 50);
  used = 95;
  watch.collected();
  t.equal(watch.read().used, 95);
  used = 20;
  t.equal(watch.read().used, 20, 'less is in use now, however that came');
  used = 95;
  now = 60_000;
  t.equal(watch.read().used, 0, 'too old');
  t.end();
});

t.test('the tighter of both counts', (t) => {
  const root = lay(t.testdir(), { 'memory.max': '1000', 'memory.current': '600' });
  let used = 50;
  const watch = new MemoryWatch(root, () => ({ used_heap_size: used, heap_size_limit: 100 }), () => 0);
  t.teardown(() => {
    watch.close();
  });
  watch.collected();
  t.match(watch.read(), { of: 'cgroup', share: 0.6 });
  used = 70;
  watch.collected();
  t.match(watch.read(), { of: 'heap', share: 0.7 });
  t.end();
});

t.test('below systemd the limit is that of the unit, or of the slice above it', (t) => {
  const unit = 'system.slice/eco-egress.service';
  const own = `4:memory:/${unit}\n0::/${unit}\n`;
  const files = { 'memory.current': '9000\n', [`${unit}/memory.max`]: '1000\n', [`${unit}/memory.current`]: '950\n', [`${unit}/memory.stat`]: 'inactive_file 450\n' };
  const root = lay(t.testdir(), files);
  t.strictSame(readCgroup(root, own), { of: 'cgroup', used: 500, limit: 1000, share: 0.5 });
  lay(root, { [`${unit}/memory.max`]: 'max\n', 'system.slice/memory.max': '2000\n', 'system.slice/memory.current': '1200\n' });
  t.match(readCgroup(root, own), { used: 1200, limit: 2000 });
  t.match(readCgroup(lay(t.testdir(), { 'memory.max': '1000', 'memory.current': '950' }), own), { used: 950 }, 'a container that sees the path of its host');
  const [limit, used] = ['memory.limit_in_bytes', 'memory.usage_in_bytes'].map((name) => `memory/${unit}/${name}`);
  t.match(readCgroup(lay(t.testdir(), { 'memory/memory.limit_in_bytes': '9223372036854771712', 'memory/memory.usage_in_bytes': '9000', [String(limit)]: '1000', [String(used)]: '950' }), `4:memory:/${unit}\n0::/\n`), { used: 950, limit: 1000 }, 'version 1');
  t.end();
});
