/** Environment variables that look like those of the configuration, and that nothing reads: most of them are misspelt. */
import { closestMatch } from 'leven';
import { nearest, type Warn } from './finding.ts';
import type { Environment } from './interpolate.ts';
import type { Tree } from './read-tree.ts';

/** Read by commands, not by a file. */
const OF_COMMANDS = ['ECO_EGRESS_CONFIG', 'ECO_EGRESS_DEBUG'];
/** Letters that may differ where the beginning is none of ours: an environment has many names, and some are near by chance. */
const FEW = 2;

/** @param places of the file, with the variables that each value names */
export function warnAboutVariables(places: Tree['places'], env: Environment, warn: Warn): void {
  const used = [...new Set([...places.values()].flatMap(({ variables }) => variables))].sort();
  const known = [...used, ...OF_COMMANDS];
  const prefixes = new Set(known.map(prefixOf).filter((prefix) => prefix !== null));
  const ofServices = serviceLinks(env);
  for (const name of Object.keys(env).sort()) {
    if (known.includes(name) || ofServices.some((start) => name.startsWith(start))) continue;
    const ours = prefixes.has(prefixOf(name) ?? '');
    const meant = ours ? nearest(name, known) : (closestMatch(name, known.filter(({ length }) => length > 3 * FEW), { maxDistance: FEW }) ?? null);
    if (!ours && meant === null) continue;
    const instead = meant === null ? `The file uses ${used.join(', ') || 'no variable'}.` : `Did you mean ${meant}${(env[meant] ?? '') === '' ? '' : ', which is set too'}?`;
    warn('variable', [], `The environment variable ${name} is set, and nothing uses it.`, instead);
  }
}

/** `ECO_SIT_` of ECO_SIT_ADDRESSES; null for a name of one or two words, whose first word says too little. */
function prefixOf(name: string): string | null {
  const words = name.split('_');
  return words.length < 3 ? null : `${words[0] ?? ''}_${words[1] ?? ''}_`;
}

/** How the names begin that Kubernetes sets for each Service of a namespace: ECO_EGRESS_SERVICE_PORT, ECO_EGRESS_PORT_8080_TCP and so on. */
function serviceLinks(env: Environment): string[] {
  const services = Object.keys(env).flatMap((name) => /^(.+)_SERVICE_HOST$/.exec(name)?.[1] ?? []);
  return services.flatMap((service) => [`${service}_SERVICE_`, `${service}_PORT`]);
}
