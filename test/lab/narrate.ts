/** Tells the story as it happens: a heading for each scene, a line for each step with what was done and what was seen. */

export interface Scene {
  readonly title: string;
  /** Steps follow one another; the first that throws ends the scene. */
  readonly play: (step: Step) => Promise<void>;
}

/**
 * Does something and prints what was seen: what `act` returns, in words.
 * Throws what `act` throws.
 */
export type Step = (did: string, act: () => Promise<string> | string) => Promise<void>;

export interface Outcome {
  passed: number;
  failed: number;
}

export interface NarratorOptions {
  readonly write: (text: string) => void;
  /** What may help to understand a failure. */
  readonly evidence: () => string;
}

export interface Narrator {
  readonly outcome: Readonly<Outcome>;
  /** Plays one scene after another; one that fails does not keep the others from being played. */
  play(scenes: readonly Scene[]): Promise<void>;
}

export function createNarrator({ write, evidence }: NarratorOptions): Narrator {
  const outcome: Outcome = { passed: 0, failed: 0 };
  let scenesTold = 0;

  const step: Step = async (did, act) => {
    const began = performance.now();
    let seen: string;
    try {
      seen = await act();
    } catch (error) {
      write(`   ✗ ${did}\n`);
      throw error;
    }
    outcome.passed += 1;
    const seconds = (performance.now() - began) / 1000;
    write(`   ✓ ${did}: ${seen}${seconds < 1 ? '' : ` (${seconds.toFixed(1)} s)`}\n`);
  };

  return {
    outcome,
    play: async (scenes) => {
      for (const { title, play } of scenes) {
        scenesTold += 1;
        write(`\n${scenesTold}. ${title}\n`);
        try {
          await play(step);
        } catch (error) {
          outcome.failed += 1;
          write(indent(error instanceof Error ? (error.stack ?? error.message) : String(error)));
          write(indent(evidence()));
        }
      }
    },
  };
}

function indent(text: string): string {
  return text.trimEnd().replace(/^/gm, '     ') + '\n';
}
