/**
 * The guards proved alone: the policy permits every host and port here, so that
 * what still refuses is the one guard under test.
 */
import { createServer as createHttpServer } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { createServer, type Server } from 'node:net';
import os from 'node:os';
import t, { type Test } from 'tap';
import { dnsLookup } from '../../src/dial/lookup.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { accessLines, attack, lastRequest, refuses, stillServes } from '../support/hostile.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { ECO, type Draft, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { between, seeded } from '../support/random.ts';
import { askRaw, openWire } from '../support/wire.ts';

/** A request for an authority in every form that we have; the gateway leads to `gateway.example`. */
const FORMS = {
  connect: (host: string, port: number) => `CONNECT ${host}:${port} HTTP/1.1\r\nHost: x\r\n\r\n`,
  forward: (host: string, port: number) => `GET http://${host}:${port}/ HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
  'forward over TLS': (host: string, port: number) => `GET https://${host}:${port}/ HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
  'host-routed': (host: string, port: number) => `GET / HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
  WebSocket: (host: string, port: number) => `GET http://${host}:${port}/ HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
} as const;

/** How the connection goes on after a refusal in this form. */
const then = (form: string): 'closed' | 'in step' => (form === 'connect' || form === 'WebSocket' ? 'closed' : 'in step');

/** Everything that was ever a way to the metadata service, to this host or to the inside. */
const HOSTILE = [
  '169.254.169.254',
  '169.254.170.2',
  '168.63.129.16',
  '100.100.100.200',
  '127.0.0.1',
  '127.9.9.9',
  '0.0.0.0',
  '0.0.0.1',
  '10.0.0.1',
  '172.16.0.1',
  '192.168.0.1',
  '169.254.0.1',
  '100.64.0.1',
  '192.0.2.1',
  '198.18.0.1',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::127.0.0.1',
  '::ffff:127.0.0.1',
  '::ffff:169.254.169.254',
  '64:ff9b::169.254.169.254',
  '64:ff9b:1::7f00:1',
  '2002:7f00:1::1',
  '2001:0:7f00:1::1',
  'fd00:ec2::254',
  'fd20:ce::254',
  'fc00::1',
  'fe80::1',
  'fec0::1',
  'ff02::1',
  '2001:db8::1',
];

t.test('the address guard alone: nothing but public addresses, in every form, by name and by literal', async (t) => {
  const answers = new Map<string, string>();
  const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address);
  const lab = await startLab(t, {
    configure: ({ destinations, rules }, { http }) => {
      // Literals are hosts, too: listed one by one, each in the spelling that URL gives it.
      const literals = HOSTILE.map((address) => new URL(`http://${bracketed(address)}/`).hostname.replace(/^\[|\]$/g, ''));
      destinations['open'] = { hosts: ['*.example', ...new Set(literals)], ports: [80, 443, http], gateway: { prefix: '/open', url: 'http://gateway.example/' } };
      rules.push({ clients: ['pods'], destinations: ['open'] });
    },
    lookup: async (host) => ({ addresses: [answers.get(host) ?? '127.0.0.1'], ttl: 0 }),
  });
  for (const [i, address] of HOSTILE.entries()) {
    for (const [form, request] of Object.entries(FORMS)) {
      const line = { verdict: 'allow', destination: 'open', detail: /only public addresses are dialled|is this proxy itself/ };
      const name = `h${i}.${form.toLowerCase().replaceAll(' ', '-')}.example`;
      answers.set(name, address);
      await refuses(t, lab, `${form} to a name at ${address}`, request(name, lab.upstream.httpPort), { code: 'address-not-allowed', then: then(form), line });
      await refuses(t, lab, `${form} to ${address}`, request(bracketed(address), lab.upstream.httpPort), { code: 'address-not-allowed', then: then(form), line });
    }
  }
  answers.set('gateway.example', '169.254.169.254');
  await refuses(t, lab, 'gateway', 'GET /open/x HTTP/1.1\r\nHost: x\r\n\r\n', { code: 'address-not-allowed', then: 'in step' });
  await stillServes(t, lab);
});

