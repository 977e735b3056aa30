/** The proxies from npm: each a small program in peers/, with the package installed in bench/. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender, Way } from './contender.ts';

const BENCH = join(import.meta.dirname, '..');

export const proxyChain = fromNpm('proxy-chain', 'proxy-chain', { tunnel: 'connect', forward: 'http' });
export const httpProxy3 = fromNpm('http-proxy-3', 'http-proxy-3', { gateway: 'http' });
/** @fastify/http-proxy as it comes, with @fastify/reply-from under it. */
export const stock = fromNpm('stock', '@fastify/http-proxy', { gateway: 'http' });

function fromNpm(name: string, packageName: string, ways: Partial<Record<Way, 'connect' | 'http'>>): Contender {
  return {
    name,
    fromNpm: true,
    ways,
    gatewayOn: 'port',
    version: () => installedVersion(packageName),
    launch: ({ directory, port, upstreamHost, securePort, caFile }) => ({
      command: process.execPath,
      args: [join(BENCH, 'peers', `${name}.ts`), String(port), `https://${upstreamHost}:${securePort}`, caFile, join(directory, 'access.log')],
    }),
  };
}

function installedVersion(packageName: string): string | null {
  try {
    return (JSON.parse(readFileSync(join(BENCH, 'node_modules', packageName, 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    return null;
  }
}
