/** The fronting guard in a whole proxy: what passes and what does not, byte by byte, in every mode. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import { alpn, captureNode, ech, hello, message, padding, records, serverName } from '../support/hello.ts';
import { type Draft, ECO, type Lab, labCertificates, type LogLine, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { openWire, type Wire, wireOf } from '../support/wire.ts';

const MODES = ['require', 'report', 'off'] as const;
type Mode = (typeof MODES)[number];

const ALERT = '\x15\x03\x03\x00\x02\x02\x70';
const ESTABLISHED = /^HTTP\/1\.1 200 Connection Established\r\nX-Request-Id: [\w-]+\r\n\r\n/;

const tunnelLine = (lab: Lab): Promise<LogLine> => lab.logged((line) => line['form'] === 'connect');
const inside = (heard: string): string => heard.replace(ESTABLISHED, '');

interface RawLab extends Lab {
  readonly target: string;
  /** The first connection that reaches the upstream, which says nothing by itself. */
  readonly upstreamWire: Promise<Wire>;
}

/** A lab for one tunnel, whose upstream is bare TCP. */
async function startRawLab(t: Test, mode: Mode, configure?: (draft: Draft) => void): Promise<RawLab> {
  const accepted = Promise.withResolvers<Wire>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket: Socket) => {
    accepted.resolve(wireOf(socket));
  });
  const port = await listen(t, server);
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { hosts: [ECO, '127.0.0.1'], ports: [port], gateway: undefined, tunnelSni: mode });
      configure?.(draft);
    },
  });
  return { ...lab, target: `${ECO}:${port}`, upstreamWire: accepted.promise };
}

async function openTunnel(t: Test, lab: RawLab, target = lab.target): Promise<{ client: Wire; upstream: Wire }> {
  const client = await openWire(t, lab.port, { halfOpen: true });
  client.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  const [, upstream] = await Promise.all([client.until(ESTABLISHED), lab.upstreamWire]);
  return { client, upstream };
}

/** Sends pieces one after the other, each in a segment of its own. */
async function sendPieces(wire: Wire, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) await new Promise((resolve) => wire.socket.write(piece, resolve));
}

