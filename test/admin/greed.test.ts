/** Whatever somebody does to the admin port, probes get through, and it costs others next to nothing. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type AdminOptions, listenAdmin } from '../../src/admin/app.ts';
import type { AdminRefusal } from '../../src/telemetry/cells.ts';
import { createExposition } from '../support/exposition.ts';
import { startLab } from '../support/lab.ts';
import { NO_CONFIGURATION, NO_TRAFFIC } from '../support/no-configuration.ts';
import { NO_EXPLAINING } from '../support/no-explaining.ts';
import { noSource } from '../support/no-source.ts';
import { sumOf } from '../support/prometheus.ts';
import { askRaw, openWire } from '../support/wire.ts';

const GREEDY = '127.0.0.2';
const PROBE = 'GET /healthz HTTP/1.1\r\nHost: 10.8.0.1\r\nConnection: close\r\n\r\n';

interface OpenAdmin {
  readonly port: number;
  readonly refused: Map<AdminRefusal, number>;
}

async function openAdmin(t: Test, changes: Partial<AdminOptions> = {}): Promise<OpenAdmin> {
  const refused = new Map<AdminRefusal, number>();
  const admin = await listenAdmin({
    exposition: createExposition(),
    readiness: () => ({ ready: true, reasons: [], warnings: [] }),
    info: () => {
      throw new Error('not asked for');
    },
    explainer: NO_EXPLAINING, configuration: NO_CONFIGURATION, traffic: NO_TRAFFIC,
    sourceIp: noSource,
    onRefused: (reason) => refused.set(reason, (refused.get(reason) ?? 0) + 1),
    ...changes,
  }, { host: '0.0.0.0', port: 0 });
  t.teardown(() => admin.close());
  return { port: admin.address.port, refused };
}

/** Connections that say nothing, or only this. */
async function hold(t: Test, port: number, count: number, from: string, words = ''): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let left = count; left > 0; left -= 1) {
    const socket = connect({ host: '127.0.0.1', port, localAddress: from });
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    if (words !== '') socket.write(words);
    sockets.push(socket);
  }
  return sockets;
}

t.test('connections that ask for nothing make room: for others, and for their own', async (t) => {
  const { port, refused } = await openAdmin(t);
  for (const words of ['', 'GET /healthz HTTP/1.1\r\nX-Slow: ']) {
    const sockets = await hold(t, port, 300, GREEDY, words);
    for (const from of ['127.0.0.1', '127.0.0.3', GREEDY]) t.match(await askRaw(t, port, PROBE, from), /^HTTP\/1\.1 200 /, `${from}, while 300 connections wait with ${JSON.stringify(words)}`);
    for (const socket of sockets) socket.destroy();
  }
  t.ok((refused.get('evicted') ?? 0) >= 2 * (300 - 64), 'of one address 64 are kept');
});

t.test('many addresses with few connections each', async (t) => {
  const { port } = await openAdmin(t);
  for (let host = 1; host <= 150; host += 1) await hold(t, port, 2, `127.0.1.${host}`);
  for (const from of ['127.0.0.1', '127.0.1.1']) t.match(await askRaw(t, port, PROBE, from), /^HTTP\/1\.1 200 /, from);
});

t.test('answers that are not read: one address gets no more than its share, and others get through', async (t) => {
  const endless: AdminOptions['exposition'] = {
    contentType: 'text/plain',
    async *slices() {
      for (;;) yield 'x'.repeat(65_536);
    },
  };
  const { port, refused } = await openAdmin(t, { exposition: endless });
  const ask = 'GET /metrics HTTP/1.1\r\nHost: 10.8.0.1\r\n\r\n';
  for (const from of [GREEDY, '127.0.0.3', '127.0.0.4', '127.0.0.5']) {
    const sockets = await hold(t, port, 64, from, ask);
    for (const socket of sockets) socket.pause();
    // Each is being answered once its head has come.
    await Promise.all(sockets.map((socket) => once(socket, 'readable')));
  }
  t.match(await askRaw(t, port, PROBE, GREEDY), /^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n/, 'one that has its share');
  t.match(await askRaw(t, port, PROBE, '127.0.0.1'), /^HTTP\/1\.1 200 /);
  t.ok((refused.get('connections') ?? 0) >= 1);
  t.ok((refused.get('evicted') ?? 0) >= 1);
});

