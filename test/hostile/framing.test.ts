/** How the bytes are framed: what two servers could read in two ways is refused, in every form, and nothing is smuggled behind it. */
import t from 'tap';
import type { FaultCode } from '../../src/errors.ts';
import { accessLines, attack, type Expected, httpAuthority, lastRequest, refuses, stillServes } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

/** How a request begins in each form that we terminate. */
const FORMS = {
  forward: (lab: Lab, method: string) => `${method} http://${httpAuthority(lab)}/x HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n`,
  gateway: (lab: Lab, method: string) => `${method} /eco/x HTTP/1.1\r\nHost: 127.0.0.1:${lab.port}\r\n`,
  'host-routed': (lab: Lab, method: string) => `${method} /x HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n`,
} as const;
const EACH = Object.entries(FORMS);

const connectTo = (lab: Lab, fields = ''): string => `CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: ${ECO}\r\n${fields}\r\n`;

const FORBIDDEN: Expected = { code: 'framing-forbidden', then: 'closed' };
const MALFORMED: Expected = { code: 'request-malformed', then: 'closed' };

t.test('two lengths, and invalid lengths', async (t) => {
  const lab = await startLab(t);
  const table: [fields: string, expected: Expected][] = [
    ['Content-Length: 3\r\nTransfer-Encoding: chunked', FORBIDDEN],
    ['Transfer-Encoding: chunked\r\nContent-Length: 3', FORBIDDEN],
    ['Content-Length: 3\r\nContent-Length: 3', FORBIDDEN],
    ['Content-Length: 3\r\nContent-Length: 4', FORBIDDEN],
    ['Content-Length: 3, 3', FORBIDDEN],
    ...['+3', '-3', '0x3', '3 3', '3a', '', '99999999999999999999', '18446744073709551616'].map((length): [string, Expected] => [`Content-Length: ${length}`, FORBIDDEN]),
    ...['chunked, identity', 'identity', 'identity, chunked', 'gzip, chunked', 'chunked, chunked', 'xchunked', 'chunked;q=1', '"chunked"', ',chunked', 'chunked,', ''].map(
      (coding): [string, Expected] => [`Transfer-Encoding: ${coding}`, FORBIDDEN],
    ),
    ['Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', FORBIDDEN],
    ['Transfer-Encoding: identity\r\nTransfer-Encoding: chunked', FORBIDDEN],
    ['Transfer-Encoding: \x0bchunked', MALFORMED],
    ['Transfer-Encoding: chunked\0', MALFORMED],
    [' Transfer-Encoding: chunked', MALFORMED],
    ['Transfer-Encoding : chunked', MALFORMED],
    ['X: y\r\n Transfer-Encoding: chunked', MALFORMED],
    ['Content-Length : 3', MALFORMED],
    ['X: y\nContent-Length: 3', MALFORMED],
    ['X: y\rContent-Length: 3', MALFORMED],
  ];
  for (const [fields, expected] of table) {
    for (const [form, begin] of EACH) {
      // A second request hides where one reading of the first has its body.
      const hidden = `GET http://${httpAuthority(lab)}/hidden HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n\r\n`;
      await refuses(t, lab, `${form} ${JSON.stringify(fields)}`, `${begin(lab, 'POST')}${fields}\r\n\r\n0\r\n\r\n${hidden}`, expected);
    }
  }
  await stillServes(t, lab);
});

t.test('invalid field sections', async (t) => {
  const lab = await startLab(t);
  const fields = ['X : y', 'X\t: y', 'X', ': y', 'X: y\nY: z', 'X: y\rY: z', 'X: y\0', 'X: \x01', 'X: \x7f', 'X: y\r\n z', 'X: y\r\n\tz', ' X: y', 'X\xe9: y', 'X\0: y', '(X): y', 'X: y\n'];
  for (const field of fields) {
    for (const [form, begin] of EACH) await refuses(t, lab, `${form} ${JSON.stringify(field)}`, `${begin(lab, 'GET')}${field}\r\n\r\n`, MALFORMED);
    await refuses(t, lab, `connect ${JSON.stringify(field)}`, connectTo(lab, `${field}\r\n`), MALFORMED);
  }
  await stillServes(t, lab);
});

