/**
 * A request before any policy has parsed it, and its result under one policy:
 * the input that the listeners would build, decided by the code that serves
 * requests.
 */
import type { DestinationConfig, Form } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import { createAddressGuards } from '../policy/address-guard.ts';
import { ANONYMOUS } from '../policy/client-table.ts';
import type { CompiledDestination, Policy, SteeredOrigin } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import { nameRules } from '../policy/same-rules.ts';
import { type Ask, type Peer, peerAt, type Verdict } from '../policy/verdict.ts';
import { formatAuthority } from '../targets/host.ts';
import { SLASH } from '../targets/path.ts';

/** A client's request, in any form. Two policies may parse it differently. */
export interface DiffRequest {
  readonly form: Form;
  readonly peer: Peer;
  /** Ms since the epoch. */
  readonly now: number;
  /** Canonical; empty for the gateway, which is called by its own name. */
  readonly host: string;
  /** 0 if the request has none: for the gateway, and for the form `sni`. */
  readonly port: number;
  /** Scheme of a steered request. */
  readonly scheme: 'http' | 'https';
  /** Null in a tunnel, and for the form `sni`. */
  readonly method: string | null;
  /** For the gateway with its prefix. */
  readonly path: string | null;
}

/** A policy, and what is needed to compare it with another. */
export interface PolicySide {
  readonly policy: Policy;
  /** Destinations by their gateway prefix. */
  readonly gateways: ReadonlyMap<string, CompiledDestination>;
  /** Gateway prefixes of both policies. */
  readonly prefixes: ReadonlySet<string>;
  /** For each rule its name in both policies: rules with one name are the same rule, perhaps changed. */
  readonly ruleNames: readonly string[];
}

/** The result of a request under a policy. */
export interface DiffVerdict {
  readonly verdict: Verdict['verdict'];
  /** `ok`, or the code of the denial; with `report`, of the one that is not enforced. */
  readonly code: FaultCode | 'ok';
  readonly client: string | null;
  readonly destination: DestinationConfig | null;
  /** Position of the rule in its file; null: there is none. */
  readonly rule: number | null;
  /** Name of the rule in both policies. */
  readonly ruleName: string | null;
  /** The target, as far as the request does not give it. */
  readonly leads: string;
}

/** The gateway's prefix that covers a path, the longest first; null: none does. */
export function findPrefix(prefixes: { has(prefix: string): boolean }, path: string): string | null {
  for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
    const prefix = path.slice(0, end);
    if (prefixes.has(prefix)) return prefix;
  }
  return null;
}

/** The input of the policy as the listeners would build it; null: no prefix covers the path, and nothing else names a destination. */
export function askOf(side: PolicySide, { form, peer, now, host, port, scheme, method, path }: DiffRequest): Ask | null {
  switch (form) {
    case 'connect':
      return { form, peer, now, host, port, method: null, path: null };
    case 'sni':
      return { form, peer: peerAt(peer.address), now, host, port: side.policy.tlsPort(host), method: null, path: null };
    case 'forward':
      return { form, peer, now, host, port, method, path };
    case 'host-routed': {
      const origin = side.policy.hasHost(host) ? side.policy.steered({ scheme, host, port }) : { host, port };
      return { form, peer, now, host: origin.host, port: origin.port, method, path };
    }
    case 'gateway': {
      const prefix = findPrefix(side.gateways, path ?? '');
      const destination = prefix === null ? undefined : side.gateways.get(prefix);
      const gateway = destination?.config.gateway ?? null;
      if (prefix === null || destination === undefined || gateway === null) return null;
      const rest = `${gateway.basePath}${(path ?? '').slice(prefix.length)}`;
      return {
        form,
        peer,
        now,
        host: gateway.host,
        port: gateway.port,
        method,
        path: rest.charCodeAt(0) === SLASH ? rest : `/${rest}`,
        destination: destination.config.name,
      };
    }
  }
}

