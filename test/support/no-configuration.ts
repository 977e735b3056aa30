/** For an admin port without a proxy behind it. */
import type { ConfigRoutes } from '../../src/admin/routes.ts';
import type { Traffic } from '../../src/admin/traffic-routes.ts';

export const NO_CONFIGURATION: ConfigRoutes = { inForce: () => ({ file: null, hash: '', loadedAt: 0, warnings: [], warningsAt: () => [], settings: () => [], contents: new Map() }), reload: null };

export const NO_TRAFFIC: Traffic = { destinations: () => [], tunnels: () => ({ open: 0, byClient: [], oldest: [] }) };
