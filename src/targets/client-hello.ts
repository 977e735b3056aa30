/**
 * Finds the TLS ClientHello at the beginning of a stream, however the stream is
 * split into chunks and the hello into records. Keeps the bytes read until
 * then, within a limit, so that they can be forwarded unchanged. Of a
 * connection, it reads both directions until the server has accepted a hello.
 */
import { type HelloMessage, readHelloMessage } from './hello-message.ts';

/** What the beginning of a stream is. */
export type HelloResult =
  | (HelloMessage & {
      readonly kind: 'hello';
      /** Length of the hello in the stream, record headers included. Later bytes were not read. */
      readonly bytes: number;
      /** Bytes after it in its last record: another handshake message. */
      readonly excess: number;
    })
  /** `reason` is a sentence about the stream; safe to show, like that of `invalid`. */
  | { readonly kind: 'not-tls'; readonly reason: string }
  /** It began as TLS, but has no unambiguous ClientHello. */
  | { readonly kind: 'invalid'; readonly reason: string };

/** Limits of a `ClientHelloReader`. */
export interface ClientHelloOptions {
  /** Longest accepted ClientHello, bytes of the message. With post-quantum key shares it may be some 17 KiB long. */
  readonly maximum?: number;
}

const DEFAULT_MAXIMUM = 32 * 1024;
/** RFC 8446 §5.1. */
const RECORD_HEADER = 5;
const HANDSHAKE_RECORD = 22;
/** First byte of the version in every record (RFC 8446 §5.1). */
const TLS_MAJOR = 3;
const LONGEST_PLAINTEXT = 1 << 14;
/** RFC 8446 §4. */
const MESSAGE_HEADER = 4;
const CLIENT_HELLO = 1;
const SMALLEST_STORE = 1024;

/** Where nothing has been kept. */
const NO_BYTES: Buffer = Buffer.alloc(0);

/**
 * Reads one stream. Takes bounded time per byte in any fragmentation, and
 * copies nothing when the first chunk holds the whole hello in one record, as
 * most do. Holds at most twice `maximum`: the hello, and as many bytes of
 * record headers.
 */
export class ClientHelloReader {
  /** All the bytes of the chunks before the last one, in order. Not to be changed. */
  earlier: Buffer = NO_BYTES;
  readonly #maximum: number;
  readonly #mostRecords: number;
  #store = NO_BYTES;
  #stored = 0;
  /** Position in the stream of the first incomplete record. */
  #record = 0;
  #records = 0;
  /** Bytes of the message in the records before it. */
  #gathered = 0;
  /** Length of the message with its header; 0: not known yet. */
  #size = 0;
  #result: HelloResult | null = null;

  constructor({ maximum = DEFAULT_MAXIMUM }: ClientHelloOptions = {}) {
    this.#maximum = maximum;
    this.#mostRecords = Math.floor(maximum / RECORD_HEADER);
  }

