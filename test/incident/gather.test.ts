/** What a question reads of the proxy's own state, with counted sources in place of a proxy. */
import { createServer } from 'node:net';
import t from 'tap';
import { createTools } from '../../src/doctor/examination.ts';
import { takeTurns } from '../../src/turns.ts';
import { targetsOf } from '../../src/doctor/targets.ts';
import { Fault } from '../../src/errors.ts';
import { Incidents, type IncidentSources } from '../../src/incident/gather.ts';
import { tryRoute } from '../../src/incident/try-destination.ts';
import { evidenceOf } from '../support/incident-evidence.ts';
import { listen } from '../support/listen.ts';
import { configOf } from '../support/load-text.ts';
import { noSource } from '../support/no-source.ts';

t.test('what is the same for all destinations is read once, however many there are', async (t) => {
  const destinations = Array.from({ length: 200 }, (_, i) => `  d${i}: { hosts: "*.d${i}.example", ports: 443 }\n`).join('');
  const config = configOf(`version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\ndestinations:\n${destinations}rules: [{ clients: pods, destinations: d0 }]\n`);
  const read = { failures: 0, circuits: 0, ports: 0 };
  const count = <T>(what: keyof typeof read, value: T) => (): T => {
    read[what] += 1;
    return value;
  };
  const sources: IncidentSources = {
    instance: '-', version: '1', config: () => config, lookup: null, isSelf: () => false, resolveAsRequests: () => Promise.reject(new Error('x')), proxy: () => evidenceOf().proxy,
    source: { view: noSource, verify: () => Promise.reject(new Error('x')) },
    denials: () => [], failures: count('failures', []), health: () => null, took: () => null, circuits: count('circuits', []), ports: count('ports', { limit: null, destinations: new Map() }),
    history: { failedTo: () => [], answersFor: () => [] }, connections: () => [], now: Date.now,
  };
  t.match(await new Incidents(sources, () => 0).ask(null), { asked: null });
  t.strictSame(read, { failures: 2, circuits: 1, ports: 1 });
});

t.test('a route through parents that do not answer ends when all tries have to, and does not begin when its turn is too late', async (t) => {
  const port = await listen(t, createServer((socket) => void socket.on('error', () => {})));
  const parents = Array.from({ length: 8 }, (_, at) => `"http://127.0.0.${at + 1}:${port}"`).join(', ');
  const config = configOf(`version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\nhops: { h: { url: [${parents}], addresses: 127.0.0.0/8 } }\ndestinations: { eco: { hosts: eco.example, ports: 443, resolve: parent, via: h } }\nrules: [{ clients: pods, destinations: eco }]\n`);
  const [target] = targetsOf(config, [], () => false);
  if (target === undefined) throw new Error('there is no target');
  const limit = new AbortController();
  const tools = createTools({ config, timeouts: { resolve: 60_000, connect: 60_000, tls: 60_000 }, timeout: 60_000, signal: limit.signal });
  const over = new AbortController();
  const context = { tools, isSelf: () => false, now: Date.now, signal: over.signal, turns: takeTurns(1), clocks: [] };
  const [first, second] = [tryRoute(target, context), tryRoute(target, context)];
  over.abort();
  limit.abort(new Fault('connect-timeout', 'no result'));
  t.match(await first, [{ fault: { code: 'connect-timeout' } }]);
  t.strictSame(await second, []);
});
