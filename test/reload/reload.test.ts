import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PemConverter, X509CertificateGenerator } from '@peculiar/x509';
import t from 'tap';
import type { LoadResult } from '../../src/config/load.ts';
import { type Draft, ECO, type Lab, labCertificates, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

/** Asks for a tunnel; resolves with the status line and the socket. */
async function tunnel(lab: Lab, authority: string): Promise<{ status: string; socket: Socket }> {
  const socket = connect(lab.port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return { status: chunk.toString().split('\r\n', 1)[0] ?? '', socket };
}

/** Closed, in whatever way. */
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once('close', () => {
      resolve();
    });
  });

const readiness = async (lab: Lab): Promise<{ status: string; warnings: string[] }> =>
  (await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { status: string; warnings: string[] };

const denyAll = (draft: Draft): void => {
  draft.rules.splice(0);
};

t.test('a good file takes over at once, and back', async (t) => {
  const lab = await startLab(t);
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  t.match(await lab.reload(denyAll), { result: 'applied', changes: { newlyDenied: [{ client: 'pods', form: 'gateway', host: ECO, code: 'no-rule', count: 1 }] } });
  const refused = await fetch(`${lab.url}/eco/x`);
  t.equal(refused.status, 403);
  t.match(await refused.json(), { code: 'no-rule' });
  t.match(await lab.reload(() => {}), { result: 'applied', changes: { newlyDenied: { length: 0 }, newlyAllowed: [{ form: 'gateway' }] } });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  t.match(await lab.logged((line) => line.msg === 'newly denied by this configuration'), { code: 'no-rule', client: 'pods' });
  t.equal((await lab.scrape()).samples.get('eco_egress_policy_reloads_total{result="applied"}'), 2);
});

t.test('a bad file changes nothing and shows until a good one comes', async (t) => {
  const lab = await startLab(t);
  const hash = [...(await lab.scrape()).samples.keys()].find((name) => name.includes('policy_info'));
  const outcome = await lab.reload((draft) => {
    draft.version = 7;
    draft.rules.push({ clients: ['nobody'], destinations: ['eco'] });
  });
  t.match(outcome, { result: 'refused' });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  const { status, warnings } = await readiness(lab);
  t.equal(status, 'ready', 'a warning, not a failure');
  t.match(warnings.join('\n'), /refused[^]*egress\.yaml:\d+:\d+ [^]*nobody/);
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_policy_reloads_total{result="refused"}'), 1);
  t.equal(samples.get('eco_egress_config_last_reload_successful'), 0);
  t.ok(samples.has(hash ?? ''), 'the same policy is in force');
  await lab.reload(() => {});
  t.same((await readiness(lab)).warnings, []);
  t.equal((await lab.scrape()).samples.get('eco_egress_config_last_reload_successful'), 1);
});

/** A client certificate of a size that OpenSSL refuses to load. */
async function weakCertificate(): Promise<{ certPem: string; keyPem: string }> {
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]), modulusLength: 1024 };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({ name: 'CN=weak', notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000), signingAlgorithm: algorithm, keys });
  return { certPem: certificate.toString('pem'), keyPem: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY') };
}

t.test('certificate files that change under the symlink are tried before they replace what serves', async (t) => {
  const { authority } = await labCertificates();
  const issuing = await authority.issueAuthority('issuing');
  const client = await issuing.issue({ names: ['proxy.example'], clientAuth: true });
  const weak = await weakCertificate();
  const files: Record<string, string> = { '/lab/tls.crt': client.certPem + issuing.certPem, '/lab/tls.key': client.keyPem };
  const withCertificate = ({ destinations: { eco } }: Draft): void => {
    eco['tls'] = { caFile: 'ca.pem', certFile: 'tls.crt', keyFile: 'tls.key' };
  };
  const lab = await startLab(t, { files, configure: withCertificate });
  const status = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  t.equal(await status(), 200);

  files['/lab/tls.crt'] = client.certPem.trimEnd() + issuing.certPem;
  t.match(await lab.reload(withCertificate), { result: 'applied' }, 'OpenSSL alone cannot read a chain without a line break between');
  t.equal(await status(), 200);

  const bad: [what: string, crt: string, key: string][] = [
    ['too weak for TLS', weak.certPem, weak.keyPem],
    ['cut off', client.certPem.slice(0, 300), client.keyPem],
    ['the key of another certificate', client.certPem, weak.keyPem],
    ['empty, as while it is written', '', client.keyPem],
  ];
  for (const [what, crt, key] of bad) {
    Object.assign(files, { '/lab/tls.crt': crt, '/lab/tls.key': key });
    t.match(await lab.reload(withCertificate), { result: 'refused' }, what);
    t.equal(await status(), 200, what);
    t.match((await readiness(lab)).warnings, [/refused; the previous one stays active/, /egress\.yaml:\d+:\d+ /], what);
  }
  Object.assign(files, { '/lab/tls.crt': client.certPem, '/lab/tls.key': client.keyPem });
  t.match(await lab.reload(withCertificate), { result: 'applied' });
  t.same((await readiness(lab)).warnings, []);

  const served = (draft: Draft): void => {
    withCertificate(draft);
    Object.assign(files, { '/lab/server.crt': weak.certPem, '/lab/server.key': weak.keyPem });
    draft.listeners['tls'] = ['127.0.0.1:0'];
    draft.tlsServer = { names: ['proxy.example'], certFile: 'server.crt', keyFile: 'server.key' };
  };
  t.match(await lab.reload(served), { result: 'refused', reasons: { length: 1, 0: /TLS cannot use the certificate/ } }, 'too weak for TLS towards clients');
});

