/** A whole proxy that goes to ECO by parents: every form, what the log and the metrics tell, and refusals. */
import { X509Certificate } from 'node:crypto';
import t, { type Test } from 'tap';
import { ask, FORMS, TERMINATED } from '../support/ask.ts';
import { startOdd } from '../support/hop-door.ts';
import { type HopLabOptions, LOGIN, startHopLab, startParentProxy } from '../support/hop-lab.ts';
import { accessLines } from '../support/hostile.ts';
import { ECO, labCertificates } from '../support/lab.ts';
import { startParent } from '../support/parents.ts';
import { openSteered, speak, type TlsLab } from '../support/tls-lab.ts';
import { openWire } from '../support/wire.ts';

const CREDENTIALS = '/lab/hop.txt';

/** One request in each form, and TLS that was steered. */
async function askInEveryForm(t: Test, lab: TlsLab): Promise<void> {
  for (const form of FORMS) {
    const answer = await ask(lab, form, { path: `/${form}` });
    t.equal(answer.status, 200, `${form}: ${answer.text}`);
    t.match(answer.text, `"url":"/${form}"`);
  }
  const steered = await openSteered(t, lab);
  t.match(await speak(steered, `GET /sni HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`), /"url":"\/sni"/);
}

t.test('by a proxy of our own: in plain with a password, inside TLS with a token', async (t) => {
  const parent = await startParentProxy(t);
  const ways: [url: string, credentials: string, client: string][] = [
    [parent.http, LOGIN, 'by-password'],
    [parent.https, `Bearer ${parent.token}`, 'by-token'],
  ];
  for (const [url, credentials, client] of ways) {
    const lab = await startHopLab(t, { hops: { edge: { url, credentialsFile: 'hop.txt', ...(url.startsWith('https') ? { tls: { caFile: 'ca.pem' } } : {}) } }, files: { [CREDENTIALS]: `${credentials}\n` } });
    await parent.permit(lab);
    await askInEveryForm(t, lab);

    const { port } = new URL(url);
    const via = `edge (${new URL(url).hostname}:${port})`;
    for (const line of accessLines(lab)) {
      t.match(line, { via, upstreamAddress: '127.0.0.1', code: 'ok' }, String(line['form']));
      if (line['reusedConnection'] === false) t.match(line['phases'], { tcp: Number, hop: Number });
    }
    t.equal(accessLines(parent.lab).at(-1)?.['client'] ?? client, client);
    const { samples } = await lab.scrape();
    t.ok((samples.get('eco_egress_upstream_connect_seconds_count{destination="eco",phase="hop"}') ?? 0) >= 3);
    t.notMatch(JSON.stringify(lab.log), /gate-password|Basic |Bearer /);
    t.notOk(JSON.stringify(lab.log).includes(parent.token));
    for (const { headers } of lab.upstream.requests) t.notOk('proxy-authorization' in headers, 'the partner sees nothing of it');
  }
});

t.test('what we terminate shares its connections, by a parent too', async (t) => {
  const parent = await startParent(t);
  const lab = await startHopLab(t, { hops: { edge: { url: `http://parent.test:${parent.port}` } } });
  for (let round = 0; round < 3; round += 1) for (const form of TERMINATED) t.equal((await ask(lab, form)).status, 200);
  t.equal(parent.taken, 2, 'one connection to each origin, http by CONNECT as well');
  t.strictSame([...parent.asked].toSorted(), [`127.0.0.1:${lab.upstream.httpPort}`, `127.0.0.1:${lab.upstream.httpsPort}`].toSorted());
  t.equal(lab.log.filter((line) => line['reusedConnection'] === true).length, 7);
});

