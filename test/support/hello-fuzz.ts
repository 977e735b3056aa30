/** Holds the reader of ClientHellos to what it promises, over as many inputs as are wanted. */
import { ClientHelloReader, type HelloResult } from '../../src/targets/client-hello.ts';
import { parseHost } from '../../src/targets/host.ts';
import { type HelloCase, makeHelloCase } from './hello-mutations.ts';
import { bytesInUse } from './memory.ts';

export interface FuzzReport {
  /** How many inputs there were of each verdict. */
  readonly verdicts: ReadonlyMap<string, number>;
  /** Bytes given to readers. */
  readonly bytes: number;
  /** Most that a reader occupied, bytes. */
  readonly mostHeld: number;
  /** The slowest input, ms. */
  readonly slowest: number;
  /** In use at the end and not after the first tenth, bytes. */
  readonly grown: number;
}

type Verdict = 'more' | HelloResult;

export const MOST_HELD = 65_536;
/** Every so often, what is not decided goes on without end. */
const ENDLESS = Buffer.alloc(2 * MOST_HELD);

/** @throws with the seed and the number of the first input that breaks a promise, and how to run that one alone */
export function fuzzReader({ seed, runs, from = 0 }: { seed: number; runs: number; from?: number }): FuzzReport {
  const verdicts = new Map<string, number>();
  const report = { verdicts, bytes: 0, mostHeld: 0, slowest: 0, grown: 0 };
  let before = 0;
  for (let i = 0; i < runs; i += 1) {
    if (i === Math.floor(runs / 10)) before = bytesInUse();
    const number = from + i;
    const made = makeHelloCase(seed, number);
    const started = performance.now();
    try {
      const { verdict, held } = readBoth(made, number);
      const kind = verdict === 'more' ? 'more' : verdict.kind;
      verdicts.set(kind, (verdicts.get(kind) ?? 0) + 1);
      report.bytes += 2 * made.stream.length;
      report.mostHeld = Math.max(report.mostHeld, held);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const { stream, cuts } = made;
      throw new Error(`${why}\nseed ${seed}, input ${number}: npm run fuzz -- --only hellos --seed ${seed} --from ${number} --runs 1\nin chunks of ${cuts.join(', ')}: ${stream.toString('hex', 0, 600)}`, { cause: error });
    }
    report.slowest = Math.max(report.slowest, performance.now() - started);
  }
  report.grown = bytesInUse() - before;
  return report;
}

/** Once as a whole, and once in chunks. */
function readBoth({ stream, cuts, expected }: HelloCase, number: number): { verdict: Verdict; held: number } {
  const whole = new ClientHelloReader();
  const verdict = whole.push(stream);
  promise(whole.earlier.length === 0, 'nothing comes before the only chunk');

  const reader = new ClientHelloReader();
  let again: Verdict = 'more';
  let start = 0;
  for (let i = 0; start < stream.length && again === 'more'; i += 1) {
    const end = Math.min(stream.length, start + (cuts[Math.min(i, cuts.length - 1)] ?? 1));
    again = reader.push(stream.subarray(start, end));
    promise(reader.earlier.length === start, 'as many bytes are kept as came before');
    start = end;
  }
  promise(isSame(verdict, again), `the verdict depends on how the stream is cut: ${JSON.stringify(verdict)}, ${JSON.stringify(again)}`);
  promise(reader.earlier.compare(stream, 0, reader.earlier.length) === 0, 'the bytes are kept as they came');
  if (expected !== undefined) promise(fits(verdict, expected), `a good hello was read as ${JSON.stringify(verdict)}`);
  if (verdict === 'more') {
    if (number % 64 === 0) promise(reader.push(ENDLESS) !== 'more', 'twice the bound decides whatever it is');
  } else if (verdict.kind === 'hello') {
    promise(verdict.bytes <= stream.length, 'no more bytes than there are');
    promise(verdict.serverName === null || (parseHost(verdict.serverName) === verdict.serverName && stream.length > verdict.serverName.length), 'a name is canonical');
  } else promise(/^[\x20-\x7e]{1,400}$/.test(verdict.reason), 'a reason can be shown');
  const held = Math.max(whole.capacity, reader.capacity);
  promise(held <= MOST_HELD, `${held} bytes are held`);
  return { verdict, held };
}

/** Good hellos are refused for their length alone, of the message or of its records. */
function fits(verdict: Verdict, { serverName, ech }: NonNullable<HelloCase['expected']>): boolean {
  if (verdict === 'more') return false;
  return verdict.kind === 'hello' ? verdict.serverName === serverName && verdict.ech === ech : verdict.kind === 'invalid' && /bytes long, and at most|spread over more than/.test(verdict.reason);
}

function isSame(one: Verdict, other: Verdict): boolean {
  if (one === 'more' || other === 'more') return one === other;
  if (one.kind !== 'hello' || other.kind !== 'hello') return one.kind === other.kind && one.kind !== 'hello' && other.kind !== 'hello' && one.reason === other.reason;
  return one.serverName === other.serverName && one.bytes === other.bytes && one.ech === other.ech;
}

function promise(kept: boolean, what: string): void {
  if (!kept) throw new Error(`not so: ${what}`);
}
