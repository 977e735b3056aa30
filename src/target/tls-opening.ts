/**
 * Reads how TLS begins, in both directions, until the server has taken a
 * ClientHello: the first one, or one that it asked for (HelloRetryRequest,
 * RFC 8446 §4.1.4). Every hello that the server may take is shown; what would
 * let one pass unseen is `invalid`.
 */
import { ClientHelloReader, type HelloResult } from './client-hello.ts';
import { type ServerAnswer, ServerAnswerReader } from './server-answer.ts';

/** RFC 8446 §5.1. */
const RECORD_HEADER = 5;
const HANDSHAKE = 22;
/** What may come between two hellos: change_cipher_spec, alert, and early data (RFC 8446 §4.2.10, §5, §6). */
const OTHER_RECORDS: ReadonlySet<number> = new Set([20, 21, 23]);
const TLS_MAJOR = 3;

const NOTHING: Buffer = Buffer.alloc(0);

export class TlsOpening {
  /** Of the hello that is expected or under way; null: the server has not asked for another. */
  #reader: ClientHelloReader | null = new ClientHelloReader();
  /** Its first byte has come, or has to be the next. */
  #begun = true;
  /** Of the chunk in which it began, what came before it. */
  #prefix = NOTHING;
  #earlier = NOTHING;
  #hellos = 0;
  /** The client's record between two hellos: its header as far as it came, and the bytes that are still to come of it. */
  readonly #header = Buffer.alloc(RECORD_HEADER);
  #headerBytes = 0;
  #left = 0;
  readonly #server = new ServerAnswerReader();
  #answer: ServerAnswer = 'more';

  /** How many hellos have been read. */
  get hellos(): number {
    return this.#hellos;
  }

  /** No hello is under way, and the server has taken one: there is no more to see. */
  get settled(): boolean {
    return this.#hellos > 0 && this.#answer === 'answered' && (this.#reader === null || !this.#begun);
  }

  /** All that came in order before the last chunk and was answered with `more`. */
  get earlier(): Buffer {
    return this.#earlier;
  }

  /**
   * The client's next bytes. Never throws.
   * - `more`: they belong to a hello that is not complete.
   * - `none`: they have nothing of a hello.
   * - a result: the hello that ends in them, or what is wrong with them.
   */
  fromClient(chunk: Buffer): 'more' | 'none' | HelloResult {
    this.#earlier = NOTHING;
    let start = 0;
    if (this.#reader === null || !this.#begun) {
      const next = this.#skipRecords(chunk);
      if (typeof next === 'string') return invalid(next);
      if (next === chunk.length) return 'none';
      if (this.#reader === null) return invalid('a second handshake message follows the ClientHello before the server has answered');
      this.#begun = true;
      this.#prefix = chunk.subarray(0, next);
      start = next;
    }
    const reader = this.#reader;
    const result = reader.push(start === 0 ? chunk : chunk.subarray(start));
    if (result === 'more') return result;
    const before = reader.earlier;
    this.#earlier = start > 0 || this.#prefix.length === 0 ? before : Buffer.concat([this.#prefix, before]);
    this.#reader = null;
    this.#begun = false;
    this.#prefix = NOTHING;
    this.#hellos += 1;
    if (result.kind !== 'hello') return result;
    if (result.excess > 0) return invalid('the record of the ClientHello has another handshake message behind it');
    const rest = chunk.subarray(start + result.bytes - before.length);
    const next = this.#skipRecords(rest);
    if (typeof next === 'string') return invalid(next);
    return next === rest.length ? result : invalid('a second handshake message follows the ClientHello before the server has answered');
  }

  /** The server's next bytes. */
  fromServer(chunk: Buffer): ServerAnswer {
    const before = this.#answer;
    this.#answer = this.#server.push(chunk);
    if (this.#answer === 'retry' && before !== 'retry') this.#reader ??= new ClientHelloReader();
    return this.#answer;
  }

  /** @returns where in the chunk a handshake record begins, its length if none does, or what is wrong with it */
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
      if (type === undefined || !OTHER_RECORDS.has(type)) return 'what follows the ClientHello is no TLS record';
      const copied = chunk.copy(this.#header, this.#headerBytes, at, at + RECORD_HEADER - this.#headerBytes);
      this.#headerBytes += copied;
      at += copied;
      if (this.#headerBytes < RECORD_HEADER) break;
      if (this.#header[1] !== TLS_MAJOR) return 'what follows the ClientHello is no TLS record';
      this.#headerBytes = 0;
      this.#left = this.#header.readUInt16BE(RECORD_HEADER - 2);
    }
    return at;
  }
}

function invalid(reason: string): HelloResult {
  return { kind: 'invalid', reason };
}
