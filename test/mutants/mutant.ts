/** What a mutant is: one guard of the source, taken away or turned round, and the tests that have to notice. */

export interface Mutant {
  /** Says what a sloppy change would have done. */
  readonly name: string;
  /** Below the root of the project. */
  readonly file: string;
  /** Source text that the file has exactly once, in any layout. */
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
  const inAnyLayout = layoutPattern(text);
  const times = source.match(inAnyLayout)?.length ?? 0;
  if (times !== 1) throw new StaleMutant(`mutant ${name} is stale: ${file} has its text ${times} times, and must have it once:\n${text}`);
  if (text === becomes) throw new StaleMutant(`mutant ${name} changes nothing`);
  // A function: `$` in a replacement text would mean something.
  return source.replace(inAnyLayout, () => becomes);
}

/** Finds the text whatever stands between its words: white space, or the comma that a formatter puts behind the last of several lines. */
function layoutPattern(text: string): RegExp {
  const words = (text.match(/\w+|\S/g) ?? []).map((word) => word.replace(/\W/, '\\$&'));
  const spaced = words.map((word) => (/[)\]}]/.test(word) ? `(?:,\\s*)?${word}` : word)).join('\\s*');
  return new RegExp(words.length === 0 ? '(?!)' : spaced, 'g');
}
