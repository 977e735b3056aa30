/** The answer to "what would become of this request, and why": plain data for people and JSON, without secrets. */
import type { Config } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import type { AddressClass, Embedding } from '../policy/address-class.ts';
import type { ExplainedChange, ExplainedClient, ExplainedDestination, ExplainedRule, ExplainedTarget } from '../policy/explanation.ts';
import type { Ask, Peer, Verdict } from '../policy/verdict.ts';

export interface ExplainAnswer {
  readonly verdict: Verdict['verdict'];
  /**
   * `ok`, or what stands against it: with `deny` the code the client gets, with
   * `report` the one it would get, with `allow` why the name does not resolve.
   */
  readonly code: FaultCode | 'ok';
  /** What the client gets instead of an answer of the upstream; null when it gets that. */
  readonly status: number | null;
  /** The rule that lets it pass, or the reason why not: one sentence. */
  readonly why: string;
  /** What would have to change; null when nothing has to, or nothing in the file could. */
  readonly remedy: string | null;
  /** The same as an edit of the file. */
  readonly change: ExplainedChange | null;
  /** What report mode does about it; null: nothing. */
  readonly report: string | null;
  readonly mode: Config['mode'];
  /** Of the configuration that answered. */
  readonly configHash: string;
  readonly asked: Asked;
  readonly peer: Peer;
  /** Null when the request is turned away before the policy is asked. */
  readonly target: ReadTarget | null;
  readonly client: string | null;
  readonly destination: string | null;
  readonly rule: string | null;
  /** The client found and those that were close; `clientsLeftOut` others were not. */
  readonly clients: readonly ExplainedClient[];
  readonly clientsLeftOut: number;
  readonly destinations: readonly ExplainedDestination[];
  readonly rules: readonly ExplainedRule[];
  /** Null where the name was not looked up: not wanted, or it would not come to that. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Parents on the way, nearest to us first; empty: none, or it would not come to that. */
  readonly way: readonly ExplainedHop[];
  /** What was assumed, and what this answer cannot know. */
  readonly notes: readonly string[];
}

export interface ExplainedHop {
  readonly hop: string;
  readonly parents: readonly ExplainedParent[];
}

export interface ExplainedParent {
  /** `http://gw-a.example:3128`. */
  readonly url: string;
  /** Null where it was not looked up here: not wanted, failed, or the hop before does that. */
  readonly addresses: readonly JudgedAddress[] | null;
  /** Why the look-up failed; null where it did not. */
  readonly detail: string | null;
}

/** As it was asked, less what could be secret. */
export interface Asked {
  readonly method: string;
  readonly target: string;
  readonly host: string | null;
}

export interface ReadTarget extends ExplainedTarget {
  readonly form: Ask['form'];
  readonly method: string | null;
}

export interface JudgedAddress {
  readonly address: string;
  readonly class: AddressClass | null;
  /** What carries an IPv4 address inside; null: nothing does. */
  readonly via: Embedding | null;
  readonly reference: string | null;
  /** `report`: dialled by report mode alone, where nothing else is left. */
  readonly verdict: Verdict['verdict'];
  /** Why not, or why it would not be; null when nothing stands against it. */
  readonly code: FaultCode | null;
  readonly detail: string | null;
  readonly remedy: string | null;
}
