/**
 * A request as it is written, before any policy has read it, and what becomes
 * of it by one policy: the question that the listeners would ask, answered by
 * the code that enforces.
 */
import type { DestinationConfig, Form } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import { createAddressGuards } from '../policy/address-guard.ts';
import { ANONYMOUS } from '../policy/client-table.ts';
import type { CompiledDestination, Policy, SteeredOrigin } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import { nameRules } from '../policy/same-rules.ts';
import type { Ask, Peer, Verdict } from '../policy/verdict.ts';
import { formatAuthority } from '../targets/host.ts';
import { SLASH } from '../targets/path.ts';

/** What a client asks for, in any form. Two policies may read it in two ways. */
export interface DiffRequest {
  readonly form: Form;
  readonly peer: Peer;
  /** Ms since the epoch. */
  readonly now: number;
  /** Canonical; empty for the gateway, which is called by its own name. */
  readonly host: string;
  /** 0 where the request has none: for the gateway, and for TLS by its server name. */
  readonly port: number;
  /** By which a steered request came. */
  readonly scheme: 'http' | 'https';
  /** Null in a tunnel, and for TLS by its server name. */
  readonly method: string | null;
  /** For the gateway with its prefix. */
  readonly path: string | null;
}

/** A policy, and what it takes to compare it with another. */
export interface PolicySide {
  readonly policy: Policy;
  /** Destinations by their gateway prefix. */
  readonly gateways: ReadonlyMap<string, CompiledDestination>;
  /** Gateway prefixes of both policies. */
  readonly prefixes: ReadonlySet<string>;
  /** For each rule its name in both policies: rules with one name are one rule, perhaps a changed one. */
  readonly ruleNames: readonly string[];
}

/** What a policy makes of a request. */
export interface DiffVerdict {
  readonly verdict: Verdict['verdict'];
  /** `ok`, or the code of the denial; of the one that report mode does not enforce, with `report`. */
  readonly code: FaultCode | 'ok';
  readonly client: string | null;
  readonly destination: DestinationConfig | null;
  /** Place of the rule in its file; null where there is none. */
  readonly rule: number | null;
  /** Name of the rule in both policies. */
  readonly ruleName: string | null;
  /** Where it leads, as far as the request does not say so. */
  readonly leads: string;
}

/** The gateway's prefix that covers a path, the longest first; null where none does. */
export function findPrefix(prefixes: { has(prefix: string): boolean }, path: string): string | null {
  for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
    const prefix = path.slice(0, end);
    if (prefixes.has(prefix)) return prefix;
  }
  return null;
}

/** What the listeners would ask a policy; null: no prefix covers the path, and nothing else names a destination. */
export function askOf(side: PolicySide, { form, peer, now, host, port, scheme, method, path }: DiffRequest): Ask | null {
  switch (form) {
    case 'connect':
      return { form, peer, now, host, port, method: null, path: null };
    case 'sni':
      return { form, peer: { ...peer, user: null, token: null }, now, host, port: side.policy.tlsPort(host), method: null, path: null };
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
      return { form, peer, now, host: gateway.host, port: gateway.port, method, path: rest.charCodeAt(0) === SLASH ? rest : `/${rest}`, destination: destination.config.name };
    }
  }
}

/** The verdict on a request, by `decide`. What a name resolves to is not looked at. */
export function judgeRequest(side: PolicySide, request: DiffRequest): DiffVerdict {
  const ask = askOf(side, request);
  if (ask === null) return { verdict: 'deny', code: 'host-not-allowed', client: null, destination: null, rule: null, ruleName: null, leads: '' };
  const verdict = decide(side.policy, ask);
  const client = verdict.client?.name ?? null;
  if (verdict.verdict === 'deny') return { verdict: 'deny', code: verdict.code, client, destination: verdict.destination, rule: null, ruleName: null, leads: '' };
  const rule = verdict.rule === '-' ? null : Number(verdict.rule.slice('rules['.length, -1));
  const ruleName = rule === null ? null : (side.ruleNames[rule] ?? null);
  return { verdict: verdict.verdict, code: verdict.verdict === 'report' ? verdict.would.code : 'ok', client, destination: verdict.destination, rule, ruleName, leads: leadsTo(request, ask, side) };
}

function leadsTo(request: DiffRequest, ask: Ask, { policy, gateways, prefixes }: PolicySide): string {
  if (request.form === 'gateway') {
    const path = request.path ?? '';
    const prefix = findPrefix(gateways, path) ?? '';
    const gateway = gateways.get(prefix)?.config.gateway;
    // The longest prefix of either file: what follows it is passed on as it is.
    const below = (findPrefix(prefixes, path) ?? prefix).slice(prefix.length);
    return gateway ? `${gateway.scheme}://${formatAuthority(gateway.host, gateway.port)}${gateway.basePath}${below}` : '';
  }
  if (request.form === 'sni') return `port ${ask.port}`;
  if (request.form !== 'host-routed' || request.scheme === 'https') return '';
  const steered = policy.steered<SteeredOrigin>({ scheme: request.scheme, host: ask.host, port: request.port });
  return steered.scheme === 'https' ? `https, port ${steered.port}` : '';
}

/** Equal for verdicts between which nobody would see a difference: of denials, only the code counts. */
export function keyOfVerdict({ verdict, code, client, destination, ruleName, leads }: DiffVerdict): string {
  if (verdict === 'deny') return `deny ${code}`;
  return JSON.stringify([verdict, code, client, destination?.name, verdict === 'report' ? null : ruleName, leads]);
}

/** What becomes of an address that a name resolves to, or that is asked for itself. */
export type AddressFate = 'pass' | 'report' | 'refuse';

/** Judges addresses as a dial would for what a verdict lets through; null: a parent finds them, and none is judged. */
export function judgesAddresses(mode: Policy['mode'], destination: DestinationConfig | null): ((address: string) => AddressFate) | null {
  const config = destination ?? ANONYMOUS;
  if (config.via.length > 0 && config.resolve === 'parent') return null;
  const { enforcing, lenient } = createAddressGuards(config, mode, () => false);
  return (address) => (enforcing(address, 1) === null ? 'pass' : lenient !== null && lenient(address, 1) === null ? 'report' : 'refuse');
}

/** Both sides of a comparison. */
export function makeSides(before: Policy, after: Policy): readonly [before: PolicySide, after: PolicySide] {
  const policies = [before, after] as const;
  const names = nameRules(before.rules.map(({ config }) => config), after.rules.map(({ config }) => config));
  const prefixes = new Set(policies.flatMap(({ destinations }) => destinations.flatMap(({ config }) => config.gateway?.prefix ?? [])));
  const sideOf = (policy: Policy, ruleNames: readonly string[]): PolicySide => ({
    policy,
    gateways: new Map(policy.destinations.flatMap((destination) => (destination.config.gateway === null ? [] : [[destination.config.gateway.prefix, destination] as const]))),
    prefixes,
    ruleNames,
  });
  return [sideOf(before, names[0]), sideOf(after, names[1])];
}
