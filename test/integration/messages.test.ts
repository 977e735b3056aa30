/** How messages are framed and what belongs to them: bodies of every kind, interim responses, trailers, Expect, HTTP/1.0. */
import { once } from 'node:events';
import type { ClientRequest } from 'node:http';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import { addressOf, type Answer, answerOf, ask, beginAsk, FORMS, TERMINATED, valuesOf } from '../support/ask.ts';
import { ECO, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { askRaw, openWire, wireOf } from '../support/wire.ts';

const ENDLESS = { method: 'POST', headers: ['Content-Length', String(2 ** 40)] } as const;

/** Sends a body until the answer is complete. */
async function answerWhileSending(request: ClientRequest): Promise<Answer> {
  const chunk = Buffer.alloc(64 * 1024);
  const more = (): void => {
    while (!request.destroyed && request.write(chunk));
  };
  request.on('drain', more);
  more();
  const answer = await answerOf(request);
  request.destroy();
  return answer;
}

t.test('HEAD, 204, 304 and 205 have no body and keep their fields', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      const status = Number(req.url?.slice(1));
      const headers = { ETag: '"v1"', ...(status === 204 ? {} : { 'Content-Length': status === 205 ? '0' : '12345' }) };
      res.writeHead(status, headers).end();
    },
  });
  for (const form of FORMS) {
    for (const [method, status, length] of [
      ['HEAD', 200, '12345'],
      ['GET', 304, '12345'],
      ['GET', 204, undefined],
      ['GET', 205, '0'],
      ['HEAD', 404, '12345'],
    ] as const) {
      const answer = await ask(lab, form, { method, path: `/${status}` });
      t.match({ status: answer.status, length: answer.headers['content-length'], tag: answer.headers.etag, body: answer.text }, { status, length, tag: '"v1"', body: '' }, `${form} ${method} ${status}`);
      t.equal(answer.headers['transfer-encoding'], undefined);
    }
  }
});

t.test('a range and its parts', async (t) => {
  const content = '0123456789';
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      t.equal(req.headers.range, 'bytes=2-4');
      t.equal(req.headers['if-range'], '"v1"');
      res.writeHead(206, { 'Content-Range': 'bytes 2-4/10', 'Accept-Ranges': 'bytes', ETag: '"v1"' }).end(content.slice(2, 5));
    },
  });
  for (const form of FORMS) {
    const answer = await ask(lab, form, { headers: ['Range', 'bytes=2-4', 'If-Range', '"v1"'] });
    t.match(answer, { status: 206, reason: 'Partial Content', text: '234', headers: { 'content-range': 'bytes 2-4/10', 'accept-ranges': 'bytes' } }, form);
  }
});

t.test('the status line is the partner’s: unusual codes and reasons pass', async (t) => {
  const lab = await startLab(t, { onRequest: (req, res) => res.writeHead(Number(req.url?.slice(1)), 'Because we can').end('x') });
  for (const form of TERMINATED) {
    for (const status of [203, 299, 418, 451, 502, 599]) {
      const answer = await ask(lab, form, { path: `/${status}` });
      t.match(answer, { status, reason: 'Because we can', text: 'x' });
      t.match(await lab.logged((line) => line['form'] === form && line['path'] === `/${status}`), { code: 'ok', status, msg: 'exchange ok' }, 'an error of the partner is not one of ours');
    }
  }
});

t.test('103 Early Hints come through before the answer, but not to HTTP/1.0', async (t) => {
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.writeEarlyHints({ link: '</style.css>; rel=preload', 'x-hint': '1' });
      res.writeEarlyHints({ link: '</script.js>; rel=preload' });
      res.end('done');
    },
  });
  for (const form of FORMS) {
    const { informational, text } = await ask(lab, form);
    t.equal(text, 'done');
    t.same(informational.map(({ statusCode, rawHeaders }) => [statusCode, valuesOf(rawHeaders, 'link'), valuesOf(rawHeaders, 'x-hint')]), [
      [103, ['</style.css>; rel=preload'], ['1']],
      [103, ['</script.js>; rel=preload'], []],
    ], form);
  }
  const old = await askRaw(t, lab.port, 'GET /eco/ HTTP/1.0\r\n\r\n');
  t.match(old, /^HTTP\/1\.[01] 200 /);
  t.notMatch(old, ' 103 ');
});

