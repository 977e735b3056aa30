/** A class of requests that two policies decide differently: plain data, exact, with one request of it. */
import type { Form } from '../config/config.ts';
import type { AddressInterval } from './address-sets.ts';
import type { DiffRequest, DiffVerdict } from './judge-request.ts';
import type { PeerPair } from './peer-pairs.ts';

/**
 * - `allowed`: denied before, let through after, by a rule or by report mode.
 * - `denied`: the other way round.
 * - `otherwise`: let through before and after, by another rule, client or destination, or to another place.
 * - `refused`: denied before and after, with another code.
 */
export const DIFF_CHANGES = ['allowed', 'denied', 'otherwise', 'refused'] as const;
/** One of `DIFF_CHANGES`. */
export type DiffChange = (typeof DIFF_CHANGES)[number];

/** Whole numbers from the first to the second. */
export type Span = readonly [first: number, last: number];

/** Methods: these, or all but these. */
export interface MethodSet {
  readonly listed: readonly string[];
  readonly others: boolean;
}

/** Paths that the same lists have, or none of which any list is asked about. */
export interface PathAtom {
  /** `plain`: one reading. `slashed`: an encoded slash, that the gateway may let through. `ambiguous`: any other with two readings. */
  readonly kind: 'plain' | 'slashed' | 'ambiguous';
  /** For each list of the cut `1` or `0`; empty for `ambiguous`. */
  readonly vector: string;
  /** One of them; for the gateway without prefix. */
  readonly text: string;
}

/** A list of path patterns that one of the policies compares with. */
export interface PathList {
  readonly side: 0 | 1;
  /** As in the file. */
  readonly patterns: readonly string[];
  /** For the gateway, what stands before the path that is compared. */
  readonly before: string;
}

/** Everything that lists of patterns tell apart. */
export interface PathCut {
  readonly lists: readonly PathList[];
  readonly atoms: readonly PathAtom[];
}

/** Some atoms of a cut. */
export interface PathSet {
  readonly cut: PathCut;
  /** Indexes of atoms. */
  readonly atoms: readonly number[];
}

/** Every host that no pattern covers. */
export const OTHER_HOSTS = '*';

/** A host, or all other hosts that a pattern covers, or that none does. */
export interface HostAtom {
  /** `eco.example`, `*.example`, or `OTHER_HOSTS`. */
  readonly pattern: string;
  /** One of them. */
  readonly witness: string;
}

/** Addresses that a name resolves to, as far as they matter. */
export interface ResolvedSet {
  readonly text: string;
  /** What is dialled where nobody says otherwise: public addresses. */
  readonly usual: boolean;
  /** Less what carries a special IPv4 address in a way that any prefix may have (ISATAP). */
  readonly intervals: readonly AddressInterval[];
  /** One of them. */
  readonly witness: string;
}

/** What a request is asked for in every way but by its host and who asks. */
export interface DiffBox {
  readonly forms: readonly Form[];
  /** For steered requests, where it matters: by plain HTTP or over TLS. */
  readonly schemes: readonly ('http' | 'https')[];
  /** Of no meaning to the forms `sni` and `gateway`. */
  readonly ports: readonly Span[];
  /** Of no meaning in tunnels. */
  readonly methods: MethodSet;
  readonly paths: PathSet;
  /** Ms since the epoch, the first included and the second not. */
  readonly times: readonly Span[];
}

/** Requests that change in one way. */
export interface DiffClass extends DiffBox {
  readonly change: DiffChange;
  /** Of the witness. */
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  /** All codes of the class: where it is denied on one side, that may be for several reasons. */
  readonly codes: readonly [before: readonly string[], after: readonly string[]];
  /** Empty: of the gateway. */
  readonly hosts: readonly HostAtom[];
  /** Gateway prefixes; paths below longer ones do not belong to them. */
  readonly prefixes: readonly string[];
  readonly peers: readonly PeerPair[];
  /** Null: wherever the name leads. */
  readonly resolved: ResolvedSet | null;
  readonly witness: DiffRequest;
}

/** All that two policies decide differently. */
export interface PolicyDiff {
  /** In the order of `DIFF_CHANGES`; none: both decide alike. */
  readonly classes: readonly DiffClass[];
  /** Everything that a peer can be. */
  readonly pairs: readonly PeerPair[];
  /** Hosts of both. */
  readonly patterns: ReadonlySet<string>;
  /** Gateway prefixes of both. */
  readonly prefixes: readonly string[];
  /** From when on, ms since the epoch. */
  readonly start: number;
  /** Names of both, in order. */
  readonly clients: readonly [before: readonly string[], after: readonly string[]];
}
