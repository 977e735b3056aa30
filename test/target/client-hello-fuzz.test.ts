/** The reader against input made to break it, and against OpenSSL's reading of the same bytes. */
import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import { ClientHelloReader, type HelloResult } from '../../src/target/client-hello.ts';
import { parseHost } from '../../src/target/host.ts';
import { alpn, captureNode, captureProgram, ech, grease, hello, message, padding, readHello, records, serverName, unwrap } from '../support/hello.ts';
import { labCertificates } from '../support/lab.ts';

const ECO = 'eco-sit.telus.internal';
const { certPem, keyPem } = await labCertificates();
const context = createSecureContext({ cert: certPem, key: keyPem });
const seeds = [
  hello({ extensions: [grease(0x2a2a), serverName(ECO), alpn('h2', 'http/1.1'), ech, padding(40)] }),
  hello({ extensions: [serverName('a.example', 'b.example')] }),
  hello({ extensions: null }),
  records(message({ extensions: [padding(17_000), serverName(ECO)] })),
  await captureNode(t, { servername: ECO, ALPNProtocols: ['h2'] }),
  await captureNode(t, { servername: ECO, maxVersion: 'TLSv1.2' }),
  await captureNode(t, { servername: '' }),
];
for (const [program, args] of [
  ['curl', ['-sk', `https://${ECO}/`, '--connect-to']],
  ['openssl', ['s_client', '-servername', ECO, '-connect']],
] as const) {
  const stream = await captureProgram(t, program, (port) => [...args, `${program === 'curl' ? '::' : ''}127.0.0.1:${port}`]);
  if (stream === null) t.comment(`${program} is not installed here`);
  else seeds.push(stream);
}

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

const seed = fc.nat(seeds.length - 1).map((i) => seeds[i] ?? Buffer.alloc(0));
const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 3000 })), { minLength: 1, maxLength: 12 });
const stream = fc.oneof(
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => records(Buffer.concat([Buffer.of(1, 0, 0, Math.max(0, bytes.length - 4)), bytes.subarray(4)]))) },
  { weight: 4, arbitrary: fc.tuple(seed, fc.array(mutation, { maxLength: 4 })).map(([bytes, mutations]) => mutate(bytes, mutations)) },
  // Mutated inside the message and wrapped anew, so that the records are in order and the hello is what is odd.
  { weight: 6, arbitrary: fc.tuple(seed, fc.array(mutation, { minLength: 1, maxLength: 3 }), lengths).map(([bytes, mutations, cuts]) => records(fitted(mutate(unwrap(bytes), mutations)), cuts)) },
);

/** The length in its header made true again. */
function fitted(handshake: Buffer): Buffer {
  if (handshake.length < 4) return handshake;
  const out = Buffer.from(handshake);
  out.writeUIntBE(out.length - 4, 1, 3);
  return out;
}

t.test('no input throws, no fragmentation changes the result, no memory above the bound', async (t) => {
  const kinds = new Map<string, number>();
  fc.assert(
    fc.property(stream, lengths, (bytes, cuts) => {
      const result = readHello(bytes);
      const kind = result === 'more' ? 'more' : result.kind;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      const reader = new ClientHelloReader();
      let again: 'more' | HelloResult = 'more';
      for (let start = 0, i = 0; start < bytes.length && again === 'more'; i += 1) {
        const length = cuts[i % cuts.length] ?? 1;
        again = reader.push(bytes.subarray(start, start + length));
        if (!bytes.subarray(0, start).equals(reader.earlier)) return false;
        start += length;
      }
      return reader.capacity <= 65_536 && sameResult(result, again) && isSound(result, bytes);
    }),
    { numRuns: 15_000 },
  );
  for (const kind of ['more', 'hello', 'invalid', 'not-tls']) t.ok((kinds.get(kind) ?? 0) > 150, `${kind}: ${kinds.get(kind) ?? 0}`);
});

t.test('any text as a name: canonical or refused', async () => {
  const name = fc.oneof(fc.string({ unit: 'binary', maxLength: 80 }), fc.domain(), fc.ipV4(), fc.string({ unit: fc.constantFrom('a', 'B', '.', '-', '0', 'x', ':', '[', ']', '%', '\0'), maxLength: 12 }));
  fc.assert(
    fc.property(name, (text) => {
      const latin = Buffer.from(text).toString('latin1');
      const result = readHello(hello({ extensions: [serverName(latin)] }));
      if (result === 'more' || !isSound(result, null)) return false;
      return result.kind === 'hello' ? result.serverName === parseHost(latin) && result.serverName === latin.toLowerCase() : result.kind === 'invalid';
    }),
    { numRuns: 8_000 },
  );
});

function sameResult(one: 'more' | HelloResult, other: 'more' | HelloResult): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function isSound(result: 'more' | HelloResult, bytes: Buffer | null): boolean {
  if (result === 'more') return true;
  if (result.kind !== 'hello') return /^[\x20-\x7e]{1,400}$/.test(result.reason);
  const { serverName: name } = result;
  return (name === null || parseHost(name) === name) && (bytes === null || result.bytes <= bytes.length);
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
  const [, , , , node13, node12] = seeds;
  if (node13 === undefined || node12 === undefined) throw new Error('no seeds');
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
