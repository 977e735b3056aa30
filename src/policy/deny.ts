/** The texts of a denial: the request, and the first change of the configuration that would permit it. */
import { isIP } from 'node:net';
import type { ClientConfig, DestinationConfig } from '../config/config.ts';
import { Fault, type FaultCode } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { canonicalPath } from '../targets/path.ts';
import { enumerate, formatMoment, quote, show } from '../targets/quote.ts';
import type { AcceptedCredentials } from './client-table.ts';
import { ambiguityOf, type CompiledClient, type CompiledDestination, type CompiledRule, type Miss, type Policy } from './compile.ts';
import {
  contentLike,
  listedBy,
  remedyForAmbiguity,
  remedyForForm,
  remedyForHost,
  remedyForMethod,
  remedyForMoment,
  remedyForOwnPath,
  remedyForPath,
  remedyForPort,
  remedyForRule,
  remedyInstead,
  whereShared,
} from './remedies.ts';
import type { Ask, Deny } from './verdict.ts';

type Client = ClientConfig | null;
type Destination = DestinationConfig | null;

const NO_CHALLENGES: readonly string[] = [];

function deny(code: FaultCode, client: Client, destination: Destination, detail: string, remedy: string, challenges = NO_CHALLENGES): Deny {
  return { verdict: 'deny', code, client, destination, detail, remedy, challenges };
}

/** By a destination that has the host. @param remedy where neither another destination nor another client is to be changed instead */
function denyAt(code: FaultCode, ask: Ask, client: CompiledClient, destination: CompiledDestination, detail: string, remedy: string): Deny {
  const { config, shared } = destination;
  return deny(code, client.config, config, detail, remedyInstead(ask, client, destination) ?? (shared ? whereShared(config) : remedy));
}

/** `client-not-allowed` (403). */
export function denyClient({ peer, form }: Ask): Deny {
  const address = show(peer.address);
  const besides = [
    peer.user === null ? '' : `nor does the user ${show(peer.user)}`,
    peer.token === null ? '' : `nor does the token subject ${show(peer.token.subject)} of ${show(peer.token.issuer)}`,
    peer.sans.length === 0 ? '' : `nor does the certificate of ${show(peer.sans[0] ?? '')}`,
  ].filter((part) => part !== '');
  const remedy =
    besides.length === 0
      ? `if ${address} should be a client by its address alone, add it to clients; a client that has a certificate has to show it${form === 'sni' ? ', in another form than sni' : ''}`
      : 'add what was shown, with the address, to a client';
  return deny('client-not-allowed', null, null, [`The address ${address} belongs to no client`, ...besides].join(', '), remedy);
}

/** RFC 7617 §2 and RFC 6750 §3; the realm shows users whose password is requested. */
const CHALLENGES = { basic: 'Basic realm="eco-egress", charset="UTF-8"', bearer: 'Bearer realm="eco-egress"' };

/** `credentials-missing` or `credentials-wrong` (407), with a challenge for each kind that would help. */
export function denyCredentials({ peer, form }: Ask, wanted: AcceptedCredentials): Deny {
  const challenges = [wanted.basic ? CHALLENGES.basic : '', wanted.bearer ? CHALLENGES.bearer : ''].filter((challenge) => challenge !== '');
  const kinds = [wanted.basic ? 'a user and password (Basic)' : '', wanted.bearer ? 'a token (Bearer)' : '']
    .filter((kind) => kind !== '')
    .join(' or ');
  // Raw TLS has no field for them.
  const remedy =
    form === 'sni' ? `use another form than sni, which cannot carry ${kinds}` : `send ${kinds} of a client in Proxy-Authorization`;
  const from = `from ${show(peer.address)}`;
  if (peer.rejected !== null)
    return deny('credentials-wrong', null, null, `The credentials ${from} are not accepted: ${peer.rejected}`, remedy, challenges);
  const whose =
    peer.user !== null ? `the user ${show(peer.user)}` : peer.token !== null ? `the token subject ${show(peer.token.subject)}` : null;
  if (whose !== null)
    return deny('credentials-wrong', null, null, `The credentials are good, but ${whose} matches no client ${from}`, remedy, challenges);
  return deny('credentials-missing', null, null, `Requests ${from} need credentials, and came with none`, remedy, challenges);
}

/** `host-not-allowed`: no destination has the host. */
export function denyHost(policy: Policy, ask: Ask, client: ClientConfig): Deny {
  const remedy = remedyForOwnPath(policy, ask, client) ?? remedyForHost(ask, client);
  return deny('host-not-allowed', client, null, `The host ${show(ask.host)} is in no destination${likelyReason(policy, ask.host)}`, remedy);
}

