/** Text that is kept longer than the request it came from. */

/** V8 copies shorter pieces itself. */
const SHORTEST_PIECE = 13;

/**
 * The same text, free of what it was cut from: a piece of a string keeps the
 * whole of it in memory, a URL of 60 KB perhaps.
 */
export function detach(text: string): string {
  return text.length < SHORTEST_PIECE ? text : Buffer.from(text).toString();
}
