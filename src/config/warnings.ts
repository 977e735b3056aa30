/** What is allowed to write, and probably not what was meant. */
import ipaddr from 'ipaddr.js';
import type { Config, DestinationConfig } from './config.ts';
import type { Complain } from './finding.ts';

export function warnAbout(config: Config, warn: Complain): void {
  warnAboutEmptiness(config, warn);
  warnAboutUnused(config, warn);
  warnAboutClients(config, warn);
  for (const destination of config.destinations) warnAboutDestination(destination, config, warn);
}

function warnAboutEmptiness({ clients, destinations, rules }: Config, warn: Complain): void {
  const empty = [clients.length === 0 ? 'clients' : '', destinations.length === 0 ? 'destinations' : '', rules.length === 0 ? 'rules' : ''].filter((name) => name !== '');
  if (empty.length > 0) warn([], `There are no ${empty.join(', no ')}: every request is denied.`, 'Name who may call what: clients, destinations, and rules that join them.');
}

function warnAboutUnused({ clients, destinations, rules }: Config, warn: Complain): void {
  if (rules.length === 0) return;
  const usedClients = new Set(rules.flatMap((rule) => rule.clients));
  const usedDestinations = new Set(rules.flatMap((rule) => rule.destinations));
  for (const { name } of clients) {
    if (!usedClients.has(name)) warn(['clients', name], `No rule names client ${name}: everything it asks for is denied.`, 'Add it to a rule, or take it out.', 'key');
  }
  for (const { name } of destinations) {
    if (!usedDestinations.has(name)) warn(['destinations', name], `No rule names destination ${name}: nobody may use it.`, 'Add it to a rule, or take it out.', 'key');
  }
}

/** The first client that matches wins, so a range inside an earlier one is never reached. */
function warnAboutClients({ clients }: Config, warn: Complain): void {
  const earlier: { name: string; cidr: string }[] = [];
  for (const { name, addresses } of clients) {
    addresses?.forEach((cidr, index) => {
      const path = ['clients', name, 'addresses', index];
      if (cidr.endsWith('/0')) warn(path, `${cidr} makes everybody the client ${name}.`, 'Write the ranges of the pods that should call.');
      const cover = earlier.find((other) => other.name !== name && covers(other.cidr, cidr));
      if (cover !== undefined) {
        warn(path, `${cidr} lies inside ${cover.cidr} of client ${cover.name}, which stands earlier: the first match wins.`, `Put ${name} before ${cover.name}, or make the ranges distinct.`);
      }
    });
    earlier.push(...(addresses ?? []).map((cidr) => ({ name, cidr })));
  }
}

function covers(wide: string, narrow: string): boolean {
  const [network, bits] = ipaddr.parseCIDR(wide);
  const [address, length] = ipaddr.parseCIDR(narrow);
  return network.kind() === address.kind() && length >= bits && address.match(network, bits);
}

function warnAboutDestination(destination: DestinationConfig, { listeners }: Config, warn: Complain): void {
  const path = ['destinations', destination.name];
  const judged = [destination.methods === null ? '' : 'methods', destination.paths === null ? '' : 'paths'].filter((name) => name !== '');
  if (judged.length > 0 && destination.forms.includes('connect')) {
    warn(
      [...path, 'http'],
      `${upperFirst(judged.join(' and '))} of ${destination.name} are not judged inside a tunnel, and connect is among its forms.`,
      `Write forms: [forward, gateway, host-routed] under ${destination.name} to hold every request to them.`,
    );
  }
  const taken = new Set(listeners.http.flatMap((listener) => listener.forms));
  const forms = destination.forms.filter((form) => form !== 'gateway' || destination.gateway !== null);
  if (!forms.some((form) => taken.has(form))) {
    warn([...path, 'forms'], `No listener takes a form that ${destination.name} accepts: nobody can reach it.`, 'Add one of its forms to a listener under listeners.http.');
  } else if (destination.gateway !== null && !taken.has('gateway')) {
    warn([...path, 'gateway'], `No listener takes the gateway form: ${destination.gateway.prefix} answers nowhere.`, 'Add gateway to the forms of a listener under listeners.http.');
  }
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
