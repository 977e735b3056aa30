/**
 * A client that opens tunnels one after another and keeps every one, until it
 * is killed; for each it prints a line of JSON.
 * Run: node tunnels.ts PROXY-ADDRESS PORT TARGET COUNT
 */
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';

/** What came of asking for a tunnel. */
export interface TunnelAnswer {
  readonly status: number;
  readonly reason: string;
  readonly retryAfter: string | null;
  readonly code: string | null;
  readonly ms: number;
}

const [host = '', port = '', target = '', count = ''] = process.argv.slice(2);

for (let left = Number(count); left > 0; left -= 1) {
  const asked = performance.now();
  const connect = request({ host, port, method: 'CONNECT', path: target, agent: false });
  connect.end();
  const [response] = (await once(connect, 'connect')) as [IncomingMessage];
  const proxyStatus = response.headers['proxy-status'];
  const answer: TunnelAnswer = {
    status: response.statusCode ?? 0,
    reason: response.statusMessage ?? '',
    retryAfter: response.headers['retry-after'] ?? null,
    code: typeof proxyStatus === 'string' ? (/error=(\w+)/.exec(proxyStatus)?.[1] ?? null) : null,
    ms: Math.round(performance.now() - asked),
  };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.stdout.write('done\n');
// What is open keeps the process alive; where nothing is, it has no reason to stay.
