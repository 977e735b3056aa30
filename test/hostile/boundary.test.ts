/** The boundary around each client connection: what goes wrong on behalf of one client stays with that client, and so does what it has. */
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { ClientConnection } from '../../src/listeners/client-connection.ts';
import { Descriptors } from '../../src/descriptors.ts';
import { ConnectionCount } from '../../src/limits.ts';
import { Egress } from '../../src/egress.ts';
import { RequestContext } from '../../src/listeners/request-context.ts';
import { Exchange } from '../../src/relay/exchange.ts';
import { Tunnel } from '../../src/relay/tunnel.ts';
import { UpstreamConnection } from '../../src/relay/upstream-connection.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { accessLines, httpAuthority, stillServes } from '../support/hostile.ts';
import { hello, serverName } from '../support/hello.ts';
import { type Draft, ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { POD, POD6, startPeerLab } from '../support/peer-lab.ts';
import { sumOf } from '../support/prometheus.ts';
import { openOwn, OWN, startTlsLab } from '../support/tls-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';

/** Where code runs for a client, by the object that it runs on. */
const PHASES: readonly [owner: { readonly prototype: object }, method: string][] = [
  ...['startExchange', 'startTunnel', 'onDone', 'onUpgrade', 'content', 'contentEnd', 'drained', 'clientClosed', 'onFault', 'refuse'].map((method): [typeof RequestContext, string] => [RequestContext, method]),
  ...['start', 'content', 'contentEnd', 'onHead', 'onContent', 'onEnd', 'onInformational', 'onSwitch', 'clientDrained', 'onDrain'].map((method): [typeof Exchange, string] => [Exchange, method]),
  // Within `onConnection`, which is where the pool's turn ends and the client's begins.
  [UpstreamConnection, 'begin'],
  ...['start', 'received', 'ended'].map((method): [typeof Tunnel, string] => [Tunnel, method]),
  ...['respond', 'write', 'complete', 'answer', 'inform', 'detach'].map((method): [typeof ClientConnection, string] => [ClientConnection, method]),
];

/** Makes the next call of a method throw. @returns puts it back, and says whether it was called */
function plant({ prototype }: { readonly prototype: object }, method: string): () => boolean {
  const methods = prototype as Record<string, (...given: unknown[]) => unknown>;
  const original = methods[method];
  if (original === undefined) throw new Error(`there is no method ${method}`);
  let called = false;
  methods[method] = function (...given) {
    if (called) return original.apply(this, given);
    called = true;
    throw new Error(`planted in ${method}`);
  };
  return () => {
    methods[method] = original;
    return called;
  };
}

const REQUESTS: readonly ((lab: Lab) => string)[] = [
  (lab) => `CONNECT ${httpAuthority(lab)} HTTP/1.1\r\nHost: x\r\n\r\nGET /in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  (lab) => `POST http://${httpAuthority(lab)}/up HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello`,
  () => 'GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  (lab) => `GET /x HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nConnection: close\r\n\r\n`,
  (lab) => `GET http://${httpAuthority(lab)}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
  () => 'GET http://evil.example/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  // Nobody is there.
  () => 'GET /nobody/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
];

t.test('what our own code throws ends one connection, in every form and phase', async (t) => {
  const unused = await findUnusedPort();
  const lab = await startLab(t, {
    configure: ({ destinations, rules }) => {
      destinations['unused'] = { hosts: ['unused.example'], ports: [unused], addresses: ['127.0.0.0/8'], gateway: { prefix: '/unused', url: `http://unused.example:${unused}` } };
      rules.push({ clients: ['pods'], destinations: ['unused'] });
    },
    onRequest: (req, res) => {
      if (req.url === '/alive') {
        res.end('alive');
        return;
      }
      res.writeEarlyHints({ link: '</x>; rel=preload' });
      req.resume().on('end', () => res.end('x'.repeat(100_000)));
    },
  });
  for (const server of [lab.upstream.http, lab.upstream.https]) {
    server.on('upgrade', (_req, socket) => {
      socket.on('error', () => {});
      socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes');
    });
  }
  // Others that are in the middle of something all the while.
  const others = await Promise.all(Array.from({ length: 20 }, () => openTunnelOf(t, lab)));
  for (const [owner, method] of PHASES) {
    let planted = 0;
    for (const request of REQUESTS) {
      const pull = plant(owner, method);
      try {
        const wire = await openWire(t, lab.port);
        wire.send(request(lab));
        await wire.ended;
      } finally {
        if (pull()) planted += 1;
      }
    }
    t.comment(`${method}: ${planted}`);
    await stillServes(t, lab);
  }
  for (const other of others) t.ok(other.socket.writable, 'another connection goes on');
  const surprises = accessLines(lab).filter((line) => line.code === 'internal');
  t.ok(surprises.length > 20, `${surprises.length} were planted, and each is logged and counted`);
  const ids = accessLines(lab).map(({ requestId }) => requestId);
  t.strictSame(ids.filter((id, index) => ids.indexOf(id) !== index), [], 'each request has one line');
  const scrape = await lab.scrape();
  t.equal(sumOf(scrape, 'eco_egress_internal_errors_total'), surprises.length, 'for the alert');
  t.equal(sumOf(scrape, 'eco_egress_requests_total', { code: 'internal' }), surprises.length);
  t.equal(sumOf(scrape, 'eco_egress_tunnels_active'), others.length, 'no tunnel that ended so is counted as open');
  const notice = lab.log.find(({ msg }) => msg?.startsWith('internal error') === true);
  t.match(notice, { level: 'error', clientAddress: '127.0.0.1', reason: /^planted in /, stack: /\n +at / });
});