t.test('the address guard alone: never ourselves, whatever the destination lists', async (t) => {
  const [own, admin] = [await findUnusedPort(), await findUnusedPort()];
  const lab = await startLab(t, {
    configure: (draft: Draft, { http }) => {
      Object.assign(draft.listeners, { http: [`127.0.0.1:${own}`], admin: `127.0.0.1:${admin}` });
      Object.assign(draft.destinations.eco, { hosts: [ECO, 'localhost', '*.example', '127.0.0.1', '0.0.0.0', '::', '::ffff:7f00:1'], ports: [own, admin, http], addresses: ['0.0.0.0/0', '::/0'], gateway: { prefix: '/self', url: `http://me.example:${own}/` } });
    },
    lookup: async (host) => ({ addresses: [host === 'mapped.example' ? '::ffff:127.0.0.1' : '127.0.0.1'], ttl: null }),
  });
  for (const port of [own, admin]) {
    for (const host of ['localhost', 'me.example', 'mapped.example', '127.0.0.1', '2130706433', '0x7f.1', '0.0.0.0', '[::]', '[::ffff:127.0.0.1]']) {
      for (const [form, request] of Object.entries(FORMS)) {
        await refuses(t, lab, `${form} to ${host}:${port}`, request(host, port), { code: 'loop', then: then(form), line: { verdict: 'allow' } });
      }
    }
  }
  await refuses(t, lab, 'gateway', 'GET /self/x HTTP/1.1\r\nHost: x\r\n\r\n', { code: 'loop', then: 'in step' });
  await stillServes(t, lab);
});

const OWN_ADDRESS = Object.values(os.networkInterfaces()).flatMap((entries) => entries ?? []).find(({ internal, family }) => !internal && family === 'IPv4')?.address;

t.test('an address of ours that no interface shows: both ends of the connection have it', { skip: OWN_ADDRESS === undefined ? 'this host has no address but its loopback ones' : false }, async (t) => {
  const own = await findUnusedPort();
  const lab = await startLab(t, {
    configure: (draft: Draft, { http }) => {
      Object.assign(draft.listeners, { http: [`0.0.0.0:${own}`] });
      Object.assign(draft.destinations.eco, { hosts: [ECO, '*.example'], ports: [own, http], addresses: ['0.0.0.0/0'], gateway: { prefix: '/self', url: `http://me.example:${own}/` } });
    },
    lookup: async (host) => ({ addresses: [host === ECO ? '127.0.0.1' : (OWN_ADDRESS ?? '')], ttl: null }),
  });
  // As with a local route for a whole range, or an address that comes between the check and the dial.
  t.capture(os, 'networkInterfaces', () => ({}));
  syncBuiltinESMExports();
  t.teardown(syncBuiltinESMExports);
  for (const [form, request] of Object.entries(FORMS)) {
    const { answers, lines } = await attack(t, lab, request('me.example', own));
    t.match(answers[0], { status: 508 }, form);
    t.strictSame(lines.map(({ code }) => code), ['loop'], `${form}: and nothing came back to us`);
  }
  await stillServes(t, lab);
});

t.test('a loop is seen by our own Via, in every form', async (t) => {
  const lab = await startLab(t);
  const { httpPort } = lab.upstream;
  const requests = { ...Object.fromEntries(Object.entries(FORMS).map(([form, request]) => [form, request(ECO, httpPort)])), gateway: 'GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n' };
  for (const [form, request] of Object.entries(requests)) {
    for (const via of ['1.1 eco-egress', '1.0 front, 1.1 ECO-EGRESS (pod 3)', 'HTTP/1.1 eco-egress, 1.1 other']) {
      for (const connection of ['', 'Connection: Via\r\n']) {
        const fields = connection !== '' && form === 'WebSocket' ? '' : connection;
        await refuses(t, lab, `${form}: ${via}`, request.replace(/\r\n$/, `${fields}Via: ${via}\r\n\r\n`), { code: 'loop', then: then(form) });
      }
    }
  }
  t.match((await attack(t, lab, lastRequest(lab, '/x').replace('\r\n\r\n', '\r\nVia: 1.1 eco-egress-2, 1.1 my.eco-egress\r\n\r\n'), false)).answers, [{ status: 200 }], 'others may be named alike');
});

