/** Copies of what a client sent, to be kept longer than its request: detached from it, and of a decision's input bounded. */
import type { Ask } from './verdict.ts';

/** Longest total of all texts of an ask: texts chosen by clients must not cost megabytes. */
const MAX_ASK = 4_096;

/** @param copies texts that are kept anyway, and used for equal ones @returns null: it is too long to be kept */
export function ownAsk(ask: Ask, copies: readonly string[] = []): Ask | null {
  if (lengthOf(ask) > MAX_ASK) return null;
  const own = (text: string): string => copies.find((copy) => copy === text) ?? detach(text);
  const ownIf = (text: string | null): string | null => (text === null ? null : own(text));
  const { peer } = ask;
  const { token } = peer;
  return {
    ...ask,
    host: own(ask.host),
    method: ownIf(ask.method),
    path: ownIf(ask.path),
    peer: {
      address: own(peer.address),
      user: ownIf(peer.user),
      token: token === null ? null : { issuer: own(token.issuer), audiences: token.audiences.map(own), subject: own(token.subject) },
      sans: peer.sans.map(own),
      rejected: ownIf(peer.rejected),
    },
  };
}

/** Length of the texts that clients choose. */
function lengthOf({ peer, host, method, path }: Ask): number {
  let length = host.length + (method?.length ?? 0) + (path?.length ?? 0) + (peer.user?.length ?? 0) + (peer.rejected?.length ?? 0);
  for (const name of peer.sans) length += name.length;
  for (const audience of peer.token?.audiences ?? []) length += audience.length;
  return length + (peer.token?.subject.length ?? 0) + (peer.token?.issuer.length ?? 0);
}

/** V8 copies shorter pieces itself. */
const SHORTEST_PIECE = 13;

/**
 * The same text, detached from its source: a substring keeps the whole string
 * in memory, a URL of 60 KB perhaps.
 */
export function detach(text: string): string {
  return text.length < SHORTEST_PIECE ? text : Buffer.from(text).toString();
}