t.test('trailers of the response', async (t) => {
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.writeHead(200, { Trailer: 'X-Sum, X-Other' });
      res.write('part one, ');
      res.addTrailers([
        ['X-Sum', 'abc'],
        ['x-other', 'q\xe9'],
        ['X-Sum', 'def'],
      ]);
      res.end('part two');
    },
  });
  for (const form of FORMS) {
    const answer = await ask(lab, form, { headers: ['TE', 'trailers'] });
    t.equal(answer.text, 'part one, part two');
    t.same(answer.rawTrailers, ['X-Sum', 'abc', 'x-other', 'q\xe9', 'X-Sum', 'def'], form);
    t.equal(answer.headers.trailer, 'X-Sum, X-Other');
  }
  const old = await askRaw(t, lab.port, 'GET /eco/ HTTP/1.0\r\n\r\n');
  t.match(old, /\r\n\r\npart one, part two$/, 'HTTP/1.0 has neither chunks nor trailers');
  t.notMatch(old, /trailer/i);
});

t.test('trailers that are announced and cannot come do not break the response', async (t) => {
  const server = createServer((socket) => {
    const answer = (request: string): void => {
      const framing = request.startsWith('HEAD') ? 'Transfer-Encoding: chunked\r\n\r\n' : 'Content-Length: 2\r\n\r\nok';
      socket.end(`HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nX-Stays: 1\r\ntrailer: X-Sum2\r\n${framing}`);
    };
    wireOf(socket).until('\r\n\r\n').then(answer, () => socket.destroy());
  });
  const port = await listen(t, server);
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
  for (const [method, content] of [
    ['GET', 'ok'],
    ['HEAD', ''],
  ] as const) {
    const { status, text, headers } = await ask(lab, 'gateway', { method });
    t.same([status, text, headers['x-stays'], headers.trailer], [200, content, '1', undefined], method);
  }
});

t.test('bodies in chunks, both ways, arrive as they are written', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.setHeader('x-framing', `${req.headers['transfer-encoding'] ?? '-'} ${req.headers['content-length'] ?? '-'}`);
      res.flushHeaders();
      req.on('data', (chunk: Buffer) => res.write(`<${chunk.toString()}>`));
      req.on('end', () => res.end());
    },
  });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/');
    const wire = await openWire(t, lab.port);
    wire.send(`POST ${target} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n`);
    await wire.until('5\r\n<one>\r\n');
    t.pass(`${form}: the first piece comes back while the request is unfinished`);
    wire.send('3\r\ntwo\r\n');
    await wire.until('5\r\n<two>\r\n');
    wire.send('0\r\nX-Request-Trailer: is not forwarded\r\n\r\n');
    const { heard } = await wire.ended;
    t.match(heard, /\r\nx-framing: chunked -\r\n/);
    t.match(heard, /\r\nTransfer-Encoding: chunked\r\n/i);
    t.match(heard, /\r\n\r\n5\r\n<one>\r\n5\r\n<two>\r\n0\r\n\r\n$/);
  }
});

t.test('requests without a body have no framing, empty ones say so', async (t) => {
  const lab = await startLab(t);
  const framing = (): string[][] => ['content-length', 'transfer-encoding'].map((name) => valuesOf(lab.upstream.requests.at(-1)?.rawHeaders ?? [], name));
  for (const form of TERMINATED) {
    await ask(lab, form, { method: 'GET' });
    t.same(framing(), [[], []], `${form} GET`);
    await ask(lab, form, { method: 'DELETE' });
    t.same(framing(), [[], []], `${form} DELETE`);
    await ask(lab, form, { method: 'POST', headers: ['Content-Length', '0'] });
    t.same(framing(), [['0'], []], `${form} POST with nothing`);
    await ask(lab, form, { method: 'GET', headers: ['Content-Length', '3'], body: 'abc' });
    t.same(framing(), [['3'], []], `${form} GET with a body`);
    await ask(lab, form, { method: 'PROPFIND', headers: ['Content-Length', '3'], body: 'abc' });
    t.equal(lab.upstream.requests.at(-1)?.method, 'PROPFIND');
  }
});

