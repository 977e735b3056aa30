/** For an admin port without a proxy behind it. */
import type { ConfigRoutes, Traffic } from '../../src/admin/routes.ts';
import type { DrainView } from '../../src/drain/drain-view.ts';

export const NO_CONFIGURATION: ConfigRoutes = { inForce: () => ({ file: null, hash: '', loadedAt: 0, warnings: [], warningsAt: () => [], nextWarningsAfter: () => Infinity, settings: () => [], contents: new Map() }), reload: null };

const NO_DRAIN: DrainView = {
  state: 'running',
  deadline: null,
  secondsLeft: null,
  tunnels: { open: 0, idle: 0, busy: 0, endsPerSecond: 0, medianAge: null, oldestAge: null, byClient: [], byDestination: [] },
  exchanges: 0,
  ended: { byThemselves: 0, quiet: 0, busy: 0, cut: 0, exchangesCut: 0 },
};

export const NO_TRAFFIC: Traffic = { destinations: () => [], tunnels: () => ({ open: 0, byClient: [], oldest: [] }), drain: () => NO_DRAIN, of: () => null, queued: () => new Map(), history: { steps: 0, clients: () => [], curves: () => [], denials: () => 0 } };
