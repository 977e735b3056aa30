/**
 * The readers beside Node's own (llhttp), over nearly right messages: what we
 * take, Node takes and reads alike, so that nobody behind us can understand
 * another message than the one that was judged.
 */
import fc from 'fast-check';
import { createServer, type IncomingMessage, METHODS, request as askHttp, type ServerResponse } from 'node:http';
import { duplexPair } from 'node:stream';
import t from 'tap';
import { BodyReader } from '../../src/http1/body-reader.ts';
import { HeadReader, MessageError } from '../../src/http1/head-reader.ts';
import { readRequestHead } from '../../src/http1/request-head.ts';
import { readResponseHead } from '../../src/http1/response-head.ts';
import { Fault } from '../../src/errors.ts';
import { parseRequestTarget } from '../../src/targets/request-target.ts';
import { requestBytes, responseBytes } from '../support/http-messages.ts';

const SEED = 20_261_127;
const RUNS = 5_000;

interface Message {
  readonly start: string;
  readonly fields: readonly string[];
  readonly content: string;
  readonly trailers: readonly string[];
}

interface Reading {
  /** Those that are complete. */
  readonly messages: readonly Message[];
  /** Why no more is read; null: more is awaited. */
  readonly refused: string | null;
  /** What was begun last is the last on its connection. */
  readonly last: boolean;
}

const LIMITS = { trailerBytes: 16_384, trailerFields: 100 };
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** As a client connection reads: the head, the target, the content, the next one. */
function readAsWeDo(bytes: Buffer): Reading {
  const heads = new HeadReader({ limit: 16_384, lenient: false, startLine: true });
  const body = new BodyReader({ ...LIMITS, lenient: false });
  const messages: Message[] = [];
  let at = 0;
  try {
    while (at < bytes.length) {
      const section = heads.read(bytes, at);
      if (section === null) return { messages, refused: null, last: false };
      const head = readRequestHead(section.text, 100);
      if (head.version !== '1.1' && head.version !== '1.0') throw new MessageError('malformed', 'version');
      parseRequestTarget(head.method, head.target, ['h'], head.version);
      const content: Buffer[] = [];
      body.begin(head.framing);
      at = body.read(bytes, section.next, (part) => content.push(part));
      if (!body.done) return { messages, refused: null, last: !head.keepAlive };
      messages.push({ start: `${head.method} ${head.target} ${head.version}`, fields: head.fields, content: Buffer.concat(content).toString('latin1'), trailers: body.trailers });
      if (!head.keepAlive) return { messages, refused: null, last: true };
    }
    return { messages, refused: null, last: false };
  } catch (error) {
    if (error instanceof MessageError || error instanceof Fault) return { messages, refused: error.message, last: false };
    throw error;
  }
}

function createNodeReader(): { read: (bytes: Buffer) => Promise<Reading>; close: () => void } {
  let messages: Message[] = [];
  let refused: string | null = null;
  const onRequest = (req: IncomingMessage, res: ServerResponse): void => {
    const parts: Buffer[] = [];
    req.on('data', (part: Buffer) => parts.push(part));
    req.on('error', () => {});
    req.on('end', () => {
      messages.push({ start: `${req.method ?? ''} ${req.url ?? ''} ${req.httpVersion}`, fields: req.rawHeaders, content: Buffer.concat(parts).toString('latin1'), trailers: req.rawTrailers });
      res.end();
    });
  };
  const server = createServer({ requireHostHeader: false, insecureHTTPParser: false }, onRequest);
  server.on('checkContinue', onRequest).on('checkExpectation', onRequest);
  // The connection stays until all that was complete before has been told.
  server.on('clientError', (error: NodeJS.ErrnoException) => {
    refused ??= error.code ?? error.message;
  });
  return {
    read: async (bytes) => {
      messages = [];
      refused = null;
      const [client, accepted] = duplexPair();
      client.on('error', () => {});
      client.resume();
      server.emit('connection', accepted);
      client.write(bytes);
      for (let i = 0; i < 6; i += 1) await turn();
      client.destroy();
      accepted.destroy();
      await turn();
      return { messages, refused, last: false };
    },
    close: () => server.close(),
  };
}

