/** Thousands of ClientHellos through the listener's own sockets: each has its end and its line, and nothing of it stays. */
import { setImmediate } from 'node:timers/promises';
import { connect } from 'node:net';
import t from 'tap';
import { accessLines } from '../support/hostile.ts';
import { readHello } from '../support/hello.ts';
import { type HelloCase, makeHelloCase } from '../support/hello-mutations.ts';
import { ECO } from '../support/lab.ts';
import { bytesInUse } from '../support/memory.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';
import { sumOf } from '../support/prometheus.ts';
import { startTlsLab } from '../support/tls-lab.ts';

const SEED = 20_262;
const WARM_UP = 500;
const RUNS = 2500;
const AT_ONCE = 20;
/** Of clients whose hello does not come to its end, so many do not end either, and are cut at the deadline. */
const STAY = 10;

/** Says the stream in three pieces at most, ends, and waits for its own end. @returns what it heard, one character a byte */
async function say(port: number, { stream, cuts }: HelloCase, stays: boolean): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
  let heard = '';
  // Refused, it may be reset: what counts is that it ends.
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
  });
  socket.on('end', () => socket.end());
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const [first = 0, second = 0] = cuts;
  for (const piece of [stream.subarray(0, first), stream.subarray(first, first + second), stream.subarray(first + second)]) {
    if (piece.length > 0 && socket.writable) socket.write(piece);
    await setImmediate();
  }
  if (!stays) socket.end();
  await closed;
  return heard;
}

/** Cases are made of the same few hellos; no two handshakes have the same random. Where it lies in several records it stays. */
function withOwnRandom(made: HelloCase, number: number): HelloCase {
  const verdict = readHello(made.stream);
  const at = verdict !== 'more' && verdict.kind === 'hello' ? made.stream.indexOf(verdict.random, 0, 'latin1') : -1;
  if (at === -1) return made;
  const stream = Buffer.from(made.stream);
  stream.writeUInt32BE(number, at);
  return { ...made, stream };
}

t.test('every connection ends, with an alert or in the tunnel it asked for, and leaves nothing behind', async (t) => {
  const lab = await startTlsLab(t, { tlsServer: null, configure: ({ timeouts }) => void (timeouts['requestHeaders'] = '2s') });
  const sockets = countSockets();
  let number = 0;
  let spoke = 0;
  let asked = 0;
  let stayed = 0;
  let before = 0;

  const work = async (upTo: number): Promise<void> => {
    while (number < upTo) {
      const made = withOwnRandom(makeHelloCase(SEED, number), number);
      number += 1;
      const verdict = readHello(made.stream);
      const stays = verdict === 'more' && made.stream.length > 0 && stayed < STAY;
      if (stays) stayed += 1;
      const isPermitted = verdict !== 'more' && verdict.kind === 'hello' && verdict.serverName === ECO;
      if (made.stream.length > 0) spoke += 1;
      if (isPermitted) asked += 1;
      const heard = await say(lab.tlsPort, made, stays);
      // What the partner answers passes as it is; otherwise it is an alert, or the word for plain HTTP.
      if (!isPermitted && !/^(?:|\x15\x03\x03\0\x02\x02[^]|HTTP\/1\.1 4\d\d [^]*)$/.test(heard)) t.fail(`seed ${SEED}, input ${number - 1}: ${JSON.stringify(heard.slice(0, 100))}`);
    }
  };
  for (const upTo of [WARM_UP, WARM_UP + RUNS]) {
    before = bytesInUse();
    await Promise.all(Array.from({ length: AT_ONCE }, () => work(upTo)));
  }

  await untilSockets(sockets);
  while (accessLines(lab).length < spoke) await setImmediate();
  const loops = accessLines(lab).filter(({ code }) => code === 'loop').length;
  t.ok(loops < asked / 4, `${loops} had the random of another`);
  t.equal(lab.upstream.connections, asked - loops, `the partner was called for those who asked for it: ${asked} of ${number}`);
  t.equal(accessLines(lab).length, spoke, 'one line for each that said something');
  t.equal(accessLines(lab).filter(({ code }) => code === 'request-timeout').length, STAY);
  const scrape = await lab.scrape();
  t.equal(sumOf(scrape, 'eco_egress_client_connections'), 0);
  t.equal(sumOf(scrape, 'eco_egress_tunnels_active'), 0);
  const grown = (bytesInUse() - before) / RUNS;
  // The lab keeps every line of the log.
  t.ok(grown < 4096, `${Math.round(grown)} bytes stay for each connection, its log line among them`);
});
