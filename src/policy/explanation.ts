/** The shape of an answer to "why": a decision with everything that led to it. Plain data, for people and for JSON. */
import type { Ask, Verdict } from './verdict.ts';

export interface Explanation {
  readonly ask: Ask;
  /** Of the very code that enforces. */
  readonly verdict: Verdict;
  readonly target: ExplainedTarget;
  /** Every client of the file, in order: the first that matches is the one. */
  readonly clients: readonly ExplainedClient[];
  /** Destinations that have the host, in the order in which they are tried. */
  readonly destinations: readonly ExplainedDestination[];
  /** Rules that join the client with one of those destinations, in the order of the file. */
  readonly rules: readonly ExplainedRule[];
  /** One sentence on what report mode changes about the verdict; null when it changes nothing. */
  readonly report: string | null;
  /** A change of the file that would permit it and was tried; without YAML where there is none; null when it is permitted. */
  readonly change: ExplainedChange | null;
}

export interface ExplainedTarget {
  readonly host: string;
  readonly kind: 'name' | 'ipv4' | 'ipv6';
  readonly port: number;
  /** As it is compared with patterns; null where it cannot be seen. */
  readonly path: string | null;
  /** Why the path could be read in more than one way: the rest of a sentence; null when it cannot. */
  readonly ambiguity: string | null;
}

export interface ExplainedClient {
  readonly name: string;
  /** All of its kinds hold. */
  readonly matches: boolean;
  /** The one client that the decision was made for. */
  readonly chosen: boolean;
  /** Only the kinds that it lists. */
  readonly kinds: readonly ExplainedKind[];
}

export interface ExplainedKind {
  readonly kind: 'addresses' | 'basic' | 'tokens' | 'certificates';
  readonly matches: boolean;
  /** `10.8.1.4 is in 10.8.0.0/14`, `no user was verified`. */
  readonly detail: string;
}

export interface ExplainedDestination {
  readonly name: string;
  /** The most specific of its patterns that covers the host. */
  readonly pattern: string;
  /** The one that the verdict is about. */
  readonly chosen: boolean;
  /** In order; the checks after the first that fails are left out. */
  readonly checks: readonly ExplainedCheck[];
}

export interface ExplainedCheck {
  readonly check: 'port' | 'form' | 'rule' | 'method' | 'path';
  readonly passes: boolean;
  readonly detail: string;
}

export interface ExplainedRule {
  /** `rules[0]`. */
  readonly rule: string;
  readonly destination: string;
  readonly applies: boolean;
  /** Why it applies, or why not. */
  readonly detail: string;
}

export interface ExplainedChange {
  /** `add 22 to destinations.eco-sit.ports, for all of its hosts and clients`; without YAML, what to do instead. */
  readonly text: string;
  /** The parts of the file as they would then be; null where no change is safe. */
  readonly yaml: string | null;
}
