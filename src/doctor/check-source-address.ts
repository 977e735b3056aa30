/** Whether the address that partners see is the expected one, and whether it could be at all. */
import type { AddressClass } from '../policy/address-class.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { type Examination, hostKey } from './examination.ts';
import { fail, type Finding, ok, skipped, warn } from './finding.ts';

/** Reached without the public NAT. */
const INSIDE: ReadonlySet<AddressClass> = new Set(['private', 'unique-local', 'shared']);

export async function checkSourceAddress(examination: Examination): Promise<Finding[]> {
  return [await verify(examination), ...findPrivatePartners(examination)];
}

async function verify({ trail, verifySource }: Examination): Promise<Finding> {
  const verification = await verifySource();
  trail.verification = verification;
  if (verification === null) return skipped('', 'no endpoint is configured that tells which address is seen', 'Set sourceIp.expected and sourceIp.probe.url.');
  const { result, expected, observations, causes, url } = verification;
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))].join(' and ');
  const advice = causes.map(({ cause, check }) => `${cause}: ${check}`).join('. ');
  switch (result) {
    case 'match':
      return ok(url, `${seen} is seen, as expected`);
    case 'mismatch':
      return fail(url, 'source-address-wrong', `${seen} is seen, and ${expected.join(' or ')} is expected`, advice);
    case 'unjudged':
      return warn(url, 'source-address-unjudged', `${seen} is seen, and nothing is expected`, 'Set sourceIp.expected to the address that the partner permits.');
    case 'unknown': {
      const [failed] = observations.filter(({ code }) => code !== null);
      return fail(url, failed?.code ?? 'internal', failed?.reason ?? 'no answer', advice);
    }
  }
}

/** A public NAT never applies to them, so the public address never appears there, whatever an endpoint elsewhere sees. */
function findPrivatePartners({ config, targets, trail }: Examination): Finding[] {
  const expected = config.sourceIp?.expected ?? [];
  if (!expected.some((address) => classifyAddress(address)?.class === 'public')) return [];
  const hosts = new Map(targets.filter(({ destination }) => destination.via.length === 0).map((target) => [target.host, trail.addresses.get(hostKey(target)) ?? []]));
  return [...hosts].flatMap(([host, addresses]) => {
    const inside = addresses.filter((address) => INSIDE.has(classifyAddress(address)?.class ?? 'public'));
    if (inside.length === 0) return [];
    return [fail(host, 'private-behind-nat', `${inside.join(', ')} is private: a public NAT does not apply on the way there, and ${expected.join(' or ')} never appears`, 'Use Private NAT (type=PRIVATE) for this way, and have the partner permit its address: docs/one-address.md.')];
  });
}
