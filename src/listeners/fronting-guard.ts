/**
 * Checks that the TLS inside a tunnel asks for the host that was authorised:
 * otherwise a partner that shares its address with others could serve another
 * host (docs/fronting.md). A server may ask for a second ClientHello, so the
 * check ends only when the server has accepted one.
 */
import { isIP } from 'node:net';
import type { Config } from '../config/config.ts';
import type { Permit } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { Opening, TunnelRefusal } from '../relay/tunnel.ts';
import { type HelloResult, TlsOpening } from '../targets/client-hello.ts';
import { show } from '../targets/quote.ts';
import type { RequestContext } from './request-context.ts';
import { alertFor } from './tls-terminator.ts';

/** The configuration that the guard depends on. */
export interface FrontingTerms {
  /** `tls`: how long to wait for a ClientHello where one is required, ms. */
  readonly timeouts: Pick<Config['timeouts'], 'tls'>;
}

/** What the guard needs from the tunnel's request. */
export type GuardedRequest = Pick<RequestContext, 'record' | 'enterHello'>;

const NONE_HELD: Buffer = Buffer.alloc(0);

/**
 * The guard of one tunnel by CONNECT; null where there is nothing to compare:
 * the check is off, or CONNECT named an address.
 * @param request of the tunnel; the guard writes its findings into the request's
 * record
 */
export function createFrontingGuard(request: GuardedRequest, permit: Permit, { timeouts }: FrontingTerms): Opening | null {
  const { tunnelSni } = permit.destination;
  return tunnelSni === 'off' || isIP(request.record.host) !== 0 ? null : new FrontingGuard(request, permit, tunnelSni, false, timeouts.tls);
}

/** The guard of steered raw TLS: its first hello has been authorised, and the tunnel is for that name only. */
export function createSteeringGuard(request: GuardedRequest, permit: Permit, { timeouts }: FrontingTerms): Opening {
  return new FrontingGuard(request, permit, 'require', true, timeouts.tls);
}

class FrontingGuard implements Opening {
  readonly patience: number;
  held = NONE_HELD;
  readonly #request: GuardedRequest;
  readonly #tunnelSni: 'require' | 'report';
  /** The first hello is already part of the request. */
  readonly #entered: boolean;
  /** Nothing is forwarded before the verdict. */
  readonly #holds: boolean;
  readonly #tls = new TlsOpening();
  /** A tunnel that continues in spite of a finding is not inspected further. */
  #over = false;

  constructor(request: GuardedRequest, { verdict }: Permit, tunnelSni: 'require' | 'report', entered: boolean, patience: number) {
    this.#request = request;
    this.#tunnelSni = tunnelSni;
    this.#entered = entered;
    // In report mode a mismatch is reported and not delayed.
    this.#holds = tunnelSni === 'require' && verdict.verdict === 'allow' && !verdict.lenient;
    this.patience = patience;
  }

  get done(): boolean {
    return this.#over || this.#tls.settled;
  }

  read(chunk: Buffer): ReturnType<Opening['read']> {
    const result = this.#tls.fromClient(chunk);
    this.held = this.#holds ? this.#tls.earlier : NONE_HELD;
    if (result === 'none') return 'pass';
    if (result === 'more') return this.#holds ? 'hold' : 'pass';
    const complaint = complain(result, this.#request.record.host, this.#tls.hellos);
    if (complaint !== null) return this.#complain(complaint, result.kind !== 'not-tls');
    const fault = result.kind === 'hello' && this.#tls.hellos === 1 && !this.#entered ? this.#request.enterHello(result.random) : null;
    return fault === null ? 'pass' : { fault, lastWords: alertFor(fault) };
  }

  hear(chunk: Buffer): void {
    // The server accepts no hello either; where that matters, the client is still watched.
    if (this.#tls.fromServer(chunk) === 'not-tls' && !this.#holds) this.#over = true;
  }

  giveUp(why: 'ended' | 'late'): TunnelRefusal {
    return this.#refuse(
      why === 'ended'
        ? 'the client ended before its ClientHello was complete'
        : `the ClientHello was not complete after ${this.patience} ms`,
      true,
    );
  }

  #complain(complaint: string, isTls: boolean): 'pass' | TunnelRefusal {
    if (this.#holds) return this.#refuse(complaint, isTls);
    this.#over = true;
    // Plain text is no fronting, and common in some tunnels: it is reported only where TLS is required.
    if (isTls || this.#tunnelSni === 'require') this.#request.record.noteReported('sni-mismatch', complaint);
    return 'pass';
  }

  #refuse(complaint: string, isTls: boolean): TunnelRefusal {
    const { record } = this.#request;
    const { host, destination, form } = record;
    record.verdict = 'deny';
    const remedy =
      form === 'sni'
        ? `let the client ask for ${host} in every ClientHello`
        : `let the TLS inside the tunnel ask for ${host}, CONNECT to the host that is meant, or set destinations.${destination}.tunnelSni to report`;
    const fault = new Fault('sni-mismatch', complaint, { remedy });
    // A client that does not speak TLS would read an alert as garbage.
    return { fault, lastWords: isTls ? alertFor(fault) : null };
  }
}

/** What is wrong with the beginning of a tunnel to `host`, as a sentence; null: nothing. */
function complain(result: HelloResult, host: string, hellos: number): string | null {
  if (result.kind === 'not-tls') return `the tunnel carries no TLS: ${result.reason}`;
  if (result.kind === 'invalid') return result.reason;
  const { serverName, ech } = result;
  if (serverName === host) return null;
  const what = hellos > 1 ? 'the second ClientHello, which the server asked for,' : 'the TLS inside the tunnel';
  if (serverName === null) return `${what} names no host, and ${host} was permitted`;
  return `${what} is for ${show(serverName)}, and ${host} was permitted${ech ? '; a second, encrypted name may be inside (ECH)' : ''}`;
}
