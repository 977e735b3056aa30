/**
 * What a request would ask for, read by the parser and the router that read
 * real requests, in the order of listeners/http-forms.ts.
 */
import { Fault } from '../errors.ts';
import type { GatewayRouter } from '../gateway/router.ts';
import type { Policy } from '../policy/compile.ts';
import type { Ask } from '../policy/verdict.ts';
import { parseHost } from '../target/host.ts';
import { pathOf } from '../target/path.ts';
import { quoteTarget } from '../target/quote.ts';
import { type OriginTarget, parseRequestTarget } from '../target/request-target.ts';

/** A request as one would type it. */
export interface WrittenRequest {
  /** Or `TLS`: no request, but raw TLS that was steered to a TLS listener. */
  readonly method: string;
  /** The request target: `host:port`, a URL or a path; with TLS the host in its ClientHello. */
  readonly target: string;
  /** The Host field; null: none, which only a bare path is the poorer for. */
  readonly host: string | null;
}

/** The question to the policy, without who asks it and when. */
export type Wanted = Omit<Ask, 'peer' | 'now'>;

export interface ReadingTerms {
  readonly policy: Policy;
  readonly gateway: GatewayRouter;
  readonly listeners: readonly { readonly forms: readonly Ask['form'][] }[];
}

/** @throws {Fault} that the request would get before the policy is asked */
export async function readTarget({ method, target, host }: WrittenRequest, terms: ReadingTerms): Promise<Wanted> {
  if (method === 'TLS') return readName(target, terms);
  // HTTP/1.0 may come without Host; nothing else depends on the version here.
  const read = host === null ? parseRequestTarget(method, target, [], '1.0') : parseRequestTarget(method, target, [host], '1.1');
  if (read.kind === 'origin') return readPath(method, read, terms);
  const form = read.kind === 'connect' ? 'connect' : 'forward';
  take(form, terms);
  if (read.kind === 'connect') return { form, host: read.host, port: read.port, method: null, path: null };
  return { form, host: read.host, port: read.port, method, path: pathOf(read.target) };
}

async function readPath(method: string, { authority, target }: OriginTarget, terms: ReadingTerms): Promise<Wanted> {
  const { policy, gateway } = terms;
  const route = authority !== null && policy.hasHost(authority.host) ? null : await gateway.find(target);
  if (route !== null) {
    take('gateway', terms);
    const { host, port } = route.origin;
    return { form: 'gateway', host, port, method, path: pathOf(route.target), destination: route.destination };
  }
  if (authority === null) {
    const prefixes = gateway.prefixes.length === 0 ? 'there is no gateway prefix' : `it is not below ${gateway.prefixes.join(' or ')}`;
    throw new Fault('host-not-allowed', `The path alone names no destination: ${prefixes}`, { remedy: 'say which Host the request has' });
  }
  if (policy.hasHost(authority.host)) take('host-routed', terms);
  const { host, port } = policy.steered({ scheme: 'http', ...authority });
  return { form: 'host-routed', host, port, method, path: pathOf(target) };
}

/** As listeners/sni-form.ts: a ClientHello names a host, and the policy knows which port is meant. */
function readName(target: string, terms: ReadingTerms): Wanted {
  const host = parseHost(target);
  if (host === null) throw new Fault('target-malformed', `${quoteTarget(target)} is no host that a ClientHello could name`, { remedy: 'write TLS and a host, without a port' });
  take('sni', terms);
  return { form: 'sni', host, port: terms.policy.tlsPort(host), method: null, path: null };
}

/** Some listener has to take the form; which one was meant is not known here. */
function take(form: Ask['form'], { listeners }: ReadingTerms): void {
  if (listeners.some(({ forms }) => forms.includes(form))) return;
  throw new Fault('form-not-allowed', `no listener takes ${form} requests`, { remedy: `add ${form} to the forms of a listener` });
}
