/**
 * Writes messages on one connection: responses to a client, requests to an
 * upstream. Everything written in one turn of the event loop is sent in one
 * system call: header section, content and chunk framing are assembled in one
 * buffer, the outbox, which all connections use in turn.
 */
import type { Duplex } from 'node:stream';
import type { RawFields } from './fields.ts';

/** The largest read with its header section, twice: it is written once it exceeds what a socket holds (64 KiB). */
const OUTBOX_SIZE = 131_072;
/** With less room than this the outbox gets other memory, bytes. */
const LEAST_ROOM = 32_768;
/** Most memory kept for it besides, in blocks of the size of the outbox. */
const MOST_SPARE = 8;
/** While a socket takes nothing, less than this is gathered, bytes: each write that waits costs some 200 bytes besides its own. */
const GATHERED = 4_096;

/** Memory of the outbox. It is used again once everything written from it has been sent. */
class Block {
  readonly memory = Buffer.allocUnsafeSlow(OUTBOX_SIZE);
  /** Writes whose end has not been reported yet. */
  writes = 0;
  /** Something written from it is still to be sent, and its end is not reported: it is left to the garbage collector. */
  lost = false;

  readonly onWritten = (): void => {
    this.writes -= 1;
    if (!this.free) return;
    if (this !== outbox.block) {
      if (spare.length < MOST_SPARE) spare.push(this);
    } else if (outbox.sender === null) outbox.start = outbox.end = 0;
  };

  get free(): boolean {
    return this.writes === 0 && !this.lost;
  }
}

const spare: Block[] = [];
/** Pending bytes are between `start` and `end`; before them are bytes that sockets have yet to send. */
const outbox = {
  block: new Block(),
  start: 0,
  end: 0,
  /** The writer that the bytes belong to. */
  sender: null as MessageWriter | null,
  /** It is flushed at the end of this turn. */
  scheduled: false,
};

function flushSender(): void {
  outbox.scheduled = false;
  outbox.sender?.settle();
}

/** The outbox belongs to this writer from here on, and its bytes are sent at the end of the turn at the latest. @returns the room left, bytes */
function roomFor(writer: MessageWriter): number {
  if (outbox.sender !== writer) {
    outbox.sender?.settle();
    outbox.sender = writer;
    // TLS emits one read record by record, each in its own tick: all of them come before this.
    if (!outbox.scheduled) {
      outbox.scheduled = true;
      setImmediate(flushSender);
    }
  }
  return OUTBOX_SIZE - outbox.end;
}

/** Writes messages to one socket, which it neither closes nor listens to. */
export class MessageWriter {
  readonly #socket: Duplex;
  readonly #late: boolean;
  #chunked = false;
  /** A write behind others waits, and its end will be reported: little bytes are gathered until then. */
  #waits = false;
  #gathered: Buffer | null = null;
  #length = 0;

  /**
   * The socket stays the caller's.
   * @param late the socket never takes bytes at once, as TLS does not: its reports of writes are worth waiting for.
   * To ask a plain socket for them costs a tick for each write.
   */
  constructor(socket: Duplex, late = false) {
    this.#socket = socket;
    this.#late = late;
  }

  /**
   * Begins a message. It is sent with its first content, or at the end of this
   * turn.
   * @param head start line and field lines, each with its CRLF, and the empty line; Latin-1
   * @param chunked whether the content is written in chunks (RFC 9112 §7.1)
   */
  begin(head: string, chunked: boolean): void {
    this.#chunked = chunked;
    this.#addText(head);
  }

  /**
   * Some content. It is copied: its memory is the caller's again after the call.
   * @returns false: enough is pending, and the socket emits 'drain' once it has been
   * sent
   */
  write(content: Buffer): boolean {
    // An empty chunk would be the last one (RFC 9112 §7.1).
    if (content.length > 0) {
      if (this.#chunked) this.#addText(`${content.length.toString(16)}\r\n`);
      this.#addBytes(content);
      if (this.#chunked) this.#addText('\r\n');
      if (outbox.end - outbox.start >= this.#socket.writableHighWaterMark) this.flush();
    }
    // After a write that the system accepted at once, there is nothing to wait for, even if the socket asked to wait
    // for 'drain'.
    return !this.#socket.writableNeedDrain || this.#socket.writableLength === 0;
  }

  /** The content is complete. Trailers are written if it is chunked. */
  end(trailers: RawFields): void {
    if (this.#chunked) {
      let tail = '0\r\n';
      for (let i = 0; i + 1 < trailers.length; i += 2) tail += `${trailers[i] ?? ''}: ${trailers[i + 1] ?? ''}\r\n`;
      this.#addText(`${tail}\r\n`);
    }
    this.flush();
  }

  /** Writes the pending bytes now. */
  flush(): void {
    this.#release();
    if (outbox.sender !== this) return;
    const { block, start, end } = outbox;
    outbox.sender = null;
    outbox.start = end;
    if (!this.#socket.destroyed) {
      if (this.#late) block.writes += 1;
      this.#send(block.memory.subarray(start, end), this.#late ? block.onWritten : null);
    }
    if (this.#socket.writableLength === 0) outbox.start = outbox.end = start;
    else {
      // Bytes that the system did not accept at once stay in place until they have been sent.
      if (!this.#late) block.lost = true;
      if (OUTBOX_SIZE - end < LEAST_ROOM) {
        outbox.block = spare.pop() ?? new Block();
        outbox.start = outbox.end = 0;
      }
    }
  }

  /** The outbox is wanted for other bytes: the pending ones are written, or gathered if they are few and would only wait. */
  settle(): void {
    const { block, start, end } = outbox;
    if (!this.#waits || this.#length + end - start > GATHERED) {
      this.flush();
      return;
    }
    this.#gathered ??= Buffer.allocUnsafeSlow(GATHERED);
    this.#length += block.memory.copy(this.#gathered, this.#length, start, end);
    outbox.sender = null;
    outbox.end = start;
  }

  /** Writes what was gathered: it comes before what is pending. */
  #release(): void {
    const gathered = this.#gathered;
    if (gathered === null) return;
    this.#gathered = null;
    if (!this.#socket.destroyed) this.#send(gathered.subarray(0, this.#length), null);
    this.#length = 0;
  }

  #send(bytes: Buffer, onWritten: (() => void) | null): void {
    if (this.#waits || this.#socket.writableLength === 0) {
      if (onWritten === null) this.#socket.write(bytes);
      else this.#socket.write(bytes, onWritten);
      return;
    }
    this.#waits = true;
    this.#socket.write(bytes, () => {
      onWritten?.();
      this.#waits = false;
      this.#release();
    });
  }

  #addText(text: string): void {
    if (text.length > roomFor(this)) {
      this.#addBytes(Buffer.from(text, 'latin1'));
      return;
    }
    outbox.end += outbox.block.memory.write(text, outbox.end, 'latin1');
  }

  #addBytes(bytes: Buffer): void {
    for (let from = 0; from < bytes.length;) {
      if (roomFor(this) === 0) this.flush();
      const to = Math.min(bytes.length, from + roomFor(this));
      outbox.end += bytes.copy(outbox.block.memory, outbox.end, from, to);
      from = to;
    }
  }
}

/** A header section as on the wire; the fields were validated when they were read. */
export function headText(startLine: string, fields: RawFields, more = ''): string {
  let text = `${startLine}\r\n`;
  for (let i = 0; i + 1 < fields.length; i += 2) text += `${fields[i] ?? ''}: ${fields[i + 1] ?? ''}\r\n`;
  return `${text}${more}\r\n`;
}