t.test('tunnels that are no longer permitted are closed, others stay', async (t) => {
  const lab = await startLab(t);
  const { httpsPort, httpPort } = lab.upstream;
  const stays = await tunnel(lab, `${ECO}:${httpPort}`);
  const goes = await tunnel(lab, `${ECO}:${httpsPort}`);
  t.match([stays.status, goes.status], [/ 200 /, / 200 /]);
  const gone = closed(goes.socket);
  const outcome = await lab.reload(({ destinations: { eco } }) => {
    eco['ports'] = [httpPort];
    delete eco['gateway'];
  });
  t.match(outcome, { result: 'applied', tunnelsCut: 1 });
  await gone;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'connect', port: httpsPort, closedBy: 'proxy' });
  stays.socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const [answer] = (await once(stays.socket, 'data')) as [Buffer];
  t.match(answer.toString(), /^HTTP\/1\.1 200/);
  stays.socket.destroy();
});

t.test('a tunnel to an address that is no longer permitted is closed', async (t) => {
  const lab = await startLab(t);
  const { socket } = await tunnel(lab, `${ECO}:${lab.upstream.httpsPort}`);
  const gone = closed(socket);
  await lab.reload(({ destinations: { eco } }) => {
    eco['addresses'] = ['10.0.0.0/8'];
  });
  await gone;
  t.match(await lab.logged((line) => line.code === 'revoked'), { detail: /127\.0\.0\.1/ });
});

t.test('pooled connections of a changed destination are not used again, of others they are', async (t) => {
  const lab = await startLab(t);
  const get = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  t.same([await get(), await get()], [200, 200]);
  t.equal(lab.upstream.connections, 1);
  await lab.reload((draft) => {
    draft.clients['others'] = { addresses: ['10.0.0.0/8'] };
  });
  t.equal(await get(), 200);
  t.equal(lab.upstream.connections, 1, 'an unchanged destination keeps its connection');
  await lab.reload(({ destinations: { eco } }) => {
    eco['addresses'] = ['127.0.0.1/32'];
  });
  t.equal(await get(), 200);
  t.equal(lab.upstream.connections, 2, 'a changed one opens its own');
});

t.test('an exchange under way ends as it began', async (t) => {
  const pending = Promise.withResolvers<() => void>();
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.write('first');
      pending.resolve(() => res.end(', last'));
    },
  });
  const req = request(`${lab.url}/eco/slow`).end();
  const [res] = (await once(req, 'response')) as [AsyncIterable<Buffer>];
  await lab.reload(denyAll);
  (await pending.promise)();
  let body = '';
  for await (const chunk of res) body += chunk.toString();
  t.equal(body, 'first, last');
});

