/** Parses a whole TLS ClientHello message: the name it asks for, and other values that a proxy may need. */
import { isIPv4 } from 'node:net';
import { parseHost } from './host.ts';
import { quote } from './quote.ts';

/** The content of a ClientHello (RFC 8446 §4.1.2). */
export interface HelloMessage {
  /** 32 bytes as Latin-1 text: unique per handshake, except for the two hellos of one (RFC 8446 §4.1.2). */
  readonly random: string;
  /** Canonical (targets/host.ts); null: no server_name extension. */
  readonly serverName: string | null;
  /** encrypted_client_hello is present: the server may see another name. */
  readonly ech: boolean;
}

/** RFC 6066 §3, and TLS Encrypted Client Hello in the version that browsers use. */
const SERVER_NAME = 0;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

const HOST_NAME = 0;
const VERSION_BYTES = 2;
/** Version and random. */
const FIXED_PART = VERSION_BYTES + 32;
const LONGEST_SESSION_ID = 32;
/** A name of 253 characters and a final dot, so that the error can say what is wrong. */
const LONGEST_SERVER_NAME = 254;

/** Walks through the vectors of a message (RFC 8446 §3.4), each preceded by its length. */
class Cursor {
  readonly #bytes: Buffer;
  #offset: number;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  isDone(): boolean {
    return this.#offset === this.#bytes.length;
  }

  /** The next number of one or two bytes; null at the end of the bytes. */
  number(width: 1 | 2): number | null {
    const start = this.#offset;
    if (start + width > this.#bytes.length) return null;
    this.#offset = start + width;
    return this.#bytes.readUIntBE(start, width);
  }

  /** The bytes after the next length, not copied; null at the end of the bytes. */
  vector(width: 1 | 2): Buffer | null {
    const length = this.number(width);
    if (length === null || this.#offset + length > this.#bytes.length) return null;
    const start = this.#offset;
    this.#offset = start + length;
    return this.#bytes.subarray(start, this.#offset);
  }
}

/**
 * Parses the body of a ClientHello (RFC 8446 §4.1.2), without its four bytes of
 * handshake header. For an invalid one it returns the reason, as the rest of a
 * sentence that began with "the ClientHello". Unknown extensions, GREASE (RFC
 * 8701) among them, are skipped. Never throws.
 */
export function readHelloMessage(body: Buffer): HelloMessage | string {
  if (body.length < FIXED_PART) return 'ends within its version and random';
  // legacy_version; 3 is the major version of SSL 3.0 and of every TLS.
  if (body[0] !== 3) return 'has a version that is neither SSL 3.0 nor TLS';
  const cursor = new Cursor(body, FIXED_PART);
  const session = cursor.vector(1);
  if (session === null || session.length > LONGEST_SESSION_ID) return 'has a malformed session id';
  const suites = cursor.vector(2);
  if (suites === null || suites.length === 0 || suites.length % 2 !== 0) return 'has a malformed list of cipher suites';
  const compression = cursor.vector(1);
  if (compression === null || compression.length === 0) return 'has a malformed list of compression methods';
  // Before TLS 1.3 it may end here (RFC 5246 §7.4.1.2).
  const random = body.toString('latin1', VERSION_BYTES, FIXED_PART);
  if (cursor.isDone()) return { random, serverName: null, ech: false };
  const extensions = cursor.vector(2);
  if (extensions === null || !cursor.isDone()) return 'has extensions that do not end where it ends';
  const read = readExtensions(extensions);
  return typeof read === 'string' ? read : { random, ...read };
}

function readExtensions(extensions: Buffer): Omit<HelloMessage, 'random'> | string {
  const cursor = new Cursor(extensions, 0);
  let name: Buffer | null = null;
  let ech = false;
  while (!cursor.isDone()) {
    const type = cursor.number(2);
    const data = cursor.vector(2);
    if (type === null || data === null) return 'has an extension that does not end where its list ends';
    // RFC 8446 §4.2: one of each type. Of two names, two parsers could each take another.
    if (type === SERVER_NAME) {
      if (name !== null) return 'has two server_name extensions';
      name = data;
    } else if (type === ENCRYPTED_CLIENT_HELLO) {
      if (ech) return 'has two encrypted_client_hello extensions';
      ech = true;
    }
  }
  if (name === null) return { serverName: null, ech };
  const read = readSniExtension(name);
  return typeof read === 'string' ? read : { ...read, ech };
}

/**
 * RFC 6066 §3: one host_name, in ASCII, without final dot, never an address.
 * Nothing is repaired here: the bytes are forwarded unchanged, and servers
 * differ in how they treat such a name.
 */
function readSniExtension(data: Buffer): { readonly serverName: string } | string {
  const outer = new Cursor(data, 0);
  const list = outer.vector(2);
  if (list === null || !outer.isDone()) return 'has a malformed server_name extension';
  const entries = new Cursor(list, 0);
  const type = entries.number(1);
  const bytes = entries.vector(2);
  if (type === null || bytes === null) return 'has a malformed server_name extension';
  if (type !== HOST_NAME) return 'has a server_name of a type other than host_name';
  if (!entries.isDone()) return 'has more than one entry in its server_name extension';
  if (bytes.length > LONGEST_SERVER_NAME) return `names a server with ${bytes.length} characters, which no host name has`;
  const text = bytes.toString('latin1');
  const name = parseHost(text);
  if (name === null) return `names the server ${quote(text)}, which is not a host name`;
  if (text.endsWith('.')) return `names the server ${quote(text)}, with a final dot, which RFC 6066 rules out`;
  if (isIPv4(name) || name.includes(':')) return `names the server ${quote(text)}, an address, which RFC 6066 rules out`;
  return { serverName: name };
}
