/**
 * What partners do to a proxy, and what has to reach the client. Each is a script
 * for the partner's end of a connection, and the answer that is right for it,
 * whichever form the request has.
 *
 * Longer than 400 lines: it is a table.
 */
import type { FaultCode } from '../../src/errors.ts';
import { type Content, isTunnel, type Question, type Route, type Seen } from './exchange.ts';
import type { Request, Script, Side } from './partner.ts';

export interface Behaviour {
  readonly name: string;
  readonly script: Script;
  readonly question?: Question;
  readonly expected: Expected;
  /** Other routes do not meet it: nobody between client and partner reads what is in a tunnel. Default: all. */
  readonly routes?: (route: Route) => boolean;
  /** Of the proxy: the clocks of one that has to be waited for. */
  readonly timeouts?: Readonly<Record<string, string>>;
  /** Of all exchanges, the part that may fail: what nobody can know in time. Default: none. */
  readonly mayFail?: number;
  /** Left out where there is not time for all. */
  readonly onlyInFull?: boolean;
}

export interface Expected {
  /** One of these. */
  readonly status: readonly number[];
  readonly end: Seen['end'];
  /** Of our own answer: its code. Other proxies have other words. */
  readonly code?: FaultCode;
  readonly body?: string;
  /** The interim responses, all of them and in order; undefined: any. */
  readonly informational?: readonly number[];
  /** Absent where null. */
  readonly fields?: Readonly<Record<string, string | null>>;
  readonly trailers?: RegExp;
  /** Nowhere in what the client heard. */
  readonly never?: RegExp;
  /** The client was never asked for the content. */
  readonly nothingSent?: boolean;
}

/** Why what came back is wrong; null: it is right. */
export function judge(seen: Seen, expected: Expected, ours: boolean): string | null {
  const { status, end, code, body, informational, fields = {}, trailers, never, nothingSent = false } = expected;
  const wrong: string[] = [];
  if (seen.status === null || !status.includes(seen.status)) wrong.push(`status ${String(seen.status)} ${seen.reason} instead of ${status.join(' or ')}`);
  if (seen.end !== end) wrong.push(`${seen.end} (${seen.how}) instead of ${end}`);
  if (ours && code !== undefined && !seen.reason.endsWith(`: ${code}`)) wrong.push(`${JSON.stringify(seen.reason)} instead of ${code}`);
  if (body !== undefined && seen.body !== body) wrong.push(`body ${JSON.stringify(seen.body.slice(0, 60))} instead of ${JSON.stringify(body)}`);
  if (informational !== undefined && informational.join() !== seen.informational.join()) wrong.push(`interim [${seen.informational.slice(0, 5).join()}] instead of [${informational.join()}]`);
  for (const [name, value] of Object.entries(fields)) if ((seen.fields.get(name) ?? null) !== value) wrong.push(`${name}: ${String(seen.fields.get(name))} instead of ${String(value)}`);
  if (trailers !== undefined && !trailers.test(seen.trailers)) wrong.push(`trailers ${JSON.stringify(seen.trailers)}`);
  if (never?.test(seen.heard) === true) wrong.push(`the client heard ${String(never)}`);
  if (nothingSent && seen.sent > 0) wrong.push(`${seen.sent} bytes of content were asked for`);
  return wrong.length === 0 ? null : wrong.join(', ');
}

const exchanges = (route: Route): boolean => !isTunnel(route);
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const ok: Expected = { status: [200], end: 'complete', body: 'ok' };
const UPLOAD: Content = { bytes: 8 * 1024 * 1024, framing: 'length' };
const upload = (content: Partial<Content> = {}): Question => ({ method: 'POST', content: { ...UPLOAD, ...content } });
const post: Question = { method: 'POST', content: { bytes: 5, framing: 'length' } };

/** Answers each request when it is complete, and keeps the connection. */
const serves = (answer: string | ((request: Request, count: number) => string), after: (side: Side, count: number) => Promise<void> = async () => {}): Script => async (side) => {
  for (let count = 1; ; count += 1) {
    const request = await side.request();
    await request.content;
    await side.send(typeof answer === 'string' ? answer : answer(request, count));
    await after(side, count);
  }
};

/** Answers one request and ends in order. */
const once = (answer: string): Script => async (side) => {
  const request = await side.request();
  await request.content;
  await side.send(answer);
  await side.end();
};

const CLOSINGS: Readonly<Record<string, (side: Side) => Promise<void>>> = {
  'closes at once': async (side) => {
    side.close();
  },
  ...Object.fromEntries(
    [1, 10, 100].map((ms) => [
      `ends, and closes after ${ms} ms`,
      async (side: Side) => {
        void side.end();
        await side.wait(ms);
        side.close();
      },
    ]),
  ),
  resets: async (side) => {
    side.reset();
  },
};

