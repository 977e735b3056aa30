/** `/config`: what is in force, after reloads too, without secrets. */
import t from 'tap';
import { startLab } from '../support/lab.ts';

/** Of nobody's password. */
const HASH = `$scrypt$ln=15,r=8,p=1$${'a'.repeat(21)}A$${'b'.repeat(42)}A`;

interface Shown {
  readonly file: string;
  readonly hash: string;
  readonly loadedAt: string;
  readonly warnings: readonly string[];
  readonly settings: readonly { readonly path: string; readonly value: unknown; readonly origin: { readonly from: string; readonly line: number | null } }[];
}

t.test('what is in force, with its origin', async (t) => {
  const files = { '/lab/pass.txt': 'user:hunter22' };
  const lab = await startLab(t, {
    files,
    configure: (draft) => {
      draft.mode = 'report';
      draft.clients['people'] = { basic: [{ user: 'alice', hash: HASH }] };
      draft.rules.push({ clients: ['people'], destinations: ['eco'] });
      draft.hops = { gw: { url: 'http://gw.example:3128', credentialsFile: 'pass.txt' } };
    },
  });
  const show = async (): Promise<Shown> => (await (await fetch(`${lab.adminUrl}/config`)).json()) as Shown;
  const shown = await show();
  const find = ({ settings }: Shown, path: string): unknown => settings.find((setting) => setting.path === path);
  t.match(shown, { file: '/lab/egress.yaml', hash: /^[0-9a-f]{16}$/, warnings: [/Report mode/] });
  t.match(find(shown, 'mode'), { value: 'report', origin: { from: 'file', line: Number } });
  t.match(find(shown, 'timeouts.connect'), { value: '10s', origin: { from: 'default', line: null } });
  t.match(find(shown, 'hops.gw.credentialsFile'), { value: 'pass.txt' });
  t.match(find(shown, 'clients.people.basic[0].user'), { value: 'alice' });
  t.match(find(shown, 'clients.people.basic[0].hash'), { value: '(hidden)' });
  t.notMatch(JSON.stringify(shown), /hunter22|bbbb/);

  await lab.reload((draft) => {
    draft.name = 'other';
    draft.timeouts['connect'] = '7s';
  });
  const after = await show();
  t.match(find(after, 'timeouts.connect'), { value: '7s' });
  t.match(find(after, 'name'), { value: 'eco-egress' }, 'what waits for the next start is not in force');
  t.not(after.hash, shown.hash);
});

t.test('a configuration that came from no file cannot be loaded again', async (t) => {
  const lab = await startLab(t);
  t.match(await (await fetch(`${lab.adminUrl}/reload`, { method: 'POST' })).json(), { status: 404, title: 'There is no file to load' });
});
