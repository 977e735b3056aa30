/** What a client sends stays where it belongs: in no label, in no line unescaped, and no secret beyond the hop it is for. */
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { accessLines, httpAuthority, lastRequest, readAnswers } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { between, bytes, seeded } from '../support/random.ts';
import { askRaw, openWire } from '../support/wire.ts';

/** Everything that a bare partner was told, in every form that we terminate. */
async function startEavesdroppingLab(t: Test, configure?: Parameters<typeof startLab>[1]): Promise<Lab & { readonly partner: string; readonly told: () => string }> {
  let told = '';
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', (chunk) => {
        told += chunk.toString('latin1');
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      });
    }),
  );
  const lab = await startLab(t, {
    ...configure,
    configure: (draft, ports) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } });
      configure?.configure?.(draft, ports);
    },
  });
  return { ...lab, partner: `${ECO}:${port}`, told: () => told };
}

const SECRET = 'dXNlcjpTM2NyM3Q';

t.test('credentials for the proxy stop at the proxy', async (t) => {
  const lab = await startEavesdroppingLab(t);
  const { partner } = lab;
  const fields = `Proxy-Authorization: Basic ${SECRET}\r\nproxy-authorization: Bearer ${SECRET}\r\nPROXY-CONNECTION: ${SECRET}\r\nProxy-Authenticate: ${SECRET}\r\n`;
  const requests = [
    `GET http://${partner}/x HTTP/1.1\r\nHost: ${partner}\r\n${fields}Connection: close\r\n\r\n`,
    `GET /eco/x HTTP/1.1\r\nHost: x\r\n${fields}Connection: close\r\n\r\n`,
    `GET /x HTTP/1.1\r\nHost: ${partner}\r\n${fields}Connection: close\r\n\r\n`,
    `POST /x HTTP/1.1\r\nHost: ${partner}\r\n${fields}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nProxy-Authorization: Basic ${SECRET}\r\n\r\n`,
    `GET http://${partner}/ws HTTP/1.1\r\nHost: ${partner}\r\n${fields}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
    `CONNECT ${partner} HTTP/1.1\r\nHost: ${partner}\r\n${fields}\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n`,
    // And where they are part of what is refused.
    `GET http://user:${SECRET}@${partner}/ HTTP/1.1\r\nHost: ${partner}\r\nConnection: close\r\n\r\n`,
    `GET http://${SECRET}@${partner}/ HTTP/1.1\r\nHost: ${partner}\r\nConnection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: user:${SECRET}@${partner}\r\nConnection: close\r\n\r\n`,
    `CONNECT user:${SECRET}@${partner} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /nowhere?token=${SECRET} HTTP/1.1\r\nHost: x\r\n${fields}Connection: close\r\n\r\n`,
    `GET /eco/x?token=${SECRET}#y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET ftp://${partner}/x?token=${SECRET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET /eco/%2e%2e/x?token=${SECRET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET http://evil.example/?token=${SECRET} HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer ${SECRET}\r\nCookie: ${SECRET}\r\nConnection: close\r\n\r\n`,
  ];
  for (const request of requests) {
    const heard = await askRaw(t, lab.port, request);
    t.match(heard, /^HTTP\/1\.1 /, JSON.stringify(request.slice(0, 60)));
  }
  await lab.logged(() => accessLines(lab).length >= requests.length);
  t.notMatch(lab.told(), SECRET, 'none reached the partner');
  t.notMatch(JSON.stringify(lab.log), SECRET, 'none reached the log');
  t.notMatch(await (await fetch(`${lab.adminUrl}/metrics`)).text(), SECRET);
  await askRaw(t, lab.port, `GET http://${partner}/x?token=${SECRET} HTTP/1.1\r\nHost: ${partner}\r\nAuthorization: Bearer mine\r\nConnection: close\r\n\r\n`);
  t.match(lab.told(), `GET /x?token=${SECRET} HTTP/1.1`, 'what is for the partner reaches it');
  t.match(lab.told(), 'Authorization: Bearer mine');
  t.notMatch(JSON.stringify(lab.log), SECRET);
});

