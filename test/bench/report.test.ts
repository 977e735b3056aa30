/** What the benchmark makes of its samples: medians, ratios, targets met and not, tables, pages, profiles. */
import t from 'tap';
import type { Comparison } from '../../bench/compare.ts';
import { coresOf } from '../../bench/machine/cores.ts';
import { parseStat, parseStolen, parseWait } from '../../bench/machine/processes.ts';
import { parseCounts } from '../../bench/machine/system-calls.ts';
import { parseWrk } from '../../bench/load/drive.ts';
import { choose, parseOptions } from '../../bench/options.ts';
import { formatAgreement } from '../../bench/report/agreement.ts';
import { formatCapacity } from '../../bench/report/capacity.ts';
import { mergeLatencies, percentile } from '../../bench/report/histogram.ts';
import { formatLatencies } from '../../bench/report/latency.ts';
import { heaviest } from '../../bench/report/profile.ts';
import { formatDetails, formatSummary, replaceMeasured } from '../../bench/report/report.ts';
import { formatReplicas } from '../../bench/report/replicas.ts';
import { loadResults, saveResults, type Results } from '../../bench/report/results.ts';
import { median, spread, summarise } from '../../bench/report/statistics.ts';
import { formatCosts, formatFigure, formatObserved, formatTargets, renderTable } from '../../bench/report/table.ts';
import { judge, TARGETS } from '../../bench/report/targets.ts';
import { WORKS } from '../../bench/works.ts';

const costs = (work: string, contender: string, ...values: number[]): Comparison => ({ work, contender, samples: values.map((cost) => ({ cost, rate: 1e6 / cost, p50: cost * 2, p99: cost * 10 })) });

t.test('medians and spread', async (t) => {
  t.equal(median([3, 1, 2]), 2);
  t.equal(median([4, 1, 3, 2]), 2.5);
  t.equal(median([7]), 7);
  t.ok(Number.isNaN(median([])));
  t.equal(spread([90, 100, 110]), 0.2);
  t.ok(Number.isNaN(spread([100])));
});

t.test('latency is shown as what the proxy adds to direct', async (t) => {
  const direct: Comparison = { work: 'setup', contender: 'direct', samples: [{ cost: null, p50: 30, p99: 100 }] };
  const summary = summarise([costs('setup', 'ours', 50, 52, 70), direct]).of('setup', 'ours');
  t.match(summary, { cost: 52, addedP50: 104 - 30, addedP99: 520 - 100, runs: 3 });
  t.equal(summarise([]).of('setup', 'ours'), null);
});

const AT_TARGET: Record<string, Record<string, number>> = {
  setup: { ours: 54, squid: 60 },
  download: { ours: 0.12, squid: 0.2, haproxy: 0.37, nginx: 0.41 },
  upload: { ours: 0.18, squid: 0.3, haproxy: 0.37 },
  ping: { ours: 9.5, squid: 10, haproxy: 9.5 / 1.1 },
  idle: { ours: 13, squid: 31 },
  forward: { ours: 30, squid: 30 },
  gateway: { ours: 24, stock: 40, nginx: 8 },
  post: { ours: 200, stock: 210, 'http-proxy-3': 200 },
  connections: { ours: 16 },
  'gateway-half': { ours: 2, stock: 2 },
  'ping-half': { ours: 2 },
  'first-second': { ours: 3 },
  memory: { ours: 10 },
  startup: { ours: 400 },
};
const ALLOCATED_KB: Record<string, number> = { setup: 20, ping: 0.1, forward: 8, gateway: 8 };
const MB = 2 ** 20;
/** In buckets of a histogram: 1.02 ** 35 is just below 2. */
const TWICE = 35;
const withOurs = (factor: number) =>
  summarise(
    Object.entries(AT_TARGET).flatMap(([work, all]) =>
      Object.entries(all).map(([name, cost]) => {
        if (name !== 'ours') return costs(work, name, cost);
        const ours = costs(work, name, cost * factor);
        const told = { allocatedBytes: (ALLOCATED_KB[work] ?? NaN) * 1e3 * factor, gcShare: 0, longestGcMs: 0, loopP99Ms: 0, loopMaxMs: 0 };
        const whole = { ...ours, observed: { told, systemCalls: {} }, samples: ours.samples.map((sample) => ({ ...sample, rssBytes: 120 * MB * factor })) };
        return work === 'first-second' ? { ...whole, latencies: { own: { [300 + (factor < 1 ? TWICE : TWICE + 1)]: 1 }, baseline: { 300: 1 } } } : whole;
      }),
    ),
  );

