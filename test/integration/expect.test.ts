/** When a body is sent at all: `Expect: 100-continue`, and answers that come before its end. */
import type { ClientRequest } from 'node:http';
import { createServer } from 'node:net';
import t from 'tap';
import { addressOf, type Answer, answerOf, beginAsk, TERMINATED } from '../support/ask.ts';
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

t.test('100 Continue comes from the upstream, after verdict and dial, and the body after it', async (t) => {
  const lab = await startLab(t, {
    onRequest: (req, res) => {
      t.equal(req.headers.expect, '100-continue');
      req.pipe(res);
    },
  });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/up');
    const wire = await openWire(t, lab.port);
    wire.send(`PUT ${target} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n`);
    t.equal(await wire.until('\r\n\r\n'), 'HTTP/1.1 100 Continue\r\nVia: 1.1 eco-egress\r\n\r\n', form);
    wire.send('hello');
    t.match((await wire.ended).heard, /^HTTP\/1\.1 100 Continue\r\nVia: [^\r]*\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*hello/);
  }
});

t.test('without content no 100 is asked for: some partners wait for content then, and never answer', async (t) => {
  const lab = await startLab(t, { onRequest: (req, res) => void res.end(`expect: ${req.headers.expect ?? 'none'}`) });
  for (const form of TERMINATED) {
    const { target, host } = addressOf(lab, form, '/down');
    for (const fields of ['', 'Content-Length: 0\r\n']) {
      const answer = await askRaw(t, lab.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\n${fields}Connection: close\r\n\r\n`);
      t.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*expect: none$/, `${form} ${fields}`);
    }
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

t.test('an answer that came while the process stood still is read before it continues by itself', async (t) => {
  const port = await listen(t, createServer((socket) => {
    socket.on('data', () => {
      socket.write('HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_200);
    });
  }));
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined }) });
  const answer = await askRaw(t, lab.port, `PUT http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n`);
  t.match(answer, /^HTTP\/1\.1 417 No\r\n/);
});

t.test('an expecting client learns that the upstream cannot be dialled before it sends its body', async (t) => {
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

t.test('a partner that stops in the middle of its final answer is silent, not the client, which sends no content after it', async (t) => {
  const answers = { '200 in place of 100': ['200 OK', 'Expect: 100-continue\r\n'], 'a refusal': ['413 Too Large', ''] } as const;
  for (const [what, [status, expect]] of Object.entries(answers)) {
    const port = await listen(t, createServer((socket) => {
      socket.on('error', () => {}).once('data', () => socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 10\r\n\r\nhalf`));
    }));
    const lab = await startLab(t, {
      configure: (draft) => {
        Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, tls: undefined });
        draft.timeouts['body'] = '300ms';
      },
    });
    const heard = await askRaw(t, lab.port, `PUT http://${ECO}:${port}/ HTTP/1.1\r\nHost: ${ECO}:${port}\r\n${expect}Content-Length: 5\r\n\r\n`);
    t.match(heard, /\r\n\r\nhalf$/, what);
    t.match(await lab.logged(({ code }) => code !== undefined), { code: 'upstream-silent', level: 'error', detail: /nothing of the response/ }, what);
    t.equal((await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="upstream-silent"}'), 1, what);
  }
});
