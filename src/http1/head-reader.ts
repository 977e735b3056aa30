/**
 * Collects the bytes of a header section until it is complete. Until then only
 * its bytes are kept, so an unfinished section can cost no more than its limit.
 */

/** Carriage return, the byte. */
export const CR = 0x0d;
/** Line feed, the byte. */
export const LF = 0x0a;
const NO_HEAD = Buffer.alloc(0);
/** With the end of the preceding line. */
const EMPTY_LINE = Buffer.from('\r\n\r\n');

/** Limits of a section. */
export interface HeadReaderOptions {
  /** Longest section, bytes. */
  readonly limit: number;
  /** Lines may end in LF alone (RFC 9112 §2.2), as in responses. */
  readonly lenient: boolean;
  /** It begins with a start line: one that exceeds the limit by itself is `target-too-long`. */
  readonly startLine: boolean;
}

/** Collects one header or trailer section after the other on one connection. */
export class HeadReader {
  readonly #options: HeadReaderOptions;
  /** Grows by doubling, so that single bytes cost no more in total than one large chunk. */
  #held = NO_HEAD;
  #length = 0;
  /** How many of them have been searched for the end. */
  #searched = 0;

  constructor(options: HeadReaderOptions) {
    this.#options = options;
  }

  /** Part of a section has come. */
  get pending(): boolean {
    return this.#length > 0;
  }

  /** More has come than what may become an empty line. */
  get begun(): boolean {
    return this.#length > 1 || (this.#length === 1 && this.#held[0] !== CR);
  }

  /** The bytes so far, for callers that detect the protocol. */
  get bytes(): Buffer {
    return this.#held.subarray(0, this.#length);
  }

  /**
   * The next bytes, from `start` on. Empty lines before the first line are skipped (RFC 9112 §2.2).
   * @returns the section without the empty line that ends it, and the position of the next byte in `chunk`; null:
   * incomplete
   * @throws {MessageError} too-large, target-too-long, or malformed for a line that ends in LF alone where that is not
   * accepted
   */
  read(chunk: Buffer, start: number): { readonly text: string; readonly next: number } | null {
    let at = start;
    // The rest of an empty line: what follows begins as if it had come alone.
    if (this.#length === 1 && this.#held[0] === CR && chunk[at] === LF) {
      this.clear();
      at += 1;
    }
    if (this.#length === 0) {
      at = this.#skipEmptyLines(chunk, at);
      // Usually a section comes in one piece.
      const end = this.#findEnd(chunk, at, at);
      if (end !== -1) {
        this.#checkSize(chunk, at, end);
        return { text: chunk.toString('latin1', at, end), next: afterEmptyLine(chunk, end) };
      }
    }
    if (at === chunk.length) return null;
    const before = this.#length;
    this.#keep(chunk, at);
    const held = this.bytes;
    const end = this.#findEnd(held, this.#searched, 0);
    if (end === -1) {
      this.#searched = this.#length;
      // As long as these may be the last bytes and the empty line, it is not too large.
      if (this.#length === this.#options.limit + EMPTY_LINE.length) this.#checkSize(held, 0, this.#length);
      return null;
    }
    this.#checkSize(held, 0, end);
    const next = at + afterEmptyLine(held, end) - before;
    const text = held.toString('latin1', 0, end);
    this.clear();
    return { text, next };
  }

  /** Drops the bytes collected so far. */
  clear(): void {
    this.#held = NO_HEAD;
    this.#length = 0;
    this.#searched = 0;
  }

  #skipEmptyLines(chunk: Buffer, start: number): number {
    let at = start;
    for (;;) {
      if (chunk[at] === CR && chunk[at + 1] === LF) at += 2;
      else if (chunk[at] === LF && this.#options.lenient) at += 1;
      else return at;
    }
  }

  /**
   * Where the last line before the empty one ends, its own line end excluded; -1: not here.
   * @param searched up to here it was not found; its first part may lie before this position
   */
  #findEnd(bytes: Buffer, searched: number, start: number): number {
    const from = Math.max(start, searched - 3);
    if (!this.#options.lenient) {
      const end = bytes.indexOf(EMPTY_LINE, from);
      if (end === -1) refuseBareLf(bytes, searched);
      return end;
    }
    for (let lf = bytes.indexOf(LF, from); lf !== -1; lf = bytes.indexOf(LF, lf + 1)) {
      const next = lf + 1;
      if (bytes[next] === LF || (bytes[next] === CR && bytes[next + 1] === LF)) return bytes[lf - 1] === CR ? lf - 1 : lf;
    }
    return -1;
  }

  #keep(chunk: Buffer, from: number): void {
    const wanted = this.#length + chunk.length - from;
    // Beyond the limit, only the fact that there is more matters.
    const most = this.#options.limit + EMPTY_LINE.length;
    const length = Math.min(wanted, most);
    if (length > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(length, this.#held.length * 2, 256), most));
      this.#held.copy(grown, 0, 0, this.#length);
      this.#held = grown;
    }
    chunk.copy(this.#held, this.#length, from, from + length - this.#length);
    this.#length = length;
  }

  #checkSize(bytes: Buffer, start: number, end: number): void {
    const { limit, startLine } = this.#options;
    if (end - start <= limit) return;
    const firstLine = bytes.indexOf(LF, start) - start;
    if (startLine && (firstLine < 0 || firstLine > limit))
      throw new MessageError('target-too-long', `the first line is longer than ${limit} bytes`);
    throw new MessageError('too-large', `the ${startLine ? 'header' : 'trailer'} section is larger than ${limit} bytes`);
  }
}

/** The position after the empty line; `end` is the end of the line before it. */
function afterEmptyLine(bytes: Buffer, end: number): number {
  let at = end;
  for (let lines = 0; lines < 2; lines += 1) {
    if (bytes[at] === CR) at += 1;
    at += 1;
  }
  return at;
}

/** Reported at once: a client that ends lines so would wait for an answer. */
function refuseBareLf(bytes: Buffer, from: number): void {
  for (let lf = bytes.indexOf(LF, from); lf !== -1; lf = bytes.indexOf(LF, lf + 1)) {
    if (bytes[lf - 1] !== CR) throw new MessageError('malformed', 'a line ends in LF without CR');
  }
}

// Errors of an HTTP/1.1 message, from either side.

/**
 * - `malformed`: not the grammar of RFC 9112.
 * - `framing`: the end of the message is ambiguous or unknown.
 * - `too-large`: a limit on the header section.
 * - `target-too-long`: the request line alone is over that limit.
 */
export type MessageFlaw = 'malformed' | 'framing' | 'too-large' | 'target-too-long';

/** Thrown by the message readers. Its text may quote what was sent; every writer escapes it for its own medium. */
export class MessageError extends Error {
  override readonly name = 'MessageError';
  readonly flaw: MessageFlaw;
  /** Status of the faulty response, if that much could be parsed. */
  status: number | null = null;

  constructor(flaw: MessageFlaw, detail: string) {
    super(detail);
    this.flaw = flaw;
  }
}
