/** Ranges of ports: what they hold, as read, merged, compiled and shared, against sets that are spelled out. */
import t from 'tap';
import fc from 'fast-check';
import { readPorts } from '../../src/config/read-scalar.ts';
import { loadConfig } from '../../src/config/load.ts';
import { compilePolicy } from '../../src/policy/compile.ts';
import { compilePorts } from '../../src/policy/tables.ts';
import { countPorts, eachPort, firstPort, hasPort, lastPort, mergePorts, type PortEntry, PortRange, sharedPorts } from '../../src/targets/port-range.ts';

const entry = fc.oneof(
  fc.integer({ min: 1, max: 60 }),
  fc.tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 9 })).map(([first, more]) => new PortRange(first, first + more)),
);
const entries = fc.array(entry, { maxLength: 8 });
const spelled = (list: readonly PortEntry[]): Set<number> => new Set(eachPort(list));

t.test('merged, compiled and shared lists hold what the entries hold', async () => {
  fc.assert(
    fc.property(entries, entries, (one, other) => {
      const [a, b] = [spelled(one), spelled(other)];
      const [mergedA, mergedB] = [mergePorts(one), mergePorts(other)];
      const both = spelled(sharedPorts(mergedA, mergedB));
      const compiled = compilePorts(one);
      for (let port = 0; port <= 72; port += 1) {
        if (compiled.has(port) !== a.has(port) || hasPort(one, port) !== a.has(port) || spelled(mergedA).has(port) !== a.has(port)) throw new Error(`${port} of ${one.join()}`);
        if (both.has(port) !== (a.has(port) && b.has(port))) throw new Error(`${port} of ${one.join()} and ${other.join()}`);
      }
      if (countPorts(mergedA) !== a.size) throw new Error('merged entries overlap');
      for (const [index, next] of mergedA.slice(1).entries()) if (firstPort(next) <= lastPort(mergedA[index] ?? 0) + 1) throw new Error('merged entries touch');
    }),
  );
});

t.test('as written', async (t) => {
  t.strictSame(readPorts('8000-8100'), { value: new PortRange(8000, 8100) });
  t.strictSame(readPorts('1 - 65535'), { value: new PortRange(1, 65_535) });
  for (const single of [443, '443', '443-443']) t.strictSame(readPorts(single), { value: 443 });
  for (const [text, instead] of [['8100-8000', /Write 8000-8100\./], ['8000-65536', /Write 8000-65535\./], ['0-5', /8000-8100/], ['1-2-3', /8000-8100/], ['-5', /8000-8100/], [0, /8000-8100/], ['a-b', /8000-8100/]] as const) t.match(readPorts(text), { problem: /./, instead }, String(text));
});

const load = (a: string, b: string): ReturnType<typeof loadConfig> =>
  loadConfig({ file: 'x.yaml', env: {}, readFile: () => `version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\ndestinations:\n  a: { hosts: x.example, ports: ${a} }\n  b: { hosts: [y.example, x.example], ports: ${b} }\nrules: [{ clients: pods, destinations: [a, b] }]\n` });

t.test('the policy permits the ends of a range and nothing beside it', async (t) => {
  const loaded = load('[443, "8000-8100", "8000-8100"]', '["9000-9001"]');
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  const { destinations } = loaded.config;
  t.strictSame(destinations[0]?.ports, [443, new PortRange(8000, 8100)]);
  t.equal(JSON.stringify(destinations[0]?.ports), '[443,"8000-8100"]', 'as JSON as in a file');
  const policy = compilePolicy(loaded.config);
  for (const [port, listed] of [[443, true], [444, false], [7999, false], [8000, true], [8050, true], [8100, true], [8101, false]] as const) t.equal(policy.destinations[0]?.ports.has(port), listed, String(port));
  t.equal(policy.tlsPort('y.example'), 9000, 'the first of the first range, where 443 is in none');
  t.equal(policy.tlsPort('x.example'), 443);
});

t.test('two destinations claim the same port of a host', async (t) => {
  const loaded = load('[443, "8000-8100"]', '["8050-8200", 443]');
  t.equal(loaded.ok, false);
  if (!loaded.ok) t.match(loaded.faults, [{ path: 'destinations.b.hosts[1]', problem: '"x.example" with port 443 and 8050-8100 belongs to destination a already.' }]);
  t.equal(load('["8000-8100"]', '["8101-8200"]').ok, true);
});

t.test('neither reading nor compiling spells a range out', async (t) => {
  const loaded = load('["1-65534"]', '[65535]');
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  t.equal(loaded.config.destinations[0]?.ports.length, 1);
  t.ok(compilePolicy(loaded.config).destinations[0]?.ports.has(65_534));
});
