/**
 * Answers what would happen to a request, and why, with the code that serves
 * requests: its parsers, its router, its policy, its resolver and its address
 * guard. Dials nothing.
 */
import { isIP } from 'node:net';
import type { Config, DestinationConfig, ListenerConfig } from '../config/config.ts';
import type { Egress } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { GatewayRouter } from '../gateway/router.ts';
import { METHODS } from '../lean-imports.ts';
import { ANONYMOUS } from '../policy/client-table.ts';
import { decide } from '../policy/decide.ts';
import { explainDecision } from './explain-decision.ts';
import { type Ask, type Peer, peerAt } from '../policy/verdict.ts';
import { parseHost } from '../targets/host.ts';
import { show, showTarget } from '../targets/quote.ts';
import type { Policy } from '../policy/compile.ts';
import { BoundedMeter, runInTurns } from '../policy-diff/work.ts';
import { Turns } from '../turns.ts';
import type { ExplainAnswer, ExplainedChange } from './answer.ts';
import { type AssumedClient, type AssumedPeer, assumePeer, readTarget, type Wanted, type WrittenRequest } from './read-question.ts';
import { type Circumstances, composeAnswer, composeFaultAnswer, isParents, type Survey, surveyWay } from './compose-answer.ts';
import { type DenialRecord, questionOf, recordOf } from './kept-request.ts';
import { RecentDenials, RecentFailures } from './recent-denials.ts';
import { proposeChange } from './suggest-change.ts';

/** TLS is not a method, and means raw TLS. */
const ASKABLE = new Set([...METHODS, 'TLS']);

/** A second or two; hand-written policies take milliseconds. */
const MOST_STEPS_OF_PROPOSAL = 1_000_000;

/** A question: a request as written, and its client. */
export interface ExplainRequest extends AssumedClient, WrittenRequest {
  /** Whether to look the name up, if the request would get so far. */
  readonly resolve: boolean;
  /** Addresses to check instead of a look-up; absent: none are assumed. */
  readonly resolves?: readonly string[];
  /** Ms since the epoch; absent: now. */
  readonly at?: number;
  /** Whether to look for a change that would permit it; absent: yes. */
  readonly propose?: boolean;
}

/** A denied or failed request, and the answer of the policy in force to the same question. */
export interface RecalledDenial extends DenialRecord {
  /** Null if the policy did not decide then, or the question was too long to keep. */
  readonly now: ExplainAnswer | null;
}

/** The sources of answers; each function is called at the time of a question. */
export interface ExplainerOptions {
  readonly egress: Egress;
  /** The policy in force. */
  readonly config: () => Pick<Config, 'clients' | 'listeners' | 'tlsServer'>;
  /** Of the configuration in force. */
  readonly configHash: () => string;
  readonly gateway: () => Promise<GatewayRouter>;
}

/** Answers questions, and remembers denials. Has nothing to close. */
export class Explainer {
  readonly denials = new RecentDenials();
  /** Requests that were permitted and have failed. */
  readonly failures = new RecentFailures();
  readonly #options: ExplainerOptions;
  readonly #turns = new Turns();

  constructor(options: ExplainerOptions) {
    this.#options = options;
  }

  /** A request has ended: if it was denied or has failed, it can be recalled. */
  note(...ended: Parameters<RecentDenials['note']>): void {
    this.denials.note(...ended);
    this.failures.note(...ended);
  }

  /** Resolves to what is wrong with the question, one sentence, when it is invalid. */
  async explain(request: ExplainRequest): Promise<ExplainAnswer | string> {
    const { egress, config, configHash, gateway } = this.#options;
    const { clients, tlsServer } = config();
    const { policy } = egress;
    const wrong = checkMethod(request, tlsServer?.names ?? []);
    if (wrong !== null) return wrong;
    const assumed = assumePeer(clients, request);
    if (typeof assumed === 'string') return assumed;
    const asked = {
      method: request.method,
      target: showTarget(request.target),
      host: request.host === null ? null : showTarget(request.host),
    };
    try {
      const router = await gateway();
      const { routeless = null, ...wanted } = readTarget(request, { policy, gateway: router, listeners: listenersOf(config()) });
      const { resolve, resolves = null, at: now = Date.now(), propose = true } = request;
      const peer = shownBy(wanted, this.#choosePeer(assumed, wanted, now));
      // Its Host may be the name of this proxy: as a host of a destination, it would be preferred to every prefix.
      const proposes = propose && (routeless === null || router.prefixes.length === 0);
      const answer = await this.#judge(
        { ...wanted, now, peer },
        { asked, notes: assumed.notes, meant: assumed.name, resolve, resolves, propose: proposes },
      );
      return routeless === null || answer.verdict !== 'deny' || answer.code !== routeless.code
        ? answer
        : { ...answer, why: routeless.message, remedy: routeless.remedy };
    } catch (error) {
      const [peer] = assumed.peers;
      if (!(error instanceof Fault) || peer === undefined) throw error;
      return composeFaultAnswer(error, { policy, configHash: configHash(), asked, peer, notes: assumed.notes });
    }
  }

