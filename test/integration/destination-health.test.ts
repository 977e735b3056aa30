/** How a destination is, as a state, wherever somebody looks; and what the access log says of it. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';

async function look(lab: Lab): Promise<{ last: unknown; view: Record<string, unknown>; warnings: readonly string[]; page: string; samples: ReadonlyMap<string, number> }> {
  const { destinations } = (await (await fetch(`${lab.adminUrl}/destinations`)).json()) as { destinations: Record<string, unknown>[] };
  const { warnings } = (await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { warnings: string[] };
  const view = destinations[0] ?? {};
  return { last: view['last'], view, warnings, page: await (await fetch(lab.adminUrl)).text(), samples: (await lab.scrape()).samples };
}

t.test('a partner that answers, says 500, answers again, and is gone', async (t) => {
  let status = 200;
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.writeHead(status, { connection: 'close' }).end('x');
    },
  });
  const ask = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  const outcome = (samples: ReadonlyMap<string, number>): (number | undefined)[] => ['ok', 'error', 'failed'].map((name) => samples.get(`eco_egress_destination_last_outcome{destination="eco",outcome="${name}"}`));
  const before = await look(lab);
  t.match(before, { last: null, warnings: { length: 0 } });
  t.strictSame(outcome(before.samples), [0, 0, 0]);

  t.equal(await ask(), 200);
  await lab.logged(({ upstreamStatus }) => upstreamStatus === 200);
  const well = await look(lab);
  t.match(well, { last: 'ok', view: { answers: { '2xx': 1 }, lastOk: String }, warnings: { length: 0 } });

  status = 500;
  t.equal(await ask(), 500);
  t.match(await lab.logged(({ upstreamStatus }) => upstreamStatus === 500), { code: 'ok', status: 500 });
  const ill = await look(lab);
  t.match(ill, { last: 'error', view: { answers: { '2xx': 1, '5xx': 1 }, lastError: { status: 500 } } });
  t.match(ill.warnings, [/^The latest request to eco was answered with a status of 5xx \(500 at .*the last one that succeeded was at /]);
  t.match(ill.page, '<code>answered with 5xx</code> 1');
  t.equal(ill.samples.get('eco_egress_upstream_responses_total{destination="eco",class="5xx"}'), 1);
  t.strictSame(outcome(ill.samples), [0, 1, 0]);

  status = 204;
  t.equal(await ask(), 204);
  await lab.logged(({ upstreamStatus }) => upstreamStatus === 204);
  t.match(await look(lab), { last: 'ok', warnings: { length: 0 } });

  lab.upstream.https.closeAllConnections();
  lab.upstream.https.close();
  await once(lab.upstream.https, 'close');
  t.equal(await ask(), 502);
  t.equal(await ask(), 502);
  const gone = await look(lab);
  t.match(gone, { last: 'failed', view: { inRow: 2, lastFailure: { code: 'connection-refused', detail: /127\.0\.0\.1/ }, failures: { 'connection-refused': 2 } } });
  t.match(gone.warnings, [/^The latest 2 requests to eco failed \(connection-refused at .*127\.0\.0\.1.*; the last one that succeeded was at /]);
  t.match(gone.page, 'connection-refused');
  t.strictSame(outcome(gone.samples), [0, 0, 1]);
  t.ok((gone.samples.get('eco_egress_destination_last_outcome_timestamp_seconds{destination="eco",outcome="failed"}') ?? 0) > 0);
  t.match(await lab.logged(({ code }) => code === 'connection-refused'), { upstreamAddress: '127.0.0.1' }, 'the address that was tried');
});

t.test('who holds tunnels, and from which local port', async (t) => {
  const lab = await startLab(t);
  const client = connect(lab.port, '127.0.0.1');
  t.teardown(() => client.destroy());
  const arrived = once(lab.upstream.http, 'connection') as Promise<[{ remotePort: number }]>;
  client.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  const [[{ remotePort }], [head]] = await Promise.all([arrived, once(client, 'data') as Promise<[Buffer]>]);
  t.match(head.toString(), /^HTTP\/1\.1 200 /);
  t.match(await (await fetch(`${lab.adminUrl}/tunnels`)).json(), {
    open: 1,
    byClient: [{ client: 'pods', tunnels: 1 }],
    oldest: [{ client: 'pods', clientAddress: '127.0.0.1', form: 'connect', host: ECO, port: lab.upstream.httpPort, destination: 'eco', upstreamAddress: '127.0.0.1', ageMs: Number, bytesSent: 0 }],
  });
  t.equal((await lab.scrape()).samples.get('eco_egress_client_tunnels{client="pods"}'), 1);
  t.match(await (await fetch(lab.adminUrl)).text(), '1 tunnel open: pods 1. The oldest:');
  t.match(await lab.status(), { tunnels: { open: 1, byClient: [{ client: 'pods', tunnels: 1 }], oldest: [{ client: 'pods', host: ECO }] } });
  t.match(await look(lab), { last: null }, 'that something listens there is no answer');
  client.destroy();
  t.match(await lab.logged(({ form }) => form === 'connect'), { localAddress: '127.0.0.1', localPort: remotePort });
  t.match(await (await fetch(`${lab.adminUrl}/tunnels`)).json(), { open: 0, oldest: { length: 0 } });
  t.equal((await lab.scrape()).samples.get('eco_egress_client_tunnels{client="pods"}'), 0);
});

t.test('no more tunnels are listed than fit', async (t) => {
  const lab = await startLab(t);
  const clients = Array.from({ length: 210 }, () => connect(lab.port, '127.0.0.1'));
  t.teardown(() => {
    for (const client of clients) client.destroy();
  });
  await Promise.all(
    clients.map(async (client) => {
      client.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await once(client, 'data');
    }),
  );
  const { open, oldest } = (await (await fetch(`${lab.adminUrl}/tunnels`)).json()) as { open: number; oldest: unknown[] };
  t.equal(open, 210);
  t.equal(oldest.length, 200);
});

t.test('a destination that gates readiness: three failures in a row, for a minute after the last', async (t) => {
  let passed = 0;
  const lab = await startLab(t, { configure: (draft) => void (draft.destinations.eco['gateReadiness'] = true), now: () => Date.now() + passed });
  const ready = async (): Promise<{ status: number; reasons: readonly string[] }> => {
    const response = await fetch(`${lab.adminUrl}/readyz`);
    const { reasons } = (await response.json()) as { reasons: readonly string[] };
    return { status: response.status, reasons };
  };
  lab.upstream.https.close();
  await once(lab.upstream.https, 'close');
  for (const expected of [200, 200, 503]) {
    t.equal((await fetch(`${lab.url}/eco/x`)).status, 502);
    t.equal((await ready()).status, expected);
  }
  t.match((await ready()).reasons, [/^The latest 3 requests to eco failed \(connection-refused at .*\)\.$/]);
  passed += 61_000;
  t.strictSame(await ready(), { status: 200, reasons: [] }, 'whoever is never asked would never be ready again');
  passed -= 61_000;
  await lab.reload((draft) => void (draft.destinations.eco['gateReadiness'] = false));
  t.equal((await ready()).status, 200, 'a reload takes it away');
});

t.test('tunnels to a partner that accepts connections: only what it sends, or an orderly end, is ok', async (t) => {
  let act: (socket: Socket) => void = () => {};
  const partner = createServer((socket) => {
    socket.on('error', () => {});
    act(socket);
  });
  const port = await listen(t, partner);
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.destinations.eco['gateReadiness'] = true;
      (draft.destinations.eco['ports'] as number[]).push(port);
      draft.timeouts['tunnelIdle'] = '1s';
    },
  });
  const open = async (): Promise<Socket> => {
    const client = connect(lab.port, '127.0.0.1');
    client.on('error', () => {});
    t.teardown(() => client.destroy());
    client.write(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(client, 'data');
    return client;
  };
  const health = async (): Promise<unknown[]> => {
    const { view } = await look(lab);
    return [view['last'], view['inRow'], (await fetch(`${lab.adminUrl}/readyz`)).status];
  };
  const tunnels = async (count: number): Promise<void> => {
    await lab.logged(() => lab.log.filter(({ form }) => form === 'connect').length === count);
  };

  let ended = 0;
  for (const [breaks, ready] of [['resetAndDestroy', 200], ['destroy', 200], ['silent', 503]] as const) {
    act = (socket) => socket.once('data', () => {
      if (breaks !== 'silent') socket[breaks]();
    });
    (await open()).write('a question');
    ended += 1;
    await tunnels(ended);
    t.strictSame(await health(), ['failed', ended, ready], breaks);
  }
  const silent = lab.log.findLast(({ form }) => form === 'connect');
  t.match(silent, { code: 'upstream-silent', closedBy: 'proxy', bytesSent: 10, bytesReceived: 0 });
  t.equal((await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="upstream-silent"}'), 1);

  // The dial succeeds, and the client has not sent anything yet.
  const asking = await open();
  t.strictSame(await health(), ['failed', 3, 503]);
  act = () => {};
  const speaking = connect(lab.port, '127.0.0.1');
  t.teardown(() => speaking.destroy());
  act = (socket) => socket.write('220 ready');
  speaking.write(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: x\r\n\r\n`);
  for (let seen = ''; !seen.includes('220 ready');) seen += String((await once(speaking, 'data'))[0]);
  t.strictSame(await health(), ['ok', 1, 200], 'while it is open');
  speaking.destroy();
  asking.destroy();

  act = (socket) => socket.once('data', () => socket.resetAndDestroy());
  (await open()).write('a question');
  await tunnels(ended + 3);
  t.match(await health(), ['failed', 1]);
  act = (socket) => socket.resume();
  (await open()).end('a line of a log');
  await tunnels(ended + 4);
  t.match(await health(), ['ok', 1], 'a partner that only takes');
});

t.test('the resolver fails, and expired addresses are in use: a gauge counts their names, and requests still pass', async (t) => {
  let works = true;
  const lab = await startLab(t, { lookup: async () => (works ? { addresses: ['127.0.0.1'], ttl: 1_000 } : Promise.reject(Object.assign(new Error('10.0.0.10:53: SERVFAIL'), { code: 'ESERVFAIL' }))) });
  const stale = async (): Promise<number | undefined> => (await lab.scrape()).samples.get('eco_egress_dns_stale_names');
  const open = async (): Promise<void> => {
    const client = connect(lab.port, '127.0.0.1');
    client.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
    t.match(String((await once(client, 'data'))[0]), /^HTTP\/1\.1 200 /);
    client.destroy();
  };
  await open();
  t.equal(await stale(), 0);
  works = false;
  await delay(1_100);
  t.equal(await stale(), 0, 'expired, but not in use');
  await open();
  t.equal(await stale(), 1);
  t.match((await look(lab)).warnings, [/^The resolver fails: the last known addresses of eco-sit\.telus\.internal are used, until /]);
});
