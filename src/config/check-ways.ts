/** Checks across hops, what goes by them, and the proof of the source address. */
import type { Draft } from './draft.ts';
import { quote, suggest, type Complain, type Path } from './finding.ts';

export function checkWays(draft: Draft, complain: Complain): void {
  for (const [name, { via, resolve, addresses }] of draft.destinations) {
    const path = ['destinations', name];
    checkVia(via, [...path, 'via'], draft, complain);
    if (resolve !== 'parent') continue;
    if (via === undefined) complain([...path, 'resolve'], 'There is no parent to resolve the hosts.', 'Add via, or take resolve out.');
    // Nobody but the parent would know which address it dials.
    if (addresses !== undefined) complain([...path, 'addresses'], 'The addresses cannot be judged where a parent resolves the hosts.', 'Write resolve: here, or take addresses out.', 'key');
  }
  checkVia(draft.probe.via, ['sourceIp', 'probe', 'via'], draft, complain);

  for (const [name, { url, tls }] of draft.hops) {
    const schemes = new Set(url?.map((parent) => parent?.scheme));
    if (url !== undefined && tls !== undefined && Object.values(tls).some((value) => value !== undefined) && !schemes.has('https') && !schemes.has(undefined)) {
      complain(['hops', name, 'tls'], 'None of the parents is spoken to over TLS.', 'Write https:// in url, or take tls out.', 'key');
    }
  }
  const { gateReadiness, expected } = draft.sourceIp;
  if (gateReadiness === true && (expected === undefined || draft.probe.url === undefined)) {
    complain(['sourceIp', 'gateReadiness'], 'Readiness cannot depend on an address that nobody proves.', `Add ${expected === undefined ? 'sourceIp.expected' : 'sourceIp.probe.url'}, or write gateReadiness: false.`);
  }
}

function checkVia(via: readonly (string | undefined)[] | undefined, path: Path, { hops }: Draft, complain: Complain): void {
  const known = [...hops.keys()];
  via?.forEach((name, index) => {
    if (name === undefined) return;
    if (!known.includes(name)) {
      const instead = known.length === 0 ? 'Add it under hops.' : `${suggest(name, known)} Otherwise add it under hops.`;
      complain([...path, index], `There is no entry ${quote(name)} under hops.`, instead);
    } else if (via.indexOf(name) !== index) {
      complain([...path, index], `The way leads through ${quote(name)} twice.`, 'Name each hop once, nearest to the proxy first.');
    }
  });
}