t.test('and what it throws before there is a request', async (t) => {
  const lab = await startTlsLab(t, {
    configure: (draft) => {
      draft.limits['connections'] = 2;
      // Its requests are none of these.
      draft.selfTest = { every: 'off' };
    },
  });
  const other = await openTunnelOf(t, lab);
  const own = hello({ extensions: [serverName(OWN)] });
  const refusals: readonly (readonly [what: string, wire: () => Promise<Wire>, sent: Buffer])[] = [
    ['half a ClientHello', () => openWire(t, lab.tlsPort), own.subarray(0, 20)],
    ['a handshake that fails', () => openWire(t, lab.tlsPort), own],
    ['a connection too many', async () => {
      await openWire(t, lab.port);
      return openWire(t, lab.tlsPort);
    }, Buffer.alloc(0)],
  ];
  for (const [what, open, sent] of refusals) {
    const pull = plant(AccessRecord, 'noteFault');
    const wire = await open();
    wire.socket.end(sent);
    await wire.ended.finally(() => t.ok(pull(), what));
  }
  t.equal(accessLines(lab).filter(({ code }) => code === 'internal').length, refusals.length, 'each is logged');
  t.ok(other.socket.writable, 'another connection goes on');
});

t.test('and when a connection is accepted', async (t) => {
  const lab = await startTlsLab(t, { configure: (draft) => void (draft.selfTest = { every: 'off' }) });
  const other = await openTunnelOf(t, lab);
  const places = [[Descriptors, 'exhausted', lab.port], [ConnectionCount, 'enter', lab.tlsPort], [ClientConnection, 'serve', lab.port]] as const;
  for (const [owner, method, port] of places) {
    const pull = plant(owner, method);
    const wire = await openWire(t, port);
    await wire.ended.finally(() => t.ok(pull(), method));
  }
  t.equal(accessLines(lab).filter(({ code }) => code === 'internal').length, places.length, 'each is logged');
  t.ok(other.socket.writable, 'another connection goes on');
  await stillServes(t, lab);
});

t.test('and when one closes, or has shown its certificate', async (t) => {
  const lab = await startTlsLab(t, { tlsServer: { clientCaFile: 'ca.pem', clientCertificate: 'request' }, configure: (draft) => void (draft.selfTest = { every: 'off' }) });
  const other = await openTunnelOf(t, lab);
  for (const [owner, method, come] of [
    [ConnectionCount, 'leave', async () => { (await openWire(t, lab.port)).socket.end(); }],
    [TLSSocket, 'getPeerX509Certificate', async () => { (await openOwn(t, lab)).end(); }],
  ] as const) {
    const before = accessLines(lab).length;
    const pull = plant(owner, method);
    await come();
    await lab.logged((line) => line.code === 'internal' && accessLines(lab).indexOf(line) >= before).finally(() => t.ok(pull(), method));
  }
  t.ok(other.socket.writable, 'another connection goes on');
  await stillServes(t, lab);
});

