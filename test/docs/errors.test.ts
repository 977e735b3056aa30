/** docs/errors.md and the table in src/errors.ts name the same codes, and the page shows a refusal as it is sent. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { Fault, FAULTS, type FaultCode } from '../../src/errors.ts';
import { refusalText } from '../../src/listeners/refuse.ts';
import { readDocRows } from '../support/doc-table.ts';

const PAGE = 'docs/errors.md';
const TEXT = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
const ROWS = readDocRows(PAGE);
/** Code, status, Proxy-Status error, blame, when, what to do. */
const CODES = ROWS.filter((cells) => cells.length === 6);
/** Blame, first words of the reason phrase, who. */
const BLAMES = new Map(ROWS.filter((cells) => cells.length === 3).map(([blame = '', words = '']) => [blame, words]));

t.test('every code has one row, and every row a code', async (t) => {
  t.ok(CODES.length > 30);
  t.strictSame(CODES.map(([code]) => code).toSorted(), Object.keys(FAULTS).toSorted());
});

t.test('every row tells what is sent', async (t) => {
  for (const [code = '', status, proxyError, blame, when, what] of CODES) {
    const kind = FAULTS[code as FaultCode];
    t.strictSame({ status, proxyError, blame }, { status: String(kind.status), proxyError: kind.proxyError, blame: kind.blame }, code);
    t.ok(when, `${code}: when it happens`);
    t.ok(what, `${code}: what to do`);
  }
});

t.test('the reason phrase begins with the words of its blame', async (t) => {
  for (const code of Object.keys(FAULTS) as FaultCode[]) {
    const { blame, status } = FAULTS[code];
    t.ok(refusalText(new Fault(code, 'x'), 'id', 'eco-egress').startsWith(`HTTP/1.1 ${status} ${BLAMES.get(blame) ?? '?'}: ${code}\r\n`), code);
  }
});

t.test('the refusal shown is the refusal sent', async (t) => {
  const [, shown = ''] = /```http\n(.*?)```/s.exec(TEXT) ?? [];
  const fault = new Fault('host-not-allowed', 'The host evil.example is in no destination', {
    remedy: 'add a destination with evil.example and port 443, and a rule that lets dynatrace-sit use it',
  });
  t.equal(shown, refusalText(fault, '5f1c0a9b3d2e-00000001b', 'eco-egress').replaceAll('\r\n', '\n'));
});