/** A `*.host` of the policy is easily mistaken for the host itself; and some clients replace a name by what they found in DNS. */
function likelyReason(policy: Policy, host: string): string {
  if (isIP(host) !== 0) return '; a client that looks up a name by itself asks for its address: let the proxy look it up';
  return policy.hosts.hasBelow(host) ? `; *.${show(host)} matches only the names below it` : '';
}

/** `port-not-allowed`: a destination has the host, but not the port. */
export function denyPort(ask: Ask, client: CompiledClient, destination: CompiledDestination): Deny {
  const { config } = destination;
  return denyAt(
    'port-not-allowed',
    ask,
    client,
    destination,
    `${asked(ask)}: the destination ${config.name} has ${enumerate('port', config.ports)}`,
    remedyForPort(config, ask.port),
  );
}

/** `form-not-allowed`: the destination does not take this form. */
export function denyForm(ask: Ask, client: CompiledClient, destination: CompiledDestination): Deny {
  const { config } = destination;
  return denyAt(
    'form-not-allowed',
    ask,
    client,
    destination,
    `${asked(ask)}: the destination ${config.name} takes no ${ask.form} requests`,
    remedyForForm(config, ask.form),
  );
}

/** No rule joins the two. */
export function denyPair(ask: Ask, client: CompiledClient, destination: CompiledDestination): Deny {
  const { config } = destination;
  // A client with a wrong password may have matched another client than intended.
  const rejected = ask.peer.rejected === null ? '' : `; the credentials were not accepted: ${ask.peer.rejected}`;
  return denyAt(
    'no-rule',
    ask,
    client,
    destination,
    `${asked(ask)}: no rule lets ${client.config.name} use ${config.name}${rejected}`,
    remedyForRule(client.config, config, { method: null, path: null }),
  );
}

/** A rule joins the two, but does not apply. */
export function denyRule(ask: Ask, client: CompiledClient, destination: CompiledDestination, rule: CompiledRule, miss: Miss): Deny {
  const { config } = destination;
  const lets = `${rule.name} lets ${client.config.name} use ${config.name}`;
  const own = remedyForRule(client.config, config, contentLike(rule.config, ask));
  const denied = (code: FaultCode, detail: string, remedy = own): Deny => denyAt(code, ask, client, destination, detail, remedy);
  const untimely = (when: string): Deny =>
    denied(
      'rule-expired',
      `${asked(ask)}: ${lets} only ${when}, and it is ${formatMoment(ask.now)}`,
      remedyForMoment(rule.name, miss === 'late', own),
    );
  switch (miss) {
    case 'early':
      return untimely(`from ${formatMoment(rule.from)}`);
    case 'late':
      return untimely(`until ${formatMoment(rule.until)}`);
    case 'hidden':
      return denied('form-not-allowed', `${asked(ask)}: ${lets} for the ${listedBy(rule)} that it lists, which a tunnel hides`);
    case 'method':
      return denied('method-not-allowed', `${lets}, but does not list the method ${show(ask.method ?? '')}`);
    case 'path':
      return denied('path-not-allowed', `${lets}, but does not list the path ${show(canonicalPath(ask.path ?? ''))}`);
    case 'ambiguous':
      return denyAmbiguity(ask, ambiguityOf(ask.path ?? '', ask, config) ?? '', client.config, config);
  }
}

/** `method-not-allowed` or `path-not-allowed`, by the destination. @param asked the method, or the canonical path */
export function denyContent(
  key: 'method' | 'path',
  asked: string,
  ask: Ask,
  client: CompiledClient,
  destination: CompiledDestination,
): Deny {
  const { config } = destination;
  const remedy = remedyInstead(ask, client, destination) ?? (key === 'method' ? remedyForMethod : remedyForPath)(config, asked);
  return deny(
    `${key}-not-allowed`,
    client.config,
    config,
    `The destination ${config.name} does not list the ${key} ${show(asked)}`,
    remedy,
  );
}

/** `path-ambiguous`. @param reason the rest of a sentence about the path */
export function denyAmbiguity(ask: Pick<Ask, 'form' | 'path'>, reason: string, client: Client, destination: Destination): Deny {
  return deny('path-ambiguous', client, destination, `The path ${quote(ask.path ?? '')} ${reason}`, remedyForAmbiguity(ask, destination));
}

function asked(ask: Ask): string {
  return formatAuthority(show(ask.host), ask.port);
}

/** A verdict against a request, or a rate that it exceeds, as the fault for the client; with the request. */
export class Denial extends Fault {
  readonly ask: Ask;

  /** @param retryAfter seconds; absent: waiting does not help */
  constructor(
    ask: Ask,
    { code, detail, remedy, challenges }: Pick<Deny, 'code' | 'detail' | 'remedy' | 'challenges'>,
    retryAfter?: number,
  ) {
    super(code, detail, { remedy, challenges, ...(retryAfter === undefined ? {} : { retryAfter }) });
    this.ask = ask;
  }
}
