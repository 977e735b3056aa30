/** docs/port-economy.md: its figures follow from its formulas, its configuration loads, and Terraform's defaults are in its table. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { loadConfig } from '../../src/config/load.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { readDocRows } from '../support/doc-table.ts';

const PAGE = 'docs/port-economy.md';
const PORTS_OF_AN_ADDRESS = 65_536 - 1024;
const TIME_WAIT_S = 120;
const DURATIONS_S = [1, 60, 600];
const EXCHANGE_S = 0.2;

const page = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
const rows = readDocRows(PAGE).filter(([first = '']) => /^\d+$/.test(first)).map((row) => row.map(Number));
const capacity = rows.filter((row) => row.length === 6);
const loads = rows.filter((row) => row.length === 3);
const terraform = (file: string): string => readFileSync(new URL(`../../deploy/terraform/${file}`, import.meta.url), 'utf8');
const preset = (variable: string): number => Number(new RegExp(`variable "${variable}" \\{[^}]*?default += (\\d+)`).exec(terraform('variables.tf'))?.[1]);

t.test('what an address carries', async (t) => {
  t.equal(capacity.length, 6);
  for (const [ports = 0, ...cells] of capacity) {
    const rates = DURATIONS_S.map((seconds) => Number((ports / (TIME_WAIT_S + seconds)).toFixed(1)));
    t.strictSame(cells, [Math.floor(PORTS_OF_AN_ADDRESS / ports), ...rates, ports], `${ports} ports`);
  }
});

t.test('what a load takes', async (t) => {
  t.equal(loads.length, 5);
  for (const [perSecond = 0, ...cells] of loads) {
    // Little's law; a connection is taken whole.
    const taken = [TIME_WAIT_S + EXCHANGE_S, EXCHANGE_S].map((seconds) => Math.ceil(Number((perSecond * seconds).toFixed(6))));
    t.strictSame(cells, taken, `${perSecond} a second`);
  }
  const [, ports = '', perSecond = ''] = /One node of ([\d,]+) ports is out of ports at (\d+) requests/.exec(page) ?? [];
  t.equal(Math.floor(Number(ports.replace(',', '')) / (TIME_WAIT_S + EXCHANGE_S)), Number(perSecond));
});

t.test('the ports that Terraform gives are those that the page chooses', async (t) => {
  const nodes = preset('nodes_max') + preset('nodes_surge');
  const chosen = capacity.filter(([, fit = 0]) => fit >= nodes).map(([ports = 0]) => ports);
  t.equal(preset('ports_per_node'), Math.max(...chosen));
  t.equal(preset('time_wait_seconds'), TIME_WAIT_S);
  t.ok(page.includes(`Six nodes and one: ${Math.max(...chosen)}.`));
  t.ok(page.includes(`${Math.floor(PORTS_OF_AN_ADDRESS / (TIME_WAIT_S + 1))} a second with *d* = 1 s`));
  t.match(terraform('modules/port-plan/main.tf'), `ports_per_address = ${PORTS_OF_AN_ADDRESS}\n`);
});

t.test('the configuration loads, and is what the page says', async (t) => {
  const [block] = readDocBlocks(PAGE).filter(({ language }) => language === 'yaml');
  const loaded = loadConfig({ file: 'page.yaml', env: {}, readFile: () => `version: 1\n${block?.text ?? ''}` });
  t.match(loaded, { ok: true, config: { nat: { ports: preset('ports_per_node'), replicasPerNode: preset('replicas_per_node'), timeWait: TIME_WAIT_S * 1000 } } });
});
