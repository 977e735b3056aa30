/** How messages are framed and what belongs to them: bodies of every kind, interim responses, trailers, HTTP/1.0. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import t from 'tap';
import { addressOf, answerOf, ask, beginAsk, FORMS, TERMINATED, valuesOf } from '../support/ask.ts';
import { ECO, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { askRaw, openWire, wireOf } from '../support/wire.ts';

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
    const prefix = form === 'gateway' ? '/eco' : '';
    t.same(informational.map(({ statusCode, rawHeaders }) => [statusCode, valuesOf(rawHeaders, 'link'), valuesOf(rawHeaders, 'x-hint')]), [
      [103, [`<${prefix}/style.css>; rel=preload`], ['1']],
      [103, [`<${prefix}/script.js>; rel=preload`], []],
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

t.test('the head of a response does not wait for its body, and a small body not for a second packet', async (t) => {
  const release = Promise.withResolvers<undefined>();
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      if (req.url === '/at-once') {
        res.end('at once');
        return;
      }
      res.flushHeaders();
      void release.promise.then(() => res.end('later'));
    },
  });
  for (const form of FORMS) {
    const request = beginAsk(lab, form).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    t.equal(response.headers['content-type'], 'text/event-stream', form);
    response.destroy();
  }
  release.resolve(undefined);
  for (const form of TERMINATED) {
    const request = beginAsk(lab, form, { path: '/at-once' });
    const packets: string[] = [];
    request.once('socket', (socket) => socket.on('data', (packet: Buffer) => packets.push(packet.toString())));
    await answerOf(request.end());
    t.match(packets[0], /^HTTP\/1\.1 200 OK\r\n[^]*at once/, form);
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
