/** Inside tunnels: who answers early and closes with unread bytes is heard to the end, on wires of some length, and a cut is still a cut. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import { ECO, labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { startSlowRelay, whenTaken } from '../support/slow-relay.ts';
import { startTlsLab } from '../support/tls-lab.ts';
import { openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { openWire, wireOf } from '../support/wire.ts';

const ANSWER = `HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 250000\r\n\r\n${'a'.repeat(250_000)}`;
const ROUNDS = 20;

/** Answers at the first bytes, reads no more, and closes: its system then sends a reset. */
function answerEarly(socket: Socket): void {
  socket.on('error', () => {});
  socket.once('data', () => {
    socket.pause();
    // The other side's system has all of it then: what its own has not sent, a close with unread bytes throws away.
    socket.write(ANSWER, () => {
      whenTaken(socket, () => socket.destroy());
    });
  });
}

/** Uploads until it has been answered. @returns what it heard */
async function upload(socket: Socket): Promise<string> {
  let heard = '';
  let answered = false;
  socket.on('error', () => {});
  socket.setEncoding('latin1').on('data', (text: string) => {
    heard += text;
    answered ||= heard.length >= ANSWER.length;
    if (answered) socket.destroy();
  });
  const more = (): void => {
    if (socket.destroyed || answered) return;
    if (socket.write(Buffer.alloc(8_192, 'u'))) setTimeout(more, 10);
    else socket.once('drain', more);
  };
  more();
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return heard;
}

async function startPartner(t: Test, secure: boolean): Promise<number> {
  const { certPem, keyPem } = await labCertificates();
  const server = secure ? createTlsServer({ cert: certPem, key: keyPem }, answerEarly) : createServer(answerEarly);
  server.on('tlsClientError', () => {});
  return listen(t, server);
}

for (const [form, delay] of [['connect', 0], ['connect', 50], ['connect with TLS inside', 50], ['sni', 50]] as const) {
  t.test(`${form}, a client ${delay} ms away: every early answer arrives whole`, async (t) => {
    const port = await startPartner(t, form !== 'connect');
    const lab = await startTlsLab(t, {
      // What is sent to the TLS port is for the partner's port.
      configure: (draft) => {
        Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, addresses: ['127.0.0.0/8'] });
      },
      tlsServer: null,
    });
    const { authority } = await labCertificates();
    const proxy = await startSlowRelay(t, form === 'sni' ? lab.tlsPort : lab.port, delay);
    const visit = async (): Promise<string> => {
      const socket = connect({ host: '127.0.0.1', port: proxy, noDelay: true });
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      if (form !== 'sni') {
        socket.write(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`);
        const [head] = (await once(socket, 'data')) as [Buffer];
        if (!head.toString().startsWith('HTTP/1.1 200 ')) return head.toString();
      }
      if (form === 'connect') return upload(socket);
      const tls = connectTls({ socket, ca: authority.certPem, servername: ECO });
      tls.on('error', () => {});
      await once(tls, 'secureConnect');
      return upload(tls);
    };
    const heard = await Promise.all(Array.from({ length: ROUNDS }, visit));
    t.equal(heard.filter((text) => text === ANSWER).length, ROUNDS, `${heard.map((text) => text.length).join()} of ${ANSWER.length}`);
  });
}

t.test('what a client sent before it closed with unread bytes arrives too', async (t) => {
  const sent = 'c'.repeat(250_000);
  for (const delay of [0, 50]) {
    const ends: Promise<{ heard: string; how: string }>[] = [];
    const partner = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
      ends.push(wireOf(socket).ended);
      socket.write('a greeting');
    });
    const port = await startSlowRelay(t, await listen(t, partner), delay);
    const lab = await startTunnelLab(t, (draft) => {
      draft.destinations.eco['ports'] = [port];
    });
    const visit = async (): Promise<void> => {
      const client = await openWire(t, lab.port, { halfOpen: true });
      client.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}:${port}\r\n\r\n`);
      await client.until('a greeting');
      client.socket.write(sent, () => {
        whenTaken(client.socket, () => client.socket.resetAndDestroy());
      });
      await client.ended;
    };
    await Promise.all(Array.from({ length: 10 }, visit));
    // And none looks like an orderly end.
    const found = (await Promise.all(ends)).map(({ heard, how }) => ({ heard: heard.length, how }));
    t.same(found, Array.from({ length: 10 }, () => ({ heard: sent.length, how: 'reset' })), `a partner ${delay} ms away`);
  }
});

t.test('a cut on one side is a cut on the other', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  upstream.send('half of an ans');
  await client.until('half of an ans');
  upstream.socket.resetAndDestroy();
  const { heard, how } = await client.ended;
  t.match(heard, /half of an ans$/);
  t.equal(how, 'reset');
  t.match(await lab.logged((line) => line.code === 'upstream-cut'), { closedBy: 'upstream' });

  const other = await openTunnel(t, lab);
  other.client.socket.resetAndDestroy();
  t.equal((await other.upstream.ended).how, 'reset', 'at once, where nothing was sent that it could miss');
});
