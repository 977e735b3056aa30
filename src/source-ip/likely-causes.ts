/** Why a source address is wrong or not known, as far as what was seen tells, and what to do about it. Pure. */
import type { FaultCode } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';

export interface Evidence {
  readonly expected: readonly string[];
  /** Different addresses that were seen. */
  readonly seen: readonly string[];
  /** Hops on the way, nearest to us first. */
  readonly via: readonly string[];
  /** Of the probes that failed. */
  readonly codes: readonly FaultCode[];
}

export interface Cause {
  readonly cause: string;
  readonly check: string;
}

interface Entry extends Cause {
  readonly fits: (evidence: Evidence) => boolean;
}

const isWrong = ({ expected, seen }: Evidence): boolean => expected.length > 0 && seen.some((address) => !expected.includes(address));
const isPublic = (address: string): boolean => classifyAddress(address)?.class === 'public';
const seesPublic = ({ seen }: Evidence): boolean => seen.some(isPublic);
const failed = (...codes: readonly FaultCode[]) => (evidence: Evidence): boolean => evidence.codes.some((code) => codes.includes(code));

/** In the order in which they are worth a look. */
const CAUSES: readonly Entry[] = [
  {
    fits: ({ expected, seen }) => expected.length === 0 && seen.length > 0,
    cause: 'nothing is expected, so nothing is proven',
    check: 'write the address that the partner permits under sourceIp.expected, or give --expect',
  },
  {
    fits: ({ seen }) => seen.some((address) => !isPublic(address)),
    cause: 'a private address was seen: the endpoint is inside, or no NAT is on the way to it',
    check: 'ask an endpoint out where the partner is. If the partner itself is on private addresses (VPN, Interconnect), a public NAT never applies to it: Private NAT does',
  },
  {
    fits: (evidence) => evidence.via.length > 0 && isWrong(evidence),
    cause: 'the last hop dials the partner, so its address is seen, or that of its own NAT',
    check: 'give that hop the source address, or have the partner permit the one that was seen',
  },
  {
    fits: (evidence) => evidence.seen.length > 1,
    cause: 'the NAT has several addresses, which take turns (AUTO_ONLY, or more than one reserved)',
    check: 'set the NAT to MANUAL_ONLY with the one reserved address, or list all of them under sourceIp.expected and have the partner permit all',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence) && evidence.seen.length === 1,
    cause: 'the NAT chooses its addresses itself (AUTO_ONLY)',
    check: 'set nat_ip_allocate_option to MANUAL_ONLY, with the reserved address',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence),
    cause: 'the expected address belongs to a LoadBalancer: nothing ever leaves the cluster by it',
    check: 'take it off the forwarding rule and give it to Cloud NAT; it cannot be at both',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence),
    cause: "the proxy's nodes have external addresses, or their subnet is not in the NAT's list",
    check: 'make the node pool private, and put its subnet into the NAT (LIST_OF_SUBNETWORKS)',
  },
  {
    fits: failed('name-not-found', 'resolver-failed', 'resolver-timeout'),
    cause: "the endpoint's name does not resolve from here",
    check: 'look the name up from this host; with a network policy, let DNS out',
  },
  {
    fits: failed('connect-timeout', 'unreachable'),
    cause: 'nothing comes back from the endpoint: no way out, a firewall, or a NAT without an address or out of ports',
    check: "look at the network policy, the route, and the NAT's dropped packets; is the endpoint up?",
  },
  {
    fits: failed('hop-failed', 'hop-timeout', 'hop-credentials', 'hop-refused', 'hop-upstream-failed'),
    cause: 'a hop on the way does not pass the question on',
    check: 'look at the reason: the hop has to permit the endpoint, and to reach it',
  },
  {
    fits: failed('address-not-allowed', 'loop'),
    cause: 'the endpoint is on an address that is not dialled',
    check: 'list its range under sourceIp.probe.addresses',
  },
  {
    fits: failed('connection-refused', 'upstream-cut', 'upstream-silent', 'upstream-malformed', 'tls-certificate', 'tls-failed', 'tls-timeout'),
    cause: 'the endpoint is reached, and does not answer as an echo endpoint does',
    check: 'ask it with curl; on a VM or at the partner, run: npx eco-egress echo',
  },
];

/** Those that fit; what was seen may leave several. */
export function findCauses(evidence: Evidence): Cause[] {
  return CAUSES.filter(({ fits }) => fits(evidence)).map(({ cause, check }) => ({ cause, check }));
}