  /**
   * Takes the next bytes of the stream. Bytes that are kept are copied. A
   * result is final. Never throws.
   */
  push(chunk: Buffer): 'more' | HelloResult {
    if (this.#result !== null) return this.#result;
    const before = this.#stored;
    const whole = before === 0;
    if (!whole) this.#keep(chunk);
    this.earlier = whole ? NO_BYTES : this.#store.subarray(0, before);
    this.#result = this.#scan(whole ? chunk : this.#store.subarray(0, this.#stored));
    if (this.#result !== null) return this.#result;
    if (whole) this.#keep(chunk);
    return 'more';
  }

  /** How many bytes it occupies. */
  get capacity(): number {
    return this.#store.length;
  }

  /** Keeps no more of a chunk than a decision can need: within twice the maximum there always is one. */
  #keep(chunk: Buffer): void {
    const limit = 2 * this.#maximum;
    const end = Math.min(this.#stored + chunk.length, limit);
    if (end > this.#store.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(limit, Math.max(end, 2 * this.#store.length, SMALLEST_STORE)));
      this.#store.copy(larger, 0, 0, this.#stored);
      this.#store = larger;
    }
    chunk.copy(this.#store, this.#stored, 0, end - this.#stored);
    this.#stored = end;
  }

  /** Each check is made at the first byte that decides it, so the result is the same for every fragmentation. */
  #scan(stream: Buffer): HelloResult | null {
    for (;;) {
      const record = this.#record;
      const fault = this.#checkHeader(stream, record);
      if (fault !== null) return fault;
      const start = record + RECORD_HEADER;
      if (stream.length <= start) return null;
      const length = stream.readUInt16BE(start - 2);
      const gathered = this.#gathered + Math.min(length, stream.length - start);
      if (this.#size === 0) {
        if (this.#gathered === 0 && stream[start] !== CLIENT_HELLO) return invalidHello('the first handshake message is not a ClientHello');
        if (gathered >= MESSAGE_HEADER) {
          this.#size = MESSAGE_HEADER + gather(stream, MESSAGE_HEADER).readUIntBE(1, 3);
          if (this.#size > this.#maximum)
            return invalidHello(`the ClientHello is ${this.#size} bytes long, and at most ${this.#maximum} are read`);
        }
      }
      if (this.#size > 0 && gathered >= this.#size) return this.#read(stream, start + this.#size - this.#gathered, start + length);
      if (stream.length < start + length) return null;
      this.#gathered = gathered;
      this.#records += 1;
      this.#record = start + length;
    }
  }

  #checkHeader(stream: Buffer, record: number): HelloResult | null {
    const first = stream[record];
    if (first !== undefined && first !== HANDSHAKE_RECORD) {
      return record === 0
        ? notTls(
            `the first byte is 0x${first.toString(16).padStart(2, '0')}, which does not begin a TLS handshake${first >= 0x80 ? '; an SSL 2.0 hello is not read' : ''}`,
          )
        : invalidHello('the ClientHello is interrupted by another record');
    }
    // RFC 8446 §5.1: the minor version is to be ignored.
    const major = stream[record + 1];
    if (major !== undefined && major !== TLS_MAJOR) {
      return record === 0
        ? notTls(`the second byte is 0x${major.toString(16).padStart(2, '0')}, which is not a TLS version`)
        : invalidHello('a record of the ClientHello is malformed');
    }
    if (stream.length < record + RECORD_HEADER) return null;
    const length = stream.readUInt16BE(record + 3);
    // RFC 8446 §5.1: a handshake record is neither empty nor longer than this.
    if (length === 0 || length > LONGEST_PLAINTEXT)
      return invalidHello(`a record of the ClientHello has ${length} bytes; 1 to ${LONGEST_PLAINTEXT} are allowed`);
    if (this.#records >= this.#mostRecords) return invalidHello(`the ClientHello is spread over more than ${this.#mostRecords} records`);
    return null;
  }

  #read(stream: Buffer, bytes: number, recordEnd: number): HelloResult {
    const message = readHelloMessage(gather(stream, this.#size).subarray(MESSAGE_HEADER));
    return typeof message === 'string'
      ? invalidHello(`the ClientHello ${message}`)
      : { kind: 'hello', ...message, bytes, excess: recordEnd - bytes };
  }
}

/** The first `size` bytes of the message, without the record headers between them; copied only if there are several records. */
function gather(stream: Buffer, size: number): Buffer {
  let from = RECORD_HEADER;
  let length = stream.readUInt16BE(from - 2);
  if (length >= size) return stream.subarray(from, from + size);
  const message = Buffer.allocUnsafe(size);
  for (let filled = 0; filled < size;) {
    filled += stream.copy(message, filled, from, from + Math.min(length, size - filled));
    from += length + RECORD_HEADER;
    if (filled < size) length = stream.readUInt16BE(from - 2);
  }
  return message;
}

function notTls(reason: string): HelloResult {
  return { kind: 'not-tls', reason };
}

/** The result for a stream that began as TLS and cannot be parsed. @param reason a sentence that is safe to show */
function invalidHello(reason: string): HelloResult {
  return { kind: 'invalid', reason };
}

// The start of TLS in both directions, until the server has accepted a
// ClientHello: the first one, or one that it asked for (HelloRetryRequest, RFC
// 8446 §4.1.4). Every hello that the server may accept is returned; anything
// that could hide one is `invalid`.

const HANDSHAKE = 22;
/** What may come between two hellos: change_cipher_spec, alert, and early data (RFC 8446 §4.2.10, §5, §6). */
const OTHER_RECORDS: ReadonlySet<number> = new Set([20, 21, 23]);

/** Watches both directions of one connection. It reads bytes and changes none; it has nothing to close. */
export class TlsOpening {
  /** How many hellos have been read. */
  hellos = 0;
  /** All bytes before the last chunk that were answered with `more`, in order. */
  earlier = NO_BYTES;
  /** State of the expected or current hello; null: the server has not asked for another. */
  #reader: ClientHelloReader | null = new ClientHelloReader();
  /** Its first byte has come, or has to be the next. */
  #begun = true;
  /** Bytes that came before it in its first chunk. */
  #prefix = NO_BYTES;
  /** The client's record between two hellos: its header as far as received, and the number of its bytes still to come. */
  #header = NO_BYTES;
  #headerBytes = 0;
  #left = 0;
  #server: ServerAnswerReader | null = null;
  #answer: ServerAnswer = 'more';

  /** No hello is in progress, and the server has accepted one: there is no more to read. */
  get settled(): boolean {
    return this.hellos > 0 && this.#answer === 'answered' && (this.#reader === null || !this.#begun);
  }

  /**
   * The client's next bytes. Never throws.
   * - `more`: they belong to a hello that is not complete.
   * - `none`: they contain no part of a hello.
   * - a result: the hello that ends in them, or the error in them.
   */
  fromClient(chunk: Buffer): 'more' | 'none' | HelloResult {
    this.earlier = NO_BYTES;
    let start = 0;
    if (this.#reader === null || !this.#begun) {
      const next = this.#skipRecords(chunk);
      if (typeof next === 'string') return invalidHello(next);
      if (next === chunk.length) return 'none';
      if (this.#reader === null) return invalidHello('a second handshake message follows the ClientHello before the server has answered');
      this.#begun = true;
      this.#prefix = chunk.subarray(0, next);
      start = next;
    }
    const reader = this.#reader;
    const result = reader.push(start === 0 ? chunk : chunk.subarray(start));
    if (result === 'more') return result;
    const before = reader.earlier;
    this.earlier = start > 0 || this.#prefix.length === 0 ? before : Buffer.concat([this.#prefix, before]);
    this.#reader = null;
    this.#begun = false;
    this.#prefix = NO_BYTES;
    this.hellos += 1;
    if (result.kind !== 'hello') return result;
    if (result.excess > 0) return invalidHello('the record of the ClientHello has another handshake message behind it');
    const rest = chunk.subarray(start + result.bytes - before.length);
    const next = this.#skipRecords(rest);
    if (typeof next === 'string') return invalidHello(next);
    return next === rest.length
      ? result
      : invalidHello('a second handshake message follows the ClientHello before the server has answered');
  }

  /** The server's next bytes. */
  fromServer(chunk: Buffer): ServerAnswer {
    const before = this.#answer;
    this.#server ??= new ServerAnswerReader();
    this.#answer = this.#server.push(chunk);
    if (this.#answer === 'retry' && before !== 'retry') this.#reader ??= new ClientHelloReader();
    return this.#answer;
  }

  /** @returns the position of a handshake record in the chunk, its length if there is none, or the error */
  #skipRecords(chunk: Buffer): number | string {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      const type = this.#headerBytes === 0 ? chunk[at] : this.#header[0];
      if (this.#headerBytes === 0 && type === HANDSHAKE) return at;
      if (type === undefined || !OTHER_RECORDS.has(type)) return 'what follows the ClientHello is not a TLS record';
      if (this.#header.length === 0) this.#header = Buffer.allocUnsafe(RECORD_HEADER);
      const copied = chunk.copy(this.#header, this.#headerBytes, at, at + RECORD_HEADER - this.#headerBytes);
      this.#headerBytes += copied;
      at += copied;
      if (this.#headerBytes < RECORD_HEADER) break;
      if (this.#header[1] !== TLS_MAJOR) return 'what follows the ClientHello is not a TLS record';
      this.#headerBytes = 0;
      this.#left = this.#header.readUInt16BE(RECORD_HEADER - 2);
    }
    return at;
  }
}

/**
 * - `more`: not clear yet.
 * - `retry`: it asked for another ClientHello, and has not answered that one yet.
 * - `answered`: it accepts no further ClientHello. Further bytes need not be read.
 * - `not-tls`: it does not send TLS.
 */
type ServerAnswer = 'more' | 'retry' | 'answered' | 'not-tls';
const CHANGE_CIPHER_SPEC = 20;
const ALERT_RECORD = 21;
/** RFC 8446 §5.2, the longest that TLS 1.2 allows included. */
const LONGEST_RECORD = (1 << 14) + 2048;
const SERVER_HELLO = 2;
/** RFC 8446 §4.1.3: after type, length and version. */
const RANDOM_START = MESSAGE_HEADER + 2;
const RANDOM_END = RANDOM_START + 32;
/** RFC 8446 §4.1.3: the SHA-256 of "HelloRetryRequest" where other ServerHellos have a random. */
const RETRY_RANDOM = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

/**
 * Determines a TLS server's answer to a ClientHello: whether it accepts that
 * one, or asks for another (HelloRetryRequest, RFC 8446 §4.1.4). Reads the
 * stream in any fragmentation, and keeps only the beginning of one message.
 */
export class ServerAnswerReader {
  readonly #header = Buffer.allocUnsafe(RECORD_HEADER);
  #headerBytes = 0;
  /** Remaining bytes of the current record. */
  #left = 0;
  /** Beginning of the current handshake message; it may span several records, and a record may hold several. */
  readonly #message = Buffer.allocUnsafe(RANDOM_END);
  #messageBytes = 0;
  #answer: ServerAnswer = 'more';

  /** Takes the next bytes. `answered` and `not-tls` are final. Never throws. */
  push(chunk: Buffer): ServerAnswer {
    let at = 0;
    while (at < chunk.length && this.#answer !== 'answered' && this.#answer !== 'not-tls') {
      at += this.#left === 0 ? this.#readHeader(chunk, at) : this.#readRecord(chunk, at);
    }
    return this.#answer;
  }

  /** @returns how many bytes it consumed */
  #readHeader(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#header, this.#headerBytes, at);
    this.#headerBytes += taken;
    const type = this.#header.readUInt8(0);
    const known = type === HANDSHAKE || type === ALERT_RECORD || type === CHANGE_CIPHER_SPEC;
    if (!known || (this.#headerBytes > 1 && this.#header.readUInt8(1) !== TLS_MAJOR)) this.#answer = 'not-tls';
    if (this.#headerBytes < RECORD_HEADER) return taken;
    this.#headerBytes = 0;
    this.#left = this.#header.readUInt16BE(3);
    if (this.#left === 0 || this.#left > LONGEST_RECORD) this.#answer = 'not-tls';
    return taken;
  }

  #readRecord(chunk: Buffer, at: number): number {
    const length = Math.min(this.#left, chunk.length - at);
    const taken = this.#header.readUInt8(0) === HANDSHAKE ? this.#readMessage(chunk, at, length) : length;
    this.#left -= taken;
    return taken;
  }

  #readMessage(chunk: Buffer, at: number, length: number): number {
    const kept = Math.min(this.#messageBytes, RANDOM_END);
    const size = kept < MESSAGE_HEADER ? MESSAGE_HEADER : this.#sizeOf();
    const taken = Math.min(length, size - this.#messageBytes);
    if (kept < RANDOM_END) chunk.copy(this.#message, kept, at, at + Math.min(taken, RANDOM_END - kept));
    this.#messageBytes += taken;
    if (this.#messageBytes < MESSAGE_HEADER) return taken;
    if (this.#message.readUInt8(0) === SERVER_HELLO) this.#readServerHello();
    if (this.#messageBytes >= this.#sizeOf()) this.#messageBytes = 0;
    return taken;
  }

  #sizeOf(): number {
    return MESSAGE_HEADER + this.#message.readUIntBE(1, 3);
  }

  #readServerHello(): void {
    if (this.#sizeOf() < RANDOM_END) this.#answer = 'not-tls';
    else if (this.#messageBytes >= RANDOM_END)
      this.#answer = this.#message.compare(RETRY_RANDOM, 0, RETRY_RANDOM.length, RANDOM_START, RANDOM_END) === 0 ? 'retry' : 'answered';
  }
}
