/**
 * Finds the TLS ClientHello at the beginning of a stream, however the stream is
 * split into chunks and the hello into records. Keeps the bytes read until
 * then, within a limit, so that they can be forwarded unchanged.
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
export const RECORD_HEADER = 5;
const HANDSHAKE_RECORD = 22;
/** First byte of the version in every record (RFC 8446 §5.1). */
export const TLS_MAJOR = 3;
const LONGEST_PLAINTEXT = 1 << 14;
/** RFC 8446 §4. */
export const MESSAGE_HEADER = 4;
const CLIENT_HELLO = 1;
const SMALLEST_STORE = 1024;

/** Where nothing has been kept. */
export const NO_BYTES: Buffer = Buffer.alloc(0);

/**
 * Reads one stream. Takes bounded time per byte in any fragmentation, and
 * copies nothing when the first chunk holds the whole hello in one record, as
 * most do. Holds at most twice `maximum`: the hello, and as many bytes of
 * record headers.
 */
export class ClientHelloReader {
  readonly #maximum: number;
  readonly #mostRecords: number;
  #store = NO_BYTES;
  #stored = 0;
  /** Bytes in the store that came with earlier chunks. */
  #earlier = 0;
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
    this.#earlier = this.#stored;
    const whole = this.#stored === 0;
    if (!whole) this.#keep(chunk);
    this.#result = this.#scan(whole ? chunk : this.#store.subarray(0, this.#stored));
    if (this.#result !== null) return this.#result;
    if (whole) this.#keep(chunk);
    return 'more';
  }

  /** All the bytes of the chunks before the last one, in order. Not to be changed. */
  get earlier(): Buffer {
    return this.#earlier === 0 ? NO_BYTES : this.#store.subarray(0, this.#earlier);
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
          if (this.#size > this.#maximum) return invalidHello(`the ClientHello is ${this.#size} bytes long, and at most ${this.#maximum} are read`);
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
        ? notTls(`the first byte is 0x${first.toString(16).padStart(2, '0')}, which does not begin a TLS handshake${first >= 0x80 ? '; an SSL 2.0 hello is not read' : ''}`)
        : invalidHello('the ClientHello is interrupted by another record');
    }
    // RFC 8446 §5.1: the minor version is to be ignored.
    const major = stream[record + 1];
    if (major !== undefined && major !== TLS_MAJOR) {
      return record === 0 ? notTls(`the second byte is 0x${major.toString(16).padStart(2, '0')}, which is not a TLS version`) : invalidHello('a record of the ClientHello is malformed');
    }
    if (stream.length < record + RECORD_HEADER) return null;
    const length = stream.readUInt16BE(record + 3);
    // RFC 8446 §5.1: a handshake record is neither empty nor longer than this.
    if (length === 0 || length > LONGEST_PLAINTEXT) return invalidHello(`a record of the ClientHello has ${length} bytes; 1 to ${LONGEST_PLAINTEXT} are allowed`);
    if (this.#records >= this.#mostRecords) return invalidHello(`the ClientHello is spread over more than ${this.#mostRecords} records`);
    return null;
  }

  #read(stream: Buffer, bytes: number, recordEnd: number): HelloResult {
    const message = readHelloMessage(gather(stream, this.#size).subarray(MESSAGE_HEADER));
    return typeof message === 'string' ? invalidHello(`the ClientHello ${message}`) : { kind: 'hello', ...message, bytes, excess: recordEnd - bytes };
  }
}

/** The first `size` bytes of the message, without the record headers between them; copied only if there are several records. */
function gather(stream: Buffer, size: number): Buffer {
  let from = RECORD_HEADER;
  let length = stream.readUInt16BE(from - 2);
  if (length >= size) return stream.subarray(from, from + size);
  const message = Buffer.allocUnsafe(size);
  for (let filled = 0; filled < size; ) {
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
export function invalidHello(reason: string): HelloResult {
  return { kind: 'invalid', reason };
}
