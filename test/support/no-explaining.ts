/** For an admin listener in a test that asks it for no explanations. */
import type { Explaining } from '../../src/admin/routes.ts';

export const NO_EXPLAINING: Explaining = {
  denials: { room: 1_000, view: () => ({ total: 0, kept: 1_000, frequent: [], latest: [] }) },
  failures: { room: 200, latest: () => [] },
  explain: async () => 'nothing is explained here',
  recall: async () => null,
};