t.test('a target is met at its limit, not above it, and unknown without what it is compared with', async (t) => {
  t.strictSame([...new Set(TARGETS.flatMap(({ work }) => work ?? []))].filter((work) => !WORKS.some(({ name }) => name === work)), [], 'each is about a work');
  t.strictSame(judge(withOurs(1 - 1e-9)).filter(({ met }) => met !== true), []);
  // The best of the others is what the usual shape is held to 0.6 of.
  t.strictSame(judge(withOurs(1.001)).filter(({ met }) => met === true).map(({ text }) => text), ['at most the best other', 'at most the best other']);
  t.strictSame(judge(withOurs(2)).filter(({ met }) => met !== false), []);
  t.strictSame(judge(summarise([])).filter(({ met }) => met !== null), []);
  t.match(judge(summarise([costs('setup', 'ours', 50)])).find(({ work }) => work === 'setup'), { met: null, figure: 50 }, 'nothing to compare with');
  const shapes = summarise([costs('upload', 'ours', 1), costs('upload', 'squid', 1), costs('upload-1400', 'ours', 3), costs('upload-1400', 'squid', 2), costs('upload-16384', 'ours', 4), costs('upload-16384', 'squid', 4)]);
  t.match(judge(shapes).find(({ work, text }) => work.startsWith('upload') && text === 'at most the best other'), { work: 'upload-1400', met: false, figure: 3, limit: 2 }, 'the worst shape counts');
  t.match(judge(shapes).find(({ work, text }) => work.startsWith('upload') && text.includes('0.6')), { work: 'upload', met: false, figure: 1, limit: 0.6 }, 'of the usual shape alone');
});

t.test('tables', async (t) => {
  t.equal(renderTable(['a', 'n'], [['long', '1'], ['b', '22']]), '| a    |  n |\n|------|---:|\n| long |  1 |\n| b    | 22 |');
  for (const [figure, text] of [[0.123, '0.12'], [9.994, '9.99'], [10, '10.0'], [99.94, '99.9'], [100, '100'], [12345.6, '12,346'], [-20, '-20.0'], [NaN, '']] as const) t.equal(formatFigure(figure), text);
  const summaries = summarise([costs('setup', 'ours', 50), costs('setup', 'squid', 65), { work: 'setup', contender: 'nginx', samples: [], failure: 'gone' }]);
  const [, , row = ''] = formatCosts(WORKS, ['ours', 'squid', 'nginx'], summaries).split('\n');
  t.match(row, /tunnel set-up.*50\.0 .*65\.0 \(1\.30×\).*failed/);
  const targets = formatTargets(judge(summaries)).split('\n');
  t.match(targets[2], /at most 0\.9 times Squid .*50\.0 µs CPU .*58\.5 .* met/);
  t.notMatch(targets[2], /not met/);
  t.notMatch(formatCapacity(summaries), /Gbit/, 'no rows without a figure');
  t.match(formatCapacity(summaries), /tunnel set-ups a second +\| +14,000 .*537/);
});

const RESULTS: Results = {
  when: '2026-11-01T10:11:12.345Z',
  machine: { cpu: 'A CPU', cores: 2, memoryGiB: 4, kernel: 'Linux 6.1', loadBefore: 0.1 },
  versions: { node: 'v26.10.0', ours: '0.1.0' },
  runs: 5,
  scale: 1,
  comparisons: [costs('setup', 'ours', 50), costs('ping', 'ours', 9), { work: 'setup', contender: 'squid', samples: [], failure: 'no answer\n at all' }],
};