t.test('invalid chunks break the exchange, at the upstream too', async (t) => {
  const lab = await startLab(t);
  const chunks: [text: string, code: FaultCode][] = [
    ['fffffffffffffffff\r\nabc', 'framing-forbidden'],
    ['5;a\n12345\r\n', 'framing-forbidden'],
    ['5\n12345\n', 'framing-forbidden'],
    ['5\r12345', 'framing-forbidden'],
    ['5;a\rb\r\n12345\r\n', 'framing-forbidden'],
    ['5 \r\n12345\r\n', 'framing-forbidden'],
    [' 5\r\n12345\r\n', 'framing-forbidden'],
    ['0x5\r\n12345\r\n', 'framing-forbidden'],
    ['+5\r\n12345\r\n', 'framing-forbidden'],
    ['-5\r\n12345\r\n', 'framing-forbidden'],
    ['\r\n12345\r\n', 'framing-forbidden'],
    ['5\r\n123456', 'framing-forbidden'],
    ['5\r\n12345\n', 'framing-forbidden'],
    [`5;${'a'.repeat(20_000)}\r\n12345\r\n`, 'framing-forbidden'],
    ['0\r\nX y: z\r\n\r\n', 'request-malformed'],
    ['0\r\nContent-Length: 5\r\n\r\n', 'framing-forbidden'],
    ['0\r\nTransfer-Encoding: chunked\r\n\r\n', 'framing-forbidden'],
  ];
  for (const [text, code] of chunks) {
    for (const [form, begin] of EACH) {
      const { answers, lines, inStep, reached } = await attack(t, lab, `${begin(lab, 'POST')}Transfer-Encoding: chunked\r\n\r\n${text}`);
      t.match({ status: answers[0]?.status, answers: answers.length, lines: lines.map((line) => line.code), inStep }, { status: 400, answers: 1, lines: [code], inStep: false }, `${form} ${JSON.stringify(text.slice(0, 40))}`);
      t.same(reached.filter((request) => !request.startsWith('POST ')), [], 'what stood behind it is no request');
    }
  }
  // The upstream may have seen the beginning of such a body, never its end.
  t.notOk(lab.upstream.requests.some((request) => request.method === 'POST' && request.complete));
  await stillServes(t, lab);
});

t.test('a chunk as long as can be is a body: nothing in it becomes a request', async (t) => {
  const lab = await startLab(t, { configure: ({ timeouts }) => Object.assign(timeouts, { body: '100ms' }) });
  // 13 digits are counted exactly; longer sizes are refused.
  for (const [size, status] of [['fffffffffffff', 408], ['7fffffffffffffff', 400]] as const) {
    for (const [, begin] of EACH) {
      const { answers, inStep, reached } = await attack(t, lab, `${begin(lab, 'POST')}Transfer-Encoding: chunked\r\n\r\n${size}\r\nabc\r\n0\r\n\r\n`);
      t.match({ status: answers[0]?.status, answers: answers.length, inStep, reached: reached.filter((request) => !request.startsWith('POST ')) }, { status, answers: 1, inStep: false, reached: { length: 0 } });
    }
  }
});

t.test('versions that are not HTTP/1.x', async (t) => {
  const lab = await startLab(t);
  for (const version of ['HTTP/2.0', 'HTTP/0.9']) {
    for (const target of [`http://${httpAuthority(lab)}/`, '/eco/x', '/']) {
      const bytes = `GET ${target} ${version}\r\nHost: ${httpAuthority(lab)}\r\n\r\n`;
      const { answers, reached, lines } = await attack(t, lab, bytes);
      t.match({ status: answers[0]?.status, reached, codes: lines.map((line) => line.code) }, { status: 400, reached: { length: 0 }, codes: { length: 1, 0: 'request-malformed' } }, `${version} ${target}`);
    }
  }
  for (const version of ['HTTP/1.2', 'HTTP/3.0', 'HTTP/1.10', 'HTTP/11', 'HTTP/1.1 ', 'http/1.1', 'HTTP/1', 'XTTP/1.1', '']) {
    await refuses(t, lab, version, `GET / ${version}\r\nHost: ${httpAuthority(lab)}\r\n\r\n`, MALFORMED);
  }
  await refuses(t, lab, 'lines that end in a bare LF', `GET http://${httpAuthority(lab)}/ HTTP/1.1\nHost: ${httpAuthority(lab)}\n\n`, MALFORMED);
  await refuses(t, lab, 'Transfer-Encoding in HTTP/1.0', `POST http://${httpAuthority(lab)}/ HTTP/1.0\r\nHost: ${httpAuthority(lab)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, FORBIDDEN);
  await stillServes(t, lab);
});

t.test('header bombs', async (t) => {
  const lab = await startLab(t);
  const bombs: [name: string, fields: string, then: Expected['then']][] = [
    ['100 KB in one field', `X: ${'a'.repeat(100_000)}\r\n`, 'closed'],
    ['100 KB in a name', `${'a'.repeat(100_000)}: y\r\n`, 'closed'],
    ['100 KB in many', `X: ${'a'.repeat(990)}\r\n`.repeat(100), 'closed'],
    ['10,000 fields', 'X: y\r\n'.repeat(10_000), 'closed'],
    ['one field too many', 'X: y\r\n'.repeat(500), 'closed'],
  ];
  for (const [name, fields, then] of bombs) {
    for (const [form, begin] of EACH) await refuses(t, lab, `${form}: ${name}`, `${begin(lab, 'GET')}${fields}\r\n`, { code: 'headers-too-large', then });
    await refuses(t, lab, `connect: ${name}`, connectTo(lab, fields), { code: 'headers-too-large', then: 'closed' });
  }
  await refuses(t, lab, 'a target of 100 KB', `GET http://${httpAuthority(lab)}/${'a'.repeat(100_000)} HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\n\r\n`, { code: 'target-too-long', then: 'closed' });
  const { answers } = await attack(t, lab, `${FORMS.forward(lab, 'GET')}${'X: y\r\n'.repeat(498)}\r\n`);
  t.equal(answers[0]?.status, 200, 'the neighbour just inside');
  await stillServes(t, lab);
});

t.test('Connection takes no part of the framing away', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      req.resume().once('end', () => res.writeHead(200, { Connection: 'Content-Length, keep-alive', 'Content-Length': '2' }).end('ok'));
    },
  });
  for (const [form, begin] of EACH) {
    for (const nominated of ['Content-Length', 'close, content-length', 'Transfer-Encoding', 'Host', 'Connection']) {
      for (const [framing, content] of [
        ['Content-Length: 36', 'GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n'.slice(0, 36)],
        ['Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'],
      ] as const) {
        // Twice on the partner's connection: what is left of the one would begin the other.
        for (let i = 0; i < 2; i += 1) {
          const wire = await openWire(t, lab.port);
          wire.send(`${begin(lab, 'POST')}Connection: ${nominated}\r\n${framing}\r\n\r\n${content}`);
          t.match(await wire.until(/ok$/), /^HTTP\/1\.1 200 [^]*\r\nContent-Length: 2\r\n[^]*\r\n\r\nok$/i, `${form}, ${nominated}, ${framing}`);
          wire.socket.destroy();
        }
      }
    }
  }
  t.same([...new Set(lab.upstream.requests.map(({ method, url }) => `${String(method)} ${String(url)}`))], ['POST /x'], 'the partner saw nothing else');
  await stillServes(t, lab);
});

