/** Waiting for a PROXY header on a real socket: every split, the bytes behind it, silence, an early end. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import { type ProxyHeader, receiveProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { listen } from '../support/listen.ts';
import { binary, block4, line, PROXY, TCP4, tlv } from '../support/proxy-header.ts';
import { openWire, type Wire } from '../support/wire.ts';

interface Meeting {
  readonly client: Wire;
  readonly server: Socket;
  /** How the wait ended; `closed` when the socket closed and nobody was told. */
  readonly outcome: Promise<ProxyHeader | Fault | 'closed' | 'reset'>;
  /** Sends a part and settles when the other side has taken it from the kernel. */
  readonly deliver: (bytes: Buffer) => Promise<void>;
}

async function meet(t: Test, timeout = 60_000): Promise<Meeting> {
  const listener = createServer({ allowHalfOpen: true });
  const port = await listen(t, listener);
  const [[server], client] = await Promise.all([once(listener, 'connection') as Promise<[Socket]>, openWire(t, port)]);
  const outcome = new Promise<ProxyHeader | Fault | 'closed' | 'reset'>((resolve) => {
    server.once('close', () => {
      resolve('closed');
    });
    receiveProxyHeader(server, {
      timeout,
      onHeader: (header) => {
        t.equal(server.listenerCount('readable'), 0, 'the wait was over first');
        resolve(header);
      },
      onFault: (fault) => {
        t.equal(server.listenerCount('readable'), 0, 'the wait was over first');
        resolve(fault);
      },
      onReset: () => {
        resolve('reset');
      },
    });
  });
  let sent = 0;
  return {
    client,
    server,
    outcome,
    deliver: async (bytes) => {
      sent += bytes.length;
      client.send(bytes);
      while (server.bytesRead < sent) await setImmediate();
    },
  };
}

const REST = Buffer.from('\r\nGET / HTTP/1.1\r\n\r\n\x16\x03\x01', 'latin1');
const HEADERS = {
  v1: line('TCP4 203.0.113.9 10.0.0.1 56324 443'),
  v2: binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), tlv(4, Buffer.alloc(3))])),
};

for (const [version, header] of Object.entries(HEADERS)) {
  t.test(`${version}: split anywhere, what follows it is left to read, whole and in order`, async (t) => {
    const bytes = Buffer.concat([header, REST]);
    for (let at = 1; at < bytes.length; at += 1) {
      await t.test(`at ${at}`, async (t) => {
        const { server, outcome, deliver } = await meet(t);
        await deliver(bytes.subarray(0, at));
        // The one who takes over may be busy when the second part comes.
        const taken = outcome.then((header) => {
          const chunks: Buffer[] = [];
          server.on('data', (chunk: Buffer) => chunks.push(chunk));
          return { header, chunks };
        });
        await deliver(bytes.subarray(at));
        const { header: read, chunks } = await taken;
        t.match(read, { address: '203.0.113.9', length: header.length });
        while (Buffer.concat(chunks).length < REST.length) await setImmediate();
        t.strictSame(Buffer.concat(chunks), REST);
      });
    }
  });

  t.test(`${version}: byte by byte`, async (t) => {
    const { outcome, deliver } = await meet(t);
    for (const byte of header) await deliver(Buffer.from([byte]));
    t.match(await outcome, { address: '203.0.113.9' });
  });

  t.test(`${version}: a client that said all it has to say is heard to its end`, async (t) => {
    const { client, server, outcome } = await meet(t);
    client.socket.end(Buffer.concat([header, REST]));
    t.match(await outcome, { address: '203.0.113.9' });
    const chunks: Buffer[] = [];
    server.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(server, 'end');
    t.strictSame(Buffer.concat(chunks), REST);
  });

  t.test(`${version}: an end in the middle is a fault, and can still be answered`, async (t) => {
    const { client, server, outcome } = await meet(t);
    client.socket.end(header.subarray(0, -1));
    const fault = await outcome;
    t.match(fault, { code: 'proxy-protocol-malformed', message: /ended in the middle/ });
    server.end('answer');
    await client.until('answer');
  });

  t.test(`${version}: the part that never comes is waited for until the deadline`, async (t) => {
    const { server, outcome, deliver } = await meet(t, 50);
    await deliver(header.subarray(0, -1));
    t.match(await outcome, { code: 'request-timeout' });
    t.notOk(server.destroyed, 'it can be answered');
  });
}

t.test('after it, the socket has no listeners any more', async (t) => {
  const { server, outcome, deliver } = await meet(t);
  const before = server.listenerCount('close');
  t.strictSame(['readable', 'error'].map((name) => server.listenerCount(name)), [1, 2], 'while it waits');
  await deliver(HEADERS.v1);
  await outcome;
  t.strictSame(['readable', 'error'].map((name) => server.listenerCount(name)), [0, 1], 'the test server has one of its own');
  t.equal(server.listenerCount('close'), before - 1);
});

t.test('what is no header is a fault at its first byte', async (t) => {
  const { outcome, deliver } = await meet(t);
  await deliver(Buffer.from('G'));
  t.match(await outcome, { code: 'proxy-protocol-malformed' });
});

t.test('silence, and an end or a reset before the first byte, close the socket and are not reported', async (t) => {
  const silent = await meet(t, 20);
  t.equal(await silent.outcome, 'closed', 'silence');
  const ended = await meet(t);
  ended.client.socket.end();
  t.equal(await ended.outcome, 'closed', 'a FIN');
  const reset = await meet(t);
  reset.client.socket.resetAndDestroy();
  t.equal(await reset.outcome, 'closed', 'a reset');
});

t.test('a reset in the middle is reported, and gets no answer', async (t) => {
  const { client, outcome, deliver } = await meet(t);
  await deliver(HEADERS.v1.subarray(0, 10));
  client.socket.resetAndDestroy();
  t.equal(await outcome, 'reset');
});

t.test('a flood behind the header is not read ahead', async (t) => {
  const { client, server, outcome } = await meet(t);
  client.send(Buffer.concat([HEADERS.v1, Buffer.alloc(1 << 24)]));
  t.match(await outcome, { address: '203.0.113.9' });
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  t.ok(server.readableLength < 1 << 20, `${server.readableLength} bytes are held`);
});