/** Node knows these alone; that a method is a token is all RFC 9110 §9.1 asks. */
const isKnownMethod = (bytes: Buffer): boolean => {
  const reading = readAsWeDo(bytes);
  const methods = [...reading.messages.map(({ start }) => start.split(' ', 1)[0] ?? '')];
  const rest = /(?:^|\n)([!#$%&'*+\-.^_`|~0-9A-Za-z]+) \S+ HTTP\/1\.[01]\r?\n/g;
  for (const [, method = ''] of bytes.toString('latin1').matchAll(rest)) methods.push(method);
  return methods.every((method) => METHODS.includes(method));
};

const show = (bytes: Buffer): string => JSON.stringify(bytes.toString('latin1'));

/** What must not be; null: nothing. */
function compareRequests(ours: Reading, nodes: Reading): string | null {
  for (const [i, message] of ours.messages.entries()) {
    const other = nodes.messages[i];
    if (other === undefined) return nodes.refused === null ? `Node sees ${nodes.messages.length} messages, we ${ours.messages.length}` : `Node refuses message ${i}: ${nodes.refused}`;
    if (JSON.stringify(other) !== JSON.stringify(message)) return `message ${i}: Node reads ${JSON.stringify(other)}, we ${JSON.stringify(message)}`;
  }
  if (ours.refused !== null || ours.last) return null;
  if (nodes.messages.length > ours.messages.length) return `we wait for the end of a message that is complete for Node: ${JSON.stringify(nodes.messages.at(-1))}`;
  // A section that is not complete yet is not judged: to wait for its end, within its clock, is not to take it.
  return null;
}

t.test('requests', async (t) => {
  const node = createNodeReader();
  const seen = { taken: 0, refused: 0, several: 0, content: 0, unknown: 0 };
  await fc.assert(
    fc.asyncProperty(requestBytes, async (bytes) => {
      const ours = readAsWeDo(bytes);
      seen.taken += ours.messages.length > 0 ? 1 : 0;
      seen.several += ours.messages.length > 1 ? 1 : 0;
      seen.refused += ours.refused === null ? 0 : 1;
      seen.content += ours.messages.some(({ content }) => content !== '') ? 1 : 0;
      const nodes = await node.read(bytes);
      const finding = compareRequests(ours, nodes);
      if (finding === null) return;
      if (nodes.refused !== null && !isKnownMethod(bytes)) {
        seen.unknown += 1;
        return;
      }
      throw new Error(`${finding}\n${show(bytes)}`);
    }),
    { numRuns: RUNS, seed: SEED },
  );
  node.close();
  t.comment(JSON.stringify(seen));
  for (const [what, count] of Object.entries(seen)) t.ok(count > RUNS / (what === 'unknown' ? 500 : 50), `${what}: ${count} of ${RUNS}`);
});

t.test('requests, however they are cut, are read alike', async (t) => {
  fc.assert(
    fc.property(requestBytes, fc.array(fc.nat(), { maxLength: 4 }), (bytes, places) => {
      const whole = readInPieces([bytes]);
      const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
      const pieces = [...cuts, bytes.length].map((end, i) => bytes.subarray(cuts[i - 1] ?? 0, end));
      for (const some of [pieces, Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))]) {
        const found = readInPieces(some);
        if (found !== whole) throw new Error(`whole: ${whole}\nin pieces: ${found}\n${show(bytes)}`);
      }
    }),
    { numRuns: RUNS, seed: SEED },
  );
  t.pass(`${RUNS} cases`);
});

/** Complete messages, and whether more was refused. Where it was refused, how much was read before may differ. */
function readInPieces(pieces: readonly Buffer[]): string {
  const heads = new HeadReader({ limit: 16_384, lenient: false, startLine: true });
  const body = new BodyReader({ ...LIMITS, lenient: false });
  const out: string[] = [];
  let content = '';
  let busy = false;
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; ) {
        if (!busy) {
          const section = heads.read(piece, at);
          if (section === null) break;
          const head = readRequestHead(section.text, 100);
          out.push(`${head.method} ${head.target} ${head.fields.join('|')}`);
          at = section.next;
          body.begin(head.framing);
          content = '';
          busy = true;
        } else at = body.read(piece, at, (part) => (content += part.toString('latin1')));
        if (body.done) {
          out.push(`${content} ${body.trailers.join('|')}`);
          busy = false;
        }
      }
    }
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return JSON.stringify([...out, 'refused']);
  }
  return JSON.stringify(out);
}

interface Answered {
  readonly message: Message | null;
  /** It is whole. */
  readonly complete: boolean;
  readonly refused: string | null;
}

