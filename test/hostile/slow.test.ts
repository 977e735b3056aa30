/** Clients that take their time: every phase on every listener has a clock, and what moves in time is left alone. */
import { createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { listenAdmin } from '../../src/admin/app.ts';
import { accessLines, httpAuthority, lastRequest, stillServes } from '../support/hostile.ts';
import { type Draft, ECO, type Lab, startLab } from '../support/lab.ts';
import { createExposition } from '../support/exposition.ts';
import { listen } from '../support/listen.ts';
import { NO_CONFIGURATION, NO_TRAFFIC } from '../support/no-configuration.ts';
import { NO_EXPLAINING } from '../support/no-explaining.ts';
import { noSource } from '../support/no-source.ts';
import { untilDeserted } from '../support/open-sockets.ts';
import { startTunnelLab, openTunnel } from '../support/tunnel-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';

// They mostly wait, so they wait together.
t.jobs = 6;

const short = ({ timeouts }: Draft): void => {
  Object.assign(timeouts, { requestHeaders: '1s', body: '1s', keepAlive: '900ms', tunnelIdle: '500ms' });
};

/** Sends byte after byte for as long as the connection lives. @returns bytes sent */
async function drip(wire: Wire, text: string, every: number): Promise<number> {
  let sent = 0;
  for (; sent < text.length && wire.socket.writable; sent += 1) {
    wire.send(text.charAt(sent));
    await delay(every);
  }
  return sent;
}

const FORMS: Record<string, (lab: Lab) => string> = {
  connect: (lab) => `CONNECT ${httpAuthority(lab)} HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n`,
  forward: (lab) => `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n`,
  gateway: () => 'GET /eco/ HTTP/1.1\r\nHost: x\r\n',
  'host-routed': (lab) => `GET / HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n`,
};

t.test('headers', { buffered: true }, async (t) => {
  const lab = await startLab(t, {
    configure: short,
    onRequest: (req, res) => {
      // Longer than headers may take: that is the client's clock, not the partner's.
      if (req.url === '/late') void delay(1500).then(() => res.end('late'));
      else res.end();
    },
  });
  await Promise.all([
    (async () => {
      const wire = await openWire(t, lab.port);
      wire.send(`${lastRequest(lab, '/late').replace('Connection: close\r\n', '')}GET /`);
      const { heard } = await wire.ended;
      t.match(heard, /^HTTP\/1\.1 200 [\s\S]*late(?:HTTP\/1\.1 408 [\s\S]*)?$/, 'half of a second request does not spoil the first');
    })(),
    ...Object.entries(FORMS).map(async ([form, begin]) => {
      const wire = await openWire(t, lab.port);
      const text = `${begin(lab)}X: ${'y'.repeat(1000)}`;
      const [sent, { heard }] = await Promise.all([drip(wire, text, 20), wire.ended]);
      t.match(heard, /^HTTP\/1\.1 408 Bad request: request-timeout\r\n[\s\S]*Connection: close\r\n/, `${form} dripping`);
      t.ok(sent < 100, `${form}: at the deadline, not at the end of it`);
    }),
    ...Object.entries(FORMS).map(async ([form, begin]) => {
      const wire = await openWire(t, lab.port);
      wire.send(begin(lab));
      t.match((await wire.ended).heard, /^HTTP\/1\.1 408 /, `${form} stopping in the middle`);
    }),
    (async () => {
      const wire = await openWire(t, lab.port);
      t.equal((await wire.ended).heard, '', 'nothing said: cut without a word');
    })(),
    (async () => {
      const wire = await openWire(t, lab.port);
      wire.send(lastRequest(lab).replace('Connection: close\r\n', ''));
      t.match((await wire.ended).heard, /^HTTP\/1\.1 200 /, 'an idle connection is closed');
    })(),
    (async () => {
      const wire = await openWire(t, lab.port);
      wire.send(lastRequest(lab).replace('Connection: close\r\n', ''));
      await wire.until('HTTP/1.1 200');
      wire.send('GET /');
      t.match((await wire.ended).heard, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 408 /, 'half of a second request');
    })(),
    (async () => {
      const wire = await openWire(t, lab.port);
      wire.send('\r\n'.repeat(10));
      t.match((await wire.ended).heard, /^(?:HTTP\/1\.1 408 [\s\S]*)?$/, 'line ends are no request');
    })(),
  ]);
  await untilDeserted(lab.upstream.https);
  const late = accessLines(lab).filter((line) => line.code === 'request-timeout' && line['status'] === 408);
  t.equal(late.length, accessLines(lab).filter((line) => line.code !== 'ok').length);
  t.ok(late.every(({ durationMs }) => Number(durationMs) > 250), 'since the header section began');
  await stillServes(t, lab);
});

t.test('request bodies', { buffered: true }, async (t) => {
  const lab = await startLab(t, { configure: short, onRequest: (req, res) => req.on('end', () => res.end('whole')).resume() });
  const posts = Object.entries(FORMS).filter(([form]) => form !== 'connect');
  await Promise.all([
    ...posts.flatMap(([form, begin]) =>
      ['Content-Length: 10\r\n\r\nhalf', 'Transfer-Encoding: chunked\r\n\r\n5\r\nha', 'Content-Length: 10\r\n\r\n', 'Expect: 100-continue\r\nContent-Length: 10\r\n\r\n'].map(async (rest) => {
        const wire = await openWire(t, lab.port);
        wire.send(begin(lab).replace('GET', 'POST') + rest);
        t.match((await wire.ended).heard, /^(?:HTTP\/1\.1 100 Continue\r\n(?:Via: [^\r]*\r\n)?\r\n)?HTTP\/1\.1 408 Bad request: request-timeout\r\n[\s\S]*Connection: close\r\n/, `${form} ${JSON.stringify(rest)}`);
      }),
    ),
    ...posts.map(async ([form, begin]) => {
      const wire = await openWire(t, lab.port);
      wire.send(`${begin(lab).replace('GET', 'POST')}Connection: close\r\nContent-Length: 10\r\n\r\n`);
      await drip(wire, 'slow, fine', 120);
      t.match((await wire.ended).heard, /^HTTP\/1\.1 200 [\s\S]*whole/, `${form}: longer than the clock in all, never silent so long`);
    }),
  ]);
  t.notOk(lab.upstream.requests.some((request) => request.complete && request.headers['content-length'] !== '10'), 'no half was taken for a whole');
  await stillServes(t, lab);
});

t.test('clients that do not read', { buffered: true }, async (t) => {
  const lab = await startLab(t, {
    configure: short,
    onRequest: (_req, res) => {
      const more = (): void => {
        while (!res.destroyed && res.write(Buffer.alloc(65_536)));
      };
      res.on('drain', more);
      more();
    },
  });
  await Promise.all(
    Object.entries<(lab: Lab) => string>({ ...FORMS, WebSocket: () => 'GET /eco/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' }).map(async ([form, begin]) => {
      const wire = await openWire(t, lab.port);
      wire.send(`${begin(lab)}\r\n`);
      await wire.until('HTTP/1.1 200');
      if (form === 'connect') wire.send('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      wire.socket.pause();
      const line = await lab.logged((entry) => form === 'WebSocket' ? entry['path'] === '/ws' : entry['form'] === form && entry['path'] !== '/ws');
      t.match(line, { code: form === 'connect' ? 'idle-timeout' : 'client-stalled' }, form);
      wire.socket.resume();
      t.notMatch((await wire.ended).heard, /\r\n0\r\n\r\n$/, `${form}: no clean end`);
    }),
  );
  await untilDeserted(lab.upstream.http);
  await untilDeserted(lab.upstream.https);
});

t.test('clients that do not read informational responses', async (t) => {
  const accepted = Promise.withResolvers<Socket>();
  const partner = await listen(t, createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      accepted.resolve(socket);
      // As many as are passed on, each as large as may be: 32 MB, more than the buffers of the system hold.
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: ${'x'.repeat(1_000_000)}\r\n\r\n`.repeat(32));
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast');
    });
  }));
  const lab = await startLab(t, {
    configure: ({ destinations: { eco }, limits }) => {
      Object.assign(eco, { ports: [partner], gateway: { prefix: '/eco', url: `http://${ECO}:${partner}` } });
      limits['headerBytes'] = '1024KiB';
    },
  });
  const wire = await openWire(t, lab.port);
  wire.socket.pause();
  wire.send('GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n');
  const socket = await accepted.promise;
  let still = 0;
  for (let before = -1; still < 20; before = socket.writableLength) {
    await delay(25);
    still = socket.writableLength === before ? still + 1 : 0;
  }
  t.ok(socket.writableLength > 0, 'what the client does not read is not read from the partner either');
  wire.socket.resume();
  t.equal((await wire.until(/last$/)).match(/^HTTP\/1\.1 103/gm)?.length, 32, 'all come when it reads');
});

