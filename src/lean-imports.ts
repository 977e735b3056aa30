/**
 * Imports without the unused parts they would load: saves a tenth of the start
 * time and some megabytes (docs/performance.md; test/integration/start.test.ts
 * holds what serving loads).
 */
import type { FastifyServerOptions } from 'fastify';

/**
 * `node:http` as `require` gives it. `import` also asks for what Node defines
 * by getters, WebSocket among them, and so loads all of Node's own fetch.
 */
export const { createServer, IncomingMessage, ServerResponse, METHODS, STATUS_CODES } = process.getBuiltinModule('node:http');

const buildNoCompiler = () => () => {
  throw new Error('no route has a schema');
};

/** For an application without schemas: Fastify loads its compilers of schemas only where these two are missing. */
export const NO_SCHEMAS: NonNullable<FastifyServerOptions['schemaController']> = {
  compilersFactory: { buildValidator: buildNoCompiler, buildSerializer: buildNoCompiler },
};
