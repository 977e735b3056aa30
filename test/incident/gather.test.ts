/** What a question reads of the proxy's own state, with counted sources in place of a proxy. */
import t from 'tap';
import { Incidents, type IncidentSources } from '../../src/incident/gather.ts';
import { evidenceOf } from '../support/incident-evidence.ts';
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
