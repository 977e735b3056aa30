/** What one client has is not another's: connections, shares, identity; and what a reload takes away. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { addressOf, TERMINATED } from '../support/ask.ts';
import { startChildProxy } from '../support/child-proxy.ts';
import { accessLines } from '../support/hostile.ts';
import { ECO, type Lab, labCertificates, type LabOptions, startLab, startUpstream } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { createPartner } from '../partners/partner.ts';
import { askRaw, openWire, type Wire } from '../support/wire.ts';

t.setTimeout(300_000);

/** The greedy client and the other one. */
const [GREEDY, OTHER] = ['127.0.0.1', '127.0.0.2'];

/** Of the status line; 'nothing' when no answer came in this time, ms: others have to be served while one is greedy. */
async function statusOf(t: Test, lab: Lab, request: string, from: string, patience = 3000): Promise<string> {
  const wire = await openWire(t, lab.port, { from });
  wire.send(request);
  const heard = await Promise.race([wire.ended.then(() => wire.heard), wire.until('\r\n\r\n').catch(() => wire.heard), delay(patience).then(() => '')]);
  wire.socket.destroy();
  return /^HTTP\/1\.1 (\d{3})/.exec(heard)?.[1] ?? 'nothing';
}

const GREEDS: Readonly<Record<string, (target: string, host: string) => string>> = {
  'a length and no content': (target, host) => `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 1000\r\n\r\n`,
  'chunked and no chunk': (target, host) => `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n`,
  'an expectation and no content': (target, host) => `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n`,
  'a byte of content now and none later': (target, host) => `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 1000\r\n\r\nx`,
  'a long poll': (target, host) => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
  'an event stream': (target, host) => `GET ${target}?stream HTTP/1.1\r\nHost: ${host}\r\nAccept: text/event-stream\r\n\r\n`,
};

