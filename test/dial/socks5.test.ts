/** SOCKS5 to a parent: what is sent, and every answer however it is cut. */
import fc from 'fast-check';
import t from 'tap';
import type { HandshakeStep } from '../../src/dial/handshake.ts';
import { createSocks5, type Socks5Options } from '../../src/dial/socks5.ts';
import { holds } from '../support/property.ts';

const LOGIN = { user: 'eco', password: 'pä' };

const ask = (change: Partial<Socks5Options> = {}) => createSocks5({ host: 'eco.test', port: 443, credentials: null, ...change });

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** Plays what the server says, one message after the other, each in pieces; what we said to it, and what came of it. */
function talk(answers: readonly Buffer[], change: Partial<Socks5Options>, cut: (message: Buffer) => Buffer[]): { sent: string[]; last: HandshakeStep } {
  const handshake = ask(change);
  const sent = [handshake.opening.toString('hex')];
  let last: HandshakeStep = { step: 'more', send: null };
  for (const answer of answers) {
    for (const piece of cut(answer)) {
      last = handshake.receive(piece);
      if (last.step !== 'more') return { sent, last };
      if (last.send !== null) sent.push(last.send.toString('hex'));
    }
  }
  return { sent, last };
}

const CUTS: Record<string, (message: Buffer) => Buffer[]> = {
  whole: (message) => [message],
  'byte by byte': (message) => Array.from(message, (byte) => Buffer.of(byte)),
};

const REPLY = '05 00 00 01 0a 00 00 01 1f 90';

t.test('the request, for every kind of host', async (t) => {
  const table: [host: string, port: number, request: string][] = [
    ['eco.test', 443, '05 01 00 03 08 65 63 6f 2e 74 65 73 74 01 bb'],
    ['10.40.1.2', 80, '05 01 00 01 0a 28 01 02 00 50'],
    ['2001:db8::1', 65535, '05 01 00 04 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01 ff ff'],
    ['::10.40.1.2', 80, '05 01 00 04 00 00 00 00 00 00 00 00 00 00 00 00 0a 28 01 02 00 50'],
    ['::ffff:10.40.1.2', 80, '05 01 00 01 0a 28 01 02 00 50'],
    [`${'a'.repeat(63)}.`.repeat(3) + 'b'.repeat(61), 1, `05 01 00 03 fd ${Buffer.from(`${'a'.repeat(63)}.`.repeat(3) + 'b'.repeat(61)).toString('hex')} 00 01`],
  ];
  for (const [host, port, request] of table) {
    for (const [name, cut] of Object.entries(CUTS)) {
      const { sent, last } = talk([hex('05 00'), hex(REPLY)], { host, port }, cut);
      t.strictSame(sent, ['050100', hex(request).toString('hex')], `${host} ${name}`);
      t.equal(last.step, 'done');
    }
  }
});

t.test('user and password, where they are wanted', async (t) => {
  for (const cut of Object.values(CUTS)) {
    t.strictSame(talk([hex('05 02'), hex('01 00'), hex(REPLY)], { credentials: LOGIN }, cut).sent.slice(0, 2), ['05020002', hex('01 03 65 63 6f 03 70 c3 a4').toString('hex')]);
    t.equal(talk([hex('05 02'), hex('01 00'), hex(REPLY)], { credentials: LOGIN }, cut).last.step, 'done');
    t.equal(talk([hex('05 00'), hex(REPLY)], { credentials: LOGIN }, cut).sent.length, 2, 'not shown to a parent that does not ask');
    t.match(talk([hex('05 02'), hex('01 01')], { credentials: LOGIN }, cut).last, { step: 'failed', code: 'hop-credentials', about: 'parent', remedy: /does not accept/ });
    t.match(talk([hex('05 ff')], {}, cut).last, { step: 'failed', code: 'hop-credentials', remedy: /into a file/ });
    t.match(talk([hex('05 ff')], { credentials: LOGIN }, cut).last, { step: 'failed', code: 'hop-credentials' });
  }
});

