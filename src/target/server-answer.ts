/**
 * Finds out what a TLS server answered to a ClientHello: whether it takes that
 * one, or asks for another (HelloRetryRequest, RFC 8446 §4.1.4). Reads the
 * stream as it comes, however it is cut, and keeps no more of it than the
 * beginning of one message.
 */

/**
 * - `more`: not clear yet.
 * - `retry`: it asked for another ClientHello, and has not answered that one yet.
 * - `answered`: it takes no further ClientHello. What it sends from now on need not be read.
 * - `not-tls`: what it sends is no TLS.
 */
export type ServerAnswer = 'more' | 'retry' | 'answered' | 'not-tls';

/** RFC 8446 §5.1. */
const RECORD_HEADER = 5;
const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const TLS_MAJOR = 3;
/** RFC 8446 §5.2, the longest that TLS 1.2 allows included. */
const LONGEST_RECORD = (1 << 14) + 2048;
/** RFC 8446 §4: type and length; then, in a ServerHello, version and random. */
const MESSAGE_HEADER = 4;
const SERVER_HELLO = 2;
const RANDOM_START = MESSAGE_HEADER + 2;
const RANDOM_END = RANDOM_START + 32;
/** RFC 8446 §4.1.3: the SHA-256 of "HelloRetryRequest" where other ServerHellos have a random. */
const RETRY_RANDOM = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

export class ServerAnswerReader {
  readonly #header = Buffer.alloc(RECORD_HEADER);
  #headerBytes = 0;
  /** Bytes that the record under way still has. */
  #left = 0;
  /** Beginning of the handshake message under way; it may lie in several records, and a record may hold several. */
  readonly #message = Buffer.alloc(RANDOM_END);
  #messageBytes = 0;
  #answer: ServerAnswer = 'more';

  /** Takes the next bytes. `answered` and `not-tls` stay. Never throws. */
  push(chunk: Buffer): ServerAnswer {
    let at = 0;
    while (at < chunk.length && this.#answer !== 'answered' && this.#answer !== 'not-tls') {
      at += this.#left === 0 ? this.#readHeader(chunk, at) : this.#readRecord(chunk, at);
    }
    return this.#answer;
  }

  /** @returns how many bytes it took */
  #readHeader(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#header, this.#headerBytes, at);
    this.#headerBytes += taken;
    const type = this.#header.readUInt8(0);
    const known = type === HANDSHAKE || type === ALERT || type === CHANGE_CIPHER_SPEC;
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
    else if (this.#messageBytes >= RANDOM_END) this.#answer = this.#message.compare(RETRY_RANDOM, 0, RETRY_RANDOM.length, RANDOM_START, RANDOM_END) === 0 ? 'retry' : 'answered';
  }
}
