/**
 * Relays opaque bytes in both directions between a client and an upstream, with
 * half-close: each direction ends on its own, and the tunnel ends when both
 * have. It owns both sockets and closes them.
 *
 * Longer than 400 lines: how a tunnel ends depends on the events of both sides,
 * which share one state.
 */
import { TLSSocket } from 'node:tls';
import { Fault } from '../errors.ts';
import type { AccessRecord, ClosedBy } from '../telemetry/access-record.ts';
import { TimeLimit } from '../time-limit.ts';
import { type BulkConnection, readInBulk } from './bulk.ts';
import { readOnAfterFailedWrites, resetSocket, type Resettable, WRITE_FAILED } from './failed-writes.ts';
import { shareReads } from './node-internals.ts';
import { keepAlive, lostFault } from './reuse.ts';

/** Notified of a tunnel's end. */
export interface TunnelOwner {
  /** The bytes to send inside the tunnel before it is closed for `fault`. */
  lastWords(fault: Fault): string;
  /** The upstream has sent its first bytes. */
  onTunnelAnswer(): void;
  /** Both sides are closed. `fault` is null when both ended in order. */
  onTunnelEnd(fault: Fault | null, closedBy: ClosedBy): void;
  /** Our code threw; both sockets are being closed, and no other call follows. */
  onCrash(error: unknown): void;
}

/** The tunnel is closed for `fault`; `lastWords`, if any, are the last bytes sent to the client. */
export interface TunnelRefusal {
  readonly fault: Fault;
  readonly lastWords: Buffer | string | null;
}

/**
 * Inspects the first bytes of a tunnel, in both directions. It changes no byte, delays the
 * client's bytes only while it holds them, and never delays the upstream's.
 */
export interface Opening {
  /** How long bytes may be held, ms from the first one held. */
  readonly patience: number;
  /**
   * The client's next bytes.
   * - `pass`: forward the held bytes, then these.
   * - `hold`: keep them back.
   */
  read(chunk: Buffer): 'pass' | 'hold' | TunnelRefusal;
  /** The upstream's next bytes, which are forwarded in any case. */
  hear(chunk: Buffer): void;
  /** After `pass`: the held bytes that came before the chunk, in order; otherwise empty. */
  readonly held: Buffer;
  /** The inspection is complete: neither direction is passed to it any more. Nothing is held then. */
  readonly done: boolean;
  /** Bytes are held, and no more come: the client has ended, or `patience` is over. */
  giveUp(why: 'ended' | 'late'): TunnelRefusal;
}

type Side = 'client' | 'upstream';

const kTunnel = Symbol('tunnel');
/** A client socket, TLS or upgraded ones included, as a tunnel uses it. */
export type TunnelSocket = Resettable & { [kTunnel]?: Tunnel | undefined };

/** A listener for either side of any tunnel: a chunk costs no closure and no look-up. What a tunnel's code throws ends that tunnel only. */
function listener<T = undefined>(step: (tunnel: Tunnel, side: Side, told: T) => void): (this: TunnelSocket, told: T) => void {
  return function (told) {
    const tunnel = this[kTunnel];
    if (tunnel === undefined) return;
    try {
      step(tunnel, this === tunnel.client ? 'client' : 'upstream', told);
    } catch (error) {
      tunnel.crashed(error);
    }
  };
}

const onTunnelData = listener<Buffer>((tunnel, side, chunk) => {
  tunnel.received(side, chunk);
});
const onLateData = listener<Buffer>((tunnel, _side, chunk) => {
  tunnel.late(chunk.length);
});
const onTunnelDrain = listener((tunnel, side) => {
  tunnel.drained(side);
});
const onTunnelEnd = listener((tunnel, side) => {
  tunnel.ended(side);
});
const onTunnelError = listener<Error>((tunnel, side, error) => {
  tunnel.broke(side, error);
});
const onWriteFailed = listener<Error>((tunnel, side, error) => {
  tunnel.writeFailed(side, error);
});
const onTunnelClose = listener((tunnel) => {
  tunnel.closed();
});

/** The most that Node reads at a time. */
const FULL_CHUNK = 65_536;
/** A direction is read in bulk after this many chunks, or after a full one. */
const BULK_AFTER = 8;
const EMPTY_CHUNK = Buffer.alloc(0);
/** RFC 9110 §9.3.6 is for the proxy port, not for inside a tunnel: a client with the proxy configured twice sends this. */
const NESTED_CONNECT = Buffer.from('CONNECT ');

