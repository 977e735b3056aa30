/** What a tunnel was permitted by is changed, expires or is withdrawn: the tunnel ends, and others go on. */
import { writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { mock } from 'node:test';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { createIssuer, startKeyServer } from '../support/issuer.ts';
import { type Draft, ECO, type Lab, labCertificates, startLab } from '../support/lab.ts';
import { issueClient, openOwn, startTlsLab } from '../support/tls-lab.ts';
import { askRaw, openWire, type Wire, wireOf } from '../support/wire.ts';

const ISSUER = 'https://kubernetes.default.svc';
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const ESTABLISHED = /^HTTP\/1\.1 200 Connection Established\r\n/;

const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

async function openTunnel(wire: Wire, lab: Lab, authorization: string | null): Promise<Wire> {
  const target = `${ECO}:${lab.upstream.httpsPort}`;
  wire.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${authorization === null ? '' : `Proxy-Authorization: ${authorization}\r\n`}\r\n`);
  await wire.until(ESTABLISHED);
  return wire;
}

const tunnelOf = async (t: Test, lab: Lab, authorization: string | null): Promise<Wire> => openTunnel(await openWire(t, lab.port), lab, authorization);

/** From here on the time of day stands still, but for what `pass` adds. */
function holdDate(t: Test): (ms: number) => void {
  let time = Date.now();
  mock.timers.enable({ apis: ['Date'], now: time });
  t.teardown(() => {
    mock.timers.reset();
  });
  return (ms) => {
    time += ms;
    mock.timers.setTime(time);
  };
}

const isOpen = ({ socket }: Wire): boolean => !socket.destroyed && !socket.readableEnded;

t.test('a password that a reload changes or takes away', async (t) => {
  const [one, other, new_] = await Promise.all([hashPassword('one'), hashPassword('other'), hashPassword('new')]);
  const users = (...entries: { user: string; hash: string }[]) => (draft: Draft): void => {
    draft.clients['pods'] = { addresses: ['127.0.0.0/8'], basic: entries };
  };
  const lab = await startLab(t, { configure: users({ user: 'alice', hash: one }, { user: 'bob', hash: other }, { user: 'carol', hash: one }) });
  const [alice, bob, carol] = [await tunnelOf(t, lab, basic('alice', 'one')), await tunnelOf(t, lab, basic('bob', 'other')), await tunnelOf(t, lab, basic('carol', 'one'))];
  t.match(await lab.reload(users({ user: 'alice', hash: new_ }, { user: 'bob', hash: other })), { result: 'applied', tunnelsCut: 2 });
  await Promise.all([alice.ended, carol.ended]);
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'connect', closedBy: 'proxy', detail: /the password has been changed or taken away/ });
  t.ok(isOpen(bob), 'whose password is what it was stays');
  t.match(await lab.reload(users({ user: 'alice', hash: new_ }, { user: 'bob', hash: other })), { tunnelsCut: 0 });
});

t.test('another name of its destination ends nothing below a gateway', async (t) => {
  const gate = Promise.withResolvers<undefined>();
  const asked = Promise.withResolvers<undefined>();
  const lab = await startLab(t, { lookup: async () => {
    asked.resolve(undefined);
    await gate.promise;
    return { addresses: ['127.0.0.1'], ttl: null };
  } });
  lab.upstream.https.on('upgrade', (_req, socket: Duplex) => {
    socket.on('error', () => {}).write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.pipe(socket);
  });
  const client = await openWire(t, lab.port);
  client.send('GET /eco/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await asked.promise;
  t.match(await lab.reload((draft) => Object.assign(draft, { destinations: { other: draft.destinations.eco }, rules: [{ clients: ['pods'], destinations: ['other'] }] })), { result: 'applied', tunnelsCut: 0 }, 'while it is dialled');
  gate.resolve(undefined);
  t.match(await client.until(/\r\n\r\n/), /^HTTP\/1\.1 101 /);
  t.match(await lab.reload(() => {}), { result: 'applied', tunnelsCut: 0 }, 'while it is a tunnel');
  client.send('frame');
  await client.until('frame');
});

t.test('an exchange without end has the time of a drain', async (t) => {
  const password = await hashPassword('one');
  const drain = ({ timeouts }: Draft): void => {
    timeouts['drain'] = '1s';
  };
  const users = (...names: string[]) => (draft: Draft): void => {
    drain(draft);
    draft.clients['pods'] = { addresses: ['127.0.0.0/8'], basic: names.map((user) => ({ user, hash: password })) };
  };
  const streams = new Set<ServerResponse>();
  const beat = setInterval(() => {
    for (const stream of streams) stream.write('data: x\n\n');
  }, 20);
  t.teardown(() => {
    clearInterval(beat);
  });
  const lab = await startLab(t, {
    configure: users('alice', 'bob', 'carol'),
    onRequest: (req, res) => {
      // The one that is not answered is not under way at the client either.
      if (req.url !== '/silent') streams.add(res.writeHead(200, { 'content-type': 'text/event-stream' }));
    },
  });
  const events = async (user: string, path: string): Promise<Wire> => {
    const wire = await openWire(t, lab.port);
    wire.send(`GET http://${ECO}:${lab.upstream.httpPort}${path} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${basic(user, 'one')}\r\n\r\n`);
    if (path === '/') await wire.until('data: x');
    return wire;
  };
  const [alice, silent, bob, carol] = [await events('alice', '/'), await events('alice', '/silent'), await events('bob', '/'), await events('carol', '/')];
  while (lab.upstream.requests.length < 4) await delay(10);
  await lab.reload(users('bob'));
  t.ok(isOpen(alice), 'a short one would end by itself');
  await lab.reload(users('bob', 'carol'));
  const cut = await Promise.race([alice.ended, delay(20_000, null, { ref: false })]);
  t.ok(cut, 'it is cut');
  t.notMatch(cut?.heard, /\r\n0\r\n\r\n$/, 'and that shows');
  if (cut === null) return;
  t.match(await silent.until('"revoked"'), /^HTTP\/1\.1 403 /);
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'forward', closedBy: 'proxy', detail: /the password has been changed or taken away/ });
  await delay(300);
  t.ok(isOpen(bob), 'whose password is what it was stays');
  t.equal(lab.log.filter((line) => line.code === 'revoked').length, 3, 'another entry of the same user is another one');
  t.notOk(isOpen(carol));
});

