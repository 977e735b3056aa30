/** How TLS begins, in both directions: which hellos are shown, and what is refused, however the bytes are cut. */
import t from 'tap';
import { TlsOpening } from '../../src/targets/client-hello.ts';
import { hello, message, padding, records, serverName, vector } from '../support/hello.ts';

const RETRY = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');
const CHANGE_CIPHER_SPEC = Buffer.of(20, 3, 3, 0, 1, 1);
const ALERT = Buffer.of(21, 3, 3, 0, 2, 2, 40);
const data = (length: number): Buffer => Buffer.concat([Buffer.of(23, 3, 3, length >> 8, length & 0xff), Buffer.alloc(length, 22)]);

const named = (name: string, lengths?: readonly number[]): Buffer => hello({ extensions: [serverName(name), padding(100)] }, lengths);
/** A ServerHello, or with the random of RFC 8446 §4.1.3 a HelloRetryRequest, in records of these lengths. */
function serverHello(random: Buffer, lengths?: readonly number[], behind = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([Buffer.of(3, 3), random, vector(1, Buffer.alloc(32, 7)), Buffer.of(0x13, 1, 0), vector(2, Buffer.alloc(0))]);
  return records(Buffer.concat([Buffer.of(2), vector(3, body), behind]), lengths, 0x0303);
}
const ANSWER = serverHello(Buffer.alloc(32, 9));
const ASK = serverHello(RETRY);

type Step = readonly [from: 'client' | 'server', bytes: Buffer];

/** What was shown of the client: names of hellos, or why it was refused; and whether there is more to see. */
function run(steps: readonly Step[], size: number): { readonly shown: string[]; readonly settled: boolean; readonly passed: Buffer } {
  const opening = new TlsOpening();
  const shown: string[] = [];
  const passed: Buffer[] = [];
  for (const [from, bytes] of steps) {
    for (let at = 0; at < bytes.length; at += size) {
      const chunk = bytes.subarray(at, at + size);
      if (from === 'server') opening.fromServer(chunk);
      else {
        const result = opening.fromClient(chunk);
        if (result === 'more') continue;
        passed.push(opening.earlier, chunk);
        if (result === 'none') continue;
        shown.push(result.kind === 'hello' ? (result.serverName ?? '-') : result.reason);
        if (result.kind !== 'hello') return { shown, settled: opening.settled, passed: Buffer.concat(passed) };
      }
    }
  }
  return { shown, settled: opening.settled, passed: Buffer.concat(passed) };
}

const FOLLOWS = /^a second handshake message follows the ClientHello before the server has answered$/;
const NO_RECORD = /^what follows the ClientHello is not a TLS record$/;

const ROWS: readonly (readonly [what: string, steps: readonly Step[], shown: readonly (string | RegExp)[], settled: boolean])[] = [
  ['one hello, taken', [['client', named('a.example')], ['server', ANSWER]], ['a.example'], true],
  ['not answered yet', [['client', named('a.example')]], ['a.example'], false],
  ['half an answer', [['client', named('a.example')], ['server', ANSWER.subarray(0, 40)]], ['a.example'], false],
  ['an alert before the answer', [['client', named('a.example')], ['server', Buffer.concat([ALERT, ANSWER])]], ['a.example'], true],
  ['another message before the answer', [['client', named('a.example')], ['server', records(Buffer.concat([Buffer.of(0, 0, 0, 0), ANSWER.subarray(5)]))]], ['a.example'], true],
  ['the answer with more behind it', [['client', named('a.example')], ['server', serverHello(Buffer.alloc(32, 9), undefined, RETRY)]], ['a.example'], true],
  ['early data', [['client', Buffer.concat([named('a.example'), CHANGE_CIPHER_SPEC, data(5_000), data(22)])], ['server', ANSWER]], ['a.example'], true],
  ['asked again', [['client', named('a.example')], ['server', ASK]], ['a.example'], false],
  ['asked again, in pieces', [['client', named('a.example')], ['server', serverHello(RETRY, [1])], ['client', named('b.example')]], ['a.example', 'b.example'], false],
  ['asked again, and answered', [['client', named('a.example')], ['server', Buffer.concat([ASK, CHANGE_CIPHER_SPEC])], ['client', Buffer.concat([CHANGE_CIPHER_SPEC, named('b.example', [7])])], ['server', ANSWER]], ['a.example', 'b.example'], true],
  ['early data, then the second hello', [['client', Buffer.concat([named('a.example'), CHANGE_CIPHER_SPEC, data(500)])], ['server', ASK], ['client', Buffer.concat([data(300), named('b.example')])]], ['a.example', 'b.example'], false],
  ['asked a third time', [['client', named('a.example')], ['server', ASK], ['client', named('a.example')], ['server', ASK], ['client', named('b.example')]], ['a.example', 'a.example', FOLLOWS], false],
  ['a second hello that nobody asked for', [['client', named('a.example')], ['client', named('b.example')]], ['a.example', FOLLOWS], false],
  ['a second hello to a server that speaks no TLS', [['server', Buffer.from('220 welcome\r\n')], ['client', named('a.example')], ['client', named('b.example')]], ['a.example', FOLLOWS], false],
  ['plain text', [['client', named('a.example')], ['client', Buffer.from('GET /')]], ['a.example', NO_RECORD], false],
  ['plain text between the hellos', [['client', named('a.example')], ['server', ASK], ['client', Buffer.from('GET /')]], ['a.example', NO_RECORD], false],
  ['a record of another protocol', [['client', named('a.example')], ['client', Buffer.of(23, 4, 3, 0, 1, 0)]], ['a.example', NO_RECORD], false],
];

t.test('each opening, however it is cut', async (t) => {
  for (const [what, steps, shown, settled] of ROWS) {
    for (const size of [1 << 20, 1_000, 7, 1]) {
      const seen = run(steps, size);
      // What is refused in the very chunk of a hello hides that hello: neither passes.
      const expected = size > 7 && seen.shown.length < shown.length ? shown.slice(-seen.shown.length) : shown;
      t.match(seen.shown, expected, `${what}, ${size} bytes at a time`);
      t.equal(seen.shown.length, expected.length);
      if (typeof shown.at(-1) === 'string') {
        t.equal(seen.settled, settled, `${what}: settled`);
        t.ok(seen.passed.equals(Buffer.concat(steps.flatMap(([from, bytes]) => (from === 'client' ? [bytes] : [])))), 'each byte once, in order');
      }
    }
  }
});

t.test('what would let a hello pass unseen in the chunk of another', async (t) => {
  const two = Buffer.concat([named('a.example'), named('b.example')]);
  t.match(run([['client', two]], 1 << 20).shown, [FOLLOWS]);
  const together = records(Buffer.concat([message({ extensions: [serverName('a.example')] }), message({ extensions: [serverName('b.example')] })]));
  t.match(run([['client', together]], 1 << 20).shown, [/^the record of the ClientHello has another handshake message behind it$/]);
});
