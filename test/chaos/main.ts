/**
 * The chaos suite: a network of two replicas, a partner with two addresses, a
 * parent proxy, a resolver and clients that work all the time; one fault after
 * another, and what the clients saw of it. docs/chaos.md
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ParseArgsConfig } from 'node:util';
import { beginLab } from '../lab/command.ts';
import { findObstacle } from '../lab/obstacle.ts';
import { chooseByName, leave, readCount, readOptions } from '../support/command-line.ts';
import { askBlindly, type BlindResult, describeBlind, withoutBlindColumn, writeBlindColumn } from './blind.ts';
import { CHAOS_FAULTS } from './faults.ts';
import { PROGRAMS } from './replica.ts';
import { restartInTurn } from './restarts.ts';
import { type FaultResult, runFault } from './run-fault.ts';
import { setStage } from './stage.ts';
import { formatRestarts, formatTable, mergeTable } from './table.ts';

const USAGE = `npm run chaos -- [--only TEXT] [--quick] [--restarts N] [--write] [--required]
  --only TEXT  only faults with that in their name
  --quick      one of each group, and two restarts: some two minutes
  --restarts N restart the replicas in turn, N times, in place of the faults
  --blind      ask doctor --incident during each fault, and compare whom it names
  --write      write the results into docs/chaos.md; with --only, those rows alone
  --required   where the network cannot be built, fail instead of doing nothing
`;
const OPTIONS = {
  only: { type: 'string', default: '' },
  quick: { type: 'boolean', default: false },
  restarts: { type: 'string', default: '0' },
  blind: { type: 'boolean', default: false },
  write: { type: 'boolean', default: false },
  required: { type: 'boolean', default: false },
} as const satisfies ParseArgsConfig['options'];
/** One for the partner's network, its servers, names, the replicas and the policy. */
const QUICK = new Set(['address-refuses', 'partner-resets', 'resolver-silent', 'replica-restarted', 'policy-broken']);

/** Tunnels of one client while replicas are restarted: as many as show how reconnects are spread. */
const TUNNELS = 100;
const QUICK_RESTARTS = 2;

const { only, quick, blind, write, required, ...more } = readOptions(OPTIONS, USAGE);
const restarts = readCount('--restarts', more.restarts, USAGE, 0);
const faults = chooseByName(CHAOS_FAULTS.filter(({ name }) => !quick || QUICK.has(name)), only, ({ name }) => name, USAGE);
const obstacle = findObstacle(PROGRAMS);
if (obstacle !== null) leave(`The network was not built: ${obstacle}\n`, required ? 1 : 0);

beginLab();

const stage = await setStage(restarts > 0 || quick ? TUNNELS : undefined);
const results: FaultResult[] = [];
const named: BlindResult[] = [];
for (const fault of restarts > 0 ? [] : faults) {
  const result = await runFault(stage, fault, async () => {
    if (blind) named.push(await askBlindly(stage, fault.name));
  });
  results.push(result);
  const { problems, calls, failures, namedAfter, shownAfter, alerts, healedAfter } = result;
  const failed = failures.map(([outcome, count]) => `${outcome} ${count}`).join(', ');
  process.stdout.write(`${problems.length === 0 ? '✓' : '✗'} ${fault.name}: ${calls} calls, ${failed === '' ? 'none failed' : failed}${namedAfter === null ? '' : `; logged after ${namedAfter.toFixed(1)} s`}${shownAfter === null ? '' : `; on the page after ${shownAfter.toFixed(1)} s`}${alerts === null || alerts.length === 0 ? '' : `; ${alerts.join(', ')}`}${healedAfter === null ? '' : `; healed after ${healedAfter.toFixed(1)} s`}\n`);
  for (const problem of problems) process.stdout.write(`    ${problem}\n`);
  for (const answer of named.slice(-1)) process.stdout.write(describeBlind(answer));
}
const inTurn = restarts > 0 ? restarts : quick && only === '' ? QUICK_RESTARTS : 0;
const restarted = inTurn === 0 ? null : await restartInTurn(stage, inTurn, (text) => process.stdout.write(`  ${text}\n`));
if (restarted !== null) {
  const { problems, ...seen } = restarted;
  process.stdout.write(`${problems.length === 0 ? '✓' : '✗'} ${inTurn} restarts: ${JSON.stringify(seen)}\n`);
  for (const problem of problems) process.stdout.write(`    ${problem}\n`);
}
if (write) {
  const page = new URL('../../docs/chaos.md', import.meta.url);
  const before = readFileSync(page, 'utf8');
  // A fault that lasts until the question is answered says nothing of how soon all is well.
  if (results.length > 0 && !blind) writePart('table', (rows) => mergeTable(withoutBlindColumn(rows), formatTable(results)));
  if (results.length > 0) writeBlindColumn(page, named, before);
  if (restarted !== null) writePart('restarts', () => formatRestarts(restarted));
}
if (blind) process.stdout.write(`${named.filter(({ isRight }) => isRight).length} of ${named.length} named rightly, ${named.filter(({ isAccusation }) => isAccusation).length} accusations of the partner\n`);
const failed = [...results, ...(restarted === null ? [] : [restarted])].filter(({ problems }) => problems.length > 0).length;
const accused = named.filter(({ isAccusation }) => isAccusation).length;
leave(`${results.length} faults${inTurn === 0 ? '' : ` and ${inTurn} restarts`}, ${failed === 0 ? 'all as they should be' : `${failed} not as they should be`}\n`, failed + accused === 0 ? 0 : 1);

/** Between two marks of the page. */
function writePart(name: string, rewrite: (before: string) => string): void {
  const page = new URL('../../docs/chaos.md', import.meta.url);
  writeFileSync(page, readFileSync(page, 'utf8').replace(new RegExp(`(<!-- ${name} -->\n)([^]*)(<!-- end of ${name} -->)`), (_all, begin: string, before: string, end: string) => `${begin}${rewrite(before)}${end}`));
}
