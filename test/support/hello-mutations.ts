/**
 * ClientHellos that are nearly right: those of real programs, changed in what
 * they say and in how they are cut. Made from a seed and a number, so that any
 * of a million can be made again alone.
 */
import { readFileSync } from 'node:fs';
import { alpn, ech, type Extension, grease, message, padding, records, serverName, unwrap, vector } from './hello.ts';
import { between, bytes, seeded } from './random.ts';

export interface HelloCase {
  readonly stream: Buffer;
  /** Lengths of the chunks it comes in, the last one again and again. */
  readonly cuts: readonly number[];
  /** What has to be read, where the changes left the hello a good one; undefined: anybody's guess. */
  readonly expected?: { readonly serverName: string | null; readonly ech: boolean };
}

type Random = () => number;

/** A hello in its parts (RFC 8446 §4.1.2), to be changed one by one. */
interface Parts {
  version: number;
  session: Buffer;
  suites: Buffer;
  compression: Buffer;
  extensions: Extension[] | null;
  rest: Buffer;
}

const KEY_SHARE = 51;
const SERVER_NAME = 0;
const ENCRYPTED = 0xfe0d;
/** From a lone X25519 to those that post-quantum drafts have brought, bytes. */
const SHARES = [32, 32, 32, 1216, 1216, 1665, 3200, 9000, 15_600, 17_000];

/** What programs sent to a port that only listened: name of the program, bytes. */
export const CAPTURED: ReadonlyMap<string, Buffer> = new Map(
  Object.entries(JSON.parse(readFileSync(new URL('captured-hellos.json', import.meta.url), 'utf8')) as Record<string, string>).map(([program, text]) => [program, Buffer.from(text, 'base64')]),
);

const originals = [...CAPTURED.values()].map((stream) => takeApart(unwrap(stream)));

function takeApart(handshake: Buffer): { parts: Parts; name: string | null } {
  let at = 38;
  const next = (width: 1 | 2): Buffer => {
    const start = at + width;
    at = start + handshake.readUIntBE(at, width);
    return handshake.subarray(start, at);
  };
  const [session, suites, compression] = [next(1), next(2), next(1)];
  const extensions: Extension[] = [];
  for (at += 2; at < handshake.length; ) {
    const type = handshake.readUInt16BE(at);
    at += 2;
    extensions.push([type, next(2)]);
  }
  const name = extensions.find(([type]) => type === SERVER_NAME)?.[1].toString('latin1', 5) ?? null;
  return { parts: { version: handshake.readUInt16BE(4), session, suites, compression, extensions, rest: Buffer.alloc(0) }, name };
}

