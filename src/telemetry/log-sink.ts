/**
 * Takes log lines off the hot path: gathers them into batches for a stream and
 * loses lines, counted, rather than wait for a reader or grow without end.
 *
 * pino's own destination is not used: it writes to its file descriptor from
 * the thread pool and once more, synchronously, on exit. With a pipe that
 * nobody reads, the one holds a thread for ever and the other keeps the process from ending.
 */
import type { Writable } from 'node:stream';

export interface LogSinkOptions {
  /** Characters after which a batch is written without waiting for the clock. */
  readonly batchLength?: number;
  /** Longest time a line waits, ms. */
  readonly flushEvery?: number;
  /** Characters that may wait for a slow reader; lines beyond are dropped. */
  readonly maxLength?: number;
  /** Longest time `close` waits for a slow reader, ms. */
  readonly closeTimeout?: number;
}

export interface LogSink {
  /** Never blocks, never throws. */
  write(line: string): void;
  /** Hands over what has been gathered, and does not wait for more. */
  flush(): void;
  /** Lines lost since the start. */
  readonly dropped: () => number;
  /** Writes what is left and waits for it, within `closeTimeout`. Does not end the stream, which is the caller's. */
  close(): Promise<void>;
}

/** Of every sink that is open. */
const flushes = new Set<() => void>();

/** One listener for all of them: Node takes many on one event for a leak. */
function flushAll(): void {
  for (const flush of flushes) flush();
}

function flushAtExit(flush: () => void): void {
  if (flushes.size === 0) process.on('exit', flushAll);
  flushes.add(flush);
}

function forgetFlush(flush: () => void): void {
  flushes.delete(flush);
  if (flushes.size === 0) process.off('exit', flushAll);
}

/**
 * `output` should be a stream whose writes do not block: `process.stdout` does
 * not on a pipe or socket, and on a file or terminal only as long as the write takes.
 */
export function createLogSink(output: Writable, options: LogSinkOptions = {}): LogSink {
  const { batchLength = 32_768, flushEvery = 500, maxLength = 1_048_576, closeTimeout = 1000 } = options;
  let batch = '';
  let lines = 0;
  /** Characters and lines handed to the stream and not yet taken by it. */
  let inFlight = 0;
  let linesInFlight = 0;
  let dropped = 0;
  let open = true;
  let whenIdle: (() => void) | null = null;

  const written = (error?: Error | null): void => {
    if (error !== undefined && error !== null) dropped += linesInFlight;
    inFlight = 0;
    linesInFlight = 0;
    if (batch.length >= batchLength || (!open && lines > 0)) flush();
    if (inFlight === 0) whenIdle?.();
  };

  const flush = (): void => {
    if (inFlight > 0 || lines === 0) return;
    const text = batch;
    inFlight = text.length;
    linesInFlight = lines;
    batch = '';
    lines = 0;
    if (output.writable) output.write(text, written);
    else written(new Error('the log output is closed'));
  };

  const write = (line: string): void => {
    if (!open || batch.length + inFlight + line.length > maxLength) {
      dropped += 1;
      return;
    }
    batch += line;
    lines += 1;
    if (batch.length >= batchLength) flush();
  };

  // A reader that went away (EPIPE) must not end the proxy: `written` counts what it missed.
  const onError = (): void => {};
  const timer = setInterval(flush, flushEvery).unref();
  output.on('error', onError);
  flushAtExit(flush);

  return {
    write,
    flush,
    dropped: () => dropped,
    close: async () => {
      if (!open) return;
      open = false;
      clearInterval(timer);
      forgetFlush(flush);
      flush();
      if (inFlight > 0) {
        const idle = Promise.withResolvers<undefined>();
        whenIdle = () => {
          idle.resolve(undefined);
        };
        const deadline = setTimeout(whenIdle, closeTimeout);
        await idle.promise;
        clearTimeout(deadline);
      }
      dropped += lines + linesInFlight;
      if (inFlight === 0) output.off('error', onError);
    },
  };
}