t.test('the partner gets one head, whatever is in the request', async (t) => {
  const lab = await startEavesdroppingLab(t, { configure: ({ headers }) => Object.assign(headers, { forwarded: 'append', xForwarded: 'append' }) });
  const { partner } = lab;
  await askRaw(
    t,
    lab.port,
    `GET /eco/x?y=%0d%0aSet-Cookie:%20z HTTP/1.1\r\nHost: "x".example\r\nConnection: close\r\n\r\n`,
  );
  t.equal(lab.told(), '', 'a Host that could end a quoted string is none');
  await askRaw(
    t,
    lab.port,
    `GET /eco/x?y=%0d%0aSet-Cookie:%20z HTTP/1.1\r\nHost: me.example\r\nX: \xe9\xc4\x8d\xc4\x8a\xff\r\nConnection: close, X-Forwarded-For, Via, Host, Content-Length\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nForwarded: for=6.6.6.6\r\nTE: trailers, deflate\r\nKeep-Alive: timeout=9\r\nTrailer: X\r\n\r\n`,
  );
  t.equal(
    lab.told(),
    [
      'GET /x?y=%0d%0aSet-Cookie:%20z HTTP/1.1',
      `Host: ${partner}`,
      'X: \xe9\xc4\x8d\xc4\x8a\xff',
      // What Connection names is gone, and ours is there all the same (CVE-2025-48865).
      'X-Forwarded-Proto: gopher',
      'Forwarded: for=6.6.6.6',
      'TE: trailers',
      'Via: 1.1 eco-egress',
      'Forwarded: for=127.0.0.1;proto=http;host="me.example"',
      'X-Forwarded-For: 127.0.0.1',
      'X-Forwarded-Proto: http',
      'X-Forwarded-Host: me.example',
      'Connection: keep-alive, TE',
      '\r\n',
    ].join('\r\n'),
  );
});

