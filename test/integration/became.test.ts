/** What a request became is counted and logged by what happened to it, not by what is known of its upstream. */
import { createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { goBy, startHopLab } from '../support/hop-lab.ts';
import { ECO, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { startParent } from '../support/parents.ts';
import { sumOf } from '../support/prometheus.ts';
import { openSteered, speak, startTlsLab, type TlsLab } from '../support/tls-lab.ts';
import { openWire } from '../support/wire.ts';

const FORM = { form: 'sni', destination: 'eco' };

/** ECO by a parent that resolves the name itself: nobody here knows the address. */
async function startParentLab(t: Test): Promise<TlsLab> {
  const parent = await startParent(t);
  return startHopLab(t, {
    hops: { gate: { url: `http://parent.test:${parent.port}` } },
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { resolve: 'parent', addresses: undefined });
      // Steered TLS names no port, so the destination must have one alone.
      draft.destinations.eco['ports'] = (draft.destinations.eco['ports'] as number[]).slice(0, 1);
    },
  });
}

async function steer(t: Test, lab: TlsLab): Promise<void> {
  const socket = await openSteered(t, lab);
  await speak(socket, `GET /x HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`);
}

t.test('raw TLS to a name that only the parent resolves is a tunnel like any other', async (t) => {
  const lab = await startParentLab(t);
  await steer(t, lab);
  const line = await lab.logged(({ form }) => form === 'sni');
  t.match(line, { code: 'ok', msg: 'tunnel ok', upstreamAddress: '-', via: /gate/ });
  const scrape = await lab.scrape();
  t.equal(sumOf(scrape, 'eco_egress_bytes_total', { ...FORM, direction: 'sent' }), line['bytesSent'], 'bytes count once');
  t.equal(sumOf(scrape, 'eco_egress_bytes_total', { ...FORM, direction: 'received' }), line['bytesReceived']);
  t.equal(sumOf(scrape, 'eco_egress_tunnel_duration_seconds_count', FORM), 1);
  t.equal(sumOf(scrape, 'eco_egress_request_duration_seconds_count', FORM), 0);
  t.equal(sumOf(scrape, 'eco_egress_tunnels_active', FORM), 0);
});

t.test('what the partner cuts behind a resolving parent is a failure of the upstream', async (t) => {
  // Answers half of what it announced, and closes.
  const partner = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n'.slice(0, 12)));
  });
  const port = await listen(t, partner);
  const parent = await startParent(t);
  const lab = await startLab(t, {
    configure: (draft) => {
      goBy(draft, { gate: { url: `http://parent.test:${parent.port}` } }, { resolve: 'parent', addresses: undefined, ports: [port], gateway: undefined, tls: undefined });
    },
  });
  for (let round = 0; round < 5; round += 1) {
    const wire = await openWire(t, lab.port);
    wire.send(`POST http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    t.match((await wire.ended).heard, / 502 [^\r]*upstream-cut/);
  }
  t.equal(sumOf(await lab.scrape(), 'eco_egress_upstream_errors_total', { destination: 'eco', error: 'upstream-cut' }), 5);
});

t.test('an exchange given up by one connection and refused by the next counts that failure once', async (t) => {
  // The first connection takes one request and closes with the second: a retry, for which nobody listens any more.
  const partner = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      partner.close();
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      socket.once('data', () => socket.resetAndDestroy());
    });
  });
  const port = await listen(t, partner);
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, tls: undefined });
    },
  });
  for (const status of [200, 502]) {
    const wire = await openWire(t, lab.port);
    wire.send(`GET http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`);
    t.match((await wire.ended).heard, ` ${status} `);
  }
  const line = await lab.logged(({ status }) => status === 502);
  t.match(line, { code: 'connection-refused', upstreamAddress: '127.0.0.1', localPort: undefined }, 'the address that was tried, and no connection');
  t.equal(sumOf(await lab.scrape(), 'eco_egress_upstream_errors_total', { destination: 'eco' }), 1);
});

t.test('a limit that refuses raw TLS is a refusal, as for every form', async (t) => {
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      draft.destinations.eco['ports'] = (draft.destinations.eco['ports'] as number[]).slice(0, 1);
      draft.limits['tunnels'] = 1;
    },
  });
  const held = await openSteered(t, lab);
  await t.rejects(openSteered(t, lab));
  t.match(await lab.logged(({ code }) => code === 'limit-reached'), { form: 'sni', status: 0, msg: 'denied: limit-reached', level: 'warn' });
  t.equal(sumOf(await lab.scrape(), 'eco_egress_requests_total', { form: 'sni', outcome: 'denied', code: 'limit-reached' }), 1);
  held.destroy();
});
