/**
 * Whether the TLS inside a tunnel asks for the host that CONNECT asked for:
 * otherwise a partner that shares its address with others could serve another
 * host than the policy judged (docs/fronting.md).
 */
import { isIP } from 'node:net';
import type { Config } from '../config/config.ts';
import type { Permit } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { Opening, Refusal } from '../relay/opening.ts';
import { ClientHelloReader, type HelloResult } from '../target/client-hello.ts';
import { show } from '../target/quote.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import { unrecognisedName } from './tls-alert.ts';

export interface FrontingTerms {
  /** `tls`: how long a ClientHello may take where it is waited for, ms. */
  readonly timeouts: Pick<Config['timeouts'], 'tls'>;
}

const NOTHING = Buffer.alloc(0);

/**
 * The guard of one tunnel; null where there is nothing to compare, be it that
 * nobody wants it or that CONNECT named an address.
 * @param record of the tunnel; the guard notes there what it finds
 */
export function createFrontingGuard(record: AccessRecord, { destination, verdict }: Permit, { timeouts }: FrontingTerms): Opening | null {
  const { tunnelSni } = destination;
  if (tunnelSni === 'off' || isIP(record.host) !== 0) return null;
  const enforced = verdict.verdict === 'allow' && !verdict.lenient;
  return new FrontingGuard(record, tunnelSni, enforced, timeouts.tls);
}

class FrontingGuard implements Opening {
  readonly patience: number;
  readonly #record: AccessRecord;
  readonly #tunnelSni: 'require' | 'report';
  /** Nothing passes before the verdict. */
  readonly #holds: boolean;
  readonly #reader = new ClientHelloReader();

  constructor(record: AccessRecord, tunnelSni: 'require' | 'report', enforced: boolean, patience: number) {
    this.#record = record;
    this.#tunnelSni = tunnelSni;
    this.#holds = tunnelSni === 'require' && enforced;
    this.patience = patience;
  }

  get held(): Buffer {
    return this.#holds ? this.#reader.earlier : NOTHING;
  }

  read(chunk: Buffer): ReturnType<Opening['read']> {
    const result = this.#reader.push(chunk);
    if (result === 'more') return this.#holds ? 'hold' : 'pass';
    const complaint = complain(result, this.#record.host);
    if (complaint === null) return 'done';
    const isTls = result.kind !== 'not-tls';
    if (this.#holds) return this.#refuse(complaint, isTls);
    // Plain text is no fronting, and usual enough in some tunnels: only who wants TLS is told.
    if (isTls || this.#tunnelSni === 'require') this.#report(complaint);
    return 'done';
  }

  giveUp(why: 'ended' | 'late'): Refusal {
    return this.#refuse(why === 'ended' ? 'the client ended before its ClientHello was complete' : `the ClientHello was not complete after ${this.patience} ms`, true);
  }

  #refuse(complaint: string, isTls: boolean): Refusal {
    const { host, destination } = this.#record;
    this.#record.verdict = 'deny';
    const remedy = `let the TLS inside the tunnel ask for ${host}, CONNECT to the host that is meant, or set destinations.${destination}.tunnelSni to report`;
    // What is no TLS would take an alert for garbage.
    return { fault: new Fault('sni-mismatch', complaint, { remedy }), lastWords: isTls ? unrecognisedName() : null };
  }

  #report(complaint: string): void {
    this.#record.noteReported('sni-mismatch', complaint);
  }
}

/** What is wrong with the beginning of a tunnel to `host`, as a sentence; null: nothing. */
function complain(result: HelloResult, host: string): string | null {
  if (result.kind === 'not-tls') return `the tunnel carries no TLS: ${result.reason}`;
  if (result.kind === 'invalid') return result.reason;
  const { serverName, ech } = result;
  if (serverName === host) return null;
  if (serverName === null) return `the TLS inside the tunnel names no host, and CONNECT asked for ${host}`;
  return `the TLS inside the tunnel is for ${show(serverName)}, and CONNECT asked for ${host}${ech ? '; a second, encrypted name is inside (ECH)' : ''}`;
}
