/**
 * What a request that is over leaves in V8's old generation. Only a collection
 * of the whole heap takes it away, and everybody waits for that: so it must be
 * next to nothing (docs/decisions/0120-buffers-and-sets.md).
 */
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import t from 'tap';
import { startChildProxy } from '../support/child-proxy.ts';
import { ECO, labCertificates, startUpstream } from '../support/lab.ts';

/** Small collections of the young generation, and few requests at once: what is under way during two of them grows old, and is no fault. */
const YOUNG = ['--max-semi-space-size=4'];
const AT_ONCE = 2;
const BATCH = 1_000;
const BATCHES = 5;

t.setTimeout(300_000);

t.test('a request that is over leaves next to nothing in the old generation', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, (_, response) => {
    response.end('ok');
  });
  const proxy = await startChildProxy({
    directory: t.testdir(),
    ports: { https: upstream.httpsPort, http: upstream.httpPort },
    flags: YOUNG,
    onLine: () => {},
    // The ring of remembered decisions is to be full soon.
    configure: (draft) => Object.assign(draft, { reload: { watch: false, remember: 10 } }),
  });
  t.teardown(() => proxy.close());

  /** Bytes for each operation, the median of several batches: in one of them the whole heap may have been collected. */
  const grown = async (operate: (count: number) => Promise<void>): Promise<number> => {
    await operate(2 * BATCH);
    const all: number[] = [];
    let before = await proxy.oldBytes();
    for (let batch = 0; batch < BATCHES; batch += 1) {
      await operate(BATCH);
      const after = await proxy.oldBytes();
      all.push((after - before) / BATCH);
      before = after;
    }
    t.comment(`bytes each: ${all.map(Math.round).join(' ')}`);
    return all.toSorted((a, b) => a - b)[BATCHES >> 1] ?? NaN;
  };
  const shared = async (count: number, one: () => Promise<void>): Promise<void> => {
    const repeat = async (): Promise<void> => {
      for (let done = 0; done < count / AT_ONCE; done += 1) await one();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, repeat));
  };

  const agent = new Agent({ keepAlive: true });
  t.teardown(() => {
    agent.destroy();
  });
  const exchanges = (path: string, host: string) => (count: number): Promise<void> =>
    shared(count, async () => {
      const [response] = (await once(get({ agent, port: proxy.port, path, headers: { host } }), 'response')) as [IncomingMessage];
      if ((await textOf(response)) !== 'ok') throw new Error(`status ${String(response.statusCode)}`);
    });
  const gateway = await grown(exchanges('/eco/api', 'proxy.internal'));
  t.ok(gateway < 90, `${gateway} bytes for each gateway GET`);
  const forward = await grown(exchanges(`http://${ECO}:${upstream.httpPort}/api`, `${ECO}:${upstream.httpPort}`));
  t.ok(forward < 90, `${forward} bytes for each forward GET`);
});
