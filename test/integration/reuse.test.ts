/** Connections used again: the client's, and the upstream's, which all forms that we terminate share. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { Agent, createServer as createHttpServer } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { addressOf, answerOf, ask, beginAsk, TERMINATED } from '../support/ask.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { untilDeserted } from '../support/open-sockets.ts';
import { sumOf } from '../support/prometheus.ts';
import { openWire } from '../support/wire.ts';

/** A lab whose only upstream is a raw server. */
async function startRawLab(t: Test, onConnection: (socket: Socket) => void): Promise<Lab> {
  const port = await listen(t, createServer(onConnection));
  return startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
}

t.test('one pool for each origin, whatever the form', async (t) => {
  const lab = await startLab(t);
  const { httpsPort } = lab.upstream;
  for (let i = 0; i < 3; i += 1) {
    for (const form of TERMINATED) await ask(lab, form, { path: `/${i}` });
    const wire = await openWire(t, lab.port);
    wire.send(`GET https://${ECO}:${httpsPort}/tls HTTP/1.1\r\nHost: ${ECO}:${httpsPort}\r\nConnection: close\r\n\r\n`);
    t.match((await wire.ended).heard, /^HTTP\/1\.1 200 /, 'an https target is fetched over TLS for the client');
  }
  t.equal(lab.upstream.requests.length, 12);
  t.equal(lab.upstream.connections, 2, 'forward and host-routed share one, gateway and forward to https another');
  t.equal(lab.log.filter((line) => line['reusedConnection'] === true).length, 10);
  t.equal(lab.log.filter((line) => line['reusedConnection'] === false).length, 2);
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_upstream_connections_opened_total{destination="eco"}'), 2);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco",state="idle"}'), 2);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco",state="active"}'), 0);
});

t.test('exchanges at once get a connection each, and the last used is used first again', async (t) => {
  const held: (() => void)[] = [];
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      const answer = (): void => {
        res.end(String(req.socket.remotePort));
      };
      if (req.url !== '/hold') answer();
      else if (held.push(answer) === 3) for (const release of held) release();
    },
  });
  const ports = await Promise.all([1, 2, 3].map(async () => (await ask(lab, 'gateway', { path: '/hold' })).text));
  t.equal(new Set(ports).size, 3);
  t.equal(lab.upstream.connections, 3);
  const again = new Set<string>();
  for (let i = 0; i < 6; i += 1) again.add((await ask(lab, 'gateway')).text);
  t.equal(again.size, 1, 'the others may grow old and close');
});

t.test('a client connection carries one request after the other, in any form, refused ones too', async (t) => {
  const lab = await startLab(t);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => {
    agent.destroy();
  });
  const connections = { opened: 0 };
  const ports = new Set<number | undefined>();
  for (let round = 0; round < 3; round += 1) {
    for (const form of TERMINATED) {
      const request = beginAsk(lab, form, { agent, path: `/${round}` });
      request.on('socket', (socket) => {
        if (!ports.has(socket.localPort) && !request.reusedSocket) connections.opened += 1;
      });
      const answer = await answerOf(request.end());
      t.equal(answer.status, 200);
      t.equal(answer.headers.connection, 'keep-alive');
      ports.add(request.socket?.localPort);
    }
    const refused = beginAsk(lab, 'gateway', { agent, path: '/%2e%2e/x', method: 'POST', headers: ['Content-Length', '3'] });
    t.equal((await answerOf(refused.end('abc'))).status, 400);
  }
  t.equal(connections.opened, 1);
  t.equal(lab.upstream.requests.length, 9);
});

t.test('an upstream that closes after its answer is not used again, and is no failure', async (t) => {
  const lab = await startLab(t, { onRequest: (_req, res) => res.writeHead(200, { Connection: 'close' }).end('bye') });
  for (let i = 0; i < 3; i += 1) t.equal((await ask(lab, 'gateway')).text, 'bye');
  t.equal(lab.upstream.connections, 3);
  t.equal(sumOf(await lab.scrape(), 'eco_egress_upstream_errors_total'), 0);
});

t.test('an idle connection that the upstream closes leaves the pool at once', async (t) => {
  const lab = await startLab(t);
  lab.upstream.https.keepAliveTimeout = 50;
  lab.upstream.https.keepAliveTimeoutBuffer = 0;
  await ask(lab, 'gateway');
  await untilDeserted(lab.upstream.https);
  const { text } = await ask(lab, 'gateway', { method: 'POST', headers: ['Content-Length', '1'], body: 'x' });
  t.match(JSON.parse(text), { method: 'POST' });
  t.equal(lab.upstream.connections, 2);
});

