/**
 * Takes log lines off the hot path: collects them in batches. It drops and
 * counts lines rather than wait for a reader, fail with a disk, or grow without
 * bound. When writing works again, one line reports how many were lost.
 */
import type { Writable } from 'node:stream';
import { LogOutput, openLogOutput } from './log-output.ts';

/**
 * Why a line was lost.
 * - `slow`: no room is left, because the reader or the disk is too slow, or accepts nothing.
 * - `full`: the disk is full, or the quota or the maximum file size is reached.
 * - `gone`: the pipe or socket has no reader any more.
 * - `failed`: any other error of a write.
 * - `unwritable`: the line could not be built: a bug.
 */
export const LOSS_REASONS = ['slow', 'full', 'gone', 'failed', 'unwritable'] as const;
/** Why log lines were lost; label value of `eco_egress_log_lines_dropped_total`. */
export type LossReason = (typeof LOSS_REASONS)[number];

/** Lost lines since the start. */
export type LossCounts = Readonly<Record<LossReason, number>>;

/** A loss that has not been logged yet. */
export interface Loss {
  /** Lines lost since the last report in the log. */
  readonly lines: number;
  readonly reasons: Partial<LossCounts>;
  /** Error of the latest failed write; null: none failed. */
  readonly error: string | null;
  /** When the first of them was lost, ms since the epoch. */
  readonly since: number;
}

/** One sentence for an operator. */
export function explainLoss({ lines, error, since }: Loss): string {
  return `The log has lost ${lines} ${lines === 1 ? 'line' : 'lines'} since ${new Date(since).toISOString()}: ${error === null ? 'its reader is too slow, or has stopped' : `it cannot be written (${error})`}.`;
}

/** For `LogSink`; the defaults suit production. */
export interface LogSinkOptions {
  /** Characters after which a batch is written without waiting for the timer. */
  readonly batchLength?: number;
  /** Longest time a line waits, ms. */
  readonly flushEvery?: number;
  /** Characters that may wait, including the current batch; further lines are dropped. */
  readonly maxLength?: number;
  /** Longest time `close` waits for a slow reader, ms. */
  readonly closeTimeout?: number;
  /** The line that reports the loss, with its line feed; none by default. */
  readonly describeLoss?: (loss: Loss) => string;
  /** Called by `close` when lines were lost and the log could not say so. */
  readonly onUntold?: (loss: Loss) => void;
}

/** Of every sink that is open. */
const endings = new Set<() => void>();

/** One listener for all of them: Node treats many listeners of one event as a leak. */
function endAll(): void {
  for (const end of endings) end();
}

function atExit(end: () => void): void {
  if (endings.size === 0) process.on('exit', endAll);
  endings.add(end);
}

function notAtExit(end: () => void): void {
  endings.delete(end);
  if (endings.size === 0) process.off('exit', endAll);
}

/** A batch that is being written. */
interface LogBatch {
  readonly bytes: Buffer;
  /** Characters. */
  readonly length: number;
  /** Lines of others. */
  readonly lines: number;
  /** Bytes before them: the end of a partial line, and the line that reports the loss. */
  readonly head: number;
  readonly told: Loss | null;
}

const LINE_FEED = 0x0a;
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const READER_GONE = new Set(['EPIPE', 'ECONNRESET', 'ENOTCONN']);

const none = (): Record<LossReason, number> => ({ slow: 0, full: 0, gone: 0, failed: 0, unwritable: 0 });

/** Takes log lines, and writes them in batches. */
export class LogSink {
  readonly #output: LogOutput;
  readonly #batchLength: number;
  readonly #maxLength: number;
  readonly #closeTimeout: number;
  readonly #describeLoss: (loss: Loss) => string;
  readonly #onUntold: LogSinkOptions['onUntold'];
  readonly #timer: NodeJS.Timeout;
  #batch = '';
  #lines = 0;
  /** Passed to the output, without a result yet; null: nothing is. */
  #inFlight: LogBatch | null = null;
  readonly #lost = none();
  /** The loss that is not in the log yet. */
  #untold: Loss | null = null;
  /** Of the latest write, if it failed. */
  #error: string | null = null;
  /** The last bytes written end in the middle of a line. */
  #torn = false;
  #open = true;
  #whenIdle: (() => void) | null = null;