function answerAsWeRead(bytes: Buffer): Answered {
  const heads = new HeadReader({ limit: 16_384, lenient: true, startLine: true });
  const body = new BodyReader({ ...LIMITS, lenient: true });
  try {
    for (let at = 0; ; ) {
      const section = heads.read(bytes, at);
      if (section === null) return { message: null, complete: false, refused: null };
      const head = readResponseHead(section.text, 'GET', 100);
      at = section.next;
      if (head.status === 101) return { message: null, complete: false, refused: null };
      if (head.status < 200) continue;
      const content: Buffer[] = [];
      body.begin(head.framing);
      body.read(bytes, at, (part) => content.push(part));
      const complete = body.end();
      return { message: { start: `${head.status} ${head.reason} ${head.version}`, fields: head.fields, content: Buffer.concat(content).toString('latin1'), trailers: body.trailers }, complete, refused: null };
    }
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return { message: null, complete: false, refused: error.message };
  }
}

async function answerAsNodeReads(bytes: Buffer): Promise<Answered> {
  const [client, server] = duplexPair();
  server.on('error', () => {});
  server.resume();
  let refused: string | null = null;
  let message: Message | null = null;
  let complete = false;
  const told = Promise.withResolvers<undefined>();
  const req = askHttp({ createConnection: () => client, method: 'GET', host: 'h', path: '/', insecureHTTPParser: false });
  req.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ECONNRESET') refused ??= error.code ?? error.message;
  });
  req.on('response', (res) => {
    const parts: Buffer[] = [];
    res.on('data', (part: Buffer) => parts.push(part));
    res.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET') refused ??= error.code ?? error.message;
    });
    res.on('close', () => {
      told.resolve(undefined);
    });
    res.on('end', () => {
      complete = res.complete;
      message = { start: `${res.statusCode ?? 0} ${res.statusMessage ?? ''} ${res.httpVersion}`, fields: res.rawHeaders, content: Buffer.concat(parts).toString('latin1'), trailers: res.rawTrailers };
    });
  });
  req.end();
  await turn();
  server.write(bytes);
  server.end();
  await Promise.race([told.promise, (async () => { for (let i = 0; i < 20; i += 1) await turn(); })()]);
  req.destroy();
  server.destroy();
  await turn();
  await turn();
  return { message, complete, refused };
}

/**
 * What src/http1 puts right in a response, and llhttp refuses: lines that end
 * in LF, folded lines, blanks before a colon, equal lengths, blanks and odd
 * extensions in chunk lines. And the fields that tell the framing of what has
 * none by its status (RFC 9112 §6.3).
 */
function isLeniency(bytes: Buffer, start: string): boolean {
  const text = bytes.toString('latin1');
  const lengths = [...text.matchAll(/\ncontent-length:([^\r\n]*)/gi)].flatMap(([, value = '']) => value.split(',').map((part) => part.trim()));
  return (
    /^(?:204|304) /.test(start) ||
    /(?:^|[^\r])\n/.test(text) ||
    /\n[ \t]/.test(text) ||
    /\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]+:/.test(text) ||
    (lengths.length > 1 && new Set(lengths).size === 1) ||
    /\n[0-9a-fA-F]+[ \t]*(?:;[^\r\n]*)?\r\n/.test(text.replace(/\n[0-9a-fA-F]+\r\n/g, '\n'))
  );
}

t.test('responses', async (t) => {
  const seen = { taken: 0, refused: 0, content: 0, lenient: 0 };
  await fc.assert(
    fc.asyncProperty(responseBytes, async (bytes) => {
      const ours = answerAsWeRead(bytes);
      if (ours.refused !== null) seen.refused += 1;
      if (!ours.complete) return;
      seen.taken += 1;
      if (ours.message?.content !== '') seen.content += 1;
      const nodes = await answerAsNodeReads(bytes);
      const same = nodes.complete && JSON.stringify(nodes.message) === JSON.stringify(ours.message);
      if (same) return;
      if (isLeniency(bytes, ours.message?.start ?? '')) {
        seen.lenient += 1;
        return;
      }
      throw new Error(`we read ${JSON.stringify(ours)}\nNode ${JSON.stringify(nodes)}\n${show(bytes)}`);
    }),
    { numRuns: RUNS, seed: SEED },
  );
  t.comment(JSON.stringify(seen));
  for (const [what, count] of Object.entries(seen)) t.ok(count > RUNS / 100, `${what}: ${count} of ${RUNS}`);
});