t.test('an upgrade that the partner accepts after it has been forbidden becomes no tunnel', async (t) => {
  const lab = await startLab(t);
  const asked = Promise.withResolvers<Duplex>();
  lab.upstream.http.on('upgrade', (_req, socket: Duplex) => {
    socket.on('error', () => {});
    asked.resolve(socket);
  });
  const client = await openWire(t, lab.port);
  client.send(`GET http://${ECO}:${lab.upstream.httpPort}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
  const partner = await asked.promise;
  await lab.reload(denyAll);
  const gone = once(partner, 'end');
  partner.resume();
  partner.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe');
  t.match(await client.until(/frame|"revoked"/), /^HTTP\/1\.1 403 [^]*"code":"revoked"/);
  await gone;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'forward', status: 403, closedBy: 'proxy' });
});

t.test('refuseIfDenies keeps a live client from being shut out by mistake', async (t) => {
  const refusing = (draft: Draft): void => {
    draft.reload = { refuseIfDenies: true };
  };
  const lab = await startLab(t, { configure: refusing });
  const shutOut = (draft: Draft): void => {
    refusing(draft);
    denyAll(draft);
  };
  t.match(await lab.reload(shutOut), { result: 'applied' }, 'nobody has asked yet');
  t.match(await lab.reload(refusing), { result: 'applied' });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  t.match(await lab.reload(shutOut), { result: 'refused', reasons: [/would deny pods \(127\.0\.0\.1\) gateway/] });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200, 'the old policy stays');
});

t.test('what an expired rule no longer permits is not held against the next configuration', async (t) => {
  const until = (offset: number) => (draft: Draft): void => {
    draft.reload = { refuseIfDenies: true };
    draft.rules.splice(0, 1, { clients: ['pods'], destinations: ['eco'], until: `${new Date(Date.now() + offset).toISOString().slice(0, 19)}Z` });
  };
  const lab = await startLab(t, { configure: until(60_000) });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200);
  t.match(await lab.reload(until(-60_000)), { result: 'refused' }, 'it is this one that ends it');
  t.match(await lab.reload((draft) => { until(-60_000)(draft); draft.reload = {}; }), { result: 'applied' });
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 403);
  t.match(await lab.reload(until(-120_000)), { result: 'applied' }, 'the present policy denies it as well');
});

t.test('what only a restart can change is kept and named', async (t) => {
  const lab = await startLab(t);
  const outcome = await lab.reload((draft) => {
    draft.name = 'other';
    draft.listeners['http'] = ['127.0.0.1:0', '127.0.0.2:0'];
    draft.limits['tunnels'] = 1;
  });
  t.match(outcome, { result: 'applied', needRestart: ['name', 'listeners'] });
  t.match((await readiness(lab)).warnings, [/name takes effect/, /listeners takes effect/]);
  const { socket } = await tunnel(lab, `${ECO}:${lab.upstream.httpsPort}`);
  t.match((await tunnel(lab, `${ECO}:${lab.upstream.httpsPort}`)).status, / 503 /, 'the rest is in force');
  socket.destroy();
});

t.test('1,000 reloads while 200 clients work: no permitted request fails, no forbidden one passes', { timeout: 90_000 }, async (t) => {
  // /always is permitted by every policy, /never by none, whatever else a reload changes.
  const policy =
    (paths: string[]) =>
    (draft: Draft): void => {
      draft.reload = { remember: 50 };
      draft.destinations.eco['http'] = { paths };
    };
  const lab = await startLab(t, { configure: policy(['/always']) });
  const [wider, narrower] = [lab.load(policy(['/always', '/now-and-then'])), lab.load(policy(['/always']))];
  const agent = new Agent({ keepAlive: true, maxSockets: 200 });
  t.teardown(() => {
    agent.destroy();
  });
  const ask = (path: string): Promise<number> =>
    new Promise((resolve, reject) => {
      request(`${lab.url}${path}`, { agent }, (res) => {
        res.resume();
        res.on('end', () => {
          resolve(res.statusCode ?? 0);
        });
      })
        .on('error', reject)
        .end();
    });
  const wrong: string[] = [];
  let running = true;
  let rounds = 0;
  const client = async (): Promise<void> => {
    while (running) {
      const permitted = await ask('/eco/always');
      if (permitted !== 200) wrong.push(`/always ${permitted}`);
      const denied = await ask('/eco/never');
      if (denied !== 403) wrong.push(`/never ${denied}`);
      rounds += 1;
    }
  };
  const clients = Array.from({ length: 200 }, client);
  const reload = async (candidate: LoadResult): Promise<void> => {
    const outcome = await lab.service.reload(candidate);
    if (outcome.result !== 'applied') wrong.push(outcome.reasons.join());
  };
  for (let i = 0; i < 500; i += 1) {
    await reload(wider);
    // A turn of the loop moves every client on; more turns would only take longer.
    if (i % 2 === 0) await nextTurn();
    await reload(narrower);
  }
  running = false;
  await Promise.all(clients);
  t.same(wrong.slice(0, 10), []);
  t.ok(rounds > 500, `${rounds} rounds`);
});
