/** The words of a denial: what was asked, and the smallest change to the configuration that would permit it. */
import type { ClientConfig, DestinationConfig } from '../config/config.ts';
import { formatAuthority } from '../target/host.ts';
import { quote, show } from '../target/quote.ts';
import type { Ask, Deny } from './verdict.ts';

export function denyClient(ask: Ask): Deny {
  const address = show(ask.peer.address);
  return {
    verdict: 'deny',
    code: 'client-not-allowed',
    client: null,
    destination: null,
    detail: `The address ${address} belongs to no client`,
    challenges: [],
    remedy: `add ${address} to clients.<name>.addresses`,
  };
}

/** @param isSuffix whether the policy has `*.host`, which one easily takes for the host itself */
export function denyHost(ask: Ask, client: ClientConfig, isSuffix: boolean): Deny {
  const host = show(ask.host);
  const hint = isSuffix ? `; *.${host} stands for the names below it only` : '';
  return {
    verdict: 'deny',
    code: 'host-not-allowed',
    client,
    destination: null,
    detail: `The host ${host} is in no destination${hint}`,
    challenges: [],
    remedy: `add ${show(ask.host)} to destinations.<name>.hosts, and that destination to a rule for ${client.name}`,
  };
}

export function denyPort(ask: Ask, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'port-not-allowed',
    client,
    destination,
    detail: `${asked(ask)}: the destination ${destination.name} has the ports ${destination.ports.join(', ')}`,
    challenges: [],
    remedy: `add ${ask.port} to destinations.${destination.name}.ports`,
  };
}

export function denyForm(ask: Ask, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'form-not-allowed',
    client,
    destination,
    detail: `${asked(ask)}: the destination ${destination.name} takes no ${ask.form} requests`,
    challenges: [],
    remedy: `add ${ask.form} to destinations.${destination.name}.forms`,
  };
}

export function denyRule(ask: Ask, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'no-rule',
    client,
    destination,
    detail: `${asked(ask)}: no rule lets ${client.name} use ${destination.name}`,
    challenges: [],
    remedy: `add { clients: [${client.name}], destinations: [${destination.name}] } to rules`,
  };
}

export function denyMethod(method: string, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'method-not-allowed',
    client,
    destination,
    detail: `The destination ${destination.name} does not list the method ${show(method)}`,
    challenges: [],
    remedy: `add ${show(method)} to destinations.${destination.name}.http.methods`,
  };
}

export function denyPath(path: string, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'path-not-allowed',
    client,
    destination,
    detail: `The destination ${destination.name} does not list the path ${show(path)}`,
    challenges: [],
    remedy: `add ${show(path)} to destinations.${destination.name}.http.paths`,
  };
}

export function denyAmbiguity(path: string, reason: string, client: ClientConfig, destination: DestinationConfig): Deny {
  return {
    verdict: 'deny',
    code: 'path-ambiguous',
    client,
    destination,
    detail: `The path ${quote(path)} ${reason}`,
    challenges: [],
    remedy: 'ask for the path in its plain form; no setting permits this one',
  };
}

function asked(ask: Ask): string {
  return formatAuthority(show(ask.host), ask.port);
}
