/**
 * What would permit a request, in words: the first change that it needs. A
 * refusal shows it, and a proposal (explain/suggest-change.ts) makes the
 * change, so both agree. A change of a destination that shares hosts with other
 * destinations could take requests over from these; only a comparison of both
 * policies can show that, so a refusal then names the command that compares.
 */
import type { ClientConfig, DestinationConfig } from '../config/config.ts';
import { DEFAULT_PORT } from '../targets/host.ts';
import { canonicalPath, findAmbiguity } from '../targets/path.ts';
import { firstPort } from '../targets/port-range.ts';
import { show } from '../targets/quote.ts';
import { type AddressClass, classifyAddress } from './address-class.ts';
import { ambiguityOf, type CompiledClient, type CompiledDestination, furthestMiss, NO_RULE, type Policy } from './compile.ts';
import { matchesPath } from './patterns.ts';
import type { Ask } from './verdict.ts';

/** Classes of addresses where a partner can be. Others are not proposed; they have to be listed by hand. */
const PROPOSED_CLASSES: ReadonlySet<AddressClass> = new Set(['public', 'private', 'unique-local', 'shared']);

/** Whether a change may name this address. */
export function isProposable(address: string): boolean {
  const known = classifyAddress(address);
  return known !== null && PROPOSED_CLASSES.has(known.class);
}

/** `10.8.3.4/32`. @param address canonical */
export function singleAddress(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}

/** For a change that could take requests over from another destination. */
export function whereShared({ name }: DestinationConfig): string {
  return `ask npx eco-egress explain for a change: other destinations have hosts of ${name} too`;
}

/** A new destination: existing ones permit no more than before. @param client by its address only where its credentials were not accepted; @param ports of the new destination */
export function remedyForHost(
  { host, port, peer }: Pick<Ask, 'host' | 'port' | 'peer'>,
  client: ClientConfig,
  ports: readonly number[] = [port],
): string {
  const known = classifyAddress(host);
  if (known !== null && !isProposable(host)) return `ask for another host: ${show(host)} is a ${known.class} address, where no partner is`;
  const listed = known === null || known.class === 'public' ? '' : ' under hosts and addresses';
  return peer.rejected === null
    ? `add a destination with ${show(host)}${listed} and ${ports.length === 1 ? 'port' : 'ports'} ${ports.join(', ')}, and a rule that lets ${client.name} use it`
    : remedyForRejected(client);
}

/** For a path below a gateway prefix, asked for through the proxy: the host is probably the proxy itself, and a destination for it would be a loop. Null: it is not such a path. */
export function remedyForOwnPath({ destinations }: Pick<Policy, 'destinations'>, ask: Ask, client: ClientConfig): string | null {
  if (ask.form !== 'forward') return null;
  const path = `${ask.path ?? ''}/`;
  const prefix = destinations.find(
    ({ config: { gateway } }) => gateway !== null && path.startsWith(gateway.prefix) && path[gateway.prefix.length] === '/',
  )?.config.gateway?.prefix;
  return prefix === undefined
    ? null
    : `if ${show(ask.host)} is this proxy, list it in the client's NO_PROXY: requests below ${prefix} go to the proxy directly; if not, ${remedyForHost(ask, client)}`;
}

/** Of a destination. */
export function remedyForPort({ name, forms, ports }: DestinationConfig, port: number): string {
  const moved =
    port === DEFAULT_PORT.https && forms.includes('sni')
      ? `; raw TLS (sni) goes there too then, and no longer to ${firstPort(ports[0] ?? port)}`
      : '';
  return `add ${port} to destinations.${name}.ports, for all of its hosts and clients${moved}`;
}

/** Whether a destination can take a form: a tunnel hides methods and paths, so it would bypass the limits of a destination that has any. */
function canTake({ methods, paths, gateway }: DestinationConfig, form: Ask['form']): boolean {
  if (form === 'gateway') return gateway !== null;
  return (form !== 'connect' && form !== 'sni') || (methods === null && paths === null);
}

/** Of a destination that can take it. */
export function remedyForForm({ name }: DestinationConfig, form: Ask['form']): string {
  return `add ${form} to destinations.${name}.forms, for all of its clients`;
}

function remedyForOtherForm(destination: DestinationConfig, form: Ask['form']): string {
  const { name } = destination;
  return form === 'gateway'
    ? `give destinations.${name} a gateway with a prefix`
    : `${remedyForHidden(destination, listedBy(destination))}; ${form} would go round the limits of ${name}`;
}

/** `methods and paths`: what a rule or a destination lists. */
export function listedBy({ methods, paths }: { readonly methods: unknown; readonly paths: unknown }): string {
  return [methods === null ? '' : 'methods', paths === null ? '' : 'paths'].filter((key) => key !== '').join(' and ');
}

/** Where a tunnel hides what a rule lists. @param listed `methods and paths` */
function remedyForHidden({ name, forms, gateway }: DestinationConfig, listed: string): string {
  const open = forms.filter((form) => form !== 'connect' && form !== 'sni' && (form !== 'gateway' || gateway !== null));
  return open.length === 0
    ? `use a form in which ${listed} can be seen, such as forward: destinations.${name}.forms has none`
    : `use a form in which ${listed} can be seen: ${open.join(', ').replace(/, ([^,]*)$/, ' or $1')}`;
}