t.test('CONNECT has no content', async (t) => {
  const lab = await startLab(t);
  for (const fields of ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Content-Length: 5\r\nContent-Length: 5']) {
    await refuses(t, lab, fields, `${connectTo(lab, `${fields}\r\n`)}hello`, FORBIDDEN);
  }
  await stillServes(t, lab);
});

t.test('expectations', async (t) => {
  const lab = await startLab(t);
  for (const [form, begin] of EACH) {
    await refuses(t, lab, form, `${begin(lab, 'POST')}Expect: 200-maybe\r\nContent-Length: 3\r\n\r\nabc`, { code: 'expectation-failed', then: 'closed' });
  }
  // A client that was refused before it sent its body may send it or not: either way nothing may be taken for a request.
  const wire = await openWire(t, lab.port);
  wire.send(`POST http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nExpect: 100-continue\r\nContent-Length: ${lastRequest(lab).length}\r\n\r\n`);
  await wire.until('host-not-allowed');
  wire.send(lastRequest(lab));
  const { heard } = await wire.ended;
  t.equal(heard.match(/HTTP\/1\.1/g)?.length, 1);
  t.same(lab.upstream.requests, []);
  await stillServes(t, lab);
});

t.test('upgrades to anything but WebSocket are plain requests, and what belongs to them is stripped', async (t) => {
  const lab = await startLab(t);
  const upgrades = ['Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n', 'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n', 'Connection: upgrade\r\nUpgrade: foo\r\n', 'Connection: upgrade\r\nUpgrade: websocket, h2c\r\n', 'Connection: upgrade\r\nUpgrade: TLS/1.0\r\n'];
  for (const fields of upgrades) {
    for (const [form, begin] of EACH) {
      const { answers } = await attack(t, lab, `${begin(lab, 'GET')}${fields}\r\n`);
      t.equal(answers[0]?.status, 200, `${form} ${fields}`);
      const seen = lab.upstream.requests.findLast((request) => request.url === '/x')?.rawHeaders.map((text) => text.toLowerCase()) ?? [];
      for (const name of ['upgrade', 'http2-settings', 'h2c', 'foo']) t.notOk(seen.includes(name), `${name} does not cross`);
    }
  }
});

t.test('one line for each, and none of them can be forged', async (t) => {
  const lab = await startLab(t);
  const forged = '{"level":"info","requestId":"forged"}';
  await attack(t, lab, `GET http://${httpAuthority(lab)}/%0a${encodeURIComponent(forged)} HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nUser-Agent: "\\u000a${forged}\r\ntraceparent: 00-"${forged}\r\n\r\n`);
  await attack(t, lab, `GET http://evil.example/${encodeURIComponent(`\n${forged}`)} HTTP/1.1\r\nHost: evil.example\r\n\r\n`);
  await attack(t, lab, `GET http://"${forged}"/ HTTP/1.1\r\nHost: x\r\n\r\n`);
  // The reader of the lab parses every line, so a broken one would have failed already.
  t.notOk(accessLines(lab).some((line) => line['requestId'] === 'forged'));
  t.equal(accessLines(lab).length, new Set(accessLines(lab).map((line) => line['requestId'])).size);
});

t.test('an answer does not quote all that was sent', async (t) => {
  const lab = await startLab(t);
  for (const field of [`Transfer-Encoding: ${'x'.repeat(60_000)}`, `${'N'.repeat(60_000)}: \x01`]) {
    const wire = await openWire(t, lab.port);
    wire.send(`GET /eco/x HTTP/1.1\r\nHost: x\r\n${field}\r\n\r\n`);
    const { heard } = await wire.ended;
    t.match(heard, /^HTTP\/1\.1 400 /);
    t.ok(heard.length < 2000, `${heard.length} bytes`);
  }
});
