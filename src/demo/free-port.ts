/** Which port to ask the system for: the usual one, or any where that is taken. */
import { createServer } from 'node:net';

/** Resolves to `wanted` if it can be bound on `host` just now, otherwise to 0, which lets the system choose. */
export function preferPort(host: string, wanted: number): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    // Taken, or not for us (EACCES below 1024): either way the system chooses.
    probe.once('error', () => {
      resolve(0);
    });
    probe.listen(wanted, host, () => {
      probe.close(() => {
        resolve(wanted);
      });
    });
  });
}
