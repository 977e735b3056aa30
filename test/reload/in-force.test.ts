/** The configuration in force after many reloads, while a change waits for a restart. */
import t from 'tap';
import type { Config } from '../../src/config/config.ts';
import type { Loaded } from '../../src/config/load.ts';
import type { Setting } from '../../src/config/settings.ts';
import { describeInForce, succeed } from '../../src/reload/in-force.ts';

const CONFIG = { clients: [] } as unknown as Config;

const loadedOf = (name: string, mode: string): Loaded => ({
  ok: true,
  config: CONFIG,
  file: 'egress.yaml',
  text: '',
  hash: '0',
  warnings: [],
  warningsAt: () => [], nextWarningsAfter: () => Infinity,
  settings: () => Object.entries({ name, mode }).map(([path, value]): Setting => ({ path, value, origin: { from: 'file', line: 1, variables: [] } })),
  contents: new Map(),
});

t.test('a change that waits for a restart does not keep the configurations of all reloads since', async (t) => {
  let inForce = describeInForce(CONFIG, loadedOf('first', 'enforce'), 0);
  for (let reload = 1; reload <= 20_000; reload += 1) inForce = succeed(inForce, CONFIG, loadedOf('second', `mode-${reload}`), ['name'], reload);
  t.strictSame(inForce.settings().map(({ path, value }) => [path, value]), [['mode', 'mode-20000'], ['name', 'first']]);
});
