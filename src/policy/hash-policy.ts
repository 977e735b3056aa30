/** The fingerprint of what a policy permits. */
import { createHash } from 'node:crypto';
import type { ClientConfig, Config, DestinationConfig, RuleConfig } from '../config/config.ts';

/**
 * Over what is permitted, to whom: no key material of ours, nothing about
 * limits or logs. The order inside a list means nothing.
 * @returns 16 hexadecimal digits
 */
export function hashPolicy({ mode, clients, destinations, rules }: Pick<Config, 'mode' | 'clients' | 'destinations' | 'rules'>): string {
  const content = [mode, clients.map(clientContent), destinations.map(destinationContent), rules.map(ruleContent)];
  return createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16);
}

function clientContent({ name, addresses, basic, tokens, certificates }: ClientConfig): unknown[] {
  return [
    name,
    sorted(addresses),
    sorted(basic?.map(({ user, hash }) => `${user}:${hash}`) ?? null),
    sorted(tokens?.map(({ issuer, audience, subjects, jwks }) => JSON.stringify([issuer, audience, sorted(subjects), jwks])) ?? null),
    sorted(certificates),
  ];
}

function destinationContent(destination: DestinationConfig): unknown[] {
  const { gateway } = destination;
  return [
    destination.name,
    sorted(destination.hosts),
    sorted(destination.ports.map(String)),
    sorted(destination.addresses),
    sorted(destination.forms),
    gateway === null ? null : [gateway.prefix, gateway.scheme, gateway.host, gateway.port, gateway.basePath, gateway.encodedSlashes],
    sorted(destination.methods),
    sorted(destination.paths),
    destination.report,
    destination.tunnelSni,
    destination.upgradePlainHttp,
    destination.via.map(({ name }) => name),
    destination.resolve,
  ];
}

function ruleContent(rule: RuleConfig): unknown[] {
  return [sorted(rule.clients), sorted(rule.destinations), sorted(rule.methods), sorted(rule.paths), rule.from, rule.until, rule.report];
}

function sorted(list: readonly string[] | null): string[] | null {
  return list === null ? null : [...list].sort();
}
