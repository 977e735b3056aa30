/** The reader against input made to break it, and against OpenSSL's reading of the same bytes. */
import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import type { HelloResult } from '../../src/targets/client-hello.ts';
import { parseHost } from '../../src/targets/host.ts';
import { captureNode, hello, message, padding, readHello, records, serverName, unwrap } from '../support/hello.ts';
import { fuzzReader, MOST_HELD } from '../support/hello-fuzz.ts';
import { CAPTURED } from '../support/hello-mutations.ts';
import { labCertificates } from '../support/lab.ts';

const ECO = 'eco-sit.telus.internal';
const { certPem, keyPem } = await labCertificates();
const context = createSecureContext({ cert: certPem, key: keyPem });
const node13 = await captureNode(t, { servername: ECO, ALPNProtocols: ['h2'] });
const node12 = await captureNode(t, { servername: ECO, maxVersion: 'TLSv1.2' });

/** A position is a fraction, so that it means something in every seed. */
type Mutation = readonly [kind: 'set' | 'add' | 'drop' | 'double' | 'cut', at: number, value: number];
const mutation: fc.Arbitrary<Mutation> = fc.tuple(
  fc.constantFrom('set' as const, 'set' as const, 'set' as const, 'add' as const, 'drop' as const, 'double' as const, 'cut' as const),
  fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 0x16, 0x2e, 0xff)),
);

function mutate(stream: Buffer, mutations: readonly Mutation[]): Buffer {
  let out = Buffer.from(stream);
  for (const [kind, where, value] of mutations) {
    const at = Math.floor(where * out.length);
    const [before, after] = [out.subarray(0, at), out.subarray(at)];
    if (kind === 'set') out.set(out.length > 0 ? [value] : [], at);
    else if (kind === 'add') out = Buffer.concat([before, Buffer.of(value), after]);
    else if (kind === 'drop') out = Buffer.concat([before, after.subarray(1 + (value >> 4))]);
    else if (kind === 'double') out = Buffer.concat([before, after.subarray(0, value), after]);
    else out = Buffer.from(before);
  }
  return out;
}

const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 3000 })), { minLength: 1, maxLength: 12 });

/** The length in its header made true again. */
function fitted(handshake: Buffer): Buffer {
  if (handshake.length < 4) return handshake;
  const out = Buffer.from(handshake);
  out.writeUIntBE(out.length - 4, 1, 3);
  return out;
}

t.test('no input throws, no fragmentation changes the verdict, no memory above the bound', async (t) => {
  // The whole million: npm run fuzz.
  const { verdicts, mostHeld, slowest, grown } = fuzzReader({ seed: 20_261, runs: 25_000 });
  for (const kind of ['more', 'hello', 'invalid', 'not-tls']) t.ok((verdicts.get(kind) ?? 0) > 500, `${kind}: ${verdicts.get(kind) ?? 0}`);
  t.ok(mostHeld <= MOST_HELD, `${mostHeld} bytes held at most`);
  t.ok(slowest < 2000, `${slowest} ms for the slowest`);
  t.ok(grown < 4 * 1024 * 1024, `${grown} bytes more in use at the end`);
});

t.test('hellos of real programs, cut at every boundary: of chunks, of records, byte by byte', async (t) => {
  for (const [program, stream] of CAPTURED) {
    const whole = readHello(stream);
    const handshake = unwrap(stream);
    t.match(whole, { kind: 'hello', bytes: stream.length }, program);
    const odd: string[] = [];
    if (!sameResult(readHello(stream, [1]), whole)) odd.push('byte by byte');
    for (let at = 1; at < stream.length; at += 1) if (!sameResult(readHello(stream, [at, stream.length]), whole)) odd.push(`chunks of ${at} bytes and the rest`);
    for (let at = 1; at < handshake.length; at += 1) {
      const [once, twice] = [records(handshake, [at, 16_384]), records(handshake, [at, 1, 16_384])];
      for (const again of [once, twice]) if (!sameResult(readHello(again), { ...(whole as HelloResult), bytes: again.length })) odd.push(`records of ${at} bytes and more`);
    }
    t.strictSame(odd, [], program);
  }
});

