/** Requests that do not wait for the answer before them: each is judged by itself, answered in its turn, or not at all. */
import { once } from 'node:events';
import t from 'tap';
import { accessLines, attack, httpAuthority, lastRequest, readAnswers, stillServes } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

const get = (lab: Lab, path: string, host = httpAuthority(lab), fields = ''): string => `GET http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
const connectTo = (authority: string): string => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
const WEBSOCKET = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';

/** An upstream that holds the answer to /held back until it is told. */
async function startHeldLab(t: Parameters<typeof startLab>[0]): Promise<Lab & { readonly asked: Promise<void>; answer(): void }> {
  const asked = Promise.withResolvers<undefined>();
  const answer = Promise.withResolvers<undefined>();
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      if (req.url !== '/held') {
        res.end(req.url);
        return;
      }
      res.writeHead(200, { 'content-length': '8' });
      res.write('half');
      asked.resolve(undefined);
      void answer.promise.then(() => res.end('half'));
    },
  });
  return { ...lab, asked: asked.promise, answer: () => { answer.resolve(undefined); } };
}

t.test('each request in one segment is judged by itself and answered in order', async (t) => {
  const lab = await startLab(t, { onRequest: (req, res) => res.end(req.url) });
  const { answers, reached } = await attack(t, lab, get(lab, '/1') + get(lab, '/2', 'evil.example') + get(lab, '/3') + get(lab, '/4', `${ECO}:22`) + get(lab, '/5'));
  t.same(answers.map((answer) => answer.status), [200, 403, 200, 403, 200, 200]);
  t.same(answers.filter((answer) => answer.status === 200).map((answer) => answer.body), ['/1', '/3', '/5', '/last']);
  t.same(reached.toSorted(), ['GET /1', 'GET /3', 'GET /5']);
});

t.test('a thousand of them neither pile up nor mix', async (t) => {
  const lab = await startLab(t, { onRequest: (req, res) => res.end(req.url) });
  const { answers } = await attack(t, lab, Array.from({ length: 1000 }, (_, i) => get(lab, `/${i}`, i % 2 === 0 ? undefined : 'evil.example')).join(''));
  t.same(answers.slice(0, -1).map((answer, i) => (answer.status === 200 ? answer.body === `/${i}` && i % 2 === 0 : answer.status === 403 && i % 2 === 1)), Array(1000).fill(true));
});

t.test('what is behind a request waits, unread, until that is answered', async (t) => {
  const behind: [name: string, bytes: (lab: Lab) => string, answer: RegExp][] = [
    ['CONNECT', (lab) => connectTo(`${ECO}:${lab.upstream.httpPort}`), /HTTP\/1\.1 200 Connection Established\r\n/],
    ['denied CONNECT', () => connectTo('evil.example:443'), /: host-not-allowed\r\n/],
    ['WebSocket', (lab) => get(lab, '/ws', undefined, WEBSOCKET), /halfhalfHTTP\/1\.1 200 OK\r\n/],
    ['denied WebSocket', (lab) => get(lab, '/ws', 'evil.example', WEBSOCKET), /: host-not-allowed\r\n/],
    ['garbage', () => '\x01\x02\x03\r\n\r\n', /: request-malformed\r\n/],
    ['garbage behind a denied request', (lab) => `${get(lab, '/', 'evil.example')}\x01\x02\x03\r\n\r\n`, /: host-not-allowed\r\n[^]*: request-malformed\r\n/],
    ['a field section too large', (lab) => get(lab, '/', undefined, `X: ${'a'.repeat(100_000)}\r\n`), /: headers-too-large\r\n/],
  ];
  for (const [name, bytes, answer] of behind) {
    for (const begun of [false, true]) {
      const lab = await startHeldLab(t);
      const wire = await openWire(t, lab.port);
      if (begun) {
        // The first answer is on its way when the rest arrives.
        wire.send(get(lab, '/held'));
        await wire.until('half');
        wire.send(bytes(lab));
      } else wire.send(get(lab, '/held') + bytes(lab));
      await lab.asked;
      // Another connection is served meanwhile, and so this one has had its turns.
      await stillServes(t, lab);
      t.same(accessLines(lab).filter((line) => line['path'] !== '/last' && line.code !== 'ok'), [], `${name}: not even looked at`);
      lab.answer();
      t.match(await wire.until(answer), /halfhalfHTTP/, `${name}: answered in its turn`);
      wire.socket.destroy();
    }
  }
});

t.test('what follows CONNECT belongs to the tunnel, or is dropped', async (t) => {
  const lab = await startLab(t);
  for (const [authority, status, code] of [['evil.example:443', 403, 'host-not-allowed'], [`${ECO}:22`, 403, 'port-not-allowed'], [ECO, 400, 'target-malformed']] as const) {
    const { answers, reached, inStep, lines } = await attack(t, lab, connectTo(authority) + get(lab, '/behind'));
    t.match({ status: answers[0]?.status, answers: answers.length, reached, inStep, codes: lines.map((line) => line.code) }, { status, answers: 1, reached: { length: 0 }, inStep: false, codes: { length: 1, 0: code } });
  }
  t.equal(lab.upstream.connections, 0, 'a refused CONNECT dials nobody');
  const { answers, lines } = await attack(t, lab, connectTo(`${ECO}:${lab.upstream.httpPort}`) + 'GET /inside HTTP/1.1\r\nHost: evil.example\r\n\r\n');
  t.equal(answers[0]?.line, 'HTTP/1.1 200 Connection Established');
  t.ok(lab.upstream.requests.some((request) => request.url === '/inside' && request.headers.host === 'evil.example'), 'opaque to us');
  t.same(lines.map((line) => line['form']), ['connect'], 'one line for the tunnel, none for what is in it');
  await stillServes(t, lab);
});

t.test('a CONNECT inside a tunnel is named in the answer', async (t) => {
  const lab = await startLab(t);
  const wire = await openWire(t, lab.port);
  wire.send(connectTo(`${ECO}:${lab.upstream.httpPort}`));
  await wire.until('\r\n\r\n');
  wire.send(connectTo(`${ECO}:${lab.upstream.httpPort}`));
  const { heard } = await wire.ended;
  t.same(readAnswers(heard).map((answer) => answer.status), [200, 400]);
  t.match(heard, /connect-in-tunnel/);
  t.same(lab.upstream.requests, []);
});

t.test('nothing is served behind the last answer of a connection', async (t) => {
  const lab = await startLab(t, { onRequest: (req, res) => res.end(req.url) });
  const firsts: [name: string, bytes: string][] = [
    ['Connection: close', get(lab, '/1', undefined, 'Connection: close\r\n')],
    ['HTTP/1.0', `GET http://${httpAuthority(lab)}/1 HTTP/1.0\r\nHost: ${httpAuthority(lab)}\r\n\r\n`],
    ['a declined upgrade', get(lab, '/1', undefined, 'Connection: Upgrade\r\nUpgrade: h2c\r\n')],
    ['a refused WebSocket', get(lab, '/1', 'evil.example', WEBSOCKET)],
    ['an answered WebSocket', get(lab, '/1', undefined, WEBSOCKET)],
  ];
  for (const [name, first] of firsts) {
    const { answers, reached, lines } = await attack(t, lab, `${first}${get(lab, '/2')}`);
    t.equal(answers.length, 1, name);
    t.notOk(reached.includes('GET /2'), name);
    t.equal(lines.length, 1, name);
  }
  const { answers } = await attack(t, lab, `GET http://${httpAuthority(lab)}/1 HTTP/1.0\r\nHost: ${httpAuthority(lab)}\r\nConnection: keep-alive\r\n\r\n`);
  t.same(answers.map((answer) => answer.body), ['/1'], 'RFC 9112 §9.3: nor with HTTP/1.0, even if it asks to go on');
});