t.test('HTTP/1.0 clients: one answer, ended by closing, without chunks', async (t) => {
  const lab = await startLab(t, {
    onRequest: (_req, res) => {
      res.write('in ');
      res.end('chunks');
    },
  });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/old');
    const wire = await openWire(t, lab.port);
    wire.send(`GET ${target} HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
    const { heard, how } = await wire.ended;
    t.match(heard, /^HTTP\/1\.1 200 OK\r\n/);
    t.notMatch(heard, /transfer-encoding/i);
    t.match(heard, /\r\n\r\nin chunks$/, form);
    t.equal(how, 'fin');
    t.equal(lab.upstream.requests.at(-1)?.httpVersion, '1.1', 'the partner is asked in HTTP/1.1');
  }
});

t.test('a response that only closing ends is relayed to its end', async (t) => {
  const server = createServer((socket) => {
    const wire = wireOf(socket);
    wire.until('\r\n\r\n').then(() => socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end'), () => socket.destroy());
  });
  const port = await listen(t, server);
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
  const { status, text } = await answerOf(beginAsk(lab, 'gateway').end());
  t.same([status, text], [200, 'until the end']);
  t.match(await lab.logged((line) => line['form'] === 'gateway'), { code: 'ok', bytesReceived: 13 });
});

t.test('100 Continue comes after verdict and dial, and the body after it', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      t.equal(req.headers.expect, undefined, 'answered by the proxy');
      req.pipe(res);
    },
  });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/up');
    const wire = await openWire(t, lab.port);
    wire.send(`PUT ${target} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n`);
    t.equal(await wire.until('\r\n\r\n'), 'HTTP/1.1 100 Continue\r\n\r\n', form);
    wire.send('hello');
    t.match((await wire.ended).heard, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*hello/);
  }
});

t.test('an expected 100 is refused with the verdict itself, and the body is never asked for', async (t) => {
  const lab = await startLab(t, { configure: (draft) => (draft.destinations.eco['http'] = { methods: ['GET'] }) });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/up');
    const wire = await openWire(t, lab.port);
    wire.send(`PUT ${target} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`);
    const answer = await wire.until('}\n');
    t.match(answer, /^HTTP\/1\.1 403 Egress denied: method-not-allowed\r\n/, form);
    t.notMatch(answer, '100 Continue');
    wire.socket.destroy();
  }
  const other = await askRaw(t, lab.port, 'GET /eco/ HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nConnection: close\r\n\r\n');
  t.match(other, /^HTTP\/1\.1 417 Bad request: expectation-failed\r\n/);
  t.equal(lab.upstream.requests.length, 0);
});

t.test('an upstream that cannot be dialled is told to an expecting client before it sends its body', async (t) => {
  const port = await listen(t, createServer(), '127.0.0.9');
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined }) });
  const answer = await askRaw(t, lab.port, `PUT http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n`);
  t.match(answer, /^HTTP\/1\.1 502 Upstream failed: connection-refused\r\n/);
});

t.test('an upstream that answers early: the client, still sending, gets that answer', async (t) => {
  // Reads on for a while after its answer, as servers do that mean it to be read (RFC 9112 §9.6).
  const patient = createServer({ allowHalfOpen: true }, (socket) => {
    wireOf(socket).until('\r\n\r\n').then(
      () => socket.end('HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 8\r\n\r\ntoo much'),
      () => socket.destroy(),
    );
  });
  const port = await listen(t, patient);
  const closing = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `http://${ECO}:${port}` } }) });
  const staying = await startLab(t, { onRequest: (_req, res) => res.writeHead(413).end('too much') });
  for (const [what, answer] of [
    ['gateway, the upstream closes', answerWhileSending(beginAsk(closing, 'gateway', ENDLESS))],
    ['gateway, the upstream reads on', answerWhileSending(beginAsk(staying, 'gateway', ENDLESS))],
    ['forward, the upstream reads on', answerWhileSending(beginAsk(staying, 'forward', ENDLESS))],
    ['host-routed, the upstream reads on', answerWhileSending(beginAsk(staying, 'host-routed', ENDLESS))],
  ] as const) {
    t.match(await answer, { status: 413, text: 'too much' }, what);
  }
});

t.test('pipelined requests are answered in order', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      if (req.url === '/1') setTimeout(() => res.end('answer 1'), 20);
      else res.end(`answer ${req.url?.slice(1) ?? ''}`);
    },
  });
  const wire = await openWire(t, lab.port);
  wire.send([1, 2, 3].map((i) => `GET /eco/${i} HTTP/1.1\r\nHost: x\r\n${i === 3 ? 'Connection: close\r\n' : ''}\r\n`).join(''));
  const { heard } = await wire.ended;
  t.same(heard.match(/answer \d/g), ['answer 1', 'answer 2', 'answer 3']);
});

t.test('a large response waits for the reader and arrives whole', async (t) => {
  const size = 24 * 1024 * 1024;
  const lab = await startLab(t, { onRequest: (_req, res) => res.end(Buffer.alloc(size, 'x')) });
  for (const form of TERMINATED) {
    const request = beginAsk(lab, form).end();
    const [response] = (await once(request, 'response')) as [Socket & NodeJS.ReadableStream];
    let received = 0;
    for await (const chunk of response) received += (chunk as Buffer).length;
    t.equal(received, size, form);
  }
});