t.test('an exchange whose permission comes back, and is withdrawn again, has the time of another drain', async (t) => {
  const lab = await startLab(t, { onRequest: (_req, res) => res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: x\n\n') });
  const wire = await openWire(t, lab.port);
  wire.send(`GET http://${ECO}:${lab.upstream.httpPort}/ HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until('data: x');
  const deny = (drain: string) => (draft: Draft): void => {
    draft.rules.splice(0);
    draft.timeouts['drain'] = drain;
  };
  await lab.reload(deny('1s'));
  await lab.reload(() => {});
  await lab.reload(deny('1h'));
  await delay(3_000);
  t.ok(isOpen(wire));
  await lab.reload(deny('1s'));
  await wire.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'forward', closedBy: 'proxy' });
});

for (const [what, keeps] of [['a new connection', false], ['the connection of the one before it', true]] as const) {
  t.test(`an exchange that waits for a connection when its address is taken away, and would get ${what}`, async (t) => {
    const pending = Promise.withResolvers<() => void>();
    const lab = await startLab(t, {
      configure: ({ limits }) => {
        limits['upstreamConnections'] = 1;
      },
      onRequest: (_req, res) => {
        pending.resolve(() => res.writeHead(200, { connection: keeps ? 'keep-alive' : 'close' }).end('first'));
        if (lab.upstream.requests.length > 1) res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: x\n\n');
      },
    });
    const first = fetch(`${lab.url}/eco/first`);
    const answer = await pending.promise;
    const second = fetch(`${lab.url}/eco/second`);
    while ((await lab.scrape()).samples.get('eco_egress_upstream_waiting{destination="eco"}') !== 1) await delay(5);
    await lab.reload(({ destinations: { eco }, limits, timeouts }) => {
      limits['upstreamConnections'] = 1;
      timeouts['drain'] = '1s';
      eco['addresses'] = ['10.0.0.0/8'];
    });
    answer();
    t.equal((await first).status, 200);
    const { status, body } = await second;
    const text = body === null ? '' : await Array.fromAsync(body).catch(() => 'cut');
    if (keeps) t.equal(text, 'cut', 'it has the time of a drain');
    else t.equal(status, 403);
    t.match(await lab.logged((line) => line['path'] === '/second'), { code: 'revoked', detail: /127\.0\.0\.1/ });
    t.equal(lab.upstream.requests.length, keeps ? 2 : 1);
  });
}

t.test('a token that expires, and one whose key is withdrawn', async (t) => {
  const [issuer, second] = [await createIssuer(ISSUER), await createIssuer(ISSUER)];
  const keys = (...issuers: (typeof issuer)[]): string => JSON.stringify({ keys: issuers.flatMap((each, index) => each.jwks().keys.map((key) => ({ ...key, kid: `key-${index}` }))) });
  const file = `${t.testdir({ 'jwks.json': keys(issuer, second) })}/jwks.json`;
  const lab = await startLab(t, {
    configure: ({ clients }) => {
      clients['pods'] = { tokens: [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwksFile: file }] };
    },
    files: { [file]: keys(issuer, second) },
  });
  const pass = holdDate(t);
  const token = async (from: typeof issuer, kid: string, seconds: number): Promise<string> =>
    `Bearer ${await from.sign({ sub: 'pod', aud: 'eco-egress', exp: Math.floor(Date.now() / 1000) + seconds }, { kid })}`;
  const [long, short, withdrawn] = [await tunnelOf(t, lab, await token(issuer, 'key-0', 7_200)), await tunnelOf(t, lab, await token(issuer, 'key-0', 600)), await tunnelOf(t, lab, await token(second, 'key-1', 7_200))];

  pass(11 * MINUTE);
  await short.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'connect', closedBy: 'proxy', detail: /the token has expired/ });
  t.ok(isOpen(long) && isOpen(withdrawn));

  await writeFile(file, keys(issuer));
  pass(MINUTE);
  await withdrawn.ended;
  t.match(await lab.logged((line) => String(line['detail']).includes('no longer accepted')), { code: 'revoked', closedBy: 'proxy', detail: /the key that signed the token is no longer accepted/ });
  t.ok(isOpen(long));
});

t.test('a client whose address alone would do stays', async (t) => {
  const issuer = await createIssuer(ISSUER);
  const file = `${t.testdir({ 'jwks.json': JSON.stringify(issuer.jwks()) })}/jwks.json`;
  const lab = await startLab(t, {
    configure: ({ clients, rules }) => {
      clients['pods'] = { tokens: [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwksFile: file }] };
      clients['near'] = { addresses: ['127.0.0.0/8'] };
      rules.push({ clients: ['near'], destinations: ['eco'] });
    },
    files: { [file]: JSON.stringify(issuer.jwks()) },
  });
  const pass = holdDate(t);
  const wire = await tunnelOf(t, lab, `Bearer ${await issuer.sign({ sub: 'pod', aud: 'eco-egress', exp: Math.floor(Date.now() / 1000) + 60 })}`);
  pass(HOUR);
  t.match(await lab.reload(({ clients, rules }) => {
    clients['pods'] = { tokens: [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwksFile: file }] };
    clients['near'] = { addresses: ['127.0.0.0/8'] };
    rules.push({ clients: ['near'], destinations: ['eco'] });
  }), { result: 'applied', tunnelsCut: 0 });
  t.ok(isOpen(wire));
});

t.test('a client certificate that expires', async (t) => {
  const { authority } = await labCertificates();
  const lab = await startTlsLab(t, { tlsServer: { clientCaFile: 'ca.pem', clientCertificate: 'request' }, configure: ({ clients }) => void (clients['pods'] = { certificates: ['spiffe://cluster.local/ns/a/*'] }) });
  const show = async (hours: number): Promise<Wire> => {
    const { certPem, keyPem } = await issueClient(authority, 'a', { notAfter: new Date(Date.now() + hours * HOUR) });
    return wireOf(await openOwn(t, lab, { cert: certPem, key: keyPem }));
  };
  const [long, short, idle] = [await show(3), await show(1), await show(1)];
  await Promise.all([openTunnel(long, lab, null), openTunnel(short, lab, null)]);
  const pass = holdDate(t);
  pass(2 * HOUR);
  await short.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { closedBy: 'proxy', detail: /the client's certificate has expired/ });
  t.ok(isOpen(long));
  idle.send(`GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n`);
  t.match(await idle.until('client-certificate'), /^HTTP\/1\.1 403 /, 'nor is another request served');
});

t.test('a client certificate that is no longer accepted by the time the credentials beside it have been verified', async (t) => {
  const [{ authority }, issuer] = [await labCertificates(), await createIssuer(ISSUER)];
  const keyServer = await startKeyServer(t, issuer);
  const verified = Promise.withResolvers<undefined>();
  keyServer.answer((_req, res) => void verified.promise.then(() => res.end(JSON.stringify(issuer.jwks()))));
  const clientsOf = ({ clients }: Draft): void => {
    clients['pods'] = { certificates: ['spiffe://cluster.local/ns/a/*'] };
    clients['others'] = { tokens: [{ issuer: ISSUER, audience: 'eco-egress', subjects: ['*'], jwksUrl: keyServer.url }] };
  };
  const tlsServer = { clientCaFile: 'ca.pem', clientCertificate: 'request' };
  const lab = await startTlsLab(t, { tlsServer, configure: clientsOf });
  const { certPem, keyPem } = await issueClient(authority, 'a');
  const wire = wireOf(await openOwn(t, lab, { cert: certPem, key: keyPem }));
  const target = `${ECO}:${lab.upstream.httpsPort}`;
  const token = await issuer.sign({ sub: 'pod', aud: 'eco-egress', exp: Math.floor(Date.now() / 1000) + 600 });
  wire.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`);
  // By the time another one is answered, it has been read.
  await askRaw(t, lab.port, 'GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const outcome = await lab.reload((draft) => {
    clientsOf(draft);
    draft.tlsServer = { ...draft.tlsServer, clientCaFile: undefined, clientCertificate: 'none' };
  });
  t.match(outcome, { result: 'applied' });
  verified.resolve(undefined);
  t.match(await wire.until('\r\n\r\n'), /^HTTP\/1\.1 403 [^]*revoked: a reload changed how clients authenticate/);
});

t.test('a rule that ends', async (t) => {
  const ends = Math.ceil(Date.now() / 1000) * 1000 + MINUTE;
  const limited = (draft: Draft, further: boolean): void => {
    const [rule] = draft.rules;
    if (rule === undefined) throw new Error('no rule');
    const ending = { ...structuredClone(rule), until: new Date(ends).toISOString().replace('.000Z', 'Z') };
    draft.rules.splice(0, 1, ...(further ? [ending, rule] : [ending]));
  };
  const [lab, other] = [await startLab(t, { configure: (draft) => { limited(draft, false); } }), await startLab(t, { configure: (draft) => { limited(draft, true); } })];
  const later = await startLab(t);
  const [wire, permitted, given] = [await tunnelOf(t, lab, null), await tunnelOf(t, other, null), await tunnelOf(t, later, null)];
  const pass = holdDate(t);
  pass(30_000);
  t.match(await later.reload((draft) => { limited(draft, false); }), { result: 'applied', tunnelsCut: 0 });
  t.equal(await lab.reload((draft) => { limited(draft, false); }).then((outcome) => outcome.result === 'applied' && outcome.tunnelsCut), 0, 'not before');
  t.ok(isOpen(wire));
  pass(MINUTE);
  t.equal(await Promise.race([wire.ended.then(() => 'closed'), delay(10_000).then(() => 'open')]), 'closed');
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'connect', closedBy: 'proxy', detail: /^what permitted it is no longer valid: .* only until / });
  t.ok(isOpen(permitted), 'where another rule permits it, it stays');
  t.equal(await Promise.race([given.ended.then(() => 'closed'), delay(10_000).then(() => 'open')]), 'closed', 'an end that a reload gave the rule');
});
