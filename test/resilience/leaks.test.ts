/** Broken requests of every kind, thousands of them: timers, sockets and memory are afterwards what they were before. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { bytesInUse } from '../support/memory.ts';
import { between, seeded } from '../support/random.ts';

const TIMES = process.env['CI'] === undefined ? 2000 : 10_000;
const AT_ONCE = 20;

t.setTimeout(600_000);

const KINDS: readonly ((lab: Lab) => string)[] = [
  () => 'GET',
  () => '\x16\x03\x01',
  () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  () => 'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n',
  () => 'GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n',
  (lab) => `GET ${url(lab)}ok HTTP/1.1\r\nHost: x`,
  (lab) => `GET ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\nConnection: close\r\n\r\n`,
  (lab) => `GET ${url(lab)}never HTTP/1.1\r\nHost: ${host(lab)}\r\n\r\n`,
  (lab) => `GET ${url(lab)}cut HTTP/1.1\r\nHost: ${host(lab)}\r\nConnection: close\r\n\r\n`,
  (lab) => `GET ${url(lab)}half HTTP/1.1\r\nHost: ${host(lab)}\r\nConnection: close\r\n\r\n`,
  (lab) => `POST ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\nContent-Length: 10\r\n\r\nhalf`,
  (lab) => `POST ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n`,
  (lab) => `POST ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\nContent-Length: 3\r\n\r\nabc\0garbage`,
  (lab) => `POST ${url(lab)}never HTTP/1.1\r\nHost: ${host(lab)}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
  (lab) => `POST ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n`,
  () => 'POST /eco/ok HTTP/1.1\r\nHost: x\r\nExpect: x\r\nContent-Length: 10\r\n\r\n',
  () => 'GET /eco/ok HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  () => 'GET /eco/never HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  (lab) => `CONNECT ${host(lab)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  (lab) => `CONNECT ${host(lab)} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  () => `CONNECT ${ECO}:1 HTTP/1.1\r\nHost: x\r\n\r\n`,
  (lab) => `GET ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\n\r\nGET ${url(lab)}never HTTP/1.1\r\nHost: ${host(lab)}\r\n\r\nCONNECT ${host(lab)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  (lab) => `GET ${url(lab)}ok HTTP/1.1\r\nHost: ${host(lab)}\r\n\r\n`.repeat(5),
];

const host = (lab: Lab): string => `${ECO}:${lab.upstream.httpPort}`;
const url = (lab: Lab): string => `http://${host(lab)}/`;

/** What keeps a process busy, by kind; streams of this test's own output are always there. */
function resources(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

t.test(`${TIMES} broken requests leave nothing behind`, async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.timeouts, { body: '2s', responseHeaders: '2s', requestHeaders: '2s', upstreamKeepAlive: '500ms', tunnelIdle: '2s', keepAlive: '1s' });
      Object.assign(draft.limits, { upstreamConnections: 200 });
    },
    onRequest: (req, res) => {
      // What the partner keeps of requests is not the proxy's.
      lab.upstream.requests.length = 0;
      if (req.url === '/never') return;
      if (req.url === '/cut') res.destroy();
      else if (req.url === '/half') {
        res.writeHead(200, { 'Content-Length': '10' });
        res.write('half', () => res.destroy());
      } else {
        req.resume();
        res.end('ok');
      }
    },
  });
  const random = seeded(7);
  const one = async (i: number): Promise<void> => {
    const text = KINDS[i % KINDS.length]?.(lab) ?? '';
    const socket = connect({ host: '127.0.0.1', port: lab.port, noDelay: true });
    socket.on('error', () => {});
    socket.resume();
    await once(socket, 'connect');
    socket.write(text.slice(0, random() < 0.2 ? between(random, 1, text.length) : text.length), 'latin1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await Promise.race([closed, delay(between(random, 0, 60))]);
    if (random() < 0.5) socket.resetAndDestroy();
    else socket.destroy();
    await closed;
  };
  const many = async (count: number): Promise<void> => {
    let next = 0;
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (next < count) {
          next += 1;
          await one(next);
        }
      }),
    );
  };
  /** When nothing is under way any more; a leak runs into the time limit of the file, and what is left is told. */
  const quiet = async (): Promise<void> => {
    const end = performance.now() + 30_000;
    for (;;) {
      const { samples } = await lab.scrape();
      const open = [...samples].filter(([name, value]) => value > 0 && /^eco_egress_(?:client_connections|tunnels_active|exchanges_active|upstream_connections)\b/.test(name));
      if (open.length === 0) break;
      if (performance.now() > end) {
        t.fail(`still there after 30 s of quiet: ${open.map(([name, value]) => `${name} ${value}`).join(', ')}`);
        break;
      }
      await delay(100);
    }
    // The scrape's own connection, and clocks of what has just ended.
    await delay(3000);
  };
  await many(KINDS.length * 20);
  await quiet();
  const [before, bytes] = [resources(), bytesInUse()];
  const lines = lab.log.length;
  await many(TIMES);
  await quiet();
  const after = resources();
  const logged = lab.log.length - lines;
  for (const kind of ['Timeout', 'Immediate', 'TCPSocketWrap', 'TLSWrap', 'TCPServerWrap', 'GetAddrInfoReqWrap']) {
    t.ok((after.get(kind) ?? 0) <= (before.get(kind) ?? 0) + 2, `${kind}: ${before.get(kind) ?? 0} before, ${after.get(kind) ?? 0} after`);
  }
  t.same(lab.log.filter(({ code }) => code === 'internal'), [], 'nothing was a surprise');
  // The lab keeps the log: a line is a kilobyte or two.
  const grown = bytesInUse() - bytes - logged * 2500;
  t.ok(grown < 4 * 1024 * 1024, `${Math.round(grown / 1024)} KiB more in use, beside ${logged} lines of log`);
});
