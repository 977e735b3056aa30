/** CONNECT to a parent: what is sent, and every answer however it is cut. */
import fc from 'fast-check';
import t from 'tap';
import type { HopCredentials } from '../../src/config/config.ts';
import { createConnectRequest } from '../../src/dial/connect-request.ts';
import type { HandshakeStep } from '../../src/dial/handshake.ts';
import { holds } from '../support/property.ts';

const BASIC: HopCredentials = { kind: 'basic', user: 'eco', password: 'pässword:x' };
const BEARER: HopCredentials = { kind: 'bearer', token: 'abc.def~1' };

interface Change {
  readonly host?: string;
  readonly port?: number;
  readonly credentials?: HopCredentials | null;
  readonly via?: string | null;
}

const ask = ({ host = 'eco.test', port = 443, credentials = null, via = null }: Change = {}) => createConnectRequest({ host, port, credentials, via });

/** What comes of these bytes in these pieces. */
function hear(pieces: readonly Buffer[], change: Change = {}): HandshakeStep {
  const request = ask(change);
  let step: HandshakeStep = { step: 'more', send: null };
  for (const [index, piece] of pieces.entries()) {
    step = request.receive(piece);
    if (step.step === 'failed') return step;
    if (step.step === 'done') return { step: 'done', rest: Buffer.concat([step.rest, ...pieces.slice(index + 1)]) };
  }
  return step;
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

t.test('the request', async (t) => {
  const table: [Change, string][] = [
    [{}, 'CONNECT eco.test:443 HTTP/1.1\r\nHost: eco.test:443\r\n\r\n'],
    [{ host: '10.40.1.2', port: 80 }, 'CONNECT 10.40.1.2:80 HTTP/1.1\r\nHost: 10.40.1.2:80\r\n\r\n'],
    [{ host: '2001:db8::1' }, 'CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n'],
    [{ via: '1.1 eco-egress' }, 'CONNECT eco.test:443 HTTP/1.1\r\nHost: eco.test:443\r\nVia: 1.1 eco-egress\r\n\r\n'],
    [{ credentials: BASIC }, `CONNECT eco.test:443 HTTP/1.1\r\nHost: eco.test:443\r\nProxy-Authorization: Basic ${Buffer.from('eco:pässword:x').toString('base64')}\r\n\r\n`],
    [{ credentials: BEARER }, 'CONNECT eco.test:443 HTTP/1.1\r\nHost: eco.test:443\r\nProxy-Authorization: Bearer abc.def~1\r\n\r\n'],
  ];
  for (const [change, expected] of table) t.equal(ask(change).opening.toString('latin1'), expected);
});

/** Answers, and the first bytes of the tunnel behind them. */
const GOOD: [answer: string, rest: string][] = [
  ['HTTP/1.1 200 Connection established\r\n\r\n', ''],
  ['HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n', 'SSH-2.0'],
  ['HTTP/1.1 200\r\n\r\n', 'a'],
  ['HTTP/1.1 204 No Content\r\n\r\n', '\r\n\r\n'],
  ['HTTP/1.1 299 \r\n\r\n', ''],
  // RFC 9110 §9.3.6: these lengths mean nothing.
  ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n', 'hello, and more'],
  ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', 'x'],
  ['HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\n'],
];

t.test('answers that open the tunnel, split at every byte: nothing behind them is lost', async (t) => {
  for (const [answer, rest] of GOOD) {
    const whole = bytes(answer + rest);
    for (let at = 0; at <= whole.length; at += 1) {
      const step = hear([whole.subarray(0, at), whole.subarray(at)].filter((piece) => piece.length > 0));
      if (step.step !== 'done' || step.rest.toString('latin1') !== rest) t.fail(`${JSON.stringify(answer)} at ${at}: ${JSON.stringify(step)}`);
    }
    const step = hear(Array.from(whole, (byte) => Buffer.of(byte)));
    t.equal(step.step === 'done' ? step.rest.toString('latin1') : step.step, rest, `${JSON.stringify(answer)} byte by byte`);
  }
});

t.test('answers that do not', async (t) => {
  const table: [answer: string, code: string, about: string, told: RegExp][] = [
    ['HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="gate"\r\n\r\n', 'hop-credentials', 'parent', /answered "HTTP\/1\.1 407 Proxy Authentication Required" to CONNECT eco\.test:443, asking for "Basic realm=\\"gate\\""/],
    ['HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n', 'hop-credentials', 'parent', /asking for "Basic realm=x"/],
    ['HTTP/1.1 403 Forbidden\r\n\r\n', 'hop-refused', 'beyond', /"HTTP\/1\.1 403 Forbidden"/],
    ['HTTP/1.1 404 No such domain\r\n\r\n', 'hop-failed', 'either', /404/],
    ['HTTP/1.1 410 Gone\r\n\r\n', 'hop-refused', 'beyond', /410/],
    ['HTTP/1.1 403 Egress denied: host-not-allowed\r\nProxy-Status: edge;error=http_request_denied;details="host-not-allowed"\r\n\r\n', 'hop-refused', 'beyond', /Proxy-Status: "edge;error=http_request_denied/],
    ['HTTP/1.1 403 Egress denied: address-not-allowed\r\nProxy-Status: edge;error=destination_ip_prohibited\r\n\r\n', 'hop-refused', 'beyond', /destination_ip_prohibited/],
    ['HTTP/1.1 502 Bad Gateway\r\n\r\n', 'hop-upstream-failed', 'beyond', /502/],
    ['HTTP/1.1 504 Gateway Timeout\r\n\r\n', 'hop-upstream-failed', 'beyond', /504/],
    ['HTTP/1.1 502 Bad Gateway\r\nProxy-Status: edge;error=proxy_internal_error\r\n\r\n', 'hop-failed', 'parent', /502/],
    ['HTTP/1.1 503 x\r\nProxy-Status: edge;error=connection_limit_reached\r\n\r\n', 'hop-failed', 'parent', /503/],
    ['HTTP/1.1 503 x\r\nProxy-Status: far;error=dns_error, edge\r\n\r\n', 'hop-upstream-failed', 'beyond', /dns_error/],
    ['HTTP/1.1 503 x\r\nProxy-Status: far;error=dns_error, edge;error=proxy_internal_error\r\n\r\n', 'hop-failed', 'parent', /503/],
    ['HTTP/1.1 503 x\r\nProxy-Status: ==;;\r\n\r\n', 'hop-failed', 'either', /Proxy-Status: "==;;"/],
    ['HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n', 'hop-upstream-failed', 'beyond', /X-Squid-Error: "ERR_CONNECT_FAIL 111"/],
    ['HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_TOO_BIG 0\r\n\r\n', 'hop-failed', 'either', /ERR_TOO_BIG/],
    ['HTTP/1.1 503 Service Unavailable\r\n\r\n', 'hop-failed', 'either', /503/],
    ['HTTP/1.1 500 Unable to connect\r\n\r\n', 'hop-failed', 'either', /500/],
    ['HTTP/1.1 405 Method Not Allowed\r\n\r\n', 'hop-failed', 'parent', /405/],
    ['HTTP/1.1 429 Too Many Requests\r\n\r\n', 'hop-failed', 'parent', /429/],
    ['HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n', 'hop-failed', 'parent', /302/],
    ['HTTP/1.1 101 Switching Protocols\r\n\r\n', 'hop-failed', 'parent', /101/],
    ['HTTP/1.1 2000 OK\r\n\r\n', 'hop-failed', 'parent', /broken status line/],
    ['HTTP/1.1 020 OK\r\n\r\n', 'hop-failed', 'parent', /broken status line/],
    ['HTTP/1.1  200 OK\r\n\r\n', 'hop-failed', 'parent', /broken status line/],
    ['HTTP/1.2 200 OK\r\n\r\n', 'hop-failed', 'parent', /broken status line/],
    // RFC 9112 §2.2 lets a reader take it; two readers could disagree about where the tunnel begins.
    ['HTTP/1.0 200 OK\n\n', 'hop-failed', 'parent', /ended a line in LF alone/],
    ['HTTP/1.1 200 OK\r\n\n', 'hop-failed', 'parent', /ended a line in LF alone/],
    ['HTTP/2 200 OK\r\n\r\n', 'hop-failed', 'parent', /something else/],
    ['HTTP/1.1 100 Continue\r\n\r\nSSH-2.0-x', 'hop-failed', 'parent', /something else/],
    ['SSH-2.0-OpenSSH_9.2\r\n', 'hop-failed', 'parent', /something else/],
    ['\x05\xff', 'hop-failed', 'parent', /something else/],
    ['h', 'hop-failed', 'parent', /something else/],
  ];
  for (const [answer, code, about, told] of table) {
    const whole = bytes(answer);
    for (const pieces of [[whole], Array.from(whole, (byte) => Buffer.of(byte))]) {
      const step = hear(pieces);
      t.match(step, { step: 'failed', code, about, detail: told, remedy: /\w/ }, JSON.stringify(answer));
    }
  }
});

t.test('an answer that is not yet one is waited for', async (t) => {
  for (const begun of ['H', 'HTTP/1.', 'HTTP/1.1 200 OK\r\n', 'HTTP/1.1 200 OK\r\n\r', 'HTTP/1.1 100 Continue\r\n\r\n']) {
    t.strictSame(hear([bytes(begun)]), { step: 'more', send: null }, JSON.stringify(begun));
  }
});

t.test('an endless header ends at 16 KiB, interim answers counted', async (t) => {
  const longest = 16 * 1024;
  const fill = (length: number): string => `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(length - 'HTTP/1.1 200 OK\r\nX: \r\n\r\n'.length)}\r\n\r\n`;
  t.equal(hear([bytes(fill(longest))]).step, 'done');
  t.match(hear([bytes(fill(longest + 1))]), { step: 'failed', detail: /more than 16384 bytes of header/ });

  const endless = ask();
  let taken = 0;
  for (let step = endless.receive(bytes('HTTP/1.1 200 OK\r\n')); step.step === 'more'; step = endless.receive(bytes('X: y\r\n'))) taken += 6;
  t.ok(taken <= longest, `${taken} bytes held`);

  const interim = 'HTTP/1.1 100 Continue\r\n\r\n';
  const flood = ask();
  let heads = 0;
  let last: HandshakeStep = { step: 'more', send: null };
  for (; last.step === 'more'; last = flood.receive(bytes(interim))) heads += 1;
  t.match(last, { step: 'failed', detail: /more than 16384 bytes/ });
  t.ok(heads * interim.length <= longest + 2 * interim.length);
});

t.test('what the parent says stays inside its quotes, and says nothing of what it was shown', async (t) => {
  const [step] = [hear([bytes('HTTP/1.1 403 \u001b[31m"\t\u0085 x\r\nProxy-Status: \u0000\u0007\r\n\r\n')])];
  t.equal(step.step === 'failed' ? step.detail : '', 'answered "HTTP/1.1 403 \\u001b[31m\\"\\u0009\\u0085 x" to CONNECT eco.test:443, Proxy-Status: "\\u0000\\u0007"');

  for (const [credentials, secrets] of [
    [BASIC, [Buffer.from('eco:pässword:x').toString('base64')]],
    [{ kind: 'basic', user: 'u', password: 'hunter2' }, ['hunter2', Buffer.from('u:hunter2').toString('base64')]],
    [BEARER, ['abc.def~1']],
  ] as const) {
    for (const secret of secrets) {
      const told = hear([bytes(`HTTP/1.1 407 no ${secret}\r\nProxy-Status: ${secret}\r\nProxy-Authenticate: ${secret}\r\n\r\n`)], { credentials });
      t.equal(told.step, 'failed');
      t.notOk(JSON.stringify(told).includes(secret), secret);
    }
  }
});

t.test('nor where the quote would cut or escape it', async (t) => {
  const told = (credentials: HopCredentials, secret: string): string => JSON.stringify(hear([Buffer.from(`HTTP/1.1 407 no ${secret}\r\nProxy-Status: gate; details="${secret}"\r\nProxy-Authenticate: ${secret}\r\n\r\n`)], { credentials }));
  const token = `${'a'.repeat(50)}.body${'b'.repeat(400)}`;
  t.notMatch(told({ kind: 'bearer', token }, token), 'aaaa');
  for (const password of ['pässword', 'pa"ss\\word']) {
    for (const secret of [password, password.replaceAll(/["\\]/g, '\\$&')]) t.notMatch(told({ kind: 'basic', user: 'u', password }, secret), 'word');
  }
});

t.test('the remedy fits the case', async (t) => {
  const remedy = (answer: string, change: Change): string => {
    const step = hear([bytes(answer)], change);
    return step.step === 'failed' ? step.remedy : '';
  };
  t.match(remedy('HTTP/1.1 403 no\r\n\r\n', { port: 80 }), /SSL_ports/);
  t.notMatch(remedy('HTTP/1.1 403 no\r\n\r\n', { port: 443 }), /SSL_ports/);
  t.match(remedy('HTTP/1.1 407 no\r\n\r\n', {}), /into a file/);
  t.match(remedy('HTTP/1.1 508 no\r\nProxy-Status: eco-egress;error=proxy_loop_detected\r\n\r\n', {}), /two values of name/);
  t.match(remedy('HTTP/1.1 407 no\r\n\r\n', { credentials: BASIC }), /does not accept/);
  for (const credentials of [null, BASIC]) {
    t.match(remedy('HTTP/1.1 407 no\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n', { credentials }), /no other kind is supported/);
    t.match(remedy('HTTP/1.1 407 no\r\nProxy-Authenticate: Digest realm="basic access"\r\n\r\n', { credentials }), /no other kind is supported/);
    t.match(remedy('HTTP/1.1 407 no\r\nProxy-Authenticate: Negotiate, basic realm="x"\r\n\r\n', { credentials }), /credentialsFile/);
  }
});

t.test('whatever a parent sends, however it is cut, comes to the same', async (t) => {
  const piece = fc.oneof(
    fc.constantFrom('HTTP/1.1 200 OK', 'HTTP/1.0 407 no', 'HTTP/1.1 100 Continue', 'HTTP/1.1 101 x', '\r\n', '\r\n\r\n', 'X: y', 'Proxy-Status: a;error=dns_error', ' ', '\n'),
    fc.string({ unit: 'binary', maxLength: 6 }),
  );
  holds(
    t,
    'pieces',
    2_000,
    fc.property(fc.array(piece, { maxLength: 8 }), fc.array(fc.integer({ min: 0, max: 80 }), { maxLength: 5 }), (parts, cuts) => {
      const whole = bytes(parts.join(''));
      const places = [0, ...cuts.map((cut) => Math.min(cut, whole.length)).toSorted((a, b) => a - b), whole.length];
      const pieces = places.slice(1).map((place, index) => whole.subarray(places[index], place)).filter((cut) => cut.length > 0);
      const [one, other] = [hear(whole.length === 0 ? [] : [whole]), hear(pieces)];
      return JSON.stringify(one) === JSON.stringify(other);
    }),
  );
});