t.test('the first bytes of the tunnel come after the reply, whatever address it has, split at every byte', async (t) => {
  for (const reply of [REPLY, '05 00 00 03 03 61 2e 62 00 00', '05 00 00 03 00 00 00', '05 00 00 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 50']) {
    for (const rest of ['', 'SSH-2.0-x\r\n']) {
      const whole = Buffer.concat([hex(reply), Buffer.from(rest)]);
      for (let at = 0; at <= whole.length; at += 1) {
        const handshake = ask();
        handshake.receive(hex('05 00'));
        const pieces = [whole.subarray(0, at), whole.subarray(at)].filter((piece) => piece.length > 0);
        let heard = '';
        for (const [index, piece] of pieces.entries()) {
          const step = handshake.receive(piece);
          if (step.step !== 'done') continue;
          heard = step.rest.toString() + Buffer.concat(pieces.slice(index + 1)).toString();
          break;
        }
        if (heard !== rest) t.fail(`${reply} at ${at}: ${JSON.stringify(heard)}`);
      }
      t.pass(reply);
    }
  }
});

t.test('every reply is worded', async (t) => {
  const table: [reply: number, code: string, about: string, words: string][] = [
    [1, 'hop-failed', 'either', 'general SOCKS server failure'],
    [2, 'hop-refused', 'beyond', 'connection not allowed by ruleset'],
    [3, 'hop-upstream-failed', 'beyond', 'network unreachable'],
    [4, 'hop-upstream-failed', 'beyond', 'host unreachable'],
    [5, 'hop-upstream-failed', 'beyond', 'connection refused'],
    [6, 'hop-upstream-failed', 'beyond', 'TTL expired'],
    [7, 'hop-failed', 'parent', 'command not supported'],
    [8, 'hop-failed', 'either', 'address type not supported'],
    [9, 'hop-failed', 'parent', 'unknown reply 9'],
    [255, 'hop-failed', 'parent', 'unknown reply 255'],
  ];
  for (const [reply, code, about, words] of table) {
    for (const cut of Object.values(CUTS)) {
      t.match(talk([hex('05 00'), Buffer.of(5, reply, 0, 1, 0, 0, 0, 0, 0, 0)], {}, cut).last, { step: 'failed', code, about, detail: new RegExp(`${words}.*SOCKS CONNECT eco\\.test:443`), remedy: /\w/ });
    }
  }
});

t.test('what is no SOCKS5', async (t) => {
  const table: [answers: string[], credentials: typeof LOGIN | null, told: RegExp][] = [
    [['04 5a'], null, /something else/],
    [['48 54 54 50'], null, /something else/],
    [['05 01'], null, /chose the method 1, which was not offered/],
    [['05 02'], null, /chose the method 2, which was not offered/],
    [['05 02', '05 00'], LOGIN, /something else/],
    [['05 00', '04 00 00 01'], null, /something else/],
    [['05 00', '05 00 00 02 00'], null, /unknown address type 2/],
  ];
  for (const [answers, credentials, told] of table) {
    for (const cut of Object.values(CUTS)) t.match(talk(answers.map(hex), { credentials }, cut).last, { step: 'failed', code: 'hop-failed', about: 'parent', detail: told }, answers.join(', '));
  }
});

t.test('whose fault silence is: the parent’s, until it has been told the target', (t) => {
  const handshake = ask({ credentials: LOGIN });
  t.match(handshake, { asked: 'the SOCKS greeting', about: 'parent' });
  handshake.receive(hex('05 02'));
  t.match(handshake, { asked: 'the SOCKS login', about: 'parent' });
  handshake.receive(hex('01 00'));
  t.match(handshake, { asked: 'SOCKS CONNECT eco.test:443', about: 'either' });
  t.end();
});

t.test('an answer that is not yet one is waited for', async (t) => {
  for (const answers of [['05'], ['05 00', '05'], ['05 00', '05 00'], ['05 00', '05 00 00'], ['05 00', '05 00 00 03'], ['05 00', '05 00 00 01 00 00 00 00 00']]) {
    const [cut] = Object.values(CUTS);
    t.equal(cut === undefined ? '' : talk(answers.map(hex), {}, cut).last.step, 'more', answers.join(', '));
  }
});

t.test('whatever a parent sends, it is an answer or a failure, and never an error', async (t) => {
  holds(
    t,
    'messages',
    2_000,
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 24 }), { minLength: 1, maxLength: 4 }), fc.boolean(), (messages, honest) => {
      const begun = honest ? [Buffer.of(5, 0), Buffer.of(5, 0, 0)] : [];
      const { last } = talk([...begun, ...messages.map((message) => Buffer.from(message))], { credentials: LOGIN }, (message) => [message]);
      return ['more', 'done', 'failed'].includes(last.step);
    }),
  );
});