t.test('who reads no informational response has the time of content for it', { buffered: true }, async (t) => {
  const partner = await listen(t, createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(`HTTP/1.1 103 Early Hints\r\nLink: ${'x'.repeat(1_000_000)}\r\n\r\n`.repeat(32)));
  }));
  const lab = await startLab(t, {
    configure: ({ destinations: { eco }, limits, timeouts }) => {
      Object.assign(eco, { ports: [partner], gateway: { prefix: '/eco', url: `http://${ECO}:${partner}` } });
      limits['headerBytes'] = '1024KiB';
      timeouts['body'] = '500ms';
    },
  });
  const wire = await openWire(t, lab.port);
  wire.socket.pause();
  wire.send('GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n');
  t.match(await lab.logged((line) => line['form'] === 'gateway'), { code: 'client-stalled', detail: /did not read for 500 ms/ });
});

t.test('half-open and silent tunnels', { buffered: true }, async (t) => {
  await Promise.all(
    ['silent', 'the client has ended', 'the upstream has ended'].map(async (name) => {
      const lab = await startTunnelLab(t, short);
      const { client, upstream } = await openTunnel(t, lab);
      if (name === 'the client has ended') client.socket.end();
      if (name === 'the upstream has ended') upstream.socket.end();
      const line = await lab.logged((entry) => entry['form'] === 'connect');
      t.match(line, { code: 'idle-timeout' }, name);
      const { samples } = await lab.scrape();
      t.same([samples.get('eco_egress_client_connections'), samples.get('eco_egress_tunnels_active{form="connect",destination="eco"}')], [0, 0], `${name}: nothing is left`);
    }),
  );
});