/** A new rule for the client: existing ones permit no more than before. @param limits what it lists; null: any */
export function remedyForRule(
  client: ClientConfig,
  destination: DestinationConfig,
  { method, path }: { readonly method: string | null; readonly path: string | null },
): string {
  const limits = [method === null ? '' : `the method ${show(method)}`, path === null ? '' : `the path ${show(path)}`].filter(
    (limit) => limit !== '',
  );
  return `add a rule for ${client.name} and ${destination.name}${limits.length === 0 ? '' : ` and ${limits.join(' and ')}`}`;
}

/** For a rule that is not in effect now. @param added for a rule of its own, as returned by `remedyForRule` */
export function remedyForMoment(rule: string, ended: boolean, added: string): string {
  return `${ended ? `if it is still needed, write a later until in ${rule}` : `wait, or write an earlier from in ${rule}`}, or ${added}`;
}

/** For a peer that is a client by its address, with credentials that were not accepted. */
function remedyForRejected(client: ClientConfig): string {
  return `show credentials that are accepted: a rule for ${client.name} would let the peer in without them`;
}

/** Of a destination. */
export function remedyForMethod({ name }: DestinationConfig, method: string): string {
  return `add ${show(method)}${method === 'GET' ? ' (and with it HEAD)' : ''} to destinations.${name}.http.methods, for all of its clients`;
}

/** Of a destination. @param path canonical */
export function remedyForPath({ name }: DestinationConfig, path: string): string {
  return `add ${show(path)} to destinations.${name}.http.paths, for all of its clients`;
}

/** For an address that a name resolved to. Adding a range is safe only where ranges are listed: a first list replaces the public addresses. @param entry as returned by `singleAddress` */
export function remedyForAddress({ name, addresses }: DestinationConfig, entry: string): string {
  if (addresses === null)
    return `list all ranges of the partner in destinations.${name}.addresses, ${entry} among them: from then on no other address is dialled for its hosts, public or not`;
  return `add ${entry} to destinations.${name}.addresses, for all of its hosts and clients`;
}

/**
 * What to do where no change would do: for a form that the destination cannot take, for a peer that showed wrong credentials, and
 * for a method or path that is hidden or cannot be in a list, though lists decide on it: those of the destination, or of the
 * rule that the request needs. Null: one may do.
 */
export function remedyInstead(
  ask: Ask,
  client: CompiledClient,
  { config, index, forms, methods, paths }: CompiledDestination,
): string | null {
  const { form, method, path: asked, peer } = ask;
  if (!forms.has(form) && !canTake(config, form)) return remedyForOtherForm(config, form);
  const rules = client.rules[index] ?? NO_RULE;
  if (peer.rejected !== null && rules.length === 0) return remedyForRejected(client.config);
  // A new rule lists what the one lists that almost applied.
  const { rule: almost } = furthestMiss(rules, ask, config) ?? { rule: { methods: null, paths: null } };
  if ((almost.methods !== null && method === null) || (almost.paths !== null && asked === null))
    return remedyForHidden(config, listedBy(almost));
  const path = asked === null || (almost.paths === null && paths === null && form !== 'gateway') ? null : canonicalPath(asked);
  if (path !== null && ambiguityOf(asked ?? '', ask, config) !== null) return remedyForAmbiguity(ask, config);
  if (method !== null && !isListable(method) && (almost.methods !== null || methods?.has(method) === false)) return unlistable(method);
  const needed = path !== null && (almost.paths !== null || (paths !== null && !matchesPath(paths, path)));
  return needed && !isNameable(path) ? unnameable(path) : null;
}

/** An encoded slash is the only ambiguity that a setting can permit. */
export function remedyForAmbiguity({ form, path }: Pick<Ask, 'form' | 'path'>, destination: DestinationConfig | null): string {
  const permissible =
    form === 'gateway' && destination?.gateway?.encodedSlashes === 'refuse' && findAmbiguity(path ?? '', 'allow') === null;
  return permissible
    ? `set destinations.${destination.name}.gateway.encodedSlashes to allow`
    : 'ask for the path in its plain form; no setting permits this one';
}

/** Whether a list may have this method: a file with any other is refused. */
export function isListable(method: string): boolean {
  return method === method.toUpperCase() && method !== '*';
}

function unlistable(method: string): string {
  return `ask with another method: no list can have ${show(method)}, since methods are in capitals`;
}

/** Whether a pattern for exactly this path exists: a star in it would be read as a pattern, and the other characters are not allowed in patterns. */
function isNameable(path: string): boolean {
  return path.startsWith('/') && !/[*"<>^`{|}]|%2F/.test(path);
}

/** No pattern has an encoded slash; one for each reading would. */
function unnameable(path: string): string {
  if (path.includes('%2F'))
    return `no pattern can name the path ${show(path)}: patterns have to cover both of its readings, ${show(path)} and ${show(path.replaceAll('%2F', '/'))}, and would permit more`;
  return `no pattern can name the path ${show(path)}${path === '*' ? '' : '; a prefix that covers it would permit more'}`;
}

/** What a rule for this request would list, where the rule that almost applied lists methods or paths. */
export function contentLike(
  like: { readonly methods?: unknown; readonly paths?: unknown },
  { method, path }: Pick<Ask, 'method' | 'path'>,
): { readonly method: string | null; readonly path: string | null } {
  return {
    method: (like.methods ?? null) === null ? null : method,
    path: (like.paths ?? null) === null || path === null ? null : canonicalPath(path),
  };
}
