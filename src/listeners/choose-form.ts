/**
 * Determines the form of a request and its target from its request line and
 * Host alone (docs/architecture.md, "Form and target"). Pure: used to serve
 * requests and by `explain`.
 */
import type { Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { RequestHead } from '../http1/request-head.ts';
import type { Policy } from '../policy/compile.ts';
import type { Authority } from '../targets/host.ts';
import { pathOf } from '../targets/path.ts';
import { show } from '../targets/quote.ts';
import { parseRequestTarget, type Scheme } from '../targets/request-target.ts';

/** What the form of a request depends on. */
export type RequestLine = Pick<RequestHead, 'method' | 'target' | 'hosts' | 'version'>;

/** The form of a request, with its target. */
export type FormChoice =
  | { readonly form: 'connect'; readonly host: string; readonly port: number }
  /** `otherHost`: the Host field, if it differs from the target, which replaces it (RFC 9112 §3.2.2); null: they are equal. */
  | { readonly form: 'forward'; readonly origin: Origin; readonly target: string; readonly otherHost: Authority | null }
  | { readonly form: 'host-routed'; readonly origin: Origin; readonly target: string }
  | PathChoice;

/** Only the path names the destination: the gateway's router decides whether a prefix covers it. `authority` is from Host; null: HTTP/1.0 without one. */
export interface PathChoice {
  readonly form: 'gateway';
  readonly authority: Authority | null;
  readonly target: string;
}

/** A common mistake of operators: these paths exist on the admin listener only. */
const OPERATIONS = new Set(['/metrics', '/healthz', '/readyz']);

/**
 * @param scheme of the request
 * @param policy for the hosts of destinations, which take precedence over prefixes
 * @throws {Fault} request-malformed, target-malformed or scheme-not-supported
 */
export function chooseForm(line: RequestLine, scheme: Scheme, policy: Pick<Policy, 'hasHost' | 'steered'>): FormChoice {
  const read = parseRequestTarget(line.method, line.target, line.hosts, line.version, scheme);
  switch (read.kind) {
    case 'connect':
      return { form: 'connect', host: read.host, port: read.port };
    case 'absolute': {
      const { target, otherHost, host, port } = read;
      return { form: 'forward', origin: { scheme: read.scheme, host, port }, target, otherHost };
    }
    case 'origin': {
      const { authority, target } = read;
      if (authority === null || !policy.hasHost(authority.host)) return { form: 'gateway', authority, target };
      return { form: 'host-routed', origin: policy.steered({ scheme, ...authority }), target };
    }
  }
}

/** A path that no prefix covers is checked as a steered request for the host that it names. Null: it names none. */
export function judgedAs({ authority }: PathChoice, scheme: Scheme): Origin | null {
  return authority === null ? null : { scheme, ...authority };
}

/** The refusal of a path that names no destination, neither by its Host nor by a prefix. */
export function namesNoDestination({ authority, target }: PathChoice, prefixes: readonly string[]): Fault {
  const path = pathOf(target);
  const host = authority === null ? 'There is no Host field' : `Host names ${show(authority.host)}, which matches no destination`;
  const prefix =
    prefixes.length === 0
      ? 'there is no gateway prefix'
      : `the path is not below ${prefixes.length > 4 ? `any of the ${prefixes.length} gateway prefixes` : prefixes.join(' or ')}`;
  return new Fault('host-not-allowed', `${host}, and ${prefix}`, {
    remedy: OPERATIONS.has(path)
      ? `${path} is served on the admin listener`
      : authority === null
        ? 'name the destination in a Host field, or ask below a gateway prefix'
        : 'ask below a gateway prefix, or through the proxy for a host of the allowlist',
  });
}