t.test('the time for a byte does not grow with their number', async (t) => {
  const costOf = (length: number): number => {
    const stream = records(message({ extensions: [padding(length)] }), [1, 2, 16_384]);
    let best = Infinity;
    for (let tries = 0; tries < 5; tries += 1) {
      const started = process.cpuUsage();
      for (let bytes = 0; bytes < 60_000; bytes += stream.length) readHello(stream, [1]);
      best = Math.min(best, process.cpuUsage(started).user);
    }
    return best;
  };
  costOf(3000);
  const [short, long] = [costOf(1900), costOf(30_000)];
  t.ok(long < 6 * short, `60 kB byte by byte: ${long} µs as long hellos, ${short} as short ones; squared it would be 15 times as much`);
});

t.test('any text as a name: canonical or refused', async () => {
  const name = fc.oneof(fc.string({ unit: 'binary', maxLength: 80 }), fc.domain(), fc.ipV4(), fc.string({ unit: fc.constantFrom('a', 'B', '.', '-', '0', 'x', ':', '[', ']', '%', '\0'), maxLength: 12 }));
  fc.assert(
    fc.property(name, (text) => {
      const latin = Buffer.from(text).toString('latin1');
      const result = readHello(hello({ extensions: [serverName(latin)] }));
      if (result === 'more' || !isSound(result)) return false;
      return result.kind === 'hello' ? result.serverName === parseHost(latin) && result.serverName === latin.toLowerCase() : result.kind === 'invalid';
    }),
    { numRuns: 8_000 },
  );
});

function sameResult(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function isSound(result: HelloResult): boolean {
  if (result.kind !== 'hello') return /^[\x20-\x7e]{1,400}$/.test(result.reason);
  return result.serverName === null || parseHost(result.serverName) === result.serverName;
}

/** What OpenSSL makes of the bytes: the name it was asked for (null: none), or that it refuses them. */
function askOpenssl(bytes: Buffer, secureContext: SecureContext): Promise<{ name: string | null } | 'refused'> {
  return new Promise((resolve) => {
    const answered: { name: string | null } = { name: null };
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        // An alert refuses; a ServerHello comes after the name was read.
        settle(chunk[0] === 21 ? 'refused' : answered);
        done();
      },
    });
    const socket = new TLSSocket(wire, {
      isServer: true,
      secureContext,
      SNICallback: (name, done) => {
        answered.name = name;
        done(null, secureContext);
      },
    });
    const settle = (result: { name: string | null } | 'refused'): void => {
      resolve(result);
      socket.destroy();
      wire.destroy();
    };
    socket.on('error', () => {
      settle('refused');
    });
    socket.on('end', () => {
      settle('refused');
    });
    socket.resume();
    wire.push(bytes);
    // Read and answered within two turns of the loop; a hello that is not complete is not answered at all.
    void nextTurn()
      .then(() => nextTurn())
      .then(() => nextTurn())
      .then(() => wire.push(null));
  });
}

t.test('where a name is read, OpenSSL reads the same or refuses', async (t) => {
  t.same(await askOpenssl(node13, context), { name: ECO });
  t.same(await askOpenssl(Buffer.from('GET / HTTP/1.1\r\n\r\n'), context), 'refused');
  let agreed = 0;
  const opening = fc.constantFrom(node13, node12);
  // Mutations around the name, and cuts into records that OpenSSL has to put together too.
  const near = fc.tuple(opening, fc.array(fc.tuple(mutation, fc.integer({ min: -20, max: 40 })), { minLength: 0, maxLength: 2 }), lengths).map(([bytes, mutations, cuts]) => {
    const handshake = unwrap(bytes);
    const at = handshake.indexOf(ECO);
    const placed = mutations.map(([[kind, , value], offset]): Mutation => [kind === 'cut' ? 'set' : kind, (at + offset) / handshake.length, value]);
    return records(fitted(mutate(handshake, placed)), cuts.map((length) => Math.max(length, 20)));
  });
  await fc.assert(
    fc.asyncProperty(near, async (bytes) => {
      const ours = readHello(bytes);
      const theirs = await askOpenssl(bytes, context);
      if (theirs === 'refused') return true;
      if (ours === 'more' || ours.kind === 'not-tls') return false;
      if (ours.kind === 'invalid') return true;
      agreed += 1;
      return ours.serverName === (theirs.name?.toLowerCase() ?? null);
    }),
    { numRuns: 800 },
  );
  t.ok(agreed > 150, `${agreed} hellos that both read`);
});