t.test('rebinding: whatever a name answers next, the address dialled is one that was judged', async (t) => {
  const reached: string[] = [];
  const good = createHttpServer((req, res) => res.end(req.url));
  const port = await listen(t, good, '127.0.0.1');
  const evil = createServer((socket) => {
    reached.push(socket.localAddress ?? '');
    socket.destroy();
  });
  await listenOn(t, evil, '127.0.0.2', port);
  const random = seeded(3);
  const sets = [['127.0.0.1'], ['127.0.0.2'], ['127.0.0.1', '127.0.0.2'], ['127.0.0.2', '127.0.0.1'], ['169.254.169.254', '127.0.0.2', '127.0.0.1']];
  const dns = await startDnsServer(({ type }) => (type === 'A' ? { addresses: sets[between(random, 0, sets.length - 1)] ?? [], ttl: 0 } : null));
  t.teardown(() => dns.close());
  const lab = await startLab(t, {
    configure: ({ destinations: { eco } }) => Object.assign(eco, { hosts: [ECO, '*.example'], ports: [port], addresses: ['127.0.0.1/32'], gateway: undefined }),
    lookup: dnsLookup([dns.address]),
  });
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const host = `n${i % 20}.example:${port}`;
      const heard = await askRaw(t, lab.port, i % 2 === 0 ? `GET http://${host}/x HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n` : `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      return /^HTTP\/1\.1 (\d+)/.exec(heard)?.[1] ?? '';
    }),
  );
  t.same(reached, [], 'the other address was never dialled');
  t.same([...new Set(outcomes)].toSorted(), ['200', '403'], 'some answers had the permitted address, some had not');
  t.same([...new Set(accessLines(lab).filter((line) => line.code === 'ok').map((line) => line['upstreamAddress']))], ['127.0.0.1']);
});

function listenOn(t: Test, server: Server, host: string, port: number): Promise<void> {
  t.teardown(() => server.close());
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}

t.test('a pooled connection is no permission: every request on it is checked', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.clients, { pods: { addresses: ['127.0.0.1/32'] }, others: { addresses: ['127.0.0.3/32'] } });
      draft.destinations.eco['http'] = { methods: ['GET'], paths: ['/last', '/alive', '/api/*'] };
    },
  });
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const request = (method: string, path: string): string => `${method} http://${authority}${path} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
  t.match((await attack(t, lab, request('GET', '/api/x'))).answers, [{ status: 200 }, { status: 200 }]);
  const { connections } = lab.upstream;
  await refuses(t, lab, 'another path', request('GET', '/other'), { code: 'path-not-allowed', then: 'in step' });
  await refuses(t, lab, 'the path in disguise', request('GET', '/api/%2e%2e/other'), { code: 'path-ambiguous', then: 'in step' });
  await refuses(t, lab, 'another method', request('DELETE', '/api/x'), { code: 'method-not-allowed', then: 'in step' });
  for (const [from, code] of [['127.0.0.3', 'no-rule'], ['127.0.0.4', 'client-not-allowed']] as const) {
    const wire = await openWire(t, lab.port, { from });
    wire.send(lastRequest(lab, '/api/x'));
    t.match((await wire.ended).heard, new RegExp(`^HTTP/1\\.1 403 Egress denied: ${code}\r\n`), from);
  }
  t.equal(lab.upstream.connections, connections, 'one connection served all that was permitted');
  t.equal(lab.upstream.requests.filter((seen) => seen.url === '/api/x').length, 1);
});