t.test('a reload: what it throws for one connection keeps no other from being checked', async (t) => {
  for (const [owner, method] of [[RequestContext, 'recheck'], [Egress, 'revoked'], [Egress, 'chargeAnew'], [Tunnel, 'end']] as const) {
    const lab = await startLab(t);
    const tunnels = await Promise.all(Array.from({ length: 5 }, () => openTunnelOf(t, lab)));
    const pull = plant(owner, method);
    // The permission of all of them is withdrawn.
    const { result } = await lab.reload((draft) => void (draft.rules.length = 0)).finally(() => t.ok(pull(), method));
    t.equal(result, 'applied', method);
    await Promise.all(tunnels.map(({ ended }) => ended));
  }
  const lab = await startTlsLab(t, { tlsServer: { clientCaFile: 'ca.pem', clientCertificate: 'request' } });
  const connections = await Promise.all(Array.from({ length: 3 }, () => openOwn(t, lab)));
  for (const connection of connections) {
    connection.write('GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(connection, 'data');
  }
  const gone = connections.map((connection) => once(connection.resume(), 'close'));
  const pull = plant(ClientConnection, 'revoke');
  const { result } = await lab.reload((draft) => void (draft.tlsServer = { ...draft.tlsServer, clientCaFile: undefined, clientCertificate: 'none' })).finally(() => t.ok(pull(), 'revoke'));
  t.equal(result, 'applied', 'revoke');
  await Promise.all(gone);
});

t.test('what throws again while its request is ended ends no other', async (t) => {
  const lab = await startLab(t);
  const tunnels = await Promise.all(Array.from({ length: 3 }, () => openTunnelOf(t, lab)));
  const pulls = tunnels.flatMap(() => [plant(Tunnel, 'end'), plant(Tunnel, 'end')]);
  const { result } = await lab.reload((draft) => void (draft.rules.length = 0)).finally(() => {
    for (const pull of pulls.toReversed()) t.ok(pull(), 'once in the reload, and once for the crash');
  });
  t.equal(result, 'applied');
  await Promise.all(tunnels.map(({ ended }) => ended));
  t.equal(accessLines(lab).filter(({ code }) => code === 'internal').length, tunnels.length);
});

t.test('what throws while a request ends leaves nothing of it behind', async (t) => {
  const lab = await startLab(t, { configure: (draft) => void Object.assign(draft, { selfTest: { every: 'off' }, timeouts: { drainDelay: '0s', drain: '10m' } }) });
  const pull = plant(Egress, 'clientName');
  const wire = await openWire(t, lab.port);
  // Refused before it is known who asks.
  wire.send('GET /x HTTP/1.1\r\nHost: x\r\nVia: 1.1 eco-egress\r\n\r\n');
  await wire.ended.finally(() => t.ok(pull(), 'clientName'));
  await lab.service.drain();
});

async function openTunnelOf(t: Test, lab: Lab): Promise<Wire> {
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${httpAuthority(lab)} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until('\r\n\r\n');
  return wire;
}

/** NTLM as a server sees it: three messages on one connection, and then that connection is the user's. */
function askForNtlm(): RequestListener {
  const users = new WeakMap<object, number>();
  return (req, res) => {
    const step = users.get(req.socket) ?? 0;
    const { authorization } = req.headers;
    if (step === 2) res.end('the page of A');
    else if (authorization?.startsWith('NTLM ') === true) {
      users.set(req.socket, step + 1);
      if (step === 1) res.end('the page of A');
      else res.writeHead(401, { 'WWW-Authenticate': 'NTLM TlRMTVNTUAAC' }).end();
    } else res.writeHead(401, { 'WWW-Authenticate': 'NTLM' }).end('who are you?');
  };
}

t.test("a connection that was authenticated is one client connection's", async (t) => {
  const lab = await startLab(t, { onRequest: askForNtlm() });
  for (const [form, begin] of [
    ['forward', `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\n`],
    ['gateway', 'GET /eco/ HTTP/1.1\r\nHost: x\r\n'],
  ] as const) {
    const a = await openWire(t, lab.port);
    a.send(`${begin}\r\n`);
    await a.until('who are you?');
    a.send(`${begin}Authorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
    await a.until('TlRMTVNTUAAC');
    a.send(`${begin}Authorization: NTLM TlRMTVNTUAAD\r\n\r\n`);
    await a.until('the page of A');
    a.send(`${begin}\r\n`);
    await a.until(/the page of A[^]*the page of A/);
    const b = await openWire(t, lab.port);
    b.send(`${begin}Connection: close\r\n\r\n`);
    t.match((await b.ended).heard, /^HTTP\/1\.1 401 [^]*who are you\?/, `${form}: while A is connected`);
    a.socket.destroy();
    await lab.logged(() => true);
    const c = await openWire(t, lab.port);
    c.send(`${begin}Connection: close\r\n\r\n`);
    t.match((await c.ended).heard, /^HTTP\/1\.1 401 [^]*who are you\?/, `${form}: after A has gone`);
  }
});

t.test('an authenticated connection is not used again after its idle time', async (t) => {
  const ask = askForNtlm();
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.setHeader('Connection', 'keep-alive');
      res.setHeader('Keep-Alive', 'timeout=1');
      ask(req, res);
    },
  });
  const begin = `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\n`;
  const a = await openWire(t, lab.port);
  a.send(`${begin}Authorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
  await a.until('TlRMTVNTUAAC');
  a.send(`${begin}Authorization: NTLM TlRMTVNTUAAD\r\n\r\n`);
  await a.until('the page of A');
  // The partner announced that it closes it after a second.
  await delay(600);
  a.send(`${begin}\r\n`);
  await a.until('who are you?');
});

t.test('nor when it is of age, but to complete a login', async (t) => {
  const lab = await startLab(t, { onRequest: askForNtlm(), configure: (draft) => Object.assign(draft.timeouts, { upstreamAge: '300ms' }) });
  const begin = `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\n`;
  const a = await openWire(t, lab.port);
  a.send(`${begin}Authorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
  await a.until('TlRMTVNTUAAC');
  await delay(400);
  a.send(`${begin}Authorization: NTLM TlRMTVNTUAAD\r\n\r\n`);
  await a.until('the page of A');
  a.send(`${begin}\r\n`);
  await a.until('who are you?');
  t.equal(lab.upstream.connections, 2);
});

t.test('one that the partner has closed gives its place back, though the client stays', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      const login = req.headers.authorization !== undefined;
      res.end('answered', () => {
        if (login) setImmediate(() => req.socket.destroy());
      });
    },
    configure: (draft) => Object.assign(draft.limits, { upstreamConnections: 4 }),
  });
  const begin = `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\n`;
  for (let i = 0; i < 6; i += 1) {
    const wire = await openWire(t, lab.port);
    wire.send(`${begin}Authorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
    t.match(await wire.until(/answered|HTTP\/1.1 5/), 'answered', `while the client keeps ${i} others`);
  }
});

t.test('a reload that changes how its destination is dialled, or removes it, closes it', async (t) => {
  const lab = await startLab(t, { onRequest: (_, res) => res.end('answered') });
  // The partner closes none.
  lab.upstream.http.keepAliveTimeout = 0;
  const wire = await openWire(t, lab.port);
  for (const [i, change] of [
    ({ timeouts }: Draft) => Object.assign(timeouts, { connect: '3s' }),
    ({ destinations }: Draft) => Object.assign(destinations.eco, { hosts: ['other.example'], gateway: undefined }),
  ].entries()) {
    const accepted = once(lab.upstream.http, 'connection');
    wire.send(`GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
    await wire.until(new RegExp(`(?:answered[^]*){${i + 1}}`));
    const closed = once(((await accepted) as [Socket])[0], 'close');
    t.equal((await lab.reload((draft) => void change(draft))).result, 'applied');
    await closed;
  }
  t.equal(wire.heard.match(/ 200 /g)?.length, 2, 'the client is still connected');
});

t.test("nor another client's on the same connection", async (t) => {
  const password = await hashPassword('secret');
  const lab = await startPeerLab(t, {
    onRequest: askForNtlm(),
    listener: { believe: ['x-forwarded-for'] },
    configure: ({ clients, rules }) => {
      clients['users'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'one', hash: password }, { user: 'two', hash: password }] };
      rules.push({ clients: ['users'], destinations: ['eco'] });
    },
  });
  const userField = (user: string): string => `Proxy-Authorization: Basic ${Buffer.from(`${user}:secret`).toString('base64')}\r\n`;
  for (const [a, b] of [[`X-Forwarded-For: ${POD}\r\n`, `X-Forwarded-For: ${POD6}\r\n`], [userField('one'), userField('two')]] as const) {
    const shared = await openWire(t, lab.port);
    const begin = `GET http://${httpAuthority(lab)}/ HTTP/1.1\r\nHost: x\r\n`;
    shared.send(`${begin}${a}Authorization: NTLM TlRMTVNTUAAB\r\n\r\n`);
    await shared.until('TlRMTVNTUAAC');
    shared.send(`${begin}${a}Authorization: NTLM TlRMTVNTUAAD\r\n\r\n`);
    await shared.until('the page of A');
    shared.send(`${begin}${a}\r\n`);
    await shared.until(/the page of A[^]*the page of A/);
    shared.send(`${begin}${b}Connection: close\r\n\r\n`);
    t.match((await shared.ended).heard, /the page of A[^]*the page of AHTTP\/1\.1 401 [^]*who are you\?/);
  }
});

t.test('one client that holds what it can leaves connections for others', async (t) => {
  const port = await listen(
    t,
    createServer((req, res) => {
      if (req.url === '/quick') res.end('quick');
    }),
  );
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } });
      Object.assign(draft.limits, { upstreamConnections: 8 });
    },
  });
  // Bodies that do not come, requests that ask for leave first, and answers that do not come.
  const greedy = [
    'POST /eco/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n',
    'POST /eco/slow HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n',
    'GET /eco/slow HTTP/1.1\r\nHost: x\r\n\r\n',
  ];
  for (let i = 0; i < 24; i += 1) (await openWire(t, lab.port)).send(greedy[i % 3] ?? '');
  for (let i = 0; i < 10; i += 1) {
    const other = connect({ port: lab.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
    t.teardown(() => other.destroy());
    other.write('GET /eco/quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    let heard = '';
    for await (const chunk of other) heard += String(chunk);
    t.match(heard, /^HTTP\/1\.1 200 [^]*quick$/, 'another client is served');
  }
});