t.test('an idle connection is kept for its time and no longer', async (t) => {
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.timeouts, { upstreamKeepAlive: '100ms' }) });
  lab.upstream.https.keepAliveTimeout = 0;
  await ask(lab, 'gateway');
  await untilDeserted(lab.upstream.https);
  t.equal((await lab.scrape()).samples.get('eco_egress_upstream_connections{destination="eco",state="idle"}'), 0);
});

/**
 * What must not be repeated takes no connection that has just been used: it
 * rests for 10 ms and 8 turns of the event loop. A process that was without CPU
 * for that time has had few turns.
 */
async function untilRested(): Promise<void> {
  await delay(20);
  for (let turns = 0; turns < 20; turns += 1) await nextTurn();
}

/** Answers the first request of a connection and breaks the connection at the second. @returns how many requests came */
function breakOnReuse(reset: boolean): { onConnection: (socket: Socket) => void; seen: string[] } {
  const seen: string[] = [];
  return {
    seen,
    onConnection: (socket) => {
      let first = true;
      socket.on('data', (data: Buffer) => {
        if (!/^[A-Z]+ /.test(data.toString())) return;
        seen.push(data.toString().split(' ', 1)[0] ?? '');
        if (first) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        else if (reset) socket.resetAndDestroy();
        else socket.destroy();
        first = false;
      });
    },
  };
}

t.test('a stale pooled connection: what is safe is sent again, once, on a new one', async (t) => {
  for (const reset of [true, false]) {
    for (const [method, body, expected] of [
      ['GET', '', 200],
      ['HEAD', '', 200],
      ['OPTIONS', '', 200],
      ['DELETE', '', 200],
      ['POST', 'abc', 502],
      ['POST', '', 502],
      ['PATCH', 'abc', 502],
      // A small content is still at hand.
      ['PUT', 'abc', 200],
      ['GET', 'abc', 200],
    ] as const) {
      for (const form of TERMINATED) {
        const { onConnection, seen } = breakOnReuse(reset);
        const port = await listen(t, createServer(onConnection));
        const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
        const { target, host } = addressOf({ ...lab, upstream: { ...lab.upstream, httpPort: port } }, form, '/');
        const say = async (verb: string, content: string): Promise<number> => {
          const wire = await openWire(t, lab.port);
          wire.send(`${verb} ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${content === '' ? '' : `Content-Length: ${content.length}\r\n`}\r\n${content}`);
          return Number((await wire.ended).heard.slice(9, 12));
        };
        t.equal(await say('GET', ''), 200);
        await untilRested();
        t.equal(await say(method, body), expected, `${form} ${method} ${body === '' ? 'without' : 'with'} a body, ${reset ? 'reset' : 'closed'}`);
        t.same(seen, expected === 200 ? ['GET', method, method] : ['GET', method]);
        if (expected === 502) t.match(await lab.logged((line) => line.code === 'upstream-cut'), { closedBy: 'proxy', status: 502, reusedConnection: true });
        await lab.service.close();
      }
    }
  }
});

