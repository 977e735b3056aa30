/**
 * Opaque bytes both ways between a client and an upstream, with half-close:
 * each direction ends on its own, and the tunnel ends when both have.
 * It owns both sockets and closes them.
 *
 * Longer than 300 lines: how a tunnel ends depends on all that may happen to
 * either side, and is one state.
 */
import { TLSSocket } from 'node:tls';
import { Fault } from '../errors.ts';
import type { AccessRecord, ClosedBy } from '../telemetry/access-record.ts';
import { type BulkConnection, readInBulk } from './bulk.ts';
import { readOnAfterFailedWrites, resetSocket, type Resettable } from './failed-writes.ts';
import { shareReads } from './node-internals.ts';
import { hear, hearBytes, hearLate, type Opening, type Side, type TunnelRefusal, unhear, unhearBytes } from './tunnel-events.ts';
import { keepAlive } from './reuse.ts';

/** Who is told of a tunnel's end. */
export interface TunnelOwner {
  /** What to say inside the tunnel before it is closed for `fault`. */
  lastWords(fault: Fault): string;
  /** Both sides are closed. `fault` is null when both ended in order. */
  onTunnelEnd(tunnel: Tunnel, fault: Fault | null, closedBy: ClosedBy): void;
  /** Code of ours threw; both sockets are being closed, and no other call follows. */
  onCrash(error: unknown): void;
}

/** A client socket, or TLS or upgraded one, as far as a tunnel is concerned. */
export type TunnelSocket = Resettable;

function onTimer(tunnel: Tunnel): void {
  tunnel.onTimer();
}

/** As much as Node reads at a time. */
const FULL_CHUNK = 65_536;
/** After so many chunks a direction is read in bulk, or after a full one. */
const BULK_AFTER = 8;
const EMPTY_CHUNK = Buffer.alloc(0);
/** RFC 9110 §9.3.6 is for the proxy port, not for inside a tunnel: a client configured twice sends this. */
const NESTED_CONNECT = Buffer.from('CONNECT ');

/** What lasts this long, ms, is not over at once like most. */
const LASTING = 5_000;
/** After this long, ms, a client that was refused and does not close is closed. */
const REFUSED_LINGER = 5_000;
/**
 * So long, ms, a side has to read what has been sent to it when the other one
 * broke: a reset overtakes what is still on its way. Counted again from the
 * last that the system took; how much of that has arrived, it does not say.
 */
const PARTING = 1_000;
/** What a side may still say after it was sent the end, bytes: room for a close_notify of TLS, which is 85 at most, and no answer. */
const CLOSING_WORDS = 128;

/** One tunnel between two sockets, which it owns and closes. */
export class Tunnel {
  readonly client: TunnelSocket;
  readonly upstream: TunnelSocket;
  readonly record: AccessRecord;
  /** Grows with every byte, either way. */
  moved = 0;
  readonly #owner: TunnelOwner;
  readonly #since = performance.now();
  #lasting = false;
  #fault: Fault | null = null;
  #closedBy: ClosedBy = '-';
  #open = 2;
  /** As long as the client's bytes are looked at; the one thing that a chunk costs afterwards. */
  #looking = true;
  #begun = false;
  /** Let go of once it has seen enough: it may have kept what it saw. */
  #opening: Opening | null;
  readonly #bulk: BulkConnection[] = [];
  #chunksFromClient = 0;
  #chunksFromUpstream = 0;
  /** Since bytes are held, since the client was refused, or since the other side broke. */
  #timer: NodeJS.Timeout | null = null;
  /** The first side to which a write has failed while it was not read. */
  #failedWrite: Side | null = null;
  /** The other one broke: this side is reset when it has had its time to read. */
  #parting: Side | null = null;
  /** Of what is for that side, bytes that the system has not taken. */
  #unsent = 0;
  /** Both sides have been sent the end; what they still send is thrown away. */
  #leaving = false;
  #lateBytes = 0;

  /**
   * @param upstream already reads on after failed writes
   * @param opening looks at the client's first bytes; null: nobody does
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
    shareReads(client);
    shareReads(upstream);
    hear(this, client);
    hear(this, upstream);
    // A side that was gone before we listened will not say so again.
    for (const side of ['client', 'upstream'] as const) {
      const socket = this[side];
      if (socket.destroyed) this.broke(side, new Error('closed before the tunnel began'));
      if (socket.closed) this.closed();
    }
    hearBytes(client);
    hearBytes(upstream);
    // Neither of them flows before the next turn, so this is the first to pass.
    if (head !== null && head.length > 0) this.received('client', head);
    // Nor will it say again that it has ended: a client may, and go, while the upstream is dialled.
    if (client.readableEnded) this.ended('client');
    if (upstream.readableEnded) this.ended('upstream');
  }

  /** One side has sent some bytes. */
  received(side: Side, chunk: Buffer): void {
    this.moved += chunk.length;
    if (side === 'client') this.#fromClient(chunk);
    else this.#fromUpstream(chunk);
  }

