/** Combines the results of the policy, the resolver and the address guard for a request. */
import type { DestinationConfig, ListenerConfig, ParentConfig } from '../config/config.ts';
import type { Egress } from '../egress.ts';
import { Fault } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { surveyAddresses, type SurveyedAddress } from '../policy/address-guard.ts';
import type { Policy } from '../policy/compile.ts';
import { isProposable, remedyForAddress, singleAddress } from '../policy/remedies.ts';
import type { Peer } from '../policy/verdict.ts';
import { formatAuthority } from '../targets/host.ts';
import type {
  ExplainedRequest,
  ExplainAnswer,
  ExplainedChange,
  ExplainedClient,
  ExplainedHop,
  Explanation,
  JudgedAddress,
} from './answer.ts';
import { renderEdits } from './policy-edits.ts';

/** The addresses of a host, or why there are none. */
export type Survey = readonly SurveyedAddress[] | Fault;

/** The parts of an answer besides the decision. */
export interface Circumstances {
  readonly policy: Pick<Policy, 'mode'>;
  readonly configHash: string;
  readonly asked: ExplainedRequest;
  readonly notes: readonly string[];
  /** Name of the client to assume; null: an address was given. */
  readonly meant: string | null;
  readonly listeners: readonly ListenerConfig[];
  readonly resolve: boolean;
  /** Parent proxies; empty: none. */
  readonly way: readonly SurveyedHop[];
  /** A change by which the policy would permit it; null: not needed, or not requested. */
  readonly change: ExplainedChange | null;
}

/** Most entries of a list in an answer, for any size of policy and DNS answer. */
const MOST_CLIENTS = 20;
const MOST_ADDRESSES = 32;

/** A request that is refused before the policy decides. */
export function composeFaultAnswer(
  fault: Fault,
  { policy, configHash, asked, peer, notes }: Pick<Circumstances, 'policy' | 'configHash' | 'asked' | 'notes'> & { peer: Peer },
): ExplainAnswer {
  return {
    verdict: 'deny',
    ...faultReason(fault),
    change: null,
    report: null,
    mode: policy.mode,
    configHash,
    asked,
    peer,
    target: null,
    client: null,
    destination: null,
    rule: null,
    clients: [],
    clientsLeftOut: 0,
    destinations: [],
    rules: [],
    addresses: null,
    way: [],
    notes,
  };
}

/** @param survey null: the name was not looked up */
export function composeAnswer(explanation: Explanation, survey: Survey | null, circumstances: Circumstances): ExplainAnswer {
  const { ask, verdict } = explanation;
  const { policy, configHash, asked } = circumstances;
  const clients = closeClients(explanation.clients);
  return {
    ...conclude(explanation, survey, circumstances),
    report: explanation.report,
    mode: policy.mode,
    configHash,
    asked,
    peer: ask.peer,
    target: { ...explanation.target, form: ask.form, method: ask.method },
    client: verdict.client?.name ?? null,
    destination: verdict.destination?.name ?? null,
    rule: verdict.verdict === 'deny' || verdict.rule === '-' ? null : verdict.rule,
    clients,
    clientsLeftOut: explanation.clients.length - clients.length,
    destinations: explanation.destinations,
    rules: explanation.rules,
    addresses: survey === null || survey instanceof Fault ? null : survey.slice(0, MOST_ADDRESSES).map(classifySurveyed),
    way: circumstances.way.map(explainHop),
    notes: [...circumstances.notes, ...remarks(explanation, survey, circumstances)],
  };
}

type Conclusion = Pick<ExplainAnswer, 'verdict' | 'code' | 'status' | 'why' | 'remedy' | 'change'>;

