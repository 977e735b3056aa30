/**
 * Writes messages on one connection: responses to a client, requests to an
 * upstream. What is written in one turn of the event loop leaves in one system
 * call, and a small content leaves in the same segment as its header section.
 */
import type { Duplex } from 'node:stream';
import type { RawFields } from './fields.ts';

/** Up to this much is copied behind its header section or into its chunk: cheaper than another buffer for the system. */
const COPIED = 4096;
/** `400\r\n` and the CRLF behind the chunk, at most. */
const CHUNK_OVERHEAD = 8 + 2 + 2;

function flush(writer: MessageWriter): void {
  writer.flush();
}

/** Writes messages to one socket, which it neither closes nor listens to. */
export class MessageWriter {
  readonly #socket: Duplex;
  /** Of a header section that waits for the content that may come in the same turn. */
  #head = '';
  #chunked = false;
  #corked = false;
  #scheduled = false;

  /** The socket stays the caller's. */
  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  /**
   * Begins a message. It leaves with its first content, or at the end of this turn.
   * @param head start line and field lines, each with its CRLF, and the empty line; Latin-1
   * @param chunked whether the content is written in chunks (RFC 9112 §7.1)
   */
  begin(head: string, chunked: boolean): void {
    this.#head = head;
    this.#chunked = chunked;
    this.#schedule();
  }

  /** Some content. @returns false: enough is waiting, and the socket emits 'drain' once it has left */
  write(content: Buffer): boolean {
    // A chunk of no bytes would be the last one (RFC 9112 §7.1).
    if (content.length === 0) return !this.#socket.writableNeedDrain;
    const head = this.#head;
    const line = this.#chunked ? `${content.length.toString(16)}\r\n` : '';
    // More chunks may come in this turn, and their end.
    if (this.#chunked) this.#cork();
    if (content.length <= COPIED) {
      this.#head = '';
      return this.#socket.write(joined(head, line, content));
    }
    this.#cork();
    this.#head = '';
    if (head !== '' || line !== '') this.#socket.write(head + line, 'latin1');
    const more = this.#socket.write(content);
    return (this.#chunked ? this.#socket.write('\r\n', 'latin1') : more) || this.#leaves();
  }

  /** As much waits as the socket wants to hold. @returns whether the system takes it at once: then there is nothing to wait for */
  #leaves(): boolean {
    this.flush();
    return this.#socket.writableLength === 0;
  }

  /** The content is complete. Trailers are written where there are chunks. */
  end(trailers: RawFields): void {
    let tail = '';
    if (this.#chunked) {
      tail = '0\r\n';
      for (let i = 0; i + 1 < trailers.length; i += 2) tail += `${trailers[i] ?? ''}: ${trailers[i + 1] ?? ''}\r\n`;
      tail += '\r\n';
    }
    const rest = this.#head + tail;
    this.#head = '';
    if (rest !== '') this.#socket.write(rest, 'latin1');
    this.flush();
  }

  /** Writes what waits now. */
  flush(): void {
    this.#scheduled = false;
    if (this.#head !== '') {
      this.#socket.write(this.#head, 'latin1');
      this.#head = '';
    }
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }

  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#socket.cork();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // TLS gives what one read brought record by record, each in a tick of its own: all of them come before this.
    setImmediate(flush, this);
  }
}

/** In one buffer; `line` is that of the chunk, and empty where there are none. */
function joined(head: string, line: string, content: Buffer): Buffer {
  if (head === '' && line === '') return content;
  const bytes = Buffer.allocUnsafe(head.length + content.length + (line === '' ? 0 : CHUNK_OVERHEAD));
  let at = bytes.write(head + line, 0, 'latin1');
  at += content.copy(bytes, at);
  if (line !== '') at += bytes.write('\r\n', at, 'latin1');
  return at === bytes.length ? bytes : bytes.subarray(0, at);
}

/** A header section as it stands on the wire; the fields have been validated where they were read. */
export function headText(startLine: string, fields: RawFields, more = ''): string {
  let text = `${startLine}\r\n`;
  for (let i = 0; i + 1 < fields.length; i += 2) text += `${fields[i] ?? ''}: ${fields[i + 1] ?? ''}\r\n`;
  return `${text}${more}\r\n`;
}
