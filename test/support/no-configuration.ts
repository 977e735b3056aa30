/** For an admin port without a configuration behind it. */
import type { ConfigRoutes } from '../../src/admin/config-routes.ts';

export const NO_CONFIGURATION: ConfigRoutes = { inForce: () => ({ file: null, hash: '', loadedAt: 0, warnings: [], settings: () => [], contents: new Map() }), reload: null };