t.test('a chain of three: SOCKS5, CONNECT, and TLS to a proxy of our own', async (t) => {
  const proxy = await startParentProxy(t);
  const near = await startParent(t, { scheme: 'socks5', login: LOGIN });
  const middle = await startParent(t);
  const hops = {
    near: { url: `socks5://near.test:${near.port}`, credentialsFile: 'hop.txt' },
    middle: { url: `http://middle.test:${middle.port}` },
    far: { url: proxy.https, credentialsFile: 'token.txt', tls: { caFile: 'ca.pem' } },
  };
  const lab = await startHopLab(t, { hops, files: { [CREDENTIALS]: LOGIN, '/lab/token.txt': `Bearer ${proxy.token}` } });
  await proxy.permit(lab);
  await askInEveryForm(t, lab);
  const { port, hostname } = new URL(proxy.https);
  t.match(accessLines(lab)[0], { via: `near (near.test:${near.port}), middle (middle.test:${middle.port}), far (${hostname}:${port})` });
  t.notMatch(near.heads.join() + middle.heads.join(), proxy.token, 'each sees its own credentials');
});

t.test('a proxy of our own in the middle takes no CONNECT in plain inside its tunnel', async (t) => {
  const proxy = await startParentProxy(t);
  const far = await startParent(t);
  const lab = await startHopLab(t, { hops: { near: { url: proxy.http, credentialsFile: 'hop.txt' }, far: { url: `http://${ECO}:${far.port}` } }, files: { [CREDENTIALS]: LOGIN } });
  await proxy.lab.reload((draft) => {
    draft.name = 'parent-proxy';
    Object.assign(draft.destinations.eco, { ports: [far.port], gateway: undefined });
  });
  t.match(await ask(lab, 'gateway'), { status: 502, text: /^(?=.*"code":"hop-failed").*connect-in-tunnel/ });
  t.strictSame(far.asked, []);
});

interface Told {
  readonly answer: string;
  readonly status: number;
  readonly code: string;
  readonly says: RegExp;
}

