/** Compares a text with a pattern in which `*` stands for any characters, also none. */

const STAR = 0x2a;

/**
 * @param stops characters that a `*` does not go past, unless it ends the pattern
 *
 * After a mismatch the last star takes one character more. An earlier star need
 * not: the last could take as much, and where a stop lies between the two, the
 * characters before it are settled. So the time is at most the product of the lengths.
 */
export function matchWildcard(pattern: string, text: string, stops: string): boolean {
  const last = pattern.length - 1;
  let at = 0;
  let star = -1;
  let taken = 0;
  for (let i = 0; i < text.length; ) {
    const code = pattern.charCodeAt(at);
    if (code === STAR) {
      if (at === last) return true;
      star = at;
      at += 1;
      taken = i;
    } else if (at <= last && code === text.charCodeAt(i)) {
      at += 1;
      i += 1;
    } else if (star !== -1 && !stops.includes(text.charAt(taken))) {
      taken += 1;
      i = taken;
      at = star + 1;
    } else return false;
  }
  while (pattern.charCodeAt(at) === STAR) at += 1;
  return at === pattern.length;
}
