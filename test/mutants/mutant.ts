/** What a mutant is: one guard of the source, taken away or turned round, and the tests that have to notice. */

export interface Mutant {
  /** Says what a sloppy change would have done. */
  readonly name: string;
  /** Below the root of the project. */
  readonly file: string;
  /** Source text that stands in the file exactly once. */
  readonly text: string;
  /** What stands there in the mutant. */
  readonly becomes: string;
  /** Test files, each of which has to fail. */
  readonly tests: readonly string[];
}

/** A mutant that no longer fits its file. */
export class StaleMutant extends Error {
  override readonly name = 'StaleMutant';
}

/**
 * The source with the mutant in it.
 * @throws {StaleMutant} where its text does not stand in the source exactly once, or nothing would change
 */
export function mutate(source: string, { name, file, text, becomes }: Mutant): string {
  const times = text === '' ? 0 : source.split(text).length - 1;
  if (times !== 1) throw new StaleMutant(`mutant ${name} is stale: ${file} has its text ${times} times, and must have it once:\n${text}`);
  if (text === becomes) throw new StaleMutant(`mutant ${name} changes nothing`);
  // A function: `$` in a replacement text would mean something.
  return source.replace(text, () => becomes);
}
