/** A raw TCP connection for tests that care about every byte: says what it is told, keeps what it hears. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';

export interface Wire {
  readonly socket: Socket;
  /** Everything heard so far, one character a byte. */
  readonly heard: string;
  /** One character a byte. */
  send(bytes: string | Buffer): void;
  /** Settles with everything heard when it holds `part`; rejects when the connection closes without. */
  until(part: string | RegExp): Promise<string>;
  /** Settles once the connection is over, with all that was heard and how it ended: in order, or by a reset. */
  readonly ended: Promise<{ heard: string; how: 'fin' | 'reset' }>;
}

/** Takes over a socket that somebody else connected or accepted. */
export function wireOf(socket: Socket): Wire {
  const chunks: string[] = [];
  let text = '';
  let finished = false;
  let failed = false;
  const heard = (): string => {
    text += chunks.splice(0).join('');
    return text;
  };
  const changed = new EventTarget();
  const tell = (): void => {
    changed.dispatchEvent(new Event('change'));
  };
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk.toString('latin1'));
    tell();
  });
  socket.on('end', () => {
    finished = true;
    tell();
  });
  socket.on('error', () => {
    failed = true;
  });
  const ended = new Promise<{ heard: string; how: 'fin' | 'reset' }>((resolve) => {
    socket.once('close', () => {
      tell();
      resolve({ heard: heard(), how: failed || !finished ? 'reset' : 'fin' });
    });
  });
  const fits = (part: string | RegExp): boolean => (typeof part === 'string' ? heard().includes(part) : part.test(heard()));
  return {
    socket,
    ended,
    get heard() {
      return heard();
    },
    send(bytes) {
      socket.write(bytes, 'latin1');
    },
    until(part) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          if (fits(part)) resolve(heard());
          else if (finished || socket.destroyed) reject(new Error(`the connection ended without ${String(part)}; heard: ${heard().slice(0, 2000)}`));
          else return;
          changed.removeEventListener('change', look);
        };
        changed.addEventListener('change', look);
        look();
      });
    },
  };
}

/** Connects; the socket ends with the test. `halfOpen`: the other side's FIN does not end ours. `from`: our own address. */
export async function openWire(t: Test, port: number, { halfOpen = false, from = '127.0.0.1' } = {}): Promise<Wire> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: halfOpen, noDelay: true, localAddress: from });
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return wireOf(socket);
}

/** One request on a connection of its own, closed by the proxy. @returns all it answered */
export async function askRaw(t: Test, port: number, request: string | Buffer, from?: string): Promise<string> {
  const wire = await openWire(t, port, from === undefined ? {} : { from });
  wire.send(request);
  const { heard } = await wire.ended;
  return heard;
}