/** A tunnel that lasts this long is not a short one, as most are, ms. */
const LASTING = 5_000;
/** How long a refused client may take to close before it is closed, ms. */
const REFUSED_LINGER = 5_000;
/**
 * How long a side may take to read pending bytes after the other one broke, ms:
 * a reset overtakes them. Counted from when the system has accepted all of them;
 * the system does not report how much has arrived.
 */
const PARTING = 1_000;
/** How many bytes a side may still send after it was sent the end: room for a close_notify of TLS, which is 85 at most, and no answer. */
const CLOSING_WORDS = 128;

/** One tunnel between two sockets, which it owns and closes. */
export class Tunnel {
  readonly client: TunnelSocket;
  readonly upstream: TunnelSocket;
  readonly record: AccessRecord;
  /** Grows with every byte, in either direction. */
  moved = 0;
  readonly #owner: TunnelOwner;
  readonly #since = performance.now();
  #lasting = false;
  #fault: Fault | null = null;
  #closedBy: ClosedBy = '-';
  /** Which sides have ended their direction in order. A reset that Node took for an end does not count. */
  readonly #hasEnded = { client: false, upstream: false };
  #open = 2;
  /** Set as long as the client's bytes are inspected; afterwards a chunk costs only this check. */
  #looking = true;
  #begun = false;
  /** Released once it has seen enough: it may have kept bytes. */
  #opening: Opening | null;
  readonly #bulk: BulkConnection[] = [];
  #chunksFromClient = 0;
  #chunksFromUpstream = 0;
  /** When bytes were first held, the client was refused, or the other side broke. */
  #limit: TimeLimit | null = null;
  /** The first side to which a write has failed while it was not read. */
  #failedWrite: Side | null = null;
  /** The other one broke: this side is reset when its time to read is over. */
  #parting: Side | null = null;
  /** Bytes for that side that the system had not accepted when that was last looked at. It may take long over them: the clock of idle tunnels limits it. */
  #unsent = 0;
  /** Both sides have been sent the end; further bytes are discarded. */
  #leaving = false;
  #lateBytes = 0;

  /**
   * @param upstream already continues reading after failed writes
   * @param opening inspects the client's first bytes; null: no inspection
   */
  constructor(client: TunnelSocket, upstream: TunnelSocket, record: AccessRecord, owner: TunnelOwner, opening: Opening | null) {
    this.client = client;
    this.upstream = upstream;
    this.record = record;
    this.#owner = owner;
    this.#opening = opening;
  }

  /** Begins to relay. `head` is what the client sent early, after its request. */
  start(head: Buffer | null): void {
    const { client, upstream } = this;
    readOnAfterFailedWrites(client);
    for (const socket of [client, upstream]) {
      shareReads(socket);
      socket[kTunnel] = this;
      socket
        .on('end', onTunnelEnd)
        .on('error', onTunnelError)
        .on('close', onTunnelClose)
        .on('drain', onTunnelDrain)
        .on(WRITE_FAILED, onWriteFailed);
    }
    // A side that closed before we listened does not emit that again.
    for (const side of ['client', 'upstream'] as const) {
      const socket = this[side];
      if (socket.destroyed) this.broke(side, new Error('closed before the tunnel began'));
      if (socket.closed) this.closed();
    }
    // The previous owner of a socket may have paused it.
    for (const socket of [client, upstream]) socket.on('data', onTunnelData).resume();
    // Neither side flows before the next turn, so this is the first to be forwarded.
    if (head !== null && head.length > 0) this.received('client', head);
    // Nor does it emit its end again: a client may end and close while the upstream is dialled.
    if (client.readableEnded) this.ended('client');
    if (upstream.readableEnded) this.ended('upstream');
  }

  /** One side has sent some bytes. */
  received(side: Side, chunk: Buffer): void {
    this.moved += chunk.length;
    if (side === 'client') this.#fromClient(chunk);
    else this.#fromUpstream(chunk);
  }

  /** This side can take more again. */
  drained(side: Side): void {
    (side === 'client' ? this.upstream : this.client).resume();
  }