function cut(stream: Buffer, length: number): Buffer[] {
  return Array.from({ length: Math.ceil(stream.length / length) }, (_, i) => stream.subarray(i * length, (i + 1) * length));
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

t.test('every byte arrives as it was sent, however the hello was cut, in every mode', async (t) => {
  const real = await captureNode(t, { servername: ECO, ALPNProtocols: ['h2'] });
  const long = message({ extensions: [padding(17_000), serverName(ECO), alpn('h2')] });
  // Application data, as early data is: what is no TLS record does not pass behind a hello.
  const rest = Buffer.concat(Array<Buffer>(8).fill(Buffer.concat([Buffer.of(23, 3, 3, 0x30, 0x39), Buffer.alloc(12_345, 'what follows')])));
  for (const mode of MODES) {
    for (const [what, opening, length] of [
      ['at once', real, 1 << 20],
      ['byte by byte', real, 1],
      ['a long one in pieces', records(long, [16_384]), 1000],
      ['many records', records(long, [64]), 1448],
    ] as const) {
      for (const early of [false, true]) {
        const lab = await startRawLab(t, mode);
        const stream = Buffer.concat([opening, rest]);
        let client: Wire;
        let upstream: Wire;
        if (early) {
          client = await openWire(t, lab.port, { halfOpen: true });
          client.send(Buffer.concat([Buffer.from(`CONNECT ${lab.target} HTTP/1.1\r\nHost: x\r\n\r\n`), stream.subarray(0, 10)]));
          upstream = await lab.upstreamWire;
          await sendPieces(client, [...cut(opening.subarray(10), length), rest]);
        } else {
          ({ client, upstream } = await openTunnel(t, lab));
          await sendPieces(client, [...cut(opening, length), rest]);
        }
        client.socket.end();
        await once(upstream.socket, 'end');
        t.equal(sha256(Buffer.from(upstream.heard, 'latin1')), sha256(stream), `${mode}, ${what}${early ? ', early' : ''}`);
        upstream.socket.end('and back');
        t.equal(inside((await client.ended).heard), 'and back');
        t.match(await tunnelLine(lab), { verdict: 'allow', code: 'ok', bytesSent: stream.length });
      }
    }
  }
});

t.test('require: of what is refused not one byte reaches the upstream', async (t) => {
  const fronted = hello({ extensions: [serverName('evil.example'), padding(500)] });
  for (const [what, pieces, alerted, detail] of [
    ['another name', [fronted], true, /is for evil\.example/],
    ['another name, byte by byte', cut(fronted, 1), true, /is for evil\.example/],
    ['another name, over records', cut(hello({ extensions: [serverName('evil.example')] }, [3]), 50), true, /is for evil\.example/],
    ['a name that only begins alike', [hello({ extensions: [serverName(`${ECO}.evil.example`)] })], true, /is for eco-sit\.telus\.internal\.evil\.example/],
    ['a name below', [hello({ extensions: [serverName(`x.${ECO}`)] })], true, /is for x\.eco-sit/],
    ['both names', [hello({ extensions: [serverName(ECO, 'evil.example')] })], true, /more than one entry/],
    ['both names in two extensions', [hello({ extensions: [serverName(ECO), serverName('evil.example')] })], true, /two server_name/],
    ['a final dot', [hello({ extensions: [serverName(`${ECO}.`)] })], true, /final dot/],
    ['NUL', [hello({ extensions: [serverName(`${ECO}\0.evil.example`)] })], true, /\\u0000/],
    ['no name', [hello({ extensions: [] })], true, /names no host/],
    ['ECH behind a public name', [hello({ extensions: [serverName('public.example'), ech] })], true, /public\.example.*encrypted name may be inside \(ECH\)/],
    ['plain text behind the hello', [Buffer.concat([hello({ extensions: [serverName(ECO)] }), Buffer.from('GET / HTTP/1.1\r\n')])], true, /what follows the ClientHello is not a TLS record/],
    ['a second hello behind the first', [Buffer.concat([hello({ extensions: [serverName(ECO)] }), fronted])], true, /second handshake message follows/],
    ['a second hello in the record of the first', [records(Buffer.concat([message({ extensions: [serverName(ECO)] }), message({ extensions: [serverName('evil.example')] })]))], true, /another handshake message behind it/],
    ['a hello without end', cut(Buffer.concat([Buffer.of(22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xfc), Buffer.alloc(70_000)]), 1000), true, /interrupted/],
    ['HTTP', [Buffer.from(`GET / HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`)], false, /carries no TLS.*0x47/],
    ['an SSL 2.0 hello', [Buffer.of(0x80, 0x2e, 1, 3, 1)], false, /SSL 2\.0/],
  ] as const) {
    const lab = await startRawLab(t, 'require');
    const { client, upstream } = await openTunnel(t, lab);
    client.socket.on('error', () => {});
    // Written without looking whether anybody still listens, as a program would.
    for (const piece of pieces) client.send(piece);
    await once(client.socket, 'end');
    client.socket.end();
    t.equal(inside((await client.ended).heard), alerted ? ALERT : '', what);
    upstream.socket.end();
    t.equal((await upstream.ended).heard, '');
    t.match(await tunnelLine(lab), { verdict: 'deny', code: 'sni-mismatch', closedBy: 'proxy', bytesSent: 0, detail }, what);
  }
});

t.test('report and off: the same openings pass unchanged, and report says what it saw', async (t) => {
  for (const mode of ['report', 'off'] as const) {
    for (const [what, opening, detail] of [
      ['another name', hello({ extensions: [serverName('evil.example')] }), /is for evil\.example/],
      ['both names', hello({ extensions: [serverName(ECO, 'evil.example')] }), /more than one entry/],
      ['no name', hello({ extensions: [] }), /names no host/],
      ['plain text', Buffer.from('EHLO x\r\n'), null],
      ['an SSL 2.0 hello', Buffer.of(0x80, 0x2e, 1, 3, 1), null],
      ['half a hello', hello({ extensions: [serverName('evil.example')] }).subarray(0, 80), null],
    ] as const) {
      const lab = await startRawLab(t, mode);
      const { client, upstream } = await openTunnel(t, lab);
      client.send(opening);
      client.socket.end();
      await once(upstream.socket, 'end');
      t.equal(upstream.heard, opening.toString('latin1'), what);
      upstream.socket.end();
      await client.ended;
      const reported = mode === 'report' && detail !== null;
      t.match(await tunnelLine(lab), reported ? { verdict: 'report', wouldDeny: 'sni-mismatch', code: 'ok', detail } : { verdict: 'allow', wouldDeny: undefined, code: 'ok', detail: undefined }, `${mode}: ${what}`);
    }
  }
});

t.test('report: no byte waits, not even half a hello', async (t) => {
  const lab = await startRawLab(t, 'report');
  const { client, upstream } = await openTunnel(t, lab);
  const opening = hello({ extensions: [serverName('evil.example')] });
  for (const end of [1, 5, 6, 50, opening.length]) {
    client.send(opening.subarray(upstream.heard.length, end));
    t.equal(await upstream.until(opening.subarray(0, end).toString('latin1')), opening.subarray(0, end).toString('latin1'));
  }
});

t.test('report mode: what require would close passes and is reported, plain text included', async (t) => {
  const configurations: [string, (draft: Draft) => void][] = [
    ['for everything', (draft) => Object.assign(draft, { mode: 'report' })],
    ['for the destination', (draft) => (draft.destinations.eco['report'] = true)],
    ['for the rule', (draft) => (draft.rules[0] = { ...draft.rules[0], report: true })],
    ['for another rule that joins the two', (draft) => draft.rules.push({ clients: ['pods'], destinations: ['eco'], methods: ['GET'], report: true })],
  ];
  for (const [where, configure] of configurations) {
    for (const [opening, detail] of [
      [hello({ extensions: [serverName('evil.example')] }), /is for evil\.example/],
      [Buffer.from('EHLO x\r\n'), /carries no TLS/],
    ] as const) {
      const lab = await startRawLab(t, 'require', configure);
      const { client, upstream } = await openTunnel(t, lab);
      client.send(opening);
      client.socket.end();
      await once(upstream.socket, 'end');
      t.equal(upstream.heard, opening.toString('latin1'), where);
      upstream.socket.end();
      await client.ended;
      t.match(await tunnelLine(lab), { verdict: 'report', wouldDeny: 'sni-mismatch', code: 'ok', detail });
    }
  }
});

t.test('require: a destination in report mode beside others has no effect here', async (t) => {
  const lab = await startRawLab(t, 'require', (draft) => {
    draft.clients['others'] = { addresses: ['192.0.2.0/24'] };
    draft.destinations['else'] = { hosts: ['else.example'], ports: [443], report: true };
    draft.rules.push({ clients: ['others'], destinations: ['eco', 'else'], report: true }, { clients: ['pods'], destinations: ['else'], report: true });
  });
  const { client, upstream } = await openTunnel(t, lab);
  client.send(hello({ extensions: [serverName('evil.example')] }));
  client.socket.end();
  t.equal(inside((await client.ended).heard), ALERT);
  upstream.socket.end();
  t.equal((await upstream.ended).heard, '');
});

t.test('require: a CONNECT to an address has no name to compare', async (t) => {
  const lab = await startRawLab(t, 'require');
  const { client, upstream } = await openTunnel(t, lab, `127.0.0.1:${lab.target.split(':')[1] ?? ''}`);
  client.send('anything');
  t.equal(await upstream.until('anything'), 'anything');
});

t.test('require: an upstream that speaks first is heard at once', async (t) => {
  const lab = await startRawLab(t, 'require');
  const { client, upstream } = await openTunnel(t, lab);
  upstream.send('220 welcome');
  await client.until('220 welcome');
  client.send('EHLO x\r\n');
  await once(client.socket, 'end');
  client.socket.end();
  t.match(await tunnelLine(lab), { code: 'sni-mismatch', bytesSent: 0, bytesReceived: 11 });
});

t.test('require: a hello that does not come to its end has timeouts.tls', async (t) => {
  for (const ending of ['silent', 'ended'] as const) {
    const lab = await startRawLab(t, 'require', (draft) => Object.assign(draft.timeouts, { tls: '150ms' }));
    const { client, upstream } = await openTunnel(t, lab);
    client.send(hello({ extensions: [serverName(ECO)] }).subarray(0, 60));
    if (ending === 'ended') client.socket.end();
    else await once(client.socket, 'end').then(() => client.socket.end());
    t.equal(inside((await client.ended).heard), ALERT);
    upstream.socket.end();
    t.equal((await upstream.ended).heard, '');
    t.match(await tunnelLine(lab), { code: 'sni-mismatch', detail: ending === 'ended' ? /the client ended before/ : /not complete after 150 ms/ });
  }
});

/** The partner: OpenSSL that takes P-384 alone, so that it asks a client that begins with another group for a second hello. */
async function startRetryLab(t: Test, mode: Mode): Promise<Lab & { readonly target: string; readonly asked: string[] }> {
  const { certPem, keyPem } = await labCertificates();
  const asked: string[] = [];
  const server = createTlsServer({
    cert: certPem,
    key: keyPem,
    minVersion: 'TLSv1.3',
    ecdhCurve: 'P-384',
    SNICallback: (name, callback) => {
      asked.push(name);
      callback(null);
    },
  }, (socket) => socket.end('welcome'));
  server.on('tlsClientError', () => {});
  const port = await listen(t, server);
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, tunnelSni: mode }) });
  return { ...lab, target: `${ECO}:${port}`, asked };
}

