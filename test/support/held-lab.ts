/** A lab whose upstream leaves every request to the test, which answers it, or not. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Test } from 'tap';
import { type Lab, type LabOptions, startLab } from './lab.ts';

export interface Held {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
}

export interface HeldLab extends Lab {
  /** The next request that reaches the upstream, in their order. */
  next(): Promise<Held>;
}

export async function startHeldLab(t: Test, options: Pick<LabOptions, 'configure' | 'drainClock' | 'monotonic' | 'overload'> = {}): Promise<HeldLab> {
  const held: Held[] = [];
  const waiting: ((held: Held) => void)[] = [];
  const lab = await startLab(t, {
    ...options,
    onRequest: (req, res) => {
      // Broken on purpose in these tests.
      req.on('error', () => {});
      res.on('error', () => {});
      const waiter = waiting.shift();
      if (waiter === undefined) held.push({ req, res });
      else waiter({ req, res });
    },
  });
  return {
    ...lab,
    next: () => {
      const first = held.shift();
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
    },
  };
}
