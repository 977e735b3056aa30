/** `eco-egress doctor --incident`: asks the proxy that runs here what is wrong. If none answers, that is the verdict, with findings made without it. */
import { formatReport } from '../doctor/format-report.ts';
import type { DoctorReport } from '../doctor/finding.ts';
import { formatIncident } from '../incident/format-incident.ts';
import { judgeNoProxy, type IncidentVerdict } from '../incident/judge.ts';
import { type AskedAdmin, parseAnswer, readProblem, tryAdmin } from './ask-admin.ts';
import { type CommandIo, EXIT } from './io.ts';

/** Arguments, as written. */
export interface IncidentOptions extends AskedAdmin {
  readonly incident?: string | true;
  readonly json?: boolean;
}

/** A running proxy answers a liveness probe at once, ms. */
const ALIVE_TIMEOUT = 3_000;
/** The tries take some seconds, ms. */
const INCIDENT_TIMEOUT = 45_000;

/**
 * Resolves to 0 when nothing is wrong, to 1 when something is or the question
 * was not answered, to 2 for wrong arguments.
 *
 * @param examine the checks of `doctor` itself, for when no proxy answers
 */
export async function askIncident(options: IncidentOptions, io: CommandIo, examine: () => Promise<DoctorReport>): Promise<number> {
  const alive = await tryAdmin('GET', '/healthz', options, ALIVE_TIMEOUT, io);
  if ('problem' in alive) {
    if (alive.place === null) {
      io.stderr.write(`${alive.problem}\n`);
      return alive.exitCode;
    }
    const report = await examine();
    showVerdict(options, io, { ...judgeNoProxy(alive.place, alive.reason, report, Date.now()) }, report);
    return EXIT.failed;
  }
  const asked = typeof options.incident === 'string' ? `?destination=${encodeURIComponent(options.incident)}` : '';
  const answer = await tryAdmin('POST', `/incident${asked}`, options, INCIDENT_TIMEOUT, io);
  if ('problem' in answer) {
    io.stderr.write(`${answer.problem}\n`);
    return answer.exitCode;
  }
  const verdict = parseVerdict(answer.body);
  if (verdict === null) {
    io.stderr.write(`${answer.place} does not say what is wrong (${answer.status}): ${readProblem(answer.body)}\n`);
    return answer.status === 400 ? EXIT.usage : EXIT.failed;
  }
  showVerdict(options, io, verdict, null);
  return verdict.state === 'ok' ? EXIT.ok : EXIT.failed;
}

function showVerdict({ json }: IncidentOptions, io: CommandIo, verdict: IncidentVerdict, report: DoctorReport | null): void {
  if (json === true) io.stdout.write(`${JSON.stringify(verdict, null, 2)}\n`);
  else io.stdout.write(`${formatIncident(verdict)}${report === null ? '' : `\nWhat can be seen without the proxy:\n\n${formatReport(report, io.stdout)}`}`);
}

function parseVerdict(body: string): IncidentVerdict | null {
  const parsed = parseAnswer(body);
  return typeof parsed['sentence'] === 'string' && typeof parsed['state'] === 'string' ? (parsed as unknown as IncidentVerdict) : null;
}