/** The verdict on a request, by `decide`. Addresses of a name are not checked. */
export function judgeRequest(side: PolicySide, request: DiffRequest): DiffVerdict {
  const ask = askOf(side, request);
  if (ask === null)
    return { verdict: 'deny', code: 'host-not-allowed', client: null, destination: null, rule: null, ruleName: null, leads: '' };
  const verdict = decide(side.policy, ask);
  const client = verdict.client?.name ?? null;
  if (verdict.verdict === 'deny')
    return { verdict: 'deny', code: verdict.code, client, destination: verdict.destination, rule: null, ruleName: null, leads: '' };
  const rule = verdict.rule === '-' ? null : Number(verdict.rule.slice('rules['.length, -1));
  const ruleName = rule === null ? null : (side.ruleNames[rule] ?? null);
  return {
    verdict: verdict.verdict,
    code: verdict.verdict === 'report' ? verdict.would.code : 'ok',
    client,
    destination: verdict.destination,
    rule,
    ruleName,
    leads: leadsTo(request, ask, side),
  };
}

function leadsTo(request: DiffRequest, ask: Ask, { policy, gateways, prefixes }: PolicySide): string {
  if (request.form === 'gateway') {
    const path = request.path ?? '';
    const prefix = findPrefix(gateways, path) ?? '';
    const gateway = gateways.get(prefix)?.config.gateway;
    // The longest prefix of either file: the rest of the path is forwarded unchanged.
    const below = (findPrefix(prefixes, path) ?? prefix).slice(prefix.length);
    return gateway ? `${gateway.scheme}://${formatAuthority(gateway.host, gateway.port)}${gateway.basePath}${below}` : '';
  }
  if (request.form === 'sni') return `port ${ask.port}`;
  if (request.form !== 'host-routed' || request.scheme === 'https') return '';
  const steered = policy.steered<SteeredOrigin>({ scheme: request.scheme, host: ask.host, port: request.port });
  return steered.scheme === 'https' ? `https, port ${steered.port}` : '';
}

/** Equal for verdicts without an observable difference: of denials, only the code counts. */
export function keyOfVerdict({ verdict, code, client, destination, ruleName, leads }: DiffVerdict): string {
  if (verdict === 'deny') return `deny ${code}`;
  return JSON.stringify([verdict, code, client, destination?.name, verdict === 'report' ? null : ruleName, leads]);
}

/** The result for an address of a name, or for an IP literal in a request. */
export type AddressFate = 'pass' | 'report' | 'refuse';

/** Checks addresses as a dial would for a permitted request; null: a parent resolves the name, and none is checked. */
export function judgesAddresses(mode: Policy['mode'], destination: DestinationConfig | null): ((address: string) => AddressFate) | null {
  const config = destination ?? ANONYMOUS;
  if (config.via.length > 0 && config.resolve === 'parent') return null;
  const { enforcing, lenient } = createAddressGuards(config, mode, () => false);
  return (address) => (enforcing(address, 1) === null ? 'pass' : lenient !== null && lenient(address, 1) === null ? 'report' : 'refuse');
}

/** Both sides of a comparison. */
export function makeSides(before: Policy, after: Policy): readonly [before: PolicySide, after: PolicySide] {
  const policies = [before, after] as const;
  const names = nameRules(
    before.rules.map(({ config }) => config),
    after.rules.map(({ config }) => config),
  );
  const prefixes = new Set(policies.flatMap(({ destinations }) => destinations.flatMap(({ config }) => config.gateway?.prefix ?? [])));
  const sideOf = (policy: Policy, ruleNames: readonly string[]): PolicySide => ({
    policy,
    gateways: new Map(
      policy.destinations.flatMap((destination) =>
        destination.config.gateway === null ? [] : [[destination.config.gateway.prefix, destination] as const],
      ),
    ),
    prefixes,
    ruleNames,
  });
  return [sideOf(before, names[0]), sideOf(after, names[1])];
}