const pick = <T>(random: Random, choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
const chance = (random: Random, of: number): boolean => random() * of < 1;

type Change = (parts: Parts, random: Random) => void;

const insert = (parts: Parts, random: Random, extension: Extension): void => {
  parts.extensions?.splice(between(random, 0, parts.extensions.length), 0, extension);
};

/** They leave a good hello good. */
const HARMLESS: readonly Change[] = [
  (parts, random) => parts.extensions?.sort(() => random() - 0.5),
  (parts, random) => {
    insert(parts, random, grease(0x0a0a + 0x1010 * between(random, 0, 15)));
  },
  (parts, random) => {
    insert(parts, random, padding(between(random, 0, 600)));
  },
  (parts, random) => {
    insert(parts, random, [between(random, 100, 0xfe00), bytes(random, between(random, 0, 40))]);
  },
  (parts, random) => {
    const share = Buffer.alloc(pick(random, SHARES), between(random, 0, 255));
    const entry = vector(2, Buffer.concat([Buffer.of(0x11, 0xec), vector(2, share)]));
    parts.extensions = (parts.extensions ?? []).map((extension) => (extension[0] === KEY_SHARE ? [KEY_SHARE, entry] : extension));
  },
  (parts, random) => {
    parts.session = bytes(random, between(random, 0, 32));
  },
  (parts, random) => {
    parts.suites = bytes(random, 2 * between(random, 1, 60));
  },
  (parts, random) => {
    parts.version = 0x0300 + between(random, 0, 4);
  },
  (parts, random) => {
    if (parts.extensions?.some(([type]) => type === ENCRYPTED) === false) insert(parts, random, ech);
  },
];

const NAMES: readonly ((random: Random) => Extension)[] = [
  () => serverName('a.example', 'b.example'),
  () => serverName(),
  () => serverName(''),
  () => serverName('127.0.0.1'),
  () => serverName('::1'),
  () => serverName('2130706433'),
  () => serverName('eco-sit.telus.internal.'),
  () => serverName('eco-sit.telus.internal\0.evil.example'),
  () => serverName('ECO-SIT.telus.INTERNAL'),
  () => serverName(Buffer.from('ｅco-sit.telus.internal')),
  (random) => serverName('a'.repeat(between(random, 60, 300))),
  (random) => serverName(bytes(random, between(random, 0, 300))),
  (random) => [SERVER_NAME, bytes(random, between(random, 0, 40))],
  () => [SERVER_NAME, vector(2, Buffer.concat([Buffer.of(1), vector(2, Buffer.from('a.example'))]))],
];

/** They may leave anything. */
const HARMFUL: readonly Change[] = [
  (parts, random) => {
    const name = pick(random, NAMES)(random);
    parts.extensions = (parts.extensions ?? []).map((extension) => (extension[0] === SERVER_NAME ? name : extension));
  },
  (parts, random) => {
    if (parts.extensions !== null && parts.extensions.length > 0) insert(parts, random, pick(random, parts.extensions));
  },
  (parts, random) => {
    parts.extensions?.splice(between(random, 0, parts.extensions.length), between(random, 0, 3));
  },
  (parts, random) => {
    insert(parts, random, padding(between(random, 10_000, 40_000)));
  },
  (parts, random) => {
    insert(parts, random, chance(random, 2) ? [16, bytes(random, between(random, 0, 20))] : alpn(...Array.from({ length: between(random, 0, 40) }, () => 'h2')));
  },
  (parts, random) => {
    parts.session = bytes(random, between(random, 30, 255));
  },
  (parts, random) => {
    parts.suites = bytes(random, between(random, 0, 9));
  },
  (parts, random) => {
    parts.compression = bytes(random, between(random, 0, 3));
  },
  (parts, random) => {
    parts.version = between(random, 0, 0xffff);
  },
  (parts, random) => {
    parts.rest = bytes(random, between(random, 1, 8));
  },
  (parts) => {
    parts.extensions = null;
  },
];

/** Bytes of a message changed blindly; its length in the header is made true again, most of the time. */
function blur(handshake: Buffer, random: Random): Buffer {
  let out = Buffer.from(handshake);
  for (let changes = between(random, 1, 4); changes > 0; changes -= 1) {
    const at = between(random, 0, out.length - 1);
    switch (between(random, 0, 7)) {
      case 0:
        out = out.subarray(0, at + 1);
        break;
      case 1:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + between(random, 1, 5))]);
        break;
      case 2:
        out = Buffer.concat([out.subarray(0, at), bytes(random, between(random, 1, 5)), out.subarray(at)]);
        break;
      case 3:
        // Lengths are where a parser errs: one more, one less, nothing, all there is.
        out[at] = pick(random, [0, 1, 0xff, ((out[at] ?? 0) + 1) & 0xff, ((out[at] ?? 0) + 255) & 0xff]);
        break;
      default:
        out[at] = between(random, 0, 255);
    }
    if (out.length === 0) return out;
  }
  if (out.length >= 4 && !chance(random, 5)) out.writeUIntBE(out.length - 4, 1, 3);
  return out;
}

