/** Checks across the clients of a file: who is known by a user or token must be known by it alone, and in one way. */
import type { Draft } from './draft.ts';
import { quote, type Complain } from './finding.ts';

export function checkIdentities({ clients }: Draft, complain: Complain): void {
  const users = new Map<string, string>();
  const keysOf = new Map<string, { readonly place: string; readonly client: string }>();
  for (const [name, { basic, tokens }] of clients) {
    // RFC 9110 §11.7.2: a request has one Proxy-Authorization, so it cannot bring both.
    if (basic !== undefined && tokens !== undefined) {
      complain(['clients', name, 'tokens'], 'No request can show a password and a token at once, and a client has to match in every kind it lists.', 'Make two clients of it; a rule can name both.', 'key');
    }
    basic?.forEach((entry, index) => {
      if (entry === undefined) return;
      const owner = users.get(entry.user);
      if (owner !== undefined) {
        complain(['clients', name, 'basic', index, 'user'], `The user ${quote(entry.user)} belongs to client ${owner} already.`, 'Give each client users of its own: whose password counts must not depend on the order.');
      }
      users.set(entry.user, owner ?? name);
    });
    tokens?.forEach((entry, index) => {
      if (entry === undefined) return;
      const { issuer, jwksFile, jwksUrl } = entry;
      const path = ['clients', name, 'tokens', index];
      if (jwksFile !== undefined && jwksUrl !== undefined) complain([...path, 'jwksUrl'], 'The keys cannot come from a file and from a URL.', 'Keep jwksFile or jwksUrl.', 'key');
      const place = jwksFile ?? jwksUrl ?? '';
      const other = keysOf.get(issuer);
      if (other !== undefined && other.place !== place) {
        complain(
          [...path, jwksFile === undefined ? 'jwksUrl' : 'jwksFile'],
          `The keys of ${quote(issuer)} come from another place for client ${other.client}: ${quote(other.place)}.`,
          'Write the same place: either set of keys could otherwise speak for both clients.',
        );
      }
      if (other === undefined) keysOf.set(issuer, { place, client: name });
    });
  }
}