t.test('a declined upgrade ends the connection: nothing is read from the middle of what follows', async (t) => {
  const lab = await startLab(t);
  const wire = await openWire(t, lab.port);
  // The first segment ends inside a field, whose value is a request of its own.
  wire.send(`${get(lab, '/1', undefined, 'Connection: Upgrade\r\nUpgrade: foo\r\n')}GET http://${httpAuthority(lab)}/2 HTTP/1.1\r\nX: `);
  wire.send(lastRequest(lab, '/smuggled'));
  await wire.ended;
  t.same(lab.upstream.requests.map((request) => request.url), ['/1']);
});

t.test('a body that is broken after its request was refused is not answered again', async (t) => {
  const lab = await startLab(t);
  const wire = await openWire(t, lab.port);
  wire.send('POST http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n');
  await wire.until('host-not-allowed"');
  wire.send('ZZ\r\n');
  wire.socket.end();
  const { heard } = await wire.ended;
  t.equal(heard.match(/HTTP\/1\.1/g)?.length, 1);
  t.same(accessLines(lab).map((line) => line.code), ['host-not-allowed']);
  await stillServes(t, lab);
});

t.test('a client that goes while its CONNECT is being dialled disturbs no other', async (t) => {
  const asked = Promise.withResolvers<undefined>();
  const lab = await startLab(t, {
    lookup: async (host) => {
      if (host !== ECO) throw new Error('not asked for');
      asked.resolve(undefined);
      await leaving.promise;
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  const leaving = Promise.withResolvers<undefined>();
  const wire = await openWire(t, lab.port);
  wire.send(`${connectTo(`${ECO}:${lab.upstream.httpsPort}`)}early`);
  await asked.promise;
  wire.socket.resetAndDestroy();
  await once(wire.socket, 'close');
  const line = await lab.logged((entry) => entry['form'] === 'connect');
  t.match(line, { code: 'client-closed', closedBy: 'client' });
  leaving.resolve(undefined);
  await stillServes(t, lab);
});
