/** The load generator by itself, and the benchmark as `npm run bench` starts it, with next to nothing to do. */
import t from 'tap';
import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { compare, type Comparison, type Means } from '../../bench/compare.ts';
import type { Contender } from '../../bench/contenders/contender.ts';
import { buildLoad, canBuildLoad } from '../../bench/load/build.ts';
import { drive, driveWrk, holdTunnels, type Door } from '../../bench/load/drive.ts';
import { startDistant, startUpstream } from '../../bench/load/upstream.ts';
import type { Results } from '../../bench/report/results.ts';
import { WORKS } from '../../bench/works.ts';

const MAIN = join(import.meta.dirname, '../../bench/main.ts');
const start = promisify(execFile);
const skip = canBuildLoad() ? false : 'this machine has no C compiler or no headers of OpenSSL (gcc, libc6-dev, libssl-dev)';

t.test('every kind of load, and what it does not take for an answer', { skip }, async (t) => {
  const directory = t.testdir({});
  const built = buildLoad(directory);
  const { load, upstream: program } = built;
  const upstream = await startUpstream(program, directory);
  t.teardown(() => upstream.close());
  const door: Door = { port: upstream.plainPort, connect: null, base: '', host: 'localhost', upstream: 'plain' };
  const seen = await drive(load, door, { operations: 50, connections: 4 });
  t.ok(seen.seconds > 0 && (seen.p50 ?? 0) > 0 && (seen.p99 ?? 0) >= (seen.p50 ?? 0), JSON.stringify(seen));
  await drive(load, door, { operations: 20, connections: 4, each: 1 });
  await drive(load, door, { operations: 20, connections: 4, echo: 64 });
  await drive(load, door, { operations: 4, connections: 2, body: 200_000 });
  for (const bytes of [0, 100, 10_000, 3_000_000]) await drive(load, door, { operations: 6, connections: 2, target: `/bytes/${bytes}` });
  await drive(load, door, { operations: 4, connections: 2, each: 1, target: '/bytes/3000000' });
  for (const chunk of [1_400, 1_048_576]) {
    await drive(load, door, { mode: 'download', operations: 2, connections: 2, chunk });
    await drive(load, door, { mode: 'upload', operations: 2, connections: 2, chunk });
  }
  const slow = await drive(load, door, { mode: 'download', operations: 1, connections: 2, wait: 10_000 });
  t.ok(slow.seconds >= 0.15, `16 reads of 64 KiB with 10 ms between took ${slow.seconds} s`);
  const bursts = await drive(load, door, { mode: 'download', operations: 2, connections: 1, wait: 50_000, burst: 1_048_576 });
  t.ok(bursts.seconds >= 0.1 && bursts.seconds < 0.4, `2 bursts with 50 ms behind each took ${bursts.seconds} s`);
  await drive(load, door, { mode: 'download', operations: 2, connections: 2, tls: 1 });
  await drive(load, door, { operations: 20, connections: 4, each: 1, close: 'client' });
  const paced = await drive(load, door, { operations: 21, connections: 2, rate: 200 });
  const counted = (seen: typeof paced): number => Object.values(seen.histogram ?? {}).reduce((sum, count) => sum + count, 0);
  t.equal(counted(paced), 21, 'connections are opened before the first is due');
  const opening = await drive(load, door, { operations: 21, connections: 2, rate: 200, opening: 1 });
  t.equal(counted(opening), 21);
  t.ok(paced.seconds >= 0.1, `20 intervals of 5 ms took ${paced.seconds} s`);
  const wrk = await driveWrk({ ...door, base: 'http://localhost' }, { connections: 2, target: '/x' }, 1);
  t.ok(wrk === null || wrk.operations > 0, 'wrk, where it is installed');
  await (await holdTunnels(load, door, 5)).close();
  const broken: Contender = { name: 'broken', fromNpm: false, ways: { tunnel: 'connect' }, gatewayOn: 'port', version: () => '1', launch: (place) => ({ command: 'ls', args: [join(place.directory, 'nothing')] }) };
  const work = WORKS.find(({ name }) => name === 'startup');
  t.ok(work);
  const means: Means = { built, upstream, distant: upstream, directory, runs: 2, scale: 0.001, warmUp: 0.001, say: () => {} };
  t.match(work && (await compare(work, [broken], means)), [{ work: 'startup', contender: 'broken', samples: { length: 0 }, failure: /^ls does not answer: .*'?\/broken-\w+\/nothing/ }], 'a failure is a result, and tells no paths');
  const stolen = async (...parts: number[]): Promise<Comparison[]> => work ? compare({ ...work, direct: true, run: async () => Promise.resolve({ cost: 1, stalls: { busy: 0.5, stolen: parts.shift() ?? 0, waited: 0, longestGcMs: null, loopMaxMs: null } }) }, [], means) : [];
  t.match(await stolen(0.3, 0.002), [{ samples: [{ stalls: { stolen: 0.002 } }] }], 'a run in which the host had the cores is left out');
  t.match(await stolen(0.3, 0.02), [{ samples: { length: 0 }, failure: /host/ }]);
  await t.rejects(drive(load, { ...door, upstream: 'tls' }, { operations: 1 }), /not answered by the upstream's tls port/);
  await t.rejects(drive(load, { ...door, port: upstream.securePort }, { operations: 1 }), /closed in the middle|not a 200|reset/);
  t.equal(await upstream.opened(), 1);
});

t.test('a distant upstream: all arrives whole, so much later, ends of streams too', { skip }, async (t) => {
  const directory = t.testdir({});
  const built = buildLoad(directory);
  const upstream = await startUpstream(built.upstream, directory);
  t.teardown(() => upstream.close());
  const distant = await startDistant(built.relay, upstream, 10);
  const door: Door = { port: distant.plainPort, connect: null, base: '', host: 'localhost', upstream: 'plain' };
  const { p50 = 0 } = await drive(built.load, door, { operations: 40, connections: 4 });
  t.ok(p50 >= 20_000 && p50 < 60_000, `there and back took ${p50} µs`);
  await drive(built.load, door, { operations: 20, connections: 4, each: 1 });
  await drive(built.load, door, { operations: 20, connections: 4, each: 1, close: 'client' });
  await drive(built.load, door, { operations: 4, connections: 2, body: 3_000_000 });
  await drive(built.load, door, { mode: 'download', operations: 40, connections: 2, chunk: 1_048_576 });
  await drive(built.load, door, { mode: 'upload', operations: 40, connections: 2, chunk: 1_048_576 });
  await drive(built.load, door, { mode: 'download', operations: 2, connections: 2, tls: 1 });
  t.equal(Number(await (await fetch(`http://127.0.0.1:${distant.plainPort}/opened`)).text()), 0, 'the relay is no connection of its own to the TLS port');
  await distant.close();
});

t.test('one contender, one work', { skip }, async (t) => {
  const out = t.testdir({});
  const { stdout } = await start(process.execPath, [MAIN, '--quick', '--contenders', 'ours', '--only', 'setup-64', '--scale', '0.001', '--out', out]);
  t.match(stdout, /\| tunnel set-up, 64 connections, µs CPU +\| /);
  const [file = ''] = globSync(join(out, '*.json'));
  const text = readFileSync(file, 'utf8');
  const { comparisons, versions } = JSON.parse(text) as Results;
  t.strictSame(comparisons.map(({ work, contender, samples, failure }) => [work, contender, samples.length, failure]), [['setup-64', 'ours', 2, undefined], ['setup-64', 'direct', 2, undefined]]);
  const { told, systemCalls } = comparisons[0]?.observed ?? {};
  t.ok(told && told.allocatedBytes > 0 && told.gcShare >= 0 && told.loopMaxMs >= told.loopP99Ms, JSON.stringify(told));
  // Whether strace is there and may look is the machine's affair.
  if (typeof systemCalls === 'string') t.match(systemCalls, /^not measured: /);
  else t.ok((systemCalls?.['read'] ?? 0) > 0, JSON.stringify(systemCalls));
  t.equal(versions['node'], process.version);
  t.notMatch(text, process.cwd(), 'no paths in what is published');
});

t.test('the safeguards, on and off: both configurations are valid, and serve', { skip }, async (t) => {
  const { stdout } = await start(process.execPath, [MAIN, '--safeguards', '--only', 'setup-64,gateway-64', '--runs', '1', '--scale', '0.001']);
  t.match(stdout, /\| tunnel set-up, 64 connections, µs CPU +\| [^]*\| gateway GET over TLS, 64 connections, µs CPU +\| [^]*\| geometric mean of all, /);
});
