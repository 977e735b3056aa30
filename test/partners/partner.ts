/** A partner that does to each connection what a script says, in plain TCP or inside TLS. */
import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import type { IssuedCertificate } from '../../src/demo/authority.ts';

/** A request as the partner has read it. */
export interface Request {
  readonly method: string;
  readonly target: string;
  /** Request line and header section, without the empty line. */
  readonly head: string;
  /** Content and trailers, still with their chunks; settles when the message is complete. */
  readonly content: Promise<string>;
}

/** The partner's end of one connection. */
export interface Side {
  /** Counted from 1 over all connections of this partner. */
  readonly number: number;
  /** The next request, as soon as its head has come. Rejects when none will. */
  request(): Promise<Request>;
  /** Settles when it has left for the kernel. */
  send(text: string): Promise<void>;
  /** No byte is read from here on: what comes stays in the kernel. */
  stopReading(): void;
  /** Ends our direction, TLS by its close_notify. */
  end(): Promise<void>;
  /** Closes the socket as a program does that is done with it: with bytes unread, the kernel sends a reset. */
  close(): void;
  reset(): void;
  wait(ms: number): Promise<void>;
}

/** Ends by itself, or when the connection has closed. */
export type Script = (side: Side) => Promise<void>;

export interface PartnerOptions {
  readonly script: Script;
  /** Null: plain TCP. */
  readonly certificate: IssuedCertificate | null;
  /** Called for each TCP connection before anything else; true: the connection is taken away. */
  readonly onConnection?: (socket: Socket, number: number) => boolean;
}

export interface Partner {
  readonly server: Server;
  /** TCP connections so far. */
  readonly taken: number;
  /** What a script threw that was not the end of its connection. */
  readonly failures: readonly unknown[];
}

class Closed extends Error {}

/** Not listening yet; whoever starts it closes it. */
export function createPartner({ script, certificate, onConnection }: PartnerOptions): Partner {
  const failures: unknown[] = [];
  let taken = 0;
  const secureContext = certificate === null ? null : createSecureContext({ cert: certificate.certPem, key: certificate.keyPem });
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) => {
    taken += 1;
    raw.on('error', () => {});
    if (onConnection?.(raw, taken) === true) return;
    const socket = secureContext === null ? raw : new TLSSocket(raw, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] });
    socket.allowHalfOpen = true;
    socket.on('error', () => {});
    script(sideOf(socket, raw, taken)).catch((error: unknown) => {
      if (!(error instanceof Closed)) failures.push(error);
    });
  });
  return {
    server,
    failures,
    get taken() {
      return taken;
    },
  };
}

function sideOf(socket: Socket, raw: Socket, number: number): Side {
  const input = new Input(socket);
  return {
    number,
    request: () => input.request(),
    send: (text) =>
      new Promise((resolve, reject) => {
        socket.write(text, 'latin1', (error) => {
          if (error === null || error === undefined) resolve();
          else reject(new Closed());
        });
      }),
    stopReading: () => {
      socket.pause();
    },
    end: () =>
      new Promise((resolve) => {
        if (socket.destroyed) resolve();
        else socket.end(resolve);
      }),
    close: () => {
      socket.destroy();
    },
    // A reset overtakes what still waits in this process: scripts send first and wait for it.
    reset: () => {
      setImmediate(() => {
        if (!raw.destroyed) raw.resetAndDestroy();
      });
    },
    wait: async (ms) => {
      await delay(ms);
    },
  };
}

/** Takes the bytes of a connection apart into requests. */
class Input {
  readonly #socket: Socket;
  #held = '';
  #over = false;
  #wake: () => void = () => {};
  /** One reader after the other: a request is not looked for before the one before it is complete. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#held += chunk.toString('latin1');
      this.#wake();
    });
    const over = (): void => {
      this.#over = true;
      this.#wake();
    };
    socket.once('end', over);
    socket.once('close', over);
  }

  request(): Promise<Request> {
    const { promise: complete, resolve: finish } = Promise.withResolvers<undefined>();
    const head = this.#turn.then(async () => {
      const end = await this.#until(() => {
        const at = this.#held.indexOf('\r\n\r\n');
        return at === -1 ? null : at;
      });
      const text = this.#take(end + 4).slice(0, -4);
      const [, method = '', target = ''] = /^(\S+) (\S+) /.exec(text) ?? [];
      const content = this.#content(text).finally(() => {
        finish(undefined);
      });
      // A script may not care whether the content came.
      content.catch(() => {});
      return { method, target, head: text, content };
    });
    head.catch(() => {
      finish(undefined);
    });
    this.#turn = complete;
    return head;
  }

  async #content(head: string): Promise<string> {
    if (/\r\ntransfer-encoding: *chunked/i.test(head)) {
      // Ends with the empty line behind the last chunk and its trailers.
      const end = await this.#until(() => /(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(this.#held));
      return this.#take(end.index + end[0].length);
    }
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    await this.#until(() => (this.#held.length >= length ? true : null));
    return this.#take(length);
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return text;
  }

  async #until<T>(look: () => T | null): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== null) return found;
      if (this.#over || this.#socket.destroyed) throw new Closed();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