  /** @param output an output, or a stream to create one from */
  constructor(output: LogOutput | Writable, options: LogSinkOptions = {}) {
    const { batchLength = 32_768, flushEvery = 500, maxLength = 1_048_576, closeTimeout = 1000, describeLoss = () => '' } = options;
    this.#output = output instanceof LogOutput ? output : openLogOutput(output);
    this.#batchLength = batchLength;
    this.#maxLength = maxLength;
    this.#closeTimeout = closeTimeout;
    this.#describeLoss = describeLoss;
    this.#onUntold = options.onUntold;
    this.#timer = setInterval(() => {
      this.flush();
    }, flushEvery).unref();
    atExit(this.#end);
  }

  /** Never blocks, never throws. */
  write(line: string): void {
    if (!this.#open || this.#batch.length + (this.#inFlight?.length ?? 0) + line.length > this.#maxLength) {
      this.lose('slow');
      return;
    }
    this.#batch += line;
    this.#lines += 1;
    if (this.#batch.length >= this.#batchLength) this.flush();
  }

  /** Writes the collected lines without waiting for more. */
  flush(): void {
    if (this.#inFlight !== null) return;
    const flight = this.#load();
    if (flight === null) return;
    this.#inFlight = flight;
    this.#output.write(flight.bytes, (written, error) => {
      this.#inFlight = null;
      this.#error = error === null ? null : (error.code ?? error.message);
      if (error === null) this.#torn = false;
      else this.#drop(flight, written, lossReason(error));
      const more =
        this.#batch.length >= this.#batchLength || (!this.#open && (this.#lines > 0 || (error === null && this.#untold !== null)));
      if (more) this.flush();
      if (this.#idle) this.#whenIdle?.();
    });
  }

  /** Counts lines that were lost. */
  lose(reason: LossReason, lines = 1): void {
    if (lines === 0) return;
    this.#lost[reason] += lines;
    const untold = this.#untold;
    this.#untold = {
      lines: (untold?.lines ?? 0) + lines,
      reasons: { ...untold?.reasons, [reason]: (untold?.reasons[reason] ?? 0) + lines },
      since: untold?.since ?? Date.now(),
      error: null,
    };
  }

  /** Lines lost since the start, by reason. */
  losses(): LossCounts {
    return this.#lost;
  }

  /** The current loss; null while lines are written. */
  trouble(): Loss | null {
    const loss = merge(this.#inFlight?.told ?? null, this.#untold);
    return loss === null ? null : { ...loss, error: this.#error };
  }

  /** Writes what is left and waits for it, within `closeTimeout`. Does not end the stream, which is the caller's. */
  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    notAtExit(this.#end);
    this.flush();
    if (!this.#idle) {
      const idle = Promise.withResolvers<undefined>();
      this.#whenIdle = () => {
        idle.resolve(undefined);
      };
      const deadline = setTimeout(this.#whenIdle, this.#closeTimeout);
      await idle.promise;
      clearTimeout(deadline);
    }
    this.lose('slow', this.#lines + (this.#inFlight?.lines ?? 0));
    this.#output.close();
    const untold = this.trouble();
    if (untold !== null) this.#onUntold?.(untold);
  }

  get #idle(): boolean {
    return this.#inFlight === null;
  }

  readonly #end = (): void => {
    this.#output.writeLast(this.#load()?.bytes ?? Buffer.alloc(0));
  };

  /** Takes the collected lines, after a report of the loss, which is written as soon as possible, even without a further line. */
  #load(): LogBatch | null {
    const told = this.#untold;
    const notice = told === null ? '' : this.#describeLoss({ ...told, error: this.#error });
    if (this.#lines === 0 && notice === '') return null;
    const head = `${this.#torn ? '\n' : ''}${notice}`;
    const text = head + this.#batch;
    const flight = { bytes: Buffer.from(text), length: text.length, lines: this.#lines, head: Buffer.byteLength(head), told };
    this.#batch = '';
    this.#lines = 0;
    this.#untold = null;
    return flight;
  }

  /** No more of this batch will be written: complete lines are in the log, the others are lost. */
  #drop({ bytes, lines, head, told }: LogBatch, written: number, reason: LossReason): void {
    if (written > 0) this.#torn = bytes[written - 1] !== LINE_FEED;
    if (written < head) this.#untold = merge(told, this.#untold);
    let whole = 0;
    for (let at = bytes.indexOf(LINE_FEED, head); at !== -1 && at < written; at = bytes.indexOf(LINE_FEED, at + 1)) whole += 1;
    this.lose(reason, lines - whole);
  }
}

function merge(earlier: Loss | null, later: Loss | null): Loss | null {
  if (earlier === null || later === null) return earlier ?? later;
  const reasons: Partial<Record<LossReason, number>> = { ...earlier.reasons };
  for (const reason of LOSS_REASONS)
    if (later.reasons[reason] !== undefined) reasons[reason] = (reasons[reason] ?? 0) + later.reasons[reason];
  return { lines: earlier.lines + later.lines, reasons, since: earlier.since, error: later.error };
}

function lossReason({ code = '' }: NodeJS.ErrnoException): LossReason {
  if (FULL.has(code)) return 'full';
  return READER_GONE.has(code) ? 'gone' : 'failed';
}
