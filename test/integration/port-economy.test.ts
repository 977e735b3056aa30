import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { type Lab, startLab } from '../support/lab.ts';

/** One GET through the gateway. */
function get(lab: Lab, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const req = request(`${lab.url}/eco/x`, { agent }, (res) => {
      res.resume();
      res.once('end', () => {
        resolve(res.statusCode ?? 0);
      });
      res.once('error', reject);
    });
    req.once('error', reject);
    req.end();
  });
}

/** Clients that all call at once; each has a connection of its own for its requests, one after the other. */
async function callFrom(lab: Lab, clients: number, requests: number): Promise<Map<number, number>> {
  const statuses = new Map<number, number>();
  await Promise.all(
    Array.from({ length: clients }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (let i = 0; i < requests; i += 1) {
        const status = await get(lab, agent);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
      agent.destroy();
    }),
  );
  return statuses;
}

t.test('10,000 gateway requests of 100 clients share few upstream connections', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      req.resume();
      res.end('ok');
    },
  });
  const began = performance.now();
  t.strictSame([...(await callFrom(lab, 100, 100))], [[200, 10_000]]);
  t.comment(`${lab.upstream.connections} connections, ${Math.round(performance.now() - began)} ms`);
  t.ok(lab.upstream.connections <= 16, `${lab.upstream.connections} upstream connections`);
});

t.test('an upstream that takes its time gets as many connections as it needs', async (t) => {
  // At 20 ms with 16 connections each request would wait for 60 ms at first, and soon for less than the 50 ms that decide.
  for (const [ms, clients, requests] of [
    [100, 100, 10],
    [20, 64, 30],
  ] as const) {
    const lab = await startLab(t, {
      onRequest: (req, res) => {
        req.resume();
        void delay(ms).then(() => {
          res.end('ok');
        });
      },
    });
    await callFrom(lab, clients, 1);
    const began = performance.now();
    t.strictSame([...(await callFrom(lab, clients, requests))], [[200, clients * requests]]);
    const took = performance.now() - began;
    t.comment(`${ms} ms: ${lab.upstream.connections} connections, ${Math.round(took)} ms`);
    // On a busy machine some clients are so late with their next request that nobody waits, and the pool need not grow to all of them.
    t.ok(lab.upstream.connections >= clients * 0.75 && lab.upstream.connections <= clients, `${ms} ms: ${lab.upstream.connections} connections for ${clients} clients`);
  }
});
