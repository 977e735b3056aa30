/** What the programs of this folder have in common: their arguments, and an access log of one line per request, written in batches as loggers do. */
import { createWriteStream, readFileSync } from 'node:fs';

const [port = '', origin = '', caFile = '', logFile = ''] = process.argv.slice(2);

export const PORT = Number(port);
export const ORIGIN = origin;
export const CA = readFileSync(caFile, 'utf8');

const log = createWriteStream(logFile, { flags: 'a' });

/** `started` is of performance.now(). */
export function logLine(address: string, method: string, target: string, status: number, bytes: number, started: number): void {
  log.write(`${JSON.stringify({ time: Date.now(), address, method, target, status, bytes, durationMs: performance.now() - started })}\n`);
}
