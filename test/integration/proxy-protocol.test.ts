/** Connections that begin with a PROXY header: however it is cut, HTTP goes on behind it as it does without, with every clock and limit. */
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import type { Duplex } from 'node:stream';
import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { ECO } from '../support/lab.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';
import { POD, startPeerLab, STRANGER, wireRequest } from '../support/peer-lab.ts';
import { binary, block4, line, PROXY, TCP4 } from '../support/proxy-header.ts';
import { askRaw, openWire, type Wire } from '../support/wire.ts';

const LISTENER = { proxyProtocol: 'from-trusted' };
const V1 = line(`TCP4 ${POD} 10.0.0.1 56324 8080`);
const V2 = binary(PROXY, TCP4, block4(POD));
const withHeader = (request: string): Buffer => Buffer.concat([V1, Buffer.from(request, 'latin1')]);

/** Lets everything that is on its way inside this process arrive. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 4; turn += 1) await setImmediate();
}

for (const [version, header] of Object.entries({ v1: V1, v2: V2 })) {
  for (const form of ['connect', 'forward'] as const) {
    t.test(`${version}, ${form}: header and request split anywhere, the early bytes of a tunnel too`, async (t) => {
      const lab = await startPeerLab(t, { listener: LISTENER });
      const bytes = Buffer.concat([header, Buffer.from(wireRequest(lab, form))]);
      for (let at = 1; at < bytes.length; at += 1) {
        const wire = await openWire(t, lab.port);
        wire.send(bytes.subarray(0, at));
        await settle();
        wire.send(bytes.subarray(at));
        const { heard } = await wire.ended;
        if (!heard.startsWith('HTTP/1.1 200 ') || !heard.includes(`"url":"/${form}"`)) t.fail(`split at ${at}: ${heard}`);
      }
      t.equal(lab.upstream.requests.length, bytes.length - 1);
      // A tunnel is told of when both its sides have closed.
      while (lab.log.filter((line) => line['clientAddress'] === POD).length < bytes.length - 1) await setImmediate();
      t.ok(lab.log.every((line) => line.code === undefined || line.code === 'ok'));
    });
  }
}

t.test('a connection goes on: requests one after the other and in one write, bodies large and asked for', async (t) => {
  const lab = await startPeerLab(t, {
    listener: LISTENER,
    onRequest: (req, res) => {
      let length = 0;
      req.on('data', (chunk: Buffer) => (length += chunk.length));
      req.on('end', () => res.end(`${req.method ?? ''} ${req.url ?? ''} ${length};`));
    },
  });
  const target = `http://${ECO}:${lab.upstream.httpPort}`;
  const host = `Host: ${ECO}:${lab.upstream.httpPort}\r\n`;
  const wire = await openWire(t, lab.port);
  wire.send(withHeader(`GET ${target}/1 HTTP/1.1\r\n${host}\r\nGET ${target}/2 HTTP/1.1\r\n${host}\r\n`));
  await wire.until('GET /2 0;');
  wire.send(`POST ${target}/3 HTTP/1.1\r\n${host}Content-Length: 5000000\r\n\r\n`);
  wire.send(Buffer.alloc(5_000_000));
  await wire.until('POST /3 5000000;');
  wire.send(`POST ${target}/4 HTTP/1.1\r\n${host}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n`);
  await wire.until('HTTP/1.1 100 Continue');
  wire.send('5\r\nabcde\r\n0\r\n\r\n');
  await wire.until('POST /4 5;');
  t.strictSame(lab.log.flatMap((line) => line['clientAddress'] ?? []), [POD, POD, POD, POD]);
});

t.test('a WebSocket, its first frame sent with the request', async (t) => {
  const lab = await startPeerLab(t, { listener: LISTENER });
  const sockets = new WebSocketServer({ noServer: true });
  lab.upstream.http.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on('message', (data: Buffer) => {
        ws.send(`echo ${data.toString()}`);
      });
    });
  });
  // A masked text frame, "hi".
  const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
  const wire = await openWire(t, lab.port);
  wire.send(Buffer.concat([withHeader(wireRequest(lab, 'host-routed', ['Upgrade: websocket', `Sec-WebSocket-Key: ${'A'.repeat(22)}==`, 'Sec-WebSocket-Version: 13']).replace('Connection: close', 'Connection: Upgrade')), frame]));
  t.match(await wire.until('echo hi'), /^HTTP\/1\.1 101 /);
  t.equal(WebSocket.OPEN, [...sockets.clients][0]?.readyState);
});

t.test('a mistaken protocol behind the header is named as without it', async (t) => {
  const lab = await startPeerLab(t, { listener: LISTENER });
  t.match(await askRaw(t, lab.port, Buffer.concat([V1, Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0])])), /tls-on-http-port/);
  t.match(await askRaw(t, lab.port, withHeader('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')), /http2-on-http-port/);
  t.match(await askRaw(t, lab.port, withHeader('GET / HTTP/1.1\r\nHost : x\r\n\r\n')), /request-malformed/);
  t.strictSame(lab.log.flatMap((line) => line['clientAddress'] ?? []), [POD, POD, POD]);
});

t.test('a slow header is cut at its deadline, and so is a slow request behind it', async (t) => {
  const before = countSockets();
  const lab = await startPeerLab(t, { listener: LISTENER, configure: (draft) => Object.assign(draft.timeouts, { requestHeaders: '200ms' }) });
  const slow: readonly (readonly [what: string, bytes: Buffer, code: RegExp | null, detail?: RegExp])[] = [
    ['nothing', Buffer.alloc(0), null],
    ['the header all but its last byte', V1.subarray(0, -1), /request-timeout/, /PROXY header did not arrive in time/],
    ['the header of version 2 all but its last byte', V2.subarray(0, -1), /request-timeout/, /PROXY header did not arrive in time/],
    ['the header alone', V1, null],
    ['the header and a request all but its last byte', withHeader(wireRequest(lab, 'forward')).subarray(0, -1), /request-timeout/, /request headers did not arrive in time/],
  ];
  await Promise.all(
    slow.map(async ([what, bytes, code, detail]) => {
      const heard = await askRaw(t, lab.port, bytes);
      if (code === null) t.equal(heard, '', what);
      else {
        t.match(heard, /^HTTP\/1\.1 408 /, what);
        t.match(heard, code, what);
        t.match(heard, detail, what);
      }
    }),
  );
  t.equal(lab.log.filter((line) => line.code === 'request-timeout').length, 3);
  await lab.service.close();
  await untilSockets(before);
});

t.test('a trickle of bytes does not move the deadline', async (t) => {
  const lab = await startPeerLab(t, { listener: LISTENER, configure: (draft) => Object.assign(draft.timeouts, { requestHeaders: '150ms' }) });
  const wire = await openWire(t, lab.port);
  const drip = setInterval(() => {
    const next = V1.subarray(wire.socket.bytesWritten, wire.socket.bytesWritten + 1);
    if (wire.socket.writable && wire.socket.bytesWritten < V1.length - 1) wire.send(next);
  }, 10);
  const { heard } = await wire.ended;
  clearInterval(drip);
  t.match(heard, /request-timeout/);
  t.ok(wire.socket.bytesWritten > 1 && wire.socket.bytesWritten < V1.length, `${wire.socket.bytesWritten} bytes were sent`);
});

t.test('a connection counts from its first moment, and gives its place back', async (t) => {
  const lab = await startPeerLab(t, { listener: LISTENER, configure: (draft) => Object.assign(draft.limits, { connections: 2 }) });
  const waiting: Wire[] = [await openWire(t, lab.port), await openWire(t, lab.port)];
  for (const [header, from] of [[V1, undefined], [Buffer.alloc(0), STRANGER]] as const) {
    const heard = await askRaw(t, lab.port, Buffer.concat([header, Buffer.from(wireRequest(lab, 'forward'))]), from);
    t.match(heard, /^HTTP\/1\.1 503 .*limit-reached/);
  }
  t.equal(lab.upstream.connections, 0);
  waiting[0]?.socket.destroy();
  let heard = '';
  while (!heard.startsWith('HTTP/1.1 200 ')) heard = await askRaw(t, lab.port, withHeader(wireRequest(lab, 'forward')));
  t.pass('served again');
});

t.test('at the end, who has said nothing is let go, and who has asked is answered', async (t) => {
  const before = countSockets();
  const answers: (() => void)[] = [];
  const lab = await startPeerLab(t, { listener: LISTENER, onRequest: (_, res) => answers.push(() => res.end('late')) });
  const silent = await openWire(t, lab.port);
  const half = await openWire(t, lab.port);
  half.send(V1.subarray(0, 10));
  const idle = await openWire(t, lab.port);
  idle.send(V1);
  const asking = await openWire(t, lab.port);
  asking.send(withHeader(wireRequest(lab, 'forward')));
  if (lab.upstream.requests.length === 0) await once(lab.upstream.http, 'request');
  const drained = lab.service.drain();
  await Promise.all([silent.ended, half.ended, idle.ended]);
  for (const answer of answers) answer();
  t.match((await asking.ended).heard, /^HTTP\/1\.1 200 [^]*late/);
  await drained;
  await untilSockets(before);
});

t.test('closing at once leaves no socket', async (t) => {
  const before = countSockets();
  const lab = await startPeerLab(t, { listener: LISTENER });
  const silent = await openWire(t, lab.port);
  const asking = await openWire(t, lab.port);
  asking.send(V1);
  await settle();
  await lab.service.close();
  await Promise.all([silent.ended, asking.ended]);
  await untilSockets(before);
});

t.test('a thousand that begin and break leave nothing behind', async (t) => {
  const before = countSockets();
  const lab = await startPeerLab(t, { listener: LISTENER });
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const wire = await openWire(t, lab.port);
        wire.send(V1.subarray(0, i % V1.length));
        wire.socket.resetAndDestroy();
        await wire.ended;
      }),
    );
  }
  t.match(await askRaw(t, lab.port, withHeader(wireRequest(lab, 'forward'))), /^HTTP\/1\.1 200 /);
  const last = await openWire(t, lab.port);
  last.send(V1.subarray(0, 10));
  await settle();
  last.socket.resetAndDestroy();
  t.match(await lab.logged(({ code }) => code === 'client-closed'), { form: '-', status: 0, closedBy: 'client', detail: /in the middle of the PROXY header$/ });
  await lab.service.close();
  await untilSockets(before);
});
