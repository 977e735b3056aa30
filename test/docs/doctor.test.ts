/** docs/doctor.md names the checks and codes of the doctor, in their order, and no others. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { CLIENT_CHECKS } from '../../src/doctor/examine-client.ts';
import { PROXY_CHECKS } from '../../src/doctor/examine-proxy.ts';
import { DOCTOR_CODES } from '../../src/doctor/finding.ts';
import { FAULTS } from '../../src/errors.ts';
import { readDocRows } from '../support/doc-table.ts';

const PAGE = 'docs/doctor.md';
const ROWS = readDocRows(PAGE);
const CHECKS = [...PROXY_CHECKS, ...CLIENT_CHECKS].map(({ name }) => name);
const OPTIONS = ROWS.filter(([first = '']) => first.startsWith('--'));

t.test('every check has its row, in the order in which it is printed', async (t) => {
  const rows = ROWS.filter((cells) => cells.length === 2 && !OPTIONS.includes(cells));
  t.strictSame(rows.map(([name]) => name), CHECKS);
});

t.test('every code of the doctor alone has its row, with checks that exist', async (t) => {
  const rows = ROWS.filter((cells) => cells.length === 3);
  t.strictSame(rows.map(([code]) => code), [...DOCTOR_CODES]);
  for (const [code = '', checks = ''] of rows) {
    t.notOk(code in FAULTS, `${code} is no fault's`);
    for (const check of checks.split(', ')) t.ok(CHECKS.includes(check), `${code}: ${check}`);
  }
});

t.test('every option is one of the command, and every option of the command is there', async (t) => {
  const main = readFileSync(new URL('../../src/main.ts', import.meta.url), 'utf8');
  const [, own = ''] = /command\(\s*'doctor',([^]*?);\n/.exec(main) ?? [];
  const options = [...own.matchAll(/'(--[a-z]+)/g)].map(([, option]) => option);
  t.strictSame(OPTIONS.map(([option = '']) => option.split(' ')[0]).toSorted(), [...options, '--config'].filter((option) => option !== '--json').toSorted());
  t.match(own, /\.\.\.configOption/);
  t.match(readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8'), /`--json` prints/);
});
