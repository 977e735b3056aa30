/** Lets so many pieces of work run at once; the others wait, in the order in which they came. */

export type Turns = <T>(work: () => Promise<T>) => Promise<T>;

export function createTurns(most: number): Turns {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // Whose turn it is takes this one's place.
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