/** The policy's verdict, unless it permits a request that its addresses then stop. */
function conclude({ verdict }: Explanation, survey: Survey | null, { way, change }: Pick<Circumstances, 'way' | 'change'>): Conclusion {
  if (verdict.verdict === 'deny')
    return { verdict: 'deny', ...faultReason(new Fault(verdict.code, verdict.detail, { remedy: verdict.remedy })), change };
  if (survey instanceof Fault) return { verdict: verdict.verdict, ...faultReason(survey), change: null };
  const stopped = survey === null ? null : concludeAddresses(survey, verdict.destination);
  // In report mode, the first finding gives the code.
  if (stopped !== null && (stopped.verdict === 'deny' || verdict.verdict === 'allow')) return stopped;
  const blockage = findBlockage(way);
  if (blockage !== null) return { verdict: verdict.verdict, ...faultReason(blockage), change: null };
  if (verdict.verdict === 'report') {
    const { code, detail, remedy } = verdict.would;
    return { verdict: 'report', code, status: null, why: detail, remedy, change };
  }
  return {
    verdict: 'allow',
    code: 'ok',
    status: null,
    why: `${verdict.rule} lets ${verdict.client.name} use ${verdict.destination.name}`,
    remedy: null,
    change: null,
  };
}

/** Null when an address can be dialled. As in dial/dialler.ts, the code is that of the first refusal. */
function concludeAddresses(survey: readonly SurveyedAddress[], destination: DestinationConfig | null): Conclusion | null {
  const refusals = survey.flatMap(({ refusal }) => refusal ?? []);
  const [first] = refusals;
  if (first === undefined || refusals.length < survey.length) return null;
  const why = refusals.map(({ message }) => message).join('; ');
  const reason = { ...faultReason(first), why, change: proposeAddress(destination, survey[0]?.address ?? '', first.code) };
  return survey.some(({ reported }) => reported) ? { verdict: 'report', ...reason, status: null } : { verdict: 'deny', ...reason };
}

function faultReason(fault: Fault): Pick<ExplainAnswer, 'code' | 'status' | 'why' | 'remedy'> {
  return { code: fault.code, status: fault.kind.status, why: fault.message, remedy: fault.remedy };
}

function classifySurveyed({ address, refusal, reported }: SurveyedAddress): JudgedAddress {
  const known = classifyAddress(address);
  return {
    address: known?.canonical ?? address,
    class: known?.class ?? null,
    via: known?.via ?? null,
    reference: known?.reference ?? null,
    verdict: refusal === null ? 'allow' : reported ? 'report' : 'deny',
    code: refusal?.code ?? null,
    detail: refusal?.message ?? null,
    remedy: refusal?.remedy ?? null,
  };
}

function explainHop({ name, parents }: SurveyedHop): ExplainedHop {
  return {
    hop: name,
    parents: parents.map(({ url, found }) => {
      const failed = found instanceof Fault;
      return {
        url,
        addresses: failed || found === null ? null : found.slice(0, MOST_ADDRESSES).map(classifySurveyed),
        detail: failed ? found.message : null,
      };
    }),
  };
}

/** Whether a parent resolves the names of the destination. */
export function isParents(destination: DestinationConfig | null): boolean {
  return destination !== null && destination.via.length > 0 && destination.resolve === 'parent';
}

function proposeAddress(destination: DestinationConfig | null, address: string, code: Fault['code']): ExplainedChange | null {
  const known = classifyAddress(address);
  if (destination === null || known === null || code !== 'address-not-allowed' || !isProposable(known.canonical)) return null;
  const { name, addresses } = destination;
  const entry = singleAddress(known.canonical);
  const text = remedyForAddress(destination, entry);
  if (addresses === null) return { text, yaml: null };
  return {
    text,
    yaml: renderEdits([{ kind: 'list', destination: name, path: ['addresses'], whole: [...addresses, entry], added: [entry] }]),
  };
}

/** The client found, and those of which some kind matches: in a file of thousands the others are not relevant. */
function closeClients(clients: readonly ExplainedClient[]): ExplainedClient[] {
  const close = clients.filter(({ chosen, matches, kinds }) => chosen || matches || kinds.some((kind) => kind.matches));
  return (close.length > 0 ? close : clients).slice(0, MOST_CLIENTS);
}