t.test('the report says where it comes from, and what has no result', async (t) => {
  const report = formatSummary(RESULTS);
  t.match(report, /^2026-11-01, A CPU, 2 cores, Linux 6\.1, 5 interleaved runs of each\. node 26\.10\.0/);
  t.match(report, '- setup, squid: no answer at all');
  t.match(formatDetails(RESULTS), /^2026-11-01, A CPU(.|\n)*\| setup, ours +\|/);
  t.match(report, /Targets, .* \(not run: download, upload, idle, /);
  t.notMatch(report, /at most 13 KB/, 'nothing is said of what was not run');
  t.match(formatSummary({ ...RESULTS, scale: 0.1 }), /Only 10 % of the operations/);
  t.match(formatSummary({ ...RESULTS, machine: { ...RESULTS.machine, loadBefore: 3 } }), /not idle before \(load 3\.0\)/);
});

t.test('results are kept, and put together by work', async (t) => {
  const directory = t.testdir({});
  const first = saveResults(RESULTS, directory);
  t.match(first, /2026-11-01T10-11-12Z\.json$/);
  const second = saveResults({ ...RESULTS, runs: RESULTS.runs + 1, scale: 0.5, comparisons: [costs('ping', 'ours', 8)] }, directory, 'later.json');
  const both = loadResults([first, second]);
  const { comparisons } = both;
  t.strictSame(comparisons.map(({ work, samples }) => [work, samples[0]?.cost]), [['setup', 50], ['setup', undefined], ['ping', 8]]);
  t.match(formatSummary(both), /^2026-11-01, .* 6 interleaved runs of each\. Only 50 % .* setup: from 2026-11-01, 5 runs\.\n/, 'no more is claimed than was done for each');
  const third = saveResults(both, directory, 'both.json');
  t.match(formatSummary(loadResults([third, first])), /, 5 interleaved runs of each\. node .* 0\.1\.0\.\n/, 'nothing is left of what is replaced');
  const fourth = saveResults({ ...RESULTS, when: '2026-11-02T10:11:12.345Z', comparisons: [costs('idle', 'ours', 8)] }, directory, 'fourth.json');
  t.match(formatSummary(loadResults([third, fourth])), /^2026-11-02, .* ping: from 2026-11-01, 6 runs with 50 % of the operations\. setup: from 2026-11-01, 5 runs\.\n/);
  const elsewhere = saveResults({ ...RESULTS, machine: { ...RESULTS.machine, cores: 64 } }, directory, 'elsewhere.json');
  t.throws(() => loadResults([first, elsewhere]), /two machines/);
});

t.test('the page takes the report between its markers', async (t) => {
  const page = 'before\n<!-- measured: written by npm run bench -- --write-docs -->\nold\n<!-- /measured -->\nafter\n';
  const once = replaceMeasured(page, 'new');
  t.match(once, /^before\n<!--.*-->\n\nnew\n\n<!-- \/measured -->\nafter\n$/);
  t.equal(replaceMeasured(once, 'new'), once);
  t.throws(() => replaceMeasured('nothing', 'new'), /has no lines/);
});

t.test('a profile is summed by function, idle time left out, recursion counted once', async (t) => {
  const node = (id: number, functionName: string, url: string, ...children: number[]) => ({ id, callFrame: { functionName, url, lineNumber: 6 }, children });
  const profile = {
    nodes: [node(1, '(root)', '', 2, 3), node(2, '(idle)', ''), node(3, 'relay', 'file:///x/src/relay.ts', 4), node(4, 'relay', 'file:///x/src/relay.ts', 5), node(5, '', 'node:net')],
    samples: [2, 3, 4, 5],
    timeDeltas: [9_000, 1_000, 500, 2_500],
  };
  const text = heaviest(profile, 5);
  t.match(text, /^4 ms of CPU/);
  t.match(text, /by itself[^]*\(anonymous\) node:net:7 +\| 62\.5[^]*relay src\/relay\.ts:7 +\| 37\.5/);
  t.match(heaviest(profile, 5, 10.5), /^3 ms of CPU[^]*by itself[^]*node:net:7 +\| 100\.0/, 'from 10.5 ms on');
  t.match(text, /with what it calls[^]*relay src\/relay\.ts:7 +\| 100\.0/);
});

t.test('options', async (t) => {
  t.match(parseOptions([]), { runs: 5, scale: 1, only: { length: 0 }, long: true });
  t.match(parseOptions(['--quick', '--only', 'setup,ping']), { runs: 2, scale: 0.1, warmUp: 0.5, long: false, only: ['setup', 'ping'] });
  t.match(parseOptions(['--quick', '--runs', '7', '--scale', '0.2']), { runs: 7, scale: 0.2, warmUp: 0.2 });
  for (const wrong of [['--runs', '0'], ['--runs', '1.5'], ['--scale', '0'], ['--scale', '1.1'], ['--scale', 'x'], ['--nonsense']]) t.throws(() => parseOptions(wrong), wrong.join(' '));
  t.strictSame(choose(WORKS, ['ping', 'upload-1400', 'setup-64'], 'work').map(({ name }) => name), ['setup-64', 'upload-1400', 'ping', 'ping-1', 'ping-512'], 'in the order of the table; a work with all its shapes');
  t.throws(() => choose(WORKS, ['pong'], 'work'), /There is no work pong; there are setup, /);
});

t.test('a name in /proc/PID/stat may look like its fields', async (t) => {
  const fields = ['S', '42', ...Array.from({ length: 9 }, () => '0'), '150', '50', ...Array.from({ length: 8 }, () => '0'), '256'];
  t.match(parseStat(`7 (a) S 1 b) ${fields.join(' ')} 0`), { pid: 7, parent: 42, cpuSeconds: 2, rssBytes: 256 * 4096 });
});

t.test('load and contender are on different cores where there are two', async (t) => {
  t.strictSame([2, 3, 4, 8].map((cores) => [coresOf('contender', cores), coresOf('upstream', cores), coresOf('load', cores)]), [['0', '1', '1'], ['0', '1', '2'], ['0-1', '2', '3'], ['0-5', '6', '7']]);
});

t.test('what was observed has its own table, and only where something was', async (t) => {
  t.equal(formatObserved(WORKS, ['ours'], [costs('setup', 'ours', 50)]), '');
  const told = { allocatedBytes: 17_900, gcShare: 0.058, longestGcMs: 2.5, loopP99Ms: 3.25, loopMaxMs: 30 };
  const table = formatObserved(WORKS, ['ours', 'squid'], [
    { ...costs('setup', 'ours', 50), observed: { told, systemCalls: { read: 5, write: 3, epoll_ctl: 2, close: 1 } } },
    { ...costs('setup', 'squid', 50), observed: { told: null, systemCalls: 'not measured: strace not found' } },
  ]);
  t.match(table, /setup, ours +\| +17\.9 \| +5\.80 \| +2\.50 \| +3\.25 \| +30\.0 \| +11\.0 \| +read 5\.00, write 3\.00, epoll_ctl 2\.00 \|/);
  t.match(table, /setup, squid( +\|)+ +not measured: strace not found \|/);
});

t.test('the counts of strace: rows with errors and without, and not the sum', async (t) => {
  const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 41.53    0.000255         255         1           accept4
 15.96    0.000098          32         3           epoll_pwait
  0.00    0.000000           0       112        17 ioctl
------ ----------- ----------- --------- --------- ----------------
100.00    0.000614          40       116        17 total
`;
  t.strictSame([...parseCounts(table)], [['accept4', 1], ['epoll_pwait', 3], ['ioctl', 112]]);
});

t.test('what kept a program from its core', async (t) => {
  t.equal(parseWait('1502000000 2044645000 137\n'), 2.044645);
  t.equal(parseStolen('cpu  1966586 2026 503927 2292841 25885 0 171617 738 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n'), 7.38);
});

const WRK = `Running 1s test @ http://127.0.0.1:37889
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    76.38us  212.76us   5.63ms   99.22%
    Req/Sec   170.40k     4.59k  174.44k    90.91%
  186076 requests in 1.10s, 198.04MB read
Requests/sec: 169150.31
Transfer/sec:    180.03MB
`;

t.test('what wrk prints', async (t) => {
  t.equal(parseWrk(WRK), 186_076);
  t.throws(() => parseWrk(`${WRK}  Socket errors: connect 0, read 33296, write 0, timeout 0\n`), /wrk: Socket errors: .*33296/);
  t.throws(() => parseWrk(`${WRK}  Non-2xx or 3xx responses: 12\n`), /wrk: Non-2xx or 3xx responses: 12/);
  t.throws(() => parseWrk(WRK.replace('186076', '0')), /no answers/);
});

t.test('two generators agree, or the report says that they do not', async (t) => {
  const table = (ours: number[], stock: number[]): string => formatAgreement(WORKS, ['ours', 'stock', 'nginx'], summarise([{ ...costs('gateway', 'ours', 30), again: ours }, { ...costs('gateway', 'stock', 40), again: stock }]));
  t.match(table([34.49, 34.49, 90], [40]), /gateway, ours to stock +\| +0\.75 \| +0\.86 \| +agree: 15\.0 % apart/);
  t.match(table([34.6], [40]), /\*\*do not agree\*\*: 15\.3 % apart/);
  t.match(table([26], [40]), /\*\*do not agree\*\*: 15\.4 % apart/, 'in both directions');
  t.match(table([], []), /\| +0\.75 \| +\| not measured: wrk not found/);
  t.equal(formatAgreement(WORKS, ['ours', 'stock'], summarise([costs('gateway', 'ours', 30), costs('gateway', 'stock', 40)])), '');
});

t.test('latencies of several runs: the p99 of all, which no median of theirs is', async (t) => {
  // 1.02^233 is 101 µs, 1.02^465 is 9,979 µs.
  const quiet = { own: { 233: 1_000 }, baseline: { 233: 300 } };
  const paused = { own: { 233: 950, 465: 50 }, baseline: { 233: 300 } };
  const latencies = mergeLatencies(mergeLatencies(mergeLatencies(undefined, quiet), quiet), paused);
  t.strictSame(latencies, { own: { 233: 2_950, 465: 50 }, baseline: { 233: 900 } });
  t.equal(Math.round(percentile(latencies.own, 0.5)), 101);
  t.equal(Math.round(percentile(latencies.own, 0.98)), 101);
  t.equal(Math.round(percentile(latencies.own, 0.99)), 9_979);
  t.ok(Number.isNaN(percentile({}, 0.99)));
  const stalls = (stolen: number, longestGcMs: number | null) => ({ stolen, waited: 0.1, busy: 0.5, longestGcMs, loopMaxMs: longestGcMs });
  const ours: Comparison = { work: 'gateway-half', contender: 'ours', latencies, samples: [1, 1, 40].map((cost) => ({ cost, stalls: stalls(cost / 100, cost) })) };
  t.match(summarise([ours]).of('gateway-half', 'ours'), { runs: 3 });
  t.equal(Math.round((summarise([ours]).of('gateway-half', 'ours')?.cost ?? NaN) * 1_000), 9_979 - 101, 'not the median of the runs');
  const stock: Comparison = { work: 'gateway-half', contender: 'stock', latencies: { own: { 430: 100 }, baseline: { 233: 1 } }, samples: [{ cost: 5, stalls: stalls(0, null) }] };
  const table = formatLatencies(WORKS, ['ours', 'stock'], [ours, stock]);
  t.match(table, /gateway-half, ours +\| +3 \| +0\.10 \| +9\.98 \| +9\.98 \| +0\.10 \| +98\.9 \| +2\.00 \| +50\.0 \| +14\.0 \| +10\.0 \| +40\.0 \| +40\.0 \|/);
  t.match(table, /gateway-half, stock +\| +1 \| +4\.99 .*\| +0\.00 \| +10\.0 \| +\| +\|/);
  t.equal(formatLatencies(WORKS, ['ours'], [costs('setup', 'ours', 50)]), '');
});

t.test('replicas: medians by their number', async (t) => {
  const group = (count: number, rate: number) => ({ count, rate, cpuMicroseconds: 118, opened: 16 * count });
  const comparison: Comparison = { work: 'cores', contender: 'ours', samples: [2_000, 2_500, 9_000].map((rate) => ({ cost: 2, replicas: [group(1, rate), group(2, 2 * rate)] })) };
  t.match(formatReplicas([costs('setup', 'ours', 50), comparison]), /\| 1 +\| +2,500 \| +1\.00× \| +118 \| +16\.0 \|\n\| 2 +\| +5,000 \| +2\.00× \| +118 \| +32\.0 \|$/);
  t.equal(formatReplicas([costs('setup', 'ours', 50)]), '');
});