t.test('refusals and failures of the parent, as the client and the log see them', async (t) => {
  const table: Told[] = [
    { answer: 'HTTP/1.1 403 Forbidden\r\nProxy-Status: edge;error=http_request_denied\r\n\r\n', status: 502, code: 'hop-refused', says: /^edge;error=http_request_denied, eco-egress;error=connection_refused;next-hop="parent\.test:\d+";received-status=403;details="hop-refused: hop edge \(parent\.test:\d+\): answered \\"HTTP\/1\.1 403 Forbidden\\" to CONNECT 127\.0\.0\.1:\d+/ },
    { answer: 'HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n', status: 502, code: 'hop-credentials', says: /error=proxy_configuration_error/ },
    { answer: 'HTTP/1.1 504 Gateway Timeout\r\n\r\n', status: 502, code: 'hop-upstream-failed', says: /error=destination_unavailable/ },
    { answer: 'HTTP/1.1 500 no\r\n\r\n', status: 502, code: 'hop-failed', says: /error=destination_unavailable/ },
  ];
  let answer = '';
  const parent = await startParent(t, { refuse: () => answer });
  const lab = await startHopLab(t, { hops: { edge: { url: `http://parent.test:${parent.port}` } } });
  for (const told of table) {
    ({ answer } = told);
    for (const form of TERMINATED) {
      const refused = await ask(lab, form);
      t.equal(refused.status, told.status, told.code);
      t.match(refused.headers['proxy-status'], told.says);
      t.match(JSON.parse(refused.text), { code: told.code, detail: /^hop edge /, remedy: /\w/ });
    }
    const wire = await openWire(t, lab.port);
    wire.send(`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}:${lab.upstream.httpsPort}\r\n\r\n`);
    t.match((await wire.ended).heard, new RegExp(`^HTTP/1\\.1 ${told.status} [^\r]*: ${told.code}\r\n`));
    t.match(await lab.logged((line) => line.code === told.code), { via: /^edge \(/, localPort: Number, phases: { tcp: Number, hop: Number }, detail: /hop edge/ });
  }
  t.equal(lab.upstream.connections, 0);
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_upstream_errors_total{destination="eco",error="hop-refused"}'), 4);
  t.strictSame(lab.log.filter(({ msg }) => msg === 'a parent proxy failed, and is tried after the others for now').length, 1, 'told once');
});

t.test('a connection that a parent has confirmed and then closes: the parent is named, since the partner may never have seen it', async (t) => {
  // As ss-local does before it has reached anybody.
  const port = await startOdd(t, 'http', (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.once('data', () => socket.end());
    });
  });
  const lab = await startHopLab(t, { hops: { edge: { url: `http://parent.test:${port}` } } });
  const route = `by way of edge (parent.test:${port})`;
  for (const [form, code] of [['forward', 'upstream-cut'], ['gateway', 'tls-failed']] as const) {
    const { text } = await ask(lab, form);
    t.match(JSON.parse(text), { code, detail: new RegExp(`closed the connection.* \\(${RegExp.escape(route)}\\)$`), remedy: /look at the log of the parent\.$/ }, form);
  }
  const { client } = await openSteered(t, lab).then((steered) => ({ client: steered }), () => ({ client: null }));
  t.equal(client, null, 'TLS that was steered fails');
  t.match(await lab.logged((line) => line['form'] === 'sni'), { code: 'upstream-cut', via: /^edge \(/, detail: /by way of edge/ });
});

t.test('ourselves as a parent: a loop, by address and by Via', async (t) => {
  const lab = await startHopLab(t, { hops: { edge: { url: 'http://parent.test:1' } } });
  const own = { edge: { url: `http://parent.test:${lab.port}` } };
  await lab.reload((draft) => {
    draft.hops = { edge: { ...own.edge, addresses: ['127.0.0.0/8'] } };
  });
  t.match(await ask(lab, 'gateway'), { status: 508, text: /"code":"loop"/ });

  // By a parent that sends everything back to us.
  const port = lab.port;
  const back = await startParent(t);
  await lab.reload((draft) => {
    draft.hops = { out: { url: `http://parent.test:${back.port}`, addresses: ['127.0.0.0/8'] }, edge: { ...own.edge, addresses: ['127.0.0.0/8'] } };
    Object.assign(draft.destinations.eco, { via: ['out', 'edge'] });
  });
  t.match(await ask(lab, 'gateway'), { status: 502, text: /508 Bad request: loop.*"code":"hop-failed"/ });
  t.ok(await lab.logged((line) => line.code === 'loop' && line['method'] === 'CONNECT'), 'seen by our own Via');
  t.equal(back.asked.at(-1), `parent.test:${port}`);
});

t.test('TLS to the parent is with the parent alone', async (t) => {
  const { authority } = await labCertificates();
  const { certPem, keyPem } = await authority.issue({ names: ['other.test'] });
  const parent = await startParent(t, { scheme: 'https', tls: { cert: certPem, key: keyPem } });
  const options: HopLabOptions = { hops: { edge: { url: `https://parent.test:${parent.port}`, tls: { caFile: 'ca.pem' } } } };
  const lab = await startHopLab(t, options);
  t.match(await ask(lab, 'gateway'), { status: 502, text: /the certificate is not for parent\.test.*"code":"hop-failed".*hops\.edge\.tls\.serverName/ });
  await lab.reload((draft) => {
    Object.assign((draft.hops?.['edge'] ?? {}), { tls: { caFile: 'ca.pem', serverName: 'other.test' } });
  });
  const ends = async (): Promise<number | undefined> => (await lab.scrape()).samples.get(`eco_egress_parent_certificate_expiry_timestamp_seconds{hop="edge",parent="parent.test"}`);
  t.equal(await ends(), undefined, 'no certificate of it was accepted yet');
  t.equal((await ask(lab, 'gateway')).status, 200);
  t.equal(await ends(), new X509Certificate(certPem).validToDate.getTime() / 1000);
  await lab.reload((draft) => {
    Object.assign((draft.hops?.['edge'] ?? {}), { url: `https://else.test:${parent.port}` });
  });
  t.equal(await ends(), undefined, 'nor of what is a parent no longer');
});
