/** Connections to partners: how many there are, and what becomes of those that break before, between and after requests. */
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import t from 'tap';
import { addressOf, TERMINATED } from '../support/ask.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { seeded } from '../support/random.ts';
import { openWire } from '../support/wire.ts';
import { FULL } from '../support/full.ts';
import { exchange, isTunnel, nameOf, ROUTES } from './exchange.ts';
import { startPartnerLab } from './lab.ts';
import type { Script } from './partner.ts';

t.setTimeout(FULL ? 20 * 60_000 : 300_000);

const CLIENTS = 100;
const REQUESTS = FULL ? 100 : 10;
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** What clients send, in turn: most leave a connection that can be used again. */
const KINDS: readonly { readonly method: string; readonly fields?: Readonly<Record<string, string>>; readonly content?: string; readonly status: number }[] = [
  { method: 'GET', status: 200 },
  { method: 'HEAD', status: 200 },
  { method: 'POST', content: 'content', status: 200 },
  { method: 'PUT', content: 'content', status: 200 },
  { method: 'DELETE', status: 200 },
  { method: 'DELETE', content: 'content', status: 200 },
  { method: 'GET', content: 'content', status: 200 },
  { method: 'OPTIONS', status: 200 },
  { method: 'PATCH', content: 'content', status: 200 },
  { method: 'POST', status: 200 },
  { method: 'GET', fields: { 'If-None-Match': '"same"' }, status: 304 },
  { method: 'GET', fields: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' }, status: 200 },
  { method: 'GET', fields: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }, status: 200 },
];

for (const form of TERMINATED) {
  t.test(`${CLIENTS * REQUESTS} requests of every method share few connections: ${form}`, async (t) => {
    const lab = await startLab(t, {
      onRequest: (req, res) => {
        req.resume();
        req.on('end', () => {
          if (req.headers['if-none-match'] === '"same"') res.writeHead(304, { ETag: '"same"' }).end();
          else res.end('ok');
        });
      },
    });
    const wrong = new Map<string, number>();
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, client) => {
        for (let i = 0; i < REQUESTS; i += 1) {
          const kind = KINDS[(client + i) % KINDS.length];
          if (kind === undefined) continue;
          const status = await ask(lab, form, kind);
          const name = `${kind.method} ${Object.keys(kind.fields ?? {}).join()}${kind.content ?? ''} ${status}`;
          if (status !== String(kind.status)) wrong.set(name, (wrong.get(name) ?? 0) + 1);
        }
      }),
    );
    t.same([...wrong], [], 'each was answered as the partner answered');
    t.ok(lab.upstream.connections <= 16, `${lab.upstream.connections} connections to the partner`);
  });
}

/** On a connection of its own. @returns the status, or what went wrong */
function ask(lab: Lab, form: (typeof TERMINATED)[number], { method, fields = {}, content }: (typeof KINDS)[number]): Promise<string> {
  const { target, host } = addressOf(lab, form, '/x');
  return new Promise((resolve) => {
    const headers = { Host: host, ...fields, ...(content !== undefined && { 'Content-Length': String(content.length) }) };
    const asked = httpRequest({ host: '127.0.0.1', port: lab.port, method, path: target, headers, agent: false }, (res: IncomingMessage) => {
      res.resume();
      res.once('end', () => {
        resolve(String(res.statusCode));
      });
      res.once('error', (error) => {
        resolve(error.message);
      });
    });
    asked.once('upgrade', (_, socket) => {
      socket.destroy();
      resolve('upgraded');
    });
    asked.once('error', (error) => {
      resolve(error.message);
    });
    asked.end(content);
  });
}

