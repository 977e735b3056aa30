/** The address that was dialled is in the log where the dial failed, too: in every form, and under each profile's name for it. */
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import type { LogConfig } from '../../src/config/config.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { startHopLab } from '../support/hop-lab.ts';
import { ECO, type Lab, type LogLine, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { openSteered, startTlsLab, type TlsLab } from '../support/tls-lab.ts';
import { openWire } from '../support/wire.ts';

const ADDRESS = '127.0.0.1';

/** Under which name each profile has the address besides. */
const ELSEWHERE: Readonly<Record<LogConfig['profile'], (line: LogLine) => unknown>> = {
  plain: (line) => line['upstreamAddress'],
  google: ({ httpRequest }) => (httpRequest as { serverIp?: unknown }).serverIp,
  dynatrace: (line) => line['network.peer.address'],
};
const PROFILES = Object.keys(ELSEWHERE) as LogConfig['profile'][];

const startFailing = (t: Test, port: number, profile: LogConfig['profile']): Promise<TlsLab> =>
  startTlsLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `https://${ECO}:${port}` } });
      draft.timeouts['connect'] = '300ms';
      draft.log = { profile };
    },
  });

async function askAll(t: Test, lab: TlsLab, port: number): Promise<void> {
  const heads = [
    `CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`,
    `GET http://${ECO}:${port}/a HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`,
    `GET /eco/a HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n`,
    `GET /a HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`,
  ];
  for (const head of heads) {
    const wire = await openWire(t, lab.port);
    wire.send(head);
    t.match((await wire.ended).heard, / 50[24] /);
  }
}

async function holdAll(t: Test, lab: Lab, profile: LogConfig['profile'], forms: readonly string[], code: string): Promise<void> {
  for (const form of forms) {
    const line = await lab.logged((one) => one['form'] === form && 'durationMs' in one);
    t.match(line, { code, upstreamAddress: ADDRESS }, `${profile}: ${form}`);
    t.equal(ELSEWHERE[profile](line), ADDRESS, `${profile}: ${form}, its own name`);
  }
}

for (const profile of PROFILES) {
  t.test(`refused: ${profile}`, async (t) => {
    const port = await findUnusedPort();
    const lab = await startFailing(t, port, profile);
    await askAll(t, lab, port);
    await holdAll(t, lab, profile, ['connect', 'forward', 'gateway', 'host-routed'], 'connection-refused');
  });

  t.test(`no answer: ${profile}`, async (t) => {
    const port = await startFullListener(t);
    const lab = await startFailing(t, port, profile);
    await askAll(t, lab, port);
    await holdAll(t, lab, profile, ['connect', 'forward', 'gateway', 'host-routed'], 'connect-timeout');
  });
}

t.test('the phases have the look-up before a connection that failed, and one that failed itself', async (t) => {
  const port = await findUnusedPort();
  for (const [lookup, code] of [[() => Promise.resolve({ addresses: [ADDRESS], ttl: null }), 'connection-refused'], [() => Promise.resolve({ addresses: ['10.9.9.9'], ttl: null }), 'address-not-allowed'], [() => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })), 'name-not-found']] as const) {
    const lab = await startLab(t, { lookup, configure: (draft) => { Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }); } });
    for (const head of [`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`, `GET /eco/a HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n`]) {
      const wire = await openWire(t, lab.port);
      wire.send(head);
      await wire.ended;
    }
    t.match(await lab.logged(({ form }) => form === 'connect'), { code, phases: { dns: Number } });
    t.match(await lab.logged(({ form }) => form === 'gateway'), { code });
  }
});

t.test('TLS that is passed on, to a port that refuses', async (t) => {
  const port = await findUnusedPort();
  const lab = await startFailing(t, port, 'plain');
  const steered = await openSteered(t, lab).catch((error: unknown) => error);
  t.ok(steered instanceof Error);
  await holdAll(t, lab, 'plain', ['sni'], 'connection-refused');
});

t.test('TLS that fails, by a certificate of another authority', async (t) => {
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      delete draft.destinations.eco['tls'];
    },
  });
  const wire = await openWire(t, lab.port);
  wire.send(`GET /eco/a HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n`);
  t.match((await wire.ended).heard, / 502 /);
  await holdAll(t, lab, 'plain', ['gateway'], 'tls-certificate');
});

t.test('of several addresses, the one that was tried last, and none that was not', async (t) => {
  const port = await startFullListener(t);
  const lab = await startTlsLab(t, {
    lookup: async () => ({ addresses: [ADDRESS, '127.0.0.2', '127.0.0.3'], ttl: null }),
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, tls: undefined });
      // Sooner than the second address would be tried.
      draft.timeouts['connect'] = '100ms';
    },
  });
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`);
  t.match((await wire.ended).heard, / 504 /);
  const line = await lab.logged(({ code }) => code === 'connect-timeout');
  t.match(line, { upstreamAddress: ADDRESS, detail: /127\.0\.0\.3: not tried in time/ });
});

t.test('with a parent: what it was asked for, and never its own address', async (t) => {
  const port = await findUnusedPort();
  const away = await startHopLab(t, { hops: { edge: { url: `http://parent.test:${port}` } } });
  const first = await openWire(t, away.port);
  first.send(`CONNECT ${ECO}:${away.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  t.match((await first.ended).heard, / 502 /);
  t.match(await away.logged(({ code }) => code === 'hop-failed'), { upstreamAddress: '-', detail: /parent\.test/ });

  const refusing = createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 502 Bad Gateway\r\nProxy-Status: edge;error=connection_refused\r\n\r\n'));
  });
  const there = await startHopLab(t, { hops: { edge: { url: `http://parent.test:${await listen(t, refusing)}` } } });
  const second = await openWire(t, there.port);
  second.send(`CONNECT ${ECO}:${there.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  t.match((await second.ended).heard, / 502 /);
  t.match(await there.logged(({ code }) => code === 'hop-upstream-failed'), { upstreamAddress: ADDRESS });
});

t.test('the connections that were begun are counted where the dial failed, too', async (t) => {
  const refusing = await findUnusedPort();
  const cutting = await listen(t, createServer((socket) => void socket.on('error', () => {}).once('data', () => socket.resetAndDestroy())));
  // The first handshake is cut, and then nothing listens any more.
  const once = createServer((socket) => void socket.on('error', () => {}).once('data', () => { once.close(); socket.resetAndDestroy(); }));
  const table: [what: string, port: number, addresses: readonly string[], code: string, dials: number | undefined][] = [
    ['one refuses', refusing, [ADDRESS], 'connection-refused', undefined],
    ['three refuse', refusing, [ADDRESS, '127.0.0.2', '127.0.0.3'], 'connection-refused', 3],
    ['TLS is cut twice', cutting, [ADDRESS], 'tls-failed', 2],
    ['TLS is cut, then refused', await listen(t, once), [ADDRESS], 'connection-refused', 2],
  ];
  for (const [what, port, addresses, code, dials] of table) {
    const lab = await startLab(t, { lookup: () => Promise.resolve({ addresses, ttl: null }), configure: (draft) => { Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `https://${ECO}:${port}` } }); } });
    const wire = await openWire(t, lab.port);
    wire.send('GET /eco/a HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n');
    await wire.ended;
    const line = await lab.logged(({ form }) => form === 'gateway');
    t.equal(line.code, code, what);
    t.equal(line['dials'], dials, what);
  }
});
