/**
 * A stretch of network between two sockets of this machine: every byte, end and
 * reset arrives in order, each direction with a delay of its own. Loopback alone
 * hides what happens while an answer and a request pass each other.
 */
import { connect, createServer, type Server, Socket } from 'node:net';
import { between, seeded } from '../support/random.ts';

/** Bytes on the way in one direction, at most: beyond, the sender has to wait, as for a full window. */
const WINDOW = 256 * 1024;

export interface RelayOptions {
  readonly port: number;
  /** The longest delay of a direction, ms: each connection has one from 0 to this. */
  readonly most: number;
  /** For the delays, which are the same in every run. */
  readonly seed: number;
}

/** @returns a server that passes every connection on to `port` of loopback; whoever starts it closes it */
export function createRelay({ port, most, seed }: RelayOptions): Server {
  const random = seeded(seed);
  return createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
    carry(readToTheEnd(near), readToTheEnd(far), between(random, 0, most));
    carry(far, near, between(random, 0, most));
  });
}

/** One direction. A reset arrives as a reset, behind everything that was sent before it. */
function carry(from: Socket, to: Socket, delay: number): void {
  let underWay = 0;
  const later = (act: () => void): void => {
    if (delay === 0) act();
    else setTimeout(act, delay);
  };
  from.on('data', (chunk: Buffer) => {
    underWay += chunk.length;
    if (underWay > WINDOW) from.pause();
    later(() => {
      to.write(chunk, () => {
        underWay -= chunk.length;
        if (underWay <= WINDOW) from.resume();
      });
    });
  });
  from.once('end', () => {
    later(() => to.end());
  });
  from.once('error', () => {
    later(() => {
      reset(to);
    });
  });
  from.once('close', () => {
    // Both directions have ended in order by then, or one was reset.
    later(() => {
      if (!to.writableEnded) reset(to);
    });
  });
}

function reset(socket: Socket): void {
  if (!socket.destroyed) socket.resetAndDestroy();
}

/**
 * Node destroys a socket whose write has failed, and with it what the kernel
 * has received and nobody has read yet. A network loses nothing that way: here
 * a failed write is forgotten, and reading goes on to the end.
 */
export function readToTheEnd(socket: Socket): Socket {
  const write = socket._write.bind(socket);
  socket._write = (chunk, encoding, done) => {
    write(chunk, encoding, () => {
      done();
    });
  };
  const writev = socket._writev?.bind(socket);
  if (writev !== undefined) {
    socket._writev = (chunks, done) => {
      writev(chunks, () => {
        done();
      });
    };
  }
  return socket;
}