t.test('idle connections that the partner closes in silence: at most one POST in a hundred fails', async (t) => {
  const random = seeded(20);
  const script: Script = async (side) => {
    for (let count = 1; ; count += 1) {
      const request = await side.request();
      await request.content;
      await side.send(OK);
      // Some at once, some after one request, some after several: the close is on its way while the next one is sent.
      if (random() < 0.3) {
        await side.wait(Math.floor(random() * 4));
        await side.end();
        return;
      }
    }
  };
  const { place } = await startPartnerLab(t, { script, delay: 0 });
  let failed = 0;
  let first = '';
  const each = FULL ? 20 : 5;
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      for (let i = 0; i < each; i += 1) {
        const seen = await exchange(place, { form: 'forward', tls: false }, { method: 'POST', content: { bytes: 5, framing: 'length' } });
        if (seen.status === 200 && seen.end === 'complete') continue;
        failed += 1;
        first ||= `${String(seen.status)} ${seen.reason} ${seen.end}`;
      }
    }),
  );
  t.ok(failed <= (CLIENTS * each) / 100, `${failed} of ${CLIENTS * each} failed: ${first}`);
});

for (const tls of [false, true]) {
  t.test(`a partner that closes after every answer, 100 clients that POST: ${tls ? 'TLS' : 'plain'}`, async (t) => {
    const script: Script = async (side) => {
      const request = await side.request();
      await request.content;
      await side.send(OK);
      await side.end();
    };
    const { place } = await startPartnerLab(t, { script, delay: 0 });
    const each = FULL ? 20 : 3;
    const seen = await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const statuses: (number | null)[] = [];
        for (let i = 0; i < each; i += 1) statuses.push((await exchange(place, { form: 'gateway', tls }, { method: 'POST', content: { bytes: 5, framing: 'length' } })).status);
        return statuses;
      }),
    );
    const failed = seen.flat().filter((status) => status !== 200).length;
    t.ok(failed <= (CLIENTS * each) / 100, `${failed} of ${CLIENTS * each} failed`);
  });
}

const WEBSOCKET = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';

t.test('idle connections that a NAT or firewall has dropped: whatever may be sent again comes through, however many there are', async (t) => {
  const CONNECTIONS = 24;
  for (const [name, question] of [
    ['GET', {}],
    ['WebSocket', { fields: WEBSOCKET }],
  ] as const) {
    let asked = 0;
    const script: Script = async (side) => {
      await side.request();
      asked += 1;
      // All of them are on their way by then: each on a connection of its own.
      await side.wait(100);
      await side.send(OK);
      await side.request();
      asked += 1;
      side.reset();
    };
    const { place } = await startPartnerLab(t, { script, delay: 0 });
    for (let round = 1; round <= 3; round += 1) {
      const seen = await Promise.all(Array.from({ length: CONNECTIONS }, () => exchange(place, { form: 'forward', tls: false }, question)));
      t.same(seen.map(({ status }) => status), Array(CONNECTIONS).fill(200), `${name}, round ${round}`);
    }
    t.ok(asked <= 2 * 3 * CONNECTIONS, `${asked} requests reached the partner: at most each twice`);
  }
});

t.test('connections that close a moment after the answer: what cannot be sent again does not meet them', async (t) => {
  const script: Script = async (side) => {
    const request = await side.request();
    await request.content;
    await side.send(OK);
    await side.wait(15);
    await side.end();
  };
  for (const [name, content] of [
    ['PUT, too long to be kept', { bytes: 100_000, framing: 'length' }],
    ['PUT, of unknown length', { bytes: 100_000, framing: 'chunked' }],
  ] as const) {
    const { place } = await startPartnerLab(t, { script, delay: 2 });
    let failed = 0;
    for (let round = 0; round < 5; round += 1) {
      const seen = await Promise.all(Array.from({ length: 40 }, () => exchange(place, { form: 'forward', tls: false }, { method: 'PUT', content })));
      failed += seen.filter(({ status, end }) => status !== 200 || end !== 'complete').length;
    }
    t.ok(failed <= 2, `${name}: ${failed} of 200 failed`);
  }
});

