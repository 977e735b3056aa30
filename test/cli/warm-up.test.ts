/** Warming up before a start: it is done in its time, leaves nothing behind, and nobody sees it. */
import t from 'tap';
import { warmUp } from '../../src/cli/warm-up.ts';
import { untilSockets } from '../support/open-sockets.ts';
import { baseDraft } from '../support/lab.ts';
import { readScrape, sumOf } from '../support/prometheus.ts';
import { portsOf, serve } from '../support/serve.ts';

/** Of 4 connections, 50 rounds each: 20 exchanges, 20 forwarded ones, and two answers and one in a tunnel. */
const ALL = 4 * 50 * (20 + 20 + 2 + 1);

t.test('every form has its requests, and nothing is left open', async (t) => {
  t.equal(await warmUp(60_000), ALL);
  await untilSockets(0);
  t.ok((await warmUp(100)) < ALL, 'no more than there is time for');
  t.equal(await warmUp(0), 0);
  await untilSockets(0);
});

t.test('a proxy that has warmed up has served no client', async (t) => {
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {}, gateway: undefined });
  const served = serve(t, { config: draft });
  const { admin } = await portsOf(served);
  const scrape = readScrape(await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text());
  for (const name of ['eco_egress_requests_total', 'eco_egress_denials_total', 'eco_egress_client_connections']) t.equal(sumOf(scrape, name), 0, name);
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0, stderr: '' });
  t.strictSame(served.log.filter(({ requestId }) => requestId !== undefined), []);
});
