/** A fault of a parent proxy, and whether another parent, or another address, could do better. */
import type { HopConfig, ParentConfig } from '../config/config.ts';
import { Fault, type FaultFacts } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';

/** Codes of faults of parents. */
export type HopCode = 'hop-failed' | 'hop-timeout' | 'hop-credentials' | 'hop-refused' | 'hop-upstream-failed';

/**
 * What is at fault: the `parent` itself, so another one may do better; the
 * requested target (`beyond`), which is the same for another one; or `either`,
 * where the parent's answer leaves that open.
 */
export type About = 'parent' | 'beyond' | 'either';

/** One parent of a hop, and its name in messages. */
export interface HopParent {
  readonly hop: HopConfig;
  readonly parent: ParentConfig;
}

/** `hop activegateway (activegateway.telus.internal:3128)`. */
export function nameParent({ hop, parent }: HopParent): string {
  return `hop ${hop.name} (${formatAuthority(parent.host, parent.port)})`;
}

/** The parts of a HopFault besides its code, hop and detail. */
export interface HopFaultOptions {
  /** The parent, as named by nameParent; absent: the detail is about parents further on. */
  readonly subject?: string;
  readonly about: About;
  readonly remedy: string | null;
  readonly cause?: unknown;
  readonly facts?: FaultFacts;
}

/** A fault of a parent proxy, or one that it has reported. */
export class HopFault extends Fault {
  readonly hop: HopConfig;
  readonly about: About;

  constructor(code: HopCode, hop: HopConfig, detail: string, { about, ...options }: HopFaultOptions) {
    super(code, detail, options);
    this.hop = hop;
    this.about = about;
  }
}

/** A fault found by a handshake, which does not know the parent. */
export interface HandshakeFailure {
  readonly code: HopCode;
  readonly about: About;
  /** The rest of a sentence that began with the parent. */
  readonly detail: string;
  readonly remedy: string;
  readonly facts?: FaultFacts;
}

/**
 * A fault before the parent was reached, as a fault of the parent. Exceptions:
 * our own limits, a cancelled dial, the proxy itself at the parent's address.
 */
export function wayFault(error: unknown, { hop, parent }: HopParent): Fault {
  const fault = Fault.from(error);
  // From a hop before this one: it could not, or would not, reach this parent.
  if (fault instanceof HopFault) {
    return fault.about === 'parent'
      ? fault
      : new HopFault(fault.code === 'hop-timeout' ? 'hop-timeout' : 'hop-failed', hop, fault.message, {
          about: 'parent',
          remedy: fault.remedy,
          cause: fault,
          facts: fault.facts,
        });
  }
  if (fault.kind.blame !== 'upstream') return fault;
  return new HopFault(fault.kind.status === 504 ? 'hop-timeout' : 'hop-failed', hop, fault.detail, {
    subject: nameParent({ hop, parent }),
    about: 'parent',
    remedy: wayRemedy(fault, hop),
    cause: fault,
    // The address is the parent's, and not one of the requested target.
    facts: { nextHop: formatAuthority(parent.host, parent.port), ...fault.facts, address: null },
  });
}

function wayRemedy({ code, remedy }: Fault, { name }: HopConfig): string | null {
  switch (code) {
    case 'connection-refused':
      return `Check that the parent listens on the port in hops.${name}.url.`;
    case 'connect-timeout':
      return `Check firewalls and routes to the parent, or raise hops.${name}.connect.`;
    case 'unreachable':
      return 'Check the route and the network policy from here to the parent.';
    case 'name-not-found':
      return `Check the spelling in hops.${name}.url, and that the DNS server asked from here knows the name.`;
    default:
      return remedy;
  }
}

/** For several failed parents, or several requested addresses, together; the first gives code and remedy. */
export function joinHopFaults(faults: readonly HopFault[]): Fault {
  const [first] = faults;
  if (first === undefined) return new Fault('internal', 'no parent was asked');
  if (faults.length === 1) return first;
  const about = faults.some((fault) => fault.about === 'either') ? 'either' : first.about;
  const list = [...new Set(faults.map(({ message }) => message))].join('; ');
  return new HopFault(first.code as HopCode, first.hop, list, { about, remedy: first.remedy, cause: first, facts: first.facts });
}