for (const [name, request] of Object.entries(GREEDS)) {
  t.test(`64 requests of one client with ${name}: another client is served`, async (t) => {
    const lab = await startLab(t, {
      // So few that all could be taken at once: a pool of 64 grows too slowly for that.
      configure: (draft) => Object.assign(draft.limits, { upstreamConnections: 16 }),
      onRequest: (req, res) => {
        if (req.url?.startsWith('/quick') === true) res.end('quick');
        else if (req.url?.includes('stream') === true) res.write('data: 1\n\n');
        else req.resume();
      },
    });
    for (const form of TERMINATED) {
      const greedy = addressOf(lab, form, '/held');
      const wires: Wire[] = [];
      for (let i = 0; i < 70; i += 1) {
        const wire = await openWire(t, lab.port, { from: GREEDY });
        wire.send(request(greedy.target, greedy.host));
        wires.push(wire);
      }
      await delay(1500);
      const { target, host } = addressOf(lab, form, '/quick');
      const quick = `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
      t.equal(await statusOf(t, lab, quick, OTHER), '200', `${form}: another client`);
      for (const wire of wires) wire.socket.resetAndDestroy();
      await Promise.all(wires.map((wire) => wire.ended));
      t.equal(await statusOf(t, lab, quick, GREEDY), '200', `${form}: the same, once it lets go`);
    }
  });
}

/** A partner that, as IIS does, authenticates the connection in three steps, and trusts it from then on. */
async function startNtlm(t: Test, scheme: string): Promise<number> {
  const { server } = createPartner({
    certificate: null,
    script: async (side) => {
      for (let state = 0; ; ) {
        const { head, content } = await side.request();
        await content;
        const shown = new RegExp(`\\r\\nauthorization: ${scheme} (\\S+)`, 'i').exec(head)?.[1];
        if (shown !== undefined && state < 2) state += 1;
        const answer = state === 2 ? '200 OK\r\nContent-Length: 9' : `401 Unauthorized\r\nWWW-Authenticate: ${scheme}${state === 1 ? ' Y2hhbGxlbmdl' : ''}\r\nContent-Length: 0`;
        await side.send(`HTTP/1.1 ${answer}\r\n\r\n${state === 2 ? 'for A ...' : ''}`);
      }
    },
  });
  return listen(t, server);
}

for (const scheme of ['NTLM', 'Negotiate']) {
  t.test(`${scheme}: a connection that A has authenticated is not B's`, async (t) => {
    for (const form of TERMINATED) {
      const port = await startNtlm(t, scheme);
      const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
      const host = form === 'gateway' ? 'x' : `${ECO}:${port}`;
      const target = form === 'gateway' ? '/eco/page' : form === 'forward' ? `http://${host}/page` : '/page';
      /** What A has heard once it fits, or after a while: then the assertion says so. */
      const hears = (wire: Wire, part: RegExp): Promise<string> => Promise.race([wire.until(part).catch(() => wire.heard), delay(3000).then(() => wire.heard)]);
      const ask = (fields = ''): string => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
      const b = (): Promise<string> => askRaw(t, lab.port, ask('Connection: close\r\n'), OTHER);
      const a = await openWire(t, lab.port, { from: GREEDY });
      a.send(ask());
      await hears(a, /401 [^]*?\r\n\r\n/);
      a.send(ask(`Authorization: ${scheme} bmVnb3RpYXRl\r\n`));
      await hears(a, /(?:401 [^]*?\r\n\r\n){2}/);
      t.notMatch(await b(), 'for A', `${form}: not between the steps`);
      a.send(ask(`Authorization: ${scheme} YXV0aGVudGljYXRl\r\n`));
      t.match(await hears(a, /for A/), 'for A', `${form}: the three steps of A go over one connection`);
      for (let i = 0; i < 3; i += 1) t.notMatch(await b(), 'for A', `${form}: B has shown nothing`);
      a.send(ask());
      const again = await hears(a, /(?:for A[^]*){2}/);
      t.equal(again.match(/for A/g)?.length, 2, `${form}: A goes on with its own`);
      a.socket.destroy();
      await a.ended;
      for (let i = 0; i < 3; i += 1) t.notMatch(await b(), 'for A', `${form}: nor when A has gone`);
    }
  });
}

const tells: NonNullable<LabOptions['onRequest']> = (req, res) => {
  req.resume();
  res.end(String(req.socket.remotePort));
};

t.test('two destinations never share a connection, though they are the same address and port', async (t) => {
  const lab = await startLab(t, {
    onRequest: tells,
    configure: (draft, { https, http }) => {
      draft.destinations['other'] = { hosts: ['other.telus.internal'], ports: [https, http], addresses: ['127.0.0.0/8'], gateway: { prefix: '/other', url: `https://other.telus.internal:${https}` }, tls: { caFile: 'ca.pem', serverName: ECO } };
      draft.rules.push({ clients: ['pods'], destinations: ['other'] });
    },
  });
  const portOf = async (target: string, host: string): Promise<string> => (await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).split('\r\n\r\n')[1] ?? '';
  const { httpPort } = lab.upstream;
  const seen = new Map<string, Set<string>>();
  for (let i = 0; i < 3; i += 1) {
    for (const [name, target, host] of [['eco', '/eco/x', 'x'], ['other', '/other/x', 'x'], ['eco plain', `http://${ECO}:${httpPort}/x`, `${ECO}:${httpPort}`], ['other plain', `http://other.telus.internal:${httpPort}/x`, `other.telus.internal:${httpPort}`]] as const) {
      seen.set(name, (seen.get(name) ?? new Set()).add(await portOf(target, host)));
    }
  }
  t.same([...seen.values()].map((ports) => ports.size), [1, 1, 1, 1], 'each has one and keeps it');
  t.equal(new Set([...seen.values()].flatMap((ports) => [...ports])).size, 4, 'and none is another’s');
});

t.test('a reload during a dial: the address is judged by the new policy', async (t) => {
  for (const kind of ['exchange', 'tunnel'] as const) {
    const asked = Promise.withResolvers<undefined>();
    const answer = Promise.withResolvers<undefined>();
    const lab = await startLab(t, {
      lookup: async () => {
        asked.resolve(undefined);
        await answer.promise;
        return { addresses: ['127.0.0.1'], ttl: null };
      },
    });
    const authority = `${ECO}:${lab.upstream.httpPort}`;
    const heard = askRaw(t, lab.port, kind === 'tunnel' ? `CONNECT ${authority} HTTP/1.1\r\nHost: x\r\n\r\n` : `GET http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
    await asked.promise;
    await lab.reload((draft) => {
      draft.destinations.eco['addresses'] = ['127.0.0.9/32'];
    });
    answer.resolve(undefined);
    t.match(await Promise.race([heard, delay(3000).then(() => 'let through')]), /^HTTP\/1\.1 403 /, kind);
    t.equal(lab.upstream.requests.length, 0);
  }
});

t.test('places are given back once: after every way for an exchange to end, as many fit as before', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => Object.assign(draft.limits, { exchanges: 3, tunnels: 3 }),
    onRequest: (req, res) => {
      if (req.url === '/held') res.write('held');
      else if (req.url === '/cut') res.destroy();
      else if (req.url === '/half') {
        res.writeHead(200, { 'Content-Length': '10' });
        res.write('half', () => res.destroy());
      } else {
        req.resume();
        res.end('ok');
      }
    },
  });
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const ask = (path: string, fields = 'Connection: close\r\n'): string => `GET http://${authority}${path} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`;
  const endings: readonly string[] = [ask('/ok'), ask('/cut'), ask('/half'), ask('/ok', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'), `POST http://${authority}/ok HTTP/1.1\r\nHost: ${authority}\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n`, `CONNECT ${authority} HTTP/1.1\r\nHost: x\r\n\r\ngarbage\r\n\r\n`, `CONNECT ${ECO}:1 HTTP/1.1\r\nHost: x\r\n\r\n`];
  for (const bytes of endings) {
    for (const early of [false, true]) {
      const wire = await openWire(t, lab.port);
      wire.send(bytes);
      if (early) wire.socket.resetAndDestroy();
      else await Promise.race([wire.ended, delay(500)]);
      wire.socket.destroy();
      await wire.ended;
    }
  }
  while (((await lab.scrape()).samples.get('eco_egress_client_connections') ?? 0) > 0) await delay(5);
  for (const [kind, request] of [['exchanges', ask('/held')], ['tunnels', `CONNECT ${authority} HTTP/1.1\r\nHost: x\r\n\r\n`]] as const) {
    const wires: Wire[] = [];
    for (let i = 0; i < 3; i += 1) {
      const wire = await openWire(t, lab.port);
      wire.send(request);
      t.match(await wire.until('\r\n\r\n'), /^HTTP\/1\.1 200 /, `${kind}: ${i + 1} of 3`);
      wires.push(wire);
    }
    t.match(await askRaw(t, lab.port, request), /^HTTP\/1\.1 503 /, `${kind}: and no fourth`);
    for (const wire of wires) wire.socket.destroy();
  }
});

t.test('500 clients beyond limits.connections that do not close: descriptors stay bounded', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, (_, res) => res.end());
  const proxy = await startChildProxy({ directory: t.testdir(), ports: { https: upstream.httpsPort, http: upstream.httpPort }, configure: (draft) => Object.assign(draft.limits, { connections: 10 }) });
  t.teardown(() => proxy.close());
  const before = readdirSync(`/proc/${String(proxy.child.pid)}/fd`).length;
  const sockets = await Promise.all(
    Array.from({ length: 500 }, async () => {
      const socket = connect({ host: '127.0.0.1', port: proxy.port, allowHalfOpen: true });
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nX: ');
      return socket;
    }),
  );
  await delay(500);
  const held = proxy.descriptors() - before;
  // Of those that are refused, 64 may linger over it.
  t.ok(held <= 80, `${held} descriptors for ten connections and those that linger`);
  for (const socket of sockets) socket.destroy();
  t.equal(proxy.death, null);
});

t.test('a TLS session of one port is not offered to another', async (t) => {
  // Two servers of one name, each with tickets of its own: a session of the one must never be shown to the other.
  const { certPem, keyPem } = await labCertificates();
  const { createServer: createTlsServer } = await import('node:tls');
  const offered: boolean[] = [];
  const serve = async (): Promise<number> => {
    const server = createTlsServer({ cert: certPem, key: keyPem, maxVersion: 'TLSv1.2' }, (socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'));
    });
    const inner = await listen(t, server);
    // TLS 1.2 offers a session as a ticket; the session id of a ClientHello is filled either way.
    const front = createServer((near) => {
      near.once('data', (hello: Buffer) => {
        offered.push(hasTicket(hello));
        const far = connect(inner, '127.0.0.1');
        far.on('error', () => near.destroy());
        near.on('error', () => far.destroy());
        far.write(hello);
        near.pipe(far).pipe(near);
      });
    });
    return listen(t, front);
  };
  const [one, two] = [await serve(), await serve()];
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [one, two], gateway: undefined }) });
  const ask = (port: number): Promise<string> => askRaw(t, lab.port, `GET https://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`);
  for (const port of [one, one, two]) t.match(await ask(port), /^HTTP\/1\.1 200 /);
  t.same(offered, [false, true, false], 'resumed with the same port, and not with the other');
  t.same(accessLines(lab).map(({ code }) => code), ['ok', 'ok', 'ok']);
});

/** Whether the session_ticket extension (35) of a ClientHello has content. */
function hasTicket(hello: Buffer): boolean {
  let at = 43;
  at += 1 + (hello[at] ?? 0);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + (hello[at] ?? 0);
  const end = at + 2 + hello.readUInt16BE(at);
  for (at += 2; at + 4 <= end; at += 4 + hello.readUInt16BE(at + 2)) if (hello.readUInt16BE(at) === 35 && hello.readUInt16BE(at + 2) > 0) return true;
  return false;
}
