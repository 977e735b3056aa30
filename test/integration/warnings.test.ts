/** What `check` warns of is told wherever somebody looks at the running proxy, and so is the hash of what it serves. */
import t from 'tap';
import { WARNING_KINDS } from '../../src/config/config.ts';
import { formatWarning } from '../../src/config/finding.ts';
import { type Draft, type Lab, startLab } from '../support/lab.ts';

interface Seen {
  readonly readyz: readonly string[];
  readonly page: string;
  readonly gauges: Readonly<Record<string, number>>;
}

async function look(lab: Lab): Promise<Seen> {
  const { warnings } = (await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { warnings: string[] };
  const page = await (await fetch(lab.adminUrl)).text();
  const { samples } = await lab.scrape();
  return { readyz: warnings, page, gauges: Object.fromEntries(WARNING_KINDS.map((kind) => [kind, samples.get(`eco_egress_warnings{kind="${kind}"}`) ?? NaN])) };
}

const none = Object.fromEntries(WARNING_KINDS.map((kind) => [kind, 0]));
const inReport: Readonly<Record<string, (draft: Draft) => void>> = {
  'of the whole policy': (draft) => {
    draft.mode = 'report';
  },
  'of a destination': ({ destinations }) => {
    destinations.eco['report'] = true;
  },
  'of a rule': ({ rules }) => {
    const [rule] = rules;
    if (rule !== undefined) rule['report'] = true;
  },
};

for (const [what, change] of Object.entries(inReport)) {
  t.test(`report mode ${what} is reported at the start, at a reload, in /readyz, on the page and as a gauge`, async (t) => {
    const lab = await startLab(t, { configure: change });
    const told = { kind: 'report-mode', level: 'warn', msg: /^the configuration: Report mode: /, place: /^\/lab\/egress\.yaml:\d+$/ };
    t.match(await lab.logged(({ kind }) => kind === 'report-mode'), told);
    const loaded = lab.load(change);
    const sentence = loaded.ok ? loaded.warnings.filter(({ kind }) => kind === 'report-mode').map(formatWarning)[0] ?? '' : '';
    t.match(sentence, /Report mode: /);
    const seen = await look(lab);
    t.strictSame(seen.readyz, [sentence]);
    t.match(seen.page, sentence.slice(sentence.indexOf('Report mode'), sentence.indexOf(',')));
    t.strictSame(seen.gauges, { ...none, 'report-mode': 1 });

    await lab.reload(() => {});
    t.match(await look(lab), { readyz: { length: 0 }, gauges: none });
    await lab.reload(change);
    t.strictSame((await look(lab)).gauges, { ...none, 'report-mode': 1 });
    t.equal(lab.log.filter(({ kind }) => kind === 'report-mode').length, 2, 'at the start and at the reload');
  });
}

t.test('a thousand warnings are counted, and the first ones shown', async (t) => {
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      for (let index = 0; index < 1_000; index += 1) clients[`unused-${index}`] = { addresses: [`10.${index >> 8}.${index & 255}.0/24`] };
    },
  });
  const { readyz, gauges } = await look(lab);
  t.equal(gauges['no-effect'], 1_000);
  t.equal(readyz.length, 21);
  t.match(readyz.at(-1), /^980 further warnings .* check /);
  t.match(await lab.logged(({ further }) => further !== undefined), { further: 980 });
});

t.test('one hash of the whole configuration, the file and the time of the last good load, in every place', async (t) => {
  let now = Date.UTC(2026, 10, 28);
  const lab = await startLab(t, { now: () => now });
  const places = async (): Promise<{ hashes: unknown[]; times: unknown[]; files: unknown[] }> => {
    const { samples } = await lab.scrape();
    const info = [...samples.keys()].find((name) => name.startsWith('eco_egress_policy_info')) ?? '';
    const time = [...samples].find(([name]) => name.startsWith('eco_egress_config_loaded_timestamp_seconds')) ?? ['', 0];
    const { configuration } = await lab.status();
    const line = lab.log.findLast(({ configHash }) => configHash !== undefined);
    const explained = (await (await fetch(`${lab.adminUrl}/explain?client=pods&target=eco-sit.telus.internal:1&resolve=no`)).json()) as { configHash: string };
    return {
      hashes: [line?.['configHash'], /hash="(.+)"/.exec(info)?.[1], configuration.hash, explained.configHash],
      times: [line?.['loadedAt'], new Date(time[1] * 1000).toISOString(), configuration.loadedAt],
      files: [line?.['configFile'], /file="(.+)"/.exec(time[0])?.[1], configuration.file],
    };
  };
  const expected = (loaded: ReturnType<Lab['load']>): object => {
    if (!loaded.ok) throw new Error('faulty');
    return { hashes: Array<string>(4).fill(loaded.hash), times: Array<string>(3).fill(new Date(now).toISOString()), files: Array<string>(3).fill('/lab/egress.yaml') };
  };
  t.strictSame(await places(), expected(lab.load(() => {})));

  const slower = (draft: Draft): void => {
    draft.timeouts['connect'] = '7s';
  };
  const before = await places();
  now += 60_000;
  t.match(await lab.reload(slower), { result: 'applied', differences: [{ path: 'timeouts.connect', before: '10s', after: '7s' }] });
  const after = await places();
  t.strictSame(after, expected(lab.load(slower)));
  t.not(after.hashes[0], before.hashes[0], 'timeouts alone change the hash');
  t.match(await lab.logged(({ msg }) => msg === 'reload applied'), { changed: ['timeouts.connect'] });

  now += 60_000;
  await lab.reload((draft) => {
    draft.version = 7;
  });
  t.strictSame(await places(), after, 'a refused file changes none of it');

  now += 60_000;
  const outcome = await lab.reload((draft) => {
    slower(draft);
    draft.name = 'other';
    draft.limits['tunnels'] = 11;
  });
  t.match(outcome, { result: 'applied', needRestart: ['name'], differences: [{ path: 'limits.tunnels' }] });
  t.equal(outcome.result === 'applied' && outcome.differences.length, 1, 'what waits for a restart is no difference yet');
  t.strictSame((await places()).hashes, (expected(lab.load((draft) => {
    slower(draft);
    draft.limits['tunnels'] = 11;
  })) as { hashes: unknown[] }).hashes, 'the hash of what is in effect');
});

t.test('the content of a file that changed is a difference, and only its name is shown', async (t) => {
  const files: Record<string, string> = { '/lab/pass.txt': 'user:one' };
  const change = (draft: Draft): void => {
    draft.hops = { gw: { url: 'http://gw.example:3128', credentialsFile: 'pass.txt' } };
  };
  const lab = await startLab(t, { files, configure: change });
  files['/lab/pass.txt'] = 'user:two';
  const outcome = await lab.reload(change);
  t.match(outcome, { result: 'applied', differences: [{ path: '/lab/pass.txt' }] });
  t.notMatch(JSON.stringify(outcome), /user:(?:one|two)/);
});