/** Bytes are left unread, so that each of these closes ends in a reset sooner or later. */
function earlyAnswers(): Behaviour[] {
  return [413, 401, 429, 200].flatMap((status) =>
    Object.entries(CLOSINGS).flatMap(([how, close]) =>
      (['length', 'chunked'] as const).map((framing): Behaviour => ({
        name: `answers ${status} at the head of an upload (${framing}) and ${how}`,
        question: upload({ framing }),
        script: async (side) => {
          await side.request();
          side.stopReading();
          const saysSo = status === 413 || status === 200 ? 'Connection: close\r\n' : '';
          await side.send(`HTTP/1.1 ${status} Early\r\n${saysSo}Content-Length: 8\r\n\r\ntoo much`);
          await close(side);
        },
        expected: { status: [status], end: 'complete', body: 'too much' },
        onlyInFull: status !== 413 || framing === 'chunked',
      })),
    ),
  );
}

const endings: readonly Behaviour[] = [
  {
    name: 'half-closes after its answer and takes the rest of an upload',
    question: upload({ bytes: 256 * 1024 }),
    script: async (side) => {
      const request = await side.request();
      await side.send('HTTP/1.1 413 Early\r\nConnection: close\r\nContent-Length: 8\r\n\r\ntoo much');
      await side.end();
      await request.content;
    },
    expected: { status: [413], end: 'complete', body: 'too much' },
  },
  { name: 'half-closes after its answer to a GET', script: once(OK), expected: ok },
  {
    name: 'resets after a complete answer',
    script: serves(OK, async (side) => {
      side.reset();
    }),
    expected: ok,
  },
  {
    name: 'answers to the head of a chunked request whose content has not begun',
    question: { method: 'POST', content: { bytes: 5, framing: 'chunked', heldBack: true } },
    script: async (side) => {
      for (;;) {
        const request = await side.request();
        await side.send('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n');
        await request.content;
        await side.send(OK);
      }
    },
    expected: { ...ok, informational: [103] },
  },
  {
    name: 'gives its final answer before the content',
    question: { method: 'POST', content: { bytes: 5, framing: 'chunked', heldBack: true } },
    script: async (side) => {
      await side.request();
      await side.send(OK);
      await side.wait(10_000);
    },
    expected: ok,
  },
  {
    name: 'speaks before it is asked',
    script: async (side) => {
      await side.send(OK);
      await side.request();
    },
    // Whose answer it is nobody can know: passed on, refused or left unread, and the client told in any case.
    timeouts: { responseHeaders: '2s' },
    expected: { status: [200, 502, 504], end: 'complete' },
  },
];

const HEAD = 'HTTP/1.1 200 OK\r\nX-Field: value\r\nContent-Length: 2\r\n\r\n';

const stalls: readonly Behaviour[] = [
  {
    name: 'sends its answer byte by byte',
    script: serves('', async (side) => {
      for (const byte of `${HEAD}ok`) {
        await side.send(byte);
        await side.wait(0);
      }
    }),
    expected: { ...ok, fields: { 'x-field': 'value' } },
  },
  {
    name: 'stalls within the head, at each of its bytes',
    script: async (side) => {
      await side.request();
      await side.send(HEAD.slice(0, side.number % HEAD.length));
      await side.wait(5000);
    },
    routes: exchanges,
    timeouts: { responseHeaders: '300ms' },
    expected: { status: [504], end: 'complete', code: 'upstream-silent' },
  },
  {
    name: 'ends within the head, at each of its bytes',
    script: async (side) => {
      await side.request();
      await side.send(HEAD.slice(0, side.number % HEAD.length));
      await side.end();
    },
    routes: exchanges,
    expected: { status: [502], end: 'complete', code: 'upstream-cut' },
  },
  {
    name: 'stalls within the content',
    script: serves(`${HEAD}o`, (side) => side.wait(5000)),
    routes: exchanges,
    timeouts: { body: '300ms' },
    expected: { status: [200], end: 'broken' },
  },
];