t.test('who was refused is gone soon, whether silent or sending on', async (t) => {
  const { port } = await openAdmin(t, { requestTimeout: 60_000 });
  const [talker] = await hold(t, port, 1, GREEDY, 'CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n');
  // It goes on although the port has said its last word.
  if (talker !== undefined) Object.assign(talker, { allowHalfOpen: true }).resume();
  const talk = setInterval(() => talker?.write('x'), 100);
  t.teardown(() => {
    clearInterval(talk);
  });
  const gone = new Promise((resolve) => talker?.once('close', () => {
    resolve('gone');
  }));
  t.equal(await Promise.race([gone, delay(10_000).then(() => 'there')]), 'gone');

  const answering = await hold(t, port, 64, GREEDY, 'POST /reload HTTP/1.1\r\nHost: 10.8.0.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n');
  await Promise.all(answering.map((socket) => once(socket, 'data')));
  await hold(t, port, 32, GREEDY);
  t.equal(await askRaw(t, port, PROBE, GREEDY).catch(() => ''), '', 'no more than these are answered');
  const answered = async (): Promise<string> => {
    for (;;) {
      const answer = await askRaw(t, port, PROBE, GREEDY).catch(() => '');
      if (answer !== '') return answer;
      await delay(50);
    }
  };
  t.match(await Promise.race([answered(), delay(10_000).then(() => 'none')]), /^HTTP\/1\.1 503 /, 'they have made room for the next answer');
});

t.test('an answer is made as it is read', async (t) => {
  let made = 0;
  const large: AdminOptions['exposition'] = {
    contentType: 'text/plain',
    async *slices() {
      for (let slice = 0; slice < 1_000; slice += 1) {
        made += 1;
        yield 'x'.repeat(65_536);
      }
    },
  };
  const { port } = await openAdmin(t, { exposition: large });
  const [socket] = await hold(t, port, 1, GREEDY, 'GET /metrics HTTP/1.1\r\nHost: 10.8.0.1\r\n\r\n');
  if (socket === undefined) throw new Error('no connection');
  socket.pause();
  await once(socket, 'readable');
  // It stops by itself when the buffers of both ends are full.
  for (let before = -1; made !== before; ) {
    before = made;
    for (let turn = 0; turn < 200; turn += 1) await nextTurn();
  }
  t.ok(made < 500, `${made} of 1,000 slices`);
});

t.test('requests before the answer of the one ahead: the connection is cut, whatever is in it', async (t) => {
  let scrapes = 0;
  const { port, refused } = await openAdmin(t, {
    exposition: {
      contentType: 'text/plain',
      async *slices() {
        scrapes += 1;
        await nextTurn();
        yield 'x';
      },
    },
  });
  const wire = await openWire(t, port, { from: GREEDY });
  wire.send('GET /metrics HTTP/1.1\r\nHost: 10.8.0.1\r\n\r\n'.repeat(5_000));
  await wire.ended;
  t.equal(scrapes, 1);
  t.equal(refused.get('pipelined'), 1);
  const polite = await openWire(t, port);
  for (let round = 1; round <= 20; round += 1) {
    polite.send('GET /metrics HTTP/1.1\r\nHost: 10.8.0.1\r\n\r\n');
    await polite.until(new RegExp(`(?:0\\r\\n\\r\\n[^]*){${round}}`));
  }
  t.equal(scrapes, 21, 'one after the other on one connection');
});