  /** This side takes more again. */
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
    this.record.bytesReceived += chunk.length;
    // What the system has taken at once leaves nothing to wait for, however much it was.
    if (!this.client.write(chunk) && this.client.writableLength > 0) this.upstream.pause();
    this.#chunksFromUpstream += chunk.length < FULL_CHUNK ? 1 : BULK_AFTER;
    // What is read in bulk is shown to nobody.
    if (this.#chunksFromUpstream >= BULK_AFTER && this.#opening === null) this.#readInBulk('upstream');
  }

  /** One direction is complete; the other goes on. */
  ended(by: Side): void {
    if (this.#parting !== null) return;
    if (this.#closedBy === '-') this.#closedBy = by;
    // What is held is not going to be complete.
    if (by === 'client' && this.#timer !== null && this.#opening !== null && this.#fault === null) {
      this.#refuse(this.#opening.giveUp('ended'));
      return;
    }
    const other = by === 'client' ? this.upstream : this.client;
    // When that side has ended too, and all has been sent, closing TCP says the same as ending it, with less ado. TLS has
    // to say so itself: without close_notify the end looks cut off (RFC 8446 §6.1).
    if (other.readableEnded && other.writableLength === 0 && !(other instanceof TLSSocket)) other.destroy();
    else other.end();
  }

  /** A reset on one side becomes a reset on the other, behind the bytes that came before it: what is cut must not look complete. */
  broke(side: Side, error: Error): void {
    if (this.#fault === null && this.#closedBy === '-') this.#closedBy = side;
    // The other one has its end, and may still read what came before it.
    if (this.#leaving) {
      resetSocket(this[side]);
      return;
    }
    // A client that has ended its own direction and then goes has what it wanted: programs close without waiting (curl).
    const done = side === 'client' && this.client.readableEnded;
    if (!done) this.#fault ??= new Fault(side === 'client' ? 'client-closed' : 'upstream-cut', `${side}: ${error.message}`, { cause: error });
    this.#partFrom(side);
  }

  closed(): void {
    this.#open -= 1;
    if (this.#open > 0) {
      // Both halves of this side are gone, so nothing can pass any more.
      if (!this.client.destroyed && this.client.writableEnded) return;
      if (!this.upstream.destroyed && this.upstream.writableEnded) return;
      this.#partFrom(this.client.destroyed ? 'client' : 'upstream');
      return;
    }
    this.#stopTimer();
    for (const connection of this.#bulk) connection.release();
    unhear(this.client);
    unhear(this.upstream);
    this.#owner.onTunnelEnd(this, this.#fault, this.#closedBy);
  }

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

  /** It has lasted for a while and goes on, or is as old as it may become. */
  onDue(now: number, age: number): void {
    if (now - this.#since >= age) {
      this.end(new Fault('age-limit', 'the tunnel reached the age limit of tunnels'));
      return;
    }
    this.#lasting = true;
    keepAlive(this.client);
    keepAlive(this.upstream);
  }

  /** Silent for the idle time. */
  onIdle(): void {
    this.end(new Fault('idle-timeout', 'no byte moved in either direction for the idle time of tunnels'));
  }

  /** Its end has begun, whoever began it. */
  get ending(): boolean {
    return this.#fault !== null || this.#parting !== null;
  }

  /** No byte is on its way through the proxy, as far as the proxy can see. */
  get still(): boolean {
    return this.#timer === null && isStill(this.client) && isStill(this.upstream);
  }

  /**
   * The proxy ends the tunnel at a moment when it is `still`: each side sees
   * an orderly end, and is to close. What it sends all the same can reach
   * nobody; if that is more than a few closing words, the tunnel is reset, so
   * that what is cut does not look complete.
   */
  leave(fault: Fault): void {
    if (this.ending) return;
    this.#fault = fault;
    this.#closedBy = 'proxy';
    this.#opening = null;
    this.#leaving = true;
    for (const socket of [this.client, this.upstream]) {
      unhearBytes(socket);
      hearLate(socket);
      socket.end();
    }
  }

  /** Bytes have come that cannot be delivered any more. */
  late(length: number): void {
    this.#lateBytes += length;
    if (this.#lateBytes <= CLOSING_WORDS) return;
    resetSocket(this.client);
    resetSocket(this.upstream);
  }

  /** The proxy ends the tunnel: by a reset, because neither side has said that it was done. */
  end(fault: Fault): void {
    if (this.#fault !== null && this.#parting === null && !this.#leaving) return;
    if (this.#parting === null && !this.#leaving) {
      this.#fault = fault;
      this.#closedBy = 'proxy';
    }
    resetSocket(this.client);
    resetSocket(this.upstream);
  }

  /** The time of its timer is over. */
  onTimer(): void {
    this.#timer = null;
    try {
      if (this.#parting === null) this.#heldTooLong();
      else this.#parted(this[this.#parting]);
    } catch (error) {
      this.crashed(error);
    }
  }

  /** Bytes were held as long as they may be; or a refused client has had its time to close. */
  #heldTooLong(): void {
    if (this.#fault !== null) this.client.destroy();
    else if (this.#opening !== null) this.#refuse(this.#opening.giveUp('late'));
  }

  /** Some time has passed since the other side broke. */
  #parted(socket: TunnelSocket): void {
    const unsent = socket.writableLength;
    if (unsent > 0 && unsent < this.#unsent) this.#waitForParting(unsent);
    else resetSocket(socket);
  }

  /** Each waits to be read until the other one takes bytes, which neither will: nothing moves any more. */
  writeFailed(side: Side, error: Error): void {
    if (this.#failedWrite === null || this.#failedWrite === side) this.#failedWrite = side;
    else this.broke(side, error);
  }

  /** This side is gone. The other one gets what has been sent to it, then a reset; what it still sends is thrown away. */
  #partFrom(gone: Side): void {
    if (this.#parting === gone) resetSocket(this[gone]);
    if (this.#parting !== null) return;
    const other = gone === 'client' ? 'upstream' : 'client';
    this.#parting = other;
    resetSocket(this[gone]);
    const socket = this[other];
    if (this.record[gone === 'client' ? 'bytesSent' : 'bytesReceived'] === 0) {
      resetSocket(socket);
      return;
    }
    unhearBytes(socket);
    socket.resume();
    this.#waitForParting(socket.writableLength);
  }

  #waitForParting(unsent: number): void {
    this.#unsent = unsent;
    this.#stopTimer();
    this.#timer = setTimeout(onTimer, PARTING, this);
  }

  #send(chunk: Buffer): void {
    this.record.bytesSent += chunk.length;
    if (!this.upstream.write(chunk) && this.upstream.writableLength > 0) this.client.pause();
  }

  /** This side sends much: it is read in bulk from here on, if that can be done. */
  #readInBulk(side: Side): void {
    const from = this[side];
    if (side === 'client') this.#chunksFromClient = 0;
    else this.#chunksFromUpstream = 0;
    // It has to wait for the other side first.
    if (from.isPaused()) return;
    const reader = readInBulk(from, (bytes) => {
      try {
        return this.#relayBulk(side, bytes);
      } catch (error) {
        this.crashed(error);
        return true;
      }
    });
    if (reader !== null) this.#bulk.push(reader);
  }

  /** @returns whether the bytes are with the system already, so that their buffer may be read into again */
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
    // 'drain' comes only after a write that said no.
    if (more) to.write(EMPTY_CHUNK, () => this[side].resume());
    return false;
  }

  /** The first bytes of the client, and, once it was refused, those it still sends: they are thrown away. */
  #look(chunk: Buffer): void {
    if (this.#fault !== null) return;
    if (!this.#begun) {
      this.#begun = true;
      if (chunk.length >= NESTED_CONNECT.length && chunk.compare(NESTED_CONNECT, 0, NESTED_CONNECT.length, 0, NESTED_CONNECT.length) === 0) {
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
      this.#timer ??= setTimeout(onTimer, opening.patience, this);
      return;
    }
    if (typeof answer === 'object') {
      this.#refuse(answer);
      return;
    }
    this.#stopTimer();
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
    // Before its first bytes the client may still begin with a CONNECT.
    if (this.#begun) this.#looking = false;
  }

  #refuseNestedConnect(): void {
    const fault = new Fault('connect-in-tunnel', 'a CONNECT was sent inside a tunnel', {
      remedy: 'the client is set to use two proxies, or this one twice: give it one',
    });
    this.#refuse({ fault, lastWords: this.#owner.lastWords(fault) });
  }

  /**
   * Closes the tunnel after some last words. What the client still sends is
   * read and thrown away for a while: closing with unread bytes would reset
   * the connection, and the client would lose those words.
   */
  #refuse({ fault, lastWords }: TunnelRefusal): void {
    this.#fault = fault;
    this.#closedBy = 'proxy';
    this.#opening = null;
    unhearBytes(this.upstream);
    this.upstream.destroy();
    if (lastWords === null) this.client.end();
    else this.client.end(lastWords);
    this.client.resume();
    this.#stopTimer();
    this.#timer = setTimeout(onTimer, REFUSED_LINGER, this).unref();
  }

  #stopTimer(): void {
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function isStill(socket: TunnelSocket): boolean {
  return socket.writableLength === 0 && socket.readableLength === 0 && !socket.isPaused();
}