  /** Null: no such denial or failure, or it is too old. */
  async recall(requestId: string, resolve: boolean): Promise<RecalledDenial | null> {
    const denial = this.denials.find(requestId) ?? this.failures.find(requestId);
    if (denial === null) return null;
    const { ask } = denial;
    const record = recordOf(denial);
    if (ask === null) return { ...record, now: null };
    const { method, target } = questionOf(denial.shown);
    const asked = { method, target: showTarget(target), host: null };
    return {
      ...record,
      now: await this.#judge({ ...ask, now: Date.now() }, { asked, notes: [], meant: null, resolve, resolves: null, propose: true }),
    };
  }

  /** The first that matches the intended client; if none does, the first, and the answer says so. */
  #choosePeer({ peers, name }: AssumedPeer, wanted: Wanted, now: number): Peer {
    const { policy } = this.#options.egress;
    const [first] = peers;
    const fits = peers.find((peer) => decide(policy, { ...wanted, peer: shownBy(wanted, peer), now }).client?.name === name);
    if (fits !== undefined) return fits;
    if (first === undefined) throw new Fault('internal', 'no client is assumed');
    return first;
  }

  async #judge(
    ask: Ask,
    {
      asked,
      notes,
      meant,
      resolve,
      resolves,
      propose,
    }: Pick<Circumstances, 'asked' | 'notes' | 'meant' | 'resolve'> & {
      readonly resolves: readonly string[] | null;
      readonly propose: boolean;
    },
  ): Promise<ExplainAnswer> {
    const { egress, config, configHash } = this.#options;
    const { policy } = egress;
    const explanation = explainDecision(policy, ask);
    const permitted = explanation.verdict.verdict !== 'deny';
    const destination = explanation.verdict.destination ?? ANONYMOUS;
    // An IP literal is its own address: nothing has to be looked up.
    const assumed = resolves ?? (isIP(ask.host) === 0 ? null : [ask.host]);
    const looks = resolve || assumed !== null;
    const survey = permitted && looks && !isParents(destination) ? await this.#survey(destination, ask, assumed) : null;
    const way = permitted ? await surveyWay(egress, destination, resolve) : [];
    const rates = egress.explainRates(explanation.verdict, ask);
    const circumstances: Circumstances = {
      policy,
      configHash: configHash(),
      asked,
      notes: [...notes, ...rates, ...(permitted ? circuitNotes(egress, destination, ask) : [])],
      meant,
      listeners: listenersOf(config()),
      resolve: looks,
      way,
      change: propose && explanation.verdict.verdict !== 'allow' ? await this.#propose(policy, ask) : null,
    };
    return composeAnswer(explanation, survey, circumstances);
  }

  /** In slices: comparing large policies takes a while. */
  async #propose(policy: Policy, ask: Ask): Promise<ExplainedChange | null> {
    const meter = new BoundedMeter(MOST_STEPS_OF_PROPOSAL);
    const found = await runInTurns(proposeChange(policy, ask, meter), meter, this.#turns);
    if (found === null) return null;
    return 'instead' in found ? { text: found.instead, yaml: null } : found.change;
  }

  async #survey(destination: Parameters<Egress['survey']>[0], { host, port }: Ask, assumed: readonly string[] | null): Promise<Survey> {
    try {
      return await this.#options.egress.survey(destination, host, port, assumed, new AbortController().signal);
    } catch (error) {
      return Fault.from(error);
    }
  }
}

/** What a running proxy knows besides its policy: that the partner fails. */
function circuitNotes(egress: Egress, destination: DestinationConfig, { form, host, port, peer }: Ask): string[] {
  // Whether an exchange continues over TLS is not part of the question.
  const uses = form === 'connect' || form === 'sni' ? (['tunnel'] as const) : (['http', 'https'] as const);
  return uses.flatMap((carries) => {
    const fault = egress.circuitFault(destination, { host, port, carries }, peer.address);
    return fault === null ? [] : [`Refused at this moment with circuit-open (${carries}): ${fault.message}.`];
  });
}

/** TLS listeners forward TLS unchanged, and can read it only where it is terminated. */
function listenersOf({ listeners, tlsServer }: Pick<Config, 'listeners' | 'tlsServer'>): ListenerConfig[] {
  const tls = listeners.tls.map((listener) =>
    tlsServer === null ? { ...listener, forms: listener.forms.filter((form) => form === 'sni') } : listener,
  );
  return [...listeners.http, ...tls];
}

function shownBy({ form }: Wanted, peer: Peer): Peer {
  return form === 'sni' ? peerAt(peer.address) : peer;
}

function checkMethod({ method, target }: WrittenRequest, ownNames: readonly string[]): string | null {
  if (method === 'TLS' && ownNames.includes(parseHost(target) ?? ''))
    return `${show(target)} is a name of this proxy: TLS for it ends here, so ask about the request inside.`;
  if (ASKABLE.has(method)) return null;
  const upper = method.toUpperCase();
  return ASKABLE.has(upper)
    ? `Methods are written in capitals: ${upper}.`
    : `${show(method)} is not an HTTP method. Write the method first, such as GET, then the target.`;
}