t.test('without leave to append, no client can say whom it speaks for', async (t) => {
  const lab = await startEavesdroppingLab(t);
  await askRaw(t, lab.port, `GET /eco/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nx-forwarded-host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n`);
  t.notMatch(lab.told(), /forwarded/i);
  t.equal(accessLines(lab)[0]?.['clientAddress'], '127.0.0.1');
  const claims = ['X_Forwarded_For', 'X.Forwarded.For', 'X-Forwarded~For', 'SCRIPT_NAME', 'Path-Info', 'X-Real-IP', 'X-real_ip', 'True-Client-IP', 'X-Client-IP', 'Client-Cert', 'Client-Cert-Chain', 'Proxy', 'X-SSL-Client-Verify', 'X-Forwarded-User', 'CF-Connecting-IP'];
  for (const target of ['/eco/x', `http://${lab.partner}/x`]) {
    await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${lab.partner}\r\n${claims.map((name) => `${name}: 6.6.6.6\r\n`).join('')}Connection: close\r\n\r\n`);
  }
  t.equal(lab.told().match(/^GET /gm)?.length, 3);
  t.notMatch(lab.told(), /6\.6\.6\.6/);
});

t.test('10,000 requests for things that are not configured add no series', async (t) => {
  const lab = await startLab(t);
  const random = seeded(4);
  const word = (): string => bytes(random, between(random, 1, 12)).toString('hex').replace(/^/, 'w');
  const methods = ['GET', 'POST', 'PURGE', 'MKCOL', 'REPORT', 'SUBSCRIBE'];
  /** One of each outcome, so that every series there may be is there. */
  const request = (host: string, path: string, method: string): string => {
    switch (between(random, 0, 3)) {
      case 0:
        return `${method} http://${host}.example/${path} HTTP/1.1\r\nHost: ${host}.example\r\nUser-Agent: ${host}\r\n\r\n`;
      case 1:
        return `${method} /${path} HTTP/1.1\r\nHost: ${host}.example\r\n\r\n`;
      case 2:
        return `${method} /eco/${path}/..;/ HTTP/1.1\r\nHost: ${host}\r\nVia: 1.1 ${host}\r\n\r\n`;
      default:
        return `${method} http://${ECO}:${between(random, 1, 1023)}/${path} HTTP/1.1\r\nHost: evil-${host}\r\n\r\n`;
    }
  };
  const pelt = async (count: number): Promise<void> => {
    const wire = await openWire(t, lab.port);
    wire.send(Array.from({ length: count }, () => request(word(), word(), methods[between(random, 0, methods.length - 1)] ?? 'GET')).join('') + lastRequest(lab));
    t.equal(readAnswers((await wire.ended).heard).length, count + 1);
  };
  const series = async (): Promise<string[]> => [...(await lab.scrape()).samples.keys()].filter((name) => name.startsWith('eco_egress_')).toSorted();
  await pelt(200);
  const before = await series();
  for (let i = 0; i < 50; i += 1) await pelt(200);
  t.same(await series(), before);
  const values = new Set(before.flatMap((name) => [...name.matchAll(/(?:client|destination|form)="([^"]*)"/g)].map((match) => match[1])));
  t.same([...values].filter((value) => !['-', 'eco', 'pods', 'connect', 'forward', 'gateway', 'host-routed'].includes(value ?? '')), [], 'labels are names of the configuration');
  t.equal(accessLines(lab).length, 51 * 201, 'one line for each, every one of them JSON');
});

t.test('a stranger learns neither hosts nor prefixes: each request has the same answer', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.clients['pods'] = { addresses: ['127.0.0.2'] };
    },
  });
  const close = 'Connection: close\r\n\r\n';
  const requests = [
    ...['/', '/eco/x', '/eco/..%2fx', '/eco//x', '/metrics'].map((path) => `GET ${path} HTTP/1.0\r\n${close}`),
    ...[ECO, 'x.example'].flatMap((host) => ['/', '/eco/x', '/eco/..%2fx', '/metrics'].map((path) => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${close}`)),
    ...[httpAuthority(lab), 'x.example'].map((host) => `GET http://${host}/eco/../x HTTP/1.1\r\nHost: ${host}\r\n${close}`),
    ...[`${ECO}:443`, 'x.example:443'].map((target) => `CONNECT ${target} HTTP/1.1\r\nHost: x\r\n\r\n`),
  ];
  const answers = new Set<string>();
  for (const request of requests) answers.add((await askRaw(t, lab.port, request, '127.0.0.9')).replaceAll(/[0-9a-f]{12}-[0-9a-z]{9}/g, 'ID'));
  t.match([...answers], [/^HTTP\/1\.1 403 Egress denied: client-not-allowed\r\n/]);
  t.equal(answers.size, 1);
  t.match(await askRaw(t, lab.port, `GET / HTTP/1.0\r\n${close}`, '127.0.0.2'), / 403 Egress denied: host-not-allowed\r\n[^]*not below \/eco/, 'a client is told');
  t.ok(accessLines(lab).every(({ code, clientAddress }) => code === (clientAddress === '127.0.0.9' ? 'client-not-allowed' : 'host-not-allowed')));
});

t.test('what goes into a line cannot leave it', async (t) => {
  const lab = await startLab(t);
  const nasty = ['%0a%22%7d', '%1b[31m', '%e2%80%ae', '%c2%85', '%e2%80%a8', '"},{"', '\\u000a', '%F0%9F%92%A9', "';--", '<script>', '${jndi:ldap://x}'];
  for (const text of nasty) {
    await askRaw(t, lab.port, `GET http://${httpAuthority(lab)}/${text} HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nUser-Agent: \x80\x85\x9b31m\r\nConnection: close\r\n\r\n`);
    await askRaw(t, lab.port, `GET /${text} HTTP/1.1\r\nHost: ${text.replaceAll(/[^\w]/g, '')}\r\nConnection: close\r\n\r\n`);
  }
  await lab.logged(() => accessLines(lab).length >= 2 * nasty.length);
  t.equal(accessLines(lab).length, 2 * nasty.length);
  t.notMatch(JSON.stringify(lab.log), /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\ufeff]/, 'nothing that a terminal acts on, not even escaped');
  t.same(accessLines(lab).filter((line) => line['form'] === 'forward').map((line) => line['path']), nasty.map((text) => `/${text}`), 'as it was sent');
});