t.test('what needs an answer at once, behind a request that is being answered: the connection is cut, and nothing is written into that answer', async (t) => {
  for (const behind of ['CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n', '\u0016\u0003\u0001garbage\r\n\r\n', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`]) {
    const release = Promise.withResolvers<undefined>();
    const { port, refused } = await openAdmin(t, {
      exposition: {
        contentType: 'text/plain',
        async *slices() {
          yield 'begins';
          await release.promise;
          yield 'ends';
        },
      },
    });
    const wire = await openWire(t, port, { from: GREEDY });
    wire.send('GET /metrics HTTP/1.1\r\nHost: 10.8.0.1\r\n\r\n');
    await wire.until('begins');
    wire.send(behind);
    const { heard } = await wire.ended;
    release.resolve(undefined);
    t.equal(heard.match(/HTTP\/1\.1 /g)?.length, 1, behind.slice(0, 10));
    t.equal(refused.get('pipelined'), 1);
  }
});

t.test('questions: two of one address and twenty in all; the others get Retry-After', async (t) => {
  const release = Promise.withResolvers<undefined>();
  const { port, refused } = await openAdmin(t, {
    explainer: {
      ...NO_EXPLAINING,
      explain: async () => {
        await release.promise;
        return 'a question';
      },
    },
  });
  const ask = 'GET /explain?client=10.8.0.1&target=x:443 HTTP/1.1\r\nHost: 10.8.0.1\r\nConnection: close\r\n\r\n';
  const waiting = [];
  for (let host = 1; host <= 10; host += 1) {
    for (let count = 0; count < 2; count += 1) {
      const wire = await openWire(t, port, { from: `127.0.1.${host}` });
      wire.send(ask);
      waiting.push(wire);
    }
  }
  t.match(await askRaw(t, port, PROBE), /^HTTP\/1\.1 200 /, 'probes are answered meanwhile, and after what was sent before');
  for (const [from, why] of [['127.0.1.1', 'the third of one'], ['127.0.0.1', 'the first of another']] as const) t.match(await askRaw(t, port, ask, from), /^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n/i, why);
  t.equal(refused.get('busy'), 2);
  release.resolve(undefined);
  for (const { ended } of waiting) t.match((await ended).heard, /^HTTP\/1\.1 400 /);
});

t.test('by another name and from another site: only whether it is alive, and ready', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.listeners['admin'] = { address: '127.0.0.1:0', hosts: ['egress.example.com'] };
    },
  });
  const { port } = lab.service.addresses.admin;
  const get = (path: string, fields: string): Promise<string> => askRaw(t, port, `GET ${path} HTTP/1.1\r\n${fields}Connection: close\r\n\r\n`);
  const stranger = 'Host: evil.example:9090\r\n';
  const crossSite = 'Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n';
  for (const path of ['/', '/metrics', '/denials', '/explain?client=127.0.0.1&target=x:443', '/explain/some-id', '/source-ip', '/nothing']) {
    t.match(await get(path, stranger), /^HTTP\/1\.1 421 [^]*"detail":"[^"]*listeners\.admin\.hosts/, path);
    t.match(await get(path, crossSite), /^HTTP\/1\.1 403 /, path);
    t.notMatch(await get(path, 'Host: Egress.Example.com\r\n'), /^HTTP\/1\.1 4(?:21|03) /, path);
  }
  for (const path of ['/healthz', '/readyz']) {
    for (const fields of [stranger, crossSite]) t.match(await get(path, fields), /^HTTP\/1\.1 200 /, path);
  }
  await lab.reload((draft) => {
    draft.version = 7;
  });
  t.match(await get('/readyz', 'Host: localhost\r\n'), /"warnings":\["[^]*egress\.yaml/, 'who may know, is told why');
  for (const fields of [stranger, crossSite]) t.match(await get('/readyz', fields), /\{"status":"ready"\}$/);
  const scrape = await lab.scrape();
  t.ok(sumOf(scrape, 'eco_egress_admin_refused_total', { reason: 'host' }) >= 7);
  t.ok(sumOf(scrape, 'eco_egress_admin_refused_total', { reason: 'cross-site' }) >= 7);
  const lines = lab.log.filter(({ msg }) => msg?.startsWith('the admin port refused a request') === true);
  t.strictSame(lines.map((line) => [line['level'], line['address'], line['count']]), [['warn', '127.0.0.1', 1], ['warn', '127.0.0.1', 1]], 'one line for each reason');
});

t.test('the port of a running proxy counts and logs what it turns away, a line a minute', async (t) => {
  const lab = await startLab(t);
  const { port } = lab.service.addresses.admin;
  await hold(t, port, 150, '127.0.0.1');
  t.ok(sumOf(await lab.scrape(), 'eco_egress_admin_refused_total', { reason: 'evicted' }) >= 150 - 64);
  t.equal(lab.log.filter(({ msg }) => msg === 'the admin port closed an idle connection to make room for another').length, 1);
});
