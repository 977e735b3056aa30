/** Tunnels by parents: early bytes, half-close, resets, and much in both directions. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { authority, serverTls } from '../support/hop-door.ts';
import { goBy } from '../support/hop-lab.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';
import { type Parent, startParent } from '../support/parents.ts';
import { ESTABLISHED, follow, openTunnel, startTunnelLab, type TunnelLab } from '../support/tunnel-lab.ts';
import { openWire } from '../support/wire.ts';

const SCHEMES = ['http', 'https', 'socks5'] as const;

/** Where the lab finds the authority of its https parents. */
const PARENT_CA = 'parent-ca.pem';
const files = { [`/lab/${PARENT_CA}`]: authority.certPem };

const hopOf = (scheme: (typeof SCHEMES)[number], port: number): object => ({ url: `${scheme}://parent.test:${port}`, ...(scheme === 'https' ? { tls: { caFile: PARENT_CA } } : {}) });

async function startWay(t: Test, schemes: readonly (typeof SCHEMES)[number][], early = ''): Promise<{ lab: TunnelLab; parents: Parent[] }> {
  const parents = await Promise.all(schemes.map((scheme) => startParent(t, { scheme, tls: serverTls, early })));
  const lab = await startTunnelLab(
    t,
    (draft) => {
      goBy(draft, Object.fromEntries(schemes.map((scheme, index) => [`hop-${index}`, hopOf(scheme, parents[index]?.port ?? 0)])));
    },
    files,
  );
  return { lab, parents };
}

t.test('what comes with the parent’s answer, in one segment, is the first that the client hears', async (t) => {
  for (const scheme of SCHEMES) {
    const { lab } = await startWay(t, [scheme], 'EARLY');
    const { client, upstream } = await openTunnel(t, lab);
    upstream.send(' and more');
    t.match(await client.until('more'), /\r\n\r\nEARLY and more$/, scheme);
  }
});

t.test('what the client sends with its CONNECT waits for the whole way', async (t) => {
  const { lab } = await startWay(t, ['http', 'https', 'socks5']);
  const client = await openWire(t, lab.port, { halfOpen: true });
  client.send(`CONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\nat once`);
  const upstream = await lab.accept();
  await upstream.until('at once');
  t.equal(upstream.heard, 'at once');
  t.match(await client.until(ESTABLISHED), ESTABLISHED);
});

t.test('each direction ends on its own, through parents of every kind', async (t) => {
  for (const schemes of [...SCHEMES.map((scheme) => [scheme]), [...SCHEMES]]) {
    const { lab } = await startWay(t, schemes);
    const one = await openTunnel(t, lab);
    one.client.send('question');
    one.client.socket.end();
    await once(one.upstream.socket, 'end');
    t.equal(one.upstream.heard, 'question');
    one.upstream.send('a late answer');
    one.upstream.socket.end();
    t.match((await one.client.ended).heard, /a late answer$/, schemes.join());

    const other = await openTunnel(t, lab);
    other.upstream.socket.end('that is all');
    await once(other.client.socket, 'end');
    other.client.send('thank you');
    other.client.socket.end();
    await other.upstream.until('thank you');
    t.equal((await follow(other.upstream)).how, 'fin', schemes.join());
    t.match(await lab.logged((line) => line['closedBy'] === 'upstream'), { code: 'ok', bytesSent: 9, bytesReceived: 11 });
  }
});

t.test('a reset of the upstream does not become an orderly end', async (t) => {
  const { lab } = await startWay(t, ['http']);
  const { client, upstream } = await openTunnel(t, lab);
  upstream.socket.resetAndDestroy();
  t.equal((await client.ended).how, 'reset');
  t.match(await lab.logged((line) => line['form'] === 'connect'), { code: 'upstream-cut' });
});

const MEGABYTES = 100;

t.test('100 MB through a chain and TLS in TLS, byte for byte', async (t) => {
  const chunk = randomBytes(1_000_000);
  const expected = createHash('sha256');
  for (let count = 0; count < MEGABYTES; count += 1) expected.update(chunk);
  const { lab } = await startWay(t, SCHEMES);
  const { client, upstream } = await openTunnel(t, lab);
  const heard = createHash('sha256');
  let bytes = 0;
  client.socket.removeAllListeners('data').on('data', (data: Buffer) => {
    bytes += data.length;
    heard.update(data);
  });
  for (let count = 0; count < MEGABYTES; count += 1) if (!upstream.socket.write(chunk)) await once(upstream.socket, 'drain');
  upstream.socket.end();
  await follow(client);
  t.equal(bytes, MEGABYTES * chunk.length);
  t.equal(heard.digest('hex'), expected.digest('hex'));
  t.match(await lab.logged((line) => line['form'] === 'connect'), { code: 'ok', bytesReceived: bytes });
});

t.test('no socket is left, whichever side ends first', async (t) => {
  const { lab } = await startWay(t, SCHEMES);
  const before = countSockets();
  for (let round = 0; round < 5; round += 1) {
    const { client, upstream } = await openTunnel(t, lab);
    const [first, last] = round % 2 === 0 ? [client, upstream] : [upstream, client];
    first.socket.destroy();
    await Promise.all([first.ended, follow(last)]);
  }
  // A client that goes while the way is still being opened.
  const hasty = await openWire(t, lab.port);
  hasty.send(`CONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\n`);
  hasty.socket.resetAndDestroy();
  await untilSockets(before);
  t.pass('all closed');
});
