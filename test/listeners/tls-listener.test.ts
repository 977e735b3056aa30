/** The TLS listener over raw sockets: whatever begins a connection gets the right end, in bytes, log and counters. */
import t from 'tap';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Test } from 'tap';
import type { FaultCode } from '../../src/errors.ts';
import { accessLines, readAnswers } from '../support/hostile.ts';
import { alpn, captureNode, ech, hello, message, records, serverName, vector } from '../support/hello.ts';
import { ECO, type Lab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { sumOf } from '../support/prometheus.ts';
import { line as proxyLine } from '../support/proxy-header.ts';
import { startFullListener } from '../support/full-listener.ts';
import { openSteered, OWN, startTlsLab, tlsPortOf } from '../support/tls-lab.ts';
import { startTunnelLab } from '../support/tunnel-lab.ts';
import { openWire } from '../support/wire.ts';

const alert = (code: number): string => Buffer.from([21, 3, 3, 0, 2, 2, code]).toString('latin1');
const named = (name: string): Buffer => hello({ extensions: [serverName(name), alpn('h2', 'http/1.1')] });

interface Refused {
  readonly code: FaultCode;
  /** All that the client hears: an alert, nothing, or an HTTP status. */
  readonly heard: string | number;
  readonly line?: Record<string, unknown>;
}

/** Says `bytes` and ends; holds what was heard and logged, and that nothing reached the upstream. */
async function refuses(t: Test, lab: Lab, what: string, bytes: Buffer | string, { code, heard, line = {} }: Refused): Promise<void> {
  const before = accessLines(lab).length;
  const { connections } = lab.upstream;
  const wire = await openWire(t, tlsPortOf(lab));
  wire.send(bytes);
  const ended = await wire.ended;
  if (typeof heard === 'string') t.equal(ended.heard, heard, what);
  else t.match(readAnswers(ended.heard), [{ status: heard, line: new RegExp(`: ${code}$`) }], what);
  await lab.logged((entry) => accessLines(lab).indexOf(entry) >= before);
  const lines = accessLines(lab).slice(before);
  t.match(lines, [{ code, status: typeof heard === 'number' ? heard : 0, closedBy: 'proxy', client: 'pods', clientAddress: '127.0.0.1', ...line }], `${what}: the line`);
  t.equal(lines.length, 1, `${what}: one line`);
  t.equal(lab.upstream.connections, connections, `${what}: nothing at the upstream`);
}

t.test('what begins no TLS that could be served', async (t) => {
  const lab = await startTlsLab(t);
  const malformed = (heard: string): Refused => ({ code: 'tls-hello-malformed', heard, line: { form: '-' } });
  const table: [what: string, bytes: Buffer | string, expected: Refused][] = [
    ['no server name', hello({ extensions: [alpn('http/1.1')] }), { code: 'sni-missing', heard: alert(109) }],
    ['no extensions at all', hello({ extensions: null }), { code: 'sni-missing', heard: alert(109) }],
    ['two names', hello({ extensions: [serverName(ECO, 'evil.example')] }), malformed(alert(50))],
    ['two extensions with a name', hello({ extensions: [serverName(ECO), serverName('evil.example')] }), malformed(alert(50))],
    ['a name with a final dot', named(`${ECO}.`), { ...malformed(alert(50)), line: { detail: /final dot, which RFC 6066 rules out; call by a host name without a final dot/ } }],
    ['an address for a name', named('127.0.0.1'), { ...malformed(alert(50)), line: { detail: /an address, which RFC 6066 rules out; call by a host name/ } }],
    ['a NUL inside the name', named(`evil.example\0.${ECO}`), malformed(alert(50))],
    ['another handshake message', records(Buffer.concat([Buffer.of(2), vector(3, Buffer.alloc(40))])), malformed(alert(50))],
    ['an empty record', Buffer.of(22, 3, 1, 0, 0), malformed(alert(50))],
    ['a hello of 33 KiB', hello({ extensions: [serverName(ECO), [21, Buffer.alloc(33 * 1024)]] }), malformed(alert(50))],
    ['another record in the middle', Buffer.concat([records(message({ extensions: [serverName(ECO)] }), [20]).subarray(0, 25), Buffer.of(21, 3, 1, 0, 2, 2, 40)]), malformed(alert(50))],
    ['SSL 2.0', Buffer.from('802e0100020015000000100100800200800300800400800500800600', 'hex'), malformed('')],
    ['SSH', 'SSH-2.0-OpenSSH_9.2\r\n', { ...malformed(''), line: { detail: /send TLS to this port, and nothing before it$/ } }],
    ['SOCKS', Buffer.of(5, 1, 0), malformed('')],
    ['a TLS alert', Buffer.of(21, 3, 1, 0, 2, 2, 40), malformed('')],
    ['plain HTTP', `GET / HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`, { code: 'http-on-tls-port', heard: 400 }],
    ['plain CONNECT', `CONNECT ${ECO}:443 HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`, { code: 'http-on-tls-port', heard: 400 }],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', { code: 'http-on-tls-port', heard: 400 }],
    ['the PROXY protocol', proxyLine('TCP4 10.0.0.1 10.0.0.2 1 2'), { code: 'peer-not-trusted', heard: alert(49) }],
  ];
  for (const [what, bytes, expected] of table) await refuses(t, lab, what, bytes, expected);
  const counted = sumOf(await lab.scrape(), 'eco_egress_requests_total', { form: '-', outcome: 'denied', code: 'tls-hello-malformed' });
  t.equal(counted, table.filter(([, , { code }]) => code === 'tls-hello-malformed').length);
});

t.test('steered TLS that is not permitted', async (t) => {
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      draft.clients['guests'] = { addresses: ['127.0.0.2'] };
      draft.clients['pods'] = { addresses: ['127.0.0.1'] };
      draft.destinations['web'] = { hosts: ['web.example'], ports: [80], forms: ['forward'] };
      draft.destinations['judged'] = { hosts: ['judged.example'], ports: [443] };
      draft.destinations['nowhere'] = { hosts: ['nowhere.example'], ports: [8443, 443], addresses: ['10.0.0.0/8'] };
      draft.destinations['closed'] = { hosts: ['closed.example'], ports: [1], addresses: ['127.0.0.0/8'] };
      draft.rules.push({ clients: ['pods'], destinations: ['web', 'nowhere', 'closed'] }, { clients: ['pods'], destinations: ['judged'], paths: ['/api/*'] });
    },
  });
  const sni = (host: string, port: number, verdict = 'deny', destination = '-'): Record<string, unknown> => ({ form: 'sni', host, port, verdict, destination, method: '-', path: '' });
  const table: [what: string, bytes: Buffer, expected: Refused][] = [
    ['a host in no destination', named('evil.example'), { code: 'host-not-allowed', heard: alert(112), line: sni('evil.example', 443) }],
    ['the suffix of a host', named('telus.internal'), { code: 'host-not-allowed', heard: alert(112) }],
    ['a host that ends alike', named(`evil${ECO}`), { code: 'host-not-allowed', heard: alert(112) }],
    ['in capitals, for the record', named('EVIL.Example'), { code: 'host-not-allowed', heard: alert(112), line: sni('evil.example', 443) }],
    ['an outer name of ECH', hello({ extensions: [serverName('provider.example'), ech] }), { code: 'host-not-allowed', heard: alert(112), line: { detail: /encrypted name may be inside \(ECH\)/ } }],
    ['a form that the destination does not take', named('web.example'), { code: 'form-not-allowed', heard: alert(49), line: sni('web.example', 80, 'deny', 'web') }],
    ['a rule with paths', named('judged.example'), { code: 'form-not-allowed', heard: alert(49), line: sni('judged.example', 443, 'deny', 'judged') }],
    ['an address that is not permitted', named('nowhere.example'), { code: 'address-not-allowed', heard: alert(49), line: sni('nowhere.example', 443, 'allow', 'nowhere') }],
    ['a partner that refuses', named('closed.example'), { code: 'connection-refused', heard: alert(80), line: sni('closed.example', 1, 'allow', 'closed') }],
  ];
  for (const [what, bytes, expected] of table) await refuses(t, lab, what, bytes, expected);

  for (const [from, code, client] of [['127.0.0.2', 'no-rule', 'guests'], ['127.0.0.3', 'client-not-allowed', '-']] as const) {
    const wire = await openWire(t, lab.tlsPort, { from });
    wire.send(named(ECO));
    t.equal((await wire.ended).heard, alert(49), code);
    t.match(await lab.logged((line) => line.code === code), { form: 'sni', client, clientAddress: from, verdict: 'deny', status: 0 });
  }
  const scrape = await lab.scrape();
  t.equal(sumOf(scrape, 'eco_egress_requests_total', { form: 'sni', destination: '-', client: 'pods', outcome: 'denied', code: 'host-not-allowed' }), 5);
  t.equal(sumOf(scrape, 'eco_egress_requests_total', { form: 'sni', destination: 'closed', outcome: 'failed', code: 'connection-refused' }), 1);
  t.equal(sumOf(scrape, 'eco_egress_request_duration_seconds_count', { form: 'sni' }), 0, 'none of it is an exchange');
});

