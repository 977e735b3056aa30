/** @fastify/http-proxy as it comes, before one upstream, with an access log. */
import httpProxy from '@fastify/http-proxy';
import fastify from 'fastify';
import { CA, logLine, ORIGIN, PORT } from './start.ts';

const app = fastify({ logger: false, bodyLimit: 1024 * 1024, keepAliveTimeout: 60_000 });
app.addHook('onResponse', (request, reply, done) => {
  logLine(request.ip, request.method, request.url, reply.statusCode, Number(reply.getHeader('content-length')), performance.now() - reply.elapsedTime);
  done();
});
await app.register(httpProxy, { upstream: ORIGIN, prefix: '/eco', rewritePrefix: '/', undici: { connections: 64, pipelining: 1, connect: { ca: CA } } });
await app.listen({ port: PORT, host: '127.0.0.1' });
