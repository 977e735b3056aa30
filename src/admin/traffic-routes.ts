/** What the partners answer, who holds tunnels and what a shutdown does to them, on the admin port: as JSON, and as sections of the status page. */
import type { FastifyInstance } from 'fastify';
import type { DrainView } from '../drain/drain-view.ts';
import type { HealthView } from '../telemetry/destination-health.ts';
import type { TunnelsView } from '../telemetry/open-tunnels.ts';
import { escapeMarkup, escapeText, escapeUnsafe } from '../telemetry/safe-text.ts';
import type { Turns } from '../turns.ts';

/** Health of the destinations, open tunnels and the drain, asked for at each request. */
export interface Traffic {
  readonly destinations: () => readonly HealthView[];
  readonly tunnels: (most: number) => TunnelsView;
  readonly drain: () => DrainView;
}

const MOST_TUNNELS = 200;

/** Adds `/destinations`, `/tunnels` and `/drain`, which answer with JSON in a turn of the event loop of their own. */
export function addTrafficRoutes(app: FastifyInstance, { destinations, tunnels, drain }: Traffic, turns: Turns): void {
  const answers: Record<string, () => unknown> = { '/destinations': () => ({ destinations: destinations() }), '/tunnels': () => tunnels(MOST_TUNNELS), '/drain': drain };
  for (const [path, answer] of Object.entries(answers)) {
    app.get(path, async (_request, reply) => {
      await turns.next();
      return reply.type('application/json; charset=utf-8').send(`${escapeUnsafe(JSON.stringify(answer()))}\n`);
    });
  }
}

/** A table of the configured destinations: hosts and ports, and how they are. */
export function renderDestinations(configured: readonly { readonly name: string; readonly hosts: readonly string[]; readonly ports: readonly unknown[] }[], healths: readonly HealthView[]): string {
  const known = new Map(healths.map((health) => [health.destination, health]));
  const rows = configured.map(({ name, hosts, ports }) => {
    const health = known.get(name);
    const failure = health?.lastFailure ?? null;
    const answers = Object.entries(health?.answers ?? {}).filter(([, count]) => count > 0);
    return cells([
      name,
      hosts.join(', '),
      ports.join(', '),
      health?.last ?? 'not used yet',
      health?.lastOk ?? '-',
      failure === null ? '-' : `${failure.at} ${failure.code}: ${escapeText(failure.detail)}`,
      answers.map(([answered, count]) => `${answered}: ${count}`).join(', ') || '-',
    ]);
  });
  return `<table><tr><th>Name</th><th>Hosts</th><th>Ports</th><th>Latest request</th><th>Last success</th><th>Last failure</th><th>Answers</th></tr>${rows.join('')}</table>`;
}

/** HTML section of open tunnels by client; empty when there are none. */
export function renderTunnels({ open, byClient }: TunnelsView): string {
  if (open === 0) return '';
  return `<h2>Tunnels by client</h2><table><tr><th>Client</th><th>Open</th></tr>${byClient.map(({ client, tunnels }) => cells([client, String(tunnels)])).join('')}</table>`;
}

const cells = (texts: readonly string[]): string => `<tr>${texts.map((text) => `<td>${escapeMarkup(text)}</td>`).join('')}</tr>`;
