/** `eco-egress serve`: runs the proxy until a signal asks it to end. */
import closeWithGrace from 'close-with-grace';
import { createService } from '../service.ts';
import { EXIT } from './exit.ts';
import type { CommandIo } from './io.ts';
import { openConfig } from './open-config.ts';

export interface ServeOptions {
  readonly config?: string;
}

/**
 * Resolves to an exit code when it could not start. Once running, the first
 * SIGTERM or SIGINT drains and ends the process with 0, a second one ends it
 * at once; an error nobody caught cuts everything, is logged, and ends it with 1.
 */
export async function run(options: ServeOptions, io: CommandIo): Promise<number> {
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const service = createService(opened.config, { logDestination: io.stdout });
  try {
    await service.start();
  } catch (error) {
    io.stderr.write(`eco-egress could not start: ${explain(error)}\n`);
    return EXIT.failed;
  }
  closeWithGrace({ delay: false, logger: false, onSecondSignal: () => io.stderr.write('second signal: ending at once\n') }, async ({ err }) => {
    if (err === undefined) {
      await service.drain();
      return;
    }
    io.stderr.write(`eco-egress ends on an error that nothing caught: ${err.stack ?? err.message}\n`);
    await service.close();
  });
  return new Promise(() => {
    // Never settles: from here on the signals end the process.
  });
}

function explain(error: unknown): string {
  const { code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  if (code === 'EADDRINUSE') return `${address ?? ''}:${port ?? ''} is in use. End the program that listens there, or change the listener's address.`;
  if (code === 'EACCES') return `${address ?? ''}:${port ?? ''} may not be bound: ports below 1024 need a privilege. Use a higher port.`;
  if (code === 'EADDRNOTAVAIL') return `${address ?? ''} is no address of this host. Listen on 0.0.0.0, or on one it has.`;
  return error instanceof Error ? error.message : String(error);
}