const lifetimes: readonly Behaviour[] = [
  ...[1, 2, 5].flatMap((most): Behaviour[] => [
    {
      name: `closes after ${most} answers, and says so in the last`,
      question: post,
      script: serves((_, count) => (count === most ? OK.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n') : OK), async (side, count) => {
        if (count === most) await side.end();
      }),
      expected: ok,
    },
    {
      name: `closes after ${most} answers to POST without saying so`,
      question: post,
      script: serves(OK, async (side, count) => {
        if (count === most) await side.end();
      }),
      expected: ok,
      mayFail: 0.01,
      onlyInFull: most === 2,
    },
    {
      name: `closes after ${most} answers to GET without saying so`,
      script: serves(OK, async (side, count) => {
        if (count === most) await side.end();
      }),
      expected: ok,
    },
  ]),
  {
    name: 'Keep-Alive: timeout=1, max=2, and keeps to it',
    question: post,
    script: serves(OK.replace('\r\n\r\n', '\r\nKeep-Alive: timeout=1, max=2\r\n\r\n'), async (side, count) => {
      if (count === 2) await side.end();
    }),
    expected: ok,
  },
];

const old: readonly Behaviour[] = [
  { name: 'HTTP/1.0 with a length', script: once('HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'), expected: ok },
  { name: 'HTTP/1.0 kept alive', script: serves('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok'), expected: ok },
  {
    name: 'HTTP/1.0 with a length, and closes a moment later',
    question: post,
    script: serves('HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok', async (side) => {
      await side.wait(20);
      await side.end();
    }),
    // Not said to be kept, so it is not used again (RFC 9112 §9.3).
    expected: ok,
  },
  { name: 'HTTP/1.0 without a length', script: once('HTTP/1.0 200 OK\r\n\r\nok'), expected: ok },
  { name: 'HTTP/1.1 without a length', script: once('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok'), expected: ok },
];

const spellings: readonly Behaviour[] = [
  // RFC 9112 §2.2: a recipient may take a single LF for a line end; with every line so there is one reading.
  { name: 'lines that end in LF alone', script: serves('HTTP/1.1 200 OK\nX-Field: value\nContent-Length: 2\n\nok'), routes: exchanges, expected: { ...ok, fields: { 'x-field': 'value' } } },
  // RFC 9110 §8.6.
  { name: 'two equal lengths', script: serves('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok'), routes: exchanges, expected: { ...ok, fields: { 'content-length': '2' } } },
  // RFC 9112 §5.1 and §5.2: a proxy takes both out of a response.
  { name: 'a space before the colon', script: serves('HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok'), routes: exchanges, expected: { ...ok, fields: { 'content-length': '2' } } },
  { name: 'a folded length', script: serves('HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok'), routes: exchanges, expected: { ...ok, fields: { 'content-length': '2' } } },
  // RFC 9112 §6.1: read by its chunks, and the connection is not used again.
  { name: 'a coding in HTTP/1.0', script: once('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'), routes: exchanges, expected: ok },
  { name: 'a coding in other letters', script: serves('HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'), expected: ok },
  { name: 'chunks with extensions', script: serves('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1;c="d;e"\r\nk\r\n0;f\r\n\r\n'), expected: ok },
  {
    name: 'trailers',
    script: serves('HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n'),
    question: { fields: 'TE: trailers\r\n' },
    expected: { ...ok, trailers: /X-Sum: 1/ },
  },
  {
    // RFC 9110 §7.6.1: what Connection names is for this hop alone, wherever it is.
    name: 'a trailer that Connection names',
    script: serves('HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Hop: 2\r\n\r\n'),
    question: { fields: 'TE: trailers\r\n' },
    routes: exchanges,
    expected: { ...ok, trailers: /X-Sum: 1/, never: /X-Hop/ },
  },
  { name: 'a length for HEAD', question: { method: 'HEAD' }, script: serves('HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n'), expected: { status: [200], end: 'complete', fields: { 'content-length': '1234' } } },
  { name: 'content with 204', script: serves('HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nstray'), routes: exchanges, expected: { status: [204], end: 'complete', never: /stray/ } },
  { name: 'content with 304', script: serves('HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 5\r\n\r\nstray'), routes: exchanges, expected: { status: [304], end: 'complete', never: /stray/ } },
  { name: 'no reason phrase', script: serves('HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok'), expected: ok },
  { name: 'a head of 20 KB', script: serves(`HTTP/1.1 200 OK\r\n${`X-Long: ${'a'.repeat(990)}\r\n`.repeat(20)}Content-Length: 2\r\n\r\nok`), expected: ok },
];

