/**
 * All connections are read into one buffer, and their messages are written
 * from one outbox: no client ever gets, and no partner is ever sent, the bytes
 * of another.
 */
import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { httpAuthority } from '../support/hostile.ts';
import { startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

/** More than the system holds for a connection, so that a client which does not read leaves bytes with us. */
const LONG = 12_000_000;
const SLOW = 4;
const QUICK = 8;
const WAITING = 24;
const letterOf = (index: number): string => String.fromCharCode('a'.charCodeAt(0) + index);

/** What is not this letter. */
function strange(content: Buffer | string, letter: string): number {
  let others = 0;
  for (const byte of Buffer.from(content)) if (byte !== letter.charCodeAt(0)) others += 1;
  return others;
}

/** `GET /letter/length` gets so many of the letter, in chunks or with a length in turn; anything else is echoed. */
const lettersOrEcho = (req: IncomingMessage, res: ServerResponse): void => {
  const [, letter = '', length = ''] = req.url?.split('/') ?? [];
  if (req.method !== 'GET') {
    void text(req).then((content) => res.end(content));
    return;
  }
  if (letter.charCodeAt(0) % 2 === 0) res.setHeader('Content-Length', length);
  let left = Number(length);
  const more = (): void => {
    while (left > 0) {
      const part = Math.min(left, 50_000);
      left -= part;
      if (!res.write(letter.repeat(part))) {
        res.once('drain', more);
        return;
      }
    }
    res.end();
  };
  more();
};

t.test('clients that read slowly, beside others that come and go', async (t) => {
  const lab = await startLab(t, { onRequest: lettersOrEcho });
  let slowDone = false;
  const slow = Array.from({ length: SLOW }, async (_, index) => {
    const letter = letterOf(index);
    const asked = request({ host: '127.0.0.1', port: lab.port, path: `/eco/${letter}/${LONG}`, agent: false }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    let bytes = 0;
    let others = 0;
    for await (const part of response) {
      bytes += (part as Buffer).length;
      others += strange(part as Buffer, letter);
      // Less than is sent: the proxy always has some that waits.
      if (bytes % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return { letter, bytes, others };
  });
  const quick = Array.from({ length: QUICK }, async (_, index) => {
    const letter = letterOf(SLOW + index);
    let wrong = 0;
    let asked = 0;
    do {
      const length = 1 + ((asked * 7_919) % 150_000);
      const answer = await fetch(`${lab.url}/eco/${letter}/${length}`);
      const content = Buffer.from(await answer.arrayBuffer());
      if (content.length !== length || strange(content, letter) > 0) wrong += 1;
      asked += 1;
    } while (!slowDone);
    return { letter, wrong };
  });
  const read = await Promise.all(slow);
  slowDone = true;
  t.strictSame(read, read.map(({ letter }) => ({ letter, bytes: LONG, others: 0 })));
  const all = await Promise.all(quick);
  t.strictSame(all, all.map(({ letter }) => ({ letter, wrong: 0 })));
});

t.test('what is read with a request, and has to wait', async (t) => {
  const go = Promise.withResolvers<undefined>();
  const lab = await startLab(t, {
    onRequest: lettersOrEcho,
    lookup: async () => {
      await go.promise;
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  const host = httpAuthority(lab);
  const put = (content: string): string => `PUT http://${host}/ HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${content.length}\r\n\r\n${content}`;
  const wires = await Promise.all(Array.from({ length: WAITING }, () => openWire(t, lab.port)));
  // The first body waits for a connection to the partner, the second request for the answer to the first.
  for (const [index, wire] of wires.entries()) wire.send(put(letterOf(index).repeat(2_000)) + put(letterOf(index).repeat(3_000)));
  // Meanwhile others are read into the same memory.
  for (let i = 0; i < 50; i += 1) {
    const other = connect({ host: '127.0.0.1', port: lab.port });
    other.end(`GET / HTTP/1.1\r\nHost: other.example\r\nX: ${'!'.repeat(8_000)}\r\nConnection: close\r\n\r\n`);
    await once(other.resume(), 'close');
  }
  go.resolve(undefined);
  for (const [index, wire] of wires.entries()) {
    const letter = letterOf(index);
    await wire.until(new RegExp(`\\r\\n\\r\\n${letter}{2000}HTTP/1\\.1 200 [^]*\\r\\n\\r\\n${letter}{3000}$`));
    t.pass(letter);
  }
});
