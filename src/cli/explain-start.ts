/** Why a listener could not be opened, and what to do about it. */

export function explainStart(error: unknown): string {
  const { code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  if (code === 'EADDRINUSE') return `${address ?? ''}:${port ?? ''} is in use. End the program that listens there, or change the listener's address.`;
  if (code === 'EACCES') return `${address ?? ''}:${port ?? ''} may not be bound: ports below 1024 need a privilege. Use a higher port.`;
  if (code === 'EADDRNOTAVAIL') return `${address ?? ''} is no address of this host. Listen on 0.0.0.0, or on one it has.`;
  return error instanceof Error ? error.message : String(error);
}