t.test('a pooled connection that is lost in the middle of a request: what is safe is sent again, the rest is told who does not answer', async (t) => {
  const dialled: Socket[] = [];
  const note = (message: unknown): void => {
    dialled.push((message as { socket: Socket }).socket);
  };
  subscribe('net.client.socket', note);
  t.teardown(() => unsubscribe('net.client.socket', note));
  const lost = Object.assign(new Error('read ETIMEDOUT'), { code: 'ETIMEDOUT' });
  for (const method of ['GET', 'POST']) {
    let requests = 0;
    const lab = await startRawLab(t, (socket) => {
      socket.on('error', () => {}).on('data', () => {
        requests += 1;
        if (requests === 2) dialled.find(({ localPort }) => localPort === socket.remotePort)?.destroy(lost);
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    await ask(lab, 'gateway');
    await untilRested();
    const { status } = await ask(lab, 'gateway', { method });
    t.equal(status, method === 'GET' ? 200 : 504, method);
    if (method === 'GET') t.match(await lab.logged((line) => line['attempts'] === 2), { code: 'ok' });
    else t.match(await lab.logged((line) => line.code === 'upstream-silent'), { closedBy: 'proxy', reusedConnection: true, detail: /was lost: its host no longer answers \(ETIMEDOUT\)/ });
  }
});

t.test('content that the answer before must not have, and that comes late, costs no other request its answer', async (t) => {
  const lab = await startRawLab(t, (socket) => {
    let first = true;
    socket.on('error', () => {}).on('data', () => {
      socket.write(first ? 'HTTP/1.1 204 No Content\r\n\r\n' : '<html>not found</html>');
      first = false;
    });
  });
  for (const reusedConnection of [false, true]) {
    const { status } = await ask(lab, 'gateway', { path: `/${String(reusedConnection)}` });
    t.equal(status, 204);
  }
  t.match(await lab.logged((line) => line['path'] === '/true'), { code: 'ok', attempts: 2 });
});

t.test('sent again, and nothing could be connected: the line says nothing of the connection before', async (t) => {
  const server = createServer((socket) => {
    let first = true;
    socket.on('data', () => {
      if (first) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      else {
        server.close();
        socket.destroy();
      }
      first = false;
    });
  });
  const port = await listen(t, server);
  const closed = once(server, 'close');
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
  t.equal((await ask(lab, 'gateway')).status, 200);
  await untilRested();
  t.equal((await ask(lab, 'gateway')).status, 502);
  t.match(await lab.logged(({ status }) => status === 502), { code: 'connection-refused', reusedConnection: false });
  await closed;
  // Its teardown closes it.
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
});

t.test('408 with which the upstream ends an idle connection: what is safe is sent again, once; any other 408 is the answer', async (t) => {
  const LATE = 'HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\nlate';
  for (const [method, answer, always, expected, sent] of [
    ['GET', LATE, false, 200, 3],
    ['GET', LATE, true, 408, 3],
    ['POST', LATE, false, 408, 2],
    // The connection stays open: it is what the upstream has to say of the request.
    ['GET', 'HTTP/1.1 408 x\r\nContent-Length: 0\r\n\r\n', false, 408, 2],
  ] as const) {
    let requests = 0;
    const lab = await startRawLab(t, (socket) => {
      socket.on('data', () => {
        requests += 1;
        if (requests === 2 || (always && requests > 2)) socket.write(answer, () => answer === LATE && socket.end());
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    t.equal((await ask(lab, 'gateway')).status, 200);
    await untilRested();
    t.equal((await ask(lab, 'gateway', { method })).status, expected, `${method} ${String(always)}`);
    t.equal(requests, sent);
    await lab.service.close();
  }
});

t.test('a new connection that breaks is not tried again', async (t) => {
  let connections = 0;
  const lab = await startRawLab(t, (socket) => {
    connections += 1;
    socket.once('data', () => socket.destroy());
  });
  t.equal((await ask(lab, 'gateway')).status, 502);
  t.equal(connections, 1);
});

t.test('as many connections as a client’s share; a request that waits too long is refused with that reason', async (t) => {
  const answers: (() => void)[] = [];
  const waiting = Promise.withResolvers<undefined>();
  const upstream = createHttpServer((_req, res) => {
    answers.push(() => res.end('ok'));
    if (answers.length === 2) waiting.resolve(undefined);
  });
  const port = await listen(t, upstream);
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } });
      Object.assign(draft.limits, { upstreamConnections: 3, upstreamQueue: 1 });
    },
  });
  const busy = [ask(lab, 'gateway', { path: '/1' }), ask(lab, 'gateway', { path: '/2' })];
  await waiting.promise;
  const queued = ask(lab, 'gateway', { path: '/3' });
  const beyond = await ask(lab, 'gateway', { path: '/4' });
  const third = beyond.status === 503 ? queued : Promise.resolve(beyond);
  const refused = beyond.status === 503 ? beyond : await queued;
  t.match(refused, { status: 503, reason: 'Egress unavailable: limit-reached', headers: { 'retry-after': '1', connection: 'close' } });
  t.match(refused.text, /limits\.upstreamConnections/);
  while (answers.length > 0) answers.shift()?.();
  for (const answer of await Promise.all(busy)) t.equal(answer.text, 'ok');
  upstream.on('request', () => answers.shift()?.());
  answers.shift()?.();
  t.equal((await third).text, 'ok', 'a place that became free goes to who waits');
});