/** Records in order, of one length or many. */
function wrap(handshake: Buffer, random: Random): Buffer {
  const version = 0x0300 + between(random, 0, 255);
  switch (between(random, 0, 3)) {
    case 0:
      return records(handshake, Array.from({ length: between(random, 1, 12) }, () => between(random, 1, 900)), version);
    case 1:
      // Byte after byte, each in a record of its own: of long hellos as much as their number allows.
      return records(handshake, [...Array.from({ length: between(random, 1, 500) }, () => 1), 16_384], version);
    default:
      return records(handshake, [16_384], version);
  }
}

/** Something between the records, or wrong with them. */
function disturb(stream: Buffer, random: Random): Buffer {
  const starts = [0];
  for (let at = 0; at + 5 <= stream.length && starts.length < 100; ) starts.push((at += 5 + stream.readUInt16BE(at + 3)));
  const at = Math.min(pick(random, starts), stream.length);
  const [before, after] = [stream.subarray(0, at), Buffer.from(stream.subarray(at))];
  const whole = (...middle: Buffer[]): Buffer => Buffer.concat([before, ...middle, after]);
  switch (between(random, 0, 5)) {
    case 0:
      return whole(Buffer.of(between(random, 20, 24), 3, 3, 0, 2), bytes(random, 2));
    case 1:
      return whole(Buffer.of(22, 3, 3, 0, 0));
    case 2:
      return whole(bytes(random, between(random, 1, 9)));
    case 3:
      after.set(bytes(random, Math.min(after.length, between(random, 1, 5))));
      return whole();
    case 4:
      return before;
    default:
      return Buffer.concat([stream, bytes(random, between(random, 1, 400))]);
  }
}

function chunks(stream: Buffer, random: Random): number[] {
  switch (between(random, 0, 5)) {
    case 0:
      return stream.length <= 700 || chance(random, 40) ? [1] : [...Array.from({ length: between(random, 1, 60) }, () => 1), 1460];
    case 1:
      return [between(random, 1, Math.max(1, stream.length - 1)), stream.length];
    case 2:
      return [between(random, 1, 40), between(random, 1, 40), stream.length];
    case 3:
      return [Math.max(1, stream.length - between(random, 1, 20)), 1];
    case 4:
      return [536, 1460];
    default:
      return Array.from({ length: between(random, 1, 12) }, () => (chance(random, 2) ? between(random, 1, 8) : between(random, 1, 3000)));
  }
}

/** The case of this number. */
export function makeHelloCase(seed: number, number: number): HelloCase {
  const random = seeded(Math.imul(seed + 1, 0x9e37_79b1) + Math.imul(number, 0x85eb_ca77));
  const kind = between(random, 0, 19);
  if (kind === 0) {
    const noise = bytes(random, between(random, 0, 300));
    if (chance(random, 2) && noise.length > 9) noise.set([22, 3, between(random, 0, 4), 0, between(random, 0, 255), 1, 0, 0, between(random, 0, 255)]);
    return { stream: noise, cuts: chunks(noise, random) };
  }
  const { parts: original, name } = pick(random, originals);
  const parts: Parts = { ...original, extensions: original.extensions === null ? null : [...original.extensions] };
  const isGood = kind <= 6;
  for (let changes = between(random, isGood ? 0 : 1, 3); changes > 0; changes -= 1) pick(random, isGood || chance(random, 3) ? HARMLESS : HARMFUL)(parts, random);
  // The list has a length of two bytes.
  while ((parts.extensions ?? []).reduce((sum, [, data]) => sum + 4 + data.length, 0) > 0xffff) parts.extensions?.pop();
  let handshake = message(parts);
  if (kind > 12) handshake = blur(handshake, random);
  let stream = wrap(handshake, random);
  if (kind > 6 && chance(random, 4)) stream = disturb(stream, random);
  const cuts = chunks(stream, random);
  return isGood ? { stream, cuts, expected: { serverName: name, ech: parts.extensions?.some(([type]) => type === ENCRYPTED) === true } } : { stream, cuts };
}