t.test('a first TLS handshake that is reset is tried again: nothing was sent', async (t) => {
  const script: Script = async (side) => {
    const request = await side.request();
    await request.content;
    await side.send(OK.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    await side.end();
  };
  for (const route of ROUTES.filter((one) => one.tls && !isTunnel(one))) {
    const { place, secure } = await startPartnerLab(t, {
      script,
      delay: 5,
      onConnection: (socket, number) => {
        if (number % 2 === 0) return false;
        // Once the ClientHello is there.
        socket.once('data', () => socket.resetAndDestroy());
        return true;
      },
    });
    const times = FULL ? 20 : 3;
    for (const method of ['GET', 'POST']) {
      const statuses: (number | null)[] = [];
      for (let i = 0; i < times; i += 1) statuses.push((await exchange(place, route, method === 'GET' ? {} : { method, content: { bytes: 5, framing: 'length' } })).status);
      t.same(statuses, Array(times).fill(200), `${nameOf(route)}, ${method}`);
    }
    t.equal(secure.taken, 4 * times, 'once each, and no more');
  }
});

t.test('a handshake that is always reset is not retried without end', async (t) => {
  const { place, secure, lab } = await startPartnerLab(t, {
    script: async () => {},
    delay: 5,
    onConnection: (socket) => {
      socket.once('data', () => socket.resetAndDestroy());
      return true;
    },
  });
  const seen = await exchange(place, { form: 'gateway', tls: true }, {});
  t.match(seen, { status: 502, reason: /tls-failed$/ });
  t.ok(secure.taken <= 2, `${secure.taken} connections`);
  t.match(await lab.logged(({ code }) => code === 'tls-failed'), { status: 502 });
});

t.test('a refused connection: the next address is dialled', async (t) => {
  const script: Script = async (side) => {
    for (;;) {
      await side.request();
      await side.send(OK);
    }
  };
  const { place } = await startPartnerLab(t, { script, delay: 5, lookup: async () => ({ addresses: ['127.0.0.2', '127.0.0.1'], ttl: null }) });
  for (const route of ROUTES) {
    const seen = await exchange(place, route, {});
    t.match(seen, { status: 200, body: 'ok' }, nameOf(route));
  }
});

t.test('a client that offers h2c keeps its connection', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/x');
    const wire = await openWire(t, lab.port);
    for (let i = 1; i <= 20; i += 1) {
      wire.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`);
      const heard = await wire.until(new RegExp(`(?:HTTP/1\\.1 200 [\\s\\S]*?\\}){${i}}`)).catch(() => null);
      t.ok(heard !== null, `${form}: request ${i} on the same connection`);
      if (heard === null) break;
    }
    wire.socket.destroy();
  }
});

t.test('HTTP/1.0: keep-alive is not promised (RFC 9112 §9.3)', async (t) => {
  const lab = await startLab(t);
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/x');
    const wire = await openWire(t, lab.port);
    wire.send(`GET ${target} HTTP/1.0\r\nHost: ${host}\r\nConnection: keep-alive\r\n\r\n`);
    const heard = await wire.until(/\r\n\r\n\{.*\}/);
    t.match(heard, /^HTTP\/1\.1 200 /, form);
    t.notMatch(heard, /\r\nConnection: keep-alive/i, `${form}: nothing is promised`);
    wire.send(`GET ${target} HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
    const { heard: all } = await wire.ended;
    t.equal(all.match(/HTTP\/1\.1 200/g)?.length, 1, `${form}: closed`);
  }
});

t.test('a connection to the partner that no request came over is no answer', async (t) => {
  // Takes the first connection of each client and ends it before it was asked anything.
  let count = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    count += 1;
    socket.on('error', () => {});
    if (count % 2 === 1) socket.end();
    else socket.once('data', () => socket.end(OK.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')));
  });
  const port = await listen(t, server);
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined }) });
  for (let i = 0; i < 5; i += 1) {
    const wire = await openWire(t, lab.port);
    wire.send(`GET http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`);
    t.match((await wire.ended).heard, /^HTTP\/1\.1 (?:200|502) /, 'tried again, or said');
  }
});
