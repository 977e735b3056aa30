/** One round of the self-test: each probe in order, then the address guards; and the result. */
import type { DestinationConfig } from '../config/config.ts';
import type { Egress } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import type { ProbeAnswer } from './ask-listener.ts';
import { METADATA_ADDRESS, type SelfTestProbe } from './probes.ts';

/** The result of a round; `reason` is a sentence without its full stop. */
export type RoundResult =
  | { readonly state: 'holds' }
  /** A request that must be refused was not. */
  | { readonly state: 'broken'; readonly reason: string }
  /** Nothing was let through, but not every probe could be tried. */
  | { readonly state: 'unknown'; readonly reason: string };

/** The result of a probe: the answer on the wire, and the record of the request if there was one. */
export interface ProbeOutcome {
  readonly answer: ProbeAnswer;
  readonly record: AccessRecord | null;
}

interface RoundOptions {
  readonly probes: readonly SelfTestProbe[];
  readonly ask: (probe: SelfTestProbe) => Promise<ProbeOutcome>;
  readonly egress: Pick<Egress, 'survey'>;
  /** The destinations whose address guards are checked. */
  readonly destinations: readonly DestinationConfig[];
  /** One of our own listeners. */
  readonly self: { readonly host: string; readonly port: number };
  readonly signal: AbortSignal;
}

/** Ends early if an intermediary answers instead of a listener, or a probe is not answered: further probes would fail the same way. */
export async function runRound({ probes, ask, egress, destinations, self, signal }: RoundOptions): Promise<RoundResult> {
  const wrong: string[] = [];
  let unknown: string | null = null;
  for (const probe of probes) {
    const outcome = await ask(probe);
    if (signal.aborted) break;
    const leak = findLeak(probe, outcome);
    if (leak !== null) wrong.push(leak);
    else unknown ??= findDoubt(probe, outcome.answer, outcome.record);
    if (outcome.answer.kind === 'none') break;
  }
  for (const destination of destinations) wrong.push(...(await askGuards(egress, destination, self, signal)));
  const [first, ...more] = wrong;
  if (first !== undefined) return { state: 'broken', reason: more.length === 0 ? first : `${first}, and ${more.length} more` };
  return unknown === null ? { state: 'holds' } : { state: 'unknown', reason: unknown };
}

/** Why a request that must be refused was not; null: it was, or the result is unknown. */
function findLeak({ what }: SelfTestProbe, { answer, record }: ProbeOutcome): string | null {
  if (record?.verdict === 'allow' || record?.verdict === 'report') return `${what} was admitted for ${record.host}`;
  return answer.kind === 'served' ? `${what} was answered with ${answer.with}` : null;
}

/** A refusal for another reason lets nothing through, but does not prove that the right check would have refused. */
function findDoubt({ what, expected }: SelfTestProbe, answer: ProbeAnswer, record: AccessRecord | null): string | null {
  if (answer.kind === 'none') return `${what}: ${answer.why}`;
  // An alert has none of our codes.
  const code = answer.kind === 'refused' ? (answer.code ?? record?.code ?? '-') : '-';
  return expected.some((each) => each === code) ? null : `${what} was refused with ${code}, and not with ${expected.join(' or ')}`;
}

/** A permitted name that resolves to an address that may never be dialled: looks nothing up and dials nothing. */
async function askGuards(
  egress: Pick<Egress, 'survey'>,
  destination: DestinationConfig,
  self: RoundOptions['self'],
  signal: AbortSignal,
): Promise<string[]> {
  const { name, hosts, addresses } = destination;
  const [host = name] = hosts;
  const admits = async (address: string, port: number): Promise<boolean> => {
    try {
      const surveyed = await egress.survey(destination, host, port, [address], signal);
      return surveyed.some(({ refusal, reported }) => refusal === null || reported);
    } catch (error) {
      throw Fault.from(error);
    }
  };
  const wrong: string[] = [];
  if (await admits(self.host, self.port)) wrong.push(`the address guard of ${name} lets this proxy itself be dialled`);
  // Configured ranges define what is permitted.
  if (addresses === null && (await admits(METADATA_ADDRESS, 80)))
    wrong.push(`the address guard of ${name} lets ${METADATA_ADDRESS} be dialled`);
  return wrong;
}