/** Its name is as long as ECO, so that one can stand for the other in a hello. */
const EVIL = 'x'.repeat(ECO.length);

/** A client of TLS 1.3 whose hellos `change` may alter on the way to the proxy. @returns what it heard, or its error */
async function retry(t: Test, lab: Lab & { readonly target: string }, change: (flight: Buffer, count: number) => Buffer): Promise<string> {
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${lab.target} HTTP/1.1\r\nHost: ${lab.target}\r\n\r\n`);
  await wire.until(ESTABLISHED);
  wire.socket.removeAllListeners('data');
  let flights = 0;
  const between = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      flights += 1;
      wire.socket.write(change(chunk, flights));
      done();
    },
  });
  wire.socket.on('data', (chunk: Buffer) => between.push(chunk)).on('end', () => between.push(null)).on('error', (error) => between.destroy(error));
  const client = connectTls({ socket: between, servername: ECO, ecdhCurve: 'X25519:P-384', ca: lab.authority.certPem });
  t.teardown(() => client.destroy());
  return new Promise((resolve) => {
    client.on('data', (chunk: Buffer) => {
      resolve(chunk.toString());
    });
    client.on('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code ?? error.message);
    });
  });
}

const rename = (flight: Buffer): Buffer => Buffer.from(flight.toString('latin1').replace(ECO, EVIL), 'latin1');

t.test('a second hello that the partner asked for (HelloRetryRequest)', async (t) => {
  for (const mode of MODES) {
    const same = await startRetryLab(t, mode);
    let flights = 0;
    t.equal(await retry(t, same, (flight, count) => {
      flights = count;
      return flight;
    }), 'welcome', `${mode}: the same name again`);
    t.ok(flights >= 3, 'there was a second hello');
    t.match(await tunnelLine(same), { verdict: 'allow', code: 'ok', wouldDeny: undefined });

    const other = await startRetryLab(t, mode);
    const outcome = await retry(t, other, (flight, count) => (count === 1 ? flight : rename(flight)));
    const line = await tunnelLine(other);
    if (mode !== 'require') {
      t.match(line, mode === 'report' ? { verdict: 'report', wouldDeny: 'sni-mismatch', detail: /second ClientHello, which the server asked for, is for x/ } : { verdict: 'allow' }, `${mode}: another name`);
      continue;
    }
    t.equal(outcome, 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', 'another name');
    t.match(line, { verdict: 'deny', code: 'sni-mismatch', detail: /second ClientHello, which the server asked for, is for x/ });
    t.notOk(other.asked.includes(EVIL), 'the partner never saw it');
  }
});

t.test('a CONNECT inside a tunnel gets an answer that names the mistake', async (t) => {
  const lab = await startRawLab(t, 'require');
  const { client } = await openTunnel(t, lab);
  client.send('CONNECT other.example:443 HTTP/1.1\r\n\r\n');
  await once(client.socket, 'end');
  client.socket.end();
  t.match(inside(client.heard), /^HTTP\/1\.1 400 Bad request: connect-in-tunnel\r\n/);
  t.match(await tunnelLine(lab), { code: 'connect-in-tunnel' });
});