const interim: readonly Behaviour[] = [
  // RFC 9110 §15.2.
  { name: '100 that nobody asked for', script: serves(`HTTP/1.1 100 Continue\r\n\r\n${OK}`), expected: { ...ok, informational: [100] } },
  { name: '102 and 103', script: serves(`HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}`), expected: { ...ok, informational: [102, 103] } },
  { name: '100, 102 and 103, each in a segment', script: serves('', async (side) => {
    for (const status of [100, 102, 103]) {
      await side.send(`HTTP/1.1 ${status} Interim\r\n\r\n`);
      await side.wait(5);
    }
    await side.send(OK);
  }), expected: { ...ok, informational: [100, 102, 103] } },
  { name: 'interim responses for a client of HTTP/1.0', question: { version: '1.0' }, script: serves(`HTTP/1.1 103 Early Hints\r\n\r\n${OK}`), routes: exchanges, expected: { ...ok, informational: [] } },
  {
    name: 'interim responses without end',
    script: async (side) => {
      await side.request();
      for (;;) {
        await side.send('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(100));
        // Sending alone would leave the others of this process no turn of the event loop.
        await side.wait(1);
      }
    },
    routes: exchanges,
    expected: { status: [502], end: 'complete', code: 'upstream-malformed' },
  },
];

const EVIL = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';

const dishonest: readonly Behaviour[] = [
  { name: 'a second answer behind the first', script: serves(OK + EVIL), routes: exchanges, expected: { ...ok, never: /evil/ } },
  { name: 'a second answer behind 204', script: serves(`HTTP/1.1 204 No Content\r\n\r\n${EVIL}`), routes: exchanges, expected: { status: [204], end: 'complete', never: /evil/ } },
  { name: 'a second answer behind that to HEAD', question: { method: 'HEAD' }, script: serves(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${EVIL}`), routes: exchanges, expected: { status: [200], end: 'complete', never: /evil/ } },
  ...Object.entries({
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!',
    'a list of two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!',
    'a length and a coding': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'a coding and a length': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'a negative length': 'HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok',
    'a length with a sign': 'HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok',
    'a hexadecimal length': 'HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok',
    'a length of two words': 'HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok',
    'an empty length': 'HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok',
    'a length beyond counting': 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok',
    'an unknown coding': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'chunked twice': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'chunked before another coding': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'a bare CR in a field': 'HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok',
    NUL: 'HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok',
    'a status of two digits': 'HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok',
    '101 that nobody asked for': 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nfoo',
    'no HTTP at all': 'SSH-2.0-OpenSSH_9.9\r\n',
  }).map(([name, answer]): Behaviour => ({ name: `framing: ${name}`, script: serves(answer), routes: exchanges, expected: { status: [502], end: 'complete', code: 'upstream-malformed', never: /Set-Cookie/ } })),
];

const BROKEN: Readonly<Record<string, string>> = {
  'a length': 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf',
  chunks: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
};

const cut: readonly Behaviour[] = [
  ...Object.entries({ ...BROKEN, 'no length': 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf' }).flatMap(([name, answer]): Behaviour[] =>
    ['1.1', '1.0'].map((version) => ({
      name: `cut by a reset, with ${name}, for HTTP/${version}`,
      question: { version },
      script: serves(answer, async (side) => {
        side.reset();
      }),
      expected: { status: [200], end: 'broken' },
    })),
  ),
  ...Object.entries(BROKEN).map(([name, answer]): Behaviour => ({ name: `cut by an end, with ${name}`, script: once(answer), expected: { status: [200], end: 'broken' } })),
];

const EXPECTS: Question = { method: 'POST', content: { bytes: 5, framing: 'length', afterContinue: true } };
/** The partner has to be asked, not the proxy. */
const told = (request: Request): boolean => /\r\nexpect: *100-continue/i.test(request.head);

const expectations: readonly Behaviour[] = [
  {
    name: 'expected to continue: 100',
    question: EXPECTS,
    script: async (side) => {
      for (;;) {
        const request = await side.request();
        if (told(request)) await side.send('HTTP/1.1 100 Continue\r\n\r\n');
        await request.content;
        await side.send(told(request) ? OK : 'HTTP/1.1 500 Not Asked\r\nContent-Length: 0\r\n\r\n');
      }
    },
    expected: { ...ok, informational: [100] },
  },
  ...[401, 417].map((status): Behaviour => ({
    name: `expected to continue: ${status}`,
    question: EXPECTS,
    script: async (side) => {
      await side.request();
      await side.send(`HTTP/1.1 ${status} No\r\nContent-Length: 2\r\n\r\nno`);
      await side.end();
    },
    expected: { status: [status], end: 'complete', body: 'no', informational: [], nothingSent: true },
  })),
  {
    // RFC 9110 §10.1.1: servers of old know nothing of it, and wait for the content.
    name: 'expected to continue: silence',
    question: EXPECTS,
    script: serves(OK),
    routes: exchanges,
    expected: { ...ok, informational: [100] },
  },
];

export const BEHAVIOURS: readonly Behaviour[] = [...earlyAnswers(), ...endings, ...stalls, ...lifetimes, ...old, ...spellings, ...interim, ...dishonest, ...cut, ...expectations];
