/** What a server made of an object: every field that was sent is there with its value, whatever else the server adds. Pure. */

/** Fields that were pruned or changed, one line each. */
export function lostOf(sent: unknown, kept: unknown, path = ''): string[] {
  if (Array.isArray(sent)) {
    if (!Array.isArray(kept)) return [`${path}: ${kept === undefined ? 'is gone' : 'is no list any more'}`];
    return sent.flatMap((item: unknown, index) => lostOf(item, counterpart(item, kept, index), `${path}[${index}]`));
  }
  if (typeof sent === 'object' && sent !== null) {
    const fields = kept as Readonly<Record<string, unknown>> | null | undefined;
    if (typeof fields !== 'object' || fields === null) {
      // The server leaves out what is empty.
      return Object.keys(sent).length === 0 && fields === undefined ? [] : [`${path}: is gone`];
    }
    return Object.entries(sent).flatMap(([key, value]) => lostOf(value, fields[key], path === '' ? key : `${path}.${key}`));
  }
  return sent === kept ? [] : [`${path}: ${JSON.stringify(sent)} was sent, ${kept === undefined ? 'and is gone' : `the server has ${JSON.stringify(kept)}`}`];
}

/** Lists that the server merges keep an item by its name; others by its place. */
function counterpart(item: unknown, kept: readonly unknown[], index: number): unknown {
  const { name } = (item ?? {}) as { name?: unknown };
  if (typeof name !== 'string') return kept[index];
  return kept.find((one) => (one as { name?: unknown } | null)?.name === name);
}