t.test('a listener takes the forms that it lists', async (t) => {
  const lab = await startTlsLab(t, { listener: { forms: ['gateway'] } });
  await refuses(t, lab, 'without sni', named(ECO), { code: 'form-not-allowed', heard: alert(49), line: { form: 'sni', host: ECO, detail: /this listener takes gateway, not sni/ } });
});

t.test('without tlsServer our own name is a name like any other', async (t) => {
  const lab = await startTlsLab(t, { tlsServer: null });
  await refuses(t, lab, 'our own name', named(OWN), { code: 'host-not-allowed', heard: alert(112), line: { form: 'sni', host: OWN } });
});

t.test('report mode passes what would be denied, and the address guard alone stays', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.mode = 'report') });
  await refuses(t, lab, 'an unknown host on loopback', named('any.example'), {
    code: 'address-not-allowed',
    heard: alert(49),
    line: { form: 'sni', client: 'pods', destination: '-', verdict: 'report', wouldDeny: 'host-not-allowed' },
  });
});

t.test('a name that leads back to this listener', async (t) => {
  const lab = await startTlsLab(t);
  await lab.reload((draft) => {
    draft.destinations.eco['ports'] = [lab.tlsPort];
    delete draft.destinations.eco['gateway'];
  });
  await refuses(t, lab, 'a loop', named(ECO), { code: 'loop', heard: alert(80), line: { form: 'sni', port: lab.tlsPort } });
});

