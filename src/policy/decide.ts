/**
 * The one decision about a request: pure, default-deny, and always with a rule
 * or a reason. docs/policy.md tells operators the same order of checks.
 */
import type { ClientConfig } from '../config/config.ts';
import { canonicalPath, findAmbiguity } from '../target/path.ts';
import { type CompiledClient, type CompiledDestination, NO_RULE, type Policy } from './compile.ts';
import { denyAmbiguity, denyClient, denyForm, denyHost, denyMethod, denyPath, denyPort, denyRule } from './deny.ts';
import { matchesPath } from './path-match.ts';
import type { Allow, Ask, Deny, Verdict } from './verdict.ts';

/** The client an address belongs to, the first in file order; null when it belongs to none. */
export function identify(policy: Policy, address: string): ClientConfig | null {
  return policy.clients[policy.addresses.find(address)]?.config ?? null;
}

/** Checks client, host, port, form, rule, method and path, in this order, and names the first that fails. */
export function decide(policy: Policy, ask: Ask): Verdict {
  const client = policy.clients[policy.addresses.find(ask.peer.address)];
  if (client === undefined) return denyClient(ask);

  const candidates = policy.hosts.find(ask.host);
  // A host may be in several destinations: the first that permits port, form and client is taken, else the
  // one that came furthest is blamed.
  let listsPort: CompiledDestination | null = null;
  let takesForm: CompiledDestination | null = null;
  let nearest: CompiledDestination | null = null;
  for (const index of candidates) {
    const destination = policy.destinations[index];
    if (destination === undefined || (ask.destination !== undefined && ask.destination !== destination.config.name)) continue;
    nearest ??= destination;
    if (!destination.ports.has(ask.port)) continue;
    listsPort ??= destination;
    if (!destination.forms.has(ask.form)) continue;
    takesForm ??= destination;
    const rule = client.rules[index] ?? NO_RULE;
    if (rule === NO_RULE) continue;
    return judgeContent(ask, client, destination) ?? allow(client, destination, index, rule);
  }
  if (takesForm !== null) return denyRule(ask, client.config, takesForm.config);
  if (listsPort !== null) return denyForm(ask, client.config, listsPort.config);
  if (nearest !== null) return denyPort(ask, client.config, nearest.config);
  return denyHost(ask, client.config, policy.hosts.hasBelow(ask.host));
}

/** Method and path, as far as they can be seen: a tunnel shows neither. */
function judgeContent(ask: Ask, client: CompiledClient, destination: CompiledDestination): Deny | null {
  if (ask.form === 'connect') return null;
  const { config, methods, paths } = destination;
  if (methods !== null && ask.method !== null && !methods.has(ask.method)) return denyMethod(ask.method, client.config, config);
  if (ask.path === null) return null;
  // The gateway rewrites paths, and a pattern compares them: both need the path to have one reading.
  if (paths === null && ask.form !== 'gateway') return null;
  const ambiguity = findAmbiguity(ask.path);
  if (ambiguity !== null) return denyAmbiguity(ask.path, ambiguity, client.config, config);
  if (paths === null) return null;
  const path = canonicalPath(ask.path);
  return matchesPath(paths, path) ? null : denyPath(path, client.config, config);
}

function allow(client: CompiledClient, destination: CompiledDestination, index: number, rule: number): Allow {
  const known = client.allows.get(index);
  if (known !== undefined) return known;
  const made: Allow = { verdict: 'allow', client: client.config, destination: destination.config, rule: `rules[${rule}]` };
  client.allows.set(index, made);
  return made;
}