function remarks({ ask, verdict }: Explanation, survey: Survey | null, { meant, listeners, resolve }: Circumstances): string[] {
  const notes: string[] = [];
  const found = verdict.client?.name ?? null;
  if (meant !== null && found !== null && found !== meant)
    notes.push(`${ask.peer.address} matches ${found}, which comes before ${meant} in the file.`);
  const taking = listeners.filter(({ forms }) => forms.includes(ask.form));
  const comparable = listeners.filter(({ forms }) => ask.form === 'sni' || forms.some((form) => form !== 'sni'));
  if (taking.length > 0 && taking.length < comparable.length) {
    notes.push(
      `Of the listeners, ${taking.map(({ host, port }) => formatAuthority(host, port)).join(' and ')} alone can take ${ask.form} requests.`,
    );
  }
  if (ask.form === 'sni')
    notes.push(`A ClientHello shows no credentials, and names no port; ${ask.port} is the one that the policy means.`);
  if (verdict.verdict === 'deny') return notes;
  if (isParents(verdict.destination)) notes.push('The last parent on the way resolves the name, so its addresses are not checked here.');
  else if (!resolve) notes.push('The name was not looked up, so its addresses are not checked.');
  if (Array.isArray(survey)) {
    const refused = survey.filter(({ refusal }) => refusal !== null).length;
    if (refused > 0 && refused < survey.length)
      notes.push(`${refused} of ${survey.length} addresses ${refused === 1 ? 'is' : 'are'} never dialled.`);
    if (survey.length > MOST_ADDRESSES)
      notes.push(
        `${survey.length - MOST_ADDRESSES} further ${survey.length - MOST_ADDRESSES === 1 ? 'address is' : 'addresses are'} not shown.`,
      );
  }
  const told = verdict.destination?.proxyProtocol ?? 'off';
  if (told !== 'off')
    notes.push(
      `Each connection to ${verdict.destination?.name ?? '-'} begins with a PROXY protocol header (${told}) that names the client.`,
    );
  if (ask.form === 'connect' && verdict.destination?.tunnelSni === 'require') {
    const otherwise = verdict.verdict === 'allow' && !verdict.lenient ? '' : ', and is reported when it does not';
    notes.push(`The TLS inside the tunnel has to ask for ${ask.host} (tunnelSni: require)${otherwise}.`);
  }
  return notes;
}

// The route of a dial: the parents, and the addresses of those that we dial ourselves. Dials nothing.

interface SurveyedParent {
  /** `http://gw-a.example:3128`. */
  readonly url: string;
  /** Null: not looked up here, because it was not requested or the previous hop does that; a Fault of the look-up. */
  readonly found: readonly SurveyedAddress[] | Fault | null;
}

interface SurveyedHop {
  readonly name: string;
  readonly parents: readonly SurveyedParent[];
}

/** Nearest to us first; empty: directly. */
export function surveyWay(
  egress: Pick<Egress, 'nearestHop' | 'dialler'>,
  destination: DestinationConfig,
  lookUp: boolean,
): Promise<SurveyedHop[]> {
  const nearest = egress.nearestHop(destination);
  return Promise.all(
    destination.via.map(async (hop, index) => ({
      name: hop.name,
      parents: await Promise.all(
        hop.parents.map(async (parent) => ({
          url: parentUrl(parent),
          found: nearest === null || index > 0 || !lookUp ? null : await look(egress, nearest.guard, parent),
        })),
      ),
    })),
  );
}

async function look(
  { dialler }: Pick<Egress, 'dialler'>,
  guard: NonNullable<ReturnType<Egress['nearestHop']>>['guard'],
  { host, port }: ParentConfig,
): Promise<readonly SurveyedAddress[] | Fault> {
  try {
    return surveyAddresses({ enforcing: guard, lenient: null }, await dialler.resolve(host, new AbortController().signal), port);
  } catch (error) {
    return Fault.from(error);
  }
}

/** Why no parent of the nearest hop can be dialled; null: one can, or they were not looked up. */
function findBlockage([nearest]: readonly SurveyedHop[]): Fault | null {
  if (nearest === undefined) return null;
  const refusals = nearest.parents.map(({ found }) => {
    if (found === null) return null;
    if (found instanceof Fault) return found;
    return found.some(({ refusal }) => refusal === null) ? null : (found[0]?.refusal ?? null);
  });
  const [first] = refusals;
  if (first === undefined || first === null || refusals.includes(null)) return null;
  // As a dial words it: the name of a parent is not the partner's.
  return first.code === 'loop' ? first : new Fault('hop-failed', first.message, { remedy: first.remedy ?? '' });
}

function parentUrl({ scheme, host, port }: ParentConfig): string {
  return `${scheme}://${formatAuthority(host, port)}`;
}
