/** A class of requests that two policies decide differently: plain data, exact, with one request as a witness. */
import type { Form } from '../config/config.ts';
import type { AddressInterval } from './address-sets.ts';
import type { DiffRequest, DiffVerdict } from './judge-request.ts';
import type { PeerPair } from './peer-pairs.ts';

/**
 * - `allowed`: denied before, permitted after, by a rule or by report mode.
 * - `denied`: the other way round.
 * - `otherwise`: permitted before and after, by another rule, client or destination, or to another target.
 * - `refused`: denied before and after, with another code.
 */
export const DIFF_CHANGES = ['allowed', 'denied', 'otherwise', 'refused'] as const;
/** One of `DIFF_CHANGES`. */
export type DiffChange = (typeof DIFF_CHANGES)[number];

/** Whole numbers from the first to the second. */
export type Span = readonly [first: number, last: number];

/** Methods: these, or all except these. */
export interface MethodSet {
  readonly listed: readonly string[];
  readonly others: boolean;
}

/** Paths that are in the same lists, or for which no list is checked. */
export interface PathAtom {
  /** `plain`: unambiguous. `slashed`: an encoded slash, which the gateway may accept. `ambiguous`: any other ambiguity. */
  readonly kind: 'plain' | 'slashed' | 'ambiguous';
  /** For each list of the cut `1` or `0`; empty for `ambiguous`. */
  readonly vector: string;
  /** One of them; for the gateway without prefix. */
  readonly text: string;
}

/** A list of path patterns in one of the policies. */
export interface PathList {
  readonly side: 0 | 1;
  /** As in the file. */
  readonly patterns: readonly string[];
  /** For the gateway, the part before the path that is compared. */
  readonly before: string;
}

/** Everything that lists of patterns distinguish. */
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

/** Every host that no pattern matches. */
export const OTHER_HOSTS = '*';

/** A host, or all other hosts that a pattern matches, or that none does. */
export interface HostAtom {
  /** `eco.example`, `*.example`, or `OTHER_HOSTS`. */
  readonly pattern: string;
  /** One of them. */
  readonly witness: string;
}

/** Addresses that a name resolves to, as far as they matter. */
export interface ResolvedSet {
  readonly text: string;
  /** What is dialled by default: public addresses. */
  readonly usual: boolean;
  /** Without those that embed a special IPv4 address in a way that any prefix may have (ISATAP). */
  readonly intervals: readonly AddressInterval[];
  /** One of them. */
  readonly witness: string;
}

/** Everything about a request except its host and its peer. */
export interface DiffBox {
  readonly forms: readonly Form[];
  /** For steered requests, where it matters: by plain HTTP or over TLS. */
  readonly schemes: readonly ('http' | 'https')[];
  /** Unused by the forms `sni` and `gateway`. */
  readonly ports: readonly Span[];
  /** Unused in tunnels. */
  readonly methods: MethodSet;
  readonly paths: PathSet;
  /** Ms since the epoch, the first included and the second not. */
  readonly times: readonly Span[];
}

/** Requests with the same change. */
export interface DiffClass extends DiffBox {
  readonly change: DiffChange;
  /** Of the witness. */
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  /** All codes of the class: a denial may have several reasons. */
  readonly codes: readonly [before: readonly string[], after: readonly string[]];
  /** Empty: the gateway's. */
  readonly hosts: readonly HostAtom[];
  /** Gateway prefixes; paths below longer ones are not included. */
  readonly prefixes: readonly string[];
  readonly peers: readonly PeerPair[];
  /** Null: wherever the name resolves to. */
  readonly resolved: ResolvedSet | null;
  readonly witness: DiffRequest;
}

/** Everything that two policies decide differently. */
export interface PolicyDiff {
  /** In the order of `DIFF_CHANGES`; empty: both decide alike. */
  readonly classes: readonly DiffClass[];
  /** Number of kinds of peers. */
  readonly pairs: readonly PeerPair[];
  /** Hosts of both. */
  readonly patterns: ReadonlySet<string>;
  /** Gateway prefixes of both. */
  readonly prefixes: readonly string[];
  /** Start of the comparison, ms since the epoch. */
  readonly start: number;
  /** Names of both, in order. */
  readonly clients: readonly [before: readonly string[], after: readonly string[]];
}
