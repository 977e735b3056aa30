/** The lab's own manners: where it cannot be built it says so in a line, and a scene that fails is told and counted. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createNarrator, type Scene } from './narrate.ts';

const LAB = fileURLToPath(new URL('main.ts', import.meta.url));

t.test('without what it needs, it says what is missing and does nothing', async (t) => {
  for (const [args, code] of [[[], 0], [['--required'], 1]] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [LAB, ...args], { encoding: 'utf8', env: { PATH: '/nowhere' } });
    t.match(stdout, /^The lab was not built: it (?:needs|is made of) .+\n$/);
    t.equal(stderr, '');
    t.equal(status, code, args.join());
  }
});

t.test('a scene that fails ends there, and the next one is played', async (t) => {
  let told = '';
  const narrator = createNarrator({ write: (text) => (told += text), evidence: () => 'the log' });
  const scene = (title: string, ...steps: (() => string)[]): Scene => ({
    title,
    play: async (step) => {
      for (const [index, act] of steps.entries()) await step(`step ${index}`, act);
    },
  });
  const fail = (): string => {
    throw new Error('not as it should be');
  };
  await narrator.play([scene('first', () => 'well', fail, () => 'never')]);
  await narrator.play([scene('second', () => 'fine')]);
  t.match(told, /^\n1\. first\n {3}✓ step 0: well\n {3}✗ step 1\n {5}Error: not as it should be\n[^]* {5}the log\n\n2\. second\n {3}✓ step 0: fine\n$/);
  t.notMatch(told, 'never');
  t.strictSame(narrator.outcome, { passed: 2, failed: 1 });
});
