/**
 * Reads the content of a message from its connection, by the framing declared
 * in its header section (RFC 9112 §6, §7).
 */
import { NO_FIELDS, readFields } from './fields.ts';
import { CR, HeadReader, LF, MessageError } from './head-reader.ts';
import type { RawFields } from './fields.ts';

/** How the end of the content is determined. `close`: by the end of the connection, which only a response may use. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' };

/** The message ends with its header section; compared by identity. */
export const NO_CONTENT: Framing = { kind: 'none' };
/** The chunked transfer coding (RFC 9112 §7.1). */
export const CHUNKED: Framing = { kind: 'chunked' };
/** A response whose content ends with the connection (RFC 9112 §6.3). */
export const UNTIL_CLOSE: Framing = { kind: 'close' };

/** Limits of a trailer section, and how strictly it is read. */
export interface BodyReaderOptions {
  /** Of the trailer section, bytes and fields. */
  readonly trailerBytes: number;
  readonly trailerFields: number;
  /** See `FieldRules`. */
  readonly lenient: boolean;
}

/** Receives the content, without its framing. It must not keep slices longer than needed: each is part of a read buffer. */
export type OnContent = (content: Buffer) => void;

/** Limit of one chunk's line, and of all chunk extensions of a message: they carry nothing, and cost work. */
const LONGEST_LINE = 1024;
const MOST_EXTENSION_BYTES = 16_384;
/** RFC 9112 §7.1, without its bad whitespace. Up to 13 digits behind the zeros: sizes beyond JavaScript's exact integers are an attack. */
const CHUNK_LINE =
  /^0*([0-9A-Fa-f]{1,13})((?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*)$/;
const LENIENT_CHUNK_LINE = /^0*([0-9A-Fa-f]{1,13})[\t ]*(;[\t\x20-\x7e\x80-\xff]*)?$/;

/** The next expected part. */
type Expects = 'content' | 'until-close' | 'chunk-line' | 'chunk' | 'chunk-end' | 'trailers' | 'nothing';

/** Reads the content of one message after the other on one connection; content is passed on, never kept. */
export class BodyReader {
  readonly #options: BodyReaderOptions;
  readonly #trailerReader: HeadReader;
  #expects: Expects = 'nothing';
  /** Of the content or the chunk, bytes. */
  #left = 0;
  #line = '';
  #extensionBytes = 0;
  #trailers = NO_FIELDS;

  constructor(options: BodyReaderOptions) {
    this.#options = options;
    this.#trailerReader = new HeadReader({ limit: options.trailerBytes, lenient: options.lenient, startLine: false });
  }

  /** The content is complete, its trailers too. */
  get done(): boolean {
    return this.#expects === 'nothing';
  }

  /** Trailers of the message that is complete. */
  get trailers(): RawFields {
    return this.#trailers;
  }

  /** Begins another message; the state of the previous one is dropped. */
  begin(framing: Framing): void {
    this.#trailers = NO_FIELDS;
    this.#trailerReader.clear();
    this.#line = '';
    this.#extensionBytes = 0;
    switch (framing.kind) {
      case 'none':
        this.#expects = 'nothing';
        break;
      case 'length':
        this.#left = framing.length;
        this.#expects = framing.length === 0 ? 'nothing' : 'content';
        break;
      case 'chunked':
        this.#expects = 'chunk-line';
        break;
      case 'close':
        this.#expects = 'until-close';
        break;
    }
  }

  /** The connection has ended. @returns whether that completes the content */
  end(): boolean {
    if (this.#expects === 'until-close') this.#expects = 'nothing';
    return this.done;
  }

  /**
   * The next bytes, from `start` on.
   * @returns the position of the first byte after this message
   * @throws {MessageError} framing, malformed or too-large
   */
  read(chunk: Buffer, start: number, onContent: OnContent): number {
    let at = start;
    while (at < chunk.length && this.#expects !== 'nothing') at = this.#step(chunk, at, onContent);
    return at;
  }

  #step(chunk: Buffer, at: number, onContent: OnContent): number {
    switch (this.#expects) {
      case 'until-close':
        onContent(at === 0 ? chunk : chunk.subarray(at));
        return chunk.length;
      case 'content':
      case 'chunk': {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#expects = this.#expects === 'chunk' ? 'chunk-end' : 'nothing';
        onContent(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
        return end;
      }
      case 'chunk-line':
        return this.#readLine(chunk, at, (line) => {
          this.#beginChunk(line);
        });
      case 'chunk-end':
        return this.#readLine(chunk, at, (line) => {
          if (line !== '') throw new MessageError('framing', 'a chunk is longer than its size says');
          this.#expects = 'chunk-line';
        });
      case 'trailers':
        return this.#readTrailers(chunk, at);
      case 'nothing':
        return at;
    }
  }

  #readLine(chunk: Buffer, at: number, onLine: (line: string) => void): number {
    const lf = chunk.indexOf(LF, at);
    const end = lf === -1 ? chunk.length : lf;
    const longest = this.#expects === 'chunk-end' ? 1 : LONGEST_LINE;
    if (this.#line.length + end - at > longest)
      throw new MessageError(
        'framing',
        this.#expects === 'chunk-end'
          ? 'a chunk is longer than its size says'
          : `the line before a chunk is longer than ${LONGEST_LINE} bytes`,
      );
    this.#line += chunk.toString('latin1', at, end);
    // Reported at once: no more bytes need follow.
    if (this.#expects === 'chunk-end' && this.#line !== '' && this.#line !== '\r')
      throw new MessageError('framing', 'a chunk is longer than its size says');
    if (lf === -1) return chunk.length;
    const line = this.#line;
    this.#line = '';
    const ended = line.charCodeAt(line.length - 1) === CR;
    // After a chunk, LF alone is ambiguous: for a chunk that is a byte shorter than its size, CR is content.
    if (!ended && (!this.#options.lenient || this.#expects === 'chunk-end'))
      throw new MessageError('framing', 'a line of the chunked coding ends in LF without CR');
    onLine(ended ? line.slice(0, -1) : line);
    return lf + 1;
  }

  #beginChunk(line: string): void {
    const [, size, extension = ''] = (this.#options.lenient ? LENIENT_CHUNK_LINE : CHUNK_LINE).exec(line) ?? [];
    if (size === undefined) throw new MessageError('framing', 'the size of a chunk is not a hexadecimal number');
    this.#extensionBytes += extension.length;
    if (this.#extensionBytes > MOST_EXTENSION_BYTES)
      throw new MessageError('framing', `the chunks have more than ${MOST_EXTENSION_BYTES} bytes of extensions`);
    this.#left = Number.parseInt(size, 16);
    this.#expects = this.#left === 0 ? 'trailers' : 'chunk';
  }

  /** Trailer fields and the empty line that ends the message; usually there are no fields. */
  #readTrailers(chunk: Buffer, at: number): number {
    const { lenient, trailerFields } = this.#options;
    if (!this.#trailerReader.pending) {
      // An immediate empty line, which the section reader would skip.
      if (this.#line === '' && chunk[at] === CR) {
        this.#line = '\r';
        return at + 1;
      }
      if (chunk[at] === LF && (this.#line === '\r' || lenient)) {
        this.#line = '';
        this.#expects = 'nothing';
        return at + 1;
      }
      if (this.#line !== '') throw new MessageError('framing', 'a CR without LF comes after the last chunk');
    }
    const section = this.#trailerReader.read(chunk, at);
    if (section === null) return chunk.length;
    // RFC 9110 §6.5.1: the end of the content was determined before it.
    this.#trailers = readFields(section.text, 0, { most: trailerFields, lenient }, (name) => {
      if (/^(?:content-length|transfer-encoding)$/i.test(name)) throw new MessageError('framing', `a trailer has ${name}`);
    });
    this.#expects = 'nothing';
    return section.next;
  }
}
