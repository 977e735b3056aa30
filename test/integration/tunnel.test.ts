/** CONNECT: what passes before, during and at the end of a tunnel. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { fill } from '../support/fill.ts';
import { startFullListener } from '../support/full-listener.ts';
import { hello, serverName } from '../support/hello.ts';
import { listen } from '../support/listen.ts';
import { countSockets, untilDeserted, untilSockets } from '../support/open-sockets.ts';
import { ESTABLISHED, follow, openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { openWire, type Wire, wireOf } from '../support/wire.ts';

const inside = (heard: string): string => heard.replace(ESTABLISHED, '');
const ended = (lab: Lab, code = 'ok'): Promise<Record<string, unknown>> => lab.logged((line) => line['form'] === 'connect' && line.code === code);

t.test('bytes pass untouched, and the end of one direction leaves the other open', async (t) => {
  for (const first of ['client', 'upstream'] as const) {
    const lab = await startTunnelLab(t);
    const { client, upstream } = await openTunnel(t, lab);
    const [one, other] = first === 'client' ? [client, upstream] : [upstream, client];
    const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    one.send(every);
    t.match(inside(await other.until(every.toString('latin1'))), every.toString('latin1'));
    one.socket.end('the last of mine');
    await once(other.socket, 'end');
    t.equal(inside(other.heard), `${every.toString('latin1')}the last of mine`);
    for (const word of ['still ', 'talking ', 'to you']) {
      other.send(word);
      await one.until(word);
    }
    other.socket.end();
    t.same([(await one.ended).how, (await other.ended).how], ['fin', 'fin']);
    const line = await ended(lab);
    const [sent, received] = first === 'client' ? [272, 20] : [20, 272];
    t.match(line, { closedBy: first, status: 200, bytesSent: sent, bytesReceived: received, msg: 'tunnel ok', upstreamAddress: '127.0.0.1', method: 'CONNECT', path: '' });
  }
});

t.test('early data waits for verdict and dial, and is then the first that passes', async (t) => {
  const answer = Promise.withResolvers<readonly string[]>();
  const asked = Promise.withResolvers<undefined>();
  const accepted: Wire[] = [];
  const server = createServer((socket) => accepted.push(wireOf(socket)));
  const port = await listen(t, server);
  const lab = await startLab(t, {
    configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined }),
    lookup: async () => {
      asked.resolve(undefined);
      return { addresses: await answer.promise, ttl: null };
    },
  });
  const client = await openWire(t, lab.port);
  client.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\nearly hello`);
  await asked.promise;
  client.send(', and more');
  t.same([client.heard, accepted.length], ['', 0], 'no answer and no connection while the name is looked up');
  answer.resolve(['127.0.0.1']);
  await client.until(ESTABLISHED);
  while (accepted.length === 0) await setImmediate();
  t.equal(await accepted[0]?.until('more'), 'early hello, and more');
});

t.test('early data of a refused CONNECT goes nowhere, and the connection ends', async (t) => {
  const lab = await startTunnelLab(t);
  for (const [target, status] of [
    ['evil.example:443', '403 Egress denied: host-not-allowed'],
    [`${ECO}:22`, '403 Egress denied: port-not-allowed'],
    [`user@${lab.target}`, '400 Bad request: target-malformed'],
  ] as const) {
    const client = await openWire(t, lab.port);
    client.send(`CONNECT ${target} HTTP/1.1\r\nHost: x\r\n\r\nGET /secret HTTP/1.1\r\nHost: ${lab.target}\r\n\r\n`);
    const { heard, how } = await client.ended;
    t.ok(heard.startsWith(`HTTP/1.1 ${status}\r\n`), status);
    t.match(heard, /\r\nConnection: close\r\n/);
    t.equal(heard.match(/HTTP\/1\.1/g)?.length, 1, 'what followed was not taken for a request');
    t.equal(how, 'fin');
  }
  t.equal(lab.accepted.length, 0, 'the upstream saw no connection at all');
});

t.test('a reset of one side is a reset for the other, not a clean end', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    const lab = await startTunnelLab(t);
    const { client, upstream } = await openTunnel(t, lab);
    const [one, other] = side === 'client' ? [client, upstream] : [upstream, client];
    one.send('part of a');
    await other.until('part of a');
    one.socket.resetAndDestroy();
    t.equal((await other.ended).how, 'reset', `reset by the ${side}`);
    t.match(await ended(lab, side === 'client' ? 'client-closed' : 'upstream-cut'), { closedBy: side, status: 200, msg: side === 'client' ? 'aborted: client-closed' : 'failed: upstream-cut' });
  }
});

t.test('a reset in place of an answer is a failure of the upstream, one after an answer is not', async (t) => {
  const lab = await startTunnelLab(t);
  const failures = async (): Promise<number | undefined> => (await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="upstream-cut"}');
  for (const [asked, answered, count] of [['a question', 'an answer', 0], ['', '', 0], ['a question', '', 1]] as const) {
    const { client, upstream } = await openTunnel(t, lab);
    client.send(asked);
    await upstream.until(asked);
    upstream.send(answered);
    await client.until(answered);
    upstream.socket.resetAndDestroy();
    await client.ended;
    await lab.logged(({ code, bytesSent, bytesReceived }) => code === 'upstream-cut' && bytesSent === asked.length && bytesReceived === answered.length);
    t.equal(await failures(), count, `after "${asked}" and "${answered}"`);
  }
  t.match(await (await fetch(`${lab.adminUrl}/destinations`)).json(), { destinations: [{ last: 'failed', lastFailure: { code: 'upstream-cut' } }] });
});

t.test('an upstream that ends instead of answering has failed, however it ends and whatever the client does about it', async (t) => {
  const lab = await startTunnelLab(t);
  let failures = 0;
  interface Ends { client: Wire; upstream: Wire }
  const both = async ({ client, upstream }: Ends): Promise<void> => {
    upstream.socket.end();
    await once(client.socket, 'end');
    client.socket.end();
  };
  const table: readonly [what: string, asked: string, act: (ends: Ends) => void | Promise<void>, expected: Record<string, unknown>, failed: boolean][] = [
    ['ends', 'a question', both, { code: 'upstream-cut', closedBy: 'upstream', detail: /before it answered/, level: 'error' }, true],
    ['ends, and the client resets', 'a question', async ({ client, upstream }) => {
      upstream.socket.end();
      await once(client.socket, 'end');
      client.socket.resetAndDestroy();
    }, { code: 'upstream-cut', closedBy: 'upstream' }, true],
    ['ends, and the client asks only then', '', async ({ client, upstream }) => {
      upstream.socket.end();
      await once(client.socket, 'end');
      client.socket.end('a question');
    }, { code: 'upstream-cut', closedBy: 'upstream', bytesSent: 10 }, true],
    ['resets, when the client has ended its direction', 'a question', async ({ client, upstream }) => {
      client.socket.end();
      await once(upstream.socket, 'end');
      upstream.socket.resetAndDestroy();
    }, { code: 'upstream-cut', closedBy: 'upstream' }, true],
    ['ends, and was asked nothing', '', both, { code: 'ok', closedBy: 'upstream' }, false],
    ['ends after the client, which wanted no answer', 'a message', async ({ client, upstream }) => {
      client.socket.end();
      await once(upstream.socket, 'end');
      upstream.socket.end();
    }, { code: 'ok', closedBy: 'client' }, false],
    ['has ended with an answer before the client resets', 'a question', async ({ client, upstream }) => {
      upstream.socket.end('an answer');
      await once(client.socket, 'end');
      client.socket.resetAndDestroy();
    }, { code: 'ok', closedBy: 'upstream' }, false],
    // As Java does: a close_notify of TLS for a partner that has closed already.
    ['has closed with an answer before the client says that it ends', 'a question', async ({ client, upstream }) => {
      upstream.socket.end('an answer');
      await once(client.socket, 'end');
      upstream.socket.destroy();
      for (const word of ['close', 'notify']) {
        client.send(word);
        await delay(20);
      }
      client.socket.end();
    }, { code: 'ok', closedBy: 'upstream' }, false],
  ];
  for (const [what, asked, act, expected, failed] of table) {
    const already = lab.log.length;
    const { client, upstream } = await openTunnel(t, lab);
    client.send(asked);
    await upstream.until(asked);
    await act({ client, upstream });
    upstream.socket.end();
    t.match(await lab.logged((line) => line['form'] === 'connect' && lab.log.indexOf(line) >= already), expected, what);
    failures += failed ? 1 : 0;
    t.equal((await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="upstream-cut"}'), failures, what);
  }
});

t.test('a TLS client that ends without an answer to its ClientHello has given up', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  const sent = hello({ extensions: [serverName(ECO)] });
  client.send(sent);
  await upstream.until(sent.toString('latin1'));
  client.socket.end();
  await once(upstream.socket, 'end');
  upstream.socket.end();
  t.match(await ended(lab, 'client-closed'), { closedBy: 'client', status: 200, bytesSent: sent.length, bytesReceived: 0, msg: 'aborted: client-closed', detail: /ClientHello/ });
});

t.test('a reset after one direction has ended still cuts the other', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    const lab = await startTunnelLab(t);
    const { client, upstream } = await openTunnel(t, lab);
    const [one, other] = side === 'client' ? [client, upstream] : [upstream, client];
    other.socket.end();
    await once(one.socket, 'end');
    one.socket.resetAndDestroy();
    await other.ended;
    await untilNoTunnels(lab);
    t.pass(`the ${side} resets after the other side's end`);
  }
});

async function untilNoTunnels(lab: Lab): Promise<void> {
  while ((await lab.scrape()).samples.get('eco_egress_tunnels_active{form="connect",destination="eco"}') !== 0) await setImmediate();
}

t.test('a tunnel without movement is ended after the idle time, one that moves is not', async (t) => {
  const lab = await startTunnelLab(t, (draft) => Object.assign(draft.timeouts, { tunnelIdle: '600ms' }));
  const moving = await openTunnel(t, lab);
  const still = await openTunnel(t, lab);
  const beat = setInterval(() => {
    moving.upstream.send('.');
  }, 40);
  await Promise.all([still.client.ended, still.upstream.ended]);
  t.match(await ended(lab, 'idle-timeout'), { closedBy: 'proxy', status: 200, msg: 'closed: idle-timeout', level: 'warn' });
  const heard = moving.client.heard.length;
  while (moving.client.heard.length < heard + 3) await setImmediate();
  t.notOk(moving.client.socket.destroyed);
  clearInterval(beat);
  await Promise.all([moving.client.ended, moving.upstream.ended]);
});

t.test('a half-closed tunnel whose other side stays silent has a clock too', async (t) => {
  const lab = await startTunnelLab(t, (draft) => Object.assign(draft.timeouts, { tunnelIdle: '100ms' }));
  const { client, upstream } = await openTunnel(t, lab);
  client.socket.end();
  await once(upstream.socket, 'end');
  t.match(await ended(lab, 'idle-timeout'), { closedBy: 'proxy' });
  // After a FIN Node reads no more, so only a write finds out.
  upstream.send('too late');
  t.equal((await upstream.ended).how, 'reset');
});

t.test('a tunnel is ended at its greatest age, busy or not', async (t) => {
  const lab = await startTunnelLab(t, (draft) => Object.assign(draft.timeouts, { tunnelAge: '200ms' }));
  const { client, upstream } = await openTunnel(t, lab);
  const beat = setInterval(() => {
    upstream.send('.');
  }, 10);
  upstream.socket.on('close', () => {
    clearInterval(beat);
  });
  await Promise.all([client.ended, upstream.ended]);
  const line = await ended(lab, 'age-limit');
  t.match(line, { closedBy: 'proxy', msg: 'closed: age-limit' });
  t.ok(Number(line['durationMs']) >= 200);
});

t.test('a client that goes away while its upstream is dialled leaves nothing behind', async (t) => {
  const port = await startFullListener(t);
  let lookups = 0;
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined });
      Object.assign(draft.timeouts, { connect: '1s' });
      Object.assign(draft.dns, { ttl: '0s', staleFor: '0s' });
    },
    lookup: async () => {
      lookups += 1;
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  const before = countSockets();
  for (const [i, [how, code]] of ([
    ['resetAndDestroy', 'client-closed'],
    // A FIN may be half a close, with early data before it: the dial goes on, within its own time.
    ['destroy', 'connect-timeout'],
  ] as const).entries()) {
    const client = await openWire(t, lab.port);
    client.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: x\r\n\r\nearly`);
    while (lookups < i + 1) await setImmediate();
    await setImmediate();
    client.socket[how]();
    const line = await lab.logged((line) => line.code === code);
    t.match(line, { verdict: 'allow', form: 'connect', bytesSent: 0 }, how);
    if (code === 'client-closed') t.match(line, { closedBy: 'client', status: 0, msg: 'aborted: client-closed' });
    if (code === 'client-closed') t.ok(Number(line['durationMs']) < 1000, 'the dial was given up');
    await untilSockets(before);
  }
});

t.test('a CONNECT inside a tunnel is answered with the mistake, and none of it reaches the upstream', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  client.send('CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n');
  const { heard, how } = await follow(client);
  t.match(inside(heard), /^HTTP\/1\.1 400 Bad request: connect-in-tunnel\r\n[^]*give it one/);
  t.equal(how, 'fin');
  t.equal((await follow(upstream)).heard, '');
  t.match(await ended(lab, 'connect-in-tunnel'), { closedBy: 'proxy', bytesSent: 0 });

  const other = await openTunnel(t, lab);
  other.client.send('CONNECTION');
  t.equal(await other.upstream.until('CONNECTION'), 'CONNECTION', 'a word that only begins alike passes');
});

t.test('CONNECT on a connection that carried requests before', async (t) => {
  const lab = await startTunnelLab(t);
  const client = await openWire(t, lab.port, { halfOpen: true });
  for (const host of ['one.example', 'two.example']) {
    client.send(`GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    await client.until(new RegExp(`add a destination with ${host}[^]*}\\n`));
  }
  client.send(`CONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\nhello`);
  const upstream = await lab.accept();
  t.equal(await upstream.until('hello'), 'hello');
  upstream.send('welcome');
  const heard = await client.until('welcome');
  t.same(heard.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 403', 'HTTP/1.1 403', 'HTTP/1.1 200'], 'in order');
  client.socket.end();
  upstream.socket.end();
  await client.ended;
});

t.test('a CONNECT that did not wait for the answer before it is served in its turn', async (t) => {
  const lab = await startTunnelLab(t);
  const client = await openWire(t, lab.port);
  client.send(`GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\nCONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\nhello`);
  t.match(await client.until('Connection Established\r\n'), /^HTTP\/1\.1 403 [^]*}\nHTTP\/1\.1 200 Connection Established/);
  while (lab.accepted[0] === undefined) await setImmediate();
  t.equal(await lab.accepted[0].until('hello'), 'hello');
});

t.test('a slow reader stops the other side, and no byte is lost when it goes on', async (t) => {
  const lab = await startTunnelLab(t);
  for (const direction of ['up', 'down'] as const) {
    const { client, upstream } = await openTunnel(t, lab);
    const [writer, reader] = direction === 'up' ? [client.socket, upstream.socket] : [upstream.socket, client.socket];
    reader.pause();
    const written = await fill(writer);
    // Kernel buffers on the way take some megabytes.
    t.ok(written < 64 * 1024 * 1024, `${direction}: stopped after ${written} bytes`);
    // The wire keeps what it hears; this much it need only count.
    let received = 0;
    reader.removeAllListeners('data').on('data', (data: Buffer) => (received += data.length));
    writer.end();
    reader.resume();
    await once(reader, 'end');
    t.equal(received, written);
    reader.end();
    await Promise.all([client.ended, upstream.ended]);
  }
});

t.test('many tunnels, ended in every way, leave nothing', async (t) => {
  const lab = await startTunnelLab(t);
  await untilNoTunnels(lab);
  const before = countSockets();
  const ways: ((pair: { client: Wire; upstream: Wire }) => void)[] = [
    ({ client, upstream }) => {
      client.socket.end();
      upstream.socket.end();
    },
    ({ client }) => client.socket.resetAndDestroy(),
    ({ upstream }) => upstream.socket.resetAndDestroy(),
    ({ client }) => client.socket.destroy(),
    ({ upstream }) => upstream.socket.destroy(),
  ];
  for (let round = 0; round < 20; round += 1) {
    const pairs = [];
    for (let i = 0; i < 10; i += 1) pairs.push(await openTunnel(t, lab));
    pairs.forEach((pair, i) => ways[i % ways.length]?.(pair));
    await Promise.all(
      pairs.map(async ({ client, upstream }) => {
        await Promise.all([follow(client), follow(upstream)]);
      }),
    );
  }
  await untilNoTunnels(lab);
  await untilSockets(before);
  t.equal(lab.log.filter((line) => line['form'] === 'connect').length, 200);
  await untilDeserted(lab.upstream.https);
});
