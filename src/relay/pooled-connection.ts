/**
 * One pooled connection: an undici Client that lives exactly as long as its
 * socket, so that we always know which address an exchange went to and whether
 * it was reused.
 */
import type { Socket } from 'node:net';
import { Client } from 'undici';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import { keepAlive } from './keep-alive.ts';

export interface ConnectionOptions {
  /** `https://host:port`, for undici's own bookkeeping. */
  readonly origin: string;
  /** An idle connection is kept this long, ms. */
  readonly keepAlive: number;
  /** No exchange begins on a connection that is older, ms. */
  readonly age: number;
  readonly responseHeaders: number;
  readonly body: number;
  /** Response header section, bytes. */
  readonly headerBytes: number;
}

function destroySocket(this: Socket): void {
  this.destroy();
}

export class PooledConnection {
  readonly client: Client;
  readonly dialled: Dialled;
  /** Monotonic ms. Those that were opened together do not all end together. */
  readonly #oldAt: number;
  /** Exchanges carried before the present one. */
  uses = 0;
  /** When the present exchange got it, monotonic ms. */
  activeSince = performance.now();
  /** It lay idle before its first use, and may have grown old in that time. */
  hasRested = false;
  /** The socket's own first error: undici reports a TLS alert as a mere close. */
  socketError: Error | null = null;

  constructor(dialled: Dialled, options: ConnectionOptions) {
    this.dialled = dialled;
    this.#oldAt = performance.now() + options.age * (1 - Math.random() / 10);
    dialled.socket.once('error', (error) => {
      this.socketError = error;
    });
    keepAlive(dialled.socket);
    let handedOver = false;
    this.client = new Client(options.origin, {
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: options.keepAlive,
      keepAliveMaxTimeout: options.keepAlive,
      headersTimeout: options.responseHeaders,
      bodyTimeout: options.body,
      maxHeaderSize: options.headerBytes,
      connect: (_, callback) => {
        // undici must not be answered in the same turn: its queue would not be resumed.
        queueMicrotask(() => {
          if (handedOver || dialled.socket.destroyed) {
            callback(new Fault('upstream-cut', 'the pooled connection was closed by the upstream'), null);
            return;
          }
          handedOver = true;
          callback(null, dialled.socket);
        });
      },
    });
  }

  /** Tells the record which connection carries its exchange; the phases are those of whoever it was opened for. */
  note(record: AccessRecord): void {
    const { address, via, dnsMs, tcpMs, tlsMs, hopMs, reported } = this.dialled;
    record.upstreamAddress = address ?? '-';
    record.via = via;
    if (reported !== undefined) record.noteReported(reported.code, reported.message);
    record.reusedConnection = this.uses > 0;
    if (record.reusedConnection) return;
    record.dnsMs = dnsMs;
    record.tcpMs = tcpMs;
    record.tlsMs = tlsMs;
    record.hopMs = hopMs;
  }

  /** Lies idle before its first use. Nobody reads from it then, so it has to look by itself for the upstream's end; any other word would be out of turn. */
  rest(keepAlive: number): void {
    const { socket } = this.dialled;
    this.hasRested = true;
    socket.once('end', destroySocket).once('data', destroySocket).setTimeout(keepAlive, destroySocket);
  }

  wake(): void {
    if (this.uses > 0 || !this.hasRested) return;
    const { socket } = this.dialled;
    socket.off('end', destroySocket).off('data', destroySocket).setTimeout(0);
    socket.off('timeout', destroySocket).pause();
  }

  /** The name may have moved to other addresses since it was dialled. */
  get isOld(): boolean {
    return performance.now() >= this.#oldAt;
  }

  get usable(): boolean {
    return !this.dialled.socket.destroyed;
  }
}
