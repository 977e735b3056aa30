/** For an admin listener in a test that asks it for no explanations. */
import type { Explaining } from '../../src/admin/routes.ts';

export const NO_EXPLAINING: Explaining = {
  remembers: 1_000,
  remembersFailures: 200,
  explain: async () => 'nothing is explained here',
  recall: async () => null,
  failures: () => [],
  denials: () => ({ total: 0, kept: 1_000, frequent: [], latest: [] }),
};
