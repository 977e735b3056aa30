/** A tunnel between real sockets, whose four ends a test holds, and something that looks at its beginning by a script. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import type { Opening, TunnelRefusal } from '../../src/relay/tunnel.ts';
import { Tunnel, type TunnelSocket } from '../../src/relay/tunnel.ts';
import { makeRecord } from './access-record.ts';
import { listen } from './listen.ts';
import { type Wire, wireOf } from './wire.ts';

export interface Ending {
  readonly fault: Fault | null;
  readonly closedBy: string;
}

export interface Bench {
  /** The ends of the world: what a client and an upstream hold. */
  readonly client: Wire;
  readonly upstream: Wire;
  /** The sockets of the tunnel. */
  readonly inner: { readonly client: Socket; readonly upstream: Socket };
  readonly record: ReturnType<typeof makeRecord>;
  tunnel(opening?: Opening | null, sockets?: { client?: TunnelSocket; upstream?: TunnelSocket }): Tunnel;
  readonly ending: Promise<Ending>;
}

async function pair(t: Test): Promise<{ outer: Wire; inner: Socket }> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted.resolve(socket);
  });
  const socket = connect({ host: '127.0.0.1', port: await listen(t, server), allowHalfOpen: true, noDelay: true });
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return { outer: wireOf(socket), inner: await accepted.promise };
}

export async function setUpTunnel(t: Test): Promise<Bench> {
  const [client, upstream] = await Promise.all([pair(t), pair(t)]);
  const record = makeRecord({ form: 'connect', bytesSent: 0, bytesReceived: 0 });
  const ending = Promise.withResolvers<Ending>();
  return {
    client: client.outer,
    upstream: upstream.outer,
    inner: { client: client.inner, upstream: upstream.inner },
    record,
    ending: ending.promise,
    tunnel: (opening = null, sockets = {}) =>
      new Tunnel(
        sockets.client ?? client.inner,
        sockets.upstream ?? upstream.inner,
        record,
        {
          lastWords: (fault) => `last words: ${fault.code}`,
          onTunnelAnswer: () => {},
          onTunnelEnd: (fault, closedBy) => {
            ending.resolve({ fault, closedBy });
          },
          onCrash: ending.reject,
        },
        opening,
      ),
  };
}

export const refusal = (lastWords: TunnelRefusal['lastWords']): TunnelRefusal => ({ fault: new Fault('sni-mismatch', 'another name'), lastWords });

/** Decides with the chunk that has a `!`, and gives `verdict`; notes what it was shown. */
export class Script implements Opening {
  readonly patience: number;
  readonly shown: string[] = [];
  readonly heard: string[] = [];
  readonly gaveUp: string[] = [];
  held = Buffer.alloc(0);
  done = false;
  readonly #until: 'pass' | 'hold';
  readonly #verdict: 'done' | TunnelRefusal;
  #kept: Buffer[] = [];

  constructor(until: 'pass' | 'hold', verdict: 'done' | TunnelRefusal, patience = 10_000) {
    this.#until = until;
    this.#verdict = verdict;
    this.patience = patience;
  }

  read(chunk: Buffer): ReturnType<Opening['read']> {
    this.shown.push(chunk.toString('latin1', 0, 100));
    if (this.#until === 'hold') this.held = Buffer.concat(this.#kept);
    this.#kept.push(chunk);
    if (!chunk.includes('!')) return this.#until;
    if (this.#verdict !== 'done') return this.#verdict;
    this.done = true;
    return 'pass';
  }

  hear(chunk: Buffer): void {
    this.heard.push(chunk.toString('latin1', 0, 100));
  }

  giveUp(why: 'ended' | 'late'): TunnelRefusal {
    this.gaveUp.push(why);
    return refusal('too late');
  }
}

/** From here on, timers wait for the test to turn the time. */
export function stopTime(t: Test): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
}

/** Settles when the script has been shown so much. */
export async function untilShown(script: Script, text: string): Promise<void> {
  while (!script.shown.join('').includes(text)) await setImmediate();
}