t.test('a client that was refused and does not go', { buffered: true }, async (t) => {
  const lab = await startLab(t, { configure: short });
  const requests = ['GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n', '\x16\x03\x01', 'POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n'];
  await Promise.all(
    requests.map(async (request) => {
      // Our own half stays open, as long as the proxy bears it.
      const wire = await openWire(t, lab.port, { halfOpen: true });
      wire.send(request);
      await wire.until(/"requestId":"[^}]*\}/);
      const talk = setInterval(() => wire.socket.write('x'), 100);
      wire.socket.once('close', () => {
        clearInterval(talk);
      });
      await wire.ended;
    }),
  );
  t.pass('everyone is closed in the end');
  await stillServes(t, lab);
});

t.test('the admin port', { buffered: true }, async (t) => {
  const admin = await listenAdmin({
    exposition: createExposition(),
    readiness: () => ({ ready: true, reasons: [], warnings: [] }),
    info: () => {
      throw new Error('not asked for');
    },
    explainer: NO_EXPLAINING, configuration: NO_CONFIGURATION, traffic: NO_TRAFFIC,
    sourceIp: noSource,
    requestTimeout: 600,
  }, { host: '127.0.0.1', port: 0 });
  t.teardown(() => admin.close());
  await Promise.all(
    ['GET /healthz HTTP/1.1\r\nHost: x\r\nX: ', '', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf'].map(async (text) => {
      const wire = await openWire(t, admin.address.port);
      const [, { heard }] = await Promise.all([drip(wire, text + (text === '' ? '' : 'y'.repeat(300)), 5), wire.ended]);
      t.match(heard, /^(?:HTTP\/1\.1 40[58] [\s\S]*)?$/, JSON.stringify(text));
    }),
  );
  const response = await fetch(`http://127.0.0.1:${admin.address.port}/healthz`);
  t.equal(response.status, 200);
  await response.body?.cancel();
});

t.test('who stops an upload is at fault, though the partner has begun to answer', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.writeHead(200).write('begun');
      req.on('data', (chunk) => res.write(chunk)).on('end', () => res.end());
    },
    configure: ({ timeouts }) => {
      timeouts['body'] = '300ms';
    },
  });
  const wire = await openWire(t, lab.port);
  wire.send(`POST http://${ECO}:${lab.upstream.httpPort}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`);
  // On a slow machine the answer begins late: it uploads until then.
  const upload = setInterval(() => { wire.send('1\r\na\r\n'); }, 20);
  await wire.until('begun').finally(() => { clearInterval(upload); });
  t.notMatch((await wire.ended).heard, /\r\n0\r\n\r\n$/, 'it is cut, and that shows');
  t.match(await lab.logged((line) => line['form'] === 'forward'), { code: 'request-timeout', status: 200, detail: /the client sent nothing of the request body/ });
});