t.test('what is sent to the partner and steered back to us ends at the second hop', async (t) => {
  const opened: Socket[] = [];
  let led = 0;
  // A mesh that takes our own connections for those of a client.
  const mesh = createServer((socket) => {
    opened.push(socket);
    const back = connect({ host: '127.0.0.1', port: led });
    for (const each of [socket, back]) each.on('error', () => {});
    socket.pipe(back).pipe(socket);
    socket.on('close', () => back.destroy());
  });
  const port = await listen(t, mesh);
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      draft.destinations.eco['ports'] = [port];
      delete draft.destinations.eco['gateway'];
    },
  });
  led = lab.tlsPort;
  for (const round of [1, 2]) {
    await t.rejects(openSteered(t, lab), /internal error/, 'raw TLS');
    t.equal(opened.length, 2 * round - 1);
    const wire = await openWire(t, lab.port);
    wire.send(`CONNECT ${ECO}:${port} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
    await wire.until('200');
    wire.socket.removeAllListeners('data');
    await t.rejects(once(connectTls({ socket: wire.socket, servername: ECO }), 'secureConnect'), 'in a tunnel');
    t.equal(opened.length, 2 * round, 'each went out once');
  }
  t.match(await lab.logged((line) => line.code === 'loop'), { form: 'sni', host: ECO, detail: /same TLS handshake is on its way/ });
  t.equal(lab.log.filter((line) => line.code === 'loop').length, 4);
});

t.test('connections beyond the limit hear an alert', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.limits['connections'] = 1) });
  const first = await openWire(t, lab.tlsPort);
  await refuses(t, lab, 'the second', '', { code: 'limit-reached', heard: alert(80) });
  first.socket.destroy();
});

t.test('the bytes pass as they came, however they were cut', async (t) => {
  const first = await captureNode(t, { servername: ECO });
  const again = records(message({ extensions: [serverName(ECO), [21, Buffer.alloc(17_000)]] }));
  const lab = await startTunnelLab(t, (draft) => void (draft.listeners['tls'] = '127.0.0.1:0'));
  const early = Buffer.concat([Buffer.of(23, 3, 3, 0, 42), Buffer.from('what a client sends early, after its hello')]);
  const handshake = Buffer.concat([first.subarray(5)]);
  const streams: [what: string, stream: Buffer][] = [
    ['as Node sends it', Buffer.concat([first, early])],
    ['17 KB over two records', Buffer.concat([again, early])],
    ['records of one byte', Buffer.concat([records(handshake, [1]), early])],
    ['records of 1, 2 and 200 bytes', Buffer.concat([records(handshake, [1, 2, 200]), early])],
  ];
  let count = 0;
  for (const [what, stream] of streams) {
    for (const [how, size] of [['at once', stream.length], ['byte by byte', 1], ['in pieces of 1000', 1000]] as const) {
      if (size === 1 && stream.length > 10_000) continue;
      const client = connect({ host: '127.0.0.1', port: tlsPortOf(lab), noDelay: true });
      t.teardown(() => client.destroy());
      await once(client, 'connect');
      for (let start = 0; start < stream.length; start += size) {
        client.write(stream.subarray(start, start + size));
        if (size < stream.length) await new Promise(setImmediate);
      }
      const upstream = await lab.accept();
      t.equal(await upstream.until(early.toString('latin1')), stream.toString('latin1'), `${what}, ${how}`);
      upstream.send('answer');
      const [answer] = (await once(client, 'data')) as [Buffer];
      t.equal(answer.toString(), 'answer');
      client.resetAndDestroy();
      await upstream.ended;
      // The same hello again would be a loop as long as the tunnel is there.
      count += 1;
      await lab.logged((line) => lab.log.filter(({ form }) => form === 'sni').indexOf(line) === count - 1);
    }
  }
});

t.test('nothing is sent before the hello is whole', async (t) => {
  const lab = await startTunnelLab(t, (draft) => void (draft.listeners['tls'] = '127.0.0.1:0'));
  const stream = named(ECO);
  const client = await openWire(t, tlsPortOf(lab));
  client.send(stream.subarray(0, -1));
  // Another connection that comes later is through first.
  const other = await openWire(t, tlsPortOf(lab));
  // With a random of its own, as every handshake has.
  const another = Buffer.from(stream).fill(1, 11, 43);
  other.send(another);
  const first = await lab.accept();
  t.equal(await first.until(another.toString('latin1')), another.toString('latin1'));
  t.equal(lab.accepted.length, 1);
  client.send(stream.subarray(-1));
  const second = await lab.accept();
  t.equal(await second.until(stream.toString('latin1')), stream.toString('latin1'));
});

t.test('a tunnel: half-close either way, its line, its metrics', async (t) => {
  const lab = await startTunnelLab(t, (draft) => void (draft.listeners['tls'] = '127.0.0.1:0'));
  const stream = named(ECO);
  for (const by of ['client', 'upstream'] as const) {
    const client = await openWire(t, tlsPortOf(lab), { halfOpen: true });
    client.send(stream);
    const upstream = await lab.accept();
    await upstream.until(stream.toString('latin1'));
    // One that ended without an answer would have failed.
    upstream.send(Buffer.concat([Buffer.of(22, 3, 3, 0, 5), Buffer.from('hello')]));
    await client.until('hello');
    const [one, other] = by === 'client' ? [client, upstream] : [upstream, client];
    t.equal(sumOf(await lab.scrape(), 'eco_egress_tunnels_active', { form: 'sni', destination: 'eco' }), 1);
    one.socket.end();
    await once(other.socket, 'end');
    other.send(Buffer.concat([Buffer.of(23, 3, 3, 0, 25), Buffer.from('after the other has ended')]));
    await one.until('after the other has ended');
    other.socket.end();
    t.match(await Promise.all([client.ended, upstream.ended]), [{ how: 'fin' }, { how: 'fin' }]);
    t.match(await lab.logged((line) => line['form'] === 'sni' && line['closedBy'] === by), {
      client: 'pods',
      clientAddress: '127.0.0.1',
      method: '-',
      host: ECO,
      port: Number(lab.target.split(':')[1]),
      path: '',
      destination: 'eco',
      rule: 'rules[0]',
      verdict: 'allow',
      code: 'ok',
      status: 0,
      upstreamAddress: '127.0.0.1',
      phases: { tcp: Number },
      bytesSent: stream.length + (by === 'upstream' ? 30 : 0),
      bytesReceived: 10 + (by === 'upstream' ? 0 : 30),
      msg: 'tunnel ok',
    });
  }
  const scrape = await lab.scrape();
  t.equal(sumOf(scrape, 'eco_egress_tunnels_active', { form: 'sni' }), 0);
  t.equal(sumOf(scrape, 'eco_egress_tunnel_duration_seconds_count', { form: 'sni', destination: 'eco' }), 2);
  t.equal(sumOf(scrape, 'eco_egress_requests_total', { form: 'sni', destination: 'eco', client: 'pods', outcome: 'allowed', code: 'ok' }), 2);
});

t.test('a client that leaves takes its dial with it', async (t) => {
  const full = await startFullListener(t);
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      draft.destinations.eco['ports'] = [full];
      delete draft.destinations.eco['gateway'];
      draft.timeouts['connect'] = '60s';
    },
  });
  const client = await openWire(t, lab.tlsPort);
  client.send(named(ECO));
  // The dial is under way once it holds a place among the tunnels.
  while ((await lab.status()).limits.find(({ name }) => name === 'tunnels')?.used !== 1) await new Promise(setImmediate);
  client.socket.resetAndDestroy();
  t.match(await lab.logged((line) => line['form'] === 'sni'), { code: 'client-closed', closedBy: 'client', status: 0 });
});

t.test('a slow hello is cut at its deadline, however it trickles', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.timeouts['requestHeaders'] = '300ms') });
  const stream = named(ECO);
  const started = performance.now();
  const silent = await openWire(t, lab.tlsPort);
  const stalled = await openWire(t, lab.tlsPort);
  stalled.send(stream.subarray(0, 20));
  const trickling = await openWire(t, lab.tlsPort);
  let sent = 0;
  const timer = setInterval(() => {
    trickling.send(stream.subarray(sent, (sent += 1)));
  }, 20);
  trickling.socket.once('close', () => {
    clearInterval(timer);
  });
  t.match(await Promise.all([silent.ended, stalled.ended, trickling.ended]), [{ heard: '' }, { heard: '' }, { heard: '' }]);
  t.ok(performance.now() - started > 250);
  t.ok(sent < stream.length, 'before it was whole');
  const lines = accessLines(lab);
  t.match(lines, [{ code: 'request-timeout', status: 0, form: '-' }, { code: 'request-timeout' }], 'who said nothing is not logged');
  t.equal(lines.length, 2);
  t.ok(lines.every(({ durationMs }) => Number(durationMs) > 250), 'since the connection began');
});

t.test('200 stalled hellos hold no more than they may', async (t) => {
  const lab = await startTlsLab(t);
  const stream = records(message({ extensions: [serverName(ECO), [21, Buffer.alloc(31_000)]] }), [1000]);
  const before = process.memoryUsage().arrayBuffers;
  const wires = await Promise.all(Array.from({ length: 200 }, () => openWire(t, lab.tlsPort)));
  await Promise.all(
    wires.map(
      ({ socket }) =>
        new Promise((resolve) => {
          socket.write(stream.subarray(0, -1), resolve);
        }),
    ),
  );
  // One that comes last and is answered: what the others sent has been read by then.
  await refuses(t, lab, 'another one', named('evil.example'), { code: 'host-not-allowed', heard: alert(112) });
  const held = process.memoryUsage().arrayBuffers - before;
  t.ok(held > 200 * 31_000, `they are held: ${held}`);
  t.ok(held < 200 * 64 * 1024, `at most 64 KiB each: ${held}`);
  for (const { socket } of wires) socket.destroy();
  await lab.logged((line) => line.code === 'host-not-allowed');
  while (sumOf(await lab.scrape(), 'eco_egress_client_connections') > 0) await new Promise(setImmediate);
});
