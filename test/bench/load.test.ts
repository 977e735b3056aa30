/** How the benchmarks ask and count where things go wrong. */
import t from 'tap';
import { createServer } from 'node:http';
import { askSteadily } from '../../bench/load/ask-steadily.ts';
import { overloadKey, tabulateOverload } from '../../bench/report/overload.ts';
import { listen } from '../support/listen.ts';

t.test('a request whose answer has begun and does not end has failed once', async (t) => {
  const stalling = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': 10 }).write('begins');
  });
  t.teardown(() => {
    stalling.closeAllConnections();
  });
  const proxy = await listen(t, stalling);
  t.equal((await askSteadily({ proxy, path: '/', from: '127.0.0.1', rate: 20, patience: 200 }, 0.25)).failed, 5);
});

t.test('the table of overload tells what was asked for, also where a later round found a higher capacity', async (t) => {
  const run = { ok: 90, refused: 0, failed: 0, unanswered: 0, p50: 1, p99: 2, most: 3, waited: 0 };
  const table = tabulateOverload(['on'], [1], new Map([[overloadKey('on', 1), [100, 100, 200].map((offered) => ({ ...run, offered }))]]), 200);
  t.match(table, /\| on, 1× *\| *100 \| *90\.0 \| *45\.0 \|/);
});