  #fromClient(chunk: Buffer): void {
    if (this.#looking) this.#look(chunk);
    else {
      this.#send(chunk);
      this.#chunksFromClient += chunk.length < FULL_CHUNK ? 1 : BULK_AFTER;
      if (this.#chunksFromClient >= BULK_AFTER) this.#readInBulk('client');
    }
  }

  #fromUpstream(chunk: Buffer): void {
    if (this.#opening !== null) this.#hear(this.#opening, chunk);
    if (this.record.bytesReceived === 0) this.#owner.onTunnelAnswer();
    this.record.bytesReceived += chunk.length;
    // If the system has accepted everything at once, there is nothing to wait for, whatever the amount.
    if (!this.client.write(chunk) && this.client.writableLength > 0) this.upstream.pause();
    this.#chunksFromUpstream += chunk.length < FULL_CHUNK ? 1 : BULK_AFTER;
    // Bulk reads are not inspected.
    if (this.#chunksFromUpstream >= BULK_AFTER && this.#opening === null) this.#readInBulk('upstream');
  }

  /** One direction is complete; the other continues. */
  ended(by: Side): void {
    // If it is errored, that is no end, and 'error' follows.
    if (this[by].errored !== null) return;
    this.#hasEnded[by] = true;
    if (this.#parting !== null) {
      if (this.#parting === by && !this.#waits(by)) resetSocket(this[by]);
      return;
    }
    if (this.#closedBy === '-') this.#closedBy = by;
    // Held bytes will not become complete.
    if (by === 'client' && this.#limit !== null && this.#opening !== null && this.#fault === null) {
      this.#refuse(this.#opening.giveUp('ended'));
      return;
    }
    const other = by === 'client' ? this.upstream : this.client;
    // When that side has ended too, and everything has been sent, closing TCP is the same as ending it, with less work.
    // TLS needs its own message: without close_notify the end looks truncated (RFC 8446 §6.1).
    if (other.readableEnded && other.writableLength === 0 && !(other instanceof TLSSocket)) other.destroy();
    else other.end();
  }

  /** A reset on one side becomes a reset on the other, after the bytes that came before it: a truncated stream must not look complete. */
  broke(side: Side, error: Error): void {
    // The other one has its end, and may still read earlier bytes.
    if (this.#leaving) {
      resetSocket(this[side]);
      return;
    }
    const lost = lostFault(error);
    // A side that the system gave up has closed nothing, and may not have received what the system accepted for it.
    if ((lost !== null || !this.#isDone(side)) && this.#fault === null && !this.#unanswered) {
      const silent = side === 'upstream' ? lost : null;
      this.#fault =
        silent ?? new Fault(side === 'client' ? 'client-closed' : 'upstream-cut', `${side}: ${error.message}`, { cause: error });
      this.#closedBy = silent === null ? side : 'proxy';
    }
    if (this.#closedBy === '-') this.#closedBy = side;
    this.#partFrom(side);
  }

  /** One side is closed. */
  closed(): void {
    this.#open -= 1;
    if (this.#open > 0) {
      // Both directions of this side have ended, so nothing can be relayed any more.
      if (!this.client.destroyed && this.client.writableEnded) return;
      if (!this.upstream.destroyed && this.upstream.writableEnded) return;
      this.#partFrom(this.client.destroyed ? 'client' : 'upstream');
      return;
    }
    this.#endLimit();
    for (const connection of this.#bulk) connection.release();
    // Later events are ignored, and later errors still have a listener.
    this.client[kTunnel] = this.upstream[kTunnel] = undefined;
    if (this.#unanswered) this.#fault ??= new Fault('upstream-cut', 'the upstream closed the connection before it answered');
    this.#owner.onTunnelEnd(this.#fault, this.#closedBy);
  }

  /**
   * Whether a side that breaks was through with the tunnel. One that had ended its own direction was: programs close
   * without waiting (curl), and then answer what still comes, such as the client's close_notify, with a reset. So was a
   * client to which the end of the upstream has been sent: Python and Perl leave the close_notify of the upstream unread,
   * which makes their close a reset.
   */
  #isDone(side: Side): boolean {
    return this.#hasEnded[side] || (side === 'client' && this.#hasEnded.upstream && isSent(this.client) && isSent(this.upstream));
  }

  /** Whether a side whose other one is gone has time to read: a reset overtakes what has been sent to it. An upstream that has ended is about to close, and its connection holds a port. */
  #waits(side: Side): boolean {
    if (side === 'client') return this.record.bytesReceived > 0;
    return this.record.bytesSent > 0 && !(this.#hasEnded.upstream && isSent(this.upstream));
  }

  /** The upstream has ended first, and has sent nothing for what the client sent: whatever follows, the client has no answer. */
  get #unanswered(): boolean {
    return this.#closedBy === 'upstream' && this.record.unanswered;
  }

  /** Our code threw in one of these. */
  crashed(error: unknown): void {
    this.#fault ??= new Fault('internal', 'the proxy failed in the middle of a tunnel', { cause: error });
    this.client.destroy();
    this.upstream.destroy();
    this.#owner.onCrash(error);
  }

  /** When the clock is to call `onDue`: once soon after the beginning, and at the age limit, ms. */
  dueBy(age: number): number {
    return this.#since + (this.#lasting ? age : Math.min(LASTING, age));
  }

  /** It has lasted for a while and continues, or has reached its age limit. */
  onDue(now: number, age: number): void {
    if (now - this.#since >= age) {
      this.end(new Fault('age-limit', 'the tunnel reached the age limit of tunnels'));
      return;
    }
    this.#lasting = true;
    keepAlive(this.client);
    keepAlive(this.upstream);
  }

  /** No bytes for the idle time. */
  onIdle(): void {
    this.end(
      this.record.unanswered
        ? new Fault('upstream-silent', 'the upstream sent nothing for the idle time of tunnels after what the client sent')
        : new Fault('idle-timeout', 'no byte moved in either direction for the idle time of tunnels'),
    );
  }

  /** Its end has begun, from either side or the proxy. */
  get ending(): boolean {
    return this.#fault !== null || this.#parting !== null;
  }

  /** No bytes are pending in the proxy, as far as the proxy can see. */
  get still(): boolean {
    return this.#limit === null && isStill(this.client) && isStill(this.upstream);
  }

  /**
   * The proxy ends the tunnel at a moment when it is `still`: each side sees an
   * orderly end, and is to close. What it still sends cannot be delivered; if
   * that is more than a close_notify, the tunnel is reset, so that a truncated
   * stream does not look complete.
   */
  leave(fault: Fault): void {
    if (this.ending) return;
    this.#fault = fault;
    this.#closedBy = 'proxy';
    this.#opening = null;
    this.#leaving = true;
    for (const socket of [this.client, this.upstream]) {
      socket.off('data', onTunnelData).on('data', onLateData).resume();
      socket.end();
    }
  }

  /** Bytes have come from a side that has been sent the end already. */
  late(length: number): void {
    this.#lateBytes += length;
    if (this.#lateBytes <= CLOSING_WORDS) return;
    resetSocket(this.client);
    resetSocket(this.upstream);
  }

  /** The proxy ends the tunnel by a reset, because neither side has ended. */
  end(fault: Fault): void {
    if (this.#fault !== null && this.#parting === null && !this.#leaving) return;
    if (this.#parting === null && !this.#leaving) {
      this.#fault = fault;
      this.#closedBy = 'proxy';
    }
    resetSocket(this.client);
    resetSocket(this.upstream);
  }

  #limitTo(ms: number): void {
    this.#limit?.clear();
    this.#limit = new TimeLimit(ms, () => {
      this.#onLimit();
    });
  }

  #onLimit(): void {
    this.#limit = null;
    try {
      if (this.#parting === null) this.#heldTooLong();
      else if (this.#unsent > 0) this.#waitForParting(this[this.#parting].writableLength);
      else resetSocket(this[this.#parting]);
    } catch (error) {
      this.crashed(error);
    }
  }

  #endLimit(): void {
    this.#limit?.clear();
    this.#limit = null;
  }

  /** Bytes were held for the longest time allowed; or a refused client has had its time to close. */
  #heldTooLong(): void {
    if (this.#fault !== null) this.client.destroy();
    else if (this.#opening !== null) this.#refuse(this.#opening.giveUp('late'));
  }

  /** Nothing can be sent to this side, which is not read because the other does not keep up. If that is so of both, nothing moves any more. */
  writeFailed(side: Side, error: Error): void {
    if (this.#failedWrite === null || this.#failedWrite === side) this.#failedWrite = side;
    else this.broke(side, error);
  }

  /** This side is gone. The other one gets what has been sent to it, then a reset; what it still sends is discarded. */
  #partFrom(gone: Side): void {
    if (this.#parting === gone) resetSocket(this[gone]);
    if (this.#parting !== null) return;
    const other = gone === 'client' ? 'upstream' : 'client';
    this.#parting = other;
    resetSocket(this[gone]);
    const socket = this[other];
    if (!this.#waits(other)) {
      resetSocket(socket);
      return;
    }
    socket.off('data', onTunnelData).resume();
    this.#waitForParting(socket.writableLength);
  }

  #waitForParting(unsent: number): void {
    this.#unsent = unsent;
    this.#limitTo(PARTING);
  }

  #send(chunk: Buffer): void {
    this.record.bytesSent += chunk.length;
    if (!this.upstream.write(chunk) && this.upstream.writableLength > 0) this.client.pause();
  }

  /** This side sends much: it is read in bulk from here on, if possible. */
  #readInBulk(side: Side): void {
    const from = this[side];
    if (side === 'client') this.#chunksFromClient = 0;
    else this.#chunksFromUpstream = 0;
    // It has to wait for the other side first.
    if (from.isPaused()) return;
    const reader = readInBulk(from, {
      onBytes: (bytes) => {
        try {
          return this.#relayBulk(side, bytes);
        } catch (error) {
          this.crashed(error);
          return true;
        }
      },
      answered: () => this.record[side === 'client' ? 'bytesReceived' : 'bytesSent'],
    });
    if (reader !== null) this.#bulk.push(reader);
  }

  /** @returns whether the system has the bytes already, so that their buffer may be reused */
  #relayBulk(side: Side, bytes: Buffer): boolean {
    if (this.#leaving || this.#parting !== null) {
      if (this.#leaving) this.late(bytes.length);
      return true;
    }
    const to = side === 'client' ? this.upstream : this.client;
    this.moved += bytes.length;
    this.record[side === 'client' ? 'bytesSent' : 'bytesReceived'] += bytes.length;
    const more = to.write(bytes);
    if (to.writableLength === 0) return true;
    // 'drain' comes only after a write that returned false.
    if (more) to.write(EMPTY_CHUNK, () => this[side].resume());
    return false;
  }

  /** The client's first bytes and, once it was refused, those it still sends, which are discarded. */
  #look(chunk: Buffer): void {
    if (this.#fault !== null) return;
    if (!this.#begun) {
      this.#begun = true;
      if (
        chunk.length >= NESTED_CONNECT.length &&
        chunk.compare(NESTED_CONNECT, 0, NESTED_CONNECT.length, 0, NESTED_CONNECT.length) === 0
      ) {
        this.#refuseNestedConnect();
        return;
      }
    }
    const opening = this.#opening;
    if (opening === null) {
      this.#looking = false;
      this.#send(chunk);
      return;
    }
    const answer = opening.read(chunk);
    if (answer === 'hold') {
      if (this.#limit === null) this.#limitTo(opening.patience);
      return;
    }
    if (typeof answer === 'object') {
      this.#refuse(answer);
      return;
    }
    this.#endLimit();
    if (opening.held.length > 0) this.#send(opening.held);
    this.#letGo(opening);
    this.#send(chunk);
  }

  #hear(opening: Opening, chunk: Buffer): void {
    opening.hear(chunk);
    this.#letGo(opening);
  }

  #letGo(opening: Opening): void {
    if (!opening.done) return;
    this.#opening = null;
    // Until its first bytes, the client may still begin with a CONNECT.
    if (this.#begun) this.#looking = false;
  }

  #refuseNestedConnect(): void {
    const fault = new Fault('connect-in-tunnel', 'a CONNECT was sent inside a tunnel', {
      remedy: 'the client is set to use two proxies, or this one twice: give it one',
    });
    this.#refuse({ fault, lastWords: this.#owner.lastWords(fault) });
  }

  /**
   * Closes the tunnel after a last message. What the client still sends is read
   * and discarded for a while: closing with unread bytes would reset the
   * connection, and the client would lose the message.
   */
  #refuse({ fault, lastWords }: TunnelRefusal): void {
    this.#fault = fault;
    this.#closedBy = 'proxy';
    this.#opening = null;
    this.upstream.off('data', onTunnelData);
    this.upstream.destroy();
    if (lastWords === null) this.client.end();
    else this.client.end(lastWords);
    this.client.resume();
    this.#limitTo(REFUSED_LINGER);
  }
}

/** Whether the system has accepted everything for this side. */
function isSent(socket: TunnelSocket): boolean {
  return socket.writableLength === 0;
}

function isStill(socket: TunnelSocket): boolean {
  return isSent(socket) && socket.readableLength === 0 && !socket.isPaused();
}
